package e2e

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jmoiron/sqlx"
)

// sqlFaults are what others do to the shop's database by SQL.
func sqlFaults() []faultKind {
	return []faultKind{
		{name: "backends ended", draw: drawWithDatabase, strike: (*chaos).strikeBackends},
		{name: "wake-ups lost", least: time.Second, most: 4 * time.Second, strike: (*chaos).strikeListeners},
		{name: "foreign transaction", least: 2 * time.Second, most: 6 * time.Second, strike: (*chaos).strikeForeign},
		{name: "table locked", least: time.Second, most: 6 * time.Second, strike: (*chaos).strikeTable,
			draw: func(r *rand.Rand) ([]string, string) {
				return nil, oneOf(r, "messaging.queue_orders", "messaging.queue_payments", "messaging.queue_inventory", "messaging.outbox_orders", "orders.orders", "inventory.stock", "payments.payments")
			}},
		{name: "messages doubled", least: time.Second, most: 3 * time.Second, strike: (*chaos).strikeDouble, draw: drawQueue},
		{name: "messages reordered", least: time.Second, most: 3 * time.Second, strike: (*chaos).strikeReorder, draw: drawQueue},
	}
}

func drawQueue(r *rand.Rand) ([]string, string) {
	return nil, oneOf(r, "orders", "orders", "inventory", "payments", "notifications")
}

// repeat does what counts hits for as long as f lasts, and longer until there are
// some.
func repeat(ctx context.Context, f fault, every time.Duration, what string, do func() (int, error)) (wound, error) {
	w := wound{at: time.Now()}
	for {
		n, err := do()
		w.hits += n
		w.what = fmt.Sprintf("%d %s", w.hits, what)
		over := time.Since(w.at) >= f.Lasts
		if over && w.hits > 0 {
			return w, nil
		}
		if !pause(ctx, every) {
			if w.hits == 0 {
				err = errors.Join(errMissed, err)
			}
			return w, err
		}
	}
}

// strikeBackends ends the server's processes that work for a service.
func (c *chaos) strikeBackends(ctx context.Context, f fault) (wound, error) {
	return repeat(ctx, f, time.Millisecond, "were at work", func() (n int, err error) {
		err = c.Admin.GetContext(ctx, &n, `
			SELECT count(*) FILTER (WHERE pg_terminate_backend(pid))
			FROM pg_stat_activity
			WHERE usename = 'orderflow_' || $1 AND state IN ('active', 'idle in transaction')`, f.Whom[0])
		return n, err
	})
}

// strikeListeners ends the connections on which services are told of messages.
func (c *chaos) strikeListeners(ctx context.Context, f fault) (wound, error) {
	return repeat(ctx, f, 100*time.Millisecond, "listened", func() (n int, err error) {
		err = c.Admin.GetContext(ctx, &n, `
			SELECT count(*) FILTER (WHERE pg_terminate_backend(pid))
			FROM pg_stat_activity
			WHERE usename LIKE 'orderflow\_%' AND state = 'idle' AND query LIKE 'LISTEN %'`)
		return n, err
	})
}

// strikeForeign leaves a transaction open that has written in another database of
// the server.
func (c *chaos) strikeForeign(ctx context.Context, _ fault) (wound, error) {
	tx, err := c.foreign.BeginTxx(context.WithoutCancel(ctx), nil)
	if err != nil {
		return wound{}, err
	}
	w := wound{at: time.Now()}
	w.count = func(ctx context.Context) (int, string, error) {
		n, err := c.number(ctx, `SELECT count(*) FROM orders.history WHERE at > $1`, w.at)
		return n, fmt.Sprintf("%d steps of orders meanwhile", n), err
	}
	w.heal = func(context.Context) error { return ended(tx) }
	if _, err := tx.ExecContext(ctx, `INSERT INTO things VALUES (1)`); err != nil {
		return wound{}, errors.Join(err, tx.Rollback())
	}
	return w, nil
}

// ended rolls back what another fault may have cut already.
func ended(tx *sqlx.Tx) error {
	if err := tx.Rollback(); err != nil {
		return fmt.Errorf("cut by another fault: %w", err)
	}
	return nil
}

// strikeTable locks a table against everybody, as ALTER TABLE does.
func (c *chaos) strikeTable(ctx context.Context, f fault) (wound, error) {
	tx, err := c.Admin.BeginTxx(context.WithoutCancel(ctx), nil)
	if err != nil {
		return wound{}, err
	}
	if _, err := tx.ExecContext(ctx, `LOCK TABLE `+f.How+` IN ACCESS EXCLUSIVE MODE`); err != nil {
		return wound{}, errors.Join(err, tx.Rollback())
	}
	count := func(ctx context.Context) (n int, what string, err error) {
		err = tx.GetContext(ctx, &n, `SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = $1::regclass`, f.How)
		return n, fmt.Sprintf("%d waited at its end", n), err
	}
	return wound{at: time.Now(), count: count, heal: func(context.Context) error { return ended(tx) }}, nil
}

// strikeDouble puts messages into a queue once more, while they are handled there
// or wait.
func (c *chaos) strikeDouble(ctx context.Context, f fault) (wound, error) {
	const columns = `message_id, kind, schema_version, lane, class, order_id, correlation_id, causation_id, occurred_at, producer, metadata, payload`
	return repeat(ctx, f, 50*time.Millisecond, "messages put there once more", func() (int, error) {
		return c.change(ctx, `
			INSERT INTO messaging.queue_`+f.How+` (`+columns+`)
			SELECT `+columns+` FROM messaging.queue_`+f.How+` WHERE dead_reason IS NULL LIMIT 3`)
	})
}

// strikeReorder takes messages out of the order of what they are about, and has
// each wait for some time.
func (c *chaos) strikeReorder(ctx context.Context, f fault) (wound, error) {
	return repeat(ctx, f, time.Millisecond, "messages taken out of their order", func() (int, error) {
		return c.change(ctx, `
			UPDATE messaging.queue_`+f.How+`
			SET lane = NULL, due = clock_timestamp() + random() * interval '1 s'
			WHERE id IN (
				SELECT id FROM messaging.queue_`+f.How+`
				WHERE lane IS NOT NULL AND token IS NULL AND dead_reason IS NULL
				FOR UPDATE SKIP LOCKED)`)
	})
}

// number is what the query counts. The database may be away for some time.
func (c *chaos) number(ctx context.Context, query string, args ...any) (n int, err error) {
	for end := time.Now().Add(backLimit); ; pause(ctx, 100*time.Millisecond) {
		looking, cancel := context.WithTimeout(ctx, 2*time.Second)
		err = c.Admin.GetContext(looking, &n, query, args...)
		cancel()
		if err == nil || ctx.Err() != nil || time.Now().After(end) {
			return n, err
		}
	}
}

// change returns how many rows the statement changed.
func (c *chaos) change(ctx context.Context, statement string) (int, error) {
	r, err := c.Admin.ExecContext(ctx, statement)
	if err != nil {
		return 0, err
	}
	n, err := r.RowsAffected()
	return int(n), err
}
