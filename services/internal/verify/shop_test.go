package verify

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/caarlos0/env/v11"
	"github.com/google/uuid"
	smtpmock "github.com/mocktools/go-smtp-mock/v2"

	"example.com/orderflow/messaging/messagingtest"
	"example.com/orderflow/services/internal/boot"
	shopservices "example.com/orderflow/services/internal/shop"
)

func long() bool { return os.Getenv("ORDERFLOW_LONG") != "" }

// shop is all services at work in this process, on a database of their own.
type shop struct {
	t    *testing.T
	db   *messagingtest.DB
	urls map[string]string
	stop context.CancelFunc
	done chan error
	runs int
}

const providerKey = "verify-test-key"

// openShop starts the services with settings, besides those that make them fast.
func openShop(t *testing.T, settings map[string]string) *shop {
	t.Helper()
	s := &shop{t: t, db: messagingtest.NewDB(t, shopservices.Specs()...), urls: map[string]string{}}
	environment := map[string]string{
		"INVENTORY_PICK_DELAY": "0s", "INVENTORY_DISPATCH_DELAY": "0s", "INVENTORY_DELIVERY_DELAY": "0s", "INVENTORY_RETURN_DELAY": "0s",
		"PAYMENTS_PROVIDER_KEY": providerKey, "PAYSIM_API_KEY": providerKey, "PAYSIM_SLOW": "500ms",
	}
	for k, v := range settings {
		environment[k] = v
	}
	listeners := map[string]net.Listener{}
	for _, spec := range shopservices.Specs() {
		l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		listeners[spec.Name], s.urls[spec.Name] = l, "http://"+l.Addr().String()
	}
	var cfg shopservices.Config
	if err := env.ParseWithOptions(&cfg, env.Options{Environment: environment}); err != nil {
		t.Fatal(err)
	}
	cfg.Payments.ProviderURL, cfg.Payments.ProviderKey, cfg.Paysim.APIKey = s.urls["paysim"], providerKey, providerKey
	ctx, cancel := context.WithCancel(context.Background())
	s.stop, s.done = cancel, make(chan error, len(listeners))
	for _, service := range shopservices.Services(cfg) {
		name := service.Spec.Name
		settings := boot.Config{DatabaseURL: s.db.DSN(name), Pool: 8, Consumers: 2, Listener: listeners[name]}
		s.runs++
		go func() { s.done <- boot.Run(ctx, settings, service.Spec, messagingtest.Log(t), service.Build) }()
	}
	t.Cleanup(s.close)
	messagingtest.Wait(t, "the shop to open", func() bool {
		for _, u := range s.urls {
			if !ready(t, u) {
				return false
			}
		}
		return true
	})
	return s
}

func ready(t *testing.T, url string) bool {
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+"/readyz", nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	return res.Body.Close() == nil && res.StatusCode == http.StatusOK
}

// close ends the services; a second call does nothing.
func (s *shop) close() {
	s.stop()
	for ; s.runs > 0; s.runs-- {
		if err := <-s.done; err != nil {
			s.t.Errorf("a service ended: %v", err)
		}
	}
	http.DefaultClient.CloseIdleConnections()
}

// answer is what tests read of the API's answers.
type answer struct {
	ID       string `json:"id"`
	Status   string `json:"status"`
	ReturnID string `json:"return_id"`
}

// post posts body as a customer, or as an operator, who answers with one of the
// statuses.
func (s *shop) post(service, path, body string, statuses []int, header ...string) answer {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, s.urls[service]+path, bytes.NewReader([]byte(body)))
	if err != nil {
		s.t.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	req.Header.Set("Idempotency-Key", uuid.NewString())
	req.Header.Set("X-Customer-Id", "ada")
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatalf("POST %s: %v", path, err)
	}
	var a answer
	var text bytes.Buffer
	_, err = text.ReadFrom(res.Body)
	if err := res.Body.Close(); err != nil {
		s.t.Fatalf("POST %s: %v", path, err)
	}
	if err != nil || !slices.Contains(statuses, res.StatusCode) {
		s.t.Fatalf("POST %s: got %s, %v, want one of %v: %s", path, res.Status, err, statuses, text.String())
	}
	if err := json.Unmarshal(text.Bytes(), &a); err != nil {
		s.t.Fatalf("POST %s: %v", path, err)
	}
	return a
}

// place places an order for pieces of a SKU and returns its id.
func (s *shop) place(sku string, quantity int, token string, more ...string) string {
	s.t.Helper()
	extra := ""
	for _, m := range more {
		extra += "," + m
	}
	body := fmt.Sprintf(`{"currency":"EUR","lines":[{"sku":%q,"quantity":%d},{"sku":"FILTER-01","quantity":1}],"payment_token":%q,`+
		`"customer":{"name":"Ada","email":"ada@example.com","address":"1 Main Street"}%s}`, sku, quantity, token, extra)
	return s.post("orders", "/v1/orders", body, []int{http.StatusAccepted}).ID
}

func (s *shop) status(id string) string {
	s.t.Helper()
	var status string
	if err := s.db.Admin.Get(&status, `SELECT status FROM orders.orders WHERE id = $1`, id); err != nil {
		s.t.Fatal(err)
	}
	return status
}

// reach waits until an order is in status.
func (s *shop) reach(status string, ids ...string) {
	s.t.Helper()
	for _, id := range ids {
		messagingtest.Wait(s.t, "order "+id+" to be "+status, func() bool { return s.status(id) == status })
	}
}

