package notifications

import (
	"crypto/x509"
	"encoding/json"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"example.com/orderflow/messaging/contracts"
	"example.com/orderflow/messaging/messagingtest"
)

// receiver is a customer's endpoint: HTTPS, with a certificate of its own authority.
type receiver struct {
	*httptest.Server
	mu    sync.Mutex
	calls []call
}

// call is what came in.
type call struct {
	id     string
	header http.Header
	body   []byte
}

// newReceiver opens an endpoint that answers as answer does, 204 when it is nil.
func newReceiver(t *testing.T, answer func(n int, w http.ResponseWriter, r *http.Request)) *receiver {
	t.Helper()
	e := &receiver{}
	e.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Errorf("read a webhook: %v", err)
		}
		e.mu.Lock()
		e.calls = append(e.calls, call{id: r.Header.Get("webhook-id"), header: r.Header, body: body})
		n := len(e.calls)
		e.mu.Unlock()
		if answer == nil {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		answer(n, w, r)
	}))
	e.Config.ErrorLog = log.New(t.Output(), "", 0)
	e.StartTLS()
	t.Cleanup(e.Close)
	return e
}

func (e *receiver) all() []call {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.calls)
}

// ids are the webhook-ids of the calls, in order.
func (e *receiver) ids() []string {
	var list []string
	for _, c := range e.all() {
		list = append(list, c.id)
	}
	return list
}

// answers is an endpoint that answers with each of codes in turn, the last for ever.
func answers(codes ...int) func(int, http.ResponseWriter, *http.Request) {
	return func(n int, w http.ResponseWriter, _ *http.Request) { w.WriteHeader(codes[min(n, len(codes))-1]) }
}

// calling is a configuration that calls endpoints of this machine, trusting the
// authorities of those given, with short pauses.
func calling(t *testing.T, endpoints ...*receiver) Config {
	t.Helper()
	cfg := defaults(t)
	cfg.Webhooks.Insecure, cfg.Webhooks.Authorities = true, x509.NewCertPool()
	for _, e := range endpoints {
		cfg.Webhooks.Authorities.AddCert(e.Certificate())
	}
	cfg.Webhooks.Timeout = 2 * time.Second
	cfg.Webhooks.Retries = []time.Duration{time.Millisecond, 2 * time.Millisecond, 3 * time.Millisecond}
	return cfg
}

// register registers url for a customer and returns the endpoint with its secret.
func (f fixture) register(t *testing.T, customer, url string) newEndpoint {
	t.Helper()
	status, body := f.ask(t, http.MethodPost, "/v1/webhook-endpoints", customer, `{"url":`+quoted(url)+`}`)
	var made newEndpoint
	if err := json.Unmarshal(body, &made); err != nil || status != http.StatusCreated {
		t.Fatalf("register %s: status %d, body %s", url, status, body)
	}
	return made
}

// delivery waits until the delivery of r to an endpoint has come to an end.
func (f fixture) delivery(t *testing.T, r row, e newEndpoint, want string) {
	t.Helper()
	var got string
	messagingtest.Wait(t, "the delivery to be "+want, func() bool {
		if err := f.Admin.Get(&got, `SELECT coalesce((SELECT status FROM notifications.deliveries WHERE notification_id = $1 AND endpoint_id = $2), '')`, r.ID, e.ID); err != nil {
			t.Fatalf("read the delivery: %v", err)
		}
		return got == want
	})
}

// attempts are what the log has about an endpoint, oldest first.
func (f fixture) attempts(t *testing.T, e newEndpoint) []string {
	t.Helper()
	var list []string
	err := f.Admin.Select(&list, `
		SELECT outcome || ' ' || coalesce(http_status::text, '-') || ' ' || coalesce(reason_code, '-')
		FROM notifications.attempts
		WHERE endpoint_id = $1
		ORDER BY id`, e.ID)
	if err != nil {
		t.Fatalf("read the attempts: %v", err)
	}
	return list
}

