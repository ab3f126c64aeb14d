package payments

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestStripeSortsErrors has a case for each kind of error that Stripe documents
// (docs.stripe.com/api/errors, /error-codes, /declines/codes, /error-low-level).
func TestStripeSortsErrors(t *testing.T) {
	t.Parallel()
	const (
		card    = "card_error"
		invalid = "invalid_request_error"
	)
	canceled := `"payment_intent":{"id":"pi_1","object":"payment_intent","status":"canceled"}`
	expired := `"payment_intent":{"id":"pi_1","object":"payment_intent","status":"canceled","cancellation_reason":"automatic"}`
	succeeded := `"payment_intent":{"id":"pi_1","object":"payment_intent","status":"succeeded"}`
	failed := `"payment_intent":` + intentJSON("requires_payment_method", `"last_payment_error":{"type":"card_error","code":"card_declined"}`)
	for _, tc := range []struct {
		name   string
		op     string
		status int
		header string // "Name: value"
		body   string
		want   string // the answer, when there is one
		class  string // of the error
	}{
		{"declined", "authorize", 402, "", problem(card, "card_declined", `"decline_code":"generic_decline",`+failed), "refused pi_1 card_declined 0", "done"},
		{"funds", "authorize", 402, "", problem(card, "card_declined", `"decline_code":"insufficient_funds",`+failed), "refused pi_1 insufficient_funds 0", "done"},
		{"stolen card, which the customer isn't told", "authorize", 402, "", problem(card, "card_declined", `"decline_code":"stolen_card",`+failed), "refused pi_1 card_declined 0", "done"},
		{"expired card", "authorize", 402, "", problem(card, "expired_card", failed), "refused pi_1 expired_card 0", "done"},
		{"wrong check number", "authorize", 402, "", problem(card, "incorrect_cvc", failed), "refused pi_1 incorrect_cvc 0", "done"},
		{"error of the card's processing", "authorize", 402, "", problem(card, "processing_error", failed), "refused pi_1 processing_error 0", "done"},
		{"3-D Secure", "authorize", 402, "", problem(card, "authentication_required", failed), "refused pi_1 authentication_required 0", "done"},
		{"3-D Secure, said by the bank", "authorize", 402, "", problem(card, "card_declined", `"decline_code":"authentication_required",`+failed), "refused pi_1 authentication_required 0", "done"},
		{"decline replayed under the same key", "authorize", 402, "Idempotent-Replayed: true", problem(card, "card_declined", failed), "refused pi_1 card_declined 0", "done"},
		{"decline that says it is approved", "authorize", 402, "", problem(card, "card_declined", `"payment_intent":`+intentJSON("requires_capture", "")), "", "unknown"},
		{"method that isn't there", "authorize", 400, "", problem(invalid, "resource_missing", `"param":"payment_method"`), "refused  invalid_method 0", "done"},
		{"confirmation token that isn't there", "authorize", 404, "", problem(invalid, "resource_missing", `"param":"confirmation_token"`), "refused  invalid_method 0", "done"},
		{"method that was used up", "authorize", 400, "", problem(invalid, "payment_method_unexpected_state", ""), "refused  invalid_method 0", "done"},
		{"card declined too often", "authorize", 400, "", problem(invalid, "card_decline_rate_limit_exceeded", ""), "refused  card_declined 0", "done"},
		{"too small", "authorize", 400, "", problem(invalid, "amount_too_small", `"param":"amount"`), "", "refused 400 amount_too_small"},
		{"too large", "authorize", 400, "", problem(invalid, "amount_too_large", `"param":"amount"`), "", "refused 400 amount_too_large"},
		{"currency", "authorize", 400, "", problem(invalid, "", `"param":"currency"`), "", "refused 400 invalid_request_error"},
		{"key of another request", "authorize", 400, "", problem("idempotency_error", "", ""), "", "refused 400 idempotency_error"},
		{"first request under the key still runs", "authorize", 409, "", problem(invalid, "idempotency_key_in_use", ""), "", "unknown"},
		{"conflict", "refund", 409, "", problem(invalid, "", ""), "", "unknown"},
		{"code that is no word", "authorize", 400, "", problem(invalid, "Jane 4242", ""), "", "refused 400 unspecified"},

		{"captured before", "capture", 400, "", problem(invalid, "payment_intent_unexpected_state", succeeded), "", "refused 400 already_captured"},
		{"charge captured before", "capture", 400, "", problem(invalid, "charge_already_captured", ""), "", "refused 400 already_captured"},
		{"voided before the capture", "capture", 400, "", problem(invalid, "payment_intent_unexpected_state", canceled), "", "refused 400 authorization_voided"},
		{"expired before the capture", "capture", 400, "", problem(invalid, "payment_intent_unexpected_state", expired), "", "refused 400 authorization_expired"},
		{"charge expired", "capture", 400, "", problem(invalid, "charge_expired_for_capture", ""), "", "refused 400 authorization_expired"},
		{"authorization expired", "capture", 400, "", problem(invalid, "capture_charge_authorization_expired", ""), "", "refused 400 authorization_expired"},
		{"more than authorized", "capture", 400, "", problem(invalid, "", `"param":"amount_to_capture"`), "", "refused 400 amount_too_large"},
		{"capture declined", "capture", 402, "", problem(card, "card_declined", ""), "", "refused 402 card_declined"},
		{"intent that isn't there", "capture", 404, "", problem(invalid, "resource_missing", `"param":"intent"`), "", "refused 404 resource_missing"},
		{"state that isn't said", "capture", 400, "", problem(invalid, "payment_intent_unexpected_state", ""), "", "refused 400 payment_intent_unexpected_state"},
		{"captured another amount", "capture", 200, "", intentJSON("succeeded", `"amount_received":999`), "", "unknown"},
		{"captured and yet not", "capture", 200, "", intentJSON("requires_capture", ""), "", "unknown"},

		{"captured before the void", "void", 400, "", problem(invalid, "payment_intent_unexpected_state", succeeded), "", "refused 400 already_captured"},
		{"voided before", "void", 400, "", problem(invalid, "payment_intent_unexpected_state", canceled), "", "refused 400 authorization_voided"},
		{"voided and yet not", "void", 200, "", intentJSON("requires_capture", ""), "", "unknown"},

		{"refunded before", "refund", 400, "", problem(invalid, "charge_already_refunded", ""), "", "refused 400 charge_already_refunded"},
		{"more than captured", "refund", 400, "", problem(invalid, "", `"param":"amount"`), "", "refused 400 amount_too_large"},
		{"disputed", "refund", 400, "", problem(invalid, "charge_disputed", ""), "", "refused 400 charge_disputed"},
		{"balance of ours too low", "refund", 400, "", problem(invalid, "balance_insufficient", ""), "", "refused 400 balance_insufficient"},
		{"refund failed", "refund", 200, "", `{"id":"re_1","object":"refund","amount":300,"currency":"eur","status":"failed","failure_reason":"expired_or_canceled_card"}`, "", "refused 200 expired_or_canceled_card"},
		{"refund of a status that we don't know", "refund", 200, "", `{"id":"re_1","object":"refund","amount":300,"status":"Jane"}`, "", "unknown"},

		{"too many requests", "authorize", 429, "Retry-After: 7", problem(invalid, "rate_limit", ""), "", "nothing happened, leave alone for 7s"},
		{"too many requests, without words", "refund", 429, "", "", "", "nothing happened"},
		{"object in use", "capture", 429, "", problem(invalid, "lock_timeout", ""), "", "unknown"},
		{"our key is not valid", "authorize", 401, "", problem(invalid, "", ""), "", "nothing happened"},
		{"our key may not", "refund", 403, "", problem(invalid, "", ""), "", "nothing happened"},
		{"broken", "authorize", 500, "", problem("api_error", "", ""), "", "unknown"},
		{"broken, the stored answer", "authorize", 500, "Idempotent-Replayed: true", problem("api_error", "", ""), "", "unknown, spent"},
		{"broken, without words", "capture", 502, "", "<html>4242</html>", "", "unknown"},
		{"overloaded", "void", 503, "Retry-After: 3", "", "", "unknown, leave alone for 3s"},
		{"time-out at the gateway", "refund", 504, "", "", "", "unknown"},
		{"somebody behind Stripe failed", "authorize", 424, "", problem("api_error", "", ""), "", "unknown"},
		{"error of Stripe's under 400", "authorize", 400, "", problem("api_error", "", ""), "", "unknown"},
		{"refusal that isn't Stripe's", "capture", 404, "", "<html>not found</html>", "", "unknown"},
		{"refusal without an error", "capture", 400, "", "{}", "", "unknown"},
		{"redirected", "authorize", 307, "Location: /elsewhere", intentJSON("requires_capture", ""), "", "unknown"},
		{"approved, no JSON", "authorize", 200, "", "<html>pm_secret</html>", "", "unknown"},
		{"approved, cut off", "authorize", 200, "", `{"id":"pi_1","sta`, "", "unknown"},
		{"approved without a name", "authorize", 200, "", `{"status":"requires_capture","amount":1250}`, "", "unknown"},
		{"approved for another amount", "authorize", 200, "", `{"id":"pi_1","status":"requires_capture","amount":1}`, "", "unknown"},
		{"not decided", "authorize", 200, "", intentJSON("processing", ""), "", "unknown"},
		{"look-up of an intent that isn't there", "find", 404, "", problem(invalid, "resource_missing", ""), "", "refused 404 resource_missing"},
		{"look-up while broken", "find", 500, "", problem("api_error", "", ""), "", "unknown"},
		{"look-up of a refund while broken", "find refund", 500, "", problem("api_error", "", ""), "", "unknown"},
		{"look-up of a refund, no list", "find refund", 200, "", "{}", "", "unknown"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s, stub := stripeAt(t, 5*time.Second, func(w http.ResponseWriter, _ *http.Request) {
				if tc.header != "" {
					name, value, _ := strings.Cut(tc.header, ": ")
					w.Header().Set(name, value)
				}
				reply(t, w, tc.status, tc.body)
			})
			got, err := askStripe(t.Context(), s, tc.op)
			if classOf(err) != tc.class || err == nil && got != tc.want {
				t.Errorf("got %q, %s (%v), want %q, %s", got, classOf(err), err, tc.want, tc.class)
			}
			wantNoSecret(t, err)
			stub.mu.Lock()
			defer stub.mu.Unlock()
			if len(stub.log) != 1 {
				t.Errorf("got requests %v, want one: nothing repeats by itself", stub.log)
			}
		})
	}
}
