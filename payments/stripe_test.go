package payments

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caarlos0/env/v11"
)

const (
	stripeTestKey    = "sk_test_key-of-the-tests"
	stripeTestSecret = "whsec_secret-of-the-webhooks"
)

// stripeStub is a server that h plays; it notes the requests, as "POST /v1/… form".
type stripeStub struct {
	t      *testing.T
	server *httptest.Server
	mu     sync.Mutex
	log    []string
}

// stripeAt is the Gateway to a Stripe that h plays.
func stripeAt(t *testing.T, timeout time.Duration, h http.HandlerFunc) (*Stripe, *stripeStub) {
	t.Helper()
	stub := &stripeStub{t: t}
	stub.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := r.ParseForm(); err != nil {
			t.Errorf("%s %s: %v", r.Method, r.URL.Path, err)
		}
		stub.mu.Lock()
		stub.log = append(stub.log, strings.TrimSpace(r.Method+" "+r.URL.Path+" "+unescaped(r.Form)))
		stub.mu.Unlock()
		if got := r.Header.Get("Authorization"); got != "Bearer "+stripeTestKey {
			t.Errorf("got Authorization %q, want the API key", got)
		}
		if r.Header.Get("X-Stripe-Client-User-Agent")+r.Header.Get("X-Stripe-Client-Telemetry") != "" {
			t.Errorf("got headers %v, want none about this machine", r.Header)
		}
		h(w, r)
	}))
	t.Cleanup(stub.server.Close)
	return newTestStripe(t, stub.server.URL, timeout), stub
}

func newTestStripe(t *testing.T, baseURL string, timeout time.Duration) *Stripe {
	t.Helper()
	s, err := NewStripe(baseURL, stripeTestKey, stripeTestSecret, timeout)
	if err != nil {
		t.Fatalf("make the client: %v", err)
	}
	return s
}

// unescaped is a form in the order of its names, easy to read.
func unescaped(form url.Values) string {
	text, err := url.QueryUnescape(form.Encode())
	if err != nil {
		return err.Error()
	}
	return text
}

func (s *stripeStub) wantRequests(want ...string) {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if strings.Join(s.log, "\n") != strings.Join(want, "\n") {
		s.t.Errorf("requests:\n%s\nwant:\n%s", strings.Join(s.log, "\n"), strings.Join(want, "\n"))
	}
}

// reply answers with a body.
func reply(t *testing.T, w http.ResponseWriter, status int, body string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if _, err := w.Write([]byte(body)); err != nil {
		t.Errorf("answer: %v", err)
	}
}

// classOf is the class of a Gateway's error in words.
func classOf(err error) string {
	var refused *RefusedError
	var away *AwayError
	switch {
	case err == nil:
		return "done"
	case errors.As(err, &refused):
		return fmt.Sprintf("refused %d %s", refused.Status, refused.Code)
	case !errors.As(err, &away):
		return "unknown without a class"
	}
	class := "unknown"
	if away.NothingHappened {
		class = "nothing happened"
	}
	if away.Spent {
		class += ", spent"
	}
	if away.RetryAfter > 0 {
		class += ", leave alone for " + away.RetryAfter.String()
	}
	return class
}

// wantNoSecret checks that an error tells nothing that it must not.
func wantNoSecret(t *testing.T, err error) {
	t.Helper()
	for _, secret := range []string{stripeTestKey, stripeTestSecret, "pm_secret", "k1", "4242", "cs_secret", "Jane"} {
		if err != nil && strings.Contains(err.Error(), secret) {
			t.Errorf("error %q tells %q", err, secret)
		}
	}
}

// problem is an error body of Stripe's; more is JSON members to be added.
func problem(kind, code, more string) string {
	body := `{"error":{"type":"` + kind + `","message":"No such thing as pm_secret of Jane, 4242, asked for under k1"`
	if code != "" {
		body += `,"code":"` + code + `","doc_url":"https://stripe.com/docs/error-codes/` + strings.ReplaceAll(code, "_", "-") + `"`
	}
	if more != "" {
		body += "," + more
	}
	return body + `}}`
}

// intentJSON is an intent with a status and more members.
func intentJSON(status, more string) string {
	if more != "" {
		more = "," + more
	}
	return `{"id":"pi_1","object":"payment_intent","amount":1250,"currency":"eur","created":1700000000,` +
		`"client_secret":"cs_secret","metadata":{"orderflow_key":"k1","order_id":"o1"},"status":"` + status + `"` + more + `}`
}

