package simulation

import (
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
	"example.com/orderflow/orders"
)

// realOrders is the orders service on its database.
type realOrders struct {
	t   *testing.T
	db  *messagingtest.DB
	mux *httpapi.Mux
	n   int // requests
}

func newRealOrders(t *testing.T) *realOrders {
	t.Helper()
	const long = 24 * time.Hour // the model's deadlines aren't up either
	cfg := orders.Config{
		Hold: 30 * time.Minute, PlacedDeadline: long, AuthorizingDeadline: long, ConfirmedDeadline: long, FulfillingDeadline: long,
		StoppingDeadline: long, CapturingDeadline: long, DispatchingDeadline: long, ShippedDeadline: long, RefundingDeadline: long,
		CompensatingDeadline: long, ReturnDeadline: long, PaymentFailedDeadline: long, DecisionDeadline: long,
		ReturnWindow: 2 * long, AvailabilityDeadline: time.Second,
	}
	db := messagingtest.NewDB(t, orders.Spec())
	bus := db.NewBus(t, orders.Spec())
	s, err := orders.New(cfg, db.Service("orders"), bus, messagingtest.Log(t))
	if err != nil {
		t.Fatal(err)
	}
	r := &realOrders{t: t, db: db, mux: httpapi.NewMux(messagingtest.Log(t))}
	s.Routes(r.mux)
	messagingtest.Run(t, bus)
	for i, sku := range skus {
		db.Deliver(t, contracts.ProductChanged{SKU: sku, Name: sku, PriceMinor: prices[i], Currency: "EUR", Active: true})
	}
	return r
}

// do sends a request of an operator, who is also the customer, and returns the
// status of its answer.
func (r *realOrders) do(path string, body any) int {
	r.t.Helper()
	r.n++
	payload, err := json.Marshal(body)
	if err != nil {
		r.t.Fatal(err)
	}
	req := httptest.NewRequestWithContext(r.t.Context(), http.MethodPost, path, strings.NewReader(string(payload)))
	for name, value := range map[string]string{
		"Content-Type": "application/json", "Idempotency-Key": fmt.Sprintf("key-%d", r.n), "X-Customer-Id": "c", "X-Role": "operator",
	} {
		req.Header.Set(name, value)
	}
	if body == nil {
		req.Body, req.ContentLength = http.NoBody, 0
		req.Header.Del("Content-Type")
	}
	w := httptest.NewRecorder()
	r.mux.ServeHTTP(w, req)
	return w.Code
}

// place places o for real and gives it the ids that it got.
func (r *realOrders) place(o *order) {
	r.t.Helper()
	type line struct {
		SKU      string `json:"sku"`
		Quantity int    `json:"quantity"`
	}
	var lines []line
	for _, l := range o.Lines {
		lines = append(lines, line{l.SKU, l.Quantity})
	}
	if got := r.do("/v1/orders", map[string]any{
		"currency": "EUR", "lines": lines, "payment_token": "tok", "allow_partial": o.AllowPartial,
		"customer": map[string]any{"name": "Ada", "email": "ada@example.com", "address": "1 Street"},
	}); got != http.StatusAccepted {
		r.t.Fatalf("place: got status %d, want 202", got)
	}
	r.get(&o.Order, `SELECT id, reservation_id, payment_id, capture_id, customer_name, customer_email FROM orders.orders ORDER BY id DESC LIMIT 1`)
}

func (r *realOrders) get(into any, query string, args ...any) {
	r.t.Helper()
	if err := r.db.Admin.Get(into, query, args...); err != nil {
		r.t.Fatalf("%s: %v", query, err)
	}
}

// rows are the order's rows as one text, without times and names.
func (r *realOrders) rows(id string) string {
	r.t.Helper()
	var text string
	r.get(&text, `
		SELECT concat_ws(' ', status, reason_code, version, ends_as, resume, resume_reason, resends, total_minor, attempt, capture_id, payment_token,
		                 declines, awaits_release, awaits_void, packed, captured, dispatched, tracking, return_until IS NOT NULL, deadline IS NOT NULL) ||
		       (SELECT string_agg(format(E'\n%s %s %s %s %s %s', sku, quantity, missing, short, refunded, returned), '' ORDER BY position)
		          FROM orders.lines WHERE order_id = $1) ||
		       (SELECT coalesce(string_agg(format(E'\nreturn %s %s %s', id, status, lines), '' ORDER BY asked_at, id), '') FROM orders.returns WHERE order_id = $1) ||
		       (SELECT coalesce(string_agg(format(E'\nrefund %s %s %s %s %s', id, status, reason_code, amount_minor, told_in), '' ORDER BY asked_at, id), '')
		          FROM orders.refunds WHERE order_id = $1) ||
		       (SELECT string_agg(format(E'\n%s %s %s %s %s', version, from_status, status, trigger, reason_code), '' ORDER BY version)
		          FROM orders.history WHERE order_id = $1)
		  FROM orders.orders WHERE id = $1`, id)
	return text
}

