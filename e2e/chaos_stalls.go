package e2e

import (
	"context"
	"sync"
	"time"
)

const (
	stallAfter = 2 * time.Second // without a promise
	mostStalls = 40              // that are noted
)

// stall is what the services' sessions did in the database at a moment at which no
// order had been promised for some time: it says what everybody waited for.
type stall struct {
	At       float64     `json:"at"` // seconds since the start
	Sessions []dbSession `json:"sessions"`
	Error    string      `json:"error,omitempty"` // why nothing can be said
}

// dbSession is a session of the database that has something to do.
type dbSession struct {
	PID     int     `json:"pid" db:"pid"`
	Role    string  `json:"role" db:"role"`
	State   string  `json:"state" db:"state"`
	Waits   string  `json:"waits" db:"waits"`
	Blocked string  `json:"blocked_by" db:"blocked"` // pids
	Seconds float64 `json:"seconds" db:"seconds"`    // since its transaction began
	Query   string  `json:"query" db:"query"`
}

// watch looks at the database whenever the shop seems to stand still, until the
// function that it returns is called, which returns what was seen.
func (c *chaos) watch(ctx context.Context, started time.Time) func() []stall {
	ctx, stop := context.WithCancel(ctx)
	var watching sync.WaitGroup
	var list []stall
	watching.Go(func() {
		for pause(ctx, time.Second) {
			if time.Since(started) < stallAfter || time.Since(c.market.lastPlaced()) < stallAfter || len(list) == mostStalls {
				continue
			}
			s := stall{At: time.Since(started).Round(time.Millisecond).Seconds()}
			looking, cancel := context.WithTimeout(ctx, time.Second)
			err := c.Admin.SelectContext(looking, &s.Sessions, `
				SELECT pid, coalesce(usename, backend_type) AS role, state, coalesce(wait_event_type || ' ' || wait_event, '') AS waits,
				       array_to_string(pg_blocking_pids(pid), ' ') AS blocked,
				       coalesce(extract(epoch FROM clock_timestamp() - xact_start), 0) AS seconds, left(regexp_replace(query, '\s+', ' ', 'g'), 200) AS query
				FROM pg_stat_activity
				WHERE state <> 'idle' AND pid <> pg_backend_pid()
				ORDER BY xact_start`)
			cancel()
			if err != nil {
				s.Error = err.Error()
			}
			list = append(list, s)
		}
	})
	return func() []stall {
		stop()
		watching.Wait()
		return list
	}
}
