package orders

import (
	"net/http"
	"testing"
	"time"

	"example.com/orderflow/messaging/contracts"
	"example.com/orderflow/messaging/messagingtest"
)

const (
	retry   = `{"action":"retry","reason":"the bank is back"}`
	abandon = `{"action":"cancel","reason":"the bank is gone"}`
)

// ignore lets time pass until order id, whose commands nobody answers, needs
// attention.
func (s *shop) ignore(id string) {
	s.t.Helper()
	for i := range maxResends + 1 {
		s.advance(20 * time.Hour)
		messagingtest.Wait(s.t, "a command to be repeated", func() bool {
			o := s.row(id)
			return o.Resends > i || o.Status == NeedsAttention
		})
	}
	if got := s.row(id).Status; got != NeedsAttention {
		s.t.Fatalf("after %d repeated commands: got %s, want needs_attention", maxResends, got)
	}
}

func TestNobodyAnswers(t *testing.T) {
	t.Parallel()
	s := stocked(t)
	id := s.place("k")
	s.bring(id, Capturing)
	s.ignore(id)
	capture := contracts.KindCapturePayment
	messages := s.wants(id, NeedsAttention, capture, capture, capture, capture, contracts.KindOrderNeedsAttention, changed)
	if got, want := messagingtest.As[contracts.OrderNeedsAttention](t, messages[4]), (contracts.OrderNeedsAttention{OrderID: id, Resume: "capturing", ReasonCode: "no_answer"}); got != want {
		t.Errorf("attention: got %+v, want %+v", got, want)
	}
	// What is said meanwhile is ignored, and said again when it is asked again.
	s.deliver("ignored", says(contracts.KindPaymentCaptured, s.row(id)).Body)
	if doc := s.must(http.StatusOK, "GET", "/v1/orders/"+id, "", operator...).doc; doc.Resume != Capturing || doc.ReasonCode != "no_answer" || len(doc.Next) != 2 {
		t.Errorf("document for an operator: got %+v, want it resumed from capturing", doc)
	}
	got := s.must(http.StatusAccepted, "POST", "/v1/orders/"+id+"/resolution", retry, operator...)
	if got.doc.Status != Capturing || got.doc.Resume != "" {
		t.Errorf("retried: got %s, resume %q; want capturing and none", got.doc.Status, got.doc.Resume)
	}
	s.wants(id, Capturing, capture, changed)
	s.deliver("done", says(contracts.KindPaymentCaptured, s.row(id)).Body)
	s.wants(id, Dispatching, contracts.KindDispatchShipment, changed)
	s.checkHistory(id, Placed, Authorizing, Confirmed, Fulfilling, Capturing, NeedsAttention, Capturing, Dispatching)
	if n := s.count(`SELECT count(*) FROM orders.audit WHERE actor = 'olga' AND action = 'retry' AND order_id = $1 AND reason = 'the bank is back'`, id); n != 1 {
		t.Errorf("audit rows: got %d, want 1", n)
	}
}

// TestVoidRefused: the refusal says that the money was captured, so that cancel
// refunds it and gives the stock back.
func TestVoidRefused(t *testing.T) {
	t.Parallel()
	s := stocked(t)
	id := s.place("k")
	s.bring(id, Capturing)
	s.ignore(id)
	path := "/v1/orders/" + id + "/resolution"
	s.db.Published(t, service)
	s.must(http.StatusAccepted, "POST", path, abandon, operator...)
	s.wants(id, Compensating, contracts.KindReleaseStock, contracts.KindVoidPayment, changed)
	s.deliver("done", says(contracts.KindPaymentVoidRefused, s.row(id)).Body)
	s.wants(id, NeedsAttention, contracts.KindOrderNeedsAttention, changed)
	o := s.row(id)
	if !o.Captured || o.EndsAs != Cancelled || !o.AwaitsRelease || !o.AwaitsVoid || o.ResumeReason != byOperator {
		t.Errorf("void refused: got %+v, want the money ours and all that is awaited kept", o)
	}
	if n := s.count(`SELECT count(*) FROM orders.history WHERE order_id = $1 AND status = 'needs_attention' AND note = 'captured'`, id); n != 1 {
		t.Errorf("history rows with the provider's code: got %d, want 1", n)
	}
	s.must(http.StatusAccepted, "POST", path, abandon, operator...)
	refund := messagingtest.As[contracts.RefundPayment](t, s.wants(id, Refunding, contracts.KindRefundPayment, contracts.KindReleaseStock, changed)[0])
	if refund.AmountMinor != 2500 || refund.Reason != byOperator {
		t.Errorf("refund: got %+v, want all 2500", refund)
	}
	s.deliver("done", says(contracts.KindRefundSucceeded, s.row(id)).Body)
	s.wants(id, Refunding) // its stock isn't free yet
	s.deliver("done", says(contracts.KindStockReleased, s.row(id)).Body)
	s.wants(id, Refunded, contracts.KindOrderRefunded, changed)
}

