package orders

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"example.com/orderflow/messaging/contracts"
	"example.com/orderflow/messaging/messagingtest"
)

// inPart is an order of the basket of which a mug and the tea are there.
func (s *shop) inPart(key string) string {
	s.t.Helper()
	s.db.Published(s.t, service)
	id := s.must(http.StatusAccepted, "POST", "/v1/orders", strings.Replace(basket, `"currency"`, `"allow_partial":true,"currency"`, 1), "Idempotency-Key", key).doc.ID
	if reserve := messagingtest.As[contracts.ReserveStock](s.t, s.db.Published(s.t, service)[0]); !reserve.AllowPartial {
		s.t.Errorf("stock asked for: got %+v, want it allowed in part", reserve)
	}
	s.deliver("done", says(contracts.KindStockPartiallyReserved, s.row(id)).Body)
	return id
}

func TestPartAccepted(t *testing.T) {
	t.Parallel()
	s := stocked(t)
	id := s.inPart("k")
	ask := messagingtest.As[contracts.OrderActionRequired](t, s.wants(id, AwaitingCustomer, contracts.KindOrderActionRequired, changed)[0])
	if ask.Action != "stock_decision" || len(ask.Lines) != 2 || ask.Lines[0].Quantity != 1 || ask.Lines[1].Quantity != 1 || !ask.DecideUntil.Equal(*s.row(id).Deadline) {
		t.Errorf("customer asked: got %+v, want whether a mug and the tea will do", ask)
	}
	doc := s.must(http.StatusOK, "GET", "/v1/orders/"+id, "").doc
	if a := doc.Action; a == nil || a.Kind != "stock_decision" || strings.Join(a.Options, " ") != "accept cancel" || a.TotalMinor != 1500 || !a.DecideUntil.Equal(*s.row(id).Deadline) {
		t.Errorf("action: got %+v, want a decision about 1500", a)
	}
	if doc.TotalMinor != 2500 || doc.Lines[0].Quantity != 2 || doc.Lines[0].Reserved != 1 {
		t.Errorf("document: got %+v, want still 2500, one mug of two reserved", doc)
	}
	s.must(http.StatusAccepted, "POST", "/v1/orders/"+id+"/decision", `{"decision":"accept"}`)
	messages := s.wants(id, Authorizing, contracts.KindAuthorizePayment, contracts.KindOrderAmended, changed)
	pay, amended := messagingtest.As[contracts.AuthorizePayment](t, messages[0]), messagingtest.As[contracts.OrderAmended](t, messages[1])
	if pay.AmountMinor != 1500 || pay.Attempt != 1 || pay.MethodToken != "tok_ok" {
		t.Errorf("payment: got %d minor units in attempt %d, want 1500 in 1 with the order's token", pay.AmountMinor, pay.Attempt)
	}
	if amended.TotalMinor != 1500 || amended.ReasonCode != "part_accepted" || len(amended.Lines) != 2 || amended.Lines[0].Quantity != 1 {
		t.Errorf("amended: got %+v, want a mug and the tea for 1500", amended)
	}
	// Picked short on top of it: only the tea is left.
	s.bring(id, Fulfilling)
	o := s.row(id)
	s.deliver("done", contracts.ShipmentPacked{ReservationID: o.ReservationID, OrderID: id, Lines: []contracts.Line{{SKU: "TEA-01", Quantity: 1}}})
	messages = s.wants(id, Capturing, contracts.KindCapturePayment, contracts.KindOrderAmended, changed)
	capture, amended := messagingtest.As[contracts.CapturePayment](t, messages[0]), messagingtest.As[contracts.OrderAmended](t, messages[1])
	if capture.AmountMinor != 500 || amended.TotalMinor != 500 || amended.ReasonCode != "short_pick" || len(amended.Lines) != 1 {
		t.Errorf("short pick: got %+v and %+v, want both for 500", capture, amended)
	}
	mug := lineDocument{SKU: "MUG-01", Name: "Mug", Quantity: 2, UnitPriceMinor: 1000, Reserved: 1}
	if doc := s.must(http.StatusOK, "GET", "/v1/orders/"+id, "").doc; doc.Lines[0] != mug || doc.Lines[1].Packed != 1 || doc.TotalMinor != 500 {
		t.Errorf("document: got %+v, want %+v and 500", doc, mug)
	}
	// What was never packed can't be sent back.
	s.bring(id, Delivered)
	if got := s.do("POST", "/v1/orders/"+id+"/returns", oneMug, keyed("r")...); got.Code != 409 || got.code() != "illegal-state" {
		t.Errorf("a return of what wasn't packed: got %d %s, want 409 illegal-state", got.Code, got.code())
	}
}

