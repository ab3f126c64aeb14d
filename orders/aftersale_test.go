package orders

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"example.com/orderflow/messaging"
	"example.com/orderflow/messaging/contracts"
	"example.com/orderflow/messaging/messagingtest"
)

const (
	oneMug  = `{"lines":[{"sku":"MUG-01","quantity":1}]}`
	asGrace = `{"lines":[{"sku":"TEA-01","quantity":1}],"reason":"leaked"}`
)

// operator are the headers of an operator's request.
var operator = []string{"X-Role", "operator", "X-Customer-Id", "olga"}

// keyed are headers with an Idempotency-Key.
func keyed(key string, headers ...string) []string {
	return append([]string{"Idempotency-Key", key}, headers...)
}

func TestReturn(t *testing.T) {
	t.Parallel()
	s := stocked(t)
	id := s.place("k")
	s.bring(id, Delivered)
	path := "/v1/orders/" + id + "/returns"
	got := s.must(http.StatusAccepted, "POST", path, oneMug, keyed("r")...)
	messages := s.wants(id, Delivered, contracts.KindExpectReturn, changed)
	expect := messagingtest.As[contracts.ExpectReturn](t, messages[0])
	if want := `"return_id":"` + expect.ReturnID + `"`; !strings.Contains(got.Body.String(), want) || fmt.Sprint(expect.Lines) != "[{MUG-01 1}]" {
		t.Errorf("return expected: got %+v, want one mug and its id in %s", expect, got.Body)
	}
	if doc := got.doc; len(doc.Returns) != 1 || doc.Returns[0].Status != returnExpected || doc.Version != 9 || len(doc.History) != 9 || doc.ReturnUntil == nil {
		t.Errorf("document: got %+v, want one return expected, in version 9", doc)
	}
	// Answered from memory and read again it is the same, the id apart.
	stored := s.must(http.StatusOK, "GET", "/v1/orders/"+id, "")
	if want := strings.Replace(got.Body.String(), `"return_id":"`+expect.ReturnID+`",`, "", 1); stored.Body.String() != want {
		t.Errorf("read again:\n got %s\nwant %s", stored.Body, want)
	}

	again := s.must(http.StatusAccepted, "POST", path, strings.ReplaceAll(oneMug, ":", " : "), keyed("r")...)
	if again.Body.String() != got.Body.String() || again.Header().Get("Idempotency-Replayed") != "true" {
		t.Errorf("replay:\n got %s\nwant %s, marked as replayed", again.Body, got.Body)
	}
	if other := s.do("POST", path, strings.Replace(oneMug, ":1}", ":2}", 1), keyed("r")...); other.Code != 422 || other.code() != "idempotency-key-reused" {
		t.Errorf("another return under the key: got %d %s, want 422 idempotency-key-reused", other.Code, other.code())
	}
	if other := s.do("POST", "/v1/orders", basket, keyed("r")...); other.Code != 422 || other.code() != "idempotency-key-reused" {
		t.Errorf("an order under the key of a return: got %d %s, want 422 idempotency-key-reused", other.Code, other.code())
	}
	s.wants(id, Delivered)

	o := s.row(id)
	came := says(contracts.KindReturnReceived, o)
	s.deliver("done", came.Body)
	refund := messagingtest.As[contracts.RefundPayment](t, s.wants(id, Refunding, contracts.KindRefundPayment, changed)[0])
	want := contracts.RefundPayment{RefundID: expect.ReturnID, PaymentID: o.PaymentID, OrderID: id, AmountMinor: 1000, Reason: "returned"}
	if refund != want {
		t.Errorf("refund:\n got %+v\nwant %+v", refund, want)
	}
	s.deliver("ignored", came.Body)
	paid := says(contracts.KindRefundSucceeded, s.row(id))
	s.deliver("done", paid.Body)
	told := messagingtest.As[contracts.OrderRefunded](t, s.wants(id, Delivered, contracts.KindOrderRefunded, changed)[0])
	if told.AmountMinor != 1000 || told.Full || told.ReasonCode != "returned" {
		t.Errorf("told: got %+v, want 1000, not all, returned", told)
	}
	s.deliver("ignored", paid.Body)

	now := s.row(id)
	if !now.ReturnUntil.Equal(*o.ReturnUntil) || !now.Deadline.Equal(*o.ReturnUntil) {
		t.Errorf("to be returned until %v, deadline %v; want both %v, as before", now.ReturnUntil, now.Deadline, o.ReturnUntil)
	}
	doc := s.must(http.StatusOK, "GET", "/v1/orders/"+id, "").doc
	mug := lineDocument{SKU: "MUG-01", Name: "Mug", Quantity: 2, UnitPriceMinor: 1000, Reserved: 2, Packed: 2, Returned: 1, Refunded: 1}
	if doc.Lines[0] != mug || doc.RefundedMinor != 1000 || doc.TotalMinor != 2500 || doc.Refunds[0].Status != refundSucceeded || doc.Returns[0].Status != returnReceived {
		t.Errorf("document: got %+v, want %+v and 1000 refunded", doc, mug)
	}
	s.checkHistory(id, Placed, Authorizing, Confirmed, Fulfilling, Capturing, Dispatching, Shipped, Delivered, Delivered, Refunding, Delivered)
}

