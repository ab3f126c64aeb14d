package notifications

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"example.com/orderflow/messaging/messagingtest"
)

func TestEndpointsThatMisbehave(t *testing.T) {
	t.Parallel()
	inside := newReceiver(t, nil)
	for _, tt := range []struct {
		name   string
		answer func(int, http.ResponseWriter, *http.Request)
		want   string // the attempt
	}{
		{"never answers", func(_ int, _ http.ResponseWriter, r *http.Request) {
			<-r.Context().Done()
			panic(http.ErrAbortHandler) // returning would be an answer, which may arrive while the caller hangs up
		}, "failed - timeout"},
		{"hangs up", func(int, http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "failed - connection"},
		{"redirects inside", func(_ int, w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, inside.URL, http.StatusTemporaryRedirect)
		}, "failed 307 http_307"},
		{"answers for ever", func(_ int, w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				if _, err := fmt.Fprintln(w, strings.Repeat("more ", 1000)); err != nil {
					return
				}
			}
		}, "sent 200 -"},
		{"has a header without end", func(_ int, w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-Long", strings.Repeat("x", 64<<10))
		}, "failed - connection"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			e := newReceiver(t, tt.answer)
			cfg := calling(t, e, inside)
			cfg.Webhooks.Timeout, cfg.Webhooks.Retries = 300*time.Millisecond, nil
			f := whole(t, cfg)
			mine := f.register(t, "ada", e.URL)
			f.Deliver(t, delivered)
			f.settled(t, "webhook", 1)
			if got := f.attempts(t, mine); !slices.Equal(got, []string{tt.want}) {
				t.Errorf("attempts %v, want %s", got, tt.want)
			}
		})
	}
	t.Cleanup(func() {
		if n := len(inside.all()); n > 0 {
			t.Errorf("a redirect was followed %d times", n)
		}
	})
}

func TestCertificateOfAnotherAuthorityIsRefused(t *testing.T) {
	t.Parallel()
	e := newReceiver(t, nil)
	cfg := calling(t)
	cfg.Webhooks.Retries = nil
	f := whole(t, cfg)
	mine := f.register(t, "ada", e.URL)
	f.Deliver(t, delivered)
	f.settled(t, "webhook", 1)
	if got := f.attempts(t, mine); !slices.Equal(got, []string{"failed - tls"}) || len(e.all()) > 0 {
		t.Errorf("attempts %v, %d calls, want a refused certificate", got, len(e.all()))
	}
}

// TestNameThatIsReboundIsRefusedWhenDialled has a name lead to a public address
// when it is registered and to this machine when it is called.
func TestNameThatIsReboundIsRefusedWhenDialled(t *testing.T) {
	t.Parallel()
	e := newReceiver(t, nil)
	n, resolver := newNames(t, map[string][]string{"example.com": {"93.184.215.14"}})
	cfg := calling(t, e)
	cfg.Webhooks.Insecure, cfg.Webhooks.Resolver, cfg.Webhooks.Retries = false, resolver, []time.Duration{0}
	f := whole(t, cfg)
	mine := f.register(t, "ada", strings.Replace(e.URL, "127.0.0.1", "example.com", 1))
	n.set("example.com", "127.0.0.1", "::1")
	f.Deliver(t, delivered)
	f.settled(t, "webhook", 1)
	if got := f.attempts(t, mine); !slices.Equal(got, []string{"failed - address_refused", "failed - address_refused"}) {
		t.Errorf("attempts %v, want two that were refused", got)
	}
	if len(e.all()) > 0 {
		t.Error("the endpoint inside was called")
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.asked["example.com"] < 3 {
		t.Errorf("the name was looked up %d times, want each time", n.asked["example.com"])
	}
}

// TestWebhooksDontWaitForMails has the mail server away: the mail of the same order
// is first in the queue, and stays there.
func TestWebhooksDontWaitForMails(t *testing.T) {
	t.Parallel()
	e := newReceiver(t, nil)
	cfg := calling(t, e)
	cfg.Mail = mailTo(t, 1).Mail // nobody listens
	f := newFixture(t, cfg, relayed)
	f.service.mailer.first = time.Hour
	messagingtest.Run(t, f.bus)
	f.register(t, "ada", e.URL)
	f.Deliver(t, delivered)
	if r := f.settled(t, "webhook", 1)[0]; r.Status != "sent" {
		t.Errorf("webhook is %s (%s), want sent", r.Status, r.ReasonCode)
	}
	if r := f.rows(t, "email")[0]; r.Status != "pending" {
		t.Errorf("mail is %s (%s), want pending", r.Status, r.ReasonCode)
	}
}
