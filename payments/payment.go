package payments

import (
	"errors"
	"fmt"
	"time"

	"example.com/orderflow/messaging"
	"example.com/orderflow/messaging/contracts"
)

// Status is where an attempt to pay stands.
type Status string

// The states of an attempt. Declined, Captured and Voided are final.
const (
	Authorizing Status = "authorizing" // the provider is being asked, or was and didn't answer
	Authorized  Status = "authorized"  // the amount is set aside
	Declined    Status = "declined"
	Captured    Status = "captured" // the money is ours
	Voided      Status = "voided"   // nothing is set aside any more, or ever was
)

// ReasonVoided is the reason code of an attempt that a void overtook.
const ReasonVoided = "voided"

// Payment is the money side of one order.
type Payment struct {
	ID         string `db:"id"`
	OrderID    string `db:"order_id"`
	CustomerID string `db:"customer_id"` // "" while only a void was seen
	Currency   string `db:"currency"`    // likewise
	// VoidedThrough is the highest attempt that was to be voided; neither it nor
	// one below may be authorized any more. 0 = none.
	VoidedThrough int       `db:"voided_through"`
	Attempts      []Attempt `db:"-"` // in the order tried
}

// Attempt is one method that was tried for a payment.
type Attempt struct {
	PaymentID     string    `db:"payment_id"`
	Number        int       `db:"attempt"` // from 1
	Status        Status    `db:"status"`
	AmountMinor   int64     `db:"amount_minor"`
	MethodToken   string    `db:"method_token"` // never logged
	ProviderRef   string    `db:"provider_ref"` // of the authorization; "" until the provider named it
	ReasonCode    string    `db:"reason_code"`  // why declined
	CaptureID     string    `db:"capture_id"`   // UUID; set when the capture is begun
	CapturedMinor int64     `db:"captured_minor"`
	At            time.Time `db:"at"` // of the last change of status, shop's time
}

// Operation is what the provider is asked to do.
type Operation string

// The operations.
const (
	OpAuthorize Operation = "authorize"
	OpCapture   Operation = "capture"
	OpVoid      Operation = "void"
)

// Key is the Idempotency-Key of an operation at the provider: the same whenever
// the same is attempted.
func Key(paymentID string, attempt int, op Operation) string {
	return fmt.Sprintf("%s:%d:%s", paymentID, attempt, op)
}

// step is what a command calls for in the state that it found.
type step int

const (
	tell step = iota // what is recorded is the answer
	ask              // the provider, under the operation's key
	undo             // see to it that nothing is left at the provider, then tell
)

// errMeanwhile: the provider's answer fits no longer what is recorded, because
// another command about the attempt was faster. The next try sees the new state.
var errMeanwhile = errors.New("another command changed the attempt meanwhile")

// hopeless is the error of a command that can never be right for this payment.
func hopeless(format string, args ...any) error {
	return messaging.Permanent(fmt.Errorf(format, args...))
}

// Attempt returns attempt n, false when it was never begun.
func (p Payment) Attempt(n int) (Attempt, bool) {
	for _, a := range p.Attempts {
		if a.Number == n {
			return a, true
		}
	}
	return Attempt{}, false
}

// Status of a payment is that of its money: captured when any attempt is, else
// the last attempt's, voided when there is none (a void came first).
func (p Payment) Status() Status {
	status := Voided
	for _, a := range p.Attempts {
		if a.Status == Captured {
			return Captured
		}
		status = a.Status
	}
	return status
}

// CapturedMinor is the money taken, in minor units.
func (p Payment) CapturedMinor() int64 {
	var sum int64
	for _, a := range p.Attempts {
		sum += a.CapturedMinor
	}
	return sum
}

// AmountMinor is the amount of the last attempt, in minor units; 0 without one.
func (p Payment) AmountMinor() int64 {
	if len(p.Attempts) == 0 {
		return 0
	}
	return p.Attempts[len(p.Attempts)-1].AmountMinor
}

// authorize decides about c. The attempt that it returns is the recorded one, or
// the one to record. An attempt that is repeated with another amount, method or
// currency is an error, as is one of another order: its key would lie.
func (p Payment) authorize(c contracts.AuthorizePayment) (step, Attempt, error) {
	a, begun := p.Attempt(c.Attempt)
	switch {
	case p.OrderID != c.OrderID || p.CustomerID != c.CustomerID:
		return tell, a, hopeless("payment %s belongs to another order or customer than order %s", p.ID, c.OrderID)
	case p.Currency != c.Currency:
		return tell, a, hopeless("payment %s is in %s, not in %s", p.ID, p.Currency, c.Currency)
	case !begun && c.Attempt <= p.VoidedThrough:
		return tell, Attempt{PaymentID: p.ID, Number: c.Attempt, Status: Voided}, nil
	case !begun:
		return ask, Attempt{
			PaymentID: p.ID, Number: c.Attempt, Status: Authorizing,
			AmountMinor: c.AmountMinor, MethodToken: c.MethodToken,
		}, nil
	case a.AmountMinor != c.AmountMinor || a.MethodToken != c.MethodToken:
		return tell, a, hopeless("attempt %d of payment %s was begun with another amount or method", c.Attempt, p.ID)
	case a.Status == Authorizing && a.Number <= p.VoidedThrough:
		return undo, a, nil
	case a.Status == Authorizing:
		return ask, a, nil
	case a.Status == Voided && a.ProviderRef == "":
		// It was voided while the provider knew nothing of it; a request that was
		// on its way then may have arrived since.
		return undo, a, nil
	}
	return tell, a, nil
}