// rows are the same of the model.
func (o *order) rows() string {
	flag := func(b bool) string { return map[bool]string{true: "t", false: "f"}[b] }
	var b strings.Builder
	for i, v := range []any{
		o.Status, o.ReasonCode, o.Version, o.EndsAs, o.Resume, o.ResumeReason, o.Resends, o.TotalMinor, o.Attempt, o.CaptureID, o.PaymentToken,
		o.Declines, flag(o.AwaitsRelease), flag(o.AwaitsVoid), flag(o.Packed), flag(o.Captured), flag(o.Dispatched), o.Tracking,
		flag(o.ReturnUntil != nil), flag(o.Deadline != nil),
	} {
		if i > 0 {
			b.WriteByte(' ')
		}
		fmt.Fprint(&b, v)
	}
	for _, l := range o.Lines {
		fmt.Fprintf(&b, "\n%s %d %d %d %d %d", l.SKU, l.Quantity, l.Missing, l.Short, l.Refunded, l.Returned)
	}
	for _, t := range o.Returns {
		var lines []string
		for _, l := range t.Lines {
			lines = append(lines, fmt.Sprintf(`{"sku": "%s", "quantity": %d}`, l.SKU, l.Quantity))
		}
		fmt.Fprintf(&b, "\nreturn %s %s [%s]", t.ID, t.Status, strings.Join(lines, ", "))
	}
	for _, f := range o.Refunds {
		fmt.Fprintf(&b, "\nrefund %s %s %s %d %d", f.ID, f.Status, f.ReasonCode, f.AmountMinor, f.ToldIn)
	}
	for _, e := range o.history {
		fmt.Fprintf(&b, "\n%d %s %s %s %s", e.Version, e.From, e.Status, e.Trigger, e.ReasonCode)
	}
	return b.String()
}

// said are bodies as JSON, without times.
func said(t *testing.T, bodies []messaging.Body) []string {
	t.Helper()
	var list []string
	for _, b := range bodies {
		payload, err := json.Marshal(b)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, timeless(t, b.Kind(), payload))
	}
	return list
}

func timeless(t *testing.T, kind string, payload []byte) string {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal(payload, &m); err != nil {
		t.Fatal(err)
	}
	delete(m, "at")
	delete(m, "decide_until")
	text, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return kind + " " + string(text)
}