// TestSeveralRefundsAtOnce: one return and two refunds are open together, until
// the customer keeps nothing.
func TestSeveralRefundsAtOnce(t *testing.T) {
	t.Parallel()
	s := stocked(t)
	id := s.place("k")
	s.bring(id, Delivered)
	s.must(http.StatusAccepted, "POST", "/v1/orders/"+id+"/returns", oneMug, keyed("r")...)
	s.db.Published(t, service)
	got := s.must(http.StatusAccepted, "POST", "/v1/orders/"+id+"/refunds", asGrace, keyed("f", operator...)...)
	tea := messagingtest.As[contracts.RefundPayment](t, s.wants(id, Refunding, contracts.KindRefundPayment, changed)[0])
	if tea.AmountMinor != 500 || tea.Reason != "not_sent_back" || !strings.Contains(got.Body.String(), `"refund_id":"`+tea.RefundID+`"`) {
		t.Errorf("refund: got %+v, want 500 for what is not sent back, and its id in %s", tea, got.Body)
	}
	if again := s.must(http.StatusAccepted, "POST", "/v1/orders/"+id+"/refunds", asGrace, keyed("f", operator...)...); again.Body.String() != got.Body.String() {
		t.Errorf("replay:\n got %s\nwant %s", again.Body, got.Body)
	}
	s.deliver("done", says(contracts.KindReturnReceived, s.row(id)).Body)
	s.wants(id, Refunding, contracts.KindRefundPayment, changed)
	s.must(http.StatusAccepted, "POST", "/v1/orders/"+id+"/refunds", strings.Replace(asGrace, "TEA", "MUG", 1), keyed("g", operator...)...)
	s.wants(id, Refunding, contracts.KindRefundPayment, changed)
	for range 2 {
		s.deliver("done", says(contracts.KindRefundSucceeded, s.row(id)).Body)
		s.wants(id, Refunding)
	}
	s.deliver("done", says(contracts.KindRefundSucceeded, s.row(id)).Body)
	told := messagingtest.As[contracts.OrderRefunded](t, s.wants(id, Refunded, contracts.KindOrderRefunded, changed)[0])
	if told.AmountMinor != 2500 || !told.Full {
		t.Errorf("told: got %+v, want 2500, all", told)
	}
	if n := s.count(`SELECT count(*) FROM orders.audit WHERE actor = 'olga' AND role = 'operator' AND action = 'refund' AND order_id = $1 AND reason = 'leaked' AND request_id <> ''`, id); n != 2 {
		t.Errorf("audited refunds: got %d, want 2, the repeat not counted", n)
	}
	if o := s.row(id); o.Deadline != nil || o.ReasonCode == "" {
		t.Errorf("refunded: got deadline %v and reason %q, want none and one", o.Deadline, o.ReasonCode)
	}
}

