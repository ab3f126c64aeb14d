package orders

import (
	"slices"
	"testing"

	"example.com/orderflow/messaging"
	"example.com/orderflow/messaging/contracts"
)

// move is a legal move as the documents' table says it, and what it sends besides
// OrderStatusChanged.
type move struct {
	row    int
	name   string
	from   Order
	on     string
	to     Status
	reason string
	sends  []string
	body   messaging.Body // instead of what says has for on
}

// in is what happens in the move.
func (m move) in() Input {
	in := says(m.on, m.from)
	if m.body != nil {
		in.Body = m.body
	}
	return in
}

func row(row int, name string, from Order, on string, to Status, reason string, sends ...string) move {
	return move{row: row, name: name, from: from, on: on, to: to, reason: reason, sends: sends}
}

// saying is m with another message of its kind.
func (m move) saying(body messaging.Body) move {
	m.body = body
	return m
}

func declined(times int) func(*Order) {
	return func(o *Order) { o.Declines, o.Attempt = times, times+1 }
}

func undoing(endsAs Status, release, void bool) func(*Order) {
	return func(o *Order) { o.EndsAs, o.AwaitsRelease, o.AwaitsVoid = endsAs, release, void }
}

// boxed is an order whose goods are packed already, after a capture failed.
func boxed(o *Order) { o.Packed, o.Attempt = true, 2 }

// asked is an order whose overdue answer was asked for again so often.
func asked(times int) func(*Order) { return func(o *Order) { o.Resends = times } }

// returning is an order with one mug on its way back.
func returning(o *Order) {
	o.Returns = Returns{{ID: returnID, Status: returnExpected, Lines: []contracts.Line{{SKU: "MUG-01", Quantity: 1}}, AskedAt: o.ChangedAt}}
	deadline := o.ChangedAt.Add(testRules.Deadlines[o.Status])
	o.Deadline = &deadline
}

// refundingAll is an order all of which is being refunded.
func refundingAll(o *Order) {
	o.Refunds = nil
	o.editLines(func(l *Line) { l.Refunded, l.Returned = 0, 0 })
	o.refundRest(refundID, "lost", o.ChangedAt)
}

// refundingTwice is an order with two open refunds.
func refundingTwice(o *Order) {
	o.refund(otherID, "not_sent_back", []contracts.Line{{SKU: "TEA-01", Quantity: 1}}, o.ChangedAt)
}

// releasing is an order that was refunded before it was dispatched and whose
// stock isn't free yet.
func releasing(o *Order) {
	refundingAll(o)
	o.Dispatched, o.AwaitsRelease, o.ReturnUntil = false, true, nil
}

// inTwoRefunds is an order all of which is refunded in two.
func inTwoRefunds(o *Order) {
	o.Refunds = nil
	o.editLines(func(l *Line) { l.Refunded = 0 })
	o.refund(refundID, "lost", []contracts.Line{{SKU: "MUG-01", Quantity: 2}}, o.ChangedAt)
	refundingTwice(o)
}

// repaid is an order whose refunds have succeeded, which nobody was told yet.
func repaid(o *Order) { o.setRefunds(refundOpen, refundSucceeded) }

// stuck is an order in needs_attention that was in status before.
func stuck(status Status, changes ...func(*Order)) Order {
	o := orderIn(status, changes...)
	o.Status, o.Resume, o.ResumeReason, o.ReasonCode, o.Deadline = NeedsAttention, status, o.ReasonCode, "no_answer", nil
	return o
}

func packing(lines ...contracts.Line) contracts.ShipmentPacked {
	return contracts.ShipmentPacked{ReservationID: reservationID, OrderID: orderID, Lines: lines}
}

