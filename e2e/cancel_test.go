package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
)

// TestCancelRaces has customers cancel at the very moment at which something else
// happens to their order, a thousand times each at full length: while the money is
// being set aside, while the parcel is packed and paid, while it is handed to the
// carrier. Whoever wins, every order ends legal, and money and stock balance.
func TestCancelRaces(t *testing.T) {
	t.Parallel()
	s := NewStack(t)
	byHand(t, s)
	t.Run("races", func(t *testing.T) {
		for name, r := range map[string]race{
			"authorise": {sku: "FILTER-01", against: "", limit: 20 * time.Millisecond,
				seen: []string{"202 cancelled"}},
			"capture": {sku: "FILTER-01", until: "fulfilling", against: "pack", limit: 30 * time.Millisecond,
				seen: []string{"202 cancelled", "202 delivered", "409 delivered"}},
			"ship": {sku: "FILTER-01", until: "dispatching", against: "dispatch", limit: 10 * time.Millisecond,
				seen: []string{"409 delivered"}},
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				r.run(t, s, scaled(20, 1000))
			})
		}
	})
	CheckShop(t, s.DSN("", ""))
}

// race is what a customer's wish to cancel is raced against.
type race struct {
	sku     string
	until   string        // the status in which the race begins; "" = as soon as it is placed
	against string        // the step that the warehouse does at the same time; "" = whatever goes on by itself
	limit   time.Duration // how long customer and warehouse hesitate at most
	seen    []string      // outcomes that must have been seen at full length: the answer and how the order ended
}

func (r race) hesitate() time.Duration { return rand.N(r.limit) }

// run races n orders, some at a time, and logs how they ended.
func (r race) run(t *testing.T, s *Stack, n int) {
	var mu sync.Mutex
	outcomes := map[string]int{}
	var racers sync.WaitGroup
	next := make(chan struct{})
	for range 8 {
		c := NewCustomer(t, s.URL)
		racers.Go(func() {
			for range next {
				outcome, err := r.once(t, c)
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				outcomes[outcome]++
				mu.Unlock()
			}
		})
	}
	for range n {
		if t.Failed() {
			break
		}
		next <- struct{}{}
	}
	close(next)
	racers.Wait()
	t.Logf("%d races: %v", n, outcomes)
	for _, want := range r.seen {
		if long() && outcomes[want] == 0 {
			t.Errorf("outcome %q was never seen: the race is none", want)
		}
	}
	for _, got := range slices.Sorted(maps.Keys(outcomes)) {
		if strings.HasPrefix(got, "5") {
			t.Errorf("outcome %q, %d times: the shop must not fail", got, outcomes[got])
		}
	}
}

// once races one order and says how it was answered and how it ended.
func (r race) once(t *testing.T, c *Customer) (string, error) {
	w := wish(r.sku, "tok_ok")
	a, err := c.Do(t.Context(), http.MethodPost, "/v1/orders", w, "Idempotency-Key", uuid.NewString())
	if err != nil || a.Status != http.StatusAccepted {
		return "", fmt.Errorf("place an order: %v, status %d: %s", err, a.Status, a.Body)
	}
	id := strings.TrimPrefix(a.Header.Get("Location"), "/v1/orders/")
	if r.until != "" {
		if _, err := c.walk(t, id, r.until); err != nil {
			return "", err
		}
	}
	var work sync.WaitGroup
	var failed error
	if r.against != "" {
		work.Go(func() {
			time.Sleep(r.hesitate())
			failed = c.step(t, id, r.against)
		})
	}
	time.Sleep(r.hesitate())
	a, err = c.Do(t.Context(), http.MethodPost, "/v1/orders/"+id+"/cancel", nil)
	work.Wait()
	if err != nil {
		return "", fmt.Errorf("cancel order %s: %w", id, err)
	}
	if failed != nil {
		return "", failed
	}
	end, err := c.walk(t, id, "delivered", "cancelled")
	return fmt.Sprintf("%d %s", a.Status, end), err
}

// byHand has a warehouse that does nothing by itself.
func byHand(t *testing.T, s *Stack) {
	t.Helper()
	s.Terminate(t, "inventory")
	s.Launch(t, "inventory", "INVENTORY_WAREHOUSE=manual")
	s.WaitReady(t, "inventory")
}

// step has the warehouse do one step for the order. That the shipment doesn't wait
// for it (409) is an answer like any other.
func (c *Customer) step(t *testing.T, id, what string) error {
	a, err := c.Do(t.Context(), http.MethodPost, "/v1/shipments/"+id+"/"+what, nil, "X-Role", "operator")
	if err == nil && a.Status != http.StatusOK && a.Status != http.StatusConflict {
		err = fmt.Errorf("status %d: %s", a.Status, a.Body)
	}
	if err != nil {
		return fmt.Errorf("%s the shipment of order %s: %w", what, id, err)
	}
	return nil
}

// look reads the order as it is now.
func (c *Customer) look(t *testing.T, id string) (Order, error) {
	var o Order
	a, err := c.Do(t.Context(), http.MethodGet, "/v1/orders/"+id, nil)
	if err != nil {
		return o, fmt.Errorf("look at order %s: %w", id, err)
	}
	if err := json.Unmarshal(a.Body, &o); err != nil {
		return o, fmt.Errorf("look at order %s: status %d, %w", id, a.Status, err)
	}
	return o, nil
}

// walk has the warehouse and the carrier do whatever the order waits for until it
// is in one of statuses, for up to a minute, and returns the status.
func (c *Customer) walk(t *testing.T, id string, statuses ...string) (string, error) {
	steps := map[string]string{"fulfilling": "pack", "dispatching": "dispatch", "shipped": "deliver"}
	for end := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		o, err := c.look(t, id)
		if err != nil {
			return "", err
		}
		if slices.Contains(statuses, o.Status) {
			return o.Status, nil
		}
		if step, ok := steps[o.Status]; ok {
			if err := c.step(t, id, step); err != nil {
				return "", err
			}
		}
		if time.Now().After(end) {
			return "", fmt.Errorf("order %s is still %s (%s), want one of %v", id, o.Status, o.ReasonCode, statuses)
		}
	}
}
