package orders

import (
	"slices"

	"example.com/orderflow/messaging/contracts"
)

// Transition is one legal move. The first row of the table that fits is taken;
// what no row fits is not legal.
type Transition struct {
	Row    int      // of the table in the documents
	From   []Status // Unplaced: the order does not exist yet
	On     []string // kinds of messages, or actions: any of them
	If     *Fact    // what the order must be like, which Next knows, too; nil = anything
	When   *Guard   // what has happened must be like, too; nil = always
	To     Status
	EndsAs Status // into Compensating: how it will end; from it: the orders that this is about
	Resume Status // from NeedsAttention: the orders that this is about, by where they were
	Stays  bool   // To is From, and it isn't worth a history row or a version
	Reason func(Order, Input) string
	Then   func(*Order, Input) // what else changes in the order, before it enters To
	Sends  []Send              // besides OrderStatusChanged, which every history row sends
}

// transitions is the state machine: nothing else decides whether a move is legal.
var transitions = slices.Concat(steps, overdue())

// left are what inventory answers to a release of what has left the house.
var left = on(contracts.KindShipmentDispatched, contracts.KindShipmentDelivered, contracts.KindShipmentLost)

var steps = []Transition{
	{Row: 1, From: from(Unplaced), On: on(Place), To: Placed,
		Sends: []Send{reserveStock, orderPlaced}},

	{Row: 2, From: from(Placed), On: on(contracts.KindStockReserved), To: Authorizing,
		Then: firstAttempt, Sends: []Send{authorizePayment}},
	{Row: 3, From: from(Placed), On: on(contracts.KindStockPartiallyReserved), If: partialAllowed, When: partReserved, To: AwaitingCustomer,
		Reason: because("partly_out_of_stock"), Then: noteMissing, Sends: []Send{stockDecision}},
	{Row: 4, From: from(Placed), On: on(contracts.KindStockRejected), To: Rejected,
		Reason: given, Sends: []Send{orderRejected}},
	{Row: 5, From: from(AwaitingCustomer), On: on(Accept), To: Authorizing,
		Then: acceptPart, Sends: []Send{authorizePayment, orderAmended("part_accepted")}},
	{Row: 6, From: from(AwaitingCustomer), On: on(Cancel, Refuse), To: Compensating, EndsAs: Cancelled,
		Reason: because(byCustomer), Sends: undo},
	{Row: 6, From: from(AwaitingCustomer), On: on(DeadlineUp), To: Compensating, EndsAs: Expired,
		Reason: because("not_decided"), Sends: undo},

	{Row: 7, From: from(Authorizing), On: on(contracts.KindPaymentAuthorized), If: unpacked, To: Confirmed,
		Sends: []Send{fulfilOrder, orderConfirmed}},
	{Row: 7, From: from(Authorizing), On: on(contracts.KindPaymentAuthorized), If: packed, To: Capturing,
		Sends: []Send{capturePayment}},
	{Row: 8, From: from(Authorizing), On: on(contracts.KindPaymentDeclined), If: lastDecline, To: Compensating, EndsAs: Rejected,
		Reason: because("payment_declined"), Then: countDecline, Sends: undo},
	{Row: 8, From: from(Authorizing), On: on(contracts.KindPaymentDeclined), If: earlyDecline, To: PaymentFailed,
		Reason: given, Then: countDecline, Sends: []Send{paymentMethod}},
	{Row: 9, From: from(PaymentFailed), On: on(Pay), To: Authorizing,
		Then: nextAttempt, Sends: []Send{authorizePayment}},
	{Row: 9, From: from(PaymentFailed), On: on(DeadlineUp), To: Compensating, EndsAs: Rejected,
		Reason: because("payment_not_completed"), Sends: undo},

	{Row: 10, From: from(Confirmed), On: on(contracts.KindFulfilmentStarted), To: Fulfilling},
	{Row: 10, From: from(Confirmed), On: on(contracts.KindFulfilmentRefused), To: Compensating, EndsAs: Rejected,
		Reason: given, Sends: undo},
	{Row: 11, From: from(Confirmed, Fulfilling), On: on(contracts.KindShipmentPacked), When: allPacked, To: Capturing,
		Then: notePacked, Sends: []Send{capturePayment}},
	{Row: 11, From: from(Confirmed, Fulfilling), On: on(contracts.KindShipmentPacked), When: fewerPacked, To: Capturing,
		Then: notePacked, Sends: []Send{capturePayment, orderAmended("short_pick")}},
	{Row: 11, From: from(Confirmed, Fulfilling), On: on(contracts.KindShipmentPacked), When: nothingPacked, To: Compensating, EndsAs: Rejected,
		Reason: because("nothing_found"), Sends: undo},
	{Row: 11, From: from(Stopping), On: on(contracts.KindShipmentPacked), When: allPacked, To: Capturing,
		Then: notePacked, Sends: []Send{capturePayment, cancelRefused}},
	{Row: 11, From: from(Stopping), On: on(contracts.KindShipmentPacked), When: fewerPacked, To: Capturing,
		Then: notePacked, Sends: []Send{capturePayment, orderAmended("short_pick"), cancelRefused}},
	{Row: 11, From: from(Stopping), On: on(contracts.KindShipmentPacked), When: nothingPacked, To: Compensating, EndsAs: Cancelled,
		Reason: because(byCustomer), Sends: undo},
	{Row: 12, From: from(Fulfilling), On: on(Cancel), To: Stopping,
		Reason: because(byCustomer), Sends: []Send{stopFulfilment}},
	{Row: 13, From: from(Stopping), On: on(contracts.KindStockReleased), To: Compensating, EndsAs: Cancelled,
		Reason: because(byCustomer), Sends: undo},

	{Row: 14, From: from(Capturing), On: on(contracts.KindPaymentCaptured), To: Dispatching,
		Then: noteCaptured, Sends: []Send{dispatchShipment}},
	{Row: 14, From: from(Capturing), On: on(contracts.KindCaptureFailed), To: PaymentFailed,
		Reason: given, Sends: []Send{paymentMethod}},
	{Row: 15, From: from(Dispatching), On: on(contracts.KindShipmentDispatched), To: Shipped,
		Then: noteDispatched, Sends: []Send{orderShipped}},
	{Row: 16, From: from(Dispatching, Shipped), On: on(contracts.KindShipmentDelivered), To: Delivered,
		Then: noteDispatched, Sends: []Send{orderDelivered}},
	{Row: 16, From: from(Dispatching, Shipped), On: on(contracts.KindShipmentLost), To: Refunding,
		Reason: because("lost"), Then: refundLost, Sends: []Send{refundPayment}},

	{Row: 17, From: from(Delivered), On: on(AskReturn), When: returnable, To: Delivered,
		Reason: because("return_announced"), Then: noteReturn, Sends: []Send{expectReturn}},
	{Row: 18, From: from(Delivered, Refunding), On: on(contracts.KindReturnReceived), When: returnExpectedSo, To: Refunding,
		Reason: because("returned"), Then: refundReturned, Sends: []Send{refundPayment}},
	{Row: 18, From: from(Delivered, Refunding), On: on(OperatorRefund), When: refundable, To: Refunding,
		Reason: because("not_sent_back"), Then: refundUnreturned, Sends: []Send{refundPayment}},
	{Row: 19, From: from(Delivered), On: on(DeadlineUp), If: nothingReturning, To: Completed,
		Reason: because("return_time_over"), Sends: []Send{orderCompleted}},

	{Row: 20, From: from(Refunding), On: on(contracts.KindRefundSucceeded), If: nothingKept, When: lastRefund, To: Refunded,
		Reason: kept, Then: noteLastRefund, Sends: []Send{orderRefunded}},
	{Row: 20, From: from(Refunding), On: on(contracts.KindRefundSucceeded), If: somethingKept, When: lastRefund, To: Delivered,
		Then: noteLastRefund, Sends: []Send{orderRefunded}},
	{Row: 20, From: from(Refunding), On: on(contracts.KindRefundSucceeded), When: oneRefund, To: Refunding, Stays: true,
		Then: noteRefund},
	{Row: 20, From: from(Refunding), On: on(contracts.KindRefundFailed), When: oneRefund, To: NeedsAttention,
		Reason: because("refund_failed"), Then: noteRefund, Sends: []Send{orderNeedsAttention}},
	// Refunded before it was dispatched, it ends only when its stock is free, too.
	{Row: 20, From: from(Refunding), On: on(contracts.KindStockReleased), If: allRefunded, When: lastAnswer, To: Refunded,
		Reason: kept, Then: noteLastRefund, Sends: []Send{orderRefunded}},
	{Row: 20, From: from(Refunding), On: on(contracts.KindStockReleased), When: lastAnswer, To: Refunding, Stays: true,
		Then: noteAnswer},
	// Or when it turns out to have left the house: nothing will be free then.
	{Row: 20, From: from(Refunding), On: on(left...), If: allRefunded, When: lastAnswer, To: Refunded,
		Reason: kept, Then: noteLeft, Sends: []Send{orderRefunded}},
	{Row: 20, From: from(Refunding), On: on(left...), When: lastAnswer, To: Refunding, Stays: true,
		Then: noteLeft},

	{Row: 21, From: from(Placed, AwaitingCustomer, Authorizing, PaymentFailed, Confirmed), On: on(contracts.KindReservationExpired), To: Compensating, EndsAs: Expired,
		Reason: because("reservation_expired"), Sends: undo},

	// Cancelling. Asked again while it is being undone, or after, it answers the same.
	{Row: 22, From: from(Placed, Authorizing, PaymentFailed, Confirmed), On: on(Cancel), To: Compensating, EndsAs: Cancelled,
		Reason: because(byCustomer), Sends: undo},
	{Row: 22, From: from(Stopping), On: on(Cancel), To: Stopping, Stays: true},
	{Row: 22, From: from(Compensating), On: on(Cancel), EndsAs: Cancelled, To: Compensating, Stays: true},
	{Row: 22, From: from(Cancelled), On: on(Cancel), To: Cancelled, Stays: true},

	{Row: 23, From: from(Compensating), On: on(contracts.KindStockReleased, contracts.KindPaymentVoided), When: lastAnswer, EndsAs: Cancelled, To: Cancelled,
		Reason: kept, Then: noteAnswer, Sends: []Send{orderCancelled}},
	{Row: 23, From: from(Compensating), On: on(contracts.KindStockReleased, contracts.KindPaymentVoided), When: lastAnswer, EndsAs: Rejected, To: Rejected,
		Reason: kept, Then: noteAnswer, Sends: []Send{orderRejected}},
	{Row: 23, From: from(Compensating), On: on(contracts.KindStockReleased, contracts.KindPaymentVoided), When: lastAnswer, EndsAs: Expired, To: Expired,
		Reason: kept, Then: noteAnswer, Sends: []Send{orderExpired}},
	{Row: 23, From: from(Compensating), On: on(contracts.KindStockReleased, contracts.KindPaymentVoided), When: firstAnswer, To: Compensating, Stays: true,
		Then: noteAnswer},
	{Row: 23, From: from(Compensating), On: on(contracts.KindPaymentVoidRefused), If: voidAwaited, To: NeedsAttention,
		Reason: because("void_refused"), Then: noteVoidRefused, Sends: []Send{orderNeedsAttention}},

	// What was held or set aside although the order had ended is given back.
	{Row: 26, From: from(Cancelled), On: on(contracts.KindPaymentAuthorized), To: Cancelled, Stays: true, Sends: []Send{voidLate}},
	{Row: 26, From: from(Rejected), On: on(contracts.KindPaymentAuthorized), To: Rejected, Stays: true, Sends: []Send{voidLate}},
	{Row: 26, From: from(Expired), On: on(contracts.KindPaymentAuthorized), To: Expired, Stays: true, Sends: []Send{voidLate}},
	{Row: 26, From: from(Cancelled), On: on(contracts.KindStockReserved, contracts.KindStockPartiallyReserved), To: Cancelled, Stays: true, Sends: []Send{releaseLate}},
	{Row: 26, From: from(Rejected), On: on(contracts.KindStockReserved, contracts.KindStockPartiallyReserved), To: Rejected, Stays: true, Sends: []Send{releaseLate}},
	{Row: 26, From: from(Expired), On: on(contracts.KindStockReserved, contracts.KindStockPartiallyReserved), To: Expired, Stays: true, Sends: []Send{releaseLate}},
}