// The kinds that the table speaks of, by the names that it has for them.
const (
	started, packedKind, released = contracts.KindFulfilmentStarted, contracts.KindShipmentPacked, contracts.KindStockReleased
	voided, dispatched, lost      = contracts.KindPaymentVoided, contracts.KindShipmentDispatched, contracts.KindShipmentLost
	received, refundedKind        = contracts.KindReturnReceived, contracts.KindRefundSucceeded

	cReserve, cRelease, cFulfil     = contracts.KindReserveStock, contracts.KindReleaseStock, contracts.KindFulfilOrder
	cStop, cDispatch, cExpect       = contracts.KindStopFulfilment, contracts.KindDispatchShipment, contracts.KindExpectReturn
	cAuthorize, cCapture, cVoid     = contracts.KindAuthorizePayment, contracts.KindCapturePayment, contracts.KindVoidPayment
	cRefund                         = contracts.KindRefundPayment
	eActionRequired, eAmended       = contracts.KindOrderActionRequired, contracts.KindOrderAmended
	eRefused, eRefunded, eAttention = contracts.KindCancelRefused, contracts.KindOrderRefunded, contracts.KindOrderNeedsAttention
)

// moves is what the documents' table says, written out by hand: every legal move
// of this machine.
var moves = slices.Concat([]move{
	row(1, "a new order asks for stock", orderIn(Unplaced), Place, Placed, "", cReserve, contracts.KindOrderPlaced),
	row(2, "stock reserved asks for the payment", orderIn(Placed), contracts.KindStockReserved, Authorizing, "", cAuthorize),
	row(3, "a part reserved asks the customer", orderIn(Placed, partial), contracts.KindStockPartiallyReserved, AwaitingCustomer, "partly_out_of_stock", eActionRequired),
	row(4, "out of stock ends the order", orderIn(Placed), contracts.KindStockRejected, Rejected, "out_of_stock", contracts.KindOrderRejected),
	row(5, "the part will do", orderIn(AwaitingCustomer), Accept, Authorizing, "", cAuthorize, eAmended),
	row(6, "the part won't do", orderIn(AwaitingCustomer), Refuse, Compensating, "cancelled_by_customer", cRelease),
	row(6, "cancel instead of deciding", orderIn(AwaitingCustomer), Cancel, Compensating, "cancelled_by_customer", cRelease),
	row(6, "no decision in time", orderIn(AwaitingCustomer), DeadlineUp, Compensating, "not_decided", cRelease),

	row(7, "payment authorised confirms", orderIn(Authorizing), contracts.KindPaymentAuthorized, Confirmed, "", cFulfil, contracts.KindOrderConfirmed),
	row(7, "payment authorised when packed takes the money", orderIn(Authorizing, boxed), contracts.KindPaymentAuthorized, Capturing, "", cCapture),
	row(8, "first decline asks for another method", orderIn(Authorizing), contracts.KindPaymentDeclined, PaymentFailed, "card_declined", eActionRequired),
	row(8, "second decline asks again", orderIn(Authorizing, declined(1)), contracts.KindPaymentDeclined, PaymentFailed, "card_declined", eActionRequired),
	row(8, "third decline undoes the order", orderIn(Authorizing, declined(2)), contracts.KindPaymentDeclined, Compensating, "payment_declined", cRelease, cVoid),
	row(9, "another method is tried", orderIn(PaymentFailed), Pay, Authorizing, "", cAuthorize),
	row(9, "no other method in time undoes the order", orderIn(PaymentFailed), DeadlineUp, Compensating, "payment_not_completed", cRelease, cVoid),

	row(10, "warehouse starts", orderIn(Confirmed), started, Fulfilling, ""),
	row(10, "warehouse refuses", orderIn(Confirmed), contracts.KindFulfilmentRefused, Compensating, "not_reserved", cRelease, cVoid),
	row(11, "packed takes the money", orderIn(Fulfilling), packedKind, Capturing, "", cCapture),
	row(11, "packed before started was heard", orderIn(Confirmed), packedKind, Capturing, "", cCapture),
	row(11, "fewer lines packed", orderIn(Fulfilling), packedKind, Capturing, "", cCapture, eAmended).saying(packing(contracts.Line{SKU: "MUG-01", Quantity: 2})),
	row(11, "fewer pieces packed before started was heard", orderIn(Confirmed), packedKind, Capturing, "", cCapture, eAmended).
		saying(packing(contracts.Line{SKU: "TEA-01", Quantity: 1}, contracts.Line{SKU: "MUG-01", Quantity: 1})),
	row(11, "nothing packed", orderIn(Fulfilling), packedKind, Compensating, "nothing_found", cRelease, cVoid).saying(packing()),
	row(11, "nothing packed before started was heard", orderIn(Confirmed), packedKind, Compensating, "nothing_found", cRelease, cVoid).saying(packing()),
	row(11, "too late to stop", orderIn(Stopping), packedKind, Capturing, "", cCapture, eRefused),
	row(11, "too late to stop, fewer packed", orderIn(Stopping), packedKind, Capturing, "", cCapture, eAmended, eRefused).saying(packing(contracts.Line{SKU: "TEA-01", Quantity: 1})),
	row(11, "stopping, nothing packed", orderIn(Stopping), packedKind, Compensating, "cancelled_by_customer", cRelease, cVoid).saying(packing()),
	row(12, "cancel while picking", orderIn(Fulfilling), Cancel, Stopping, "cancelled_by_customer", cStop),
	row(13, "stopped in time", orderIn(Stopping), released, Compensating, "cancelled_by_customer", cVoid),

	row(14, "captured is dispatched", orderIn(Capturing), contracts.KindPaymentCaptured, Dispatching, "", cDispatch),
	row(14, "capture failed asks for another method", orderIn(Capturing), contracts.KindCaptureFailed, PaymentFailed, "authorization_expired", eActionRequired),
	row(15, "the carrier has it", orderIn(Dispatching), dispatched, Shipped, "", contracts.KindOrderShipped),
	row(16, "the customer has it", orderIn(Shipped), contracts.KindShipmentDelivered, Delivered, "", contracts.KindOrderDelivered),
	row(16, "delivered before dispatched was heard", orderIn(Dispatching), contracts.KindShipmentDelivered, Delivered, "", contracts.KindOrderDelivered),
	row(16, "lost by the carrier", orderIn(Shipped), lost, Refunding, "lost", cRefund),
	row(16, "lost before dispatched was heard", orderIn(Dispatching), lost, Refunding, "lost", cRefund),

	row(17, "a return is announced", orderIn(Delivered), AskReturn, Delivered, "return_announced", cExpect),
	row(18, "a return is there", orderIn(Delivered, returning), received, Refunding, "returned", cRefund),
	row(18, "a return is there while another refund is open", orderIn(Refunding, returning), received, Refunding, "returned", cRefund),
	row(18, "an operator refunds", orderIn(Delivered), OperatorRefund, Refunding, "not_sent_back", cRefund),
	row(18, "an operator refunds while another refund is open", orderIn(Refunding), OperatorRefund, Refunding, "not_sent_back", cRefund),
	row(19, "the time for returns is over", orderIn(Delivered), DeadlineUp, Completed, "return_time_over", contracts.KindOrderCompleted),

	row(20, "all is refunded", orderIn(Refunding, refundingAll), refundedKind, Refunded, "returned", eRefunded),
	row(20, "a part is refunded", orderIn(Refunding), refundedKind, Delivered, "", eRefunded),
	row(20, "one of two refunds", orderIn(Refunding, refundingTwice), refundedKind, Refunding, ""),
	row(20, "refunded, stock not free yet", orderIn(Refunding, releasing), refundedKind, Refunding, ""),
	row(20, "stock free, not refunded yet", orderIn(Refunding, releasing), released, Refunding, ""),
	row(20, "stock free, all refunded", orderIn(Refunding, releasing, repaid), released, Refunded, "returned", eRefunded),
	row(20, "its stock has left the house, not refunded yet", orderIn(Refunding, releasing), contracts.KindShipmentDispatched, Refunding, ""),
	row(20, "its stock is with the customer, not refunded yet", orderIn(Refunding, releasing), contracts.KindShipmentDelivered, Refunding, ""),
	row(20, "its stock is lost, not refunded yet", orderIn(Refunding, releasing), lost, Refunding, ""),
	row(20, "its stock has left the house, all refunded", orderIn(Refunding, releasing, repaid), contracts.KindShipmentDispatched, Refunded, "returned", eRefunded),
	row(20, "its stock is with the customer, all refunded", orderIn(Refunding, releasing, repaid), contracts.KindShipmentDelivered, Refunded, "returned", eRefunded),
	row(20, "its stock is lost, all refunded", orderIn(Refunding, releasing, repaid), lost, Refunded, "returned", eRefunded),
	row(20, "a refund fails", orderIn(Refunding), contracts.KindRefundFailed, NeedsAttention, "refund_failed", eAttention),

	row(21, "hold ends before stock reserved was heard", orderIn(Placed), contracts.KindReservationExpired, Compensating, "reservation_expired", cRelease),
	row(21, "hold ends before the customer decides", orderIn(AwaitingCustomer), contracts.KindReservationExpired, Compensating, "reservation_expired", cRelease),
	row(21, "hold ends while authorizing", orderIn(Authorizing), contracts.KindReservationExpired, Compensating, "reservation_expired", cRelease, cVoid),
	row(21, "hold ends after a decline", orderIn(PaymentFailed), contracts.KindReservationExpired, Compensating, "reservation_expired", cRelease, cVoid),
	row(21, "hold ends before the warehouse starts", orderIn(Confirmed), contracts.KindReservationExpired, Compensating, "reservation_expired", cRelease, cVoid),

	row(22, "cancel before anything was paid", orderIn(Placed), Cancel, Compensating, "cancelled_by_customer", cRelease),
	row(22, "cancel while authorizing", orderIn(Authorizing), Cancel, Compensating, "cancelled_by_customer", cRelease, cVoid),
	row(22, "cancel after a decline", orderIn(PaymentFailed), Cancel, Compensating, "cancelled_by_customer", cRelease, cVoid),
	row(22, "cancel when confirmed", orderIn(Confirmed), Cancel, Compensating, "cancelled_by_customer", cRelease, cVoid),
	row(22, "cancel again while stopping", orderIn(Stopping), Cancel, Stopping, ""),
	row(22, "cancel again while undoing", orderIn(Compensating), Cancel, Compensating, ""),
	row(22, "cancel again after", orderIn(Cancelled), Cancel, Cancelled, ""),

	row(23, "released, void to come", orderIn(Compensating), released, Compensating, ""),
	row(23, "voided, release to come", orderIn(Compensating), voided, Compensating, ""),
	row(23, "released last, cancelled", orderIn(Compensating, undoing(Cancelled, true, false)), released, Cancelled, "cancelled_by_customer", contracts.KindOrderCancelled),
	row(23, "voided last, cancelled", orderIn(Compensating, undoing(Cancelled, false, true)), voided, Cancelled, "cancelled_by_customer", contracts.KindOrderCancelled),
	row(23, "released last, rejected", orderIn(Compensating, undoing(Rejected, true, false)), released, Rejected, "cancelled_by_customer", contracts.KindOrderRejected),
	row(23, "voided last, rejected", orderIn(Compensating, undoing(Rejected, false, true)), voided, Rejected, "cancelled_by_customer", contracts.KindOrderRejected),
	row(23, "released last, expired", orderIn(Compensating, undoing(Expired, true, false)), released, Expired, "cancelled_by_customer", contracts.KindOrderExpired),
	row(23, "voided last, expired", orderIn(Compensating, undoing(Expired, false, true)), voided, Expired, "cancelled_by_customer", contracts.KindOrderExpired),
	row(23, "void refused", orderIn(Compensating), contracts.KindPaymentVoidRefused, NeedsAttention, "void_refused", eAttention),

	row(24, "no answer about stock", orderIn(Placed), DeadlineUp, Placed, "", cReserve),
	row(24, "no answer about the payment", orderIn(Authorizing), DeadlineUp, Authorizing, "", cAuthorize),
	row(24, "no answer from the warehouse", orderIn(Confirmed), DeadlineUp, Confirmed, "", cFulfil),
	row(24, "picking takes long", orderIn(Fulfilling), DeadlineUp, Fulfilling, "", cFulfil),
	row(24, "picking goes on", orderIn(Fulfilling, asked(2)), started, Fulfilling, ""),
	row(24, "no answer to the stop", orderIn(Stopping), DeadlineUp, Stopping, "", cStop),
	row(24, "no answer about the capture", orderIn(Capturing), DeadlineUp, Capturing, "", cCapture),
	row(24, "no answer about the dispatch", orderIn(Dispatching), DeadlineUp, Dispatching, "", cDispatch),
	row(24, "delivery takes long", orderIn(Shipped), DeadlineUp, Shipped, "", cDispatch),
	row(24, "delivery is under way", orderIn(Shipped, asked(2)), dispatched, Shipped, ""),
	row(24, "the return takes long", orderIn(Delivered, returning), DeadlineUp, Delivered, "", cExpect),
	row(24, "no answer about the refund", orderIn(Refunding), DeadlineUp, Refunding, "", cRefund),
	row(24, "no answer about two refunds and a release", orderIn(Refunding, releasing, inTwoRefunds), DeadlineUp, Refunding, "", cRefund, cRefund, cRelease),
	row(24, "no answer to undoing", orderIn(Compensating), DeadlineUp, Compensating, "", cRelease, cVoid),
	row(24, "no answer to the release", orderIn(Compensating, undoing(Cancelled, true, false)), DeadlineUp, Compensating, "", cRelease),
	row(24, "no answer to the void", orderIn(Compensating, undoing(Rejected, false, true)), DeadlineUp, Compensating, "", cVoid),

	row(25, "the operator cancels before the money is ours", stuck(Authorizing), OperatorCancel, Compensating, "cancelled_by_operator", cRelease, cVoid),
	row(25, "the operator cancels when it isn't known whose the money is", stuck(Capturing), OperatorCancel, Compensating, "cancelled_by_operator", cRelease, cVoid),
	row(25, "the operator cancels when the money is ours", stuck(Dispatching), OperatorCancel, Refunding, "cancelled_by_operator", cRefund, cRelease),
	row(25, "the operator cancels what was dispatched", stuck(Shipped), OperatorCancel, Refunding, "cancelled_by_operator", cRefund),
	row(25, "the operator cancels after the refusal that says captured", stuck(Compensating, func(o *Order) { o.Captured = true }), OperatorCancel, Refunding, "cancelled_by_operator", cRefund, cRelease),
	row(25, "the operator cancels a return that doesn't come", stuck(Delivered, returning), OperatorCancel, Refunding, "cancelled_by_operator", cRefund),
	row(25, "the operator cancels after a failed refund", stuck(Refunding, refundFailing), OperatorCancel, Refunding, "cancelled_by_operator", cRefund, cRefund),
	row(25, "the operator retries a failed refund", stuck(Refunding, refundFailing), OperatorRetry, Refunding, "returned", cRefund),
	row(25, "the operator retries a refund while a return is under way", stuck(Refunding, returning), OperatorRetry, Refunding, "returned", cRefund, cExpect),
}, attention(), late())

