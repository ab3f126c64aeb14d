package orders

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caarlos0/env/v11"

	"example.com/orderflow/messaging/contracts"
	"example.com/orderflow/messaging/messagingtest"
)

func TestPlaceAnswersTheOrder(t *testing.T) {
	t.Parallel()
	s := stocked(t)
	got := s.must(http.StatusAccepted, "POST", "/v1/orders", basket, "Idempotency-Key", "k")
	doc := got.doc
	if want := "/v1/orders/" + doc.ID; got.Header().Get("Location") != want {
		t.Errorf("Location: got %q, want %q", got.Header().Get("Location"), want)
	}
	if doc.Status != Placed || doc.TotalMinor != 2500 || doc.Currency != "EUR" || doc.Version != 1 || fmt.Sprint(doc.Next) != "[authorizing rejected compensating]" {
		t.Errorf("document: got %+v, want it placed for 2500 EUR", doc)
	}
	want := []lineDocument{{SKU: "MUG-01", Name: "Mug", Quantity: 2, UnitPriceMinor: 1000}, {SKU: "TEA-01", Name: "Tea", Quantity: 1, UnitPriceMinor: 500}}
	if !slices.Equal(doc.Lines, want) {
		t.Errorf("lines: got %v, want %v", doc.Lines, want)
	}
	if strings.Contains(got.Body.String(), "tok_ok") {
		t.Error("the answer shows the payment token")
	}
	// What was answered from memory is what is stored.
	stored := s.must(http.StatusOK, "GET", "/v1/orders/"+doc.ID, "")
	if got.Body.String() != stored.Body.String() {
		t.Errorf("read again:\n got %s\nwant %s", stored.Body, got.Body)
	}
}

func TestRefusedOrders(t *testing.T) {
	t.Parallel()
	s := stocked(t)
	with := func(old, new string) string { return strings.Replace(basket, old, new, 1) }
	for _, tt := range []struct {
		name, body string
		status     int
		code       string
		pointer    string
	}{
		{"truncated", basket[:40], 400, "malformed-json", ""},
		{"no lines", with(`{"sku":"MUG-01","quantity":2},{"sku":"TEA-01","quantity":1}`, ``), 422, "validation", "/lines"},
		{"one product in 100 lines", with(`{"sku":"MUG-01","quantity":2}`, strings.Repeat(`{"sku":"MUG-01","quantity":2},`, 98)+`{"sku":"MUG-01","quantity":2}`), 422, "duplicate-sku", "/lines/1/sku"},
		{"101 lines", with(`{"sku":"MUG-01","quantity":2}`, strings.Repeat(`{"sku":"MUG-01","quantity":2},`, 99)+`{"sku":"MUG-01","quantity":2}`), 422, "validation", "/lines"},
		{"quantity 0", with(`"quantity":2`, `"quantity":0`), 422, "validation", "/lines/0/quantity"},
		{"quantity 1001", with(`"quantity":2`, `"quantity":1001`), 422, "validation", "/lines/0/quantity"},
		{"quantity of half a mug", with(`"quantity":2`, `"quantity":1.5`), 422, "validation", "/lines/0/quantity"},
		{"the same product twice", with(`TEA-01`, `MUG-01`), 422, "duplicate-sku", "/lines/1/sku"},
		{"unknown product", with(`TEA-01`, `TEA-99`), 422, "unknown-sku", "/lines/1/sku"},
		{"no product that is known", with(`{"sku":"MUG-01","quantity":2},{"sku":"TEA-01","quantity":1}`, `{"sku":"TEA-99","quantity":1}`), 422, "unknown-sku", "/lines/0/sku"},
		{"discontinued product", with(`TEA-01`, `OLD-01`), 422, "unknown-sku", "/lines/1/sku"},
		{"SKU of a wrong form", with(`MUG-01`, `A'; DROP TABLE orders;--`), 422, "validation", "/lines/0/sku"},
		{"a product in dollars", with(`TEA-01`, `PEN-USD`), 422, "currency-mismatch", "/lines/1/sku"},
		{"another currency", with(`EUR`, `USD`), 422, "currency-mismatch", "/lines/0/sku"},
		{"no currency at all", with(`EUR`, `XXX`), 422, "validation", "/currency"},
		{"over the limit", with(`"MUG-01","quantity":2`, `"YACHT-01","quantity":1000`), 422, "order-limit-exceeded", ""},
		{"a price sent along", with(`"quantity":2`, `"quantity":2,"unit_price_minor":1`), 422, "validation", "/lines/0/unit_price_minor"},
		{"no token", with(`"payment_token":"tok_ok"`, `"note":""`), 422, "validation", "/payment_token"},
		{"blank name", with(`Ada Lovelace`, `   `), 422, "validation", "/customer/name"},
		{"bad e-mail", with(`ada@example.com`, `ada`), 422, "validation", "/customer/email"},
		{"allow_partial as a text", with(`"currency"`, `"allow_partial":"true","currency"`), 422, "validation", "/allow_partial"},
		{"unknown priority", with(`"currency"`, `"priority":"now","currency"`), 422, "validation", "/priority"},
		{"a card number as note", with(`"currency"`, `"note":"4111 1111 1111 1111","currency"`), 422, "card-data-not-accepted", "/note"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := s.do("POST", "/v1/orders", tt.body, "Idempotency-Key", "refused: "+tt.name)
			if got.Code != tt.status || got.code() != tt.code {
				t.Fatalf("got %d %s, want %d %s: %s", got.Code, got.code(), tt.status, tt.code, got.Body)
			}
			if tt.pointer != "" && (len(got.problem.Errors) == 0 || got.problem.Errors[0].Pointer != tt.pointer) {
				t.Errorf("errors: got %v, want the first at %s", got.problem.Errors, tt.pointer)
			}
		})
	}
	t.Cleanup(func() {
		if n := s.count(`SELECT count(*) FROM orders.orders`) + s.count(`SELECT count(*) FROM orders.idempotency_keys`) + s.count(`SELECT count(*) FROM messaging.outbox_orders`); n != 0 {
			t.Errorf("rows and messages after refusals: got %d, want 0", n)
		}
	})
}

