package httpapi_test

import (
	"encoding/base64"
	"errors"
	"maps"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"example.com/orderflow/messaging/httpapi"
)

func TestPageParams(t *testing.T) {
	t.Parallel()
	const id = "0190a1b2-0000-7000-8000-000000000000"
	for _, c := range []struct {
		query string
		want  httpapi.Page
		fails bool
	}{
		{query: "", want: httpapi.Page{Limit: 50}},
		{query: "limit=1", want: httpapi.Page{Limit: 1}},
		{query: "limit=100&cursor=abc", want: httpapi.Page{Limit: 100, Cursor: "abc"}},
		{query: "status=placed&order_id=" + id, want: httpapi.Page{Limit: 50, Filters: map[string]string{"status": "placed", "order_id": id}}},
		{query: "limit=0", fails: true},
		{query: "limit=-1", fails: true},
		{query: "limit=101", fails: true},
		{query: "limit=1000000000", fails: true},
		{query: "limit=99999999999999999999", fails: true},
		{query: "limit=abc", fails: true},
		{query: "limit=", fails: true},
		{query: "limit=1&limit=2", fails: true},
		{query: "cursor=", fails: true},
		{query: "cursor=" + strings.Repeat("a", 1025), fails: true},
		{query: "unknown=1", fails: true},
		{query: "Limit=1", fails: true},
		{query: "status=", fails: true},
		{query: "status=" + strings.Repeat("a", 201), fails: true},
		{query: "order_id=1", fails: true},
		{query: "order_id=%00", fails: true},
		{query: "%zz", fails: true},
	} {
		page, err := httpapi.PageParams(httptest.NewRequest("GET", "/v1/orders?"+c.query, nil), "status", "order_id=uuid")
		var p *httpapi.Problem
		switch {
		case c.fails && (!errors.As(err, &p) || p.Status != 400 || p.Code() != "invalid-parameter"):
			t.Errorf("%q: got error %v, want invalid-parameter", c.query, err)
		case !c.fails && err != nil:
			t.Errorf("%q: got error %v", c.query, err)
		case page.Limit != c.want.Limit || page.Cursor != c.want.Cursor || !maps.Equal(page.Filters, c.want.Filters):
			t.Errorf("%q: got %+v, want %+v", c.query, page, c.want)
		}
	}
}

// last is where a page ended.
type last struct {
	PlacedAt time.Time `json:"placed_at" validate:"required"`
	ID       string    `json:"id" validate:"required,uuid"`
	Nano     int64     `json:"nano"`
}

func TestCursor(t *testing.T) {
	t.Parallel()
	// Nano passes for a card's number, which a cursor may.
	want := last{time.Date(2025, 7, 1, 12, 0, 0, 123456000, time.UTC), "0190a1b2-0000-7000-8000-000000000000", 1753440000000000003}
	cursor, err := httpapi.EncodeCursor(want)
	if err != nil {
		t.Fatalf("encode: %v", err)
	}
	if got, err := httpapi.DecodeCursor[last](cursor); err != nil || got != want {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
	for name, broken := range map[string]string{
		"cut off":        cursor[:len(cursor)-3],
		"not base64":     "***",
		"padded":         cursor + "=",
		"no object":      "bnVsbA",
		"not a UUID":     forged(`{"placed_at":"2025-07-01T12:00:00Z","id":"x","nano":1}`),
		"not a time":     forged(`{"placed_at":"now","id":"0190a1b2-0000-7000-8000-000000000000","nano":1}`),
		"a number":       forged(`{"placed_at":1,"id":"0190a1b2-0000-7000-8000-000000000000","nano":1}`),
		"incomplete":     forged(`{}`),
		"unknown member": forged(`{"placed_at":"2025-07-01T12:00:00Z","id":"0190a1b2-0000-7000-8000-000000000000","nano":1,"x":1}`),
	} {
		got, err := httpapi.DecodeCursor[last](broken)
		var p *httpapi.Problem
		if !errors.As(err, &p) || p.Code() != "invalid-parameter" || got != (last{}) {
			t.Errorf("%s: got %+v, %v, want invalid-parameter", name, got, err)
		}
	}
}

func forged(body string) string { return base64.RawURLEncoding.EncodeToString([]byte(body)) }

func TestFingerprint(t *testing.T) {
	t.Parallel()
	of := func(body string) string {
		t.Helper()
		sum, err := httpapi.Fingerprint([]byte(body))
		if err != nil {
			t.Fatalf("fingerprint %s: %v", body, err)
		}
		return sum
	}
	want := of(`{"a":[1,{"b":"é","c":null}],"d":9007199254740993}`)
	if len(want) != 64 {
		t.Errorf("got %q, want 64 hex digits", want)
	}
	if got := of(" { \"d\" : 9007199254740993,\n\"a\" : [1,{\"c\":null,\"b\":\"\\u00e9\"}]}"); got != want {
		t.Error("got another fingerprint for other white space, order and escapes")
	}
	for _, other := range []string{
		`{"a":[1,{"b":"é","c":null}],"d":9007199254740992}`,
		`{"a":[1,{"b":"e","c":null}],"d":9007199254740993}`,
		`{"a":[{"b":"é","c":null},1],"d":9007199254740993}`,
		`{"a":[1,{"b":"é"}],"d":9007199254740993}`,
	} {
		if of(other) == want {
			t.Errorf("got the same fingerprint for %s", other)
		}
	}
	for _, broken := range []string{"", "{", "{} {}"} {
		if _, err := httpapi.Fingerprint([]byte(broken)); err == nil {
			t.Errorf("got a fingerprint of %q", broken)
		}
	}
}