func refundFailing(o *Order) { o.setRefunds(refundOpen, refundFailed) }

// attention is each status that waits for a service: to an operator after four
// times, and back by retry.
func attention() []move {
	var list []move
	for _, w := range []struct {
		status Status
		reason string
		again  []string
		change func(*Order)
	}{
		{Placed, "", []string{cReserve}, func(*Order) {}},
		{Authorizing, "", []string{cAuthorize}, func(*Order) {}},
		{Confirmed, "", []string{cFulfil}, func(*Order) {}},
		{Fulfilling, "", []string{cFulfil}, func(*Order) {}},
		{Stopping, "cancelled_by_customer", []string{cStop}, func(*Order) {}},
		{Capturing, "", []string{cCapture}, func(*Order) {}},
		{Dispatching, "", []string{cDispatch}, func(*Order) {}},
		{Shipped, "", []string{cDispatch}, func(*Order) {}},
		{Delivered, "", []string{cExpect}, returning},
		{Refunding, "returned", []string{cRefund}, func(*Order) {}},
		{Compensating, "cancelled_by_customer", []string{cRelease, cVoid}, func(*Order) {}},
	} {
		list = append(list,
			row(24, "the third time while "+string(w.status), orderIn(w.status, w.change, asked(3)), DeadlineUp, w.status, "", w.again...),
			row(24, "asked four times while "+string(w.status), orderIn(w.status, w.change, asked(4)), DeadlineUp, NeedsAttention, "no_answer", eAttention),
			row(25, "the operator retries what was "+string(w.status), stuck(w.status, w.change), OperatorRetry, w.status, w.reason, w.again...))
	}
	return list
}