func TestIdempotencyKey(t *testing.T) {
	t.Parallel()
	s := stocked(t)
	if got := s.do("POST", "/v1/orders", basket); got.Code != 400 || got.code() != "idempotency-key-missing" {
		t.Errorf("no key: got %d %s, want 400 idempotency-key-missing", got.Code, got.code())
	}
	wrong := strings.Replace(basket, "TEA-01", "TEA-99", 1)
	s.must(http.StatusUnprocessableEntity, "POST", "/v1/orders", wrong, "Idempotency-Key", "k")
	first := s.must(http.StatusAccepted, "POST", "/v1/orders", basket, "Idempotency-Key", "k")
	s.bring(first.doc.ID, Confirmed)

	var shuffled map[string]any
	if err := json.Unmarshal([]byte(basket), &shuffled); err != nil {
		t.Fatal(err)
	}
	same, err := json.MarshalIndent(shuffled, "", "   ") // other white space and member order
	if err != nil {
		t.Fatal(err)
	}
	for _, body := range []string{basket, string(same)} {
		again := s.must(http.StatusAccepted, "POST", "/v1/orders", body, "Idempotency-Key", "k", "Prefer", "wait=5")
		if again.Body.String() != first.Body.String() || again.Header().Get("Location") != first.Header().Get("Location") || again.Header().Get("Idempotency-Replayed") != "true" {
			t.Errorf("replay:\n got %s\nwant %s, marked as replayed", again.Body, first.Body)
		}
	}
	if got := s.do("POST", "/v1/orders", strings.Replace(basket, `"quantity":2`, `"quantity":3`, 1), "Idempotency-Key", "k"); got.Code != 422 || got.code() != "idempotency-key-reused" {
		t.Errorf("another body: got %d %s, want 422 idempotency-key-reused", got.Code, got.code())
	}
	other := s.must(http.StatusAccepted, "POST", "/v1/orders", basket, "Idempotency-Key", "k", "X-Customer-Id", "other")
	if other.doc.ID == first.doc.ID || other.Header().Get("Idempotency-Replayed") != "" {
		t.Error("another customer's same key: got the first one's order")
	}
	if n := s.count(`SELECT count(*) FROM orders.orders`); n != 2 {
		t.Errorf("orders: got %d, want 2", n)
	}
}

