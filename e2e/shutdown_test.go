package e2e

import (
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestShutdown ends every service under load as an operator does and starts it
// again: each ends with code 0 in time, no client is refused for good. It stays away
// for long enough to be forgotten by the console, which reaches it all the same once
// it is ready.
func TestShutdown(t *testing.T) {
	t.Parallel()
	s := NewStack(t)
	rounds, pause := scaled(1, 3), scaled(1200*time.Millisecond, 2*time.Second)
	c := NewCustomer(t, s.URL)
	known := "?order_id=" + c.Place(t, wish("FILTER-01", "tok_ok")).ID
	shows := map[string]string{"orders": "/v1/orders", "inventory": "/v1/products", "payments": "/v1/payments" + known, "notifications": "/v1/notifications" + known}
	load := s.Load(t, scaled(6, 20), time.Duration(rounds*len(services))*(pause+800*time.Millisecond))
	for range rounds {
		for _, name := range services {
			took := s.Terminate(t, name)
			t.Logf("%-13s ended %s after SIGTERM (to reach: %s)", name, took.Round(time.Millisecond), stopLimit)
			time.Sleep(pause)
			s.Launch(t, name)
			s.WaitReady(t, name)
			if path := shows[name]; path != "" {
				Must[any](t, c, http.StatusOK, http.MethodGet, path, nil)
			}
		}
	}
	result := load.Wait(t)
	t.Logf("load: %d orders, p50 %.0f ms, p99 %.0f ms", result.Placed, result.P50, result.P99)
	CheckShop(t, s.DSN("", ""))
	CheckLoad(t, s.Admin, result)
}

// silentLimit is well under the 5 s for which net/http takes a connection for a
// busy one that has said nothing.
const silentLimit = 3 * time.Second

// TestSilentConnection has a client connect to every service and say nothing, as
// clients do that open a connection ahead of need: it must not hold up the end.
func TestSilentConnection(t *testing.T) {
	t.Parallel()
	s := NewStack(t)
	for _, name := range services {
		base := s.Reach(first(name))
		c, err := net.Dial("tcp", strings.TrimPrefix(base, "http://"))
		if err != nil {
			t.Fatalf("connect to %s: %v", name, err)
		}
		// Connections are accepted in turn: once another one is answered, this one is known.
		Must[any](t, NewCustomer(t, base), http.StatusOK, http.MethodGet, "/healthz", nil)
		took := s.Terminate(t, name)
		t.Logf("%-13s ended %s after SIGTERM", name, took.Round(time.Millisecond))
		if took > silentLimit {
			t.Errorf("%s took %s to end while a client was silent, want %s at most", name, took, silentLimit)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
}
