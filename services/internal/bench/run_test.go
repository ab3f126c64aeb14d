package bench

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// measured runs c once with little load and returns what was found of it.
func measured(t *testing.T, r *run, c aCase) *System {
	t.Helper()
	c.load = little
	if err := r.measure(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	s := r.systems[c.name]
	s.sum()
	if s.OrdersPerSecond.Median <= 0 || s.P50MS.Median <= 0 || s.P99MS.Median < s.P50MS.Median {
		t.Errorf("got %v orders/s, p50 %v, p99 %v ms: want figures", s.OrdersPerSecond, s.P50MS, s.P99MS)
	}
	return s
}

func TestChain(t *testing.T) {
	t.Parallel()
	r := newTestRun(t)
	measured(t, r, r.chainCase()) // checks the rows
}

func TestShop(t *testing.T) {
	t.Parallel()
	r := newTestRun(t)
	measured(t, r, r.shopCase()) // checks the rows
}

func TestYardstick(t *testing.T) {
	t.Parallel()
	r := newTestRun(t)
	program, err := r.stand.findPgbench(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, script := range []string{"order6tx.sql", "order1tx.sql"} {
		found, err := r.stand.pgbench(t.Context(), program, script, time.Second)
		if err != nil {
			t.Fatalf("%s: %v", script, err)
		}
		if found.perSecond <= 0 {
			t.Errorf("%s: got %+v", script, found)
		}
	}
}

func TestDraining(t *testing.T) {
	t.Parallel()
	r := newTestRun(t)
	err := r.draining(t.Context(), partBacklog, func(d *drain) error {
		p, err := d.run(t.Context(), 300, 300, 2, nil)
		if p.messages <= 0 || p.messages >= 300 || p.took <= 0 {
			t.Errorf("got %d messages in %s, want those after the first commit", p.messages, p.took)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestCheckNotices breaks each rule of the rows in turn.
func TestCheckNotices(t *testing.T) {
	t.Parallel()
	r := newTestRun(t)
	b, err := r.stand.newBase(t.Context(), partChain)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := b.drop(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	c, err := startChain(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	d := &driver{system: c, db: b.db, books: shopBooks, load: little}
	if err := d.burst(t.Context(), 20); err != nil {
		t.Error(err)
	}
	if err := c.stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	check := func() error {
		return errors.Join(checkRows(t.Context(), b.db, 20), checkRules(t.Context(), b.db, chainRules(20)))
	}
	if err := check(); err != nil {
		t.Fatalf("rows of an orderly run: %v", err)
	}
	const one = ` (SELECT min(id) FROM ordering.orders)`
	for _, test := range []struct{ name, harm, heal, want string }{
		{"an order that isn't confirmed", `UPDATE ordering.orders SET status = 'paid' WHERE id =` + one,
			`UPDATE ordering.orders SET status = 'confirmed'`, "not confirmed"},
		{"a step taken twice", `INSERT INTO ordering.order_history (order_id, status) SELECT` + one + `, 'confirmed'`,
			`DELETE FROM ordering.order_history WHERE id = (SELECT max(id) FROM ordering.order_history)`, "history is not"},
		{"a payment of another amount", `UPDATE payment.payments SET amount_cents = 1 WHERE order_id =` + one,
			`UPDATE payment.payments SET amount_cents = 8997`, "exactly one payment"},
		{"stock taken twice", `UPDATE inventory.stock SET available = available - 1, reserved = reserved + 1 WHERE sku = 'SKU-00001'`,
			`UPDATE inventory.stock SET available = available + 1, reserved = reserved - 1 WHERE sku = 'SKU-00001'`, "stock is not"},
		{"a customer told twice", `INSERT INTO notification.notifications (order_id, kind, body) SELECT` + one + `, 'paid', ''`,
			`DELETE FROM notification.notifications WHERE body = ''`, "not told"},
		{"a payment of no order", `INSERT INTO payment.payments (order_id, amount_cents, state) VALUES (-1, 1, 'authorized')`,
			`DELETE FROM payment.payments WHERE order_id = -1`, "belong to no order"},
		{"a message left over", `INSERT INTO messaging.outbox_payment (message_id, kind, payload) VALUES (gen_random_uuid(), 'x', '')`,
			`DELETE FROM messaging.outbox_payment`, "left in the outbox of payment"},
		{"a message handled by nobody", `UPDATE messaging.inbox_ordering SET outcome = 'ignored'`,
			`UPDATE messaging.inbox_ordering SET outcome = 'done'`, "in the inbox of ordering"},
	} {
		if _, err := b.db.Exec(test.harm); err != nil {
			t.Fatalf("%s: %v", test.name, err)
		}
		err := check()
		like(t, test.name, err, test.want)
		if _, err := b.db.Exec(test.heal); err != nil {
			t.Fatalf("%s: %v", test.name, err)
		}
	}
	if err := check(); err != nil {
		t.Errorf("rows put right again: %v", err)
	}
	if err := checkRows(t.Context(), b.db, 21); err == nil || !strings.Contains(err.Error(), "20 orders of 21") {
		t.Errorf("an order too few: got %v", err)
	}
}

// TestRival speaks to a process as to a contender.
func TestRival(t *testing.T) {
	t.Parallel()
	r := newTestRun(t)
	tests := []struct{ name, script, startFails, placeFails, stopFails string }{
		{"a process that stores orders", "echo ready\nwhile read id rest; do echo placed $id; done", "", "", ""},
		{"a process that refuses an order", "echo ready\nwhile read id rest; do echo \"failed $id: sold out\"; done", "", "sold out", ""},
		{"a process that dies with an order", "echo ready\nread id rest\necho it hurts >&2\nexit 3", "", "has ended", "it hurts"},
		{"a process that never gets ready", "echo no database >&2\nexit 1", "no database", "", ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			b, err := r.stand.newBase(t.Context(), "rival")
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := b.drop(context.Background()); err != nil {
					t.Error(err)
				}
			}()
			program := filepath.Join(t.TempDir(), "contender")
			if err := os.WriteFile(program, []byte("#!/bin/sh\n"+test.script+"\n"), 0o755); err != nil {
				t.Fatal(err)
			}
			p, err := startRival(t.Context(), b, program, contender{name: "any", atOnce: 1})
			like(t, "start", err, test.startFails)
			if err != nil {
				return
			}
			_, err = p.place(t.Context())
			like(t, "place", err, test.placeFails)
			like(t, "stop", p.stop(t.Context()), test.stopFails)
		})
	}
}

// like fails t unless err has text in it; "" wants no error.
func like(t *testing.T, what string, err error, text string) {
	t.Helper()
	if (err == nil) != (text == "") || err != nil && !strings.Contains(err.Error(), text) {
		t.Errorf("%s: got error %v, want %q", what, err, text)
	}
}
