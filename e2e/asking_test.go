package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
)

// answerLimit is within what every request is to be answered, whatever the
// database does. A test fails when there is no answer within three times that.
const answerLimit = 5 * time.Second

// asking is customers and an operator who ask the shop for everything it has, all
// the time, and note how they are answered. A service that can't answer has to say
// so: 503 with Retry-After, in time.
type asking struct {
	stop context.CancelFunc
	done sync.WaitGroup

	mu      sync.Mutex
	answers map[string]*answers // by what was asked
	wrong   []string            // answers that must not be
	placed  []string            // orders promised
}

// answers counts those of one question.
type answers struct {
	all, unavailable int
	slowest          time.Duration
}

// question is a request, as often as it is asked.
type question struct {
	name, method, path string
	body               any
	header             []string
}

// everyQuestion are those that need the database.
var everyQuestion = []string{
	"products", "availability", "order", "orders", "payments", "notifications", "cancel", "restock", "place",
	"inventory ready", "orders ready", "payments ready", "notifications ready", "console ready",
}

// openAsking begins to ask about an order that is there; close ends it.
func openAsking(t *testing.T, s *Stack, order string, c *Customer) *asking {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	a := &asking{stop: stop, answers: map[string]*answers{}}
	questions := []question{
		{name: "products", method: http.MethodGet, path: "/v1/products"},
		{name: "availability", method: http.MethodGet, path: "/v1/availability?sku=MUG-01"},
		{name: "order", method: http.MethodGet, path: "/v1/orders/" + order},
		{name: "orders", method: http.MethodGet, path: "/v1/orders"},
		{name: "payments", method: http.MethodGet, path: "/v1/payments?order_id=" + order},
		{name: "notifications", method: http.MethodGet, path: "/v1/notifications?order_id=" + order},
		{name: "cancel", method: http.MethodPost, path: "/v1/orders/" + order + "/cancel"},
		{name: "restock", method: http.MethodPost, path: "/v1/products/TEA-01/restock", body: map[string]int{"quantity": 1}, header: []string{"X-Role", "operator"}},
		{name: "place", method: http.MethodPost, path: "/v1/orders", body: wish("FILTER-01", "tok_ok")},
	}
	for _, q := range questions {
		a.ask(ctx, c, q)
	}
	for _, service := range services {
		if service != "paysim" { // which keeps its clients waiting on purpose
			a.ask(ctx, NewCustomer(t, s.Reach(first(service))), question{name: service + " ready", method: http.MethodGet, path: "/readyz"})
		}
	}
	t.Cleanup(func() {
		stop()
		a.done.Wait()
	})
	return a
}

// ask asks q again and again until ctx ends.
func (a *asking) ask(ctx context.Context, c *Customer, q question) {
	a.answers[q.name] = &answers{}
	a.done.Go(func() {
		key := uuid.NewString()
		for ctx.Err() == nil {
			header := q.header
			if q.name == "place" {
				header = []string{"Idempotency-Key", key}
			}
			started := time.Now()
			got, err := c.Do(context.WithoutCancel(ctx), q.method, q.path, q.body, header...)
			if a.note(q.name, got, err, started) && q.name == "place" {
				key = uuid.NewString()
			}
			select {
			case <-ctx.Done():
			case <-time.After(scaled(800*time.Millisecond, 100*time.Millisecond)):
			}
		}
	})
}

// note notes an answer and reports whether the request was done.
func (a *asking) note(name string, got Answer, err error, started time.Time) (done bool) {
	took := time.Since(started)
	a.mu.Lock()
	defer a.mu.Unlock()
	n := a.answers[name]
	n.all++
	n.slowest = max(n.slowest, took)
	switch {
	case err != nil:
		a.wrong = append(a.wrong, fmt.Sprintf("%s: no answer after %s: %v", name, took.Round(time.Millisecond), err))
	case got.Status == http.StatusServiceUnavailable:
		n.unavailable++
		if got.Header.Get("Retry-After") == "" {
			a.wrong = append(a.wrong, fmt.Sprintf("%s: 503 without Retry-After: %s", name, got.Body))
		}
	case got.Status >= http.StatusInternalServerError:
		a.wrong = append(a.wrong, fmt.Sprintf("%s: status %d: %s", name, got.Status, got.Body))
	case got.Status/100 == 2:
		done = true
		var o Order
		if name == "place" {
			err = json.Unmarshal(got.Body, &o)
			a.placed = append(a.placed, o.ID)
		}
		if err != nil {
			a.wrong = append(a.wrong, fmt.Sprintf("%s: %v: %s", name, err, got.Body))
		}
	}
	return done
}

// look takes what was answered since the last look and tells it under the name of
// a fault. There must have been nothing wrong, and 503s to the questions in hit,
// "any" for any: else the fault hit nothing.
func (a *asking) look(t *testing.T, fault string, hit ...string) {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	var all, unavailable int
	var slowest time.Duration
	var what string // the slowest
	for name, n := range a.answers {
		all, unavailable = all+n.all, unavailable+n.unavailable
		if n.slowest > slowest {
			slowest, what = n.slowest, name
		}
		if slices.Contains(hit, name) && n.unavailable == 0 {
			t.Errorf("%s: no 503 to %q: the fault didn't hit", fault, name)
		}
		*n = answers{}
	}
	if slices.Contains(hit, "any") && unavailable == 0 {
		t.Errorf("%s: no 503 at all: the fault didn't hit", fault)
	}
	t.Logf("%s: %d requests, %d of them answered by 503, the slowest (%s) after %s (to reach: %s)", fault, all, unavailable, what, slowest.Round(time.Millisecond), answerLimit)
	if slowest > 3*answerLimit {
		t.Errorf("%s: a request was answered after %s only", fault, slowest)
	}
	if len(a.wrong) > 0 {
		t.Errorf("%s: %d answers that must not be:\n    %s", fault, len(a.wrong), strings.Join(a.wrong[:min(len(a.wrong), 10)], "\n    "))
	}
	a.wrong = nil
}

// close ends the asking and returns the orders that were promised.
func (a *asking) close() []string {
	a.stop()
	a.done.Wait()
	return a.placed
}
