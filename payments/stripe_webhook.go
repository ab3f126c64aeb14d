package payments

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/stripe/stripe-go/v85/webhook"
)

// signatureErrors are what the library says of a webhook that isn't Stripe's.
var signatureErrors = []error{
	webhook.ErrNotSigned, webhook.ErrInvalidHeader, webhook.ErrNoValidSignature, webhook.ErrTooOld,
}

// ParseEvent checks a webhook's Stripe-Signature and reads what it is about: an intent
// of ours, one of its charges, or a refund or a dispute of such a charge. The event's
// API version doesn't matter: only names are read, and those are looked up by our
// version.
func (s *Stripe) ParseEvent(h http.Header, body []byte) (Event, error) {
	event, err := webhook.ConstructEventWithOptions(body, h.Get("Stripe-Signature"), s.webhook, webhook.ConstructEventOptions{
		Tolerance:                webhook.DefaultTolerance, // 300 s
		IgnoreAPIVersionMismatch: true,
	})
	for _, bad := range signatureErrors {
		if errors.Is(err, bad) {
			return Event{}, fmt.Errorf("%w: %w", ErrBadSignature, err)
		}
	}
	if err != nil || event.ID == "" || event.Data == nil {
		return Event{}, errors.New("a signed webhook is no event of Stripe")
	}
	about := struct {
		Object        string            `json:"object"`
		ID            string            `json:"id"`
		PaymentIntent string            `json:"payment_intent"` // its id
		Metadata      map[string]string `json:"metadata"`
	}{}
	if err := json.Unmarshal(event.Data.Raw, &about); err != nil {
		return Event{ID: event.ID}, nil // of a form that nothing about money has
	}
	e := Event{ID: event.ID, Key: about.Metadata[metaKey]}
	switch about.Object {
	case "payment_intent":
		e.AuthRef = about.ID
	case "charge", "refund", "dispute":
		e.AuthRef = about.PaymentIntent
	}
	// Intents and their charges bear our key. Refunds may be made by hand.
	if e.AuthRef == "" || e.Key == "" && (about.Object == "payment_intent" || about.Object == "charge") {
		return Event{ID: event.ID}, nil
	}
	return e, nil
}
