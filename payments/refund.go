package payments

import (
	"fmt"
	"time"

	"example.com/orderflow/messaging"
	"example.com/orderflow/messaging/contracts"
)

// RepaymentStatus is where a refund stands.
type RepaymentStatus string

// The states of a refund. Succeeded is final; after Failed it may be tried anew.
const (
	Refunding     RepaymentStatus = "refunding" // the provider is being asked
	RefundUnknown RepaymentStatus = "unknown"   // it was asked, and what came of it isn't known yet
	Succeeded     RepaymentStatus = "succeeded" // the money is on its way back
	Failed        RepaymentStatus = "failed"
)

// Reason codes of refunds that the provider isn't even asked for.
const (
	ReasonNotCaptured = "not_captured"
	ReasonExceeds     = "exceeds_captured"
)

// Repayment is a refund as we keep it: money of a captured attempt that goes back.
type Repayment struct {
	ID          string          `db:"id"` // the command's refund_id, UUID
	PaymentID   string          `db:"payment_id"`
	Attempt     int             `db:"attempt"` // the captured one
	AmountMinor int64           `db:"amount_minor"`
	Reason      string          `db:"reason"`
	Status      RepaymentStatus `db:"status"`
	Try         int             `db:"try"`          // whose key is in use, from 1
	ProviderRef string          `db:"provider_ref"` // of the refund; "" until it succeeded
	ReasonCode  string          `db:"reason_code"`  // why Failed
	AskedAt     time.Time       `db:"asked_at"`     // not before that was the provider asked under the first key, real time
	At          time.Time       `db:"at"`           // of the last change of status, shop's time
}

// RefundKey is the Idempotency-Key of a refund at the provider. Try, from 1, counts
// the keys: the next one is only used once the one before is known to be refused or
// to have come to nothing.
func RefundKey(refundID string, try int) string {
	if try <= 1 {
		return refundID + ":refund"
	}
	return fmt.Sprintf("%s:refund:%d", refundID, try)
}

// key is that of the refund now.
func (r Repayment) key() string { return RefundKey(r.ID, r.Try) }

// RefundedMinor is the money that went back, in minor units.
func (p Payment) RefundedMinor() int64 {
	var sum int64
	for _, r := range p.Repayments {
		if r.Status == Succeeded {
			sum += r.AmountMinor
		}
	}
	return sum
}

// captured returns the attempt that was captured, false when none was.
func (p Payment) captured() (Attempt, bool) {
	for _, a := range p.Attempts {
		if a.Status == Captured {
			return a, true
		}
	}
	return Attempt{}, false
}

// refund decides about c. The refund that it returns is the recorded one, or the one
// to record. What is more than is left of the capture is refused by us; refunds
// that are still unknown count as done. One that is repeated with another amount is an
// error.
func (p Payment) refund(c contracts.RefundPayment) (step, Repayment, error) {
	r := Repayment{ID: c.RefundID, PaymentID: p.ID, AmountMinor: c.AmountMinor, Reason: c.Reason, Status: Refunding, Try: 1}
	if p.OrderID != c.OrderID {
		return tell, r, hopeless("payment %s belongs to another order than %s", p.ID, c.OrderID)
	}
	var others int64
	begun := false
	for _, other := range p.Repayments {
		switch {
		case other.ID == c.RefundID && other.PaymentID != p.ID:
			return tell, r, hopeless("refund %s is of another payment than %s", c.RefundID, p.ID)
		case other.ID == c.RefundID:
			r, begun = other, true
		case other.Status != Failed:
			others += other.AmountMinor
		}
	}
	a, captured := p.captured()
	switch {
	case r.AmountMinor != c.AmountMinor:
		return tell, r, hopeless("refund %s was begun with another amount", c.RefundID)
	case r.Status == Succeeded:
		return tell, r, nil
	case begun && r.Status != Failed:
		return find, r, nil
	case !captured:
		r.Status, r.ReasonCode = Failed, ReasonNotCaptured
		return tell, r, nil
	case others+c.AmountMinor > a.CapturedMinor:
		r.Status, r.ReasonCode = Failed, ReasonExceeds
		return tell, r, nil
	case begun: // the provider refused it under the key before
		r.Status, r.ReasonCode = Refunding, ""
		r.Try++
	}
	r.Attempt = a.Number
	if r.AskedAt.IsZero() {
		r.AskedAt = p.ReadAt
	}
	return ask, r, nil
}

// answered applies the provider's answer to the refund under key. changed is false
// when it has an answer already, or is being tried under another key.
func (r Repayment) answered(key string, got Refund) (_ Repayment, changed bool) {
	if r.Status == Succeeded || r.Status == Failed || r.key() != key {
		return r, false
	}
	if got.Status == Refunded {
		r.Status, r.ProviderRef = Succeeded, got.Ref
		return r, true
	}
	r.Status, r.ReasonCode = Failed, got.ReasonCode
	return r, true
}

// event is what RefundPayment c is answered with, now that it came to r.
func (r Repayment) event(c contracts.RefundPayment) messaging.Body {
	if r.Status == Succeeded {
		return contracts.RefundSucceeded{RefundID: c.RefundID, PaymentID: c.PaymentID, OrderID: c.OrderID, AmountMinor: r.AmountMinor}
	}
	return contracts.RefundFailed{RefundID: c.RefundID, PaymentID: c.PaymentID, OrderID: c.OrderID, ReasonCode: r.ReasonCode}
}
