package payments

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

// listJSON is a list of Stripe's.
func listJSON(more bool, items ...string) string {
	return fmt.Sprintf(`{"object":"list","url":"/v1/things","has_more":%t,"data":[%s]}`, more, strings.Join(items, ","))
}

// chargeJSON is a member latest_charge.
func chargeJSON(members string) string {
	return `"latest_charge":{"id":"ch_1","object":"charge","amount":1250,` + members + `}`
}

func TestStripeSaysHowAnIntentStands(t *testing.T) {
	t.Parallel()
	paid := chargeJSON(`"paid":true,"captured":false,"amount_refunded":1250`)
	for _, tc := range []struct {
		name   string
		intent string
		want   Authorization // without a status: unknown
	}{
		{"approved", intentJSON("requires_capture", chargeJSON(`"paid":true`)), Authorization{Ref: "pi_1", Status: Approved, AmountMinor: 1250}},
		{"captured", intentJSON("succeeded", `"amount_received":1250,`+chargeJSON(`"paid":true,"captured":true,"amount_captured":1250`)),
			Authorization{Ref: "pi_1", Status: Taken, AmountMinor: 1250, CapturedMinor: 1250}},
		{"captured and partly refunded", intentJSON("succeeded", `"amount_received":1250,`+chargeJSON(`"paid":true,"captured":true,"amount_captured":1250,"amount_refunded":300`)),
			Authorization{Ref: "pi_1", Status: Taken, AmountMinor: 1250, CapturedMinor: 1250, RefundedMinor: 300}},
		{"voided", intentJSON("canceled", paid), Authorization{Ref: "pi_1", Status: Closed, AmountMinor: 1250}},
		{"expired", intentJSON("canceled", `"cancellation_reason":"automatic",`+paid), Authorization{Ref: "pi_1", Status: Lapsed, AmountMinor: 1250}},
		{"declined", intentJSON("requires_payment_method", `"last_payment_error":{"type":"card_error","code":"card_declined","decline_code":"insufficient_funds"}`),
			Authorization{Ref: "pi_1", Status: Refused, ReasonCode: "insufficient_funds"}},
		{"declined and cancelled by hand", intentJSON("canceled", `"last_payment_error":{"type":"card_error","code":"expired_card"},`+chargeJSON(`"paid":false`)),
			Authorization{Ref: "pi_1", Status: Refused, ReasonCode: "expired_card"}},
		{"abandoned by us", intentJSON("canceled", `"cancellation_reason":"abandoned"`), Authorization{Ref: "pi_1", Status: Refused, ReasonCode: "authentication_required"}},
		{"cancelled by hand before anything", intentJSON("canceled", ""), Authorization{Ref: "pi_1", Status: Refused, ReasonCode: "card_declined"}},
		{"captured without a charge", intentJSON("succeeded", `"amount_received":1250`), Authorization{}},
		{"being processed", intentJSON("processing", ""), Authorization{}},
		{"of a status that we don't know", intentJSON("frozen", ""), Authorization{}},
		{"another one", strings.Replace(intentJSON("requires_capture", ""), "pi_1", "pi_2", 1), Authorization{}},
		{"none", `{}`, Authorization{}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s, stub := stripeAt(t, 5*time.Second, func(w http.ResponseWriter, _ *http.Request) { reply(t, w, 200, tc.intent) })
			got, err := s.FindAuthorization(t.Context(), AuthorizationQuery{Ref: "pi_1", Key: "k1"})
			if got != tc.want || (err == nil) != (tc.want.Status != "") || err != nil && classOf(err) != "unknown" {
				t.Errorf("got %+v, %v, want %+v", got, err, tc.want)
			}
			wantNoSecret(t, err)
			stub.wantRequests("GET /v1/payment_intents/pi_1 expand[0]=latest_charge")
		})
	}
}

