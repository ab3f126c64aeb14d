package orders

import (
	"slices"
	"testing"

	"example.com/orderflow/messaging/contracts"
)

func declined(times int) func(*Order) {
	return func(o *Order) { o.Declines, o.Attempt = times, times+1 }
}

func undoing(endsAs Status, release, void bool) func(*Order) {
	return func(o *Order) { o.EndsAs, o.AwaitsRelease, o.AwaitsVoid = endsAs, release, void }
}

// moves is what the documents' table says, written out by hand: every legal move
// of this machine, and what it sends besides OrderStatusChanged.
var moves = []struct {
	name   string
	from   Order
	on     string
	to     Status
	reason string
	sends  []string
}{
	{"a new order asks for stock", orderIn(Unplaced), Place, Placed, "", []string{contracts.KindReserveStock, contracts.KindOrderPlaced}},
	{"stock reserved asks for the payment", orderIn(Placed), contracts.KindStockReserved, Authorizing, "", []string{contracts.KindAuthorizePayment}},
	{"out of stock ends the order", orderIn(Placed), contracts.KindStockRejected, Rejected, "out_of_stock", []string{contracts.KindOrderRejected}},
	{"payment authorised confirms", orderIn(Authorizing), contracts.KindPaymentAuthorized, Confirmed, "", []string{contracts.KindFulfilOrder, contracts.KindOrderConfirmed}},
	{"first decline asks for another method", orderIn(Authorizing), contracts.KindPaymentDeclined, PaymentFailed, "card_declined", []string{contracts.KindOrderActionRequired}},
	{"second decline asks again", orderIn(Authorizing, declined(1)), contracts.KindPaymentDeclined, PaymentFailed, "card_declined", []string{contracts.KindOrderActionRequired}},
	{"third decline undoes the order", orderIn(Authorizing, declined(2)), contracts.KindPaymentDeclined, Compensating, "payment_declined", []string{contracts.KindReleaseStock, contracts.KindVoidPayment}},
	{"another method is tried", orderIn(PaymentFailed), Pay, Authorizing, "", []string{contracts.KindAuthorizePayment}},
	{"no other method in time undoes the order", orderIn(PaymentFailed), DeadlineUp, Compensating, "payment_not_completed", []string{contracts.KindReleaseStock, contracts.KindVoidPayment}},
	{"warehouse starts", orderIn(Confirmed), contracts.KindFulfilmentStarted, Fulfilling, "", nil},
	{"warehouse refuses", orderIn(Confirmed), contracts.KindFulfilmentRefused, Compensating, "not_reserved", []string{contracts.KindReleaseStock, contracts.KindVoidPayment}},
	{"packed takes the money", orderIn(Fulfilling), contracts.KindShipmentPacked, Capturing, "", []string{contracts.KindCapturePayment}},
	{"packed before started was heard", orderIn(Confirmed), contracts.KindShipmentPacked, Capturing, "", []string{contracts.KindCapturePayment}},
	{"captured is dispatched", orderIn(Capturing), contracts.KindPaymentCaptured, Dispatching, "", []string{contracts.KindDispatchShipment}},
	{"the carrier has it", orderIn(Dispatching), contracts.KindShipmentDispatched, Shipped, "", []string{contracts.KindOrderShipped}},
	{"the customer has it", orderIn(Shipped), contracts.KindShipmentDelivered, Delivered, "", []string{contracts.KindOrderDelivered}},
	{"delivered before dispatched was heard", orderIn(Dispatching), contracts.KindShipmentDelivered, Delivered, "", []string{contracts.KindOrderDelivered}},

	{"hold ends before stock reserved was heard", orderIn(Placed), contracts.KindReservationExpired, Compensating, "reservation_expired", []string{contracts.KindReleaseStock}},
	{"hold ends while authorizing", orderIn(Authorizing), contracts.KindReservationExpired, Compensating, "reservation_expired", []string{contracts.KindReleaseStock, contracts.KindVoidPayment}},
	{"hold ends after a decline", orderIn(PaymentFailed), contracts.KindReservationExpired, Compensating, "reservation_expired", []string{contracts.KindReleaseStock, contracts.KindVoidPayment}},
	{"hold ends before the warehouse starts", orderIn(Confirmed), contracts.KindReservationExpired, Compensating, "reservation_expired", []string{contracts.KindReleaseStock, contracts.KindVoidPayment}},

	{"cancel before anything was paid", orderIn(Placed), Cancel, Compensating, "cancelled_by_customer", []string{contracts.KindReleaseStock}},
	{"cancel while authorizing", orderIn(Authorizing), Cancel, Compensating, "cancelled_by_customer", []string{contracts.KindReleaseStock, contracts.KindVoidPayment}},
	{"cancel after a decline", orderIn(PaymentFailed), Cancel, Compensating, "cancelled_by_customer", []string{contracts.KindReleaseStock, contracts.KindVoidPayment}},
	{"cancel when confirmed", orderIn(Confirmed), Cancel, Compensating, "cancelled_by_customer", []string{contracts.KindReleaseStock, contracts.KindVoidPayment}},
	{"cancel again while undoing", orderIn(Compensating), Cancel, Compensating, "", nil},
	{"cancel again after", orderIn(Cancelled), Cancel, Cancelled, "", nil},

	{"released, void to come", orderIn(Compensating), contracts.KindStockReleased, Compensating, "", nil},
	{"voided, release to come", orderIn(Compensating), contracts.KindPaymentVoided, Compensating, "", nil},
	{"released last, cancelled", orderIn(Compensating, undoing(Cancelled, true, false)), contracts.KindStockReleased, Cancelled, "cancelled_by_customer", []string{contracts.KindOrderCancelled}},
	{"voided last, cancelled", orderIn(Compensating, undoing(Cancelled, false, true)), contracts.KindPaymentVoided, Cancelled, "cancelled_by_customer", []string{contracts.KindOrderCancelled}},
	{"released last, rejected", orderIn(Compensating, undoing(Rejected, true, false)), contracts.KindStockReleased, Rejected, "cancelled_by_customer", []string{contracts.KindOrderRejected}},
	{"voided last, rejected", orderIn(Compensating, undoing(Rejected, false, true)), contracts.KindPaymentVoided, Rejected, "cancelled_by_customer", []string{contracts.KindOrderRejected}},
	{"released last, expired", orderIn(Compensating, undoing(Expired, true, false)), contracts.KindStockReleased, Expired, "cancelled_by_customer", []string{contracts.KindOrderExpired}},
	{"voided last, expired", orderIn(Compensating, undoing(Expired, false, true)), contracts.KindPaymentVoided, Expired, "cancelled_by_customer", []string{contracts.KindOrderExpired}},

	{"no answer about stock", orderIn(Placed), DeadlineUp, Placed, "", []string{contracts.KindReserveStock}},
	{"no answer about the payment", orderIn(Authorizing), DeadlineUp, Authorizing, "", []string{contracts.KindAuthorizePayment}},
	{"no answer from the warehouse", orderIn(Confirmed), DeadlineUp, Confirmed, "", []string{contracts.KindFulfilOrder}},
	{"picking takes long", orderIn(Fulfilling), DeadlineUp, Fulfilling, "", []string{contracts.KindFulfilOrder}},
	{"no answer about the capture", orderIn(Capturing), DeadlineUp, Capturing, "", []string{contracts.KindCapturePayment}},
	{"no answer about the dispatch", orderIn(Dispatching), DeadlineUp, Dispatching, "", []string{contracts.KindDispatchShipment}},
	{"delivery takes long", orderIn(Shipped), DeadlineUp, Shipped, "", []string{contracts.KindDispatchShipment}},
	{"no answer to undoing", orderIn(Compensating), DeadlineUp, Compensating, "", []string{contracts.KindReleaseStock, contracts.KindVoidPayment}},
	{"no answer to the release", orderIn(Compensating, undoing(Cancelled, true, false)), DeadlineUp, Compensating, "", []string{contracts.KindReleaseStock}},
	{"no answer to the void", orderIn(Compensating, undoing(Rejected, false, true)), DeadlineUp, Compensating, "", []string{contracts.KindVoidPayment}},
}

