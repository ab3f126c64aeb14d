package orders

import (
	"slices"

	"example.com/orderflow/messaging"
	"example.com/orderflow/messaging/contracts"
)

// Transition is one legal move. The first row of the table that fits is taken;
// what no row fits is not legal.
type Transition struct {
	Row    int      // of the table in the documents
	From   []Status // Unplaced: the order does not exist yet
	On     []string // kinds of messages, or actions: any of them
	When   *Guard   // nil = always
	To     Status
	EndsAs Status // into Compensating: how it will end; from it: the orders that this is about
	Stays  bool   // To is From: no history row, no version
	Reason func(Order, Input) string
	Then   func(*Order, Input) // what else changes in the row, before it enters To
	Sends  []Send              // besides OrderStatusChanged, which every change of status sends
}

// Guard is a named condition on an order, as it was, and its Input.
type Guard struct {
	Name  string
	Holds func(Order, Input) bool
}

// Send is a message that a transition sends. Body makes it from the order as it
// is after the move; it returns nil when there is nothing to send.
type Send struct {
	Kind string
	Body func(Rules, Order, Input) messaging.Body
}

// transitions is the state machine: nothing else decides whether a move is legal.
var transitions = []Transition{
	{Row: 1, From: from(Unplaced), On: on(Place), To: Placed,
		Sends: []Send{reserveStock, orderPlaced}},

	{Row: 2, From: from(Placed), On: on(contracts.KindStockReserved), To: Authorizing,
		Then: firstAttempt, Sends: []Send{authorizePayment}},
	{Row: 4, From: from(Placed), On: on(contracts.KindStockRejected), To: Rejected,
		Reason: given, Sends: []Send{orderRejected}},

	{Row: 7, From: from(Authorizing), On: on(contracts.KindPaymentAuthorized), To: Confirmed,
		Sends: []Send{fulfilOrder, orderConfirmed}},
	{Row: 8, From: from(Authorizing), On: on(contracts.KindPaymentDeclined), When: lastDecline, To: Compensating, EndsAs: Rejected,
		Reason: because("payment_declined"), Then: countDecline, Sends: undo},
	{Row: 8, From: from(Authorizing), On: on(contracts.KindPaymentDeclined), To: PaymentFailed,
		Reason: given, Then: countDecline, Sends: []Send{orderActionRequired}},
	{Row: 9, From: from(PaymentFailed), On: on(Pay), To: Authorizing,
		Then: nextAttempt, Sends: []Send{authorizePayment}},
	{Row: 9, From: from(PaymentFailed), On: on(DeadlineUp), To: Compensating, EndsAs: Rejected,
		Reason: because("payment_not_completed"), Sends: undo},

	{Row: 10, From: from(Confirmed), On: on(contracts.KindFulfilmentStarted), To: Fulfilling},
	{Row: 10, From: from(Confirmed), On: on(contracts.KindFulfilmentRefused), To: Compensating, EndsAs: Rejected,
		Reason: given, Sends: undo},
	{Row: 11, From: from(Confirmed, Fulfilling), On: on(contracts.KindShipmentPacked), When: allPacked, To: Capturing,
		Sends: []Send{capturePayment}},
	{Row: 14, From: from(Capturing), On: on(contracts.KindPaymentCaptured), To: Dispatching,
		Sends: []Send{dispatchShipment}},
	{Row: 15, From: from(Dispatching), On: on(contracts.KindShipmentDispatched), To: Shipped,
		Then: noteTracking, Sends: []Send{orderShipped}},
	{Row: 16, From: from(Dispatching, Shipped), On: on(contracts.KindShipmentDelivered), To: Delivered,
		Sends: []Send{orderDelivered}},

	{Row: 21, From: from(Placed, Authorizing, PaymentFailed, Confirmed), On: on(contracts.KindReservationExpired), To: Compensating, EndsAs: Expired,
		Reason: because("reservation_expired"), Sends: undo},

	// Cancelling. Asked again while it is being undone, or after, it answers the same.
	{Row: 22, From: from(Placed, Authorizing, PaymentFailed, Confirmed), On: on(Cancel), To: Compensating, EndsAs: Cancelled,
		Reason: because("cancelled_by_customer"), Sends: undo},
	{Row: 22, From: from(Compensating), On: on(Cancel), EndsAs: Cancelled, To: Compensating, Stays: true},
	{Row: 22, From: from(Cancelled), On: on(Cancel), To: Cancelled, Stays: true},

	{Row: 23, From: from(Compensating), On: on(contracts.KindStockReleased, contracts.KindPaymentVoided), When: lastAnswer, EndsAs: Cancelled, To: Cancelled,
		Reason: kept, Sends: []Send{orderCancelled}},
	{Row: 23, From: from(Compensating), On: on(contracts.KindStockReleased, contracts.KindPaymentVoided), When: lastAnswer, EndsAs: Rejected, To: Rejected,
		Reason: kept, Sends: []Send{orderRejected}},
	{Row: 23, From: from(Compensating), On: on(contracts.KindStockReleased, contracts.KindPaymentVoided), When: lastAnswer, EndsAs: Expired, To: Expired,
		Reason: kept, Sends: []Send{orderExpired}},
	{Row: 23, From: from(Compensating), On: on(contracts.KindStockReleased, contracts.KindPaymentVoided), When: firstAnswer, To: Compensating, Stays: true,
		Then: noteAnswer},

	// An answer is overdue: the same command again, as a new message.
	{Row: 24, From: from(Placed), On: on(DeadlineUp), To: Placed, Stays: true, Sends: []Send{reserveStock}},
	{Row: 24, From: from(Authorizing), On: on(DeadlineUp), To: Authorizing, Stays: true, Sends: []Send{authorizePayment}},
	{Row: 24, From: from(Confirmed), On: on(DeadlineUp), To: Confirmed, Stays: true, Sends: []Send{fulfilOrder}},
	{Row: 24, From: from(Fulfilling), On: on(DeadlineUp), To: Fulfilling, Stays: true, Sends: []Send{fulfilOrder}},
	{Row: 24, From: from(Capturing), On: on(DeadlineUp), To: Capturing, Stays: true, Sends: []Send{capturePayment}},
	{Row: 24, From: from(Dispatching), On: on(DeadlineUp), To: Dispatching, Stays: true, Sends: []Send{dispatchShipment}},
	{Row: 24, From: from(Shipped), On: on(DeadlineUp), To: Shipped, Stays: true, Sends: []Send{dispatchShipment}},
	{Row: 24, From: from(Compensating), On: on(DeadlineUp), To: Compensating, Stays: true, Sends: undo},
}

