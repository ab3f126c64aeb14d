package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
)

// TestLinks cuts and slows what orders and payments depend on: the shop says so,
// goes on when it is healed, and nothing is lost.
func TestLinks(t *testing.T) {
	t.Parallel()
	s := NewStack(t)
	database, databaseURL := s.LinkDatabase(t, "orders")
	provider, providerURL := s.LinkProvider(t)
	s.Terminate(t, "orders")
	s.Terminate(t, "payments")
	s.Launch(t, "orders", databaseURL)
	s.Launch(t, "payments", providerURL)
	s.WaitReady(t, "orders", "payments", "console")
	c := NewCustomer(t, s.URL)
	var promised []string
	buy := func() string {
		id := c.Place(t, wish("MUG-01", "tok_ok")).ID
		promised = append(promised, id)
		return id
	}
	c.Await(t, buy(), "delivered")

	database.Cut()
	for range 3 { // the first meets connections that have just been reset
		a, err := c.Do(t.Context(), http.MethodPost, "/v1/orders", wish("MUG-01", "tok_ok"), "Idempotency-Key", uuid.NewString())
		if err != nil || a.Status != http.StatusServiceUnavailable || a.Header.Get("Retry-After") == "" {
			t.Errorf("an order while orders has no database: %v, status %d %s; want 503 with Retry-After", err, a.Status, a.Body)
		}
	}
	database.Heal()
	healed := time.Now()
	o, err := c.PlaceSurely(t.Context(), wish("MUG-01", "tok_ok"))
	if err != nil {
		t.Fatalf("an order after the database's link was healed: %v", err)
	}
	promised = append(promised, o.ID)
	t.Logf("order taken %s after the database's link was healed", since(healed))
	c.Await(t, o.ID, "delivered")

	// An order makes several round trips to its database.
	const delay = 100 * time.Millisecond
	database.Slow(delay)
	started := time.Now()
	id := buy()
	if took := time.Since(started); took < 2*delay {
		t.Errorf("over a link that holds up by %s an order was taken within %s", delay, took)
	}
	database.Heal()
	c.Await(t, id, "delivered")

	provider.Cut()
	id = buy()
	eventually(t, 30*time.Second, func() error {
		tries := 0
		for line := range strings.Lines(s.Logs(first("payments"))) {
			if strings.Contains(line, "message will be tried again") && strings.Contains(line, id) {
				tries++
			}
		}
		if tries < 2 {
			return fmt.Errorf("payments has failed %d times to reach the provider for order %s, want 2", tries, id)
		}
		return nil
	})
	if o := Must[Order](t, c, http.StatusOK, http.MethodGet, "/v1/orders/"+id, nil); o.Status != "authorizing" {
		t.Errorf("without a provider the order is %s, want authorizing", o.Status)
	}
	provider.Heal()
	healed = time.Now()
	c.Await(t, id, "delivered")
	t.Logf("order delivered %s after the provider's link was healed", since(healed))
	CheckShop(t, s.DSN("", ""), promised...)
}
