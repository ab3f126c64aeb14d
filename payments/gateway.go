package payments

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// Gateway is a payment provider. Every effect is asked for under a key; the same
// request under the same key has one effect and one answer, for as long as the
// provider keeps its keys. So a request is never repeated before it was looked up,
// and no other key is used for the same thing while what came of one isn't known.
//
// The errors of all methods are of these classes:
//
//   - *RefusedError: the provider answered that it won't do it, and did not do it.
//     It won't under this key, ever; what is refused because of the state of the
//     authorization (captured, voided, expired) shows in a look-up.
//   - *AwayError with NothingHappened: the request had no effect (it was never
//     sent, or it was turned away at the door: 429). It may be repeated.
//   - *AwayError without it, and every other error: unknown. The provider may have
//     done it, may do it yet, or never heard of it. Look it up.
//
// No error text names a token, a key of ours or anything about the customer.
// Implementations don't repeat requests by themselves (net/http does, where a
// header is spelt "Idempotency-Key" and a connection ends without an answer), limit each by ctx and by a
// time-out of their own (connecting by a shorter one), and are used from many
// goroutines at once.
type Gateway interface {
	// Authorize sets money aside. The answer is Approved or Refused (by the
	// customer's bank; also for a method token that the provider doesn't know).
	// What can only go on with the customer present (3-D Secure) is Refused and
	// left open nowhere.
	Authorize(ctx context.Context, r AuthorizeRequest) (Authorization, error)
	// Capture takes r.AmountMinor of an authorization, once; what is over goes back
	// to the customer. The answer is Taken. A *RefusedError says why not: see
	// FindAuthorization for what is left.
	Capture(ctx context.Context, r CaptureRequest) (Authorization, error)
	// Void gives back what an authorization set aside. The answer is Closed. It is a
	// *RefusedError when the authorization has ended already, or can't be given back
	// now.
	Void(ctx context.Context, r VoidRequest) (Authorization, error)
	// Refund gives back part or all of what was captured; several refunds may follow
	// each other up to that amount. The answer is Refunded, also when the money is on
	// its way only. A *RefusedError says why not.
	Refund(ctx context.Context, r RefundRequest) (Refund, error)

	// FindAuthorization says how an authorization stands now, asked for by its Ref
	// when that is known and else by the key under which Authorize was called:
	// Missing when the provider has done nothing under it so far. It sees every
	// request that was answered before (a search that lags behind is no look-up), but
	// Missing is no promise: a request that is still on its way may come.
	FindAuthorization(ctx context.Context, q AuthorizationQuery) (Authorization, error)
	// FindRefund says what came of Refund under a key: Refunded, NotRefunded or
	// RefundMissing, which is no promise either.
	FindRefund(ctx context.Context, q RefundQuery) (Refund, error)

	// ListMovements reads the provider's books: every movement from q.From to before
	// q.Until, oldest first, a page at a time. next continues, "" = that was all.
	ListMovements(ctx context.Context, q MovementQuery) (page []Movement, next string, err error)

	// ParseEvent checks the signature and the age of a webhook (the request's headers,
	// its body as received) and says what it is about. It returns ErrBadSignature for
	// one that is unsigned, forged or 5 minutes old, and Event{ID: …} with nothing
	// else for one that is not about money. It doesn't touch the network: what an
	// event says is never taken as true, it only makes us look.
	ParseEvent(h http.Header, body []byte) (Event, error)
}

// AuthorizeRequest is what Authorize asks for.
type AuthorizeRequest struct {
	Key         string // kept by the provider with the authorization, too: it is looked up by it
	Reference   string // shown in the provider's books: the order
	AmountMinor int64  // minor units, > 0
	Currency    string // ISO 4217
	MethodToken string // never logged
}

// CaptureRequest is what Capture asks for.
type CaptureRequest struct {
	Key         string
	Ref         string // the authorization's
	AmountMinor int64  // minor units, > 0, at most what was authorized
	Currency    string // ISO 4217, the authorization's
}

// VoidRequest is what Void asks for.
type VoidRequest struct {
	Key string
	Ref string // the authorization's
}

// RefundRequest is what Refund asks for.
type RefundRequest struct {
	Key         string // kept by the provider with the refund, too
	Ref         string // the authorization's whose capture is given back
	AmountMinor int64  // minor units, > 0
	Currency    string // ISO 4217, the authorization's
	Reason      string // a code of ours: returned, lost, not_sent_back, …
}

// AuthorizationQuery names an authorization.
type AuthorizationQuery struct {
	Ref       string    // the provider's name; "" = not known
	Key       string    // under which Authorize was called; always given
	Reference string    // as in the AuthorizeRequest
	AskedAt   time.Time // Authorize was not called before that, real time
}

// RefundQuery names a refund.
type RefundQuery struct {
	Ref     string    // the authorization's
	Key     string    // under which Refund was called
	AskedAt time.Time // Refund was not called before that, real time
}

