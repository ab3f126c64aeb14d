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

// shortest is how often to look for what is due. No step falls due sooner than
// the shortest delay after it was set, in whatever process, so one that was set
// just after a look is seen before its time by the next: none has to be woken.
func (p pace) shortest() time.Duration {
	return max(minLook, min(maxLook, p.pick, p.dispatch, p.deliver))
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
		return min(wait, s.look), err
	}
	due, err := lockDue(ctx, tx, dueBatch)
	if err != nil {
		return 0, err
	}
	decisions := make([]decision, 0, len(due))
	for _, r := range due {
		decisions = append(decisions, step(r, s.pace))
	}
	if err := s.carryOut(ctx, tx, decisions); err != nil {
		return 0, err
	}
	if len(due) == dueBatch {
		return 0, nil
	}
	return breath, nil
}

// carryOut writes and says what was decided for reservations that tx has locked.
func (s *Service) carryOut(ctx context.Context, tx *messaging.Tx, decisions []decision) error {
	decisions = slices.DeleteFunc(decisions, func(d decision) bool { return d.Ignored != "" })
	if len(decisions) == 0 {
		return nil
	}
	var skus []string
	for _, d := range decisions {
		if d.Flow == stays {
			continue
		}
		for _, l := range d.Lines {
			skus = append(skus, l.SKU)
		}
	}
	slices.Sort(skus)
	if _, err := lockStock(ctx, tx, slices.Compact(skus)); err != nil {
		return err
	}
	for _, d := range decisions { // first all of these: as one statement
		updateReservation(tx, d)
	}
	for _, d := range decisions {
		moveStock(tx, d)
		if err := tx.Publish(d.Say...); err != nil {
			return err
		}
	}
	return nil
}