func TestRefusedReturnsAndRefunds(t *testing.T) {
	t.Parallel()
	s := stocked(t)
	id, early := s.place("k"), s.place("early")
	s.bring(id, Delivered)
	s.bring(early, Capturing)
	s.must(http.StatusAccepted, "POST", "/v1/orders/"+id+"/returns", oneMug, keyed("first")...)
	s.db.Published(t, service)
	before := s.count(`SELECT count(*) FROM orders.history`)
	quantity := func(n string) string { return `{"lines":[{"sku":"MUG-01","quantity":` + n + `}]}` }
	key := keyed("refused")
	s.refuses(t, []refused{
		{"no key", id, "returns", oneMug, nil, 400, "idempotency-key-missing", ""},
		{"no key for a refund", id, "refunds", asGrace, operator, 400, "idempotency-key-missing", ""},
		{"refund by the customer", id, "refunds", asGrace, key, 403, "forbidden", ""},
		{"truncated", id, "returns", oneMug[:20], key, 400, "malformed-json", ""},
		{"duplicate member", id, "returns", `{"lines":[],"lines":[]}`, key, 400, "duplicate-member", ""},
		{"unknown member", id, "returns", `{"lines":[{"sku":"MUG-01","quantity":1}],"amount_minor":1}`, key, 422, "validation", "/amount_minor"},
		{"a refund's amount", id, "refunds", `{"lines":[{"sku":"MUG-01","quantity":1}],"reason":"x","amount_minor":1}`, keyed("refused", operator...), 422, "validation", "/amount_minor"},
		{"a refund without reason", id, "refunds", oneMug, keyed("refused", operator...), 422, "validation", "/reason"},
		{"null", id, "returns", `null`, key, 422, "validation", ""},
		{"no lines", id, "returns", `{"lines":[]}`, key, 422, "validation", "/lines"},
		{"quantity 0", id, "returns", quantity("0"), key, 422, "validation", "/lines/0/quantity"},
		{"quantity -1", id, "returns", quantity("-1"), key, 422, "validation", "/lines/0/quantity"},
		{"quantity 1001", id, "returns", quantity("1001"), key, 422, "validation", "/lines/0/quantity"},
		{"the same product twice", id, "returns", `{"lines":[{"sku":"MUG-01","quantity":1},{"sku":"MUG-01","quantity":1}]}`, key, 422, "duplicate-sku", "/lines/1/sku"},
		{"a product of another order", id, "returns", strings.Replace(oneMug, "MUG-01", "PEN-USD", 1), key, 422, "unknown-sku", "/lines/0/sku"},
		{"more than was delivered", id, "returns", quantity("3"), key, 409, "illegal-state", ""},
		{"more than is left beside the first return", id, "returns", quantity("2"), key, 409, "illegal-state", ""},
		{"a refund above what was captured", id, "refunds", `{"lines":[{"sku":"MUG-01","quantity":3}],"reason":"x"}`, keyed("refused", operator...), 409, "illegal-state", ""},
		{"a return before it is delivered", early, "returns", oneMug, key, 409, "illegal-state", ""},
		{"a refund before it is delivered", early, "refunds", asGrace, keyed("refused", operator...), 409, "illegal-state", ""},
		{"unknown order", orderID, "returns", oneMug, key, 404, "not-found", ""},
		{"unknown order to an operator", orderID, "refunds", asGrace, keyed("refused", operator...), 404, "not-found", ""},
		{"malformed id", "x", "returns", oneMug, key, 404, "not-found", ""},
		{"another customer's", id, "returns", oneMug, keyed("refused", "X-Customer-Id", "other"), 404, "not-found", ""},
		{"another customer's, to an operator", id, "returns", oneMug, keyed("refused", operator...), 404, "not-found", ""},
	})
	if n := s.count(`SELECT count(*) FROM orders.history`); n != before {
		t.Errorf("history rows after refusals: got %d, want %d", n, before)
	}
	if n := s.count(`SELECT count(*) FROM orders.audit`) + s.count(`SELECT count(*) FROM orders.idempotency_keys WHERE key = 'refused'`) + s.count(`SELECT count(*) FROM messaging.outbox_orders`); n != 0 {
		t.Errorf("audit rows, answers and messages after refusals: got %d, want 0", n)
	}
	// Too late, then.
	s.advance(testRules.ReturnWindow + time.Hour)
	if got := s.do("POST", "/v1/orders/"+id+"/returns", `{"lines":[{"sku":"TEA-01","quantity":1}]}`, key...); got.Code != 409 || got.code() != "illegal-state" {
		t.Errorf("a return after the time for returns: got %d %s, want 409 illegal-state", got.Code, got.code())
	}
}