// rest waits until nothing is under way.
func (s *shop) rest() {
	s.t.Helper()
	var last Report
	defer func() {
		if s.t.Failed() {
			s.t.Log(describe(last))
		}
	}()
	messagingtest.Wait(s.t, "the shop to come to rest", func() bool {
		last = s.verify(Options{Rest: true})
		return !slices.ContainsFunc(last.Results, func(r Result) bool {
			return r.Found > 0 && (r.Name == "messages/handled" || r.Name == "orders/at-rest" || r.Name == "notifications/sent")
		})
	})
}

// verify verifies the shop as it is.
func (s *shop) verify(opts Options) Report {
	s.t.Helper()
	r, err := Run(s.t.Context(), s.db.Admin, opts)
	if err != nil {
		s.t.Fatal(err)
	}
	return r
}

// clean fails t when r has findings, or skipped a check.
func clean(t *testing.T, r Report) {
	t.Helper()
	if r.Found() > 0 || r.Skipped() > 0 {
		t.Errorf("got findings, want none:\n%s", describe(r))
	}
}

// describe shows what r has found.
func describe(r Report) string {
	var b bytes.Buffer
	for _, c := range r.Results {
		if c.Skipped != "" {
			fmt.Fprintf(&b, "%s: skipped: %s\n", c.Name, c.Skipped)
		}
		for _, f := range c.First {
			fmt.Fprintf(&b, "%s (%d in all): %s: %s\n", c.Name, c.Found, f.Subject, f.What)
		}
	}
	return b.String()
}

// advance moves the shop's clock.
func (s *shop) advance(by time.Duration) {
	s.t.Helper()
	if _, err := s.db.Admin.Exec(`UPDATE messaging.clock SET offset_by = offset_by + make_interval(secs => $1)`, by.Seconds()); err != nil {
		s.t.Fatal(err)
	}
}

// channels are a mail server and a customer's program, with the settings that have
// the shop use them.
func channels(t *testing.T) (settings map[string]string, endpoint string) {
	t.Helper()
	mails := smtpmock.New(smtpmock.ConfigurationAttr{HostAddress: "127.0.0.1", MultipleMessageReceiving: true})
	if err := mails.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := mails.Stop(); err != nil {
			t.Error(err)
		}
	})
	hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }))
	t.Cleanup(hook.Close)
	return map[string]string{
		"NOTIFICATIONS_SMTP_HOST": "127.0.0.1", "NOTIFICATIONS_SMTP_PORT": strconv.Itoa(mails.PortNumber()), "NOTIFICATIONS_SMTP_TLS": "none",
		"NOTIFICATIONS_WEBHOOK_INSECURE": "true",
	}, hook.URL
}

// live has customers do in the shop what they can do, until all is at rest.
func live(s *shop, endpoint string) {
	s.t.Helper()
	s.post("notifications", "/v1/webhook-endpoints", fmt.Sprintf(`{"url":%q}`, endpoint), []int{http.StatusCreated})
	kept := []string{s.place("TEA-01", 2, "tok_ok"), s.place("MUG-02", 2, "tok_ok")} // of the second a piece isn't found
	forgotten := s.place("MUG-01", 1, "tok_declined")
	undecided := s.place("BOWL-01", 5, "tok_ok", `"allow_partial":true`)
	s.reach("delivered", kept...)
	s.reach("payment_failed", forgotten)
	s.reach("awaiting_customer", undecided)
	s.advance(15 * 24 * time.Hour)
	s.reach("completed", kept...)
	messagingtest.Wait(s.t, "orders to end that nobody cared for", func() bool {
		ended := []string{"rejected", "expired"} // whichever deadline is seen first: the customer's or the hold's
		return slices.Contains(ended, s.status(forgotten)) && slices.Contains(ended, s.status(undecided))
	})

	accepted := s.place("BOWL-01", 4, "tok_ok", `"allow_partial":true`) // there are three
	s.reach("awaiting_customer", accepted)
	s.post("orders", "/v1/orders/"+accepted+"/decision", `{"decision":"accept"}`, []int{http.StatusAccepted})
	s.place("SET-01", 1, "tok_ok") // sold out
	cancelled := s.place("POT-01", 1, "tok_slow")
	s.reach("authorizing", cancelled)
	s.post("orders", "/v1/orders/"+cancelled+"/cancel", "", []int{http.StatusAccepted})
	refused := s.place("COFFEE-01", 1, "tok_declined")
	s.reach("payment_failed", refused)
	s.post("orders", "/v1/orders/"+refused+"/payment", `{"payment_token":"tok_ok"}`, []int{http.StatusAccepted})
	s.place("TEA-01", 1, "tok_insufficient_funds")
	s.place("BOWL-01", 1, "tok_ok", `"allow_partial":true`) // sold out meanwhile
	s.reach("delivered", accepted, refused)
	some := s.place("TOWEL-01", 3, "tok_ok")
	s.place("KETTLE-01", 1, "tok_ok") // the carrier loses it
	refuses := s.place("GRINDER-01", 1, "tok_refund_refused")
	s.reach("delivered", some, refuses)
	s.post("orders", "/v1/orders/"+some+"/returns", `{"lines":[{"sku":"TOWEL-01","quantity":2}]}`, []int{http.StatusAccepted})
	s.reach("delivered", some)
	s.post("orders", "/v1/orders/"+accepted+"/refunds", `{"lines":[{"sku":"FILTER-01","quantity":1}],"reason":"torn"}`, []int{http.StatusAccepted}, "X-Role", "operator")
	s.post("orders", "/v1/orders/"+refuses+"/refunds", `{"lines":[{"sku":"FILTER-01","quantity":1}],"reason":"wet"}`, []int{http.StatusAccepted}, "X-Role", "operator")
	s.reach("needs_attention", refuses)
	s.reach("delivered", accepted)
	s.reach("cancelled", cancelled)
	s.rest()
}
