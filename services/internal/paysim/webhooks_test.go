package paysim_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"example.com/orderflow/messaging"
	"example.com/orderflow/messaging/contracts"
	"example.com/orderflow/messaging/httpapi"
	"example.com/orderflow/messaging/messagingtest"
)

// hooked is a shop to which the provider's webhooks come; received counts them.
func hooked(t *testing.T, received *atomic.Int32, fail func(n int32) bool) shop {
	t.Helper()
	var once sync.Mutex
	var handler http.Handler
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		once.Lock()
		h := handler
		once.Unlock()
		if n := received.Add(1); h == nil || fail != nil && fail(n) {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		h.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	s := newShop(t, func(c *shopConfig) { c.paysim.WebhookURL = server.URL + "/v1/provider-webhooks" })
	mux := httpapi.NewMux(messagingtest.Log(t))
	s.service.Routes(mux)
	once.Lock()
	handler = mux
	once.Unlock()
	return s
}

// wantWebhooks waits until n different events have come and nothing is to be delivered.
func (s shop) wantWebhooks(n int) {
	s.t.Helper()
	messagingtest.Wait(s.t, fmt.Sprintf("%d events", n), func() bool {
		var got, left int
		err := s.db.Admin.QueryRow(`SELECT (SELECT count(*) FROM payments.webhooks), (SELECT count(*) FROM paysim.webhooks)`).Scan(&got, &left)
		return err == nil && got == n && left == 0
	})
}

func TestWebhooksDoubledLateAndOutOfOrderChangeNothing(t *testing.T) {
	t.Parallel()
	for _, misdeed := range []string{"doubled", "delayed", "shuffled"} {
		t.Run(misdeed, func(t *testing.T) {
			t.Parallel()
			var received atomic.Int32
			s := hooked(t, &received, nil)
			s.conduct("webhook", misdeed, 10)
			for _, c := range []messaging.Body{authorize(1, "tok_ok"), capture(1), refund(500)} {
				if got := s.db.Deliver(t, c)[0]; got != "done" {
					t.Errorf("%s: got outcome %q, want done", c.Kind(), got)
				}
			}
			s.wantWebhooks(3)
			if want := map[bool]int32{true: 6, false: 3}[misdeed == "doubled"]; received.Load() != want {
				t.Errorf("deliveries: got %d, want %d", received.Load(), want)
			}
			// Each event, once, has its attempt looked up; that finds nothing new.
			looks := 0
			for _, m := range s.db.Published(t, "payments") {
				if m.Kind != contracts.KindLookUpPayment {
					continue
				}
				looks++
				if got := s.db.Deliver(t, messagingtest.As[contracts.LookUpPayment](t, m))[0]; got != "ignored" {
					t.Errorf("look-up: got outcome %q, want ignored", got)
				}
			}
			if looks != 3 {
				t.Errorf("look-ups: got %d, want 3", looks)
			}
			s.wantSucceeded("authorize 1250", "capture 1250", "refund 500")
			s.wantNoBreaks()
		})
	}
}

func TestWebhooksAreDeliveredAgainUntilTheyAreTaken(t *testing.T) {
	t.Parallel()
	var received atomic.Int32
	s := hooked(t, &received, func(n int32) bool { return n == 1 })
	s.deliver(authorize(1, "tok_ok"))
	s.wantWebhooks(1)
	if got := received.Load(); got != 2 {
		t.Errorf("deliveries: got %d, want 2", got)
	}
}

// What a webhook says isn't believed: what the provider says when it is asked, is.
func TestAWebhookResolvesWhatIsUnknown(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.deliver(authorize(1, "tok_ok"))
	look := contracts.LookUpPayment{PaymentID: paymentID, Attempt: 1, OrderID: orderID}
	forget := `
		UPDATE payments.attempts SET status = 'unknown', provider_ref = NULL;
		UPDATE payments.provider_calls SET answered_at = NULL, outcome = NULL, provider_ref = NULL`
	if _, err := s.db.Admin.Exec(forget); err != nil {
		t.Fatalf("forget the answer: %v", err)
	}
	if got := s.deliver(look); got != "authorized" {
		t.Errorf("published: got %q, want authorized", got)
	}
	// The provider lets the money go.
	if r := s.do("POST", "/authorizations/"+s.lookUpID()+"/void", "by-hand", nil); r.status != 200 {
		t.Fatalf("void by hand: got %d %s", r.status, r.body)
	}
	if got := s.deliver(look, capture(1)); got != "capture_failed" {
		t.Errorf("published: got %q, want capture_failed", got)
	}
}

func (s shop) lookUpID() string {
	s.t.Helper()
	return s.do("GET", "/authorizations?key="+paymentID+":1:authorize", "", nil).field(s.t, "id")
}

func TestForgedWebhooksAreRefused(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.deliver(authorize(1, "tok_ok"))
	const body = `{"type":"authorization.captured","data":{"authorization_id":"x","key":"` + paymentID + `:1:authorize"}}`
	signed := func(secret, id string, at time.Time, text string) http.Header {
		signer, err := standardwebhooks.NewWebhook(secret)
		if err != nil {
			t.Fatal(err)
		}
		signature, err := signer.Sign(id, at, []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		h := http.Header{"Content-Type": {"application/json"}}
		h.Set(standardwebhooks.HeaderWebhookID, id)
		h.Set(standardwebhooks.HeaderWebhookTimestamp, strconv.FormatInt(at.Unix(), 10))
		h.Set(standardwebhooks.HeaderWebhookSignature, signature)
		return h
	}
	now := time.Now()
	for _, tc := range []struct {
		name   string
		header http.Header
		body   string
		status int
		events int // known then
	}{
		{"unsigned", http.Header{}, body, 401, 0},
		{"forged", signed("whsec_Zm9yZ2VkLXNlY3JldA==", "e1", now, body), body, 401, 0},
		{"of another body", signed(webhookSecret, "e1", now, body), body + " ", 401, 0},
		{"stale by 301 s", signed(webhookSecret, "e1", now.Add(-301*time.Second), body), body, 401, 0},
		{"from the future", signed(webhookSecret, "e1", now.Add(310*time.Second), body), body, 401, 0},
		{"signed, and no JSON", signed(webhookSecret, "e1", now, "{"), "{", 401, 0},
		{"too large", signed(webhookSecret, "e1", now, body), strings.Repeat(" ", 64<<10+1), 413, 0},
		{"signed", signed(webhookSecret, "e1", now, body), body, 200, 1},
		{"replayed", signed(webhookSecret, "e1", now.Add(-time.Minute), body), body, 200, 1},
		{"about nothing of ours", signed(webhookSecret, "e2", now, `{"data":{}}`), `{"data":{}}`, 200, 2},
	} {
		w := s.operators("POST", "/v1/provider-webhooks", "", tc.body, tc.header)
		var events int
		if err := s.db.Admin.Get(&events, `SELECT count(*) FROM payments.webhooks`); err != nil {
			t.Fatal(err)
		}
		if w.Code != tc.status || events != tc.events {
			t.Errorf("%s: got %d %s and %d events, want %d and %d", tc.name, w.Code, w.Body, events, tc.status, tc.events)
		}
		if tc.status == 401 && !strings.Contains(w.Body.String(), "bad-signature") {
			t.Errorf("%s: got %s, want bad-signature", tc.name, w.Body)
		}
	}
	if got := s.db.Published(t, "payments"); len(got) != 1 || got[0].Kind != contracts.KindLookUpPayment || got[0].Delay == 0 {
		t.Errorf("published: got %v, want one look-up, delayed", messagingtest.Kinds(got))
	}
}