func TestWebhookIsSignedAndTold(t *testing.T) {
	t.Parallel()
	e := newReceiver(t, nil)
	f := whole(t, calling(t, e))
	mine := f.register(t, "ada", e.URL+"/hook?token=mine")
	f.register(t, "eve", e.URL+"/eve")
	f.Deliver(t, delivered)
	r := f.settled(t, "webhook", 1)[0]
	if r.Status != "sent" {
		t.Errorf("webhook is %s (%s), want sent", r.Status, r.ReasonCode)
	}
	calls := e.all()
	if len(calls) != 1 {
		t.Fatalf("%d calls, want 1: eve has no order", len(calls))
	}
	c := calls[0]
	if c.id != r.ID || c.header.Get("Content-Type") != "application/json" {
		t.Errorf("webhook-id %s of type %s, want the notification's id %s as JSON", c.id, c.header.Get("Content-Type"), r.ID)
	}
	verifier, err := standardwebhooks.NewWebhook(mine.Secret)
	if err != nil {
		t.Fatal(err)
	}
	if err := verifier.Verify(c.body, c.header); err != nil {
		t.Errorf("verify: %v", err)
	}
	if err := verifier.Verify(append(c.body, ' '), c.header); err == nil {
		t.Error("another body passes for signed")
	}
	var body hookBody
	if err := json.Unmarshal(c.body, &body); err != nil || body.Type != contracts.KindOrderDelivered || body.Data.OrderID != orderID || body.Data.NotificationID != r.ID || body.Data.Subject == "" || body.Timestamp.IsZero() {
		t.Errorf("body %s, %v", c.body, err)
	}
	if strings.Contains(string(c.body), "Lovelace") || strings.Contains(string(c.body), "ada@") {
		t.Errorf("personal data in %s", c.body)
	}
	f.says(t, contracts.KindNotificationSent+" "+r.ID)
	if got := f.attempts(t, mine); !slices.Equal(got, []string{"sent 204 -"}) {
		t.Errorf("attempts %v", got)
	}
}

func TestWebhookOfEveryKindIsToldOnce(t *testing.T) {
	t.Parallel()
	e := newReceiver(t, nil)
	f := whole(t, calling(t, e))
	f.register(t, "ada", e.URL)
	f.Deliver(t, events()...)
	rows := f.settled(t, "webhook", len(events()))
	var want []string
	for _, r := range rows {
		want = append(want, r.ID)
	}
	got := e.ids()
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("called with %v, want each of %v once", got, want)
	}
	if len(f.rows(t, "inbox")) != len(events()) {
		t.Errorf("%d in the inbox, want %d", len(f.rows(t, "inbox")), len(events()))
	}
}

func TestWebhookIsRetriedBySchedule(t *testing.T) {
	t.Parallel()
	e := newReceiver(t, answers(500, 302, 404, 200))
	f := whole(t, calling(t, e))
	mine := f.register(t, "ada", e.URL)
	f.Deliver(t, delivered)
	r := f.settled(t, "webhook", 1)[0]
	if r.Status != "sent" {
		t.Errorf("webhook is %s (%s), want sent", r.Status, r.ReasonCode)
	}
	if got, want := f.attempts(t, mine), []string{"failed 500 http_500", "failed 302 http_302", "failed 404 http_404", "sent 200 -"}; !slices.Equal(got, want) {
		t.Errorf("attempts %v, want %v", got, want)
	}
	if got := e.ids(); !slices.Equal(got, []string{r.ID, r.ID, r.ID, r.ID}) {
		t.Errorf("webhook-ids %v, want the same each time", got)
	}
	if n := f.number(t, `SELECT failures FROM notifications.endpoints`); n != 0 {
		t.Errorf("%d failures after a success, want 0", n)
	}
	// No attempt was a failure of the command: the schedule is the endpoint's own.
	if n := f.number(t, `SELECT count(*) FROM messaging.inbox_notifications WHERE consumer = 'notifications_send' AND attempts > 1`); n != 0 {
		t.Errorf("%d commands were tried again by the queue, want none", n)
	}
}

