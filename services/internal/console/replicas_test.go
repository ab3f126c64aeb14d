package console_test

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"example.com/orderflow/messaging/httpapi"
	"example.com/orderflow/services/internal/console"
)

// copyOfOrders is one replica of orders, as far as the console sees it.
type copyOfOrders struct {
	server *httptest.Server
	asked  atomic.Int64 // requests, those for /readyz apart
	bodies chan string
	h      atomic.Pointer[http.HandlerFunc] // how it answers
	ready  atomic.Bool
}

func newCopy(t *testing.T) *copyOfOrders {
	t.Helper()
	c := &copyOfOrders{bodies: make(chan string, 1000)}
	c.ready.Store(true)
	c.answers(func(http.ResponseWriter, *http.Request) {})
	c.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/readyz" {
			if !c.ready.Load() {
				w.WriteHeader(http.StatusServiceUnavailable)
			}
			return
		}
		c.asked.Add(1)
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Errorf("read a body: %v", err)
		}
		c.bodies <- string(body)
		(*c.h.Load())(w, r)
	}))
	t.Cleanup(c.server.Close)
	return c
}

func (c *copyOfOrders) answers(h http.HandlerFunc) { c.h.Store(&h) }

// cutsOff takes the request and ends the connection without an answer.
func cutsOff(w http.ResponseWriter, _ *http.Request) {
	c, _, err := http.NewResponseController(w).Hijack()
	if err == nil {
		err = c.Close()
	}
	if err != nil {
		panic(err)
	}
}

// shopOf returns the address of a console before the copies.
func shopOf(t *testing.T, copies ...*copyOfOrders) string {
	t.Helper()
	var urls []string
	for _, c := range copies {
		urls = append(urls, c.server.URL)
	}
	return shopAt(t, urls...)
}

func shopAt(t *testing.T, urls ...string) string {
	t.Helper()
	c, err := console.New(console.Config{OrdersURLs: urls}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	s := httptest.NewServer(c)
	t.Cleanup(s.Close)
	return s.URL
}

// placeAt returns the status of the answer to an order.
func placeAt(t *testing.T, shop, key string) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, shop+"/v1/orders", strings.NewReader("a wish"))
	if err != nil {
		t.Fatal(err)
	}
	if key != "" {
		req.Header.Set("Idempotency-Key", key)
	}
	res, err := once.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if err := res.Body.Close(); err != nil {
		t.Fatal(err)
	}
	return res.StatusCode
}

// until waits for cond.
func until(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !cond(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("after 10 s not so: %s", what)
		}
	}
}

func TestReplicasTakeTurns(t *testing.T) {
	t.Parallel()
	one, two := newCopy(t), newCopy(t)
	shop := shopOf(t, one, two)
	for range 10 {
		if status := placeAt(t, shop, ""); status != http.StatusOK {
			t.Fatalf("status %d, want 200", status)
		}
	}
	if one.asked.Load() != 5 || two.asked.Load() != 5 {
		t.Errorf("asked %d and %d times, want 5 and 5", one.asked.Load(), two.asked.Load())
	}
}

// Nothing was sent to a replica that refuses the connection, so that any request
// may go to the next, its body included.
func TestRefusedRequestGoesToTheNext(t *testing.T) {
	t.Parallel()
	gone, one := newCopy(t), newCopy(t)
	gone.server.Close()
	allGoTo(t, one, shopOf(t, gone, one))
}

// allGoTo places orders at the shop and checks that one gets each of them whole.
func allGoTo(t *testing.T, one *copyOfOrders, shop string) {
	t.Helper()
	for range 6 {
		if status := placeAt(t, shop, ""); status != http.StatusOK {
			t.Fatalf("status %d, want 200", status)
		}
		if body := <-one.bodies; body != "a wish" {
			t.Errorf("the other got %q, want the body", body)
		}
	}
}

// An address may be another service's by now, which says so: any request goes to the
// next, whatever it asks for, and none to that address until it is orders' again.
func TestRequestForAnotherServiceGoesToTheNext(t *testing.T) {
	t.Parallel()
	taken, one := newCopy(t), newCopy(t)
	inventory := httpapi.NewMux(slog.New(slog.DiscardHandler))
	inventory.Service("inventory")
	var misled atomic.Int64
	taken.server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/readyz" {
			misled.Add(1)
		}
		inventory.ServeHTTP(w, r)
	})
	allGoTo(t, one, shopOf(t, taken, one))
	if n := misled.Load(); n > 1 {
		t.Errorf("%d requests met the other service, want one at most", n)
	}
	if status := placeAt(t, shopAt(t, taken.server.URL), ""); status != http.StatusServiceUnavailable {
		t.Errorf("with another service at the only address: status %d, want 503", status)
	}
}