// late is what comes after an order came to nothing.
func late() []move {
	var list []move
	for _, status := range []Status{Cancelled, Rejected, Expired} {
		list = append(list,
			row(26, "authorised when "+string(status), orderIn(status), contracts.KindPaymentAuthorized, status, "", cVoid),
			row(26, "reserved when "+string(status), orderIn(status), contracts.KindStockReserved, status, "", cRelease),
			row(26, "partly reserved when "+string(status), orderIn(status), contracts.KindStockPartiallyReserved, status, "", cRelease))
	}
	return list
}

func TestMoves(t *testing.T) {
	t.Parallel()
	for _, tt := range moves {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			step, err := testRules.Decide(tt.from, tt.in())
			if err != nil {
				t.Fatalf("%s while %s: got error %v, want none", tt.on, tt.from.Status, err)
			}
			got := step.Order
			if got.Status != tt.to {
				t.Errorf("status: got %s, want %s", got.Status, tt.to)
			}
			want := tt.sends
			if stays := tt.to == tt.from.Status && tt.reason == ""; stays {
				if step.Entry != nil || got.Version != tt.from.Version {
					t.Errorf("a status that stays: got history row %v and version %d, want none and %d", step.Entry, got.Version, tt.from.Version)
				}
			} else {
				want = append(slices.Clone(want), contracts.KindOrderStatusChanged)
				checkEntry(t, tt, step)
			}
			if sent := kindsOf(step.Sends); !slices.Equal(sent, want) {
				t.Errorf("sent: got %v, want %v", sent, want)
			}
			checkOrder(t, got)
			if tt.on == DeadlineUp && got.Deadline != nil && !got.Deadline.After(noon) {
				t.Errorf("deadline after it was up: got %v, want it after %v", got.Deadline, noon)
			}
			checkUntouched(t, tt)
		})
	}
}

