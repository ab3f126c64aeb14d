package orders

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"example.com/orderflow/messaging"
	"example.com/orderflow/messaging/contracts"
	"example.com/orderflow/messaging/httpapi"
	"example.com/orderflow/messaging/messagingtest"
)

// warehouse is what these tests need of inventory: its queue and its kind.
func warehouse() messaging.Spec {
	return messaging.Spec{
		Name:       "inventory",
		Queues:     []messaging.Queue{{Name: "inventory", Kinds: []string{contracts.KindCheckAvailability}}},
		Migrations: fstest.MapFS{"migrations/0001_nothing.sql": {Data: []byte("-- +goose Up\nSELECT 1;\n")}},
	}
}

// asking is a shop with a relay and a warehouse beside it that isn't running.
func asking(t *testing.T, patience time.Duration) *shop {
	t.Helper()
	cfg := testConfig()
	cfg.AvailabilityDeadline = patience
	db := messagingtest.NewDB(t, Spec(), warehouse())
	bus := db.NewBus(t, Spec(), func(c *messaging.Config) { c.WithoutRelay = false })
	svc, err := New(cfg, db.Service(service), bus, messagingtest.Log(t))
	if err != nil {
		t.Fatal(err)
	}
	s := &shop{t: t, db: db, svc: svc, mux: httpapi.NewMux(messagingtest.Log(t))}
	svc.Routes(s.mux)
	messagingtest.Run(t, bus)
	return s
}

// opens runs the warehouse, which has four pieces of MUG-01 and nothing else.
func (s *shop) opens() {
	b := s.db.NewBus(s.t, warehouse(), func(c *messaging.Config) { c.WithoutRelay = false })
	messaging.Answer(b, func(_ context.Context, _ *messaging.Tx, m contracts.CheckAvailability) (contracts.Availability, error) {
		a := contracts.Availability{Products: []contracts.AvailableProduct{}, Unknown: []string{}}
		for _, sku := range m.SKUs {
			if sku == "MUG-01" {
				a.Products = append(a.Products, contracts.AvailableProduct{SKU: sku, Available: 4})
			} else {
				a.Unknown = append(a.Unknown, sku)
			}
		}
		return a, nil
	})
	messagingtest.Run(s.t, b)
}

func TestAvailability(t *testing.T) {
	t.Parallel()
	s := asking(t, 20*time.Second)
	s.opens()
	begun := time.Now()
	w := httptest.NewRecorder()
	s.mux.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "GET", "/v1/availability?sku=NOPE-01,MUG-01", nil))
	t.Logf("answered after %s", time.Since(begun))
	if want := `{"products":[{"sku":"MUG-01","available":4}],"unknown":["NOPE-01"]}` + "\n"; w.Code != http.StatusOK || w.Body.String() != want {
		t.Errorf("got %d %s, want 200 %s", w.Code, w.Body, want)
	}
	for _, query := range []string{"", "?sku=", "?sku=mug-01", "?sku=MUG-01,MUG-01", "?skus=MUG-01"} {
		if got := s.do("GET", "/v1/availability"+query, ""); got.Code != http.StatusBadRequest || got.code() != "invalid-parameter" {
			t.Errorf("%q: got %d %s, want 400 invalid-parameter", query, got.Code, got.code())
		}
	}
}

// While inventory is away the answer is 503 at the deadline; the late request is
// acknowledged unanswered when it is back.
func TestAvailabilityWithoutInventory(t *testing.T) {
	t.Parallel()
	const patience = 200 * time.Millisecond
	s := asking(t, patience)
	messagingtest.Wait(t, "a request that is late", func() bool { // on a busy machine the first may not even be sent in time
		begun := time.Now()
		got := s.do("GET", "/v1/availability?sku=MUG-01", "")
		took := time.Since(begun)
		t.Logf("gave up after %s", took)
		if got.Code != http.StatusServiceUnavailable || got.code() != "unavailable" || got.Header().Get("Retry-After") == "" {
			t.Fatalf("inventory away: got %d %s, want 503 unavailable with Retry-After", got.Code, got.Body)
		}
		if took < patience || took > 10*patience {
			t.Fatalf("inventory away: answered after %s, want %s", took, patience)
		}
		return s.count(`SELECT count(*) FROM messaging.queue_inventory WHERE occurred_at < clock_timestamp() - $1::interval`, patience.String()) > 0
	})
	s.opens()
	messagingtest.Wait(t, "the late request's trace", func() bool {
		return s.count(`SELECT count(*) FROM messaging.inbox_inventory WHERE outcome = 'ignored' AND note = 'deadline passed'`) > 0
	})
	messagingtest.Wait(t, "nothing to be left of late requests", func() bool {
		return s.count(`SELECT count(*) FROM messaging.queue_inventory`)+s.count(`SELECT count(*) FROM messaging.outbox_orders`) == 0
	})
	if n := s.count(`SELECT count(*) FROM messaging.replies_orders`) + s.count(`SELECT count(*) FROM messaging.inbox_inventory WHERE outcome <> 'ignored'`); n != 0 {
		t.Errorf("late requests that were answered: got %d, want 0", n)
	}
}

// What is asked of inventory is what its contract says.
func TestAvailabilityAsksByTheContract(t *testing.T) {
	t.Parallel()
	s := newShop(t, func(c *Config) { c.AvailabilityDeadline = 20 * time.Second })
	ctx, leave := context.WithCancel(t.Context())
	var asking sync.WaitGroup
	asking.Go(func() {
		s.mux.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(ctx, "GET", "/v1/availability?sku=TEA-01,MUG-01", nil))
	})
	messagingtest.Wait(t, "the request in the outbox", func() bool { return s.count(`SELECT count(*) FROM messaging.outbox_orders`) == 1 })
	leave()
	asking.Wait()
	sent := s.db.Published(t, service)
	if len(sent) != 1 || sent[0].Class != messaging.Express {
		t.Fatalf("sent %+v, want one message of class express", sent)
	}
	got, err := json.Marshal(messagingtest.As[contracts.CheckAvailability](t, sent[0]))
	if want := `{"skus":["TEA-01","MUG-01"]}`; err != nil || string(got) != want {
		t.Errorf("asked %s, %v; want %s", got, err, want)
	}
}
