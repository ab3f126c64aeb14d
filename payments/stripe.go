package payments

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/stripe/stripe-go/v85"
)

// Names of the metadata by which what is ours is found at Stripe. Stripe keeps
// metadata for as long as the object that bears it.
const (
	metaKey        = "orderflow_key"         // under which an intent or a refund was asked for
	metaCaptureKey = "orderflow_capture_key" // under which an intent was captured
	metaOrder      = "order_id"
	metaReason     = "reason" // of a refund, a code of ours
)

// Stripe is the Gateway to Stripe (https://docs.stripe.com/api). An authorization is
// a PaymentIntent with manual capture that is created and confirmed by one request; to
// void it is to cancel the intent.
//
// What Stripe documents about keys (API v1, docs.stripe.com/api/idempotent_requests):
// the status and the body of the first answer are kept under the Idempotency-Key,
// those of errors and of 500 too, once the request has begun to be executed; not when its
// parameters were invalid, when it was turned away with 429 or 401, or while another
// under the same key runs. A key may be removed when it is 24 hours old, and is then a
// new one. The same key with other parameters is refused. So every key is also kept
// as metadata of the object that it made, and look-ups go by that: they work after
// keys were forgotten.
//
// The library's own repeats, telemetry, log and package-wide settings are not used:
// when a request is repeated is for the protocol of this package to say.
type Stripe struct {
	client  *stripe.Client
	webhook string // the secret that webhooks are signed with
}

