package notifications

import (
	"context"
	"time"

	"example.com/orderflow/messaging"
)

const (
	dueBatch = 100 // deliveries handed out in one transaction
	// handOver is how long a command may take to be done with a delivery before
	// another is sent for it, in real time.
	handOver = 10 * time.Minute
)

// sendDue sends a command for each notification with deliveries that are due: new
// ones, those whose pause is over, and those whose command got lost.
func (s *Service) sendDue(ctx context.Context, tx *messaging.Tx) (time.Duration, error) {
	due, taken, err := takeDue(ctx, tx, dueBatch, handOver)
	if err != nil {
		return 0, err
	}
	for _, c := range due {
		// Delayed, however little, it has no lane: the mails of its order, which may wait
		// for a mail server, would hold it up.
		if err := tx.Publish(messaging.After(c, time.Millisecond)); err != nil {
			return 0, err
		}
	}
	if taken == dueBatch {
		return 0, nil
	}
	return s.look, nil
}
