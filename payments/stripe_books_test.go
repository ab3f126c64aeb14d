package payments

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

// eventJSON is an event about an intent, second seconds after 1700000000.
func eventJSON(kind string, second int, intent string) string {
	return fmt.Sprintf(`{"id":"evt_1","object":"event","type":%q,"created":%d,"data":{"object":%s}}`, kind, 1700000000+second, intent)
}

func TestStripeBooks(t *testing.T) {
	t.Parallel()
	events := []string{ // the newest first
		eventJSON("payment_intent.canceled", 90, intentJSON("canceled", `"latest_charge":"ch_1","cancellation_reason":"automatic"`)),
		eventJSON("payment_intent.canceled", 80, intentJSON("canceled", `"latest_charge":"ch_1","cancellation_reason":null`)),
		eventJSON("payment_intent.canceled", 70, intentJSON("canceled", `"latest_charge":null,"cancellation_reason":"abandoned"`)),
		eventJSON("payment_intent.canceled", 60, intentJSON("canceled", `"latest_charge":"ch_1","last_payment_error":{"type":"card_error"}`)),
		eventJSON("payment_intent.succeeded", 50, strings.Replace(intentJSON("succeeded", `"amount_received":1000`), `"order_id"`, `"orderflow_capture_key":"c1","order_id"`, 1)),
		eventJSON("payment_intent.amount_capturable_updated", 50, intentJSON("succeeded", `"amount_capturable":0`)),
		eventJSON("payment_intent.succeeded", 40, `{"id":"pi_9","object":"payment_intent","amount":5,"amount_received":5,"currency":"eur","metadata":{}}`),
		eventJSON("payment_intent.amount_capturable_updated", 30, intentJSON("requires_capture", `"amount_capturable":1250`)),
	}
	refunds := []string{
		refundJSON("re_4", 20, "failed", refundKey),
		refundJSON("re_3", 30, "pending", ""), // by hand
		refundJSON("re_1", 300, "succeeded", refundKey),
		refundJSON("re_0", 250, "succeeded", ""), // what the capture left
		strings.Replace(refundJSON("re_8", 1250, "succeeded", ""), `"captured":true,"amount_captured":1000`, `"captured":false,"amount_captured":0`, 1), // of a void
		refundJSON("re_7", 1250, "succeeded", `,"reason":"expired_uncaptured_charge"`),
		strings.Replace(refundJSON("re_9", 5, "succeeded", ""), `"orderflow_key":"k1",`, "", 1), // not ours
	}
	s, stub := stripeAt(t, 5*time.Second, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/v1/events":
			reply(t, w, 200, listJSON(false, events...))
		case "/v1/refunds":
			reply(t, w, 200, listJSON(false, refunds...))
		}
	})
	from := time.Unix(1700000000, 1) // a little later than a whole second
	got, next, err := s.ListMovements(t.Context(), MovementQuery{From: from, Until: from.Add(stripeSlice)})
	if err != nil || next != "" {
		t.Fatalf("got next %q, %v, want all on one page", next, err)
	}
	at := func(second int) time.Time { return time.Unix(int64(1700000000+second), 0).UTC() }
	want := []Movement{
		{MoveAuthorize, "pi_1", "pi_1", "k1", "o1", 1250, "EUR", at(30)},
		{MoveCapture, "pi_1", "pi_1", "c1", "o1", 1000, "EUR", at(50)},
		{MoveVoid, "pi_1", "pi_1", "", "o1", 1250, "EUR", at(80)},
		{MoveExpire, "pi_1", "pi_1", "", "o1", 1250, "EUR", at(90)},
		{MoveRefund, "re_1", "pi_1", "r1", "o1", 300, "EUR", at(600)},
		{MoveRefund, "re_3", "pi_1", "", "o1", 30, "EUR", at(600)},
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got\n%+v, want\n%+v", got, want)
	}
	for _, r := range stub.log {
		if !strings.Contains(r, "created[gte]=1700000001&created[lt]=1700003601") {
			t.Errorf("got request %q, want the hour in whole seconds", r)
		}
	}
	other, _, err := s.ListMovements(t.Context(), MovementQuery{From: from, Until: from.Add(stripeSlice), Reference: "o2"})
	if err != nil || len(other) != 0 {
		t.Errorf("another order: got %+v, %v, want nothing", other, err)
	}
}

// TestStripeBooksAreReadByTheHour: every second of the time asked for is read once.
func TestStripeBooksAreReadByTheHour(t *testing.T) {
	t.Parallel()
	s, stub := stripeAt(t, 5*time.Second, func(w http.ResponseWriter, _ *http.Request) { reply(t, w, 200, listJSON(false)) })
	q := MovementQuery{From: time.Unix(1700000000, 500), Until: time.Unix(1700000000, 0).Add(150 * time.Minute)}
	pages := 0
	for ok := true; ok; ok = q.Next != "" {
		page, next, err := s.ListMovements(t.Context(), q)
		if err != nil || len(page) != 0 {
			t.Fatalf("got %+v, %v, want an empty page", page, err)
		}
		q.Next = next
		pages++
	}
	var read []string
	for _, r := range stub.log {
		if strings.HasPrefix(r, "GET /v1/refunds") {
			read = append(read, strings.Split(strings.TrimPrefix(r, "GET /v1/refunds "), "&expand")[0])
		}
	}
	want := "created[gte]=1700000001&created[lt]=1700003601, created[gte]=1700003601&created[lt]=1700007201, created[gte]=1700007201&created[lt]=1700009000"
	if got := strings.Join(read, ", "); pages != 3 || got != want {
		t.Errorf("got %d pages of %s, want 3 of %s", pages, got, want)
	}
}

func TestStripeBooksThatCannotBeReadAreAnError(t *testing.T) {
	t.Parallel()
	from := time.Unix(1700000000, 0)
	for name, h := range map[string]func(path string) (int, string){
		"broken": func(string) (int, string) { return 500, problem("api_error", "", "") },
		"refunds away": func(p string) (int, string) {
			return map[string]int{"/v1/events": 200, "/v1/refunds": 503}[p], listJSON(false)
		},
		"no list": func(string) (int, string) { return 200, `{}` },
		"no intent": func(string) (int, string) {
			return 200, listJSON(false, eventJSON("payment_intent.succeeded", 1, `"Jane`+`"`))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, _ := stripeAt(t, 5*time.Second, func(w http.ResponseWriter, r *http.Request) {
				status, body := h(r.URL.Path)
				reply(t, w, status, body)
			})
			page, _, err := s.ListMovements(t.Context(), MovementQuery{From: from, Until: from.Add(time.Minute)})
			if err == nil {
				t.Errorf("got %+v, want an error", page)
			}
			wantNoSecret(t, err)
		})
	}
	s := newTestStripe(t, "http://127.0.0.1:1", time.Second)
	if _, _, err := s.ListMovements(t.Context(), MovementQuery{From: from, Until: from.Add(time.Hour), Next: "yesterday"}); err == nil {
		t.Error("a next that is none of ours: got no error, want one")
	}
}
