package e2e

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"
)

// goesOn is how soon an order is to go on once the provider answers again.
const goesOn = 30 * time.Second

// TestProvider has the provider misbehave in all the ways it can, towards a shop that
// goes on selling: whatever is said or not, each thing is done once, and every order
// goes on.
func TestProvider(t *testing.T) {
	t.Parallel()
	s := NewStack(t)
	// Nobody waits long for an answer that doesn't come.
	s.relaunch(t, "payments", "PAYMENTS_PROVIDER_TIMEOUT=1s")
	s.relaunch(t, "paysim", "PAYSIM_HANG=2s", "PAYSIM_SLOW=400ms", "PAYSIM_WEBHOOK_POLL=100ms",
		"PAYSIM_WEBHOOK_URL="+s.Peer(first("payments"))+"/v1/provider-webhooks")
	s.WaitReady(t, "paysim", "payments")
	t.Run("time-outs", func(t *testing.T) { providerTimeouts(t, s) })
	t.Run("misdeeds", func(t *testing.T) { providerMisdeeds(t, s) })
	t.Run("down", func(t *testing.T) { providerDown(t, s) })
}

// providerTimeouts has the provider do what it is asked for and never say so, once
// for every order: when the money is set aside, or when it is taken. Every customer
// is charged once, and every order goes on.
func providerTimeouts(t *testing.T, s *Stack) {
	n := scaled(10, 200)
	var ids []string
	var mu sync.Mutex
	var customers sync.WaitGroup
	next := make(chan int)
	var slowest time.Duration
	for range 8 {
		c := NewCustomer(t, s.URL)
		customers.Go(func() {
			for i := range next {
				token := []string{"tok_authorize_timeout_after", "tok_capture_timeout_after"}[i%2]
				started := time.Now()
				o, err := c.PlaceSurely(t.Context(), wish("FILTER-01", token))
				if err == nil {
					err = c.arrive(t, o.ID, 10*goesOn)
				}
				if err != nil {
					t.Errorf("order %d, paid by %s: %v", i, token, err)
				}
				mu.Lock()
				ids, slowest = append(ids, o.ID), max(slowest, time.Since(started))
				mu.Unlock()
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	customers.Wait()
	t.Logf("%d orders, the slowest delivered after %s; to reach: %s after the provider answers again", n, slowest.Round(time.Millisecond), goesOn)

	var charges struct {
		Orders   int `db:"orders"`
		TimedOut int `db:"timed_out"`
		Others   int `db:"others"`
	}
	err := s.Admin.GetContext(t.Context(), &charges, `
		SELECT count(DISTINCT reference) AS orders,
		       (SELECT count(*) FROM paysim.failures) AS timed_out,
		       count(*) FILTER (WHERE times <> 1) AS others
		FROM (SELECT reference, kind, count(*) AS times
		      FROM paysim.operations
		      WHERE kind IN ('authorize', 'capture') AND status = 'succeeded'
		      GROUP BY reference, kind) o`)
	if err != nil {
		t.Fatalf("read the provider's books: %v", err)
	}
	if charges.Orders != n || charges.Others != 0 {
		t.Errorf("the provider charged %d orders, %d times another number than once; want %d, 0", charges.Orders, charges.Others, n)
	}
	if charges.TimedOut != n {
		t.Errorf("the provider let %d requests time out, want %d: the fault must hit", charges.TimedOut, n)
	}
	CheckShop(t, s.DSN("", ""), ids...)
}

// arrive waits until the order is delivered.
func (c *Customer) arrive(t *testing.T, id string, limit time.Duration) error {
	return c.reach(t, id, limit, "delivered")
}

// reach waits until the order is in one of statuses.
func (c *Customer) reach(t *testing.T, id string, limit time.Duration, statuses ...string) error {
	for end := time.Now().Add(limit); ; time.Sleep(100 * time.Millisecond) {
		o, err := c.look(t, id)
		if err == nil && slices.Contains(statuses, o.Status) {
			return nil
		}
		if time.Now().After(end) {
			return errors.Join(fmt.Errorf("after %s order %s is %q (%s), want one of %v", limit, id, o.Status, o.ReasonCode, statuses), err)
		}
	}
}