// TestRefundsRace: of many who refund the last pieces at once, only as many
// succeed as there are pieces.
func TestRefundsRace(t *testing.T) {
	t.Parallel()
	s := stocked(t)
	id := s.place("k")
	s.bring(id, Delivered)
	const n = 12
	replies := make([]reply, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			if i%2 == 0 {
				replies[i] = s.do("POST", "/v1/orders/"+id+"/returns", oneMug, keyed(fmt.Sprint("r", i))...)
			} else {
				replies[i] = s.do("POST", "/v1/orders/"+id+"/refunds", `{"lines":[{"sku":"MUG-01","quantity":1}],"reason":"x"}`, keyed(fmt.Sprint("r", i), operator...)...)
			}
		})
	}
	wg.Wait()
	taken := 0
	for i, r := range replies {
		switch {
		case r.Code == http.StatusAccepted:
			taken++
		case r.Code != http.StatusConflict || r.code() != "illegal-state":
			t.Errorf("request %d: got %d %s, want 202 or 409 illegal-state", i, r.Code, r.Body)
		}
	}
	o := s.row(id)
	pieces := o.Lines[0].Refunded
	for _, r := range o.Returns {
		pieces += quantityOf(r.Lines, "MUG-01")
	}
	if taken == 0 || taken > 2 || pieces != taken {
		t.Errorf("%d at once for 2 mugs: %d accepted with %d mugs, want as many mugs, 1 or 2", n, taken, pieces)
	}
	checkMoney(t, o)
}

// TestLockedOrderIsReadAnew: whoever has waited for the row decides on the lines
// and refunds as the other has left them.
func TestLockedOrderIsReadAnew(t *testing.T) {
	t.Parallel()
	s := stocked(t)
	id := s.place("k")
	s.bring(id, Delivered)
	other, err := s.db.Admin.Beginx()
	if err != nil {
		t.Fatal(err)
	}
	for _, query := range []string{
		`UPDATE orders.orders SET status = 'refunding', version = version WHERE id = $1`,
		`UPDATE orders.lines SET refunded = 2 WHERE order_id = $1 AND sku = 'MUG-01'`,
		`INSERT INTO orders.refunds (order_id, id, status, reason_code, amount_minor, lines, asked_at, told_in)
		 VALUES ($1, gen_random_uuid(), 'open', 'test', 2000, '[{"sku":"MUG-01","quantity":2}]', now(), 0)`,
	} {
		if _, err := other.Exec(query, id); err != nil {
			t.Fatal(err, other.Rollback())
		}
	}
	done := make(chan reply, 1)
	go func() {
		done <- s.do("POST", "/v1/orders/"+id+"/refunds", `{"lines":[{"sku":"MUG-01","quantity":1}],"reason":"x"}`, keyed("r", operator...)...)
	}()
	s.waitForLock()
	if err := other.Commit(); err != nil {
		t.Fatal(err)
	}
	if got := <-done; got.Code != 409 || got.code() != "illegal-state" {
		t.Errorf("a refund of what the other has refunded: got %d %s, want 409 illegal-state", got.Code, got.Body)
	}
}

