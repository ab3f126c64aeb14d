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

// The states of an attempt. All but Authorizing, Unknown and Authorized are final.
const (
	Authorizing  Status = "authorizing" // the provider is being asked
	Unknown      Status = "unknown"     // it was asked, and what came of it isn't known yet
	Authorized   Status = "authorized"  // the amount is set aside
	Declined     Status = "declined"
	Captured     Status = "captured" // the money is ours, but for what is refunded
	Voided       Status = "voided"   // nothing is set aside any more, or ever was
	Expired      Status = "expired"  // it was set aside until the provider let it go
	Uncapturable Status = "closed"   // it was set aside and could not be captured
)

// Statuses of a payment that no attempt has.
const (
	PartlyRefunded Status = "partly_refunded"
	WhollyRefunded Status = "refunded"
)

// Reason codes of ours; all others are the provider's.
const (
	ReasonVoided  = "voided"                // a void overtook it
	ReasonExpired = "authorization_expired" // so does the provider call it
)

// Payment is the money side of one order.
type Payment struct {
	ID         string `db:"id"`
	OrderID    string `db:"order_id"`
	CustomerID string `db:"customer_id"` // "" while only a void was seen
	Currency   string `db:"currency"`    // likewise
	// VoidedThrough is the highest attempt that was to be voided; neither it nor
	// one below may be authorized any more. 0 = none.
	VoidedThrough int         `db:"voided_through"`
	Attempts      []Attempt   `db:"-"`       // in the order tried
	Repayments    []Repayment `db:"-"`       // in no order; read for refunds only
	ReadAt        time.Time   `db:"read_at"` // real time; of a payment that is locked
}

// Attempt is one method that was tried for a payment.
type Attempt struct {
	PaymentID     string    `db:"payment_id"`
	Number        int       `db:"attempt"` // from 1
	Status        Status    `db:"status"`
	AmountMinor   int64     `db:"amount_minor"`
	MethodToken   string    `db:"method_token"` // never logged
	ProviderRef   string    `db:"provider_ref"` // of the authorization; "" until the provider named it
	ReasonCode    string    `db:"reason_code"`  // why Declined, Expired or closed
	CaptureID     string    `db:"capture_id"`   // UUID; set when the capture is begun
	CapturedMinor int64     `db:"captured_minor"`
	AuthorizeTry  int       `db:"authorize_try"` // whose key is in use, from 1
	CaptureTry    int       `db:"capture_try"`
	VoidTry       int       `db:"void_try"`
	AskedAt       time.Time `db:"asked_at"` // not before that was the provider asked to authorize it, real time
	At            time.Time `db:"at"`       // of the last change of status, shop's time
}

// Operation is what the provider is asked to do.
type Operation string

// The operations.
const (
	OpAuthorize Operation = "authorize"
	OpCapture   Operation = "capture"
	OpVoid      Operation = "void"
	OpRefund    Operation = "refund"
)

// Key is the Idempotency-Key of an operation at the provider: the same whenever
// the same is attempted. Try, from 1, counts the keys of the operation: the next one
// is only used once what came of the one before is known, and is nothing.
func Key(paymentID string, attempt int, op Operation, try int) string {
	if try <= 1 {
		return fmt.Sprintf("%s:%d:%s", paymentID, attempt, op)
	}
	return fmt.Sprintf("%s:%d:%s:%d", paymentID, attempt, op, try)
}

// key is that of op on the attempt now.
func (a Attempt) key(op Operation) string {
	return Key(a.PaymentID, a.Number, op, map[Operation]int{OpAuthorize: a.AuthorizeTry, OpCapture: a.CaptureTry, OpVoid: a.VoidTry}[op])
}

// step is what a command calls for in the state that it found.
type step int

const (
	tell step = iota // what is recorded is the answer
	ask              // the provider, under the operation's key
	find             // what came of asking before; when nothing did, ask again under the same key
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

// Status of a payment is that of its money: captured, or refunded in parts or
// whole, when any attempt is captured; else the last attempt's; voided when there is
// none (a void came first).
func (p Payment) Status() Status {
	status := Voided
	for _, a := range p.Attempts {
		if a.Status != Captured {
			status = a.Status
			continue
		}
		switch refunded := p.RefundedMinor(); {
		case refunded >= a.CapturedMinor:
			return WhollyRefunded
		case refunded > 0:
			return PartlyRefunded
		}
		return Captured
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
			AmountMinor: c.AmountMinor, MethodToken: c.MethodToken, AuthorizeTry: 1, CaptureTry: 1, VoidTry: 1, AskedAt: p.ReadAt,
		}, nil
	case a.AmountMinor != c.AmountMinor || a.MethodToken != c.MethodToken:
		return tell, a, hopeless("attempt %d of payment %s was begun with another amount or method", c.Attempt, p.ID)
	case a.unanswered() && a.Number <= p.VoidedThrough:
		return undo, a, nil
	case a.unanswered():
		return find, a, nil
	}
	return tell, a, nil
}

// unanswered reports whether it isn't known what came of the authorization.
func (a Attempt) unanswered() bool { return a.Status == Authorizing || a.Status == Unknown }

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
	case !begun || a.unanswered() && c.Attempt > p.VoidedThrough:
		return tell, a, hopeless("attempt %d of payment %s can't be captured: not authorized", c.Attempt, p.ID)
	case a.CaptureID != "" && a.CaptureID != c.CaptureID:
		return tell, a, hopeless("attempt %d of payment %s is captured under %s, not under %s", c.Attempt, p.ID, a.CaptureID, c.CaptureID)
	case c.AmountMinor > a.AmountMinor:
		return tell, a, hopeless("attempt %d of payment %s: capture %s is for more than was authorized", c.Attempt, p.ID, c.CaptureID)
	case a.Status == Captured && a.CapturedMinor != c.AmountMinor:
		return tell, a, hopeless("attempt %d of payment %s: capture %s took another amount", c.Attempt, p.ID, c.CaptureID)
	case a.Status != Authorized && !a.unanswered():
		return tell, a, nil
	case c.Attempt <= p.VoidedThrough:
		return undo, a, nil
	case a.CaptureID != "":
		return find, a, nil
	}
	a.CaptureID = c.CaptureID
	return ask, a, nil
}

// void decides which attempts have to be undone at the provider so that nothing
// is left of attempt n and those before it, and why that can't be: refused is
// contracts.ReasonCaptured when one of them is captured, else "".
func (p Payment) void(c contracts.VoidPayment) (open []Attempt, refused string, err error) {
	if p.OrderID != c.OrderID {
		return nil, "", hopeless("payment %s belongs to another order than %s", p.ID, c.OrderID)
	}
	for _, a := range p.Attempts {
		if a.Number > c.Attempt {
			continue
		}
		switch {
		case a.Status == Captured:
			refused = contracts.ReasonCaptured
		case a.Status == Authorized, a.unanswered():
			open = append(open, a)
		}
	}
	return open, refused, nil
}
