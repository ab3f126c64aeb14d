package orders

import (
	"time"

	"example.com/orderflow/messaging"
	"example.com/orderflow/messaging/contracts"
)

// Send is what a transition sends of one kind. Bodies makes it from the order as
// it is after the move: one message or, for refunds and returns, one for each.
type Send struct {
	Kind   string
	Bodies func(Rules, Order, Input) []messaging.Body
}

// one is a Send of one message; of none when body returns nil.
func one(kind string, body func(Rules, Order, Input) messaging.Body) Send {
	return Send{kind, func(r Rules, o Order, in Input) []messaging.Body {
		if b := body(r, o, in); b != nil {
			return []messaging.Body{b}
		}
		return nil
	}}
}

// undo is what an order that is compensating sends on entry, and again when its
// deadline is up: whatever was not answered yet.
var undo = []Send{releaseStock, voidPayment}

// The commands to inventory.
var (
	reserveStock = one(contracts.KindReserveStock, func(r Rules, o Order, in Input) messaging.Body {
		lines := make([]contracts.Line, len(o.Lines))
		for i, l := range o.Lines {
			lines[i] = contracts.Line{SKU: l.SKU, Quantity: l.Quantity}
		}
		m := contracts.ReserveStock{
			ReservationID: o.ReservationID, OrderID: o.ID, Lines: lines, HoldSeconds: int(r.Hold / time.Second), AllowPartial: o.AllowPartial,
		}
		if in.On == Place && r.Grace > 0 {
			return messaging.After(m, r.Grace)
		}
		return m
	})

	releaseStock = one(contracts.KindReleaseStock, func(_ Rules, o Order, _ Input) messaging.Body {
		if !o.AwaitsRelease {
			return nil
		}
		return contracts.ReleaseStock{ReservationID: o.ReservationID, OrderID: o.ID, Reason: o.ReasonCode}
	})

	// What came to be reserved after the order had ended.
	releaseLate = one(contracts.KindReleaseStock, func(_ Rules, o Order, _ Input) messaging.Body {
		return contracts.ReleaseStock{ReservationID: o.ReservationID, OrderID: o.ID, Reason: o.ReasonCode}
	})

	fulfilOrder = one(contracts.KindFulfilOrder, func(_ Rules, o Order, _ Input) messaging.Body {
		return contracts.FulfilOrder{ReservationID: o.ReservationID, OrderID: o.ID}
	})

	stopFulfilment = one(contracts.KindStopFulfilment, func(_ Rules, o Order, _ Input) messaging.Body {
		return contracts.StopFulfilment{ReservationID: o.ReservationID, OrderID: o.ID}
	})

	dispatchShipment = one(contracts.KindDispatchShipment, func(_ Rules, o Order, _ Input) messaging.Body {
		return contracts.DispatchShipment{ReservationID: o.ReservationID, OrderID: o.ID}
	})

	// The return announced just now.
	expectReturn = one(contracts.KindExpectReturn, func(_ Rules, o Order, _ Input) messaging.Body {
		return o.expect(o.Returns[len(o.Returns)-1])
	})

	// All returns that are under way.
	expectReturns = Send{contracts.KindExpectReturn, func(_ Rules, o Order, _ Input) (list []messaging.Body) {
		for _, r := range o.Returns {
			if r.Status == returnExpected {
				list = append(list, o.expect(r))
			}
		}
		return list
	}}
)

func (o Order) expect(r Return) messaging.Body {
	return contracts.ExpectReturn{ReturnID: r.ID, ReservationID: o.ReservationID, OrderID: o.ID, Lines: r.Lines}
}

// The commands to payments.
var (
	authorizePayment = one(contracts.KindAuthorizePayment, func(_ Rules, o Order, _ Input) messaging.Body {
		return contracts.AuthorizePayment{
			PaymentID: o.PaymentID, Attempt: o.Attempt, OrderID: o.ID, CustomerID: o.CustomerID,
			AmountMinor: o.TotalMinor, Currency: o.Currency, MethodToken: o.PaymentToken,
		}
	})

	capturePayment = one(contracts.KindCapturePayment, func(_ Rules, o Order, _ Input) messaging.Body {
		return contracts.CapturePayment{
			PaymentID: o.PaymentID, Attempt: o.Attempt, CaptureID: o.CaptureID, OrderID: o.ID, AmountMinor: o.TotalMinor,
		}
	})

	voidPayment = one(contracts.KindVoidPayment, func(_ Rules, o Order, _ Input) messaging.Body {
		if !o.AwaitsVoid {
			return nil
		}
		return contracts.VoidPayment{PaymentID: o.PaymentID, Attempt: o.Attempt, OrderID: o.ID}
	})

	// The attempt whose success came after the order had ended.
	voidLate = one(contracts.KindVoidPayment, func(_ Rules, o Order, in Input) messaging.Body {
		m, ok := in.Body.(contracts.PaymentAuthorized)
		if !ok {
			return nil
		}
		return contracts.VoidPayment{PaymentID: o.PaymentID, Attempt: m.Attempt, OrderID: o.ID}
	})

	// The refund opened just now.
	refundPayment = one(contracts.KindRefundPayment, func(_ Rules, o Order, _ Input) messaging.Body {
		return o.pay(o.Refunds[len(o.Refunds)-1])
	})

	// All refunds that are open.
	refundPayments = Send{contracts.KindRefundPayment, func(_ Rules, o Order, _ Input) (list []messaging.Body) {
		for _, f := range o.Refunds {
			if f.Status == refundOpen {
				list = append(list, o.pay(f))
			}
		}
		return list
	}}
)

func (o Order) pay(f Refund) messaging.Body {
	return contracts.RefundPayment{RefundID: f.ID, PaymentID: o.PaymentID, OrderID: o.ID, AmountMinor: f.AmountMinor, Reason: f.ReasonCode}
}