func TestPartRefusedOrNotDecided(t *testing.T) {
	t.Parallel()
	s := stocked(t)
	refused, cancelled, late := s.inPart("refused"), s.inPart("cancelled"), s.inPart("late")
	s.must(http.StatusAccepted, "POST", "/v1/orders/"+refused+"/decision", `{"decision":"cancel"}`)
	s.must(http.StatusAccepted, "POST", "/v1/orders/"+cancelled+"/cancel", "")
	s.advance(16 * time.Minute)
	messagingtest.Wait(t, "the third to be undone", func() bool { return s.row(late).Status == Compensating })
	for id, ends := range map[string]Status{refused: Cancelled, cancelled: Cancelled, late: Expired} {
		o := s.row(id)
		if o.EndsAs != ends || o.AwaitsVoid || !o.AwaitsRelease || o.PaymentToken != "" {
			t.Errorf("undone: got %+v, want it to end as %s once the stock is free", o, ends)
		}
		s.deliver("done", says(contracts.KindStockReleased, o).Body)
		s.checkHistory(id, Placed, AwaitingCustomer, Compensating, ends)
	}
}

func TestRefusedDecisions(t *testing.T) {
	t.Parallel()
	s := stocked(t)
	id, unasked := s.inPart("k"), s.place("unasked")
	s.db.Published(t, service)
	s.refuses(t, []refused{
		{"nothing was asked", unasked, "decision", `{"decision":"accept"}`, nil, 409, "illegal-state", ""},
		{"nothing was asked, cancel", unasked, "decision", `{"decision":"cancel"}`, nil, 409, "illegal-state", ""},
		{"neither", id, "decision", `{"decision":"maybe"}`, nil, 422, "validation", "/decision"},
		{"none", id, "decision", `{}`, nil, 422, "validation", "/decision"},
		{"unknown member", id, "decision", `{"decision":"accept","total_minor":1}`, nil, 422, "validation", "/total_minor"},
		{"case variant", id, "decision", `{"Decision":"accept"}`, nil, 422, "validation", "/decision"},
		{"truncated", id, "decision", `{"decision":`, nil, 400, "malformed-json", ""},
	})
	s.wants(id, AwaitingCustomer)
	s.must(http.StatusAccepted, "POST", "/v1/orders/"+id+"/decision", `{"decision":"accept"}`)
	if got := s.do("POST", "/v1/orders/"+id+"/decision", `{"decision":"accept"}`); got.Code != 409 || got.code() != "illegal-state" {
		t.Errorf("decided twice: got %d %s, want 409 illegal-state", got.Code, got.code())
	}
}

func TestCancelWhilePicking(t *testing.T) {
	t.Parallel()
	s := stocked(t)
	stopped, packed := s.place("stopped"), s.place("packed")
	for _, id := range []string{stopped, packed} {
		s.bring(id, Fulfilling)
		path := "/v1/orders/" + id + "/cancel"
		if got := s.must(http.StatusAccepted, "POST", path, "").doc.Status; got != Stopping {
			t.Errorf("cancelled while picking: got %s, want stopping", got)
		}
		s.wants(id, Stopping, contracts.KindStopFulfilment, changed)
		s.must(http.StatusAccepted, "POST", path, "")
		s.wants(id, Stopping)
	}
	s.deliver("done", says(contracts.KindStockReleased, s.row(stopped)).Body)
	s.wants(stopped, Compensating, contracts.KindVoidPayment, changed)
	s.deliver("done", says(contracts.KindPaymentVoided, s.row(stopped)).Body)
	s.wants(stopped, Cancelled, contracts.KindOrderCancelled, changed)

	s.deliver("done", says(contracts.KindShipmentPacked, s.row(packed)).Body)
	messages := s.wants(packed, Capturing, contracts.KindCapturePayment, contracts.KindCancelRefused, changed)
	if got := messagingtest.As[contracts.CancelRefused](t, messages[1]).ReasonCode; got != "already_packed" {
		t.Errorf("refused because of %q, want already_packed", got)
	}
	if got := s.do("POST", "/v1/orders/"+packed+"/cancel", ""); got.Code != 409 || got.code() != "order-not-cancellable" {
		t.Errorf("cancelled again: got %d %s, want 409 order-not-cancellable", got.Code, got.code())
	}
}

// TestCaptureFails: the goods stay packed while the customer pays in another way.
func TestCaptureFails(t *testing.T) {
	t.Parallel()
	s := stocked(t)
	id := s.place("k")
	s.bring(id, Capturing)
	failed := s.row(id)
	s.deliver("done", says(contracts.KindCaptureFailed, failed).Body)
	ask := messagingtest.As[contracts.OrderActionRequired](t, s.wants(id, PaymentFailed, contracts.KindOrderActionRequired, changed)[0])
	if ask.Action != "payment_method" || ask.ReasonCode != "authorization_expired" {
		t.Errorf("customer asked: got %+v, want another method because the authorization expired", ask)
	}
	s.must(http.StatusAccepted, "POST", "/v1/orders/"+id+"/payment", `{"payment_token":"tok_second"}`)
	s.wants(id, Authorizing, contracts.KindAuthorizePayment, changed)
	s.deliver("ignored", says(contracts.KindPaymentCaptured, failed).Body)
	s.deliver("done", says(contracts.KindPaymentAuthorized, s.row(id)).Body)
	capture := messagingtest.As[contracts.CapturePayment](t, s.wants(id, Capturing, contracts.KindCapturePayment, changed)[0])
	if capture.Attempt != 2 || capture.CaptureID == failed.CaptureID || capture.AmountMinor != 2500 {
		t.Errorf("second capture: got %+v, want all of attempt 2 under another id", capture)
	}
}
