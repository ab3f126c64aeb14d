package payments

import (
	"context"
	"errors"
	"fmt"
)

// Gateway is a payment provider. Every effect is asked for under a key; the same
// request under the same key has one effect and one answer.
//
// An error that messaging.Permanent marked, a *RefusedError among its causes,
// means that the provider will never take the request. Any other error means that nothing
// is known: the provider may have done it. Ask again under the same key.
type Gateway interface {
	// Authorize sets money aside. The answer is Approved or Refused.
	Authorize(ctx context.Context, r AuthorizeRequest) (Authorization, error)
	// Capture takes amountMinor of the authorization ref, which ends it.
	Capture(ctx context.Context, key, ref string, amountMinor int64) error
	// Void gives back what the authorization ref set aside.
	Void(ctx context.Context, key, ref string) error
	// Lookup says what came of Authorize under key; Unknown when nothing did.
	Lookup(ctx context.Context, key string) (Authorization, error)
}

// AuthorizeRequest is what Authorize asks for.
type AuthorizeRequest struct {
	Key         string
	Reference   string // shown in the provider's books: the order
	AmountMinor int64  // minor units, > 0
	Currency    string // ISO 4217
	MethodToken string // never logged
}

// Outcome is what the provider knows of an authorization.
type Outcome string

// The outcomes.
const (
	Approved Outcome = "approved"  // the money is set aside
	Refused  Outcome = "refused"   // by the customer's bank, for good
	Closed   Outcome = "closed"    // was approved and is voided now
	Taken    Outcome = "taken"     // was approved and is captured now
	Unknown  Outcome = "not_found" // the provider never heard of it
)

// Authorization is the provider's side of an attempt.
type Authorization struct {
	Ref        string // the provider's name of it; "" when Unknown
	Status     Outcome
	ReasonCode string // why Refused
}

// RefusedError is the provider's word that a request will never be right.
type RefusedError struct {
	Status int    // of the HTTP response
	Code   string // the provider's
}

// Error names the status and the provider's code.
func (e *RefusedError) Error() string {
	return fmt.Sprintf("the provider refused with %d %s", e.Status, e.Code)
}

// errProvider: the provider answered that it can't answer now.
var errProvider = errors.New("the provider did not answer the request")