// What a balancer before the console means for another is not passed on.
func TestConsoleIsNoOtherService(t *testing.T) {
	t.Parallel()
	one := newCopy(t)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, shopOf(t, one)+"/v1/orders/x", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set(httpapi.ServiceHeader, "paysim")
	res, err := once.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if err := res.Body.Close(); err != nil {
		t.Fatal(err)
	}
	if res.StatusCode != http.StatusMisdirectedRequest || one.asked.Load() != 0 {
		t.Errorf("status %d, orders asked %d times; want 421, 0", res.StatusCode, one.asked.Load())
	}
}

// Once a request was sent, it is repeated only where that is harmless.
func TestLostAnswer(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		key       string
		status    int
		elsewhere int64
	}{
		"under a key it is asked for elsewhere": {key: "k", status: http.StatusOK, elsewhere: 1},
		"without a key it stays unknown":        {key: "", status: http.StatusServiceUnavailable, elsewhere: 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			one, two := newCopy(t), newCopy(t)
			shop := shopOf(t, one, two)
			hit := one
			placeAt(t, shop, "") // whose turn was it?
			if one.asked.Load() == 1 {
				hit = two
			}
			hit.answers(cutsOff)
			before := one.asked.Load() + two.asked.Load() - hit.asked.Load()
			if status := placeAt(t, shop, c.key); status != c.status {
				t.Errorf("status %d, want %d", status, c.status)
			}
			if hit.asked.Load() == 0 {
				t.Fatal("no request met the replica that cuts off")
			}
			if n := one.asked.Load() + two.asked.Load() - hit.asked.Load() - before; n != c.elsewhere {
				t.Errorf("asked elsewhere %d times, want %d", n, c.elsewhere)
			}
		})
	}
}

// A replica that isn't ready gets no requests until it is; one that ends gets none
// at once, before anybody has asked it.
func TestReplicaIsPassedOver(t *testing.T) {
	t.Parallel()
	one, two := newCopy(t), newCopy(t)
	shop := shopOf(t, one, two)
	passedOver := func() bool {
		before := one.asked.Load()
		for range 4 {
			placeAt(t, shop, "")
		}
		return one.asked.Load() == before
	}
	one.ready.Store(false)
	until(t, "one that isn't ready is passed over", passedOver)
	one.ready.Store(true)
	until(t, "it is asked again", func() bool { return !passedOver() })

	one.answers(func(w http.ResponseWriter, _ *http.Request) {
		one.ready.Store(false)
		w.Header().Set("Connection", "close")
	})
	until(t, "it was asked", func() bool {
		before := one.asked.Load()
		placeAt(t, shop, "")
		return one.asked.Load() > before
	})
	if !passedOver() {
		t.Error("one that ends is still asked")
	}
	two.ready.Store(false)
	two.server.Close()
	if status := placeAt(t, shop, ""); status != http.StatusOK {
		t.Errorf("with none that is ready: status %d, want 200 from the one that serves all the same", status)
	}
}

// A 503 is the answer, whoever else might give another.
func TestAnswerIsPassedOn(t *testing.T) {
	t.Parallel()
	one, two := newCopy(t), newCopy(t)
	for _, c := range []*copyOfOrders{one, two} {
		c.answers(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
	}
	if status := placeAt(t, shopOf(t, one, two), "k"); status != http.StatusServiceUnavailable {
		t.Errorf("status %d, want 503", status)
	}
	if n := one.asked.Load() + two.asked.Load(); n != 1 {
		t.Errorf("asked %d times, want once", n)
	}
}

// A name stands for all its addresses: localhost does, of both families where
// there are two.
func TestNameIsLookedUp(t *testing.T) {
	t.Parallel()
	one := newCopy(t)
	_, port, err := net.SplitHostPort(one.server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	shop := shopAt(t, "http://localhost:"+port)
	for range 4 {
		if status := placeAt(t, shop, ""); status != http.StatusOK {
			t.Errorf("status %d, want 200", status)
		}
	}
}

func TestAddressMayHaveNoPath(t *testing.T) {
	t.Parallel()
	_, err := console.New(console.Config{OrdersURLs: []string{"http://127.0.0.1:1/api"}}, slog.New(slog.DiscardHandler))
	if err == nil {
		t.Error("an address with a path: got no error")
	}
}

func TestBodyTooLargeIs413(t *testing.T) {
	t.Parallel()
	one := newCopy(t)
	res, err := once.Post(shopOf(t, one)+"/v1/orders", "application/json", strings.NewReader(strings.Repeat("x", 1<<20+1)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, res.Body); errors.Join(err, res.Body.Close()) != nil {
		t.Fatal(err)
	}
	if res.StatusCode != http.StatusRequestEntityTooLarge || one.asked.Load() != 0 {
		t.Errorf("status %d, the service asked %d times; want 413, 0", res.StatusCode, one.asked.Load())
	}
}