func TestParallelPostsWithOneKey(t *testing.T) {
	t.Parallel()
	s := stocked(t)
	const n = 50
	replies := make([]reply, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { replies[i] = s.do("POST", "/v1/orders", basket, "Idempotency-Key", "k") })
	}
	wg.Wait()
	created := 0
	ids := map[string]bool{}
	for _, r := range replies {
		switch {
		case r.Code == http.StatusAccepted:
			ids[r.doc.ID] = true
			if r.Header().Get("Idempotency-Replayed") == "" {
				created++
			}
		case r.Code == http.StatusConflict && r.code() == "idempotency-in-progress" && r.Header().Get("Retry-After") == "1":
		default:
			t.Errorf("got %d: %s", r.Code, r.Body)
		}
	}
	if created != 1 || len(ids) != 1 || s.count(`SELECT count(*) FROM orders.orders`) != 1 {
		t.Errorf("%d parallel posts: got %d answers of a first one, %d ids; want 1 order", n, created, len(ids))
	}
	s.wants(s.place("k"), Placed, contracts.KindReserveStock, contracts.KindOrderPlaced, changed)
}

func TestKeyInProgress(t *testing.T) {
	t.Parallel()
	s := stocked(t)
	first, err := s.db.Admin.Beginx()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := first.Exec(`SELECT pg_advisory_xact_lock(hashtextextended('demo' || chr(31) || 'k', 0))`); err != nil {
		t.Fatal(errors.Join(err, first.Rollback()))
	}
	got := s.do("POST", "/v1/orders", basket, "Idempotency-Key", "k")
	if got.Code != 409 || got.code() != "idempotency-in-progress" || got.Header().Get("Retry-After") != "1" {
		t.Errorf("while the first is running: got %d %s, Retry-After %q; want 409 idempotency-in-progress, 1", got.Code, got.code(), got.Header().Get("Retry-After"))
	}
	if err := first.Rollback(); err != nil {
		t.Fatal(err)
	}
	s.place("k")
}

// TestKeyTakenAfterTheLook plays the one gap between the look at a key and its
// lock: the other request has written its answer and commits after the look.
func TestKeyTakenAfterTheLook(t *testing.T) {
	t.Parallel()
	s := stocked(t)
	first := s.must(http.StatusAccepted, "POST", "/v1/orders", basket, "Idempotency-Key", "first")
	other, err := s.db.Admin.Beginx()
	if err != nil {
		t.Fatal(err)
	}
	_, err = other.Exec(`
		INSERT INTO orders.idempotency_keys (caller, key, fingerprint, status, body, order_id, created_at)
		SELECT caller, 'k', fingerprint, status, body, order_id, created_at FROM orders.idempotency_keys`)
	if err != nil {
		t.Fatal(errors.Join(err, other.Rollback()))
	}
	done := make(chan reply, 1)
	go func() { done <- s.do("POST", "/v1/orders", basket, "Idempotency-Key", "k") }()
	s.waitForLock()
	if err := other.Commit(); err != nil {
		t.Fatal(err)
	}
	if got := <-done; got.Code != http.StatusAccepted || got.Body.String() != first.Body.String() || got.Header().Get("Idempotency-Replayed") != "true" {
		t.Errorf("got %d %s, want the other one's answer: %s", got.Code, got.Body, first.Body)
	}
	if n := s.count(`SELECT count(*) FROM orders.orders`); n != 1 {
		t.Errorf("orders: got %d, want 1", n)
	}
}