var (
	stripeRequest = AuthorizeRequest{Key: "k1", Reference: "o1", AmountMinor: 1250, Currency: "EUR", MethodToken: "pm_secret"}
	captureAtPi   = CaptureRequest{Key: "k1", Ref: "pi_1", AmountMinor: 1000, Currency: "EUR"}
	voidAtPi      = VoidRequest{Key: "k1", Ref: "pi_1"}
	refundAtPi    = RefundRequest{Key: "k1", Ref: "pi_1", AmountMinor: 300, Currency: "EUR", Reason: "returned"}
)

// askStripe does op and returns its answer in words.
func askStripe(ctx context.Context, s *Stripe, op string) (string, error) {
	switch op {
	case "authorize":
		a, err := s.Authorize(ctx, stripeRequest)
		return fmt.Sprintf("%s %s %s %d", a.Status, a.Ref, a.ReasonCode, a.AmountMinor), err
	case "capture":
		a, err := s.Capture(ctx, captureAtPi)
		return fmt.Sprintf("%s %s %d", a.Status, a.Ref, a.CapturedMinor), err
	case "void":
		a, err := s.Void(ctx, voidAtPi)
		return fmt.Sprintf("%s %s", a.Status, a.Ref), err
	case "refund":
		f, err := s.Refund(ctx, refundAtPi)
		return fmt.Sprintf("%s %s %d", f.Status, f.Ref, f.AmountMinor), err
	case "find":
		a, err := s.FindAuthorization(ctx, AuthorizationQuery{Ref: "pi_1", Key: "k1"})
		return fmt.Sprintf("%s %s", a.Status, a.Ref), err
	}
	f, err := s.FindRefund(ctx, RefundQuery{Ref: "pi_1", Key: "k1"})
	return fmt.Sprintf("%s %s", f.Status, f.Ref), err
}

func TestStripeSendsWhatItIsAskedFor(t *testing.T) {
	t.Parallel()
	for op, tc := range map[string]struct{ answer, want, request string }{
		"authorize": {intentJSON("requires_capture", `"amount_capturable":1250`), "approved pi_1  1250", "POST /v1/payment_intents amount=1250&capture_method=manual&confirm=true&currency=eur" +
			"&error_on_requires_action=true&metadata[order_id]=o1&metadata[orderflow_key]=k1&payment_method=pm_secret&payment_method_types[0]=card"},
		"capture": {intentJSON("succeeded", `"amount_received":1000`), "taken pi_1 1000", "POST /v1/payment_intents/pi_1/capture amount_to_capture=1000&metadata[orderflow_capture_key]=k1"},
		"void":    {intentJSON("canceled", ""), "closed pi_1", "POST /v1/payment_intents/pi_1/cancel"},
		"refund": {`{"id":"re_1","object":"refund","amount":300,"currency":"eur","status":"pending"}`, "refunded re_1 300",
			"POST /v1/refunds amount=300&metadata[orderflow_key]=k1&metadata[reason]=returned&payment_intent=pi_1"},
	} {
		t.Run(op, func(t *testing.T) {
			t.Parallel()
			s, stub := stripeAt(t, 5*time.Second, func(w http.ResponseWriter, r *http.Request) {
				if got := r.Header.Get("Idempotency-Key"); got != "k1" {
					t.Errorf("got key %q, want k1", got)
				}
				reply(t, w, 200, tc.answer)
			})
			got, err := askStripe(t.Context(), s, op)
			if err != nil || got != tc.want {
				t.Errorf("got %q, %v, want %q", got, err, tc.want)
			}
			stub.wantRequests(tc.request)
		})
	}
}

func TestStripeTakesConfirmationTokens(t *testing.T) {
	t.Parallel()
	s, stub := stripeAt(t, 5*time.Second, func(w http.ResponseWriter, _ *http.Request) {
		reply(t, w, 200, intentJSON("requires_capture", ""))
	})
	r := stripeRequest
	r.MethodToken = "ctoken_1"
	if got, err := s.Authorize(t.Context(), r); err != nil || got.Status != Approved {
		t.Errorf("got %+v, %v, want it approved", got, err)
	}
	stub.wantRequests("POST /v1/payment_intents amount=1250&capture_method=manual&confirm=true&confirmation_token=ctoken_1&currency=eur" +
		"&error_on_requires_action=true&metadata[order_id]=o1&metadata[orderflow_key]=k1&payment_method_types[0]=card")
}

