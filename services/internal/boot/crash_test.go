package boot

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"example.com/orderflow/messaging"
)

func TestCrashSetting(t *testing.T) {
	for _, c := range []struct {
		set  string
		want Crash
		err  string
	}{
		{"relay.before_commit", Crash{"relay.before_commit", 1}, ""},
		{"relay.before_commit=3", Crash{"relay.before_commit", 3}, ""},
		{"relay.before", Crash{}, "no crash point"},
		{"relay.before_commit=0", Crash{}, "not a number from 1"},
		{"relay.before_commit=", Crash{}, "not a number from 1"},
	} {
		t.Setenv("DATABASE_URL", "postgres://somewhere")
		t.Setenv("FAULT_CRASH", c.set)
		cfg, _, err := Load[Config]()
		if c.err == "" && (err != nil || cfg.Crash != c.want) {
			t.Errorf("%s: got %+v, %v; want %+v", c.set, cfg.Crash, err, c.want)
		}
		if c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
			t.Errorf("%s: got error %v, want one of %q", c.set, err, c.err)
		}
	}
}

// A process dies at the visit that was set and no other, and at no other point.
func TestCrashHookDiesOnce(t *testing.T) {
	t.Parallel()
	var visit int
	var died []int
	hook := Crash{"nack.before", 2}.hook("orders", slog.New(slog.DiscardHandler), func() { died = append(died, visit) })
	for visit = 1; visit <= 4; visit++ {
		hook("nack.after")
		hook("nack.before")
	}
	if !slices.Equal(died, []int{2}) {
		t.Errorf("died at the visits %v, want [2]", died)
	}
	if (Crash{}).hook("orders", slog.New(slog.DiscardHandler), die) != nil {
		t.Error("without a point there is a hook, want none: it costs")
	}
}

// The point before an answer is come by when a request that may change something
// was done, once, before its client hears anything.
func TestCrashBeforeAnswer(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		method string
		status int // 0 = the handler writes without naming one
		want   int
	}{
		{http.MethodPost, http.StatusAccepted, 1},
		{http.MethodPost, http.StatusPaymentRequired, 1},
		{http.MethodPost, http.StatusServiceUnavailable, 0},
		{http.MethodPost, 0, 1},
		{http.MethodDelete, http.StatusOK, 1},
		{http.MethodGet, http.StatusOK, 0},
	} {
		answer := httptest.NewRecorder()
		visits := 0
		h := beforeAnswer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if c.status != 0 {
				w.WriteHeader(c.status)
			}
			for range 2 {
				if _, err := w.Write([]byte("x")); err != nil {
					t.Error(err)
				}
			}
		}), func(point string) {
			visits++
			if point != messaging.CrashHTTPBeforeAnswer || answer.Body.Len() > 0 {
				t.Errorf("at %s with an answer of %d bytes, want %s and none", point, answer.Body.Len(), messaging.CrashHTTPBeforeAnswer)
			}
		})
		h.ServeHTTP(answer, httptest.NewRequest(c.method, "/", nil))
		if visits != c.want || answer.Body.String() != "xx" {
			t.Errorf("%s answered %d: got %d visits and %q, want %d and \"xx\"", c.method, c.status, visits, answer.Body, c.want)
		}
	}
}
