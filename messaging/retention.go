package messaging

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/jmoiron/sqlx"
)

// Retention is how long a log or an inbox is kept.
type Retention struct {
	Table      string     `db:"base" json:"table"` // "log_<speaker>" or "inbox_<service>"
	Days       int        `db:"days" json:"days"`
	GoneBefore *time.Time `db:"gone_before" json:"gone_before,omitempty"` // nil = nothing was dropped yet
}

// Retentions lists the logs and inboxes with how long each is kept: 7 and 35
// days unless somebody has set it.
func (o *Operator) Retentions(ctx context.Context) ([]Retention, error) {
	list := []Retention{}
	err := o.db.SelectContext(ctx, &list, `SELECT base, days, gone_before FROM messaging.retention ORDER BY base`)
	if err != nil {
		return nil, fmt.Errorf("list the retentions: %w", err)
	}
	return list, nil
}

// Keep sets for how many whole days (1 to 3650) table, a log or an inbox, is
// kept. It takes effect within the hour. An inbox is kept for a day longer than
// any log that its service hears, whatever is set.
func (o *Operator) Keep(ctx context.Context, table string, days int, reason string) error {
	err := o.inTx(ctx, func(tx *sqlx.Tx) error {
		res, err := tx.ExecContext(ctx, `UPDATE messaging.retention SET days = $2 WHERE base = $1`, table, days)
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); n == 0 || err != nil {
			return fmt.Errorf("there is no log or inbox of that name: %w", err)
		}
		detail, err := json.Marshal(map[string]any{"table": table, "days": days})
		if err != nil {
			return err
		}
		return o.record(ctx, tx, Action{Action: "keep", Reason: reason, Detail: detail})
	})
	if err != nil {
		return fmt.Errorf("keep %s for %d days: %w", table, days, err)
	}
	return nil
}

// forget has what is older than its retention dropped, once an hour, until ctx
// ends. What must wait, for a replay or because the table is too busy to be
// locked for a moment, is tried again an hour later.
func (b *Bus) forget(ctx context.Context) {
	for {
		for _, table := range b.kept() {
			n, err := forgetOld(ctx, b.db, table)
			switch {
			case ctx.Err() != nil:
				return
			case err != nil:
				b.log.Warn("old rows will be dropped later", "service", b.spec.Name, "topic", table, "err", err)
			case n > 0:
				b.log.Info("old rows dropped", "service", b.spec.Name, "topic", table, "steps", n)
			}
		}
		timer := time.NewTimer(time.Hour)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
	}
}

// kept lists the tables of the service that are kept for a time.
func (b *Bus) kept() (tables []string) {
	if len(b.spec.Speaks) > 0 {
		tables = append(tables, "log_"+b.spec.Name)
	}
	if len(b.spec.Queues) > 0 {
		tables = append(tables, "inbox_"+b.spec.Name)
	}
	return tables
}

// forgetSteps is the most that is dropped at one go: a step is a day, or a
// thousand rows of a rest.
const forgetSteps = 1000

// forgetOld drops what is older than the retention of table, step by step, and
// returns how many steps it took.
func forgetOld(ctx context.Context, db *sqlx.DB, table string) (steps int, err error) {
	for ; steps < forgetSteps; steps++ {
		var n int
		if err := db.GetContext(ctx, &n, `SELECT messaging.drop_days($1)`, table); err != nil {
			return steps, fmt.Errorf("drop the oldest day of %s: %w", table, err)
		}
		if n == 0 {
			break
		}
	}
	return steps, nil
}
