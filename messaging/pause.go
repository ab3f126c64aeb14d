package messaging

import (
	"context"
	"fmt"

	"github.com/jmoiron/sqlx"
)

// notPaused is the condition under which anything is claimed from queue. It
// hangs on no row, so that it is asked once per claim, by key.
func notPaused(queue string) string {
	return `(SELECT paused_at FROM messaging.queues WHERE name = '` + queue + `') IS NULL`
}

// Pause has nothing more claimed from queue, in any process, until Resume: also
// after a restart. What is in hand finishes; messages keep arriving, in their
// order, and those of other queues aren't touched. Pausing a paused queue changes
// nothing. It returns ErrNoQueue for a queue that isn't declared.
func (o *Operator) Pause(ctx context.Context, queue, reason string) error {
	err := o.setPaused(ctx, `UPDATE messaging.queues SET paused_at = clock_timestamp() WHERE name = $1 AND paused_at IS NULL`,
		Action{Action: "pause", Queue: queue, Reason: reason})
	if err != nil {
		return fmt.Errorf("pause queue %s: %w", queue, err)
	}
	return nil
}

// Resume ends a pause of queue and wakes its consumers. Resuming a queue that
// isn't paused changes nothing. It returns ErrNoQueue for a queue that isn't
// declared.
func (o *Operator) Resume(ctx context.Context, queue, reason string) error {
	err := o.setPaused(ctx, `UPDATE messaging.queues SET paused_at = NULL WHERE name = $1 AND paused_at IS NOT NULL`,
		Action{Action: "resume", Queue: queue, Reason: reason})
	if err == nil {
		err = wakeConsumers(ctx, o.db, queue)
	}
	if err != nil {
		return fmt.Errorf("resume queue %s: %w", queue, err)
	}
	return nil
}

// setPaused runs update, which takes the queue's name, and records a if it
// changed anything.
func (o *Operator) setPaused(ctx context.Context, update string, a Action) error {
	return o.inTx(ctx, func(tx *sqlx.Tx) error {
		var known bool
		if err := tx.GetContext(ctx, &known, `SELECT EXISTS (SELECT FROM messaging.queues WHERE name = $1)`, a.Queue); err != nil {
			return err
		}
		if !known {
			return ErrNoQueue
		}
		res, err := tx.ExecContext(ctx, update, a.Queue)
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); n == 0 || err != nil {
			return err
		}
		return o.record(ctx, tx, a)
	})
}

// wakeConsumers has a consumer of queue look at it in every process. It is a
// statement of its own, after the commit of what it tells of.
func wakeConsumers(ctx context.Context, db *sqlx.DB, queue string) error {
	if _, err := db.ExecContext(ctx, `SELECT pg_notify($1, '')`, wakeChannel(queue)); err != nil {
		return fmt.Errorf("wake the consumers of queue %s, who will find out by polling: %w", queue, err)
	}
	return nil
}
