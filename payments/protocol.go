package payments

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"example.com/orderflow/messaging"
	"example.com/orderflow/messaging/contracts"
)

// callsLimit bounds all calls of the provider for one command, so that they end
// before the command's handler is cut off: that would count as a failure of the
// command.
const callsLimit = 25 * time.Second

// The talk with the provider. Every function here comes back with what is known to
// have happened, or with an error that has the command tried again: what isn't known
// is looked up, then asked for again under the same key. Nothing is guessed.

// talk is the talk with one provider.
type talk struct {
	gateway Gateway
	notes   Notes
}

// Notes are what has to be written between two requests to the provider, each
// committed when its function returns.
type Notes struct {
	Unknown       func(context.Context, Attempt) error            // nobody knows what came of authorizing it
	UnknownRefund func(context.Context, Repayment) error          // nor of giving it back
	Voiding       func(context.Context, Attempt) error            // the intent to void it
	Spent         func(context.Context, Attempt, Operation) error // the operation's key came to nothing for good
}

// notesIn are the notes that are written into store.
func notesIn(bus *messaging.Bus, store store) Notes {
	note := func(ctx context.Context, write func(*messaging.Tx)) error {
		return bus.InTx(ctx, func(_ context.Context, tx *messaging.Tx) error {
			write(tx)
			return nil
		})
	}
	return Notes{
		Unknown: func(ctx context.Context, a Attempt) error {
			return note(ctx, func(tx *messaging.Tx) { store.saveUnknown(tx, a) })
		},
		UnknownRefund: func(ctx context.Context, r Repayment) error {
			return note(ctx, func(tx *messaging.Tx) { store.saveRefundUnknown(tx, r) })
		},
		Voiding: func(ctx context.Context, a Attempt) error {
			return note(ctx, func(tx *messaging.Tx) { store.insertVoids(tx, a) })
		},
		Spent: func(ctx context.Context, a Attempt, op Operation) error {
			return note(ctx, func(tx *messaging.Tx) { store.saveSpent(tx, a, op) })
		},
	}
}

// errSpent: the provider keeps an error under the key, and a look-up has found that
// nothing was done under it. It is the one case in which another key may be used.
var errSpent = errors.New("the provider keeps an error under the key, and did nothing")

// again says when a command whose call ended in err is tried again: not at all when
// the provider refused it as never right; else when the provider wants it, not
// counted as an attempt.
func again(err error) error {
	var refused *RefusedError
	if errors.As(err, &refused) {
		return messaging.Permanent(err)
	}
	wait := 500*time.Millisecond + rand.N(500*time.Millisecond)
	var away *AwayError
	if errors.As(err, &away) && away.RetryAfter > 0 {
		wait = away.RetryAfter + rand.N(250*time.Millisecond)
	}
	return messaging.Later(wait, err)
}

// unsure reports whether err leaves open what the provider did.
func unsure(err error) bool {
	var refused *RefusedError
	var away *AwayError
	return err != nil && !errors.As(err, &refused) && !(errors.As(err, &away) && away.NothingHappened)
}

// spent reports whether err is an answer that the provider keeps under the key.
func spent(err error) bool {
	var away *AwayError
	return errors.As(err, &away) && away.Spent
}

// reason is the provider's code of a refusal, for our events: never "".
func (e *RefusedError) reason() string {
	if e.Code == "" {
		return "refused"
	}
	return e.Code
}

// query names a's authorization.
func (a Attempt) query(p Payment) AuthorizationQuery {
	return AuthorizationQuery{Ref: a.ProviderRef, Key: a.key(OpAuthorize), Reference: p.OrderID, AskedAt: a.AskedAt}
}

