package notifications

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"example.com/orderflow/messaging/contracts"
	"example.com/orderflow/messaging/httpapi"
	"example.com/orderflow/messaging/messagingtest"
)

// quoted is s as JSON.
func quoted(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// ask asks the service as customer, with more headers ("Name: value").
func (f fixture) ask(t *testing.T, method, path, customer, body string, headers ...string) (int, []byte) {
	t.Helper()
	mux := httpapi.NewMux(messagingtest.Log(t))
	f.service.Routes(mux)
	r := httptest.NewRequestWithContext(t.Context(), method, path, strings.NewReader(body))
	r.Header.Set("X-Customer-Id", customer)
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Set(name, value)
	}
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, r)
	return w.Code, w.Body.Bytes()
}

// refused asks and compares the problem.
func (f fixture) refused(t *testing.T, method, path, customer, body string, status int, code string, headers ...string) {
	t.Helper()
	got, answer := f.ask(t, method, path, customer, body, headers...)
	var p httpapi.Problem
	if err := json.Unmarshal(answer, &p); err != nil || got != status || p.Code() != code {
		t.Errorf("%s %s as %s with %s: status %d, body %s, want %d %s", method, path, customer, body, got, answer, status, code)
	}
}

func TestEndpointsAreRegisteredAndDeleted(t *testing.T) {
	t.Parallel()
	e := newReceiver(t, nil)
	f := whole(t, calling(t, e))
	mine := f.register(t, "ada", e.URL+"/hook")
	if !strings.HasPrefix(mine.Secret, "whsec_") || mine.URL != e.URL+"/hook" || mine.Status != "enabled" || mine.CreatedAt.IsZero() {
		t.Errorf("made %+v", mine)
	}
	for _, path := range []string{"/v1/webhook-endpoints", "/v1/webhook-endpoints/" + mine.ID} {
		status, body := f.ask(t, http.MethodGet, path, "ada", "")
		if status != http.StatusOK || !strings.Contains(string(body), mine.ID) || strings.Contains(string(body), "whsec_") {
			t.Errorf("GET %s: %d %s, want the endpoint without its secret", path, status, body)
		}
	}
	if _, body := f.ask(t, http.MethodGet, "/v1/webhook-endpoints", "eve", ""); strings.TrimSpace(string(body)) != `{"endpoints":[]}` {
		t.Errorf("eve sees %s, want nothing", body)
	}
	for _, path := range []string{mine.ID, mine.ID + "/deliveries"} {
		f.refused(t, http.MethodGet, "/v1/webhook-endpoints/"+path, "eve", "", http.StatusNotFound, "not-found")
	}
	f.refused(t, http.MethodDelete, "/v1/webhook-endpoints/"+mine.ID, "eve", "", http.StatusNotFound, "not-found")
	f.refused(t, http.MethodGet, "/v1/webhook-endpoints/1", "ada", "", http.StatusNotFound, "not-found")

	if status, body := f.ask(t, http.MethodDelete, "/v1/webhook-endpoints/"+mine.ID, "ada", ""); status != http.StatusNoContent || len(body) > 0 {
		t.Errorf("delete: %d %s, want 204", status, body)
	}
	f.refused(t, http.MethodDelete, "/v1/webhook-endpoints/"+mine.ID, "ada", "", http.StatusNotFound, "not-found")
	f.refused(t, http.MethodPost, "/v1/webhook-endpoints/"+mine.ID+"/enable", "ada", "", http.StatusNotFound, "not-found")
	if n := f.number(t, `SELECT count(*) FROM notifications.endpoints WHERE secret IS NULL AND deleted_at IS NOT NULL`); n != 1 {
		t.Error("the secret of a deleted endpoint is kept")
	}
	f.Deliver(t, delivered)
	if n := len(f.rows(t, "webhook")); n != 0 {
		t.Errorf("%d webhooks for a deleted endpoint, want none", n)
	}
}

