package inventory

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caarlos0/env/v11"

	"example.com/orderflow/messaging/contracts"
	"example.com/orderflow/messaging/httpapi"
	"example.com/orderflow/messaging/messagingtest"
)

// call sends a request to f's routes and returns status and body.
func (f fixture) call(t *testing.T, request, body string) (int, []byte) {
	t.Helper()
	mux := httpapi.NewMux(messagingtest.Log(t))
	f.service.Routes(mux)
	method, path, _ := strings.Cut(request, " ")
	r := httptest.NewRequestWithContext(t.Context(), method, path, strings.NewReader(body))
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	r.Header.Set("X-Role", "operator")
	r.Header.Set("X-Customer-Id", "ines")
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, r)
	return w.Code, w.Body.Bytes()
}

// expect is call for an answer with status and a body that is a T.
func expect[T any](t *testing.T, f fixture, status int, request, body string) T {
	t.Helper()
	got, answer := f.call(t, request, body)
	if got != status {
		t.Fatalf("%s: status %d, want %d: %s", request, got, status, answer)
	}
	var v T
	if err := json.Unmarshal(answer, &v); err != nil {
		t.Fatalf("%s: answer %s: %v", request, answer, err)
	}
	return v
}

func TestProductsAreListedWithWhatIsAvailable(t *testing.T) {
	t.Parallel()
	f := running(t, byHand())
	f.handled(t, "done", newOrder().reserve("A-1", 40))
	got := expect[productList](t, f, http.StatusOK, "GET /v1/products", "")
	want := []Product{
		{SKU: "A-1", Name: "Mug", PriceMinor: 1000, Currency: "EUR", Available: 60},
		{SKU: "B-1", Name: "Pot", PriceMinor: 2000, Currency: "EUR", Available: 100},
		{SKU: "C-1", Name: "Bowl", PriceMinor: 3000, Currency: "EUR", Available: 3},
		{SKU: "D-1", Name: "Set", PriceMinor: 4000, Currency: "EUR", Available: 0},
	}
	if !slices.Equal(got.Products, want) {
		t.Errorf("products %+v, want %+v", got.Products, want)
	}
}

func TestEmptyCatalogueIsAnEmptyList(t *testing.T) {
	t.Parallel()
	cfg := byHand()
	cfg.Seed = true
	f := newFixture(t, cfg) // not running: nothing is seeded
	_, answer := f.call(t, "GET /v1/products", "")
	if got, want := strings.TrimSpace(string(answer)), `{"products":[]}`; got != want {
		t.Errorf("answer %s, want %s", got, want)
	}
}

func TestRestockedProductCanBeReservedAgain(t *testing.T) {
	t.Parallel()
	f := running(t, byHand())
	got := expect[Product](t, f, http.StatusOK, "POST /v1/products/D-1/restock", `{"quantity":7}`)
	if want := (Product{SKU: "D-1", Name: "Set", PriceMinor: 4000, Currency: "EUR", Available: 7}); got != want {
		t.Errorf("answer %+v, want %+v", got, want)
	}
	msgs := f.said(t, contracts.KindStockLevelChanged)
	if got, want := messagingtest.As[contracts.StockLevelChanged](t, msgs[0]), (contracts.StockLevelChanged{SKU: "D-1", Available: 7}); got != want {
		t.Errorf("said %+v, want %+v", got, want)
	}
	f.handled(t, "done", newOrder().reserve("D-1", 5))
	f.said(t, contracts.KindStockReserved)
	f.addsUp(t)
}

func TestBadRestocksChangeNothing(t *testing.T) {
	t.Parallel()
	f := newFixture(t, byHand())
	tests := []struct {
		name, request, body string
		status              int
		code                string
	}{
		{"nothing", "POST /v1/products/A-1/restock", `{"quantity":0}`, 422, "validation"},
		{"less than nothing", "POST /v1/products/A-1/restock", `{"quantity":-5}`, 422, "validation"},
		{"more than a million", "POST /v1/products/A-1/restock", `{"quantity":1000001}`, 422, "validation"},
		{"no quantity", "POST /v1/products/A-1/restock", `{}`, 422, "validation"},
		{"a fraction", "POST /v1/products/A-1/restock", `{"quantity":1.5}`, 422, "validation"},
		{"no body", "POST /v1/products/A-1/restock", ``, 415, "unsupported-media-type"},
		{"unknown product", "POST /v1/products/NOPE-1/restock", `{"quantity":1}`, 404, "not-found"},
		{"product out of form", "POST /v1/products/a%00b/restock", `{"quantity":1}`, 404, "not-found"},
	}
	for _, tt := range tests {
		p := expect[httpapi.Problem](t, f, tt.status, tt.request, tt.body)
		if p.Code() != tt.code {
			t.Errorf("%s: problem %s, want %s", tt.name, p.Code(), tt.code)
		}
	}
	f.said(t)
	if got, want := f.stock(t, "A-1"), (levels{100, 0, 0}); got != want {
		t.Errorf("stock of A-1 %+v, want %+v", got, want)
	}
}