// authorize has the provider set the money of a aside, or, with find, looks up
// first what came of asking before. It may return errSpent. What isn't known is noted.
func (t talk) authorize(ctx context.Context, p Payment, a Attempt, todo step) (Authorization, error) {
	if todo == find {
		got, err := t.gateway.FindAuthorization(ctx, a.query(p))
		if err != nil || got.Status != Missing {
			return got, again(err)
		}
	}
	got, err := t.gateway.Authorize(ctx, AuthorizeRequest{
		Key: a.key(OpAuthorize), Reference: p.OrderID, AmountMinor: a.AmountMinor, Currency: p.Currency, MethodToken: a.MethodToken,
	})
	if !unsure(err) {
		return got, again(err)
	}
	found, lookErr := t.gateway.FindAuthorization(ctx, a.query(p))
	switch {
	case lookErr == nil && found.Status != Missing:
		return found, nil
	case lookErr == nil && spent(err):
		return found, fmt.Errorf("%w: %w", errSpent, err)
	}
	return got, errors.Join(again(errors.Join(err, lookErr)), t.noteUnknown(ctx, a))
}

// noteUnknown writes that nobody knows what came of a's authorization, which was
// asked for just now.
func (t talk) noteUnknown(ctx context.Context, a Attempt) error {
	if a.Status == Unknown {
		return nil
	}
	return t.notes.Unknown(ctx, a)
}

// capture has the provider take amountMinor of a, or, with find, looks up first what
// came of asking before. It returns how the authorization stands: Taken, or ended
// otherwise and why the capture was refused. What the provider will not let us
// capture is given back: a failed capture closes its authorization.
func (t talk) capture(ctx context.Context, p Payment, a Attempt, amountMinor int64, todo step) (got Authorization, refused string, err error) {
	if todo == find {
		got, err := t.gateway.FindAuthorization(ctx, a.query(p))
		if err != nil || got.Status != Approved {
			return got, notTaken(got), again(err)
		}
	}
	got, err = t.gateway.Capture(ctx, CaptureRequest{Key: a.key(OpCapture), Ref: a.ProviderRef, AmountMinor: amountMinor, Currency: p.Currency})
	if err == nil {
		return got, "", nil
	}
	var no *RefusedError
	said := errors.As(err, &no)
	if !said && !unsure(err) {
		return got, "", again(err)
	}
	found, lookErr := t.gateway.FindAuthorization(ctx, a.query(p))
	switch {
	case lookErr != nil:
		return found, "", again(errors.Join(lookErr, away(err)))
	case found.Status != Approved && said && found.Status != Taken:
		return found, no.reason(), nil
	case found.Status != Approved:
		return found, notTaken(found), nil
	case said:
		found, kept, err := t.release(ctx, p, a)
		if err == nil && kept != "" && found.Status == Approved {
			// Told now, the customer would pay again while this is set aside for good.
			err = t.useNextKey(ctx, a, OpVoid, fmt.Errorf("the release of a refused capture is refused: %s", kept))
		}
		return found, no.reason(), err
	case spent(err):
		return found, "", t.useNextKey(ctx, a, OpCapture, err)
	}
	return found, "", again(err)
}

// away is err, or nil when it is a refusal: that is no reason to give a command up
// whose look-up failed.
func away(err error) error {
	var refused *RefusedError
	if errors.As(err, &refused) {
		return nil
	}
	return err
}

// notTaken is why a capture can't be, when the authorization stands like got.
func notTaken(got Authorization) string {
	switch got.Status {
	case Taken, Approved:
		return ""
	case Lapsed:
		return ReasonExpired
	}
	return ReasonVoided
}

// release voids the authorization of an attempt whose capture the provider refused,
// with the intent noted first.
func (t talk) release(ctx context.Context, p Payment, a Attempt) (Authorization, string, error) {
	err := t.notes.Voiding(ctx, a)
	if err != nil {
		return Authorization{}, "", err
	}
	return t.void(ctx, p, a)
}

// undo leaves nothing set aside for a at the provider. It returns what is there
// then: Approved means that the provider refused to give it back, and why. It is
// looked up first. When the provider has never heard of it, the request may still be
// on its way and have its effect after all: so it is made, under the same key, which
// uses the key up whatever arrives later, and what came of it is voided.
func (t talk) undo(ctx context.Context, p Payment, a Attempt) (there Authorization, refused string, err error) {
	if there, err = t.gateway.FindAuthorization(ctx, a.query(p)); err != nil {
		return there, "", again(err)
	}
	if there.Status == Missing {
		if there, err = t.authorize(ctx, p, a, ask); errors.Is(err, errSpent) {
			return Authorization{Status: Missing}, "", nil
		}
		if err != nil {
			return there, "", err
		}
	}
	switch there.Status {
	case Approved:
		a.ProviderRef = there.Ref
		return t.void(ctx, p, a)
	case Taken:
		return there, notVoided(there, ""), nil
	}
	return there, "", nil
}