// TestStripeClosesWhatWasNeverDecided: such an intent is left alone while a request may
// still be at work on it, by Stripe's clock.
func TestStripeClosesWhatWasNeverDecided(t *testing.T) {
	t.Parallel()
	created := time.Unix(1700000000, 0)
	for _, status := range []string{"requires_payment_method", "requires_confirmation", "requires_action"} {
		for _, tc := range []struct {
			name string
			date string
			want string
			then []string
		}{
			{"young", created.Add(stripeInFlight - time.Second).UTC().Format(http.TimeFormat), "", nil},
			{"without a date", "yesterday", "", nil},
			{"old", created.Add(stripeInFlight).UTC().Format(http.TimeFormat), "refused authentication_required",
				[]string{"POST /v1/payment_intents/pi_1/cancel cancellation_reason=abandoned"}},
		} {
			t.Run(status+" "+tc.name, func(t *testing.T) {
				t.Parallel()
				s, stub := stripeAt(t, 5*time.Second, func(w http.ResponseWriter, r *http.Request) {
					w.Header().Set("Date", tc.date)
					if r.Method == http.MethodPost {
						reply(t, w, 200, intentJSON("canceled", ""))
						return
					}
					reply(t, w, 200, intentJSON(status, ""))
				})
				got, err := s.FindAuthorization(t.Context(), AuthorizationQuery{Ref: "pi_1", Key: "k1"})
				if strings.TrimSpace(string(got.Status)+" "+got.ReasonCode) != tc.want || (err == nil) != (tc.want != "") {
					t.Errorf("got %+v, %v, want %q", got, err, tc.want)
				}
				stub.wantRequests(append([]string{"GET /v1/payment_intents/pi_1 expand[0]=latest_charge"}, tc.then...)...)
			})
		}
	}
}

func TestStripeFindsAnIntentByItsKey(t *testing.T) {
	t.Parallel()
	asked := time.Unix(1700000000, 0)
	other := strings.NewReplacer("pi_1", "pi_0", `"k1"`, `"k0"`).Replace(intentJSON("requires_capture", ""))
	foreign := `{"id":"pi_9","object":"payment_intent","status":"succeeded","metadata":{}}`
	ours := intentJSON("requires_capture", "")
	const (
		first  = "GET /v1/payment_intents created[gte]=1699999700&created[lt]=1700000120&expand[0]=data.latest_charge&limit=100"
		second = "GET /v1/payment_intents created[gte]=1699999700&created[lt]=1700000120&expand[0]=data.latest_charge&limit=100&starting_after=pi_0"
		later  = "GET /v1/payment_intents created[gte]=1700000120&expand[0]=data.latest_charge&limit=100"
	)
	for _, tc := range []struct {
		name     string
		answers  []string
		want     Outcome // "" = an error
		requests []string
	}{
		{"soon after", []string{listJSON(false, foreign, ours, other)}, Approved, []string{first}},
		{"on the second page", []string{listJSON(true, foreign, other), listJSON(false, ours)}, Approved, []string{first, second}},
		{"later", []string{listJSON(false), listJSON(false, ours)}, Approved, []string{first, later}},
		{"not there", []string{listJSON(false, other), listJSON(false, foreign)}, Missing, []string{first, later}},
		{"no list", []string{listJSON(false), `{}`}, "", []string{first, later}},
		{"no list on the second page", []string{listJSON(true, foreign, other), `{"data":[]}`}, "", []string{first, second}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			answers := make(chan string, len(tc.answers))
			for _, a := range tc.answers {
				answers <- a
			}
			s, stub := stripeAt(t, 5*time.Second, func(w http.ResponseWriter, _ *http.Request) { reply(t, w, 200, <-answers) })
			got, err := s.FindAuthorization(t.Context(), AuthorizationQuery{Key: "k1", Reference: "o1", AskedAt: asked})
			if got.Status != tc.want || (err == nil) != (tc.want != "") || err != nil && classOf(err) != "unknown" {
				t.Errorf("got %+v, %v, want %q", got, err, tc.want)
			}
			stub.wantRequests(tc.requests...)
		})
	}
}

func TestStripeNeedsToKnowSinceWhenToLook(t *testing.T) {
	t.Parallel()
	s, stub := stripeAt(t, 5*time.Second, func(w http.ResponseWriter, _ *http.Request) { reply(t, w, 200, listJSON(false)) })
	if got, err := s.FindAuthorization(t.Context(), AuthorizationQuery{Key: "k1"}); err == nil {
		t.Errorf("got %+v, want an error", got)
	}
	stub.wantRequests()
}