// TestStripeCancelsWhatWaitsForTheCustomer: the answer says requires_action although
// it was asked not to.
func TestStripeCancelsWhatWaitsForTheCustomer(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		status int    // of the answer to the cancel
		body   string // of the same
		want   string
		class  string
	}{
		{"cancelled", 200, intentJSON("canceled", `"cancellation_reason":"abandoned"`), "refused pi_1 authentication_required 0", "done"},
		{"the cancel fails", 500, problem("api_error", "", ""), "   0", "unknown"},
		{"the cancel is turned away", 429, problem("invalid_request_error", "rate_limit", ""), "   0", "unknown, leave alone for 7s"},
		{"the cancel is refused", 400, problem("invalid_request_error", "payment_intent_unexpected_state", ""), "   0", "unknown"},
		{"the cancel says something else", 200, intentJSON("requires_action", ""), "   0", "unknown"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s, stub := stripeAt(t, 5*time.Second, func(w http.ResponseWriter, r *http.Request) {
				if strings.HasSuffix(r.URL.Path, "/cancel") {
					w.Header().Set("Retry-After", "7")
					reply(t, w, tc.status, tc.body)
					return
				}
				reply(t, w, 200, intentJSON("requires_action", `"next_action":{"type":"use_stripe_sdk"}`))
			})
			got, err := askStripe(t.Context(), s, "authorize")
			class := strings.TrimSuffix(classOf(err), map[bool]string{true: ", leave alone for 7s"}[tc.status != 429])
			if got != tc.want || class != tc.class {
				t.Errorf("got %q, %s (%v), want %q, %s", got, classOf(err), err, tc.want, tc.class)
			}
			wantNoSecret(t, err)
			stub.mu.Lock()
			defer stub.mu.Unlock()
			if len(stub.log) != 2 || stub.log[1] != "POST /v1/payment_intents/pi_1/cancel cancellation_reason=abandoned" {
				t.Errorf("got requests %v, want the intent cancelled once", stub.log)
			}
		})
	}
}

func TestStripeThatDoesNotAnswerIsUnknown(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	s, stub := stripeAt(t, 100*time.Millisecond, func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
	})
	defer close(release)
	_, err := s.Authorize(t.Context(), stripeRequest)
	if classOf(err) != "unknown" || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %s (%v), want unknown because of a deadline", classOf(err), err)
	}
	wantNoSecret(t, err)
	stub.mu.Lock()
	defer stub.mu.Unlock()
	if len(stub.log) != 1 {
		t.Errorf("got %d requests, want one", len(stub.log))
	}
}

// TestStripeIsNotAskedAgain: a connection that is kept open breaks with the second
// request on it. net/http would send that again, for it bears a key.
func TestStripeIsNotAskedAgain(t *testing.T) {
	t.Parallel()
	var asked int
	var mu sync.Mutex
	s, stub := stripeAt(t, 5*time.Second, func(w http.ResponseWriter, _ *http.Request) {
		mu.Lock()
		asked++
		n := asked
		mu.Unlock()
		if n == 1 {
			reply(t, w, 200, intentJSON("requires_capture", ""))
			return
		}
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Errorf("take the connection: %v", err)
			return
		}
		if err := conn.(*net.TCPConn).SetLinger(0); err != nil {
			t.Errorf("have it reset: %v", err)
		}
		if err := conn.Close(); err != nil {
			t.Errorf("reset it: %v", err)
		}
	})
	if _, err := s.Authorize(t.Context(), stripeRequest); err != nil {
		t.Fatalf("authorize: %v", err)
	}
	_, err := s.Capture(t.Context(), captureAtPi)
	if classOf(err) != "unknown" {
		t.Errorf("got %s (%v), want unknown", classOf(err), err)
	}
	stub.mu.Lock()
	defer stub.mu.Unlock()
	if len(stub.log) != 2 {
		t.Errorf("got requests %v, want two", stub.log)
	}
}

