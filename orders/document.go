package orders

import (
	"slices"
	"time"

	"example.com/orderflow/messaging/contracts"
)

// summary is an order as a list shows it.
type summary struct {
	ID         string    `json:"id" db:"id"`
	Status     Status    `json:"status" db:"status"`
	ReasonCode string    `json:"reason_code" db:"reason_code"` // "" when the status needs no reason
	TotalMinor int64     `json:"total_minor" db:"total_minor"`
	Currency   string    `json:"currency" db:"currency"`
	Version    int       `json:"version" db:"version"`
	Tracking   string    `json:"tracking,omitempty" db:"tracking"`
	CreatedAt  time.Time `json:"created_at" db:"created_at"` // UTC
}

// document is an order as it is shown by itself. Members that a document of most
// orders would have empty are absent then.
type document struct {
	summary
	RefundedMinor int64          `json:"refunded_minor,omitempty"` // paid back, for certain
	Lines         []lineDocument `json:"lines"`
	Action        *action        `json:"action,omitempty"`       // what is awaited of the customer
	Resume        Status         `json:"resume,omitempty"`       // of needs_attention: where it is taken up again
	ReturnUntil   *time.Time     `json:"return_until,omitempty"` // UTC; while it may be sent back
	Returns       []Return       `json:"returns,omitempty"`      // oldest first
	Refunds       []Refund       `json:"refunds,omitempty"`      // oldest first
	History       []Entry        `json:"history"`                // oldest first
	Next          []Status       `json:"next"`                   // reachable in one step
}

// lineDocument is a line with the pieces that came as far as each quantity says.
type lineDocument struct {
	SKU            string `json:"sku"`
	Name           string `json:"name"`
	Quantity       int    `json:"quantity"` // ordered
	UnitPriceMinor int64  `json:"unit_price_minor"`
	Reserved       int    `json:"reserved"`
	Packed         int    `json:"packed"`
	Returned       int    `json:"returned"` // sent back, and back in stock
	Refunded       int    `json:"refunded"` // paid back or being paid back, returned or not
}

// action is what the customer is asked for.
type action struct {
	Kind        string    `json:"kind"`         // payment_method, stock_decision
	Options     []string  `json:"options"`      // of these
	DecideUntil time.Time `json:"decide_until"` // UTC; then the order is undone
	TotalMinor  int64     `json:"total_minor"`  // what the customer pays then
}

// newDocument shows o, whose lines, returns and refunds are read.
func newDocument(o Order, history []Entry) document {
	d := document{
		summary: summaryOf(o), Lines: make([]lineDocument, len(o.Lines)), Action: o.action(), Resume: o.Resume,
		Returns: slices.Clone(o.Returns), Refunds: slices.Clone(o.Refunds), History: history, Next: Next(o),
	}
	d.CreatedAt = o.CreatedAt.UTC()
	for i, l := range o.Lines {
		shown := lineDocument{
			SKU: l.SKU, Name: l.Name, Quantity: l.Quantity, UnitPriceMinor: l.UnitPriceMinor, Returned: l.Returned, Refunded: l.Refunded,
		}
		if o.reserved() {
			shown.Reserved = l.reserved()
		}
		if o.Packed {
			shown.Packed = l.due()
		}
		d.Lines[i] = shown
	}
	if o.ReturnUntil != nil && !o.Status.Ended() {
		until := o.ReturnUntil.UTC()
		d.ReturnUntil = &until
	}
	for i := range d.Returns {
		d.Returns[i].AskedAt = d.Returns[i].AskedAt.UTC()
	}
	for i := range d.Refunds {
		f := &d.Refunds[i]
		f.AskedAt, f.ToldIn = f.AskedAt.UTC(), 0
		if f.Status == refundSucceeded {
			d.RefundedMinor += f.AmountMinor
		}
	}
	for i := range d.History {
		d.History[i].At = d.History[i].At.UTC()
	}
	return d
}

func summaryOf(o Order) summary {
	return summary{
		ID: o.ID, Status: o.Status, ReasonCode: o.ReasonCode, TotalMinor: o.TotalMinor, Currency: o.Currency,
		Version: o.Version, Tracking: o.Tracking, CreatedAt: o.CreatedAt,
	}
}

// reserved reports whether stock was reserved for o: a payment was asked for
// after it, or the customer whether a part will do.
func (o Order) reserved() bool {
	return o.Attempt > 0 || slices.ContainsFunc(o.Lines, func(l Line) bool { return l.Missing > 0 })
}

// action is what the customer of o is asked for; nil = nothing.
func (o Order) action() *action {
	a := action{}
	switch o.Status {
	case PaymentFailed:
		a.Kind, a.Options, a.TotalMinor = actionPaymentMethod, []string{Pay, Cancel}, o.TotalMinor
	case AwaitingCustomer:
		a.Kind, a.Options, a.TotalMinor = actionStockDecision, []string{Accept, Cancel}, o.price()
	default:
		return nil
	}
	if o.Deadline != nil {
		a.DecideUntil = o.Deadline.UTC()
	}
	return &a
}

// afterSale is what a return or refund that was asked for is answered.
type afterSale struct {
	ReturnID string `json:"return_id,omitempty"`
	RefundID string `json:"refund_id,omitempty"`
	document
}

// quantities are how many pieces of which products a customer or an operator
// speaks of.
func quantities(lines []lineRequest) []contracts.Line {
	list := make([]contracts.Line, len(lines))
	for i, l := range lines {
		list[i] = contracts.Line(l)
	}
	return list
}
