package console_test

import (
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"

	"example.com/orderflow/services/internal/console"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// front returns a console before a service that tells which path it was asked
// for, and is ready when ready says so.
func front(t *testing.T, ready *atomic.Bool) *httptest.Server {
	t.Helper()
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/readyz" && !ready.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("X-Path", r.URL.RequestURI())
	}))
	t.Cleanup(service.Close)
	away := httptest.NewServer(http.NotFoundHandler())
	away.Close()
	c, err := console.New(console.Config{
		OrdersURLs: []string{service.URL}, PaymentsURLs: []string{away.URL}, InventoryURLs: []string{service.URL}, NotificationsURLs: []string{service.URL},
	}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	s := httptest.NewServer(c)
	t.Cleanup(s.Close)
	return s
}

// once keeps no connection: tests that run side by side can't close each other's.
var once = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}

func get(t *testing.T, url string) (*http.Response, string) {
	t.Helper()
	res, err := once.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	if err := res.Body.Close(); err != nil {
		t.Fatal(err)
	}
	return res, string(body)
}

func TestRequestsReachTheService(t *testing.T) {
	t.Parallel()
	s := front(t, new(atomic.Bool))
	for _, path := range []string{"/v1/orders", "/v1/orders/1/cancel", "/v1/availability?sku=A,B", "/v1/products", "/v1/notifications?order_id=1", "/v1/shipments/1", "/v1/stock-moves?sku=A"} {
		if res, _ := get(t, s.URL+path); res.StatusCode != http.StatusOK || res.Header.Get("X-Path") != path {
			t.Errorf("GET %s: got %d from %q, want 200 from the service's own path", path, res.StatusCode, res.Header.Get("X-Path"))
		}
	}
}

func TestAServiceThatIsAwayIs503(t *testing.T) {
	t.Parallel()
	s := front(t, new(atomic.Bool))
	res, body := get(t, s.URL+"/v1/payments?order_id=1")
	var problem struct{ Type string }
	err := json.Unmarshal([]byte(body), &problem)
	if res.StatusCode != http.StatusServiceUnavailable || res.Header.Get("Retry-After") == "" || err != nil || !strings.HasSuffix(problem.Type, "/unavailable") {
		t.Errorf("got %d %q, want a 503 problem with Retry-After", res.StatusCode, body)
	}
}

func TestReadyWhenOrdersIs(t *testing.T) {
	t.Parallel()
	var ready atomic.Bool
	s := front(t, &ready)
	if res, _ := get(t, s.URL+"/readyz"); res.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("before: got %d, want 503", res.StatusCode)
	}
	ready.Store(true)
	if res, _ := get(t, s.URL+"/readyz"); res.StatusCode != http.StatusOK {
		t.Errorf("after: got %d, want 200", res.StatusCode)
	}
}

func TestThePageSaysWhatToType(t *testing.T) {
	t.Parallel()
	s := front(t, new(atomic.Bool))
	res, body := get(t, s.URL+"/")
	if res.StatusCode != http.StatusOK || !strings.Contains(body, "curl -i "+s.URL+"/v1/orders") {
		t.Errorf("got %d and a page without a command for this address", res.StatusCode)
	}
	if res, _ := get(t, s.URL+"/nowhere"); res.StatusCode != http.StatusNotFound {
		t.Errorf("unknown path: got %d, want 404", res.StatusCode)
	}
}