// waits are the statuses that wait for a service, each with what is sent again
// when its answer is overdue, or when an operator takes the order up again.
var waits = []struct {
	status Status
	again  []Send
}{
	{Placed, []Send{reserveStock}},
	{Authorizing, []Send{authorizePayment}},
	{Confirmed, []Send{fulfilOrder}},
	{Fulfilling, []Send{fulfilOrder}},
	{Stopping, []Send{stopFulfilment}},
	{Capturing, []Send{capturePayment}},
	{Dispatching, []Send{dispatchShipment}},
	{Shipped, []Send{dispatchShipment}},
	{Delivered, []Send{expectReturns}}, // while goods are on their way back
	{Refunding, []Send{refundPayments, expectReturns, releaseStock}},
	{Compensating, undo},
}

// overdue are the rows of what waits makes: an answer is overdue, and the same
// command is sent again as a new message; too often, and an operator decides. An
// answer that came while the order needed attention was ignored, and comes again.
func overdue() []Transition {
	var rows []Transition
	for _, w := range waits {
		rows = append(rows,
			Transition{Row: 24, From: from(w.status), On: on(DeadlineUp), If: resendsLeft, To: w.status, Stays: true,
				Then: countResend, Sends: w.again},
			Transition{Row: 24, From: from(w.status), On: on(DeadlineUp), If: resendsUsed, To: NeedsAttention,
				Reason: because("no_answer"), Sends: []Send{orderNeedsAttention}},
			Transition{Row: 25, From: from(NeedsAttention), Resume: w.status, On: on(OperatorRetry), To: w.status,
				Reason: resumed, Then: reopenRefunds, Sends: w.again})
	}
	return append(rows,
		// Picking and carrying take their time: who answers that it is so, isn't away.
		Transition{Row: 24, From: from(Fulfilling), On: on(contracts.KindFulfilmentStarted), When: askedAgain, To: Fulfilling, Stays: true, Then: forgetResends},
		Transition{Row: 24, From: from(Shipped), On: on(contracts.KindShipmentDispatched), When: askedAgain, To: Shipped, Stays: true, Then: forgetResends},

		Transition{Row: 25, From: from(NeedsAttention), On: on(OperatorCancel), If: captured, To: Refunding,
			Reason: because(byOperator), Then: refundCancelled, Sends: []Send{refundPayments, releaseStock}},
		Transition{Row: 25, From: from(NeedsAttention), On: on(OperatorCancel), If: uncaptured, To: Compensating, EndsAs: Cancelled,
			Reason: because(byOperator), Sends: undo},
	)
}

func from(statuses ...Status) []Status { return statuses }

func on(triggers ...string) []string { return triggers }

// find returns the transition that in makes of o.
func find(o Order, in Input) (Transition, bool) {
	for _, t := range transitions {
		if t.fits(o, in) {
			return t, true
		}
	}
	return Transition{}, false
}

// fits reports whether t is what in makes of o.
func (t Transition) fits(o Order, in Input) bool {
	return t.leaves(o) && slices.Contains(t.On, in.On) && (t.When == nil || t.When.Holds(o, in))
}

// leaves reports whether t is a move from where o stands.
func (t Transition) leaves(o Order) bool {
	switch {
	case !slices.Contains(t.From, o.Status), t.If != nil && !t.If.Holds(o):
		return false
	case o.Status == Compensating:
		return t.EndsAs == "" || t.EndsAs == o.EndsAs
	case o.Status == NeedsAttention:
		return t.Resume == "" || t.Resume == o.Resume
	}
	return true
}

// Next returns the statuses that o can reach in one step, in the table's order.
func Next(o Order) []Status {
	next := []Status{}
	for _, t := range transitions {
		if t.To != o.Status && t.leaves(o) && !slices.Contains(next, t.To) {
			next = append(next, t.To)
		}
	}
	return next
}