// event is something that o may be told, about its current attempt or the one before.
func (w *world) event(o *order) messaging.Body {
	attempt := max(1, o.Attempt-w.below(5)/4)
	part := w.someOf(o)
	ids := struct{ r, o, p string }{o.ReservationID, o.ID, o.PaymentID}
	all := []contracts.Line{}
	for _, l := range o.Lines {
		if n := l.Quantity - l.Missing; n > 0 {
			all = append(all, contracts.Line{SKU: l.SKU, Quantity: n})
		}
	}
	list := []messaging.Body{
		contracts.StockReserved{ReservationID: ids.r, OrderID: ids.o}, contracts.StockPartiallyReserved{ReservationID: ids.r, OrderID: ids.o, Lines: part},
		contracts.StockRejected{ReservationID: ids.r, OrderID: ids.o, ReasonCode: "out_of_stock"}, contracts.StockReleased{ReservationID: ids.r, OrderID: ids.o},
		contracts.ReservationExpired{ReservationID: ids.r, OrderID: ids.o},
		contracts.FulfilmentStarted{ReservationID: ids.r, OrderID: ids.o}, contracts.FulfilmentRefused{ReservationID: ids.r, OrderID: ids.o, ReasonCode: "not_reserved"},
		contracts.ShipmentPacked{ReservationID: ids.r, OrderID: ids.o, Lines: all}, contracts.ShipmentPacked{ReservationID: ids.r, OrderID: ids.o, Lines: part},
		contracts.ShipmentDispatched{ReservationID: ids.r, OrderID: ids.o, Tracking: "T-1"}, contracts.ShipmentDelivered{ReservationID: ids.r, OrderID: ids.o},
		contracts.ShipmentLost{ReservationID: ids.r, OrderID: ids.o},
		contracts.PaymentAuthorized{PaymentID: ids.p, Attempt: attempt, OrderID: ids.o, AmountMinor: o.TotalMinor, Currency: "EUR"},
		contracts.PaymentDeclined{PaymentID: ids.p, Attempt: attempt, OrderID: ids.o, ReasonCode: "card_declined"},
		contracts.PaymentCaptured{PaymentID: ids.p, Attempt: attempt, CaptureID: o.CaptureID, OrderID: ids.o, AmountMinor: o.TotalMinor},
		contracts.CaptureFailed{PaymentID: ids.p, Attempt: attempt, CaptureID: o.CaptureID, OrderID: ids.o, ReasonCode: "capture_refused"},
		contracts.PaymentVoided{PaymentID: ids.p, Attempt: attempt, OrderID: ids.o},
		contracts.PaymentVoidRefused{PaymentID: ids.p, Attempt: attempt, OrderID: ids.o, ReasonCode: contracts.ReasonCaptured},
	}
	for _, f := range o.Refunds {
		list = append(list, contracts.RefundSucceeded{RefundID: f.ID, PaymentID: ids.p, OrderID: ids.o, AmountMinor: f.AmountMinor},
			contracts.RefundFailed{RefundID: f.ID, PaymentID: ids.p, OrderID: ids.o, ReasonCode: "refund_refused"})
	}
	for _, t := range o.Returns {
		list = append(list, contracts.ReturnReceived{ReturnID: t.ID, ReservationID: ids.r, OrderID: ids.o, Lines: t.Lines})
	}
	if len(part) == 0 { // which the contract of a part doesn't allow
		list = slices.DeleteFunc(list, func(m messaging.Body) bool { return m.Kind() == contracts.KindStockPartiallyReserved })
	}
	// Most of the time one that moves the order, else any.
	if w.below(5) > 0 {
		var moving []messaging.Body
		for _, m := range list {
			in := orders.Input{On: m.Kind(), Body: m, At: w.now, ID: "x"}
			step, err := w.rules.Decide(o.Order, in)
			if to := step.Order.Status; err == nil && (to == o.Status || to != orders.Compensating && !to.Ended() || w.below(15) == 0) {
				moving = append(moving, m)
			}
		}
		if len(moving) > 0 {
			list = moving
		}
	}
	return list[w.below(len(list))]
}

// TestModelOfOrdersIsTrue has the same random events and requests come to the model
// of orders and to the service on PostgreSQL: rows and messages are the same.
func TestModelOfOrdersIsTrue(t *testing.T) {
	t.Parallel()
	worlds, steps := 25, 30
	if long() {
		worlds, steps = 200, 40
	}
	r := newRealOrders(t)
	seen := map[orders.Status]int{}
	for seed := range uint64(worlds) {
		w := newWorld(newDice(seed), nothing, newTally())
		w.calm = true
		w.rules = rules(30 * time.Minute)
		o := &order{Order: orders.Order{CustomerID: "c", Class: messaging.Standard, Currency: "EUR", PaymentToken: "tok", AllowPartial: w.below(2) == 1}}
		for i, sku := range skus {
			o.Lines = append(o.Lines, orders.Line{SKU: sku, Name: sku, Quantity: 1 + w.below(3), UnitPriceMinor: prices[i]})
			o.TotalMinor += int64(o.Lines[i].Quantity) * prices[i]
		}
		r.place(o)
		w.orders = append(w.orders, o)
		step, err := w.judge(o, o.Order, orders.Input{On: orders.Place, At: w.now})
		if err != nil {
			t.Fatal(err)
		}
		lines := o.Lines
		w.write(o, orders.Order{}, step, orders.Input{On: orders.Place})
		o.Lines = lines
		r.compare(o, "place", step.Sends)
		for range steps {
			seen[o.Status]++
			if o.Status.Ended() && w.below(4) == 0 {
				break // what comes after its end is ignored
			}
			r.step(w, o)
			if t.Failed() {
				t.Fatalf("seed %d", seed)
			}
		}
	}
	for _, s := range []orders.Status{
		orders.AwaitingCustomer, orders.PaymentFailed, orders.Stopping, orders.Capturing, orders.Delivered, orders.Refunding,
		orders.Compensating, orders.NeedsAttention, orders.Cancelled, orders.Refunded,
	} {
		if seen[s] == 0 {
			t.Errorf("no order was ever %s: %v", s, seen)
		}
	}
}

