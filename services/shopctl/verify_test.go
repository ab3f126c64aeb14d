package main

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"example.com/orderflow/messaging/messagingtest"
	"example.com/orderflow/services/internal/shop"
	"example.com/orderflow/services/internal/verify"
)

// endsWith checks how shopctl would end.
func endsWith(t *testing.T, err error, want int) {
	t.Helper()
	got := 0
	var e interface{ ExitCode() int }
	if errors.As(err, &e) {
		got = e.ExitCode()
	} else if err != nil {
		got = -1
	}
	if got != want {
		t.Errorf("got exit code %d (%v), want %d", got, err, want)
	}
}

func TestVerifyCommand(t *testing.T) {
	t.Parallel()
	db := messagingtest.NewDB(t, shop.Specs()...)
	out, told, err := shopctl(t, db, "", "verify", "--rest")
	endsWith(t, err, 0)
	if !strings.Contains(out, "0 orders at rest") || !strings.Contains(out, "nothing found") || told != "" {
		t.Errorf("got %q and %q, want that nothing was found", out, told)
	}

	if _, err := db.Admin.Exec(`INSERT INTO messaging.outbox_orders (message_id, kind, payload) VALUES (gen_random_uuid(), 'orders.order_placed', '')`); err != nil {
		t.Fatal(err)
	}
	_, _, err = shopctl(t, db, "", "verify")
	endsWith(t, err, 0)
	out, _, err = shopctl(t, db, "", "verify", "--rest", "--json")
	endsWith(t, err, exitFound)
	var report verify.Report
	if jerr := json.Unmarshal([]byte(out), &report); jerr != nil || report.Found() != 1 || !report.Rest {
		t.Errorf("got %s, %v, want one finding as JSON", out, jerr)
	}

	_, _, err = shopctl(t, db, "", "verify", "--provider-url", "http://127.0.0.1:1")
	endsWith(t, err, exitUnchecked)
	_, _, err = shopctl(t, newDB(t), "", "verify")
	endsWith(t, err, exitUnchecked)
}

func TestWriteReport(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	err := writeReport(&b, verify.Report{
		At: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), Rest: true, Books: "schema paysim", Orders: 20_000, Dead: 1, Breaks: 2, Took: 4210,
		Results: []verify.Result{
			{Name: "a/good", Says: "all is well", First: []verify.Finding{}},
			{Name: "a/bad", Says: "one is one", Found: 3, First: []verify.Finding{
				{Check: "a/bad", Subject: "order 1", What: "is\ntwo"}, {Check: "a/bad", Subject: "order 2", What: "is three"},
			}},
			{Name: "b/blind", Says: "nobody knows", Skipped: "there are no books"},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	compare(t, b.String(), `a/bad: it must be that one is one
  order 1: is two
  order 2: is three
  … and 1 more

b/blind: not checked: there are no books

1 dead letters wait for an operator (shopctl dead list): what they are about may differ between services.
2 differences to the provider's books were noted by payments and not yet seen gone (GET /v1/payments/breaks).
20000 orders at rest at 2026-03-01T12:00:00Z, 2 checks in 4.2 s, the provider's books from schema paysim: 3 findings by 1 checks
`)
}
