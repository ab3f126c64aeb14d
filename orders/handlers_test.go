package orders

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/google/uuid"

	"example.com/orderflow/messaging"
	"example.com/orderflow/messaging/contracts"
	"example.com/orderflow/messaging/messagingtest"
)

const changed = contracts.KindOrderStatusChanged

func TestOrderIsDelivered(t *testing.T) {
	t.Parallel()
	s := stocked(t)
	id := s.place("k")
	messages := s.wants(id, Placed, contracts.KindReserveStock, contracts.KindOrderPlaced, changed)
	o := s.row(id)
	reserve := messagingtest.As[contracts.ReserveStock](t, messages[0])
	want := contracts.ReserveStock{ReservationID: o.ReservationID, OrderID: id, Lines: []contracts.Line{{SKU: "MUG-01", Quantity: 2}, {SKU: "TEA-01", Quantity: 1}}, HoldSeconds: 1800}
	if fmt.Sprint(reserve) != fmt.Sprint(want) {
		t.Errorf("stock asked for:\n got %+v\nwant %+v", reserve, want)
	}
	for _, step := range []struct {
		on    string
		to    Status
		kinds []string
	}{
		{contracts.KindStockReserved, Authorizing, []string{contracts.KindAuthorizePayment, changed}},
		{contracts.KindPaymentAuthorized, Confirmed, []string{contracts.KindFulfilOrder, contracts.KindOrderConfirmed, changed}},
		{contracts.KindFulfilmentStarted, Fulfilling, []string{changed}},
		{contracts.KindShipmentPacked, Capturing, []string{contracts.KindCapturePayment, changed}},
		{contracts.KindPaymentCaptured, Dispatching, []string{contracts.KindDispatchShipment, changed}},
		{contracts.KindShipmentDispatched, Shipped, []string{contracts.KindOrderShipped, changed}},
		{contracts.KindShipmentDelivered, Delivered, []string{contracts.KindOrderDelivered, changed}},
	} {
		in := says(step.on, s.row(id))
		s.deliver("done", in.Body)
		s.wants(id, step.to, step.kinds...)
		s.deliver("ignored", in.Body)
		s.wants(id, step.to)
	}
	s.checkHistory(id, Placed, Authorizing, Confirmed, Fulfilling, Capturing, Dispatching, Shipped, Delivered)
	o = s.row(id)
	until := o.ChangedAt.Add(14 * 24 * time.Hour)
	if o.Tracking != "TRACK-1" || o.ReturnUntil == nil || !o.ReturnUntil.Equal(until) || !o.Deadline.Equal(until) || o.PaymentToken != "" {
		t.Errorf("delivered order: tracking %q, to be returned until %v, deadline %v, token kept %v; want TRACK-1, both %v, false",
			o.Tracking, o.ReturnUntil, o.Deadline, o.PaymentToken != "", until)
	}
	doc := s.must(http.StatusOK, "GET", "/v1/orders/"+id, "").doc
	if doc.Status != Delivered || doc.Version != 8 || len(doc.History) != 8 || doc.Tracking != "TRACK-1" || fmt.Sprint(doc.Next) != "[refunding completed]" ||
		doc.ReturnUntil == nil || !doc.ReturnUntil.Equal(until) {
		t.Errorf("document: got %+v, want it delivered in version 8, to be returned until %v", doc, until)
	}
}

func TestOutOfStockRejects(t *testing.T) {
	t.Parallel()
	s := stocked(t)
	id := s.place("k")
	s.db.Published(t, service)
	s.deliver("done", says(contracts.KindStockRejected, s.row(id)).Body)
	messages := s.wants(id, Rejected, contracts.KindOrderRejected, changed)
	if got := messagingtest.As[contracts.OrderRejected](t, messages[0]).ReasonCode; got != "out_of_stock" {
		t.Errorf("reason: got %q, want out_of_stock", got)
	}
	s.checkHistory(id, Placed, Rejected)
}