// refundJSON is a refund of charge ch_1: of 1250, 1000 captured.
func refundJSON(id string, amount int, status, more string) string {
	return fmt.Sprintf(`{"id":%q,"object":"refund","amount":%d,"currency":"eur","created":1700000600,"status":%q,`+
		`"charge":{"id":"ch_1","object":"charge","amount":1250,"captured":true,"amount_captured":1000},`+
		`"payment_intent":{"id":"pi_1","object":"payment_intent","metadata":{"orderflow_key":"k1","order_id":"o1"}}%s}`, id, amount, status, more)
}

const refundKey = `,"metadata":{"orderflow_key":"r1"}`

func TestStripeFindsARefundByItsKey(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name    string
		refunds []string
		want    Refund
	}{
		{"refunded", []string{refundJSON("re_2", 250, "succeeded", ""), refundJSON("re_1", 300, "succeeded", refundKey)}, Refund{Ref: "re_1", Status: Refunded, AmountMinor: 300}},
		{"on its way", []string{refundJSON("re_1", 300, "pending", refundKey)}, Refund{Ref: "re_1", Status: Refunded, AmountMinor: 300}},
		{"failed", []string{refundJSON("re_1", 300, "failed", `,"failure_reason":"lost_or_stolen_card"`+refundKey)},
			Refund{Ref: "re_1", Status: NotRefunded, ReasonCode: "lost_or_stolen_card", AmountMinor: 300}},
		{"cancelled", []string{refundJSON("re_1", 300, "canceled", refundKey)}, Refund{Ref: "re_1", Status: NotRefunded, ReasonCode: "refund_failed", AmountMinor: 300}},
		{"not there", []string{refundJSON("re_2", 300, "succeeded", "")}, Refund{Status: RefundMissing}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s, stub := stripeAt(t, 5*time.Second, func(w http.ResponseWriter, _ *http.Request) { reply(t, w, 200, listJSON(false, tc.refunds...)) })
			if got, err := s.FindRefund(t.Context(), RefundQuery{Ref: "pi_1", Key: "r1"}); err != nil || got != tc.want {
				t.Errorf("got %+v, %v, want %+v", got, err, tc.want)
			}
			stub.wantRequests("GET /v1/refunds expand[0]=data.charge&limit=100&payment_intent=pi_1")
		})
	}
}

// TestStripeTellsRefundsFromWhatACaptureLeft: 1000 of 1250 were captured; Stripe has
// the 250 as a refund too.
func TestStripeTellsRefundsFromWhatACaptureLeft(t *testing.T) {
	t.Parallel()
	left := refundJSON("re_0", 250, "succeeded", "")
	for _, tc := range []struct {
		name     string
		refunded int // as the charge says
		refunds  []string
		want     int64
	}{
		{"nothing refunded", 250, []string{left}, 0},
		{"refunded by us", 550, []string{refundJSON("re_1", 300, "succeeded", refundKey), left}, 300},
		{"refunded by us, as much as was left", 500, []string{refundJSON("re_1", 250, "succeeded", refundKey), left}, 250},
		{"refunded by hand", 450, []string{refundJSON("re_1", 200, "pending", ""), left}, 200},
		{"refund that failed", 250, []string{refundJSON("re_1", 300, "failed", refundKey), left}, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s, _ := stripeAt(t, 5*time.Second, func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/v1/refunds" {
					reply(t, w, 200, listJSON(false, tc.refunds...))
					return
				}
				reply(t, w, 200, intentJSON("succeeded", `"amount_received":1000,`+
					chargeJSON(fmt.Sprintf(`"paid":true,"captured":true,"amount_captured":1000,"amount_refunded":%d`, tc.refunded))))
			})
			got, err := s.FindAuthorization(t.Context(), AuthorizationQuery{Ref: "pi_1", Key: "k1"})
			if err != nil || got.CapturedMinor != 1000 || got.RefundedMinor != tc.want {
				t.Errorf("got %+v, %v, want 1000 captured and %d refunded", got, err, tc.want)
			}
		})
	}
}