// void has the provider give back what it holds for a. See undo for what it returns.
func (t talk) void(ctx context.Context, p Payment, a Attempt) (there Authorization, refused string, err error) {
	there, refused, err = t.voidUnder(ctx, a.key(OpVoid), a.query(p))
	if errors.Is(err, errSpent) {
		return there, "", t.useNextKey(ctx, a, OpVoid, err)
	}
	return there, refused, err
}

// voidUnder has the provider give back the authorization q, whose Ref is known, under
// key. It may return errSpent; see undo for what it returns else.
func (t talk) voidUnder(ctx context.Context, key string, q AuthorizationQuery) (there Authorization, refused string, err error) {
	there, err = t.gateway.Void(ctx, VoidRequest{Key: key, Ref: q.Ref})
	if err == nil {
		return there, "", nil
	}
	var no *RefusedError
	said := errors.As(err, &no)
	if !said && !unsure(err) {
		return there, "", again(err)
	}
	found, lookErr := t.gateway.FindAuthorization(ctx, q)
	switch {
	case lookErr != nil:
		return found, "", again(errors.Join(lookErr, away(err)))
	case found.Status != Approved:
		return found, notVoided(found, ""), nil
	case said:
		return found, notVoided(found, no.reason()), nil
	case spent(err):
		return found, "", fmt.Errorf("%w: %w", errSpent, err)
	}
	return found, "", again(err)
}

// notVoided is why an authorization that stands like got, after the provider said
// code, isn't given back; "" = it is.
func notVoided(got Authorization, code string) string {
	switch got.Status {
	case Approved:
		return code
	case Taken:
		return contracts.ReasonCaptured
	}
	return ""
}

// refund has the provider give money of a back, or, with find, looks up first what
// came of asking before. The answer is Refunded or NotRefunded.
func (t talk) refund(ctx context.Context, p Payment, r Repayment, a Attempt, todo step) (Refund, error) {
	q := RefundQuery{Ref: a.ProviderRef, Key: r.key(), AskedAt: r.AskedAt}
	if todo == find {
		got, err := t.gateway.FindRefund(ctx, q)
		if err != nil || got.Status != RefundMissing {
			return got, again(err)
		}
	}
	got, err := t.gateway.Refund(ctx, RefundRequest{
		Key: r.key(), Ref: a.ProviderRef, AmountMinor: r.AmountMinor, Currency: p.Currency, Reason: r.Reason,
	})
	if err == nil {
		return got, nil
	}
	var no *RefusedError
	said := errors.As(err, &no)
	if !said && !unsure(err) {
		return got, again(err)
	}
	found, lookErr := t.gateway.FindRefund(ctx, q)
	switch {
	case lookErr != nil:
		return found, again(errors.Join(lookErr, away(err)))
	case found.Status != RefundMissing:
		return found, nil
	case said:
		return Refund{Status: NotRefunded, ReasonCode: no.reason()}, nil
	case spent(err):
		// Nothing was done under the key, and nothing will be: that is a refusal, after
		// which the next key may be used.
		return Refund{Status: NotRefunded, ReasonCode: reasonProviderError}, nil
	}
	noted := t.notes.UnknownRefund(ctx, r)
	return found, errors.Join(again(err), noted)
}

// reasonProviderError is why a refund failed that the provider answers with the same
// error for ever.
const reasonProviderError = "provider_error"

// useNextKey notes that the key of op on a is used up without effect and returns
// the error that has the command tried again, under the next one.
func (t talk) useNextKey(ctx context.Context, a Attempt, op Operation, err error) error {
	noted := t.notes.Spent(ctx, a, op)
	if noted != nil {
		return noted
	}
	return messaging.Later(0, fmt.Errorf("%w: %w", errSpent, err))
}