func TestDeclinedThenPaid(t *testing.T) {
	t.Parallel()
	s := stocked(t)
	id := s.place("k")
	s.bring(id, Authorizing)
	first := s.row(id)
	s.deliver("done", says(contracts.KindPaymentDeclined, first).Body)
	s.wants(id, PaymentFailed, contracts.KindOrderActionRequired, changed)
	s.must(http.StatusAccepted, "POST", "/v1/orders/"+id+"/payment", `{"payment_token":"tok_second"}`)
	messages := s.wants(id, Authorizing, contracts.KindAuthorizePayment, changed)
	pay := messagingtest.As[contracts.AuthorizePayment](t, messages[0])
	if pay.Attempt != 2 || pay.MethodToken != "tok_second" || pay.PaymentID != first.PaymentID {
		t.Errorf("second attempt: got attempt %d of the same payment %v, want 2 of it with the new token", pay.Attempt, pay.PaymentID == first.PaymentID)
	}
	if got := s.row(id).CaptureID; got == first.CaptureID {
		t.Errorf("capture id of the second attempt: got that of the first")
	}
	s.deliver("ignored", says(contracts.KindPaymentAuthorized, first).Body)
	s.deliver("done", says(contracts.KindPaymentAuthorized, s.row(id)).Body)
	s.wants(id, Confirmed, contracts.KindFulfilOrder, contracts.KindOrderConfirmed, changed)
	s.checkHistory(id, Placed, Authorizing, PaymentFailed, Authorizing, Confirmed)
}

func TestThreeDeclinesReject(t *testing.T) {
	t.Parallel()
	s := stocked(t)
	id := s.place("k")
	s.bring(id, Authorizing)
	for range 2 {
		s.deliver("done", says(contracts.KindPaymentDeclined, s.row(id)).Body)
		s.must(http.StatusAccepted, "POST", "/v1/orders/"+id+"/payment", `{"payment_token":"tok_next"}`)
	}
	s.db.Published(t, service)
	s.deliver("done", says(contracts.KindPaymentDeclined, s.row(id)).Body)
	messages := s.wants(id, Compensating, contracts.KindReleaseStock, contracts.KindVoidPayment, changed)
	if got := messagingtest.As[contracts.VoidPayment](t, messages[1]).Attempt; got != 3 {
		t.Errorf("voided attempt: got %d, want 3", got)
	}
	s.deliver("done", says(contracts.KindStockReleased, s.row(id)).Body)
	s.wants(id, Compensating)
	s.deliver("ignored", says(contracts.KindStockReleased, s.row(id)).Body)
	s.deliver("done", says(contracts.KindPaymentVoided, s.row(id)).Body)
	messages = s.wants(id, Rejected, contracts.KindOrderRejected, changed)
	if got := messagingtest.As[contracts.OrderRejected](t, messages[0]).ReasonCode; got != "payment_declined" {
		t.Errorf("reason: got %q, want payment_declined", got)
	}
	s.checkHistory(id, Placed, Authorizing, PaymentFailed, Authorizing, PaymentFailed, Authorizing, Compensating, Rejected)
}

func TestReservationExpires(t *testing.T) {
	t.Parallel()
	s := stocked(t)
	id := s.place("k")
	s.bring(id, Confirmed)
	s.deliver("done", says(contracts.KindReservationExpired, s.row(id)).Body)
	s.wants(id, Compensating, contracts.KindReleaseStock, contracts.KindVoidPayment, changed)
	s.deliver("ignored", says(contracts.KindPaymentAuthorized, s.row(id)).Body)
	s.deliver("done", says(contracts.KindPaymentVoided, s.row(id)).Body, says(contracts.KindStockReleased, s.row(id)).Body)
	s.wants(id, Expired, contracts.KindOrderExpired, changed)
	s.deliver("done", says(contracts.KindStockReserved, s.row(id)).Body, says(contracts.KindPaymentAuthorized, s.row(id)).Body)
	s.wants(id, Expired, contracts.KindReleaseStock, contracts.KindVoidPayment) // whatever was late is given back
	s.deliver("ignored", says(contracts.KindStockReleased, s.row(id)).Body, says(contracts.KindPaymentVoided, s.row(id)).Body)
	s.wants(id, Expired)
	s.checkHistory(id, Placed, Authorizing, Confirmed, Compensating, Expired)
}