func from(statuses ...Status) []Status { return statuses }

func on(triggers ...string) []string { return triggers }

// find returns the transition that in makes of o.
func find(o Order, in Input) (Transition, bool) {
	for _, t := range transitions {
		if t.leaves(o) && slices.Contains(t.On, in.On) && (t.When == nil || t.When.Holds(o, in)) {
			return t, true
		}
	}
	return Transition{}, false
}

// leaves reports whether t is a move from where o stands.
func (t Transition) leaves(o Order) bool {
	if !slices.Contains(t.From, o.Status) {
		return false
	}
	return o.Status != Compensating || t.EndsAs == "" || t.EndsAs == o.EndsAs
}

// Next returns the statuses that o can reach in one step, in the table's order.
func Next(o Order) []Status {
	next := []Status{}
	for _, t := range transitions {
		if !t.Stays && t.leaves(o) && !slices.Contains(next, t.To) {
			next = append(next, t.To)
		}
	}
	return next
}

// The guards.
var (
	lastDecline = &Guard{"the third decline", func(o Order, _ Input) bool { return o.Declines+1 >= maxDeclines }}

	allPacked = &Guard{"all lines are packed", func(o Order, in Input) bool {
		m, ok := in.Body.(contracts.ShipmentPacked)
		if !ok || len(m.Lines) != len(o.Lines) {
			return false
		}
		packed := map[string]int{}
		for _, l := range m.Lines {
			packed[l.SKU] += l.Quantity
		}
		return !slices.ContainsFunc(o.Lines, func(l Line) bool { return packed[l.SKU] != l.Quantity })
	}}

	lastAnswer = &Guard{"the last awaited answer", func(o Order, in Input) bool {
		return awaited(o, in) && o.AwaitsRelease != o.AwaitsVoid
	}}

	firstAnswer = &Guard{"another answer is awaited", func(o Order, in Input) bool {
		return awaited(o, in) && o.AwaitsRelease && o.AwaitsVoid
	}}
)

// awaited reports whether in is an answer that the undoing of o still waits for.
func awaited(o Order, in Input) bool {
	switch in.On {
	case contracts.KindStockReleased:
		return o.AwaitsRelease
	case contracts.KindPaymentVoided:
		return o.AwaitsVoid
	}
	return false
}

func firstAttempt(o *Order, _ Input) { o.Attempt = 1 }

func countDecline(o *Order, _ Input) { o.Declines++ }

func nextAttempt(o *Order, in Input) {
	o.Attempt++
	o.PaymentToken, o.CaptureID = in.PaymentToken, in.CaptureID
}

func noteTracking(o *Order, in Input) {
	if m, ok := in.Body.(contracts.ShipmentDispatched); ok {
		o.Tracking = m.Tracking
	}
}

func noteAnswer(o *Order, in Input) {
	switch in.On {
	case contracts.KindStockReleased:
		o.AwaitsRelease = false
	case contracts.KindPaymentVoided:
		o.AwaitsVoid = false
	}
}

// because gives the same reason always.
func because(code string) func(Order, Input) string {
	return func(Order, Input) string { return code }
}

// kept is the reason for which the order has been compensating.
func kept(o Order, _ Input) string { return o.ReasonCode }

// given is the reason that the message states.
func given(_ Order, in Input) string {
	switch m := in.Body.(type) {
	case contracts.StockRejected:
		return m.ReasonCode
	case contracts.PaymentDeclined:
		return m.ReasonCode
	case contracts.FulfilmentRefused:
		return m.ReasonCode
	}
	return ""
}
