package payments

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/stripe/stripe-go/v85"
)

// stripeSlice is the time that a page of the books is about. Stripe lists the
// newest first, so a page has to be read whole to have the oldest first.
const stripeSlice = time.Hour

// bookedBy are the events that say when the money of an intent moved.
var bookedBy = map[stripe.EventType]MovementKind{
	stripe.EventTypePaymentIntentAmountCapturableUpdated: MoveAuthorize,
	stripe.EventTypePaymentIntentSucceeded:               MoveCapture,
	stripe.EventTypePaymentIntentCanceled:                MoveVoid,
}

// ListMovements puts the books together from Stripe's events about intents and its
// refunds as they are now: one that failed later is not in them. A page is an hour, and
// may be empty. Only what bears our keys is in the books, so an account of Stripe may
// be shared with others. Events are kept for 30 days (docs.stripe.com/api/events);
// what is older has no authorizations, captures or voids. They are written in the
// account's default API version, which must be 2022-11-15 or later. Times are whole
// seconds, Stripe's.
func (s *Stripe) ListMovements(ctx context.Context, q MovementQuery) ([]Movement, string, error) {
	from, until := q.From, q.Until
	if q.Next != "" {
		next, err := time.Parse(time.RFC3339Nano, q.Next)
		if err != nil {
			return nil, "", fmt.Errorf("read the provider's books from %q: %w", q.Next, err)
		}
		from = next
	}
	next := ""
	if end := from.Add(stripeSlice); end.Before(until) {
		until, next = end, end.UTC().Format(time.RFC3339Nano)
	}
	if !from.Before(until) {
		return nil, "", nil
	}
	within := &stripe.RangeQueryParams{GreaterThanOrEqual: secondsUp(from), LesserThan: secondsUp(until)}
	page, err := s.bookedIntents(ctx, within)
	if err != nil {
		return nil, "", fmt.Errorf("read the provider's books: %w", err)
	}
	refunds, err := s.bookedRefunds(ctx, within)
	if err != nil {
		return nil, "", fmt.Errorf("read the provider's books: %w", err)
	}
	page = append(page, refunds...)
	slices.Reverse(page)
	slices.SortStableFunc(page, func(a, b Movement) int {
		return cmp.Or(a.At.Compare(b.At), cmp.Compare(withinSecond[a.Kind], withinSecond[b.Kind]))
	})
	if q.Reference != "" {
		page = slices.DeleteFunc(page, func(m Movement) bool { return m.Reference != q.Reference })
	}
	return page, next, nil
}

// withinSecond is in what order movements of the same second happened.
var withinSecond = map[MovementKind]int{MoveAuthorize: 0, MoveCapture: 1, MoveVoid: 1, MoveExpire: 1, MoveRefund: 2}

// secondsUp is t in seconds, rounded up: whole seconds from t on are from that one on.
func secondsUp(t time.Time) int64 {
	return t.Add(time.Second - 1).Unix()
}

// bookedIntents lists the movements of intents, the newest first.
func (s *Stripe) bookedIntents(ctx context.Context, within *stripe.RangeQueryParams) ([]Movement, error) {
	var types []*string
	for t := range bookedBy {
		types = append(types, stripe.String(string(t)))
	}
	ctx, seen := watch(ctx)
	list := s.client.V1Events.List(ctx, &stripe.EventListParams{
		ListParams:   stripe.ListParams{Limit: stripe.Int64(stripePage)},
		CreatedRange: within,
		Types:        types,
	})
	var page []Movement
	var odd error
	err := visitAll(ctx, seen, list, func(e *stripe.Event) bool {
		var m Movement
		var ok bool
		if m, ok, odd = bookedIntent(e); ok {
			page = append(page, m)
		}
		return odd == nil
	})
	if err == nil {
		err = odd
	}
	return page, err
}

// bookedIntent returns the movement that an event tells of, false when it is none of
// ours or moved nothing.
func bookedIntent(e *stripe.Event) (Movement, bool, error) {
	kind, known := bookedBy[e.Type]
	if !known || e.Data == nil {
		return Movement{}, false, nil
	}
	var intent stripe.PaymentIntent
	if err := json.Unmarshal(e.Data.Raw, &intent); err != nil {
		return Movement{}, false, fmt.Errorf("event %s: %w", e.ID, errProvider)
	}
	if intent.Metadata[metaKey] == "" {
		return Movement{}, false, nil
	}
	m := Movement{
		Kind: kind, Ref: intent.ID, AuthRef: intent.ID, Key: intent.Metadata[metaKey], Reference: intent.Metadata[metaOrder],
		AmountMinor: minorAmount(intent.Amount, intent.Currency), Currency: currencyOf(intent.Currency), At: time.Unix(e.Created, 0).UTC(),
	}
	moved := true
	switch kind {
	case MoveAuthorize:
		moved = intent.AmountCapturable > 0
	case MoveCapture:
		m.AmountMinor, m.Key = minorAmount(intent.AmountReceived, intent.Currency), intent.Metadata[metaCaptureKey]
	case MoveVoid:
		// A cancelled intent was approved when it was charged and not declined.
		moved = intent.LatestCharge != nil && intent.LastPaymentError == nil
		m.Key = "" // Stripe doesn't keep that of a cancel
		if lapsed(&intent) {
			m.Kind = MoveExpire
		}
	}
	return m, moved, nil
}

// bookedRefunds lists the refunds, the newest first.
func (s *Stripe) bookedRefunds(ctx context.Context, within *stripe.RangeQueryParams) ([]Movement, error) {
	ctx, seen := watch(ctx)
	list := s.client.V1Refunds.List(ctx, &stripe.RefundListParams{
		ListParams:   stripe.ListParams{Limit: stripe.Int64(stripePage)},
		CreatedRange: within,
		Expand:       []*string{stripe.String("data.charge"), stripe.String("data.payment_intent")},
	})
	var page []Movement
	err := visitAll(ctx, seen, list, func(f *stripe.Refund) bool {
		if f.PaymentIntent != nil && f.PaymentIntent.Metadata[metaKey] != "" && gaveBack(f) {
			page = append(page, Movement{
				Kind: MoveRefund, Ref: f.ID, AuthRef: f.PaymentIntent.ID, Key: f.Metadata[metaKey], Reference: f.PaymentIntent.Metadata[metaOrder],
				AmountMinor: minorAmount(f.Amount, f.Currency), Currency: currencyOf(f.Currency), At: time.Unix(f.Created, 0).UTC(),
			})
		}
		return true
	})
	return page, err
}

// currencyOf is c as ISO 4217 writes it.
func currencyOf(c stripe.Currency) string { return strings.ToUpper(string(c)) }
