package payments

import (
	"encoding/json"
	"net/http/httptest"
	"regexp"
	"testing"

	"example.com/orderflow/messaging/httpapi"
	"example.com/orderflow/messaging/messagingtest"
)

func TestShowPayments(t *testing.T) {
	t.Parallel()
	s := running(t)
	s.wantDelivered(withToken(1, "tok_declined"), "done", declined(1, "card_declined"))
	s.wantDelivered(authorizing(2), "done", authorized(2))
	s.wantDelivered(capturing(2), "done", captured(2))
	mux := httpapi.NewMux(messagingtest.Log(t))
	s.service.Routes(mux)
	const all = `{"payments":[{"id":"` + paymentID + `","order_id":"` + orderID + `","status":"captured","amount_minor":1250,` +
		`"captured_minor":1000,"refunded_minor":0,"currency":"EUR","attempts":[{"attempt":1,"status":"declined","reason_code":"card_declined","at":"T"},` +
		`{"attempt":2,"status":"captured","at":"T"}]}]}`
	for _, tc := range []struct {
		name, query, customer string
		status                int
		body                  string // "" = not looked at
	}{
		{"the caller's own", "?order_id=" + orderID, "ann", 200, all},
		{"another customer's", "?order_id=" + orderID, "bob", 200, `{"payments":[]}`},
		{"nobody's", "?order_id=" + otherID, "ann", 200, `{"payments":[]}`},
		{"no order", "", "ann", 400, ""},
		{"malformed order", "?order_id=1", "ann", 400, ""},
		{"unknown filter", "?order_id=" + orderID + "&status=captured", "ann", 400, ""},
	} {
		r := httptest.NewRequest("GET", "/v1/payments"+tc.query, nil)
		r.Header.Set("X-Customer-Id", tc.customer)
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, r)
		if w.Code != tc.status || !json.Valid(w.Body.Bytes()) {
			t.Errorf("%s: got %d %s, want %d", tc.name, w.Code, w.Body, tc.status)
		}
		body := regexp.MustCompile(`"at":"[0-9T:.-]+Z"`).ReplaceAllString(w.Body.String(), `"at":"T"`)
		if tc.body != "" && body != tc.body+"\n" {
			t.Errorf("%s: got %s, want %s", tc.name, body, tc.body)
		}
	}
}

func TestAVoidThatCameFirstShowsNothing(t *testing.T) {
	t.Parallel()
	s := running(t)
	s.wantDelivered(voiding(1), "done", voided(1))
	got, err := s.service.store.listPayments(t.Context(), orderID, "ann")
	if err != nil || len(got) != 0 {
		t.Errorf("got %v, %v, want no payments", got, err)
	}
	s.wantDelivered(authorizing(1), "done", declined(1, "voided"))
	got, err = s.service.store.listPayments(t.Context(), orderID, "ann")
	if err != nil || len(got) != 1 || got[0].Status() != Voided || got[0].CustomerID != "ann" {
		t.Errorf("got %v, %v, want one payment, voided", got, err)
	}
}
