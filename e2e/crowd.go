package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
)

// Crowd is customers who come at a steady rate, whether or not the shop keeps up:
// each places an order, looks at it, and every fifth changes their mind. They
// retry what is answered 503 and nothing else, and count.
type Crowd struct {
	customer *Customer
	stop     context.CancelFunc
	all      sync.WaitGroup
	asked    atomic.Int64 // requests sent

	mu       sync.Mutex
	promised []string
	took     []time.Duration // until each answer that was no 503
	busy     int             // answers 503
	failed   []string        // everything else that isn't as it should be
}

// NewCrowd lets rate customers per second in, until Close.
func NewCrowd(t testing.TB, shop string, rate int) *Crowd {
	ctx, stop := context.WithCancel(context.Background())
	c := &Crowd{customer: NewCustomer(t, shop), stop: stop}
	t.Cleanup(func() {
		stop()
		c.all.Wait()
	})
	c.all.Go(func() {
		tick := time.NewTicker(time.Second / time.Duration(rate))
		defer tick.Stop()
		for n := 0; ; n++ {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				// Whoever is in the shop is served to the end.
				c.all.Go(func() { c.visit(context.WithoutCancel(ctx), n%5 == 0) })
			}
		}
	})
	return c
}

// visit is what one customer does. It asks every service for something.
func (c *Crowd) visit(ctx context.Context, fickle bool) {
	w := wish("FILTER-01", "tok_ok")
	o, ok := c.ask(ctx, http.MethodPost, "/v1/orders", w, []int{http.StatusAccepted}, "Idempotency-Key", uuid.NewString())
	if !ok {
		return
	}
	var order Order
	if err := json.Unmarshal(o.Body, &order); err != nil {
		c.fail("place an order: %v: %s", err, o.Body)
		return
	}
	c.mu.Lock()
	c.promised = append(c.promised, order.ID)
	c.mu.Unlock()
	ok200 := []int{http.StatusOK}
	if fickle {
		// Without a key: what came of it must be known all the same.
		c.ask(ctx, http.MethodPost, "/v1/orders/"+order.ID+"/cancel", nil, []int{http.StatusOK, http.StatusAccepted, http.StatusConflict})
	}
	c.ask(ctx, http.MethodGet, "/v1/orders/"+order.ID, nil, ok200)
	c.ask(ctx, http.MethodGet, "/v1/products", nil, ok200)
	c.ask(ctx, http.MethodGet, "/v1/payments?order_id="+order.ID, nil, ok200)
	c.ask(ctx, http.MethodGet, "/v1/notifications?order_id="+order.ID, nil, ok200)
}

// ask sends a request until it is answered otherwise than by 503, and reports
// whether the answer is one of want.
func (c *Crowd) ask(ctx context.Context, method, path string, body any, want []int, header ...string) (Answer, bool) {
	started := time.Now()
	for {
		c.asked.Add(1)
		a, err := c.customer.Do(ctx, method, path, body, header...)
		if err != nil {
			c.fail("%s %s: %v after %s", method, path, err, since(started))
			return a, false
		}
		// The console may ask a second replica under the key that the first still has.
		if a.Status == http.StatusServiceUnavailable || a.Code() == "idempotency-in-progress" {
			c.mu.Lock()
			c.busy++
			c.mu.Unlock()
			seconds, err := strconv.Atoi(a.Header.Get("Retry-After"))
			if err != nil {
				c.fail("%s %s: status %d without a Retry-After", method, path, a.Status)
			}
			time.Sleep(time.Duration(seconds) * time.Second)
			continue
		}
		c.mu.Lock()
		c.took = append(c.took, time.Since(started))
		c.mu.Unlock()
		if !slices.Contains(want, a.Status) {
			c.fail("%s %s: status %d: %s", method, path, a.Status, a.Body)
			return a, false
		}
		return a, true
	}
}

func (c *Crowd) fail(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failed = append(c.failed, time.Now().Format("15:04:05.000 ")+fmt.Sprintf(format, args...))
}

// Close lets nobody in any more, waits for those who are, and returns the ids of
// what was promised. No request may have failed, and the slowest percent may have
// taken ten times p99 at most.
func (c *Crowd) Close(t testing.TB, p99 time.Duration) []string {
	t.Helper()
	c.stop()
	c.all.Wait()
	if len(c.failed) > 0 {
		t.Errorf("%d requests failed, of %d; the first: %v", len(c.failed), c.asked.Load(), c.failed[:min(5, len(c.failed))])
	}
	if len(c.took) == 0 {
		t.Fatal("no request was answered")
	}
	slices.Sort(c.took)
	got := c.took[len(c.took)*99/100]
	t.Logf("%d orders by %d requests, answers 503: %d, failed: %d (to reach: 0); p50 %s, p99 %s (to reach: %s), slowest %s",
		len(c.promised), len(c.took), c.busy, len(c.failed), c.took[len(c.took)/2].Round(time.Millisecond), got.Round(time.Millisecond), p99, c.took[len(c.took)-1].Round(time.Millisecond))
	if got > 10*p99 {
		t.Errorf("p99 of requests is %s, to reach: %s", got, p99)
	}
	return c.promised
}
