package orders

import (
	"time"

	"example.com/orderflow/messaging"
	"example.com/orderflow/messaging/contracts"
)

// undo is what an order that is compensating sends on entry, and again when its
// deadline is up: whatever was not answered yet.
var undo = []Send{releaseStock, voidPayment}

// The commands.
var (
	reserveStock = Send{contracts.KindReserveStock, func(r Rules, o Order, in Input) messaging.Body {
		lines := make([]contracts.Line, len(o.Lines))
		for i, l := range o.Lines {
			lines[i] = contracts.Line{SKU: l.SKU, Quantity: l.Quantity}
		}
		m := contracts.ReserveStock{ReservationID: o.ReservationID, OrderID: o.ID, Lines: lines, HoldSeconds: int(r.Hold / time.Second)}
		if in.On == Place && r.Grace > 0 {
			return messaging.After(m, r.Grace)
		}
		return m
	}}

	releaseStock = Send{contracts.KindReleaseStock, func(_ Rules, o Order, _ Input) messaging.Body {
		if !o.AwaitsRelease {
			return nil
		}
		return contracts.ReleaseStock{ReservationID: o.ReservationID, OrderID: o.ID, Reason: o.ReasonCode}
	}}

	fulfilOrder = Send{contracts.KindFulfilOrder, func(_ Rules, o Order, _ Input) messaging.Body {
		return contracts.FulfilOrder{ReservationID: o.ReservationID, OrderID: o.ID}
	}}

	dispatchShipment = Send{contracts.KindDispatchShipment, func(_ Rules, o Order, _ Input) messaging.Body {
		return contracts.DispatchShipment{ReservationID: o.ReservationID, OrderID: o.ID}
	}}

	authorizePayment = Send{contracts.KindAuthorizePayment, func(_ Rules, o Order, _ Input) messaging.Body {
		return contracts.AuthorizePayment{
			PaymentID: o.PaymentID, Attempt: o.Attempt, OrderID: o.ID, CustomerID: o.CustomerID,
			AmountMinor: o.TotalMinor, Currency: o.Currency, MethodToken: o.PaymentToken,
		}
	}}

	capturePayment = Send{contracts.KindCapturePayment, func(_ Rules, o Order, _ Input) messaging.Body {
		return contracts.CapturePayment{
			PaymentID: o.PaymentID, Attempt: o.Attempt, CaptureID: o.CaptureID, OrderID: o.ID, AmountMinor: o.TotalMinor,
		}
	}}

	voidPayment = Send{contracts.KindVoidPayment, func(_ Rules, o Order, _ Input) messaging.Body {
		if !o.AwaitsVoid {
			return nil
		}
		return contracts.VoidPayment{PaymentID: o.PaymentID, Attempt: o.Attempt, OrderID: o.ID}
	}}
)

// The events, OrderStatusChanged apart: that one follows from the move itself.
var (
	orderPlaced = Send{contracts.KindOrderPlaced, func(_ Rules, o Order, _ Input) messaging.Body {
		lines := make([]contracts.PricedLine, len(o.Lines))
		for i, l := range o.Lines {
			lines[i] = contracts.PricedLine(l)
		}
		return contracts.OrderPlaced{OrderID: o.ID, Customer: customer(o), Lines: lines, TotalMinor: o.TotalMinor, Currency: o.Currency}
	}}

	// Its deadline is the customer's: afterwards the order is undone.
	orderActionRequired = Send{contracts.KindOrderActionRequired, func(_ Rules, o Order, in Input) messaging.Body {
		m := contracts.OrderActionRequired{
			OrderID: o.ID, Customer: customer(o), Action: "payment_method", ReasonCode: o.ReasonCode,
			Options: []string{Pay, Cancel}, DecideUntil: in.At,
		}
		if o.Deadline != nil {
			m.DecideUntil = *o.Deadline
		}
		return m
	}}

	orderConfirmed = Send{contracts.KindOrderConfirmed, func(_ Rules, o Order, _ Input) messaging.Body {
		return contracts.OrderConfirmed{OrderID: o.ID, Customer: customer(o), TotalMinor: o.TotalMinor, Currency: o.Currency}
	}}

	orderShipped = Send{contracts.KindOrderShipped, func(_ Rules, o Order, _ Input) messaging.Body {
		return contracts.OrderShipped{OrderID: o.ID, Customer: customer(o), Tracking: o.Tracking}
	}}

	orderDelivered = Send{contracts.KindOrderDelivered, func(_ Rules, o Order, _ Input) messaging.Body {
		return contracts.OrderDelivered{OrderID: o.ID, Customer: customer(o)}
	}}

	orderCancelled = Send{contracts.KindOrderCancelled, func(_ Rules, o Order, _ Input) messaging.Body {
		return contracts.OrderCancelled{OrderID: o.ID, Customer: customer(o), ReasonCode: o.ReasonCode}
	}}

	orderRejected = Send{contracts.KindOrderRejected, func(_ Rules, o Order, _ Input) messaging.Body {
		return contracts.OrderRejected{OrderID: o.ID, Customer: customer(o), ReasonCode: o.ReasonCode}
	}}

	orderExpired = Send{contracts.KindOrderExpired, func(_ Rules, o Order, _ Input) messaging.Body {
		return contracts.OrderExpired{OrderID: o.ID, Customer: customer(o), ReasonCode: o.ReasonCode}
	}}
)

func customer(o Order) contracts.Customer {
	return contracts.Customer{ID: o.CustomerID, Name: o.CustomerName, Email: o.CustomerEmail}
}
