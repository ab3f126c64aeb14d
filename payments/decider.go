package payments

import (
	"context"

	"example.com/orderflow/messaging"
	"example.com/orderflow/messaging/contracts"
)

// Decider decides and talks to the provider as the service's handlers do, by the
// same functions, for simulations: they keep payments in a model and hand them in, and
// bring a provider of their own. The service itself doesn't use it.
type Decider struct{ talk }

// NewDecider returns a Decider that talks to the provider of gateway and writes what
// has to be written meanwhile by notes.
func NewDecider(gateway Gateway, notes Notes) Decider { return Decider{talk{gateway, notes}} }

// Todo is what a command calls for in the state that it found.
type Todo = step

// What a command can call for.
const (
	Tell = tell // what is recorded is the answer
	Ask  = ask  // the provider, under the operation's key
	Find = find // what came of asking before; when nothing did, ask again under the same key
	Undo = undo // see to it that nothing is left at the provider, then tell
)

// ErrSpent has the operation's next key used: nothing was done under its key, nor
// ever will be.
var ErrSpent = errSpent

// The decisions about a command, given its payment as it is recorded and locked.

// BeginAuthorize decides about c.
func (Decider) BeginAuthorize(p Payment, c contracts.AuthorizePayment) (Todo, Attempt, error) {
	return p.authorize(c)
}

// BeginCapture decides about c.
func (Decider) BeginCapture(p Payment, c contracts.CapturePayment) (Todo, Attempt, error) {
	return p.capture(c)
}

// BeginVoid returns the attempts that have to be undone for c, and why that can't be.
func (Decider) BeginVoid(p Payment, c contracts.VoidPayment) (open []Attempt, refused string, err error) {
	return p.void(c)
}

// BeginRefund decides about c; p is with its refunds.
func (Decider) BeginRefund(p Payment, c contracts.RefundPayment) (Todo, Repayment, error) {
	return p.refund(c)
}

// The talk with the provider about what was decided.

// Authorize has money set aside. It may return ErrSpent.
func (d Decider) Authorize(ctx context.Context, p Payment, a Attempt, todo Todo) (Authorization, error) {
	return d.authorize(ctx, p, a, todo)
}

// Capture has money taken, and says why it wasn't.
func (d Decider) Capture(ctx context.Context, p Payment, a Attempt, amountMinor int64, todo Todo) (got Authorization, refused string, err error) {
	return d.capture(ctx, p, a, amountMinor, todo)
}

// LetGo has a stray hold given back; see Stray.
func (d Decider) LetGo(ctx context.Context, s Stray) (Authorization, error) { return d.letGo(ctx, s) }

// Undo has all that is set aside given back, and says why it wasn't.
func (d Decider) Undo(ctx context.Context, p Payment, a Attempt) (there Authorization, refused string, err error) {
	return d.undo(ctx, p, a)
}

// Refund has money given back.
func (d Decider) Refund(ctx context.Context, p Payment, r Repayment, a Attempt, todo Todo) (Refund, error) {
	return d.refund(ctx, p, r, a, todo)
}

// UseNextKey notes that the key of op on a is spent.
func (d Decider) UseNextKey(ctx context.Context, a Attempt, op Operation, err error) error {
	return d.useNextKey(ctx, a, op, err)
}

// What the provider's answers make of an attempt or a refund, as it is recorded
// then; changed is false when that is nothing.

// Authorized applies what came of Authorize.
func (Decider) Authorized(a Attempt, got Authorization) (_ Attempt, changed bool, err error) {
	return a.authorizationAnswered(got)
}

// Captured applies what came of Capture.
func (Decider) Captured(a Attempt, got Authorization, refused string) (_ Attempt, changed bool, err error) {
	return a.captureAnswered(got, refused)
}

// Undone applies what came of Undo.
func (Decider) Undone(a Attempt, got Authorization, refused string) (_ Attempt, changed bool, err error) {
	return a.undone(got, refused)
}

// Repaid applies what came of Refund under key.
func (Decider) Repaid(r Repayment, key string, got Refund) (_ Repayment, changed bool) {
	return r.answered(key, got)
}

// The answers to commands.

// AuthorizeAnswer is what c is answered with, now that it came to a.
func (Decider) AuthorizeAnswer(a Attempt, c contracts.AuthorizePayment) messaging.Body {
	return a.authorizationEvent(c)
}

// CaptureAnswer is what c is answered with, now that it came to a.
func (Decider) CaptureAnswer(a Attempt, c contracts.CapturePayment) messaging.Body {
	return a.captureEvent(c)
}

// VoidAnswer is what c is answered with.
func (Decider) VoidAnswer(c contracts.VoidPayment, refused string) messaging.Body {
	return voidEvent(c, refused)
}

// RefundAnswer is what c is answered with, now that it came to r.
func (Decider) RefundAnswer(r Repayment, c contracts.RefundPayment) messaging.Body { return r.event(c) }

// HasStray reports whether ref, which the provider holds for a request of a's, is a
// stray.
func (Decider) HasStray(a Attempt, ref string) bool { return a.hasStray(ref) }

// GaveUp reports whether what came of asking for a, as it was then, doesn't count.
func (Decider) GaveUp(a, then Attempt) bool { return a.gaveUp(then) }

// StrayKey is the Idempotency-Key of voiding s.
func (Decider) StrayKey(s Stray) string { return s.key() }

// Left is why something of a is still set aside after undoing it, "" = nothing is.
func (Decider) Left(a Attempt, refused string) string { return a.left(refused) }

// KeyOf is the Idempotency-Key of op on the attempt now.
func (Decider) KeyOf(a Attempt, op Operation) string { return a.key(op) }

// RefundKeyOf is the Idempotency-Key of the refund now.
func (Decider) RefundKeyOf(r Repayment) string { return r.key() }
