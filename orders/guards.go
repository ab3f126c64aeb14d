package orders

import (
	"slices"

	"example.com/orderflow/messaging/contracts"
)

// Reason codes that more than one row gives.
const (
	byCustomer = "cancelled_by_customer"
	byOperator = "cancelled_by_operator"
)

// Fact is a named condition on an order, as it was.
type Fact struct {
	Name  string
	Holds func(Order) bool
}

// Guard is a named condition on an order, as it was, and its Input.
type Guard struct {
	Name  string
	Holds func(Order, Input) bool
}

// not is the opposite of a fact.
func not(name string, f *Fact) *Fact {
	return &Fact{name, func(o Order) bool { return !f.Holds(o) }}
}

// The facts.
var (
	partialAllowed = &Fact{"the customer may be asked whether a part will do", func(o Order) bool { return o.AllowPartial }}

	packed   = &Fact{"it is packed", func(o Order) bool { return o.Packed }}
	unpacked = not("it isn't packed", packed)

	lastDecline  = &Fact{"the next decline is the third", func(o Order) bool { return o.Declines+1 >= maxDeclines }}
	earlyDecline = not("the next decline is the first or second", lastDecline)

	captured   = &Fact{"the money is known to be ours", func(o Order) bool { return o.Captured }}
	uncaptured = not("the money isn't known to be ours", captured)

	nothingReturning = &Fact{"nothing is on its way back", func(o Order) bool { return !o.expectsReturn() }}

	nothingKept = &Fact{"the customer keeps nothing", func(o Order) bool {
		return !slices.ContainsFunc(o.Lines, func(l Line) bool { return l.kept() > 0 })
	}}
	somethingKept = not("the customer keeps something", nothingKept)
	allRefunded   = &Fact{"all is refunded", func(o Order) bool { return nothingKept.Holds(o) && o.openRefunds() == 0 }}

	voidAwaited = &Fact{"a void is awaited", func(o Order) bool { return o.AwaitsVoid }}

	resendsLeft = &Fact{"it was asked for less than four times more", func(o Order) bool { return o.Resends < maxResends }}
	resendsUsed = &Fact{"it was asked for four times more", func(o Order) bool {
		return o.Resends >= maxResends && (o.Status != Delivered || o.expectsReturn())
	}}
)

// The guards.
var (
	partReserved = &Guard{"a part is reserved", func(o Order, in Input) bool {
		m, ok := in.Body.(contracts.StockPartiallyReserved)
		if !ok || len(m.Lines) == 0 {
			return false
		}
		all, ok := o.part(m.Lines, Line.reserved)
		return ok && !all
	}}

	allPacked = &Guard{"all is packed", func(o Order, in Input) bool {
		m, ok := in.Body.(contracts.ShipmentPacked)
		if !ok {
			return false
		}
		all, ok := o.part(m.Lines, Line.due)
		return ok && all
	}}
	fewerPacked = &Guard{"a part is packed", func(o Order, in Input) bool {
		m, ok := in.Body.(contracts.ShipmentPacked)
		if !ok || len(m.Lines) == 0 {
			return false
		}
		all, ok := o.part(m.Lines, Line.due)
		return ok && !all
	}}
	nothingPacked = &Guard{"nothing is packed", func(_ Order, in Input) bool {
		m, ok := in.Body.(contracts.ShipmentPacked)
		return ok && len(m.Lines) == 0
	}}

	returnable = &Guard{"the customer has these and may send them back", func(o Order, in Input) bool {
		return o.ReturnUntil != nil && in.At.Before(*o.ReturnUntil) && refundable.Holds(o, in)
	}}
	refundable = &Guard{"the customer has these", func(o Order, in Input) bool {
		_, ok := o.part(in.Lines, o.free)
		return ok && len(in.Lines) > 0
	}}
	returnExpectedSo = &Guard{"these, or more, are on their way back", func(o Order, in Input) bool {
		m, ok := in.Body.(contracts.ReturnReceived)
		if !ok {
			return false
		}
		i := o.expected(m.ReturnID)
		if i < 0 {
			return false
		}
		_, ok = o.part(m.Lines, func(l Line) int { return quantityOf(o.Returns[i].Lines, l.SKU) })
		return ok && len(m.Lines) > 0
	}}

	oneRefund = &Guard{"an open refund", func(o Order, in Input) bool {
		switch m := in.Body.(type) {
		case contracts.RefundSucceeded:
			i := o.openRefund(m.RefundID)
			return i >= 0 && o.Refunds[i].AmountMinor == m.AmountMinor
		case contracts.RefundFailed:
			return o.openRefund(m.RefundID) >= 0
		}
		return false
	}}
	lastRefund = &Guard{"the last open refund", func(o Order, in Input) bool {
		return oneRefund.Holds(o, in) && o.openRefunds() == 1 && !o.AwaitsRelease
	}}

	lastAnswer = &Guard{"the last awaited answer", func(o Order, in Input) bool {
		return awaited(o, in) && o.AwaitsRelease != o.AwaitsVoid
	}}
	firstAnswer = &Guard{"the first of two awaited answers", func(o Order, in Input) bool {
		return awaited(o, in) && o.AwaitsRelease && o.AwaitsVoid
	}}

	askedAgain = &Guard{"it was asked again", func(o Order, _ Input) bool { return o.Resends > 0 }}
)

func awaited(o Order, in Input) bool {
	switch in.On {
	case contracts.KindStockReleased, contracts.KindShipmentDispatched, contracts.KindShipmentDelivered, contracts.KindShipmentLost:
		return o.AwaitsRelease
	case contracts.KindPaymentVoided:
		return o.AwaitsVoid
	}
	return false
}

// because gives the same reason always.
func because(code string) func(Order, Input) string {
	return func(Order, Input) string { return code }
}

// kept is the reason for which the order has been in its status.
func kept(o Order, _ Input) string { return o.ReasonCode }

// resumed is the reason for which the order was where it is taken up again.
func resumed(o Order, _ Input) string { return o.ResumeReason }

// given is the reason that the message states.
func given(_ Order, in Input) string {
	switch m := in.Body.(type) {
	case contracts.StockRejected:
		return m.ReasonCode
	case contracts.PaymentDeclined:
		return m.ReasonCode
	case contracts.FulfilmentRefused:
		return m.ReasonCode
	case contracts.CaptureFailed:
		return m.ReasonCode
	}
	return ""
}