func TestPreferWait(t *testing.T) {
	t.Parallel()
	s := stocked(t)
	done := make(chan reply, 1)
	go func() { done <- s.do("POST", "/v1/orders", basket, "Idempotency-Key", "k", "Prefer", "wait=20") }()
	var id string
	messagingtest.Wait(t, "the order to be placed", func() bool { return s.db.Admin.Get(&id, `SELECT id FROM orders.orders`) == nil })
	s.bring(id, Confirmed)
	got := <-done
	if got.Code != http.StatusCreated || got.doc.Status != Confirmed {
		t.Fatalf("got %d: %s, want 201 with a confirmed order", got.Code, got.Body)
	}
	again := s.must(http.StatusCreated, "POST", "/v1/orders", basket, "Idempotency-Key", "k")
	if again.Body.String() != got.Body.String() {
		t.Errorf("replay:\n got %s\nwant %s", again.Body, got.Body)
	}
	late := s.must(http.StatusAccepted, "POST", "/v1/orders", basket, "Idempotency-Key", "late", "Prefer", "wait=1")
	if late.doc.Status != Placed {
		t.Errorf("no outcome in time: got %s, want placed", late.doc.Status)
	}
}

func TestCancel(t *testing.T) {
	t.Parallel()
	s := stocked(t)
	id := s.place("k")
	path := "/v1/orders/" + id + "/cancel"
	s.bring(id, Authorizing)
	if got := s.must(http.StatusAccepted, "POST", path, `{"reason":"changed my mind"}`); got.doc.Status != Compensating || fmt.Sprint(got.doc.Next) != "[cancelled needs_attention]" {
		t.Errorf("cancelled: got %s with next %v, want compensating with next [cancelled needs_attention]", got.doc.Status, got.doc.Next)
	}
	s.wants(id, Compensating, contracts.KindReleaseStock, contracts.KindVoidPayment, changed)
	s.must(http.StatusAccepted, "POST", path, "")
	s.wants(id, Compensating)
	s.deliver("done", says(contracts.KindStockReleased, s.row(id)).Body, says(contracts.KindPaymentVoided, s.row(id)).Body)
	s.wants(id, Cancelled, contracts.KindOrderCancelled, changed)
	if got := s.must(http.StatusOK, "POST", path, ""); got.doc.Status != Cancelled || got.doc.ReasonCode != "cancelled_by_customer" {
		t.Errorf("cancelled again: got %s because of %q, want cancelled, cancelled_by_customer", got.doc.Status, got.doc.ReasonCode)
	}
	s.wants(id, Cancelled)
	s.checkHistory(id, Placed, Authorizing, Compensating, Cancelled)
	if n := s.count(`SELECT count(*) FROM orders.history WHERE note = 'changed my mind' AND version = 3`); n != 1 {
		t.Errorf("history rows with the customer's words: got %d, want 1", n)
	}
}

func TestTooLateToCancelOrPay(t *testing.T) {
	t.Parallel()
	s := stocked(t)
	id := s.place("k")
	for _, status := range []Status{Placed, Authorizing, Confirmed, Fulfilling, Capturing, Dispatching, Shipped, Delivered} {
		s.bring(id, status)
		if got := s.do("POST", "/v1/orders/"+id+"/payment", `{"payment_token":"tok_ok"}`); got.Code != 409 || got.code() != "illegal-state" {
			t.Errorf("pay while %s: got %d %s, want 409 illegal-state", status, got.Code, got.code())
		}
		if status == Placed || status == Authorizing || status == Confirmed || status == Fulfilling {
			continue
		}
		got := s.do("POST", "/v1/orders/"+id+"/cancel", "")
		if got.Code != 409 || got.code() != "order-not-cancellable" {
			t.Errorf("cancel while %s: got %d %s, want 409 order-not-cancellable", status, got.Code, got.code())
		}
		link := ""
		if status == Shipped || status == Delivered {
			link = "</v1/orders/" + id + `/returns>; rel="related"`
		}
		if got := got.Header().Get("Link"); got != link {
			t.Errorf("cancel while %s: got Link %q, want %q", status, got, link)
		}
		s.wants(id, status)
	}
}