func TestMessageAboutAnUnknownOrderIsIgnored(t *testing.T) {
	t.Parallel()
	s := stocked(t)
	unknown := Order{ID: orderID, ReservationID: reservationID}
	s.deliver("ignored", says(contracts.KindStockReserved, unknown).Body)
	if got := s.db.Published(t, service); len(got) != 0 {
		t.Errorf("published: got %v, want nothing", messagingtest.Kinds(got))
	}
}

// TestTwoMessagesOfAnOrderInOneBatch: the second sees what the first has made.
func TestTwoMessagesOfAnOrderInOneBatch(t *testing.T) {
	t.Parallel()
	s := stockedIdle(t)
	id := s.place("k")
	s.db.Published(t, service)
	placed := s.row(id)
	asked := placed
	asked.Attempt = 1
	s.inTx(func(ctx context.Context, tx *messaging.Tx) error {
		if err := s.svc.preload(ctx, tx, []messaging.Message{{OrderID: id}, {OrderID: id}, {}}); err != nil {
			return err
		}
		if err := s.svc.onStockReserved(ctx, tx, says(contracts.KindStockReserved, placed).Body.(contracts.StockReserved)); err != nil {
			return err
		}
		return s.svc.onPaymentAuthorized(ctx, tx, says(contracts.KindPaymentAuthorized, asked).Body.(contracts.PaymentAuthorized))
	})
	s.wants(id, Confirmed, contracts.KindAuthorizePayment, changed, contracts.KindFulfilOrder, contracts.KindOrderConfirmed, changed)
	s.checkHistory(id, Placed, Authorizing, Confirmed)
}

// TestHandlersWaitForTheRow: who has the order's row decides first.
func TestHandlersWaitForTheRow(t *testing.T) {
	t.Parallel()
	s := stocked(t)
	id := s.place("k")
	s.bring(id, Authorizing)
	other, err := s.db.Admin.Beginx()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.Exec(`UPDATE orders.orders SET status = 'rejected', reason_code = 'test', deadline = NULL WHERE id = $1`, id); err != nil {
		t.Fatal(errors.Join(err, other.Rollback()))
	}
	message, _ := s.db.Send(t, says(contracts.KindPaymentAuthorized, s.row(id)).Body)
	s.waitForLock()
	if err := other.Commit(); err != nil {
		t.Fatal(err)
	}
	messagingtest.Wait(t, "the message to be handled", func() bool {
		return s.count(`SELECT count(*) FROM messaging.inbox_orders WHERE message_id = $1`, message) == 1
	})
	s.wants(id, Rejected, contracts.KindVoidPayment)
}

// TestBatch sends many orders' messages at once, several about each order.
func TestBatch(t *testing.T) {
	t.Parallel()
	s := stocked(t)
	const n = 60
	var bodies []messaging.Body
	ids := make([]string, n)
	for i := range n {
		ids[i] = s.place(fmt.Sprintf("k%d", i))
	}
	s.db.Published(t, service)
	for _, on := range []string{contracts.KindStockReserved, contracts.KindPaymentAuthorized, contracts.KindShipmentPacked} {
		for _, id := range ids {
			o := s.row(id)
			if on != contracts.KindStockReserved {
				o.Attempt = 1
			}
			bodies = append(bodies, says(on, o).Body)
		}
	}
	s.deliver("done", bodies...)
	published := map[string][]string{}
	for _, m := range s.db.Published(t, service) {
		if m.Kind != changed {
			published[m.OrderID] = append(published[m.OrderID], m.Kind)
		}
	}
	want := fmt.Sprint([]string{contracts.KindAuthorizePayment, contracts.KindFulfilOrder, contracts.KindOrderConfirmed, contracts.KindCapturePayment})
	for _, id := range ids {
		s.checkHistory(id, Placed, Authorizing, Confirmed, Capturing)
		if got := fmt.Sprint(published[id]); got != want {
			t.Errorf("published for order %s:\n got %s\nwant %s", id, got, want)
		}
	}
}