// checkEntry checks the history row of a move and the event about it.
func checkEntry(t *testing.T, m move, step Step) {
	t.Helper()
	e, o := step.Entry, step.Order
	if e == nil {
		t.Fatalf("history row: got none, want one from %q to %q", m.from.Status, o.Status)
	}
	want := Entry{Version: m.from.Version + 1, Status: o.Status, From: m.from.Status, ReasonCode: m.reason, At: noon, Trigger: m.on, Note: e.Note}
	if *e != want {
		t.Errorf("history row:\n got %+v\nwant %+v", *e, want)
	}
	if o.Version != e.Version || o.ReasonCode != e.ReasonCode || !o.ChangedAt.Equal(e.At) || o.Resends != 0 {
		t.Errorf("order: got version %d, reason %q, changed %v, %d commands repeated; want those of %+v and 0", o.Version, o.ReasonCode, o.ChangedAt, o.Resends, *e)
	}
	event, ok := step.Sends[len(step.Sends)-1].(contracts.OrderStatusChanged)
	wantEvent := contracts.OrderStatusChanged{OrderID: orderID, From: string(e.From), To: string(e.Status), Version: e.Version, ReasonCode: e.ReasonCode, At: e.At}
	if !ok || event != wantEvent {
		t.Errorf("last message: got %+v, want %+v", step.Sends[len(step.Sends)-1], wantEvent)
	}
}