func TestOperatorDoesTheStepsOfAManualWarehouse(t *testing.T) {
	t.Parallel()
	f := running(t, byHand())
	o := newOrder()
	path := "/v1/shipments/" + o.id
	refused := func(step string) {
		t.Helper()
		if p := expect[httpapi.Problem](t, f, http.StatusConflict, "POST "+path+"/"+step, ""); p.Code() != "illegal-state" {
			t.Errorf("%s: problem %s, want illegal-state", step, p.Code())
		}
	}
	done := func(step string, status Status, awaits []string, said ...string) shipment {
		t.Helper()
		got := expect[shipment](t, f, http.StatusOK, "POST "+path+"/"+step, "")
		if got.Status != status || !slices.Equal(got.Awaits, awaits) {
			t.Errorf("%s: %q, awaits %q, want %q, awaits %q", step, got.Status, got.Awaits, status, awaits)
		}
		f.said(t, said...)
		return got
	}
	expect[httpapi.Problem](t, f, http.StatusNotFound, "GET "+path, "")
	f.handled(t, "done", o.reserve("A-1", 2))
	f.said(t, contracts.KindStockReserved)
	refused("pack")
	f.handled(t, "done", o.fulfil())
	f.said(t, contracts.KindFulfilmentStarted)
	refused("dispatch")
	done("pack", Packed, nil, contracts.KindShipmentPacked)
	refused("pack")
	refused("dispatch") // not asked for yet
	f.handled(t, "done", o.dispatch())
	f.said(t)
	if got := expect[shipment](t, f, http.StatusOK, "GET "+path, ""); !slices.Equal(got.Awaits, []string{"dispatch"}) || got.Status != Packed {
		t.Errorf("shipment %+v, want packed and waiting for dispatch", got)
	}
	got := done("dispatch", Shipped, []string{"deliver", "lose"}, contracts.KindShipmentDispatched)
	if got.Tracking != tracking(o.reservation) {
		t.Errorf("tracking %q, want %q", got.Tracking, tracking(o.reservation))
	}
	refused("dispatch")
	done("deliver", Delivered, nil, contracts.KindShipmentDelivered)
	refused("deliver")
	refused("lose")
	if got, want := f.stock(t, "A-1"), (levels{98, 0, 2}); got != want {
		t.Errorf("stock of A-1 %+v, want %+v", got, want)
	}
	f.addsUp(t)
}

func TestShipmentsOfNoOrder(t *testing.T) {
	t.Parallel()
	f := newFixture(t, byHand())
	for _, request := range []string{
		"GET /v1/shipments/" + oid, "GET /v1/shipments/nonsense", "GET /v1/shipments/urn:uuid:" + oid,
		"POST /v1/shipments/" + oid + "/pack", "POST /v1/shipments/..%2f..%2f/pack",
		"POST /v1/shipments/" + oid + "/lose", "POST /v1/shipments/" + oid + "/returns/" + rid + "/receive", "POST /v1/shipments/" + oid + "/returns/1/receive",
	} {
		if p := expect[httpapi.Problem](t, f, http.StatusNotFound, request, ""); p.Code() != "not-found" {
			t.Errorf("%s: problem %s, want not-found", request, p.Code())
		}
	}
}

func TestConfigurationIsChecked(t *testing.T) {
	t.Parallel()
	for _, cfg := range []Config{
		{}, {Warehouse: "robots"}, {Warehouse: "auto", PickDelay: -1},
		{Warehouse: "auto", Short: map[string]int{"MUG-01": 0}}, {Warehouse: "auto", Short: map[string]int{"mug": 1}}, {Warehouse: "auto", Loses: []string{"MUG-01", ""}},
	} {
		if _, err := New(cfg, nil, nil, messagingtest.Log(t)); err == nil {
			t.Errorf("configuration %+v is taken", cfg)
		}
	}
}

func TestConfigurationIsReadFromTheEnvironment(t *testing.T) {
	t.Parallel()
	cfg, err := env.ParseAsWithOptions[Config](env.Options{Environment: map[string]string{
		"INVENTORY_SHORT": "MUG-02=1,POT-01=20", "INVENTORY_LOSES": "SET-01,BOWL-01", "INVENTORY_RETURN_DELAY": "2s",
	}})
	if err != nil {
		t.Fatalf("read: %v", err)
	}
	want := Config{
		Warehouse: "auto", PickDelay: 300 * time.Millisecond, DispatchDelay: 200 * time.Millisecond, DeliveryDelay: 500 * time.Millisecond, ReturnDelay: 2 * time.Second,
		Short: map[string]int{"MUG-02": 1, "POT-01": 20}, Loses: []string{"SET-01", "BOWL-01"}, Seed: true,
	}
	if !reflect.DeepEqual(cfg, want) {
		t.Errorf("read %+v, want %+v", cfg, want)
	}
}
