package inventory

import (
	"context"
	"slices"
	"time"

	"example.com/orderflow/messaging"
)

const (
	dueBatch = 100                   // reservations stepped in one transaction
	minLook  = 50 * time.Millisecond // between two looks while nothing is due
	maxLook  = time.Second
	breath   = 10 * time.Millisecond // between two looks while much is due: gathers some
)

// lookEvery is how often to look for what is due after one of delays. No step
// falls due sooner than the shortest delay after it was set, in whatever process,
// so one that was set just after a look is seen before its time by the next: none
// has to be woken.
func lookEvery(delays ...time.Duration) time.Duration {
	return max(minLook, min(maxLook, slices.Min(delays)))
}

// onTime does what the clock asks for: holds expire, the warehouse packs, the
// carrier fetches and delivers. The first look also fills an empty catalogue.
func (s *Service) onTime(ctx context.Context, tx *messaging.Tx) (time.Duration, error) {
	if s.seed && !s.seeded {
		stocked, err := anyProduct(ctx, tx)
		if err != nil {
			return 0, err
		}
		// Only a later look that sees the products knows that they were committed.
		if s.seeded = stocked; !stocked {
			return 0, addProducts(ctx, tx, SeedProducts())
		}
	}
	wait, err := untilDue(ctx, tx)
	if err != nil || wait > 0 {
		return min(wait, lookEvery(s.pace.pick, s.pace.dispatch, s.pace.deliver)), err
	}
	due, err := lockDue(ctx, tx, dueBatch)
	if err != nil {
		return 0, err
	}
	decisions := make([]decision, 0, len(due))
	for _, r := range due {
		decisions = append(decisions, step(r, s.pace, s.habits))
	}
	if err := carryOut(ctx, tx, decisions); err != nil {
		return 0, err
	}
	if len(due) == dueBatch {
		return 0, nil
	}
	return breath, nil
}

// onReturns takes in the returns that are due. Its transactions are not those of
// onTime: each locks stock once, sorted.
func (s *Service) onReturns(ctx context.Context, tx *messaging.Tx) (time.Duration, error) {
	wait, err := untilArrival(ctx, tx)
	if err != nil || wait > 0 {
		return min(wait, lookEvery(s.pace.giveBack)), err
	}
	due, reservations, more, err := lockDueReturns(ctx, tx, dueBatch)
	if err != nil {
		return 0, err
	}
	if err := takeIn(ctx, tx, reservations, due...); err != nil || more {
		return 0, err
	}
	return breath, nil
}

// takeIn writes and says that returns, none of which was there before, have
// arrived. tx has locked their reservations.
func takeIn(ctx context.Context, tx *messaging.Tx, reservations map[string]Reservation, returns ...Return) error {
	var skus []string
	for _, t := range returns {
		for _, l := range t.Lines {
			skus = append(skus, l.SKU)
		}
	}
	slices.Sort(skus)
	available, err := lockStock(ctx, tx, slices.Compact(skus))
	if err != nil {
		return err
	}
	decisions := make([]decision, 0, len(returns))
	for _, t := range returns {
		d := receive(reservations[t.ReservationID], t, available)
		reservations[t.ReservationID] = d.Reservation
		for _, m := range d.Moves {
			available[m.SKU] += m.changes().Available
		}
		decisions = append(decisions, d)
		markReceived(tx, t)
	}
	return write(tx, decisions)
}

// carryOut writes and says what was decided for reservations that tx has locked.
func carryOut(ctx context.Context, tx *messaging.Tx, decisions []decision) error {
	decisions = slices.DeleteFunc(decisions, func(d decision) bool { return d.Ignored != "" })
	var skus []string
	for _, d := range decisions {
		for _, m := range d.Moves {
			skus = append(skus, m.SKU)
		}
	}
	slices.Sort(skus)
	if _, err := lockStock(ctx, tx, slices.Compact(skus)); err != nil {
		return err
	}
	return write(tx, decisions)
}

// write writes and says what was decided for reservations and stock that tx has
// locked: each kind of row for all decisions, so that it is one statement.
func write(tx *messaging.Tx, decisions []decision) error {
	for _, d := range decisions {
		updateReservation(tx, d)
	}
	for _, d := range decisions {
		amendLines(tx, d.Reservation)
	}
	for _, d := range decisions {
		moveStock(tx, d.Moves)
		if err := tx.Publish(d.Say...); err != nil {
			return err
		}
	}
	return nil
}
