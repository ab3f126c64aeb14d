package payments

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

// signedAt is the header of a webhook that was signed with secret at a time, by
// docs.stripe.com/webhooks#verify-manually.
func signedAt(at time.Time, secret, body string) http.Header {
	mac := hmac.New(sha256.New, []byte(secret))
	fmt.Fprintf(mac, "%d.%s", at.Unix(), body)
	return http.Header{"Stripe-Signature": {fmt.Sprintf("t=%d,v1=%s", at.Unix(), hex.EncodeToString(mac.Sum(nil)))}}
}

func webhookJSON(kind, object string) string {
	return fmt.Sprintf(`{"id":"evt_1","object":"event","api_version":"2019-12-03","type":%q,"created":1700000000,"data":{"object":%s}}`, kind, object)
}

func TestStripeWebhookSaysWhatToLookUp(t *testing.T) {
	t.Parallel()
	s := newTestStripe(t, "http://127.0.0.1:1", time.Second)
	about := Event{ID: "evt_1", AuthRef: "pi_1", Key: "k1"}
	nothing := Event{ID: "evt_1"}
	for _, tc := range []struct {
		name, body string
		want       Event
	}{
		{"captured", webhookJSON("payment_intent.succeeded", intentJSON("succeeded", "")), about},
		{"cancelled", webhookJSON("payment_intent.canceled", intentJSON("canceled", "")), about},
		{"charge expired", webhookJSON("charge.expired", `{"id":"ch_1","object":"charge","payment_intent":"pi_1","metadata":{"orderflow_key":"k1"}}`), about},
		{"refunded", webhookJSON("refund.created", `{"id":"re_1","object":"refund","payment_intent":"pi_1","metadata":{"orderflow_key":"r1"}}`), Event{ID: "evt_1", AuthRef: "pi_1", Key: "r1"}},
		{"refund failed", webhookJSON("refund.failed", `{"id":"re_1","object":"refund","payment_intent":"pi_1","metadata":{"orderflow_key":"r1"}}`), Event{ID: "evt_1", AuthRef: "pi_1", Key: "r1"}},
		{"refunded by hand", webhookJSON("refund.created", `{"id":"re_1","object":"refund","payment_intent":"pi_1","metadata":{}}`), Event{ID: "evt_1", AuthRef: "pi_1"}},
		{"disputed", webhookJSON("charge.dispute.created", `{"id":"dp_1","object":"dispute","payment_intent":"pi_1","metadata":{}}`), Event{ID: "evt_1", AuthRef: "pi_1"}},
		{"intent of somebody else", webhookJSON("payment_intent.succeeded", `{"id":"pi_9","object":"payment_intent","metadata":{}}`), nothing},
		{"charge of somebody else", webhookJSON("charge.succeeded", `{"id":"ch_9","object":"charge","payment_intent":"pi_9","metadata":{}}`), nothing},
		{"charge without an intent", webhookJSON("charge.succeeded", `{"id":"ch_9","object":"charge","payment_intent":null,"metadata":{"orderflow_key":"k1"}}`), nothing},
		{"not about money", webhookJSON("customer.created", `{"id":"cus_1","object":"customer"}`), nothing},
		{"of a strange form", webhookJSON("customer.created", `{"id":7}`), nothing},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			got, err := s.ParseEvent(signedAt(time.Now(), stripeTestSecret, tc.body), []byte(tc.body))
			if err != nil || got != tc.want {
				t.Errorf("got %+v, %v, want %+v", got, err, tc.want)
			}
		})
	}
}

func TestStripeWebhookMustBeStripes(t *testing.T) {
	t.Parallel()
	s := newTestStripe(t, "http://127.0.0.1:1", time.Second)
	body := webhookJSON("payment_intent.succeeded", intentJSON("succeeded", ""))
	signed := func(age time.Duration, secret string) string {
		return signedAt(time.Now().Add(-age), secret, body).Get("Stripe-Signature")
	}
	for name, tc := range map[string]struct {
		header func() string
		body   string
		want   error // nil = it is taken
	}{
		"unsigned":     {func() string { return "" }, body, ErrBadSignature},
		"no signature": {func() string { return "t=1700000000" }, body, ErrBadSignature},
		"nonsense":     {func() string { return "signed by Stripe" }, body, ErrBadSignature},
		"forged":       {func() string { return signed(0, "whsec_of-somebody-else") }, body, ErrBadSignature},
		"another body": {func() string { return signed(0, stripeTestSecret) }, strings.Replace(body, "pi_1", "pi_2", 1), ErrBadSignature},
		"another time": {func() string { return strings.Replace(signed(0, stripeTestSecret), "t=", "t=1", 1) }, body, ErrBadSignature},
		"301 s old":    {func() string { return signed(301*time.Second, stripeTestSecret) }, body, ErrBadSignature},
		"240 s old":    {func() string { return signed(240*time.Second, stripeTestSecret) }, body, nil},
		"secret being rolled": {func() string {
			at, signature, _ := strings.Cut(signed(0, stripeTestSecret), ",")
			return at + ",v1=" + strings.Repeat("0", 64) + "," + signature
		}, body, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := http.Header{}
			if header := tc.header(); header != "" {
				h.Set("Stripe-Signature", header)
			}
			got, err := s.ParseEvent(h, []byte(tc.body))
			if !errors.Is(err, tc.want) || (err == nil) != (got.ID != "") {
				t.Errorf("got %+v, %v, want error %v", got, err, tc.want)
			}
			wantNoSecret(t, err)
		})
	}
}

func TestStripeWebhookThatIsNoEvent(t *testing.T) {
	t.Parallel()
	s := newTestStripe(t, "http://127.0.0.1:1", time.Second)
	for _, body := range []string{"", "Jane", "{}", `{"object":"v2.core.event","id":"evt_1"}`, `{"object":"event","data":{"object":{}}}`, `{"object":"event","id":"evt_1"}`} {
		got, err := s.ParseEvent(signedAt(time.Now(), stripeTestSecret, body), []byte(body))
		if err == nil || errors.Is(err, ErrBadSignature) {
			t.Errorf("%q: got %+v, %v, want an error that isn't about the signature", body, got, err)
		}
		wantNoSecret(t, err)
	}
}