func TestWebhookThatFailsForGoodCanBeReplayed(t *testing.T) {
	t.Parallel()
	e := newReceiver(t, answers(500, 500, 500, 500, 200))
	f := whole(t, calling(t, e))
	mine := f.register(t, "ada", e.URL)
	f.Deliver(t, delivered)
	r := f.settled(t, "webhook", 1)[0]
	if r.Status != "failed" || r.ReasonCode != "not_delivered" {
		t.Errorf("webhook is %s (%s), want failed (not_delivered)", r.Status, r.ReasonCode)
	}
	f.says(t, contracts.KindNotificationFailed+" "+r.ID)
	path := "/v1/webhook-endpoints/" + mine.ID + "/deliveries/" + r.ID + "/replay"
	for _, tt := range []struct {
		path, customer string
		status         int
	}{
		{path, "eve", http.StatusNotFound},
		{strings.Replace(path, r.ID, orderID, 1), "ada", http.StatusNotFound},
		{path, "ada", http.StatusAccepted},
	} {
		if status, body := f.ask(t, http.MethodPost, tt.path, tt.customer, ""); status != tt.status {
			t.Errorf("%s replays %s: status %d, want %d: %s", tt.customer, tt.path, status, tt.status, body)
		}
	}
	f.delivery(t, r, mine, "sent")
	f.says(t, contracts.KindNotificationFailed+" "+r.ID, contracts.KindNotificationSent+" "+r.ID)
	if got := e.ids(); len(got) != 5 || got[4] != r.ID {
		t.Errorf("webhook-ids %v, want the same each time", got)
	}
	if got := f.rows(t, "webhook")[0]; got.Status != "sent" || got.ReasonCode != "" {
		t.Errorf("webhook is %s (%s), want sent", got.Status, got.ReasonCode)
	}
}

func TestEndpointThatKeepsFailingIsDisabled(t *testing.T) {
	t.Parallel()
	e := newReceiver(t, answers(500))
	cfg := calling(t, e)
	cfg.Webhooks.DisableAfter = 2
	f := whole(t, cfg)
	mine := f.register(t, "ada", e.URL)
	f.Deliver(t, delivered)
	r := f.settled(t, "webhook", 1)[0]
	f.delivery(t, r, mine, "failed")
	if got, want := f.attempts(t, mine), []string{"failed 500 http_500", "failed 500 http_500", "failed - endpoint_disabled"}; !slices.Equal(got, want) {
		t.Errorf("attempts %v, want %v", got, want)
	}
	status, body := f.ask(t, http.MethodGet, "/v1/webhook-endpoints/"+mine.ID, "ada", "")
	var shown Endpoint
	if err := json.Unmarshal(body, &shown); err != nil || status != http.StatusOK || shown.Status != "disabled" || shown.DisabledReason != "failing" || shown.Failures != 2 {
		t.Errorf("endpoint is %d %s, want disabled for failing twice", status, body)
	}
	// While it is, its customer isn't told there, and nothing can be replayed.
	f.Deliver(t, contracts.OrderCompleted{OrderID: orderID, Customer: ada})
	if n := len(f.rows(t, "webhook")); n != 1 {
		t.Errorf("%d webhooks, want 1", n)
	}
	replay := "/v1/webhook-endpoints/" + mine.ID + "/deliveries/" + r.ID + "/replay"
	if status, _ := f.ask(t, http.MethodPost, replay, "ada", ""); status != http.StatusNotFound {
		t.Errorf("replay to a disabled endpoint: status %d, want 404", status)
	}
	if status, _ := f.ask(t, http.MethodPost, "/v1/webhook-endpoints/"+mine.ID+"/enable", "eve", ""); status != http.StatusNotFound {
		t.Errorf("another enables it: status %d, want 404", status)
	}
	status, body = f.ask(t, http.MethodPost, "/v1/webhook-endpoints/"+mine.ID+"/enable", "ada", "")
	if err := json.Unmarshal(body, &shown); err != nil || status != http.StatusOK || shown.Status != "enabled" || shown.Failures != 0 {
		t.Errorf("enabled endpoint is %d %s", status, body)
	}
	if status, _ := f.ask(t, http.MethodPost, replay, "ada", ""); status != http.StatusAccepted {
		t.Errorf("replay to an endpoint enabled again: status %d, want 202", status)
	}
	messagingtest.Wait(t, "another call", func() bool { return len(e.all()) > 2 })
}

