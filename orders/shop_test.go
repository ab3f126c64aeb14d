package orders

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"example.com/orderflow/messaging"
	"example.com/orderflow/messaging/contracts"
	"example.com/orderflow/messaging/httpapi"
	"example.com/orderflow/messaging/messagingtest"
)

// shop is a running orders service on a database of its own. What it publishes
// stays in its outbox: the test plays the other services.
type shop struct {
	t   *testing.T
	db  *messagingtest.DB
	svc *Service
	mux *httpapi.Mux
}

func newShop(t *testing.T, changes ...func(*Config)) *shop {
	t.Helper()
	s := newIdleShop(t, changes...)
	messagingtest.Run(t, s.svc.bus)
	return s
}

// newIdleShop is a shop that answers over HTTP, but whose handlers and deadlines
// don't run.
func newIdleShop(t *testing.T, changes ...func(*Config)) *shop {
	t.Helper()
	cfg := testConfig()
	for _, change := range changes {
		change(&cfg)
	}
	db := messagingtest.NewDB(t, Spec())
	bus := db.NewBus(t, Spec())
	svc, err := New(cfg, db.Service(service), bus, messagingtest.Log(t))
	if err != nil {
		t.Fatal(err)
	}
	s := &shop{t: t, db: db, svc: svc, mux: httpapi.NewMux(messagingtest.Log(t))}
	svc.Routes(s.mux)
	return s
}

// stocked is a shop that knows products: MUG-01 (10.00 EUR), TEA-01 (5.00 EUR),
// PEN-USD in dollars, OLD-01 that isn't sold any more and one that nobody can pay.
func stocked(t *testing.T, changes ...func(*Config)) *shop {
	t.Helper()
	s := newShop(t, changes...)
	for _, p := range catalogue {
		s.deliver("done", p)
	}
	return s
}

var catalogue = []contracts.ProductChanged{
	{SKU: "MUG-01", Name: "Mug", PriceMinor: 1000, Currency: "EUR", Active: true},
	{SKU: "TEA-01", Name: "Tea", PriceMinor: 500, Currency: "EUR", Active: true},
	{SKU: "PEN-USD", Name: "Pen", PriceMinor: 300, Currency: "USD", Active: true},
	{SKU: "OLD-01", Name: "Old", PriceMinor: 100, Currency: "EUR", Active: false},
	{SKU: "YACHT-01", Name: "Yacht", PriceMinor: 1_000_000_000, Currency: "EUR", Active: true},
}

// stockedIdle is an idle shop that knows the same products.
func stockedIdle(t *testing.T) *shop {
	t.Helper()
	s := newIdleShop(t)
	s.inTx(func(ctx context.Context, tx *messaging.Tx) error {
		for _, p := range catalogue {
			upsertProduct(tx, p, noon)
		}
		return nil
	})
	return s
}

// inTx runs f in a transaction of the service.
func (s *shop) inTx(f func(context.Context, *messaging.Tx) error) {
	s.t.Helper()
	if err := s.svc.bus.InTx(s.t.Context(), f); err != nil {
		s.t.Fatal(err)
	}
}

// waitForLock waits until somebody in the test's database waits for a lock.
func (s *shop) waitForLock() {
	s.t.Helper()
	messagingtest.Wait(s.t, "somebody to wait for a lock", func() bool {
		return s.count(`SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`) > 0
	})
}

// deliver hands bodies to the service and expects the same outcome of each.
func (s *shop) deliver(want string, bodies ...messaging.Body) {
	s.t.Helper()
	for i, got := range s.db.Deliver(s.t, bodies...) {
		if got != want {
			s.t.Fatalf("%s: got outcome %q, want %q", bodies[i].Kind(), got, want)
		}
	}
}

// reply is what the service answered over HTTP.
type reply struct {
	*httptest.ResponseRecorder
	doc     document // of an order
	problem httpapi.Problem
}

// code is the last part of the problem's type.
func (r reply) code() string { return r.problem.Code() }

// do sends a request; headers are pairs.
func (s *shop) do(method, path, body string, headers ...string) reply {
	s.t.Helper()
	r := httptest.NewRequestWithContext(s.t.Context(), method, path, strings.NewReader(body))
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	got := reply{ResponseRecorder: httptest.NewRecorder()}
	s.mux.ServeHTTP(got.ResponseRecorder, r)
	var into any = &got.doc
	if got.Header().Get("Content-Type") == "application/problem+json" {
		into = &got.problem
	}
	if err := json.Unmarshal(got.Body.Bytes(), into); err != nil {
		s.t.Errorf("%s %s: answer is no JSON: %v: %s", method, path, err, got.Body)
	}
	return got
}

// must is do that expects a status.
func (s *shop) must(status int, method, path, body string, headers ...string) reply {
	s.t.Helper()
	got := s.do(method, path, body, headers...)
	if got.Code != status {
		s.t.Fatalf("%s %s: got %d, want %d: %s", method, path, got.Code, status, got.Body)
	}
	return got
}

// refused is a request about an order that must be refused.
type refused struct {
	name, order, what, body string // POST /v1/orders/{order}/{what}
	headers                 []string
	status                  int
	code, pointer           string // pointer "" = any
}

