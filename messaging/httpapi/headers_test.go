package httpapi_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"example.com/orderflow/messaging/httpapi"
)

func TestCustomerID(t *testing.T) {
	t.Parallel()
	var got string
	mux := httpapi.NewMux(discard)
	mux.Handle("GET /", func(w http.ResponseWriter, r *http.Request) error {
		got = httpapi.CustomerID(r)
		return ok(w, r)
	})
	for name, c := range map[string]struct {
		header []string
		want   string
	}{
		"absent":    {nil, "demo"},
		"given":     {[]string{"X-Customer-Id", "c-17"}, "c-17"},
		"blank":     {[]string{"X-Customer-Id", " "}, ""},
		"not UTF-8": {[]string{"X-Customer-Id", "\xff"}, ""},
		"too long":  {[]string{"X-Customer-Id", strings.Repeat("x", 65)}, ""},
		"twice":     {[]string{"X-Customer-Id", "a", "X-Customer-Id", "b"}, ""},
	} {
		got = ""
		res := get(mux, "/", c.header...)
		if c.want == "" {
			problem(t, res, http.StatusBadRequest, "invalid-parameter")
		}
		if got != c.want {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
}

func TestRole(t *testing.T) {
	t.Parallel()
	mux := httpapi.NewMux(discard)
	mux.Handle("GET /", func(w http.ResponseWriter, r *http.Request) error {
		if err := httpapi.RequireOperator(r); err != nil {
			return err
		}
		return ok(w, r)
	})
	for name, c := range map[string]struct {
		header []string
		status int
		code   string
	}{
		"absent":     {nil, http.StatusForbidden, "forbidden"},
		"a customer": {[]string{"X-Role", "customer"}, http.StatusForbidden, "forbidden"},
		"operator":   {[]string{"X-Role", "operator"}, http.StatusOK, ""},
		"admin":      {[]string{"X-Role", "admin"}, http.StatusOK, ""},
		"unknown":    {[]string{"X-Role", "root"}, http.StatusBadRequest, "invalid-parameter"},
		"blank":      {[]string{"X-Role", " "}, http.StatusBadRequest, "invalid-parameter"},
		"twice":      {[]string{"X-Role", "customer", "X-Role", "admin"}, http.StatusBadRequest, "invalid-parameter"},
	} {
		res := get(mux, "/", c.header...)
		if c.code != "" {
			problem(t, res, c.status, c.code)
		} else if res.StatusCode != c.status {
			t.Errorf("%s: got status %d, want %d", name, res.StatusCode, c.status)
		}
	}
}

func TestIdempotencyKey(t *testing.T) {
	t.Parallel()
	var got string
	mux := httpapi.NewMux(discard)
	mux.Handle("GET /", func(w http.ResponseWriter, r *http.Request) error {
		key, err := httpapi.IdempotencyKey(r)
		if err != nil {
			return err
		}
		got = key
		return ok(w, r)
	})
	for name, c := range map[string]struct {
		keys []string
		code string
	}{
		"missing":    {nil, "idempotency-key-missing"},
		"empty":      {[]string{""}, "idempotency-key-invalid"},
		"too long":   {[]string{strings.Repeat("k", 256)}, "idempotency-key-invalid"},
		"not ASCII":  {[]string{"clé"}, "idempotency-key-invalid"},
		"control":    {[]string{"a\tb"}, "idempotency-key-invalid"},
		"twice":      {[]string{"a", "b"}, "idempotency-key-invalid"},
		"same twice": {[]string{"a", "a"}, "idempotency-key-invalid"},
		"a UUID":     {[]string{"0190a1b2-0000-7000-8000-000000000000"}, ""},
		"longest":    {[]string{strings.Repeat("k", 255)}, ""},
		"punctuated": {[]string{`"a b",~!`}, ""},
	} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header["Idempotency-Key"] = c.keys
		got = ""
		res := send(mux, r)
		switch {
		case c.code != "":
			problem(t, res, http.StatusBadRequest, c.code)
		case got != c.keys[0]:
			t.Errorf("%s: got %q, want %q", name, got, c.keys[0])
		}
	}
}

func TestPreferWait(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		header []string
		want   time.Duration
	}{
		{nil, 0},
		{[]string{"wait=5"}, 5 * time.Second},
		{[]string{"wait=0"}, 0},
		{[]string{"Wait = 5"}, 5 * time.Second},
		{[]string{`wait="5"`}, 5 * time.Second},
		{[]string{"respond-async, wait=5;x=y"}, 5 * time.Second},
		{[]string{"respond-async", "wait=5"}, 5 * time.Second},
		{[]string{"wait=5", "wait=9"}, 5 * time.Second},
		{[]string{"wait=30"}, 30 * time.Second},
		{[]string{"wait=31"}, 30 * time.Second},
		{[]string{"wait=2147483647"}, 30 * time.Second},
		{[]string{"wait=99999999999999999999"}, 0},
		{[]string{"wait=-5"}, 0},
		{[]string{"wait=1.5"}, 0},
		{[]string{"wait=abc"}, 0},
		{[]string{"wait"}, 0},
		{[]string{"return=minimal"}, 0},
	} {
		r := httptest.NewRequest(http.MethodPost, "/", nil)
		r.Header["Prefer"] = c.header
		if got := httpapi.PreferWait(r); got != c.want {
			t.Errorf("Prefer %q: got %s, want %s", c.header, got, c.want)
		}
	}
}