// NewStripe returns a Gateway to Stripe's API at baseURL ("https://api.stripe.com"),
// bearing apiKey ("sk_…" or "rk_…"). webhookSecret ("whsec_…", as Stripe shows it) is
// that of the webhook endpoint. timeout limits each request as a whole; connecting alone
// may take one second of it. It returns an error for a URL that is none, and without a
// key or secret; it doesn't touch the network.
func NewStripe(baseURL, apiKey, webhookSecret string, timeout time.Duration) (*Stripe, error) {
	u, err := url.Parse(baseURL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil {
		return nil, errors.New("the URL of Stripe is not https://host")
	}
	if apiKey == "" || webhookSecret == "" {
		return nil, errors.New("the Gateway to Stripe needs an API key and the secret of its webhooks")
	}
	api := stripe.GetBackendWithConfig(stripe.APIBackend, &stripe.BackendConfig{
		URL: stripe.String(u.String()),
		HTTPClient: &http.Client{
			Timeout:   timeout,
			Transport: newWire(),
			// A redirect would carry the key to another host.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		LeveledLogger:     &stripe.LeveledLogger{Level: stripe.LevelNull},
		MaxNetworkRetries: stripe.Int64(0),
		EnableTelemetry:   stripe.Bool(false),
	})
	return &Stripe{
		client:  stripe.NewClient(apiKey, stripe.WithBackends(&stripe.Backends{API: api})),
		webhook: webhookSecret,
	}, nil
}

// Authorize creates and confirms an intent. r.MethodToken is the id of a
// PaymentMethod ("pm_…") or of a ConfirmationToken ("ctoken_…"). A decline (402), a
// method that Stripe doesn't know or can't use any more, and a card that wants its
// holder present are Refused. Such an intent has set nothing aside, and nobody was
// given what could go on with it; one that waits for its customer all the same is
// cancelled.
func (s *Stripe) Authorize(ctx context.Context, r AuthorizeRequest) (Authorization, error) {
	amount, err := stripeAmount(r.AmountMinor, r.Currency)
	if err != nil {
		return Authorization{}, fmt.Errorf("authorize: %w", err)
	}
	params := &stripe.PaymentIntentCreateParams{
		Amount:                stripe.Int64(amount),
		Currency:              stripe.String(strings.ToLower(r.Currency)),
		CaptureMethod:         stripe.String(string(stripe.PaymentIntentCaptureMethodManual)),
		Confirm:               stripe.Bool(true),
		ErrorOnRequiresAction: stripe.Bool(true),
		PaymentMethodTypes:    []*string{stripe.String("card")}, // others want the customer sent elsewhere
		Metadata:              map[string]string{metaKey: r.Key, metaOrder: r.Reference},
	}
	if strings.HasPrefix(r.MethodToken, "ctoken_") {
		params.ConfirmationToken = stripe.String(r.MethodToken)
	} else {
		params.PaymentMethod = stripe.String(r.MethodToken)
	}
	params.SetIdempotencyKey(r.Key)
	ctx, seen := watch(ctx)
	intent, err := s.client.V1PaymentIntents.Create(ctx, params)
	if err != nil {
		a, err := declinedAs(seen, err)
		if err != nil {
			return a, fmt.Errorf("authorize: %w", err)
		}
		return a, nil
	}
	switch {
	case intent.ID == "" || intent.Amount != amount:
	case intent.Status == stripe.PaymentIntentStatusRequiresCapture:
		return authorizedAs(intent, Approved), nil
	case intent.Status == stripe.PaymentIntentStatusRequiresAction:
		if err := s.abandon(ctx, intent); err != nil {
			return Authorization{}, fmt.Errorf("authorize: %w", err)
		}
		return Authorization{Ref: intent.ID, Status: Refused, ReasonCode: reasonAuthentication}, nil
	}
	return Authorization{}, fmt.Errorf("authorize: %w", noAnswer(string(intent.Status)))
}

// Capture captures an intent. What is over is given back by Stripe.
func (s *Stripe) Capture(ctx context.Context, r CaptureRequest) (Authorization, error) {
	amount, err := stripeAmount(r.AmountMinor, r.Currency)
	if err != nil {
		return Authorization{}, fmt.Errorf("capture authorization %s: %w", r.Ref, err)
	}
	params := &stripe.PaymentIntentCaptureParams{
		AmountToCapture: stripe.Int64(amount),
		Metadata:        map[string]string{metaCaptureKey: r.Key},
	}
	params.SetIdempotencyKey(r.Key)
	ctx, seen := watch(ctx)
	intent, err := s.client.V1PaymentIntents.Capture(ctx, r.Ref, params)
	if err != nil {
		return Authorization{}, fmt.Errorf("capture authorization %s: %w", r.Ref, seen.failure(err))
	}
	if intent.ID != r.Ref || intent.Status != stripe.PaymentIntentStatusSucceeded || intent.AmountReceived != amount {
		return Authorization{}, fmt.Errorf("capture authorization %s: %w", r.Ref, noAnswer(string(intent.Status)))
	}
	return authorizedAs(intent, Taken), nil
}

// Void cancels an intent.
func (s *Stripe) Void(ctx context.Context, r VoidRequest) (Authorization, error) {
	params := &stripe.PaymentIntentCancelParams{}
	params.SetIdempotencyKey(r.Key)
	ctx, seen := watch(ctx)
	intent, err := s.client.V1PaymentIntents.Cancel(ctx, r.Ref, params)
	if err != nil {
		return Authorization{}, fmt.Errorf("void authorization %s: %w", r.Ref, seen.failure(err))
	}
	if intent.ID != r.Ref || intent.Status != stripe.PaymentIntentStatusCanceled {
		return Authorization{}, fmt.Errorf("void authorization %s: %w", r.Ref, noAnswer(string(intent.Status)))
	}
	return authorizedAs(intent, Closed), nil
}

// abandon cancels an intent that set nothing aside, so that it can't go on. The
// request bears a key that the library makes up: what would be kept under one of
// ours doesn't matter, the intent itself says whether it is cancelled, and to cancel it
// twice is refused without effect. Every error is unknown.
func (s *Stripe) abandon(ctx context.Context, intent *stripe.PaymentIntent) error {
	ctx, seen := watch(ctx)
	left, err := s.client.V1PaymentIntents.Cancel(ctx, intent.ID, &stripe.PaymentIntentCancelParams{
		CancellationReason: stripe.String(string(stripe.PaymentIntentCancellationReasonAbandoned)),
	})
	if err != nil {
		return fmt.Errorf("cancel intent %s: %w", intent.ID, unsettled(seen.failure(err)))
	}
	if left.ID != intent.ID || left.Status != stripe.PaymentIntentStatusCanceled {
		return fmt.Errorf("cancel intent %s: %w", intent.ID, noAnswer(string(left.Status)))
	}
	return nil
}

// Refund gives back part or all of what was captured of an intent.
func (s *Stripe) Refund(ctx context.Context, r RefundRequest) (Refund, error) {
	amount, err := stripeAmount(r.AmountMinor, r.Currency)
	if err != nil {
		return Refund{}, fmt.Errorf("refund of authorization %s: %w", r.Ref, err)
	}
	params := &stripe.RefundCreateParams{
		PaymentIntent: stripe.String(r.Ref),
		Amount:        stripe.Int64(amount),
		Metadata:      map[string]string{metaKey: r.Key, metaReason: r.Reason},
	}
	params.SetIdempotencyKey(r.Key)
	ctx, seen := watch(ctx)
	refund, err := s.client.V1Refunds.Create(ctx, params)
	if err != nil {
		return Refund{}, fmt.Errorf("refund of authorization %s: %w", r.Ref, seen.failure(err))
	}
	f, err := refundedAs(refund)
	if err == nil && f.Status == NotRefunded {
		err = &RefusedError{Status: seen.status, Code: f.ReasonCode}
	}
	if err != nil {
		return Refund{}, fmt.Errorf("refund of authorization %s: %w", r.Ref, err)
	}
	return f, nil
}
