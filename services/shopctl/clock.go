package main

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jmoiron/sqlx"
)

// clockCommand moves the clock of the business, by which holds expire, deadlines
// pass and parcels arrive.
type clockCommand struct {
	Show    clockShow    `cmd:"" default:"withargs" help:"What it says, and by how much it is ahead."`
	Advance clockAdvance `cmd:"" help:"Set it forward, for a demo: what falls due in that time happens within about a second."`
	Reset   clockReset   `cmd:"" help:"Back to real time."`
}

// maxAhead keeps the clock within what its column and its readers can bear.
const maxAhead = 10 * 365 * 24 * time.Hour

// ahead is a reading of the clock.
type ahead struct {
	Now    time.Time `db:"now"`
	Offset float64   `db:"offset"` // seconds
}

func (a ahead) String() string {
	by := time.Duration(a.Offset * float64(time.Second)).Round(time.Millisecond)
	if by == 0 {
		return "the shop's clock says " + stamp(a.Now) + ", which is real time"
	}
	return fmt.Sprintf("the shop's clock says %s, %s ahead of real time", stamp(a.Now), by)
}

type clockShow struct{ operator }

// Run shows the clock.
func (c clockShow) Run(ctx context.Context, s streams) error {
	return c.use(func(db *sqlx.DB) error {
		var a ahead
		err := db.GetContext(ctx, &a, `
			SELECT messaging.shop_now() AS now, extract(epoch FROM offset_by)::float8 AS offset
			FROM messaging.clock`)
		if err != nil {
			return fmt.Errorf("read the clock: %w", err)
		}
		fmt.Fprintln(s.out, a)
		return nil
	})
}

type clockAdvance struct {
	operator
	By     string `arg:"" help:"How far: 15m, 36h, 90s."`
	Reason string `help:"Why, for the record."`
}

// Run sets the clock forward.
func (c clockAdvance) Run(ctx context.Context, s streams) error {
	by, err := time.ParseDuration(c.By)
	if err != nil {
		return fmt.Errorf("advance by %q: want a duration like 15m or 36h", plain(c.By))
	}
	if by <= 0 {
		return fmt.Errorf("advance by %s: the clock only goes forward, or back to real time by \"shopctl clock reset\"", by)
	}
	if by > maxAhead {
		return fmt.Errorf("advance by %s: at most %s", by, maxAhead)
	}
	return c.set(ctx, s, "clock.advance", c.Reason, by)
}

type clockReset struct {
	operator
	Reason string `help:"Why, for the record."`
}

// Run sets the clock back to real time. What has happened has happened.
func (c clockReset) Run(ctx context.Context, s streams) error {
	return c.set(ctx, s, "clock.reset", c.Reason, 0)
}

// set moves the clock, as setClock does, and shows it.
func (o operator) set(ctx context.Context, s streams, action, reason string, by time.Duration) error {
	return o.use(func(db *sqlx.DB) error {
		now, err := setClock(ctx, db, cmp.Or(o.Actor, loggedIn()), action, reason, by)
		if err != nil {
			return err
		}
		fmt.Fprintln(s.out, now)
		return nil
	})
}

// setClock moves the clock by a time, 0 = back to real time, and records it under
// actor's name, both in one statement.
func setClock(ctx context.Context, db *sqlx.DB, actor, action, reason string, by time.Duration) (ahead, error) {
	var list []ahead
	err := db.SelectContext(ctx, &list, `
		WITH moved AS (
			UPDATE messaging.clock
			SET offset_by = CASE WHEN $1 = 0 THEN interval '0' ELSE offset_by + make_interval(secs => $1) END
			WHERE $1 = 0 OR offset_by + make_interval(secs => $1) <= make_interval(secs => $2)
			RETURNING offset_by
		), recorded AS (
			INSERT INTO messaging.actions (actor, action, reason, detail)
			SELECT $3, $4, nullif($5, ''), jsonb_build_object('by_seconds', $1, 'ahead_seconds', extract(epoch FROM offset_by))
			FROM moved
		)
		SELECT clock_timestamp() + offset_by AS now, extract(epoch FROM offset_by)::float8 AS offset
		FROM moved`,
		by.Seconds(), maxAhead.Seconds(), actor, action, strings.TrimSpace(reason))
	if err != nil {
		return ahead{}, fmt.Errorf("set the clock: %w", err)
	}
	if len(list) == 0 {
		return ahead{}, fmt.Errorf("advance by %s: the clock would be more than %s ahead", by, maxAhead)
	}
	return list[0], nil
}