func TestStripeThatCannotBeReachedDidNothing(t *testing.T) {
	t.Parallel()
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	stranger := httptest.NewUnstartedServer(http.NotFoundHandler())
	stranger.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	stranger.StartTLS() // its certificate is nobody's
	t.Cleanup(stranger.Close)
	for name, u := range map[string]string{"connection refused": gone.URL, "certificate not trusted": stranger.URL} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := newTestStripe(t, u, 5*time.Second).Authorize(t.Context(), stripeRequest)
			if classOf(err) != "nothing happened" {
				t.Errorf("got %s (%v), want that nothing happened", classOf(err), err)
			}
			wantNoSecret(t, err)
		})
	}
}

func TestStripeNeedsURLKeyAndSecret(t *testing.T) {
	t.Parallel()
	for _, tc := range [][3]string{
		{"", "k", "s"}, {"api.stripe.com", "k", "s"}, {"ftp://host", "k", "s"}, {"https://", "k", "s"}, {"https://user:hidden@host", "k", "s"},
		{"https://%zz", "k", "s"}, {"https://host", "", "s"}, {"https://host", "k", ""},
	} {
		if _, err := NewStripe(tc[0], tc[1], tc[2], time.Second); err == nil || strings.Contains(err.Error(), "hidden") {
			t.Errorf("%q: got %v, want an error without secrets", tc, err)
		}
	}
}

func TestGatewayIsTheOneThatConfigNames(t *testing.T) {
	t.Parallel()
	cfg := Config{ProviderURL: "http://127.0.0.1:1", ProviderWebhookSecret: testSecret, ProviderTimeout: time.Second,
		Stripe: StripeConfig{APIKey: "sk_test_1", APIURL: "https://api.stripe.com", WebhookSecret: "whsec_1"}}
	for provider, want := range map[string]string{"": "*payments.Simulator", "paysim": "*payments.Simulator", "stripe": "*payments.Stripe"} {
		cfg.Provider = provider
		got, err := cfg.gateway()
		if err != nil || fmt.Sprintf("%T", got) != want {
			t.Errorf("%q: got %T, %v, want %s", provider, got, err, want)
		}
	}
	told, err := env.ParseAsWithOptions[Config](env.Options{Environment: map[string]string{
		"PAYMENTS_PROVIDER": "stripe", "STRIPE_API_KEY": "sk_test_2", "STRIPE_WEBHOOK_SECRET": "whsec_2",
	}})
	if want := (StripeConfig{APIKey: "sk_test_2", APIURL: "https://api.stripe.com", WebhookSecret: "whsec_2"}); err != nil || told.Provider != "stripe" || told.Stripe != want {
		t.Errorf("read from the environment: got %s and %+v, %v, want stripe and %+v", told.Provider, told.Stripe, err, want)
	}
	cfg.Provider = "another"
	if _, err := cfg.gateway(); err == nil {
		t.Error("another: got no error, want one")
	}
	cfg.Provider, cfg.Stripe.APIKey = "stripe", ""
	if _, err := cfg.gateway(); err == nil {
		t.Error("stripe without a key: got no error, want one")
	}
}

func TestStripeAmounts(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		currency      string
		minor, amount int64
	}{
		{"EUR", 1250, 1250}, {"JPY", 1250, 1250}, {"KWD", 1250, 1250}, {"ISK", 1250, 125000}, {"UGX", 7, 700}, {"MGA", 1200, 12},
	} {
		got, err := stripeAmount(tc.minor, tc.currency)
		if err != nil || got != tc.amount {
			t.Errorf("%d %s: got %d, %v, want %d", tc.minor, tc.currency, got, err, tc.amount)
		}
	}
	for _, p := range [][2]int64{{minorAmount(125000, "isk"), 1250}, {minorAmount(12, "mga"), 1200}, {minorAmount(5, "eur"), 5}, {minorAmount(5, ""), 5}} {
		if p[0] != p[1] {
			t.Errorf("backwards: got %d, want %d", p[0], p[1])
		}
	}
	r := stripeRequest
	r.AmountMinor, r.Currency = 1234, "MGA"
	if _, err := newTestStripe(t, "http://127.0.0.1:1", time.Second).Authorize(t.Context(), r); classOf(err) != "refused 400 amount_invalid" {
		t.Errorf("1234 MGA: got %v, want it refused", err)
	}
}
