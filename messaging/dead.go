package messaging

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jmoiron/sqlx"
)

// DeadLetter is a message that was given up, in a queue or in an outbox. It
// keeps its place, id and producer until somebody redrives it.
type DeadLetter struct {
	Queue     string    `db:"queue" json:"queue"` // "outbox of <service>" when it never left
	MessageID string    `db:"message_id" json:"message_id"`
	Kind      string    `db:"kind" json:"kind"`
	OrderID   string    `db:"order_id" json:"order_id,omitempty"`
	Producer  string    `db:"producer" json:"producer"`
	SentAt    time.Time `db:"occurred_at" json:"sent_at"`
	Attempts  int       `db:"attempts" json:"attempts"`
	Reason    string    `db:"dead_reason" json:"reason"`
}

// ErrNoDeadLetter is returned by Redrive for an id that no dead letter bears.
var ErrNoDeadLetter = errors.New("no such dead letter")

// tables lists the tables of schema messaging whose name begins with prefix,
// without the prefix, in order.
func tables(ctx context.Context, db *sqlx.DB, prefix string) ([]string, error) {
	var names []string
	err := db.SelectContext(ctx, &names, `
		SELECT substr(tablename, length($1) + 1) FROM pg_tables
		WHERE schemaname = 'messaging' AND starts_with(tablename, $1) ORDER BY tablename`, prefix)
	if err != nil {
		return nil, fmt.Errorf("list the tables messaging.%s*: %w", prefix, err)
	}
	return names, nil
}

// ListDead returns up to limit dead letters of each queue and outbox, oldest
// first. It needs an administrator's db.
func ListDead(ctx context.Context, db *sqlx.DB, limit int) ([]DeadLetter, error) {
	queues, err := tables(ctx, db, "queue_")
	if err != nil {
		return nil, err
	}
	outboxes, err := tables(ctx, db, "outbox_")
	if err != nil {
		return nil, err
	}
	all := []DeadLetter{}
	for _, q := range queues {
		var list []DeadLetter
		err := db.SelectContext(ctx, &list, `
			SELECT $1::text AS queue, message_id::text, kind, coalesce(order_id::text, '') AS order_id, producer, occurred_at, attempts, dead_reason
			FROM messaging.`+quote("queue_"+q)+` WHERE dead_reason IS NOT NULL ORDER BY id LIMIT $2`, q, limit)
		if err != nil {
			return nil, fmt.Errorf("list the dead letters of queue %s: %w", q, err)
		}
		all = append(all, list...)
	}
	for _, s := range outboxes {
		var list []DeadLetter
		err := db.SelectContext(ctx, &list, `
			SELECT 'outbox of ' || $1::text AS queue, message_id::text, kind, coalesce(order_id::text, '') AS order_id, $1::text AS producer, occurred_at, 0 AS attempts, dead_reason
			FROM messaging.`+quote("outbox_"+s)+` WHERE dead_reason IS NOT NULL ORDER BY id LIMIT $2`, s, limit)
		if err != nil {
			return nil, fmt.Errorf("list the dead letters in the outbox of %s: %w", s, err)
		}
		all = append(all, list...)
	}
	return all, nil
}

// Redrive has the dead letters with that message id handled again, as if they
// had just been sent: in their place, with all attempts before them. It returns
// how many there were (a subscriber's copy each), ErrNoDeadLetter when none; a
// second call finds none. It needs an administrator's db.
func Redrive(ctx context.Context, db *sqlx.DB, messageID string) (int, error) {
	n, err := redrive(ctx, db, `dead_reason IS NOT NULL AND message_id = $1`, messageID)
	if err == nil && n == 0 {
		return 0, fmt.Errorf("redrive message %s: %w", messageID, ErrNoDeadLetter)
	}
	return n, err
}

// RedriveAll redrives every dead letter and returns how many there were.
func RedriveAll(ctx context.Context, db *sqlx.DB) (int, error) {
	return redrive(ctx, db, `dead_reason IS NOT NULL`)
}

func redrive(ctx context.Context, db *sqlx.DB, where string, args ...any) (int, error) {
	queues, err := tables(ctx, db, "queue_")
	if err != nil {
		return 0, err
	}
	outboxes, err := tables(ctx, db, "outbox_")
	if err != nil {
		return 0, err
	}
	total := 0
	update := func(what, stmt string) error {
		res, err := db.ExecContext(ctx, stmt+` WHERE `+where, args...)
		if err != nil {
			return fmt.Errorf("redrive in %s: %w", what, err)
		}
		n, err := res.RowsAffected()
		total += int(n)
		return err
	}
	for _, q := range queues {
		err := update("queue "+q, `
			UPDATE messaging.`+quote("queue_"+q)+`
			SET dead_reason = NULL, token = NULL, attempts = 0, crashes = 0, due = clock_timestamp()`)
		if err != nil {
			return total, err
		}
		if _, err := db.ExecContext(ctx, `SELECT pg_notify($1, '')`, wakeChannel(q)); err != nil {
			return total, fmt.Errorf("wake the consumers of queue %s: %w", q, err)
		}
	}
	for _, s := range outboxes {
		if err := update("the outbox of "+s, `UPDATE messaging.`+quote("outbox_"+s)+` SET dead_reason = NULL`); err != nil {
			return total, err
		}
	}
	return total, nil
}
