package payments

import (
	"errors"
	"slices"
	"strings"

	"github.com/stripe/stripe-go/v85"
)

// Reason codes of refused authorizations that don't bear the name of a decline code.
const (
	reasonAuthentication = "authentication_required" // the card wants its holder present (3-D Secure)
	reasonDeclined       = "card_declined"
	reasonInvalidMethod  = "invalid_method"
)

// tellable are the decline codes that become reason codes as they are. All others
// become card_declined: a customer is not to be told that a card counts as lost,
// stolen or fraudulent (docs.stripe.com/declines/codes).
var tellable = []string{
	"card_not_supported", "card_velocity_exceeded", "currency_not_supported", "expired_card",
	"incorrect_cvc", "incorrect_number", "incorrect_zip", "insufficient_funds", "invalid_cvc",
	"invalid_expiry_month", "invalid_expiry_year", "invalid_number", "processing_error",
	"withdrawal_count_limit_exceeded",
}

// declinedAs returns the authorization that an Authorize came to which err ended, the
// library's error, or the error that the Gateway has for it.
func declinedAs(seen *exchange, err error) (Authorization, error) {
	a, failure := Authorization{Status: Refused}, seen.failure(err)
	var said *stripe.Error
	var refused *RefusedError
	if !errors.As(err, &said) || !errors.As(failure, &refused) {
		return Authorization{}, failure
	}
	if said.PaymentIntent != nil {
		a.Ref = said.PaymentIntent.ID
		if said.PaymentIntent.Status == stripe.PaymentIntentStatusRequiresCapture {
			return Authorization{}, noAnswer(string(said.PaymentIntent.Status)) // it says two things
		}
	}
	switch {
	case said.Type == stripe.ErrorTypeCard:
		a.ReasonCode = declineReason(said)
	case said.Type != stripe.ErrorTypeInvalidRequest:
		return Authorization{}, failure
	case said.Param == "payment_method", said.Param == "confirmation_token",
		said.Code == stripe.ErrorCodePaymentMethodUnexpectedState, said.Code == stripe.ErrorCodeTokenAlreadyUsed:
		a.ReasonCode = reasonInvalidMethod
	case said.Code == stripe.ErrorCodeCardDeclineRateLimitExceeded:
		a.ReasonCode = reasonDeclined
	default:
		return Authorization{}, failure
	}
	return a, nil
}

// declineReason is the reason code for a card error.
func declineReason(e *stripe.Error) string {
	if e == nil {
		return reasonDeclined
	}
	for _, code := range []string{string(e.DeclineCode), string(e.Code)} {
		switch {
		case code == "authentication_required", code == "payment_intent_authentication_failure":
			return reasonAuthentication
		case slices.Contains(tellable, code):
			return code
		}
	}
	return reasonDeclined
}

// refusal is the code of a *RefusedError: Stripe's, but for what other providers
// name as well.
func refusal(e *stripe.Error) string {
	switch e.Code {
	case stripe.ErrorCodeChargeExpiredForCapture, stripe.ErrorCodeCaptureChargeAuthorizationExpired:
		return "authorization_expired"
	case stripe.ErrorCodeChargeAlreadyCaptured:
		return "already_captured"
	case stripe.ErrorCodePaymentIntentUnexpectedState:
		if e.PaymentIntent == nil {
			break
		}
		switch e.PaymentIntent.Status {
		case stripe.PaymentIntentStatusSucceeded:
			return "already_captured"
		case stripe.PaymentIntentStatusCanceled:
			if lapsed(e.PaymentIntent) {
				return "authorization_expired"
			}
			return "authorization_voided"
		}
	case "":
		if e.Type == stripe.ErrorTypeInvalidRequest && (e.Param == "amount" || e.Param == "amount_to_capture") {
			return "amount_too_large" // more than is left; Stripe has only a sentence for it
		}
		return word(string(e.Type))
	}
	return word(string(e.Code))
}

// word is s when it is a code as Stripe writes them, else "unspecified": texts from
// outside don't get into errors.
func word(s string) string {
	if s == "" || len(s) > 64 || strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789_") != "" {
		return "unspecified"
	}
	return s
}

// lapsed tells whether a cancelled intent was cancelled by Stripe, because it was not
// captured in time.
func lapsed(intent *stripe.PaymentIntent) bool {
	return intent.CancellationReason == stripe.PaymentIntentCancellationReasonAutomatic ||
		intent.CancellationReason == stripe.PaymentIntentCancellationReasonExpired
}

// authorizedAs is intent as an authorization that is as status says.
func authorizedAs(intent *stripe.PaymentIntent, status Outcome) Authorization {
	a := Authorization{Ref: intent.ID, Status: status, AmountMinor: minorAmount(intent.Amount, intent.Currency)}
	if status == Taken {
		a.CapturedMinor = minorAmount(intent.AmountReceived, intent.Currency)
	}
	return a
}

// refundedAs is refund as the Gateway has it.
func refundedAs(refund *stripe.Refund) (Refund, error) {
	f := Refund{Ref: refund.ID, AmountMinor: minorAmount(refund.Amount, refund.Currency)}
	switch refund.Status {
	case stripe.RefundStatusSucceeded, stripe.RefundStatusPending:
		f.Status = Refunded
	case stripe.RefundStatusFailed, stripe.RefundStatusCanceled:
		f.Status, f.ReasonCode = NotRefunded, "refund_failed"
		if refund.FailureReason != "" {
			f.ReasonCode = word(string(refund.FailureReason))
		}
	}
	if f.Ref == "" || f.Status == "" {
		return Refund{}, noAnswer(string(refund.Status))
	}
	return f, nil
}

// gaveBack tells whether a refund, with its charge expanded, gave captured money
// back. Stripe has refunds for what was only ever set aside, too: for all of a hold that
// was cancelled or expired, and for what a capture of less left over. They have no
// mark of their own but the amount, so one that was made by hand and is exactly as
// much as a capture left over is taken for that.
func gaveBack(refund *stripe.Refund) bool {
	switch {
	case refund.Status == stripe.RefundStatusFailed, refund.Status == stripe.RefundStatusCanceled,
		refund.Reason == stripe.RefundReasonExpiredUncapturedCharge:
		return false
	case refund.Metadata[metaKey] != "":
		return true
	}
	c := refund.Charge
	return c != nil && c.Captured && refund.Amount != c.Amount-c.AmountCaptured
}