func TestWhatIsOnItsWayToADeletedEndpointIsGivenUp(t *testing.T) {
	t.Parallel()
	e := newReceiver(t, answers(500))
	cfg := calling(t, e)
	cfg.Webhooks.Retries = append(cfg.Webhooks.Retries[:0], 1<<40) // 18 minutes
	f := whole(t, cfg)
	mine := f.register(t, "ada", e.URL)
	f.Deliver(t, delivered)
	messagingtest.Wait(t, "the first attempt to be on record", func() bool { return len(f.attempts(t, mine)) == 1 })
	f.ask(t, http.MethodDelete, "/v1/webhook-endpoints/"+mine.ID, "ada", "")
	r := f.settled(t, "webhook", 1)[0]
	if r.Status != "failed" || len(e.all()) != 1 {
		t.Errorf("webhook is %s after %d calls, want failed after 1", r.Status, len(e.all()))
	}
	if got := f.attempts(t, mine); !slices.Equal(got, []string{"failed 500 http_500", "failed - endpoint_deleted"}) {
		t.Errorf("attempts %v", got)
	}
}

func TestEndpointsThatAreRefused(t *testing.T) {
	t.Parallel()
	_, resolver := newNames(t, map[string][]string{"loop.example": {"127.0.0.1"}, "good.example": {"93.184.215.14"}})
	cfg := defaults(t)
	cfg.Webhooks.Resolver = resolver
	f := newFixture(t, cfg)
	for _, url := range []string{"http://good.example/", "file:///etc/passwd", "https://a:b@good.example/", "https://127.0.0.1/", "https://[::1]/", "https://169.254.169.254/", "https://10.0.0.1/", "https://loop.example/"} {
		status, body := f.ask(t, http.MethodPost, "/v1/webhook-endpoints", "ada", `{"url":`+quoted(url)+`}`)
		var p httpapi.Problem
		if err := json.Unmarshal(body, &p); err != nil || status != http.StatusUnprocessableEntity || p.Code() != "validation" || len(p.Errors) != 1 || p.Errors[0].Pointer != "/url" || p.Errors[0].Code != "url" {
			t.Errorf("%s: %d %s, want 422 validation (url)", url, status, body)
		}
		if strings.Contains(string(body), "good.example") || strings.Contains(string(body), "a:b") {
			t.Errorf("%s is echoed: %s", url, body)
		}
	}
	for _, body := range []string{`{}`, `{"url":1}`, `{"url":""}`, `{"url":"https://good.example/","secret":"x"}`, `{"url":` + quoted("https://good.example/"+strings.Repeat("x", 2000)) + `}`, `{"url":"https://good.example/\u0000"}`} {
		f.refused(t, http.MethodPost, "/v1/webhook-endpoints", "ada", body, http.StatusUnprocessableEntity, "validation")
	}
	f.refused(t, http.MethodPost, "/v1/webhook-endpoints", "ada", `{"url"`, http.StatusBadRequest, "malformed-json")
	if n := f.number(t, `SELECT count(*) FROM notifications.endpoints`); n != 0 {
		t.Errorf("%d endpoints were stored, want none", n)
	}
}

func TestCustomersHaveFewEndpoints(t *testing.T) {
	t.Parallel()
	cfg := calling(t)
	cfg.Webhooks.Endpoints = 3
	f := newFixture(t, cfg)
	var wg sync.WaitGroup
	var mu sync.Mutex
	got := map[int]int{}
	for i := range 10 {
		wg.Go(func() {
			status, _ := f.ask(t, http.MethodPost, "/v1/webhook-endpoints", "ada", fmt.Sprintf(`{"url":"https://example.com/%d"}`, i))
			mu.Lock()
			defer mu.Unlock()
			got[status]++
		})
	}
	wg.Wait()
	if got[http.StatusCreated] != 3 || got[http.StatusConflict] != 7 {
		t.Errorf("answers %v, want 3 made and 7 refused", got)
	}
	f.refused(t, http.MethodPost, "/v1/webhook-endpoints", "ada", `{"url":"https://example.com/"}`, http.StatusConflict, "endpoint-limit")
	f.register(t, "eve", "https://example.com/")
}