func TestMessagesCarryTheOrdersClass(t *testing.T) {
	t.Parallel()
	s := stocked(t)
	express := `{"currency":"EUR","lines":[{"sku":"MUG-01","quantity":1}],"customer":{"name":"Ada","email":"ada@example.com","address":"1 Main Street"},"payment_token":"tok_ok","priority":"express"}`
	id := s.must(http.StatusAccepted, "POST", "/v1/orders", express, "Idempotency-Key", "k", "X-Request-Id", "req-1").doc.ID
	for _, m := range s.db.Published(t, service) {
		if m.Class != messaging.Express || m.CorrelationID != "req-1" || m.Lane != id {
			t.Errorf("%s: got class %d, correlation %q, lane %q; want %d, req-1, %s", m.Kind, m.Class, m.CorrelationID, m.Lane, messaging.Express, id)
		}
	}
	s.deliver("done", says(contracts.KindStockReserved, s.row(id)).Body)
	for _, m := range s.db.Published(t, service) {
		if m.Class != messaging.Express {
			t.Errorf("%s: got class %d, want %d", m.Kind, m.Class, messaging.Express)
		}
	}
}

func TestGraceDelaysReserveStock(t *testing.T) {
	t.Parallel()
	s := stocked(t, func(c *Config) { c.Grace = time.Minute })
	id := s.place("k")
	messages := s.wants(id, Placed, contracts.KindReserveStock, contracts.KindOrderPlaced, changed)
	if got := messages[0]; got.Delay < 59*time.Second || got.Delay > 61*time.Second || got.Lane != "" {
		t.Errorf("stock asked for: got delay %v and lane %q, want a minute and none", got.Delay, got.Lane)
	}
}

func TestProductChanged(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	if err := s.svc.Ready(t.Context()); err == nil {
		t.Error("ready without products: got nil, want an error")
	}
	mug := contracts.ProductChanged{SKU: "MUG-01", Name: "Mug", PriceMinor: 1000, Currency: "EUR", Active: true}
	s.deliver("done", mug)
	if err := s.svc.Ready(t.Context()); err != nil {
		t.Errorf("ready with a product: got %v, want nil", err)
	}
	mug.PriceMinor = 1200
	s.deliver("done", mug)
	if n := s.count(`SELECT price_minor FROM orders.products WHERE sku = 'MUG-01'`); n != 1200 {
		t.Errorf("price: got %d, want 1200", n)
	}
	if _, err := s.db.Admin.Exec(`UPDATE orders.products SET changed_at = changed_at + interval '1 hour'`); err != nil {
		t.Fatal(err)
	}
	mug.PriceMinor = 900
	s.deliver("done", mug)
	if n := s.count(`SELECT price_minor FROM orders.products WHERE sku = 'MUG-01'`); n != 1200 {
		t.Errorf("price after an older word: got %d, want 1200", n)
	}
}

func TestInvalidMessageIsADeadLetter(t *testing.T) {
	t.Parallel()
	s := stocked(t)
	for _, got := range s.db.Deliver(t, contracts.StockReserved{OrderID: uuid.Must(uuid.NewV7()).String()}) {
		if len(got) < 5 || got[:5] != "dead:" {
			t.Errorf("a message without a reservation: got %q, want it dead", got)
		}
	}
}
