package payments

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/stripe/stripe-go/v85"
)

const (
	// stripeClockSkew is how much later than Stripe's our clock may be.
	stripeClockSkew = 5 * time.Minute
	// stripeFirstLook is within what time after AskedAt an intent most likely was
	// created: that part is read first.
	stripeFirstLook = 2 * time.Minute
	// stripeInFlight is how old an intent must be to be taken for one that no
	// request is at work on any more. Stripe's libraries wait 80 s for an answer.
	stripeInFlight = 2 * time.Minute
	stripePage     = 100 // the most that a page of a list may have
)

// FindAuthorization retrieves the intent named q.Ref or, when the name isn't known,
// lists all intents that were created since q.AskedAt and takes the one that
// bears q.Key as metadata. Stripe's search is not used: it lags behind by up to an
// hour; lists don't (docs.stripe.com/search). A list costs a request for every hundred
// intents since q.AskedAt, at worst.
//
// An intent that was neither approved nor declined is not guessed about: it is
// unknown while a request may still be at work on it, and cancelled after that, so that
// nothing can come of it any more. Then it is Refused.
func (s *Stripe) FindAuthorization(ctx context.Context, q AuthorizationQuery) (Authorization, error) {
	ctx, seen := watch(ctx)
	intent, err := s.findIntent(ctx, seen, q)
	if err != nil {
		return Authorization{}, fmt.Errorf("look up an authorization: %w", err)
	}
	if intent == nil {
		return Authorization{Status: Missing}, nil
	}
	a, err := s.standing(ctx, seen, intent)
	if err != nil {
		return Authorization{}, fmt.Errorf("look up authorization %s: %w", intent.ID, err)
	}
	return a, nil
}

// findIntent returns the intent that q asks for, with its latest charge; nil when there is
// none under q.Key.
func (s *Stripe) findIntent(ctx context.Context, seen *exchange, q AuthorizationQuery) (*stripe.PaymentIntent, error) {
	if q.Ref != "" {
		intent, err := s.client.V1PaymentIntents.Retrieve(ctx, q.Ref, &stripe.PaymentIntentRetrieveParams{
			Expand: []*string{stripe.String("latest_charge")},
		})
		if err != nil {
			return nil, seen.failure(err)
		}
		if intent.ID != q.Ref {
			return nil, noAnswer(string(intent.Status))
		}
		return intent, nil
	}
	if q.AskedAt.IsZero() {
		return nil, errors.New("nothing says since when to look for it")
	}
	from, soon := q.AskedAt.Add(-stripeClockSkew).Unix(), q.AskedAt.Add(stripeFirstLook).Unix()
	for _, created := range []*stripe.RangeQueryParams{
		{GreaterThanOrEqual: from, LesserThan: soon},
		{GreaterThanOrEqual: soon},
	} {
		var found *stripe.PaymentIntent
		list := s.client.V1PaymentIntents.List(ctx, &stripe.PaymentIntentListParams{
			ListParams:   stripe.ListParams{Limit: stripe.Int64(stripePage)},
			CreatedRange: created,
			Expand:       []*string{stripe.String("data.latest_charge")},
		})
		err := visitAll(ctx, seen, list, func(intent *stripe.PaymentIntent) bool {
			if intent.Metadata[metaKey] == q.Key {
				found = intent
			}
			return found == nil
		})
		if err != nil || found != nil {
			return found, err
		}
	}
	return nil, nil
}

// visitAll visits what a list has, newest first, until visit returns false. A last
// page that doesn't call itself a list is no answer: nothing may be taken for missing
// because of it.
func visitAll[T any](ctx context.Context, seen *exchange, list *stripe.V1List[T], visit func(T) bool) error {
	for item, err := range list.All(ctx) {
		if err != nil {
			return seen.failure(err)
		}
		if !visit(item) {
			return nil
		}
	}
	if list.Meta().URL == "" {
		return noAnswer("")
	}
	return nil
}

