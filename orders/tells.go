package orders

import (
	"example.com/orderflow/messaging"
	"example.com/orderflow/messaging/contracts"
)

// The events, OrderStatusChanged apart: that one follows from the move itself.
var (
	orderPlaced = one(contracts.KindOrderPlaced, func(_ Rules, o Order, _ Input) messaging.Body {
		return contracts.OrderPlaced{OrderID: o.ID, Customer: customer(o), Lines: o.priced(), TotalMinor: o.TotalMinor, Currency: o.Currency}
	})

	// Its deadline is the customer's: afterwards the order is undone.
	paymentMethod = one(contracts.KindOrderActionRequired, func(_ Rules, o Order, in Input) messaging.Body {
		return o.required(in, actionPaymentMethod, Pay, Cancel)
	})

	// Likewise. It tells what is there.
	stockDecision = one(contracts.KindOrderActionRequired, func(_ Rules, o Order, in Input) messaging.Body {
		m := o.required(in, actionStockDecision, Accept, Cancel)
		m.Lines = o.priced()
		return m
	})

	orderConfirmed = one(contracts.KindOrderConfirmed, func(_ Rules, o Order, _ Input) messaging.Body {
		return contracts.OrderConfirmed{OrderID: o.ID, Customer: customer(o), TotalMinor: o.TotalMinor, Currency: o.Currency}
	})

	orderShipped = one(contracts.KindOrderShipped, func(_ Rules, o Order, _ Input) messaging.Body {
		return contracts.OrderShipped{OrderID: o.ID, Customer: customer(o), Tracking: o.Tracking}
	})

	orderDelivered = one(contracts.KindOrderDelivered, func(_ Rules, o Order, _ Input) messaging.Body {
		return contracts.OrderDelivered{OrderID: o.ID, Customer: customer(o)}
	})

	orderCompleted = one(contracts.KindOrderCompleted, func(_ Rules, o Order, _ Input) messaging.Body {
		return contracts.OrderCompleted{OrderID: o.ID, Customer: customer(o)}
	})

	orderCancelled = one(contracts.KindOrderCancelled, func(_ Rules, o Order, _ Input) messaging.Body {
		return contracts.OrderCancelled{OrderID: o.ID, Customer: customer(o), ReasonCode: o.ReasonCode}
	})

	cancelRefused = one(contracts.KindCancelRefused, func(_ Rules, o Order, _ Input) messaging.Body {
		return contracts.CancelRefused{OrderID: o.ID, Customer: customer(o), ReasonCode: "already_packed"}
	})

	orderRejected = one(contracts.KindOrderRejected, func(_ Rules, o Order, _ Input) messaging.Body {
		return contracts.OrderRejected{OrderID: o.ID, Customer: customer(o), ReasonCode: o.ReasonCode}
	})

	orderExpired = one(contracts.KindOrderExpired, func(_ Rules, o Order, _ Input) messaging.Body {
		return contracts.OrderExpired{OrderID: o.ID, Customer: customer(o), ReasonCode: o.ReasonCode}
	})

	// It tells of the refunds that none before it told of.
	orderRefunded = one(contracts.KindOrderRefunded, func(_ Rules, o Order, _ Input) messaging.Body {
		m := contracts.OrderRefunded{OrderID: o.ID, Customer: customer(o), Currency: o.Currency, Full: o.Status == Refunded}
		for _, f := range o.Refunds {
			if f.ToldIn == o.Version {
				m.AmountMinor += f.AmountMinor
				m.ReasonCode = f.ReasonCode
			}
		}
		return m
	})

	orderNeedsAttention = one(contracts.KindOrderNeedsAttention, func(_ Rules, o Order, _ Input) messaging.Body {
		return contracts.OrderNeedsAttention{OrderID: o.ID, Resume: string(o.Resume), ReasonCode: o.ReasonCode}
	})
)

// orderAmended tells what the order is for now, and why.
func orderAmended(reason string) Send {
	return one(contracts.KindOrderAmended, func(_ Rules, o Order, _ Input) messaging.Body {
		return contracts.OrderAmended{
			OrderID: o.ID, Customer: customer(o), Lines: o.priced(), TotalMinor: o.TotalMinor, Currency: o.Currency, ReasonCode: reason,
		}
	})
}

// What a customer can be asked for.
const (
	actionPaymentMethod = "payment_method"
	actionStockDecision = "stock_decision"
)

// required asks the customer of o for action, in one of the ways of options.
func (o Order) required(in Input, action string, options ...string) contracts.OrderActionRequired {
	m := contracts.OrderActionRequired{
		OrderID: o.ID, Customer: customer(o), Action: action, ReasonCode: o.ReasonCode, Options: options, DecideUntil: in.At,
	}
	if o.Deadline != nil {
		m.DecideUntil = *o.Deadline
	}
	return m
}

// priced are the lines of o as the customer gets and pays for them, without those of
// which there is nothing.
func (o Order) priced() []contracts.PricedLine {
	var list []contracts.PricedLine
	for _, l := range o.Lines {
		if n := l.due(); n > 0 {
			list = append(list, contracts.PricedLine{SKU: l.SKU, Name: l.Name, Quantity: n, UnitPriceMinor: l.UnitPriceMinor})
		}
	}
	return list
}

func customer(o Order) contracts.Customer {
	return contracts.Customer{ID: o.CustomerID, Name: o.CustomerName, Email: o.CustomerEmail}
}