// refuses expects all of list.
func (s *shop) refuses(t *testing.T, list []refused) {
	t.Helper()
	for _, tt := range list {
		t.Run(tt.name, func(t *testing.T) {
			got := s.do("POST", "/v1/orders/"+tt.order+"/"+tt.what, tt.body, tt.headers...)
			if got.Code != tt.status || got.code() != tt.code {
				t.Fatalf("got %d %s, want %d %s: %s", got.Code, got.code(), tt.status, tt.code, got.Body)
			}
			if tt.pointer != "" && (len(got.problem.Errors) == 0 || got.problem.Errors[0].Pointer != tt.pointer) {
				t.Errorf("errors: got %v, want the first at %s", got.problem.Errors, tt.pointer)
			}
		})
	}
}

const basket = `{"currency":"EUR","lines":[{"sku":"MUG-01","quantity":2},{"sku":"TEA-01","quantity":1}],` +
	`"customer":{"name":"Ada Lovelace","email":"ada@example.com","address":"1 Main Street"},"payment_token":"tok_ok"}`

// place places the basket under key and returns the order's id.
func (s *shop) place(key string) string {
	s.t.Helper()
	return s.must(http.StatusAccepted, "POST", "/v1/orders", basket, "Idempotency-Key", key).doc.ID
}

// row is the stored order with its lines.
func (s *shop) row(id string) Order {
	s.t.Helper()
	var o lockedOrder
	err := s.db.Admin.Get(&o, `
		SELECT `+decidingColumns+`, `+lineList+` AS lines, `+returnList+` AS returns, `+refundList+` AS refunds
		  FROM orders.orders o WHERE o.id = $1`, id)
	if err != nil {
		s.t.Fatalf("read order %s: %v", id, err)
	}
	return o.Order
}

// wants checks the status, and the kinds published since the last look.
func (s *shop) wants(id string, status Status, kinds ...string) []messaging.Message {
	s.t.Helper()
	if got := s.row(id).Status; got != status {
		s.t.Errorf("status of order %s: got %s, want %s", id, got, status)
	}
	messages := s.db.Published(s.t, service)
	if got := messagingtest.Kinds(messages); !slices.Equal(got, kinds) {
		s.t.Errorf("published when %s:\n got %v\nwant %v", status, got, kinds)
	}
	return messages
}

// bring has the other services say, and the customer do, what brings a placed
// order to status.
func (s *shop) bring(id string, status Status) {
	s.t.Helper()
	way := map[Status]string{
		Placed: contracts.KindStockReserved, Authorizing: contracts.KindPaymentAuthorized, Confirmed: contracts.KindFulfilmentStarted,
		Fulfilling: contracts.KindShipmentPacked, Capturing: contracts.KindPaymentCaptured,
		Dispatching: contracts.KindShipmentDispatched, Shipped: contracts.KindShipmentDelivered,
	}
	for {
		o := s.row(id)
		if o.Status == status {
			break
		}
		switch {
		case o.Status == Fulfilling && status == Stopping:
			s.must(http.StatusAccepted, "POST", "/v1/orders/"+id+"/cancel", "")
		case o.Status == Shipped && status == Refunding:
			s.deliver("done", says(contracts.KindShipmentLost, o).Body)
		case way[o.Status] == "":
			s.t.Fatalf("bring order %s to %s: no way from %s", id, status, o.Status)
		default:
			s.deliver("done", says(way[o.Status], o).Body)
		}
	}
	s.db.Published(s.t, service)
}

// checkHistory checks that the history of an order is contiguous and chained,
// and that its last row is the order.
func (s *shop) checkHistory(id string, want ...Status) {
	s.t.Helper()
	var rows []struct {
		Version int       `db:"version"`
		From    Status    `db:"from_status"`
		Status  Status    `db:"status"`
		At      time.Time `db:"at"`
	}
	err := s.db.Admin.Select(&rows, `SELECT version, from_status, status, at FROM orders.history WHERE order_id = $1 ORDER BY version`, id)
	if err != nil {
		s.t.Fatalf("read the history of order %s: %v", id, err)
	}
	before, got := Unplaced, []Status{}
	for i, r := range rows {
		if r.Version != i+1 || r.From != before || i > 0 && r.At.Before(rows[i-1].At) {
			s.t.Errorf("history row %d of order %s: got %+v after %s", i+1, id, r, before)
		}
		before = r.Status
		got = append(got, r.Status)
	}
	if !slices.Equal(got, want) {
		s.t.Errorf("history of order %s:\n got %v\nwant %v", id, got, want)
	}
	if o := s.row(id); o.Status != before || o.Version != len(rows) {
		s.t.Errorf("order %s: got %s, version %d; want as its last history row, %s, version %d", id, o.Status, o.Version, before, len(rows))
	}
}

// advance moves the shop's clock.
func (s *shop) advance(by time.Duration) {
	s.t.Helper()
	_, err := s.db.Admin.Exec(`UPDATE messaging.clock SET offset_by = offset_by + $1::interval`, fmt.Sprintf("%d milliseconds", by.Milliseconds()))
	if err != nil {
		s.t.Fatalf("move the clock: %v", err)
	}
}

// count is the number that a query gives.
func (s *shop) count(query string, args ...any) int {
	s.t.Helper()
	var n int
	if err := s.db.Admin.Get(&n, query, args...); err != nil {
		s.t.Fatalf("%s: %v", query, err)
	}
	return n
}