func TestMoves(t *testing.T) {
	t.Parallel()
	for _, tt := range moves {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			step, err := testRules.Decide(tt.from, says(tt.on, tt.from))
			if err != nil {
				t.Fatalf("%s while %s: got error %v, want none", tt.on, tt.from.Status, err)
			}
			got := step.Order
			if got.Status != tt.to {
				t.Errorf("status: got %s, want %s", got.Status, tt.to)
			}
			want := tt.sends
			if tt.to == tt.from.Status {
				if step.Entry != nil || got.Version != tt.from.Version {
					t.Errorf("a status that stays: got history row %v and version %d, want none and %d", step.Entry, got.Version, tt.from.Version)
				}
			} else {
				want = append(slices.Clone(want), contracts.KindOrderStatusChanged)
				checkEntry(t, tt.from, step, tt.on, tt.reason)
			}
			if sent := kindsOf(step.Sends); !slices.Equal(sent, want) {
				t.Errorf("sent: got %v, want %v", sent, want)
			}
			checkOrder(t, got)
			if tt.on == DeadlineUp && !got.Status.Ended() && !got.Deadline.After(noon) {
				t.Errorf("deadline after it was up: got %v, want it after %v", got.Deadline, noon)
			}
		})
	}
}

// checkEntry checks the history row of a change of status and the event about it.
func checkEntry(t *testing.T, before Order, step Step, on, reason string) {
	t.Helper()
	e, o := step.Entry, step.Order
	if e == nil {
		t.Fatalf("history row: got none, want one from %q to %q", before.Status, o.Status)
	}
	want := Entry{Version: before.Version + 1, Status: o.Status, From: before.Status, ReasonCode: reason, At: noon, Trigger: on}
	if *e != want {
		t.Errorf("history row:\n got %+v\nwant %+v", *e, want)
	}
	if o.Version != e.Version || o.ReasonCode != e.ReasonCode || !o.ChangedAt.Equal(e.At) {
		t.Errorf("order: got version %d, reason %q, changed %v; want those of %+v", o.Version, o.ReasonCode, o.ChangedAt, *e)
	}
	event, ok := step.Sends[len(step.Sends)-1].(contracts.OrderStatusChanged)
	wantEvent := contracts.OrderStatusChanged{OrderID: orderID, From: string(e.From), To: string(e.Status), Version: e.Version, ReasonCode: e.ReasonCode, At: e.At}
	if !ok || event != wantEvent {
		t.Errorf("last message: got %+v, want %+v", step.Sends[len(step.Sends)-1], wantEvent)
	}
}

// checkOrder checks what must be true of every order, in every status.
func checkOrder(t *testing.T, o Order) {
	t.Helper()
	_, waits := testRules.Deadlines[o.Status]
	if (o.Deadline != nil) != waits {
		t.Errorf("deadline while %s: got %v, want one: %v", o.Status, o.Deadline, waits)
	}
	if (o.Status == Compensating) != (o.EndsAs != "") || (o.Status == Compensating) != (o.AwaitsRelease || o.AwaitsVoid) {
		t.Errorf("while %s: ends as %q, awaits release %v, void %v", o.Status, o.EndsAs, o.AwaitsRelease, o.AwaitsVoid)
	}
	if o.Status.Ended() && o.ReasonCode == "" {
		t.Errorf("ended as %s without a reason", o.Status)
	}
	if keeps := o.Status == Placed || o.Status == Authorizing; keeps != (o.PaymentToken != "") {
		t.Errorf("while %s: payment token kept: %v, want %v", o.Status, o.PaymentToken != "", keeps)
	}
}