func TestOthersOrdersAreNotThere(t *testing.T) {
	t.Parallel()
	s := stocked(t)
	id := s.place("k")
	for _, id := range []string{id, orderID, "nonsense", "0198A000-0000-7000-8000-00000000000X"} {
		for _, r := range []struct{ method, path, body string }{
			{"GET", "/v1/orders/" + id, ""},
			{"POST", "/v1/orders/" + id + "/cancel", ""},
			{"POST", "/v1/orders/" + id + "/payment", `{"payment_token":"tok_ok"}`},
			{"POST", "/v1/orders/" + id + "/decision", `{"decision":"accept"}`},
			{"POST", "/v1/orders/" + id + "/returns", `{"lines":[{"sku":"MUG-01","quantity":1}]}`},
		} {
			if got := s.do(r.method, r.path, r.body, "X-Customer-Id", "other", "Idempotency-Key", "k"); got.Code != 404 || got.code() != "not-found" {
				t.Errorf("%s %s: got %d %s, want 404 not-found", r.method, r.path, got.Code, got.code())
			}
		}
	}
	if got := s.row(id).Status; got != Placed {
		t.Errorf("status: got %s, want placed", got)
	}
}

func TestList(t *testing.T) {
	t.Parallel()
	s := stocked(t)
	var ids []string
	for i := range 5 {
		ids = append([]string{s.place(fmt.Sprintf("k%d", i))}, ids...)
	}
	s.must(http.StatusAccepted, "POST", "/v1/orders", basket, "Idempotency-Key", "k0", "X-Customer-Id", "other")
	s.bring(ids[1], Confirmed)

	list := func(query string) (page orderList) {
		t.Helper()
		got := s.must(http.StatusOK, "GET", "/v1/orders"+query, "")
		if err := json.Unmarshal(got.Body.Bytes(), &page); err != nil {
			t.Fatal(err)
		}
		return page
	}
	var got []string
	pages := 0
	for query := "?limit=2"; query != ""; pages++ {
		page := list(query)
		for _, o := range page.Orders {
			got = append(got, o.ID)
		}
		query = ""
		if page.NextCursor != "" {
			query = "?limit=2&cursor=" + page.NextCursor
		}
	}
	if fmt.Sprint(got) != fmt.Sprint(ids) || pages != 3 {
		t.Errorf("all pages: got %v on %d pages, want %v on 3", got, pages, ids)
	}
	if page := list("?status=confirmed"); len(page.Orders) != 1 || page.Orders[0].ID != ids[1] || page.NextCursor != "" {
		t.Errorf("confirmed ones: got %+v, want only %s", page, ids[1])
	}
	if page := list("?status=shipped"); page.Orders == nil || len(page.Orders) != 0 {
		t.Errorf("shipped ones: got %#v, want an empty list", page.Orders)
	}
	for _, query := range []string{"?limit=0", "?limit=101", "?limit=abc", "?cursor=%21", "?cursor=e30", "?status=lost", "?colour=red"} {
		if got := s.do("GET", "/v1/orders"+query, ""); got.Code != 400 || got.code() != "invalid-parameter" {
			t.Errorf("%s: got %d %s, want 400 invalid-parameter", query, got.Code, got.code())
		}
	}
}

func TestConfig(t *testing.T) {
	t.Parallel()
	defaults, err := env.ParseAsWithOptions[Config](env.Options{Environment: map[string]string{}})
	if err != nil || defaults != testConfig() {
		t.Errorf("configuration of an empty environment:\n got %+v, error %v\nwant %+v", defaults, err, testConfig())
	}
	for _, tt := range []struct {
		name   string
		change func(*Config)
	}{
		{"no hold", func(c *Config) { c.Hold = 0 }},
		{"negative grace", func(c *Config) { c.Grace = -1 }},
		{"no deadline", func(c *Config) { c.ShippedDeadline = 0 }},
		{"no time to decide", func(c *Config) { c.DecisionDeadline = 0 }},
		{"no time for returns", func(c *Config) { c.ReturnWindow = 0 }},
		{"a minute for inventory", func(c *Config) { c.AvailabilityDeadline = time.Minute }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			cfg := testConfig()
			tt.change(&cfg)
			if _, err := New(cfg, nil, nil, nil); err == nil {
				t.Error("got no error, want one")
			}
		})
	}
}