func TestEndpointThatIsGoneIsDisabledAtOnce(t *testing.T) {
	t.Parallel()
	e := newReceiver(t, answers(http.StatusGone))
	f := whole(t, calling(t, e))
	mine := f.register(t, "ada", e.URL)
	f.Deliver(t, delivered)
	r := f.settled(t, "webhook", 1)[0]
	f.delivery(t, r, mine, "failed")
	if got := f.attempts(t, mine); !slices.Equal(got, []string{"failed 410 http_410"}) {
		t.Errorf("attempts %v, want one", got)
	}
	if n := f.number(t, `SELECT count(*) FROM notifications.endpoints WHERE disabled_reason = 'gone'`); n != 1 {
		t.Error("the endpoint isn't disabled")
	}
}

func TestSeveralEndpointsEachHaveTheirWay(t *testing.T) {
	t.Parallel()
	good, bad := newReceiver(t, nil), newReceiver(t, answers(500))
	f := whole(t, calling(t, good, bad))
	first, second := f.register(t, "ada", good.URL), f.register(t, "ada", bad.URL)
	f.Deliver(t, delivered)
	r := f.settled(t, "webhook", 1)[0]
	f.delivery(t, r, first, "sent")
	f.delivery(t, r, second, "failed")
	if len(good.all()) != 1 || len(bad.all()) != 4 || r.Status != "failed" {
		t.Errorf("%d and %d calls, webhook %s, want 1, 4 and failed", len(good.all()), len(bad.all()), r.Status)
	}
	if first.Secret == second.Secret {
		t.Error("two endpoints share a secret")
	}
}

// TestWebhookDoubledByACrashBearsTheSameID cuts the connection that writes down
// the endpoint's answer.
func TestWebhookDoubledByACrashBearsTheSameID(t *testing.T) {
	t.Parallel()
	e := newReceiver(t, nil)
	f := newFixture(t, calling(t, e), relayed)
	f.cutRecording(t)
	messagingtest.Run(t, f.bus)
	mine := f.register(t, "ada", e.URL)
	f.Deliver(t, delivered)
	r := f.settled(t, "webhook", 1)[0]
	if got := e.ids(); !slices.Equal(got, []string{r.ID, r.ID}) {
		t.Errorf("calls %v, want two of the id %s", got, r.ID)
	}
	if got := f.attempts(t, mine); !slices.Equal(got, []string{"sent 204 -"}) {
		t.Errorf("attempts %v, want one", got)
	}
	f.says(t, contracts.KindNotificationSent+" "+r.ID)
}

// TestDeliveryWhoseCommandIsLostIsHandedOutAgain takes the first command away.
func TestDeliveryWhoseCommandIsLostIsHandedOutAgain(t *testing.T) {
	t.Parallel()
	e := newReceiver(t, nil)
	f := newFixture(t, calling(t, e))
	messagingtest.Run(t, f.bus)
	f.register(t, "ada", e.URL)
	f.Deliver(t, delivered)
	lost := func() []string { return messagingtest.Kinds(f.Published(t, "notifications")) }
	messagingtest.Wait(t, "the first command", func() bool { return slices.Equal(lost(), []string{contracts.KindSendNotification}) })
	if _, err := f.Admin.Exec(`UPDATE notifications.deliveries SET due = clock_timestamp() WHERE status = 'sending'`); err != nil {
		t.Fatal(err)
	}
	messagingtest.Wait(t, "the second command", func() bool { return slices.Equal(lost(), []string{contracts.KindSendNotification}) })
	id := f.rows(t, "webhook")[0].ID
	for _, want := range []string{"done", "ignored"} { // both arrive after all
		if got := f.Deliver(t, contracts.SendNotification{NotificationID: id, OrderID: orderID})[0]; got != want {
			t.Errorf("outcome %q, want %q", got, want)
		}
	}
	if got := e.ids(); !slices.Equal(got, []string{id}) {
		t.Errorf("calls %v, want one", got)
	}
}