// checkUntouched decides once more: what the first deciding shared with the order
// that it was given isn't changed, so the second says the same.
func checkUntouched(t *testing.T, m move) {
	t.Helper()
	before := m.from
	before.Lines, before.Returns, before.Refunds = slices.Clone(before.Lines), slices.Clone(before.Returns), slices.Clone(before.Refunds)
	if _, err := testRules.Decide(m.from, m.in()); err != nil {
		t.Errorf("decided a second time: got error %v, want none", err)
	}
	if !slices.Equal(before.Lines, m.from.Lines) || len(altered(before.Returns, m.from.Returns, func(a, b Return) bool { return a.Status == b.Status })) > 0 ||
		len(altered(before.Refunds, m.from.Refunds, func(a, b Refund) bool { return a.Status == b.Status })) > 0 {
		t.Errorf("the order that was decided on: got %+v, want it as before", m.from)
	}
}

// checkOrder checks what must be true of every order, in every status.
func checkOrder(t *testing.T, o Order) {
	t.Helper()
	_, waits := testRules.Deadlines[o.Status]
	if (o.Deadline != nil) != waits {
		t.Errorf("deadline while %s: got %v, want one: %v", o.Status, o.Deadline, waits)
	}
	if o.Status == Delivered && !o.expectsReturn() && !o.Deadline.Equal(*o.ReturnUntil) {
		t.Errorf("deadline of what is delivered: got %v, want the end of returns, %v", o.Deadline, o.ReturnUntil)
	}
	status := o.Status
	if status == NeedsAttention {
		status = o.Resume
	}
	if (status == Compensating) != (o.EndsAs != "") || (status == Compensating) != (o.AwaitsVoid || o.AwaitsRelease && status != Refunding) {
		t.Errorf("while %s: ends as %q, awaits release %v, void %v", o.Status, o.EndsAs, o.AwaitsRelease, o.AwaitsVoid)
	}
	if (o.Status == NeedsAttention) != (o.Resume != "") {
		t.Errorf("while %s: resumes %q", o.Status, o.Resume)
	}
	if (o.Status.Ended() || o.Status == NeedsAttention) && o.ReasonCode == "" {
		t.Errorf("%s without a reason", o.Status)
	}
	if keeps := status == Placed || status == AwaitingCustomer || status == Authorizing; keeps != (o.PaymentToken != "") {
		t.Errorf("while %s: payment token kept: %v, want %v", o.Status, o.PaymentToken != "", keeps)
	}
	checkMoney(t, o)
}