func TestShipmentLost(t *testing.T) {
	t.Parallel()
	s := stocked(t)
	id := s.place("k")
	s.bring(id, Shipped)
	s.deliver("done", says(contracts.KindShipmentLost, s.row(id)).Body)
	refund := messagingtest.As[contracts.RefundPayment](t, s.wants(id, Refunding, contracts.KindRefundPayment, changed)[0])
	if refund.AmountMinor != 2500 || refund.Reason != "lost" {
		t.Errorf("refund: got %+v, want all 2500, lost", refund)
	}
	s.deliver("ignored", says(contracts.KindShipmentLost, s.row(id)).Body, says(contracts.KindShipmentDelivered, s.row(id)).Body)
	s.deliver("done", says(contracts.KindRefundSucceeded, s.row(id)).Body)
	s.wants(id, Refunded, contracts.KindOrderRefunded, changed)
	s.checkHistory(id, Placed, Authorizing, Confirmed, Fulfilling, Capturing, Dispatching, Shipped, Refunding, Refunded)
}

func TestCompleted(t *testing.T) {
	t.Parallel()
	s := stocked(t)
	id, returned := s.place("k"), s.place("returned")
	s.bring(id, Delivered)
	s.bring(returned, Delivered)
	s.must(http.StatusAccepted, "POST", "/v1/orders/"+returned+"/returns", oneMug, keyed("r")...)
	s.db.Published(t, service)
	s.advance(testRules.ReturnWindow + time.Hour)
	messagingtest.Wait(t, "the order to be completed and the other's return to be asked for", func() bool {
		return s.row(id).Status == Completed && s.row(returned).Resends == 1
	})
	kinds := messagingtest.Kinds(s.db.Published(t, service))
	slices.Sort(kinds)
	if want := []string{contracts.KindExpectReturn, contracts.KindOrderCompleted, changed}; !slices.Equal(kinds, want) {
		t.Errorf("published: got %v, want %v", kinds, want)
	}
	if got := s.row(returned).Status; got != Delivered {
		t.Errorf("with a return under way: got %s, want delivered", got)
	}
	// Once it is there and paid back, nothing is waited for any more.
	s.deliver("done", says(contracts.KindReturnReceived, s.row(returned)).Body)
	s.deliver("done", says(contracts.KindRefundSucceeded, s.row(returned)).Body)
	messagingtest.Wait(t, "the other to be completed", func() bool { return s.row(returned).Status == Completed })
}

// TestAftersaleInOneBatch: the second message sees what the first has made.
func TestAftersaleInOneBatch(t *testing.T) {
	t.Parallel()
	s := stocked(t)
	id := s.place("k")
	s.bring(id, Delivered)
	for i, sku := range []string{"MUG-01", "TEA-01"} {
		s.must(http.StatusAccepted, "POST", "/v1/orders/"+id+"/returns", strings.Replace(oneMug, "MUG-01", sku, 1), keyed(fmt.Sprint("r", i))...)
	}
	var bodies []messaging.Body
	o := s.row(id)
	for _, r := range o.Returns {
		bodies = append(bodies, contracts.ReturnReceived{ReturnID: r.ID, ReservationID: o.ReservationID, OrderID: id, Lines: r.Lines})
	}
	s.deliver("done", bodies...)
	bodies = nil
	for _, f := range s.row(id).Refunds {
		bodies = append(bodies, contracts.RefundSucceeded{RefundID: f.ID, PaymentID: o.PaymentID, OrderID: id, AmountMinor: f.AmountMinor})
	}
	s.db.Published(t, service)
	s.deliver("done", bodies...)
	told := messagingtest.As[contracts.OrderRefunded](t, s.wants(id, Delivered, contracts.KindOrderRefunded, changed)[0])
	if told.AmountMinor != 1500 {
		t.Errorf("told of both: got %d, want 1500", told.AmountMinor)
	}
	checkMoney(t, s.row(id))
}
