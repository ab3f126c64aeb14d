package orders

import (
	"slices"
	"time"

	"example.com/orderflow/messaging/contracts"
)

// Line is a quantity of one product at the price it was ordered at, and what
// became of it. All quantities but the ordered one are what is not as it should
// be: a line of an order that goes well is written once and never changed.
type Line struct {
	SKU            string `json:"sku"`
	Name           string `json:"name"`
	Quantity       int    `json:"quantity"`         // ordered, 1..1000
	UnitPriceMinor int64  `json:"unit_price_minor"` // of the order's currency, > 0
	Missing        int    `json:"missing"`          // of those ordered: weren't there to be reserved
	Short          int    `json:"short"`            // of those reserved: weren't found when it was packed
	Refunded       int    `json:"refunded"`         // of those packed: paid back, or being paid back
	Returned       int    `json:"returned"`         // of those refunded: back in stock
}

// reserved is how many pieces are, or can be, reserved.
func (l Line) reserved() int { return l.Quantity - l.Missing }

// due is how many pieces the customer gets, and pays for.
func (l Line) due() int { return l.Quantity - l.Missing - l.Short }

// kept is how many of them the customer keeps, as far as is known.
func (l Line) kept() int { return l.due() - l.Refunded }

// ReturnStatus is where a return stands.
type ReturnStatus string

// The statuses of returns.
const (
	returnExpected ReturnStatus = "expected"
	returnReceived ReturnStatus = "received"
	returnDropped  ReturnStatus = "dropped" // all was refunded without waiting for it
)

// Return is goods that the customer sends back.
type Return struct {
	ID      string           `json:"id"` // UUID; of its refund, too
	Status  ReturnStatus     `json:"status"`
	Lines   []contracts.Line `json:"lines"` // expected; once received, what came
	AskedAt time.Time        `json:"asked_at"`
}

// RefundStatus is where a refund stands.
type RefundStatus string

// The statuses of refunds.
const (
	refundOpen      RefundStatus = "open"
	refundSucceeded RefundStatus = "succeeded"
	refundFailed    RefundStatus = "failed"
)

// Refund is money that goes back to the customer.
type Refund struct {
	ID          string           `json:"id"` // UUID
	Status      RefundStatus     `json:"status"`
	ReasonCode  string           `json:"reason_code"`
	AmountMinor int64            `json:"amount_minor"` // the price of Lines, of the order's currency, > 0
	Lines       []contracts.Line `json:"lines"`
	AskedAt     time.Time        `json:"asked_at"`
	ToldIn      int              `json:"told_in,omitempty"` // the order's version whose OrderRefunded told of it; 0 = none yet
}

// price is what the customer pays for the lines of o.
func (o Order) price() int64 {
	var total int64
	for _, l := range o.Lines {
		total += l.UnitPriceMinor * int64(l.due())
	}
	return total
}

// part compares pieces, each product at most once, with what limit says of the
// lines of o. It is all when they are as many everywhere, and not ok when one is
// more, or of a product that o doesn't have.
func (o Order) part(pieces []contracts.Line, limit func(Line) int) (all, ok bool) {
	count, seen := 0, map[string]bool{}
	for _, p := range pieces {
		i := slices.IndexFunc(o.Lines, func(l Line) bool { return l.SKU == p.SKU })
		if i < 0 || seen[p.SKU] || p.Quantity < 1 || p.Quantity > limit(o.Lines[i]) {
			return false, false
		}
		seen[p.SKU] = true
		count += p.Quantity
	}
	for _, l := range o.Lines {
		count -= limit(l)
	}
	return count == 0, true
}

// free is how many pieces of l can be sent back or refunded: those kept that are
// not on their way back.
func (o Order) free(l Line) int {
	n := l.kept()
	for _, r := range o.Returns {
		if r.Status == returnExpected {
			n -= quantityOf(r.Lines, l.SKU)
		}
	}
	return n
}

// quantityOf is how many pieces of a product are among lines.
func quantityOf(lines []contracts.Line, sku string) int {
	n := 0
	for _, l := range lines {
		if l.SKU == sku {
			n += l.Quantity
		}
	}
	return n
}

// editLines has edit change each line of o, in a copy.
func (o *Order) editLines(edit func(*Line)) {
	o.Lines = slices.Clone(o.Lines)
	for i := range o.Lines {
		edit(&o.Lines[i])
	}
}

// refund opens a refund of pieces, which o has.
func (o *Order) refund(id, reason string, pieces []contracts.Line, at time.Time) {
	f := Refund{ID: id, Status: refundOpen, ReasonCode: reason, Lines: pieces, AskedAt: at}
	o.editLines(func(l *Line) {
		n := quantityOf(pieces, l.SKU)
		l.Refunded += n
		f.AmountMinor += l.UnitPriceMinor * int64(n)
	})
	o.Refunds = append(slices.Clone(o.Refunds), f)
}

// refundRest opens a refund of all that the customer would keep, if anything.
// What is on its way back is not waited for.
func (o *Order) refundRest(id, reason string, at time.Time) {
	o.Returns = slices.Clone(o.Returns)
	for i := range o.Returns {
		if o.Returns[i].Status == returnExpected {
			o.Returns[i].Status = returnDropped
		}
	}
	var rest []contracts.Line
	for _, l := range o.Lines {
		if l.kept() > 0 {
			rest = append(rest, contracts.Line{SKU: l.SKU, Quantity: l.kept()})
		}
	}
	if len(rest) > 0 {
		o.refund(id, reason, rest, at)
	}
}

// setRefunds gives the refunds of o that are in from another status, in a copy.
func (o *Order) setRefunds(from, to RefundStatus) {
	o.Refunds = slices.Clone(o.Refunds)
	for i := range o.Refunds {
		if o.Refunds[i].Status == from {
			o.Refunds[i].Status = to
		}
	}
}

// openRefund is the place of the open refund id in o; -1 when there is none.
func (o Order) openRefund(id string) int {
	return slices.IndexFunc(o.Refunds, func(f Refund) bool { return f.ID == id && f.Status == refundOpen })
}

// openRefunds counts the refunds that wait for the provider.
func (o Order) openRefunds() int {
	n := 0
	for _, f := range o.Refunds {
		if f.Status == refundOpen {
			n++
		}
	}
	return n
}

// expected is the place of the expected return id in o; -1 when there is none.
func (o Order) expected(id string) int {
	return slices.IndexFunc(o.Returns, func(r Return) bool { return r.ID == id && r.Status == returnExpected })
}

// expectsReturn reports whether goods are on their way back.
func (o Order) expectsReturn() bool {
	return slices.ContainsFunc(o.Returns, func(r Return) bool { return r.Status == returnExpected })
}

// altered are those of is that was lacks or has otherwise. Elements keep their
// places; new ones are last.
func altered[T any](was, is []T, same func(T, T) bool) []T {
	var list []T
	for i, v := range is {
		if i >= len(was) || !same(was[i], v) {
			list = append(list, v)
		}
	}
	return list
}