// checkMoney checks that what is refunded is the price of the pieces that the
// lines say are, and that no piece is there twice.
func checkMoney(t *testing.T, o Order) {
	t.Helper()
	var refunded, refunds int64
	for _, l := range o.Lines {
		refunded += l.UnitPriceMinor * int64(l.Refunded)
		if l.kept() < 0 || l.Returned > l.Refunded || o.free(l) < 0 || l.Missing < 0 || l.Short < 0 {
			t.Errorf("line while %s: got %+v with %d free pieces", o.Status, l, o.free(l))
		}
	}
	for _, f := range o.Refunds {
		refunds += f.AmountMinor
	}
	if refunded != refunds {
		t.Errorf("refunds while %s: got %d, want %d, the price of what is refunded", o.Status, refunds, refunded)
	}
	if o.Packed && o.price() != o.TotalMinor {
		t.Errorf("total of what is packed: got %d, want %d", o.TotalMinor, o.price())
	}
	if o.Status.undone() && (o.Captured || len(o.Refunds) > 0) {
		t.Errorf("%s with money taken: captured %v, refunds %v", o.Status, o.Captured, o.Refunds)
	}
	if o.Status == Refunded && (!nothingKept.Holds(o) || o.openRefunds() > 0 || o.AwaitsRelease) {
		t.Errorf("refunded with something kept or open: %+v", o)
	}
}
