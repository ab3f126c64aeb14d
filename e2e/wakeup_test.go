package e2e

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"
	"time"
)

// pollLimit is how long a message may wait at most whose wake-up was lost: the poll
// interval, and a second.
const pollLimit = 2 * time.Second

// listeners are the services that listen for messages, each on a connection of its own.
var listeners = []string{"orders", "inventory", "payments", "notifications"}

// lostWakeUps ends the connections on which services listen for messages, again and
// again at first, then so that they can't be had any more: every message is found by
// polling.
func lostWakeUps(t *testing.T, s *Stack) {
	c := NewCustomer(t, s.URL)
	c.arriveAll(t, 4) // pools fill

	began, ended := s.now(t), 0
	ctx, stop := context.WithCancel(t.Context())
	var ending sync.WaitGroup
	var failed error
	ending.Go(func() {
		for ; ctx.Err() == nil && failed == nil; time.Sleep(20 * time.Millisecond) {
			var n int
			n, failed = s.endListening(t)
			ended += n
		}
	})
	c.arriveAll(t, scaled(4, 40))
	stop()
	ending.Wait()
	if failed != nil {
		t.Fatal(failed)
	}
	t.Logf("%d listening connections ended; the longest that a message waited: %s (to reach: %s)", ended, s.longestWait(t, began), pollLimit)
	if ended < 2*len(listeners) {
		t.Errorf("%d listening connections were ended, want each of them again and again", ended)
	}

	// What is open stays open: only who listens has to connect again.
	refused := s.refusals()
	s.limitConnections(t, 0)
	defer s.limitConnections(t, -1)
	eventually(t, healLimit, func() error {
		n, err := s.endListening(t)
		if err == nil && (n > 0 || s.refusals() == refused) {
			err = errors.New("somebody may still listen")
		}
		return err
	})
	began = s.now(t)
	c.arriveAll(t, scaled(4, 40))
	if n, err := s.endListening(t); n > 0 || err != nil {
		t.Errorf("%d connections listen after all, %v: the fault must last", n, err)
	}
	waited := s.longestWait(t, began)
	t.Logf("listening was refused to each service %d times and more; the longest that a message waited: %s (to reach: %s)", s.refusals()-refused, waited, pollLimit)
	if waited < 100*time.Millisecond {
		t.Errorf("no message waited longer than %s: wake-ups were not lost", waited)
	}
	s.limitConnections(t, -1)
	CheckShop(t, s.DSN("", ""))
}

// arriveAll has n orders delivered that are placed at once.
func (c *Customer) arriveAll(t *testing.T, n int) {
	t.Helper()
	var ids []string
	for range n {
		ids = append(ids, c.Place(t, wish("FILTER-01", "tok_ok")).ID)
	}
	for _, id := range ids {
		if err := c.arrive(t, id, 10*goesOn); err != nil {
			t.Error(err)
		}
	}
}

// endListening ends the connections that listen now and returns how many there were.
func (s *Stack) endListening(t testing.TB) (int, error) {
	var n int
	err := s.Admin.GetContext(t.Context(), &n, `
		SELECT count(*) FILTER (WHERE pg_terminate_backend(pid))
		FROM pg_stat_activity
		WHERE datname = current_database() AND usename LIKE 'orderflow\_%' AND query LIKE 'LISTEN %'`)
	if err != nil {
		return 0, fmt.Errorf("end the listening connections: %w", err)
	}
	return n, nil
}

// limitConnections has the stack's database take n connections of its services, new
// ones of which are refused beyond that; -1 is any number.
func (s *Stack) limitConnections(t testing.TB, n int) {
	t.Helper()
	var sql string
	err := s.Admin.GetContext(t.Context(), &sql, `SELECT format('ALTER DATABASE %I CONNECTION LIMIT %s', current_database(), $1::integer)`, n)
	if err == nil {
		_, err = s.Admin.ExecContext(t.Context(), sql)
	}
	if err != nil {
		t.Fatalf("limit the database's connections to %d: %v", n, err)
	}
}

// refusals is how often every listener was refused a connection, at least.
func (s *Stack) refusals() int {
	least := math.MaxInt
	for _, name := range listeners {
		least = min(least, strings.Count(s.Logs(first(name)), "SQLSTATE 53300"))
	}
	return least
}

// now is the database's time.
func (s *Stack) now(t testing.TB) time.Time {
	t.Helper()
	var now time.Time
	if err := s.Admin.GetContext(t.Context(), &now, `SELECT clock_timestamp()`); err != nil {
		t.Fatal(err)
	}
	return now
}

// longestWait is the longest that a message sent since then has waited before it was
// handled. It must not be ten times as long as is to be reached.
func (s *Stack) longestWait(t testing.TB, since time.Time) time.Duration {
	t.Helper()
	var parts []string
	for _, name := range listeners {
		parts = append(parts, `SELECT sent_at, started_at FROM messaging.inbox_`+name)
	}
	var seconds float64
	err := s.Admin.GetContext(t.Context(), &seconds, `
		SELECT coalesce(max(extract(epoch FROM started_at - sent_at)), 0)::float8
		FROM (`+strings.Join(parts, ` UNION ALL `)+`) m
		WHERE sent_at >= $1`, since)
	if err != nil {
		t.Fatalf("look how long messages waited: %v", err)
	}
	waited := time.Duration(seconds * float64(time.Second)).Round(time.Millisecond)
	if waited > 10*pollLimit {
		t.Errorf("a message waited %s, want %s at most", waited, pollLimit)
	}
	return waited
}