// capture decides about c.
func (p Payment) capture(c contracts.CapturePayment) (step, Attempt, error) {
	a, begun := p.Attempt(c.Attempt)
	for _, other := range p.Attempts {
		if other.Status == Captured && other.Number != c.Attempt {
			return tell, a, hopeless("payment %s: attempt %d is captured already, attempt %d can't be", p.ID, other.Number, c.Attempt)
		}
	}
	switch {
	case p.OrderID != c.OrderID:
		return tell, a, hopeless("payment %s belongs to another order than %s", p.ID, c.OrderID)
	case !begun || a.Status != Authorized && a.Status != Captured || a.Status == Authorized && c.Attempt <= p.VoidedThrough:
		return tell, a, hopeless("attempt %d of payment %s can't be captured: not authorized", c.Attempt, p.ID)
	case a.CaptureID != "" && a.CaptureID != c.CaptureID:
		return tell, a, hopeless("attempt %d of payment %s is captured under %s, not under %s", c.Attempt, p.ID, a.CaptureID, c.CaptureID)
	case c.AmountMinor > a.AmountMinor:
		return tell, a, hopeless("attempt %d of payment %s: capture %s is for more than was authorized", c.Attempt, p.ID, c.CaptureID)
	case a.Status == Captured && a.CapturedMinor != c.AmountMinor:
		return tell, a, hopeless("attempt %d of payment %s: capture %s took another amount", c.Attempt, p.ID, c.CaptureID)
	case a.Status == Captured:
		return tell, a, nil
	}
	a.CaptureID = c.CaptureID
	return ask, a, nil
}

// void decides which attempts have to be undone at the provider so that nothing
// is left of attempt n and those before it.
func (p Payment) void(c contracts.VoidPayment) ([]Attempt, error) {
	if p.OrderID != c.OrderID {
		return nil, hopeless("payment %s belongs to another order than %s", p.ID, c.OrderID)
	}
	var open []Attempt
	for _, a := range p.Attempts {
		if a.Number > c.Attempt {
			continue
		}
		switch {
		case a.Status == Captured, a.Status == Authorized && a.CaptureID != "":
			return nil, hopeless("attempt %d of payment %s can't be voided: it is captured", a.Number, p.ID)
		case a.Status == Authorizing, a.Status == Authorized:
			open = append(open, a)
		}
	}
	return open, nil
}

// authorizationAnswered applies the provider's answer to AuthorizePayment.
// changed is false when the attempt has an answer already: that one counts.
func (a Attempt) authorizationAnswered(got Authorization) (_ Attempt, changed bool, err error) {
	switch {
	case a.Status == Authorizing && got.Status == Approved:
		a.Status, a.ProviderRef = Authorized, got.Ref
	case a.Status == Authorizing && got.Status == Refused:
		a.Status, a.ProviderRef, a.ReasonCode = Declined, got.Ref, got.ReasonCode
	case a.Status == Voided && a.ProviderRef == "" && got.Status == Approved:
		// The void found nothing at the provider; this came after it.
		return a, false, errMeanwhile
	default:
		return a, false, nil
	}
	return a, true, nil
}

// undone applies what undoing the attempt found and left at the provider: an
// authorization that is Closed now or was Refused, or Missing.
func (a Attempt) undone(got Authorization) (_ Attempt, changed bool, err error) {
	switch {
	case a.Status == Captured || a.Status == Authorized && a.CaptureID != "":
		return a, false, hopeless("attempt %d of payment %s can't be voided: it is captured", a.Number, a.PaymentID)
	case a.Status == Declined, a.Status == Voided && a.ProviderRef != "":
		return a, false, nil
	case a.Status == Authorized && got.Status != Closed:
		// It was answered after the provider had been asked what it knew.
		return a, false, errMeanwhile
	case a.Status == Voided && got.Status == Missing:
		return a, false, nil
	case a.Status == Authorizing && got.Status == Refused:
		a.Status, a.ReasonCode = Declined, got.ReasonCode
	default:
		a.Status = Voided
	}
	a.ProviderRef = got.Ref
	return a, true, nil
}

// captured applies the provider's word that the capture a.CaptureID took amountMinor.
func (a Attempt) captured(amountMinor int64) (_ Attempt, changed bool, err error) {
	switch a.Status {
	case Captured:
		return a, false, nil
	case Authorized:
		a.Status, a.CapturedMinor = Captured, amountMinor
		return a, true, nil
	}
	return a, false, hopeless("attempt %d of payment %s is %s here and captured at the provider", a.Number, a.PaymentID, a.Status)
}

// authorizationEvent is what AuthorizePayment c is answered with, now that it
// came to a.
func (a Attempt) authorizationEvent(c contracts.AuthorizePayment) messaging.Body {
	declined := contracts.PaymentDeclined{PaymentID: c.PaymentID, Attempt: c.Attempt, OrderID: c.OrderID, ReasonCode: a.ReasonCode}
	switch a.Status {
	case Authorized, Captured:
		return contracts.PaymentAuthorized{
			PaymentID: c.PaymentID, Attempt: c.Attempt, OrderID: c.OrderID,
			AmountMinor: a.AmountMinor, Currency: c.Currency,
		}
	case Voided:
		declined.ReasonCode = ReasonVoided
	}
	return declined
}

// captureEvent is what CapturePayment c is answered with, now that a is captured.
func (a Attempt) captureEvent(c contracts.CapturePayment) messaging.Body {
	return contracts.PaymentCaptured{
		PaymentID: c.PaymentID, Attempt: c.Attempt, CaptureID: a.CaptureID, OrderID: c.OrderID, AmountMinor: a.CapturedMinor,
	}
}
