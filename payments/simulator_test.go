package payments

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

const testSecret = "whsec_c2VjcmV0LW9mLXRoZS10ZXN0cw=="

// simulatorAt is a client of a provider that h plays.
func simulatorAt(t *testing.T, timeout time.Duration, h http.HandlerFunc) *Simulator {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	s, err := NewSimulator(server.URL, "key-of-the-tests", testSecret, timeout)
	if err != nil {
		t.Fatalf("make the client: %v", err)
	}
	return s
}

var request = AuthorizeRequest{Key: "k1", Reference: orderID, AmountMinor: 1250, Currency: "EUR", MethodToken: "tok_secret"}

func TestSimulatorSortsTheAnswersToAuthorize(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		status int
		body   string
		want   Authorization
		err    error  // that it must be
		code   string // of the *RefusedError that it must be
	}{
		{"approved", 201, `{"id":"a1","status":"authorized","amount_minor":1250}`, Authorization{Ref: "a1", Status: Approved, AmountMinor: 1250}, nil, ""},
		{"declined", 402, `{"id":"a1","status":"declined","code":"card_declined"}`, Authorization{Ref: "a1", Status: Refused, ReasonCode: "card_declined"}, nil, ""},
		{"approved without an id", 201, `{"status":"authorized"}`, Authorization{}, errProvider, ""},
		{"approved that says declined", 201, `{"id":"a1","status":"declined"}`, Authorization{}, errProvider, ""},
		{"cut off", 201, `{"id":"a1","sta`, Authorization{}, errProvider, ""},
		{"no JSON", 201, `<html>`, Authorization{}, errProvider, ""},
		{"broken", 500, `{}`, Authorization{}, errProvider, ""},
		{"overloaded", 503, ``, Authorization{}, errProvider, ""},
		{"too many requests", 429, ``, Authorization{}, errProvider, ""},
		{"our key is not valid", 401, `{}`, Authorization{}, errProvider, ""},
		{"redirected", 307, ``, Authorization{}, errProvider, ""},
		{"unknown method", 422, `{"type":"https://orderflow.example/problems/invalid_method"}`, Authorization{Status: Refused, ReasonCode: "invalid_method"}, nil, ""},
		{"key of another request", 422, `{"type":"https://orderflow.example/problems/idempotency-key-reused"}`, Authorization{}, nil, "idempotency_key_reused"},
		{"refused without words", 400, `nonsense`, Authorization{}, nil, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := simulatorAt(t, 5*time.Second, func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("Idempotency-Key") != "k1" || r.Header.Get("Authorization") != "Bearer key-of-the-tests" {
					t.Errorf("got headers %v, want both keys", r.Header)
				}
				w.Header().Set("Location", "/elsewhere")
				w.WriteHeader(tc.status)
				if _, err := w.Write([]byte(tc.body)); err != nil {
					t.Errorf("answer: %v", err)
				}
			})
			got, err := s.Authorize(t.Context(), request)
			var refused *RefusedError
			switch {
			case tc.want.Status != "" && (err != nil || got != tc.want):
				t.Errorf("got %+v, %v, want %+v", got, err, tc.want)
			case tc.err != nil && !errors.Is(err, tc.err):
				t.Errorf("got error %v, want %v", err, tc.err)
			case tc.want.Status == "" && tc.err == nil && (!errors.As(err, &refused) || refused.Status != tc.status || refused.Code != tc.code):
				t.Errorf("got error %v, want a refusal %d %s", err, tc.status, tc.code)
			case err != nil && (strings.Contains(err.Error(), "tok_secret") || strings.Contains(err.Error(), "key-of-the-tests")):
				t.Errorf("error %q tells a secret", err)
			}
		})
	}
}

func TestSimulatorLooksUp(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		status int
		body   string
		want   Outcome // "" = an error
	}{
		{"authorized", 200, `{"id":"a1","status":"authorized"}`, Approved},
		{"declined", 200, `{"id":"a1","status":"declined","code":"card_declined"}`, Refused},
		{"voided", 200, `{"id":"a1","status":"voided"}`, Closed},
		{"captured", 200, `{"id":"a1","status":"captured"}`, Taken},
		{"never heard of", 404, `{}`, Missing},
		{"of a status that we don't know", 200, `{"id":"a1","status":"frozen"}`, ""},
		{"broken", 500, `{}`, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := simulatorAt(t, 5*time.Second, func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Query().Get("key") != "k:1&2" {
					t.Errorf("got query %q, want the key k:1&2", r.URL.RawQuery)
				}
				w.WriteHeader(tc.status)
				if _, err := w.Write([]byte(tc.body)); err != nil {
					t.Errorf("answer: %v", err)
				}
			})
			got, err := s.FindAuthorization(t.Context(), AuthorizationQuery{Key: "k:1&2"})
			if got.Status != tc.want || (err != nil) != (tc.want == "") {
				t.Errorf("got %q, %v, want %q", got.Status, err, tc.want)
			}
		})
	}
}

func TestSimulatorThatDoesNotAnswerIsCutOff(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	s := simulatorAt(t, 50*time.Millisecond, func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
	})
	defer close(release)
	started := time.Now()
	_, err := s.Authorize(t.Context(), request)
	if !errors.Is(err, context.DeadlineExceeded) || time.Since(started) > 5*time.Second {
		t.Errorf("got %v after %s, want a deadline that was exceeded", err, time.Since(started))
	}
}

// net/http repeats a request by itself when it bears an "Idempotency-Key" and the
// connection, which was used before, ends without an answer. A provider that has
// forgotten the key would charge twice.
func TestSimulatorSendsARequestOnce(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	s := simulatorAt(t, 5*time.Second, func(w http.ResponseWriter, r *http.Request) {
		if asked.Add(1) == 1 {
			w.WriteHeader(http.StatusNotFound) // keeps the connection
			return
		}
		panic(http.ErrAbortHandler)
	})
	if _, err := s.FindAuthorization(t.Context(), AuthorizationQuery{Key: "k1"}); err != nil {
		t.Fatalf("look up: %v", err)
	}
	_, err := s.Void(t.Context(), VoidRequest{Key: "k1", Ref: "a1"})
	if !unsure(err) || asked.Load() != 2 {
		t.Errorf("got %v after %d requests, want an unknown outcome after 2", err, asked.Load())
	}
}

func TestSimulatorNeedsAURL(t *testing.T) {
	t.Parallel()
	for _, u := range []string{"", "127.0.0.1:8090", "ftp://host", "http://", "http://user:secret@host", "http://%zz"} {
		if _, err := NewSimulator(u, "", testSecret, time.Second); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: got %v, want an error without secrets", u, err)
		}
	}
}
