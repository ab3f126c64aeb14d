package orders

import (
	"context"
	"errors"
	"fmt"
	"time"

	"example.com/orderflow/messaging"
)

const (
	dueBatch = 100         // orders in one transaction
	dueEvery = time.Second // deadlines are not exact to less
)

// deadlines lets DeadlineUp happen to the orders whose deadline is up: a command
// whose answer is overdue is sent again, a customer's time to decide has run out.
func (s *Service) deadlines(ctx context.Context, tx *messaging.Tx) (time.Duration, error) {
	due, err := lockDueOrders(ctx, tx, dueBatch)
	if err != nil {
		return 0, err
	}
	overdue := 0
	for _, o := range due {
		step, err := s.rules.Decide(o.Order, Input{On: DeadlineUp, At: o.Now})
		if errors.Is(err, ErrIllegal) {
			// A status without such a row has no deadline: nothing may leave one here.
			return 0, fmt.Errorf("deadline of order %s: %w", o.ID, err)
		}
		if err != nil {
			return 0, err
		}
		if err := s.carryOut(ctx, tx, step); err != nil {
			return 0, err
		}
		if step.Entry == nil {
			overdue++
			s.log.DebugContext(ctx, "answer is overdue", "service", service, "order_id", o.ID, "status", o.Status)
		}
	}
	if overdue > 0 { // one line, however many: the cause is one service that is away
		s.log.WarnContext(ctx, "answers are overdue and asked for again", "service", service, "orders", overdue)
	}
	if len(due) == dueBatch {
		return 0, nil
	}
	return dueEvery, nil
}
