package payments

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"

	"example.com/orderflow/messaging"
	"example.com/orderflow/messaging/contracts"
)

const (
	// readLimit is how long the provider's books are read at once; what is left is
	// another reconciliation's.
	readLimit = 20 * time.Second
	// skew is by how much the provider's clock and ours may differ.
	skew = time.Minute
	// overlap is what a reconciliation on schedule compares once more.
	overlap = 10 * time.Minute
)

// What a break can be about.
const (
	BreakMissingOurs   = "missing_ours"    // they have a capture or a refund that our ledger hasn't
	BreakMissingTheirs = "missing_theirs"  // our ledger has one that they haven't
	BreakAmount        = "amount"          // both have it, of other amounts or currencies
	BreakUnknownHold   = "unknown_hold"    // they hold money for a request that we have not on record
	BreakSecondHold    = "second_hold"     // they hold money twice for one attempt: what is stray is voided
	BreakUnresolved    = "unresolved_hold" // they hold money, and we still don't know
	BreakOpenHold      = "open_hold"       // they hold money of an attempt that has ended here
	BreakEndedHold     = "ended_hold"      // they let money go that we believe to be held
)

// reconcilePayments compares our ledger with the provider's books, both ways: what
// was moved from c.From to before c.Until. What they don't agree about becomes a row
// of payments.breaks, which is resolved when it is gone. What moved only just now is
// left to the next time: it may be on its way from one book to the other. Stray holds
// are voided; as breaks they show until the next time.
func (s *Service) reconcilePayments(ctx context.Context, c contracts.ReconcilePayments) (messaging.Record, error) {
	if !c.From.Before(c.Until) {
		return nil, hopeless("reconciliation %s is of no time at all", c.ReconciliationID)
	}
	if err := s.store.clearStatement(ctx, c.ReconciliationID); err != nil {
		return nil, err
	}
	q := MovementQuery{From: c.From.Add(-skew), Until: c.Until.Add(skew)}
	read, until, rest := 0, c.Until, false
	for started := time.Now(); ; {
		page, next, err := s.gateway.ListMovements(ctx, q)
		if err != nil {
			return nil, again(err)
		}
		if err := s.store.addToStatement(ctx, c.ReconciliationID, page); err != nil {
			return nil, err
		}
		read += len(page)
		if next == "" {
			break
		}
		q.Next = next
		if at := page[len(page)-1].At; time.Since(started) > readLimit && at.After(c.From) && at.Before(c.Until) {
			until, rest = at, true
			break
		}
	}
	if !rest { // else a hold that looks open may have ended in the rest
		if err := s.voidStrays(ctx, c.ReconciliationID); err != nil {
			return nil, err
		}
	}
	return func(ctx context.Context, tx *messaging.Tx) error {
		found, err := s.store.compare(ctx, tx, comparison{
			id: c.ReconciliationID, from: c.From, until: until, settled: until.Add(-s.cfg.ReconcileSettle), whole: !rest, read: read,
		})
		if err != nil {
			return err
		}
		if found > 0 {
			s.log.ErrorContext(ctx, "our ledger and the provider's books differ", "service", "payments",
				"reconciliation_id", c.ReconciliationID, "breaks", found)
		}
		if !rest {
			return nil
		}
		return s.askForReconciliation(ctx, tx, until, c.Until)
	}, nil
}

// askForReconciliation sends the command for one, from (zero = where the last one
// ended, or the oldest break that is open) until (zero = now).
func (s *Service) askForReconciliation(ctx context.Context, tx *messaging.Tx, from, until time.Time) error {
	id, err := uuid.NewV7()
	if err != nil {
		return fmt.Errorf("make a reconciliation id: %w", err)
	}
	c, err := s.store.insertReconciliation(ctx, tx, id.String(), from, until)
	if err != nil {
		return err
	}
	return tx.Publish(c)
}

// reconcileOnSchedule asks for a reconciliation when one is due, whichever process
// of the service sees it first, and forgets webhooks of long ago.
func (s *Service) reconcileOnSchedule(ctx context.Context, tx *messaging.Tx) (time.Duration, error) {
	due, err := s.store.takeTurn(ctx, tx, s.cfg.ReconcileEvery)
	if err != nil || !due {
		return time.Second, err
	}
	s.store.forgetWebhooks(tx)
	return time.Second, s.askForReconciliation(ctx, tx, time.Time{}, time.Time{})
}