// Outcome is what the provider knows of an authorization.
type Outcome string

// The outcomes.
const (
	Approved Outcome = "approved"  // the money is set aside
	Refused  Outcome = "refused"   // by the customer's bank, for good
	Closed   Outcome = "closed"    // was approved and is voided now
	Lapsed   Outcome = "lapsed"    // was approved and has expired
	Taken    Outcome = "taken"     // was approved and is captured now
	Missing  Outcome = "not_found" // the provider has done nothing under that key so far
)

// Authorization is the provider's side of an attempt, as it stands.
type Authorization struct {
	Ref           string // the provider's name of it; may be "" when Refused, is when Missing
	Status        Outcome
	ReasonCode    string // why Refused; card_declined, insufficient_funds, authentication_required, …
	AmountMinor   int64  // authorized, minor units; 0 when Refused or Missing
	CapturedMinor int64  // minor units; 0 unless Taken
	RefundedMinor int64  // the sum of all refunds, minor units; 0 unless Taken
}

// RefundOutcome is what the provider knows of a refund.
type RefundOutcome string

// The outcomes of refunds.
const (
	Refunded      RefundOutcome = "refunded" // the money went back, or is on its way
	NotRefunded   RefundOutcome = "refused"  // for good, under this key
	RefundMissing RefundOutcome = "not_found"
)

// Refund is the provider's side of a refund.
type Refund struct {
	Ref         string // the provider's name of the refund; may be "" when NotRefunded, is when RefundMissing
	Status      RefundOutcome
	ReasonCode  string // why NotRefunded
	AmountMinor int64  // minor units; 0 when RefundMissing
}

// MovementQuery asks for a part of the provider's books.
type MovementQuery struct {
	From, Until time.Time // the provider's time; From inclusive, Until exclusive
	Reference   string    // only this order's; "" = everything
	Next        string    // of the page before; "" = the first
}

// MovementKind is what was done with money.
type MovementKind string

// The kinds of movements. Refusals move nothing and are in no books of this kind.
const (
	MoveAuthorize MovementKind = "authorize" // set aside
	MoveCapture   MovementKind = "capture"   // taken; what was set aside beyond it is free again
	MoveVoid      MovementKind = "void"      // all that was set aside is free again
	MoveExpire    MovementKind = "expire"    // the same, because of time
	MoveRefund    MovementKind = "refund"    // given back
)

// Movement is a row of the provider's books. An authorization has at most one
// movement of each kind but refunds; a refund has one.
type Movement struct {
	Kind        MovementKind
	Ref         string // of the authorization or, of MoveRefund, of the refund
	AuthRef     string // of the authorization
	Key         string // of ours under which it was asked for, "" where the provider doesn't keep it
	Reference   string // the order; "" where the provider doesn't keep it
	AmountMinor int64  // minor units, > 0
	Currency    string // ISO 4217
	At          time.Time
}

// Event is a webhook of the provider, reduced to what has to be looked up.
type Event struct {
	ID      string // the same for every delivery of the event
	AuthRef string // the authorization that it is about; "" = nothing of ours
	Key     string // of ours, under which something of it was asked for; an event without is noted only
}

// ErrBadSignature is returned by ParseEvent: the webhook is not the provider's, or
// is too old to tell.
var ErrBadSignature = errors.New("the webhook bears no valid signature")

// RefusedError is the provider's word that it didn't do what was asked, and won't
// under that key.
type RefusedError struct {
	Status int    // of the HTTP response
	Code   string // the provider's, for reason codes: authorization_expired, refund_not_allowed, …
}

// Error names the status and the provider's code.
func (e *RefusedError) Error() string {
	return fmt.Sprintf("the provider refused with %d %s", e.Status, e.Code)
}

// AwayError says that the provider gave no answer that tells what came of the
// request.
type AwayError struct {
	// NothingHappened: the request is known to have had no effect. Otherwise
	// nothing is known.
	NothingHappened bool
	// Spent: this is the answer that the provider keeps under the key, it was given
	// before and will be given again. Once a look-up finds nothing under the key
	// either, nothing happened and nothing will: only another key can do it.
	Spent bool
	// RetryAfter is how long the provider wants to be left alone; 0 = it didn't say.
	RetryAfter time.Duration
	Err        error // what was seen; never nil
}

// Error is the text of what was seen.
func (e *AwayError) Error() string {
	if e.NothingHappened {
		return fmt.Sprintf("the provider did nothing: %v", e.Err)
	}
	return fmt.Sprintf("the provider's answer is unknown: %v", e.Err)
}

// Unwrap returns what was seen.
func (e *AwayError) Unwrap() error { return e.Err }

// errProvider: the provider answered that it can't answer now, or something that
// is no answer.
var errProvider = errors.New("the provider did not answer the request")