// standing says how an intent stands that was just read, with its latest charge.
func (s *Stripe) standing(ctx context.Context, seen *exchange, intent *stripe.PaymentIntent) (Authorization, error) {
	refused := Authorization{Ref: intent.ID, Status: Refused, ReasonCode: declineReason(intent.LastPaymentError)}
	switch intent.Status {
	case stripe.PaymentIntentStatusRequiresCapture:
		return authorizedAs(intent, Approved), nil
	case stripe.PaymentIntentStatusSucceeded:
		a := authorizedAs(intent, Taken)
		var err error
		a.RefundedMinor, err = s.refunded(ctx, seen, intent)
		return a, err
	case stripe.PaymentIntentStatusCanceled:
		switch {
		case intent.LatestCharge != nil && intent.LatestCharge.Paid && lapsed(intent):
			return authorizedAs(intent, Lapsed), nil
		case intent.LatestCharge != nil && intent.LatestCharge.Paid:
			return authorizedAs(intent, Closed), nil
		case intent.LastPaymentError == nil && intent.CancellationReason == stripe.PaymentIntentCancellationReasonAbandoned:
			refused.ReasonCode = reasonAuthentication // abandon did that
		}
		return refused, nil
	case stripe.PaymentIntentStatusRequiresPaymentMethod:
		if intent.LastPaymentError != nil {
			return refused, nil
		}
		fallthrough
	case stripe.PaymentIntentStatusRequiresConfirmation, stripe.PaymentIntentStatusRequiresAction:
		read, err := http.ParseTime(seen.header.Get("Date")) // by Stripe's clock
		if err != nil || read.Sub(time.Unix(intent.Created, 0)) < stripeInFlight {
			return Authorization{}, noAnswer(string(intent.Status))
		}
		if err := s.abandon(ctx, intent); err != nil {
			return Authorization{}, err
		}
		refused.ReasonCode = reasonAuthentication
		return refused, nil
	}
	return Authorization{}, noAnswer(string(intent.Status))
}

// refunded is what was given back of a captured intent, in minor units.
func (s *Stripe) refunded(ctx context.Context, seen *exchange, intent *stripe.PaymentIntent) (int64, error) {
	c := intent.LatestCharge
	if c == nil {
		return 0, noAnswer(string(intent.Status))
	}
	if c.AmountRefunded == 0 || c.Amount == c.AmountCaptured {
		return minorAmount(c.AmountRefunded, intent.Currency), nil
	}
	// What the capture left over counts as refunded as well.
	var sum int64
	err := visitAll(ctx, seen, s.refundsOf(ctx, intent.ID), func(refund *stripe.Refund) bool {
		if gaveBack(refund) {
			sum += refund.Amount
		}
		return true
	})
	return minorAmount(sum, intent.Currency), err
}

// refundsOf lists the refunds of an intent, with their charges.
func (s *Stripe) refundsOf(ctx context.Context, ref string) *stripe.V1List[*stripe.Refund] {
	return s.client.V1Refunds.List(ctx, &stripe.RefundListParams{
		ListParams:    stripe.ListParams{Limit: stripe.Int64(stripePage)},
		PaymentIntent: stripe.String(ref),
		Expand:        []*string{stripe.String("data.charge")},
	})
}

// FindRefund lists the refunds of q.Ref and takes the one that bears q.Key as
// metadata.
func (s *Stripe) FindRefund(ctx context.Context, q RefundQuery) (Refund, error) {
	ctx, seen := watch(ctx)
	var found *stripe.Refund
	err := visitAll(ctx, seen, s.refundsOf(ctx, q.Ref), func(refund *stripe.Refund) bool {
		if refund.Metadata[metaKey] == q.Key {
			found = refund
		}
		return found == nil
	})
	if err != nil {
		return Refund{}, fmt.Errorf("look up a refund of authorization %s: %w", q.Ref, err)
	}
	if found == nil {
		return Refund{Status: RefundMissing}, nil
	}
	f, err := refundedAs(found)
	if err != nil {
		return Refund{}, fmt.Errorf("look up a refund of authorization %s: %w", q.Ref, err)
	}
	return f, nil
}