func TestVoidRefusedThenVoided(t *testing.T) {
	t.Parallel()
	s := stocked(t)
	id := s.place("k")
	s.bring(id, Confirmed)
	s.must(http.StatusAccepted, "POST", "/v1/orders/"+id+"/cancel", "")
	s.deliver("done", says(contracts.KindPaymentVoidRefused, s.row(id)).Body)
	if got := s.do("POST", "/v1/orders/"+id+"/cancel", ""); got.Code != 409 || got.code() != "order-not-cancellable" {
		t.Errorf("cancel of what needs attention: got %d %s, want 409 order-not-cancellable", got.Code, got.code())
	}
	s.db.Published(t, service)
	s.must(http.StatusAccepted, "POST", "/v1/orders/"+id+"/resolution", retry, operator...)
	s.wants(id, Compensating, contracts.KindReleaseStock, contracts.KindVoidPayment, changed)
	s.deliver("done", says(contracts.KindStockReleased, s.row(id)).Body, says(contracts.KindPaymentVoided, s.row(id)).Body)
	messages := s.wants(id, Cancelled, contracts.KindOrderCancelled, changed)
	if got := messagingtest.As[contracts.OrderCancelled](t, messages[0]).ReasonCode; got != byCustomer {
		t.Errorf("reason: got %q, want %q, as before it needed attention", got, byCustomer)
	}
}

func TestRefundFails(t *testing.T) {
	t.Parallel()
	s := stocked(t)
	id := s.place("k")
	s.bring(id, Refunding)
	s.deliver("done", says(contracts.KindRefundFailed, s.row(id)).Body)
	s.wants(id, NeedsAttention, contracts.KindOrderNeedsAttention, changed)
	failed := s.row(id).Refunds[0]
	if failed.Status != refundFailed {
		t.Errorf("refund: got %s, want failed", failed.Status)
	}
	s.must(http.StatusAccepted, "POST", "/v1/orders/"+id+"/resolution", retry, operator...)
	again := messagingtest.As[contracts.RefundPayment](t, s.wants(id, Refunding, contracts.KindRefundPayment, changed)[0])
	if again.RefundID != failed.ID || again.AmountMinor != failed.AmountMinor {
		t.Errorf("refund retried: got %+v, want that of %+v", again, failed)
	}
	s.deliver("done", says(contracts.KindRefundSucceeded, s.row(id)).Body)
	s.wants(id, Refunded, contracts.KindOrderRefunded, changed)
}

func TestRefusedResolutions(t *testing.T) {
	t.Parallel()
	s := stocked(t)
	id, healthy := s.place("k"), s.place("healthy")
	s.bring(id, Refunding)
	s.deliver("done", says(contracts.KindRefundFailed, s.row(id)).Body)
	s.db.Published(t, service)
	s.refuses(t, []refused{
		{"by the customer", id, "resolution", retry, nil, 403, "forbidden", ""},
		{"by somebody else", id, "resolution", retry, []string{"X-Role", "king"}, 400, "invalid-parameter", ""},
		{"unknown action", id, "resolution", `{"action":"burn","reason":"x"}`, operator, 422, "validation", "/action"},
		{"no action", id, "resolution", `{"reason":"x"}`, operator, 422, "validation", "/action"},
		{"no reason", id, "resolution", `{"action":"retry"}`, operator, 422, "validation", "/reason"},
		{"blank reason", id, "resolution", `{"action":"retry","reason":"  "}`, operator, 422, "validation", "/reason"},
		{"unknown member", id, "resolution", `{"action":"retry","reason":"x","force":true}`, operator, 422, "validation", "/force"},
		{"no JSON", id, "resolution", `retry`, operator, 400, "malformed-json", ""},
		{"needs no attention", healthy, "resolution", retry, operator, 409, "illegal-state", ""},
		{"unknown order", orderID, "resolution", retry, operator, 404, "not-found", ""},
	})
	s.wants(id, NeedsAttention)
	if n := s.count(`SELECT count(*) FROM orders.audit`); n != 0 {
		t.Errorf("audit rows after refusals: got %d, want 0", n)
	}
	// An operator finds what needs attention, whoever's it is.
	if got := s.do("GET", "/v1/orders?status=needs_attention", "", operator...); got.Code != 200 || got.Body.String() == `{"orders":[]}`+"\n" {
		t.Errorf("what needs attention: got %d %s, want order %s", got.Code, got.Body, id)
	}
	if got := s.do("GET", "/v1/orders?status=needs_attention", "", "X-Customer-Id", "olga"); got.Body.String() != `{"orders":[]}`+"\n" {
		t.Errorf("what needs attention, to another customer: got %s, want none", got.Body)
	}
}