func TestDeliveriesAreShownToTheirCustomer(t *testing.T) {
	t.Parallel()
	e := newReceiver(t, func(n int, w http.ResponseWriter, _ *http.Request) {
		if n == 1 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	f := whole(t, calling(t, e))
	mine := f.register(t, "ada", e.URL)
	f.Deliver(t, delivered)
	f.settled(t, "webhook", 1)
	f.Deliver(t, contracts.OrderCompleted{OrderID: orderID, Customer: ada})
	rows := f.settled(t, "webhook", 2)
	path := "/v1/webhook-endpoints/" + mine.ID + "/deliveries"
	page := func(query string) deliveryPage {
		t.Helper()
		var p deliveryPage
		status, body := f.ask(t, http.MethodGet, path+query, "ada", "")
		if err := json.Unmarshal(body, &p); err != nil || status != http.StatusOK {
			t.Fatalf("GET %s: %d %s", query, status, body)
		}
		return p
	}
	first := page("?limit=1")
	if len(first.Deliveries) != 1 || first.Deliveries[0].NotificationID != rows[1].ID || first.NextCursor == "" {
		t.Fatalf("first page %+v, want the newest and a cursor", first)
	}
	second := page("?limit=1&cursor=" + first.NextCursor)
	if len(second.Deliveries) != 1 || second.NextCursor != "" {
		t.Fatalf("second page %+v, want the other, the last", second)
	}
	d := second.Deliveries[0]
	if d.NotificationID != rows[0].ID || d.Kind != contracts.KindOrderDelivered || d.OrderID != orderID || d.Status != "sent" || d.NextAt != nil || len(d.Attempts) != 2 ||
		d.Attempts[0].HTTPStatus != 503 || d.Attempts[0].Outcome != "failed" || d.Attempts[1].Outcome != "sent" {
		t.Errorf("delivery %+v, want two attempts, the second sent", d)
	}
	if got := page("?status=failed"); len(got.Deliveries) != 0 {
		t.Errorf("failed ones: %+v, want none", got)
	}
	for _, query := range []string{"?limit=0", "?cursor=x", "?status=lost", "?what=1"} {
		f.refused(t, http.MethodGet, path+query, "ada", "", http.StatusBadRequest, "invalid-parameter")
	}
	if _, err := f.Admin.Exec(`UPDATE notifications.attempts SET outcome = 'sent', reason_code = NULL`); err == nil {
		t.Error("the log of attempts can be rewritten")
	}
	if _, err := f.Admin.Exec(`DELETE FROM notifications.attempts`); err == nil {
		t.Error("the log of attempts can be emptied")
	}
}

func TestOperatorHasAMailSentAgain(t *testing.T) {
	t.Parallel()
	o := newOffice(t, nil)
	f := whole(t, o.config(t))
	f.Deliver(t, delivered)
	r := f.settled(t, "email", 1)[0]
	path, body, role := "/v1/notifications/"+r.ID+"/resend", `{"reason":"says she never got it"}`, "X-Role: operator"
	f.refused(t, http.MethodPost, path, "ada", body, http.StatusForbidden, "forbidden", "Idempotency-Key: 1")
	f.refused(t, http.MethodPost, path, "olga", body, http.StatusBadRequest, "idempotency-key-missing", role)
	f.refused(t, http.MethodPost, path, "olga", `{}`, http.StatusUnprocessableEntity, "validation", role, "Idempotency-Key: 1")
	f.refused(t, http.MethodPost, "/v1/notifications/"+orderID+"/resend", "olga", body, http.StatusNotFound, "not-found", role, "Idempotency-Key: 1")
	f.refused(t, http.MethodPost, "/v1/notifications/"+f.rows(t, "inbox")[0].ID+"/resend", "olga", body, http.StatusNotFound, "not-found", role, "Idempotency-Key: 1")

	var wish resendAnswer
	for range 3 { // the same wish each time
		status, answer := f.ask(t, http.MethodPost, path, "olga", body, role, "Idempotency-Key: 1")
		if err := json.Unmarshal(answer, &wish); err != nil || status != http.StatusAccepted || wish.NotificationID != r.ID {
			t.Fatalf("resend: %d %s", status, answer)
		}
	}
	f.says(t, contracts.KindNotificationSent+" "+r.ID, contracts.KindNotificationSent+" "+r.ID)
	if got, want := o.ids(), []string{"<" + r.ID + "@orderflow.example>", "<" + r.ID + "." + wish.ResendID + "@orderflow.example>"}; !slices.Equal(got, want) {
		t.Errorf("mails %v, want %v", got, want)
	}
	if got := f.Deliver(t, contracts.ResendNotification{ResendID: wish.ResendID, NotificationID: r.ID, OrderID: orderID})[0]; got != "ignored" {
		t.Errorf("the wish again: outcome %q, want ignored", got)
	}
	f.ask(t, http.MethodPost, path, "olga", body, role, "Idempotency-Key: 2")
	messagingtest.Wait(t, "the second wish", func() bool { return len(o.all()) == 3 })
	if n := f.number(t, `SELECT count(*) FROM notifications.resends WHERE asked_by = 'olga' AND reason = 'says she never got it' AND notification_id = $1`, r.ID); n != 2 {
		t.Errorf("%d wishes on record, want 2", n)
	}
	if _, err := f.Admin.Exec(`DELETE FROM notifications.resends`); err == nil {
		t.Error("the record of wishes can be emptied")
	}
}

func TestOperatorHasAWebhookSentAgain(t *testing.T) {
	t.Parallel()
	e := newReceiver(t, nil)
	f := whole(t, calling(t, e))
	mine := f.register(t, "ada", e.URL)
	f.Deliver(t, delivered)
	r := f.settled(t, "webhook", 1)[0]
	if status, answer := f.ask(t, http.MethodPost, "/v1/notifications/"+r.ID+"/resend", "olga", `{"reason":"asked for"}`, "X-Role: operator", "Idempotency-Key: 1"); status != http.StatusAccepted {
		t.Fatalf("resend: %d %s", status, answer)
	}
	messagingtest.Wait(t, "the second attempt to be on record", func() bool { return len(f.attempts(t, mine)) == 2 })
	if got := e.ids(); !slices.Equal(got, []string{r.ID, r.ID}) {
		t.Errorf("calls %v, want the same webhook-id twice", got)
	}
	f.delivery(t, r, mine, "sent")
}

func TestNotificationsAreShownByChannel(t *testing.T) {
	t.Parallel()
	o := newOffice(t, nil)
	f := whole(t, o.config(t))
	f.Deliver(t, delivered)
	f.settled(t, "email", 1)
	for query, want := range map[string]string{"": "inbox", "&channel=inbox": "inbox", "&channel=email": "email", "&channel=webhook": ""} {
		var answer notificationList
		status, body := f.ask(t, http.MethodGet, "/v1/notifications?order_id="+orderID+query, "ada", "")
		if err := json.Unmarshal(body, &answer); err != nil || status != http.StatusOK {
			t.Fatalf("%s: %d %s", query, status, body)
		}
		if want == "" && len(answer.Notifications) == 0 {
			continue
		}
		if len(answer.Notifications) != 1 || answer.Notifications[0].Channel != want || answer.Notifications[0].Status != Sent || (answer.Notifications[0].SettledAt != nil) != (want == "email") {
			t.Errorf("%s: %s, want one of %q", query, body, want)
		}
		if strings.Contains(string(body), ada.Email) {
			t.Errorf("%s: the address is shown: %s", query, body)
		}
	}
	f.refused(t, http.MethodGet, "/v1/notifications?channel=pigeon&order_id="+orderID, "ada", "", http.StatusBadRequest, "invalid-parameter")
}

func TestOperatorIsShownAnybodysNotifications(t *testing.T) {
	t.Parallel()
	f := whole(t, defaults(t))
	f.Deliver(t, delivered)
	for role, want := range map[string]int{"customer": 0, "operator": 1, "admin": 1} {
		var answer notificationList
		status, body := f.ask(t, http.MethodGet, "/v1/notifications?order_id="+orderID, "olga", "", "X-Role: "+role)
		if err := json.Unmarshal(body, &answer); err != nil || status != http.StatusOK || len(answer.Notifications) != want {
			t.Errorf("%s: %d %s, want %d notifications", role, status, body, want)
		}
	}
}

func TestConfigurationsThatAreRefused(t *testing.T) {
	t.Parallel()
	db := messagingtest.NewDB(t, Spec())
	for name, change := range map[string]func(*Config){
		"host with blanks":  func(c *Config) { c.Mail.Host = "mail server" },
		"port 0":            func(c *Config) { c.Mail.Host, c.Mail.Port = "mail.example", 0 },
		"unknown TLS":       func(c *Config) { c.Mail.TLS = "sometimes" },
		"sender without @":  func(c *Config) { c.Mail.Host, c.Mail.From = "mail.example", "shop" },
		"too many at once":  func(c *Config) { c.Mail.Connections = 100 },
		"time-out too long": func(c *Config) { c.Webhooks.Timeout = 1 << 40 },
		"pause below 0":     func(c *Config) { c.Webhooks.Retries[0] = -1 },
	} {
		cfg := defaults(t)
		change(&cfg)
		if _, err := New(cfg, db.Service("notifications"), db.NewBus(t, Spec()), messagingtest.Log(t)); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}