// step lets one thing happen to o in both.
func (r *realOrders) step(w *world, o *order) {
	r.t.Helper()
	w.now = w.now.Add(time.Second)
	requests := map[orders.Status]int{orders.AwaitingCustomer: 5, orders.PaymentFailed: 5, orders.NeedsAttention: 5, orders.Delivered: 3}
	if w.below(6) >= max(1, requests[o.Status]) {
		m := w.event(o)
		outcome := r.db.Deliver(r.t, m)[0]
		in := orders.Input{On: m.Kind(), Body: m, At: w.now}
		if m.Kind() == contracts.KindShipmentLost && outcome == "done" && o.Status != orders.Refunding {
			in.ID = r.newest(o, "refunds")
		}
		all := o.Status == orders.Delivered || o.Status == orders.Refunding
		row := o.read(slices.Contains(withLines, m.Kind()), all)
		_, err := w.judge(o, row, in)
		if want := map[bool]string{true: "done", false: "ignored"}[err == nil]; outcome != want {
			r.t.Errorf("%T while %s: outcome %q, the model says %q", m, o.Status, outcome, want)
		}
		sends, commit := w.decide(o, row, in)
		commit()
		r.compare(o, m.Kind(), sends)
		return
	}
	r.request(w, o)
}

// newest is the id of o's newest return or refund, "" without one.
func (r *realOrders) newest(o *order, table string) string {
	r.t.Helper()
	var id string
	r.get(&id, `SELECT coalesce((SELECT id::text FROM orders.`+table+` WHERE order_id = $1 ORDER BY asked_at DESC, id DESC LIMIT 1), '')`, o.ID)
	return id
}

// request has a customer or an operator ask for something about o.
func (r *realOrders) request(w *world, o *order) {
	r.t.Helper()
	in := orders.Input{}
	path, body, fresh := "/v1/orders/"+o.ID, any(nil), ""
	part := w.someOf(o)
	lines := []map[string]any{}
	for _, l := range part {
		lines = append(lines, map[string]any{"sku": l.SKU, "quantity": l.Quantity})
	}
	switch n := w.below(8); {
	case o.Status == orders.NeedsAttention && n < 4:
		in.On, path, body = orders.OperatorRetry, path+"/resolution", map[string]any{"action": "retry", "reason": "r"}
	case o.Status == orders.NeedsAttention && n < 7:
		in.On, path, body, fresh = orders.OperatorCancel, path+"/resolution", map[string]any{"action": "cancel", "reason": "r"}, "refunds"
	case o.Status == orders.AwaitingCustomer && n < 6:
		in.On, path, body = orders.Accept, path+"/decision", map[string]any{"decision": "accept"}
	case o.Status == orders.PaymentFailed && n < 7:
		in.On, in.PaymentToken, path, body = orders.Pay, "tok_other", path+"/payment", map[string]any{"payment_token": "tok_other"}
	case o.Status == orders.Fulfilling && n < 4:
		in.On, path = orders.Cancel, path+"/cancel"
	case len(part) > 0 && n < 5:
		in.On, path, body, fresh = orders.AskReturn, path+"/returns", map[string]any{"lines": lines}, "returns"
	case len(part) > 0 && n < 7:
		in.On, path, body, fresh = orders.OperatorRefund, path+"/refunds", map[string]any{"lines": lines, "reason": "r"}, "refunds"
	default:
		in.On, path = orders.Cancel, path+"/cancel"
	}
	in.Lines, in.At = part, w.now
	code := r.do(path, body)
	if fresh != "" {
		in.ID = r.newest(o, fresh)
	}
	if in.On == orders.Pay {
		r.get(&in.CaptureID, `SELECT capture_id::text FROM orders.orders WHERE id = $1`, o.ID)
	}
	_, err := w.judge(o, o.Order, in)
	if accepted := code < 300; accepted != (err == nil) {
		r.t.Errorf("%s while %s: status %d, the model says %v", in.On, o.Status, code, err)
	}
	sends, commit := w.decide(o, o.Order, in)
	commit()
	r.compare(o, in.On, sends)
}

// compare compares o's rows, and what was sent, with those of the model.
func (r *realOrders) compare(o *order, what string, sends []messaging.Body) {
	r.t.Helper()
	if got, want := r.rows(o.ID), o.rows(); got != want {
		r.t.Errorf("after %s:\nthe database has\n%s\nthe model\n%s", what, got, want)
	}
	var got []string
	for _, m := range r.db.Published(r.t, "orders") {
		got = append(got, timeless(r.t, m.Kind, m.Payload))
	}
	if want := said(r.t, sends); !slices.Equal(got, want) {
		r.t.Errorf("after %s: published\n%s\nthe model sends\n%s", what, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
