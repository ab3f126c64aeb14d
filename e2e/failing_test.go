package e2e

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
)

// The handlers' faults: how often a message fails before it is dead, how long a
// handler takes whose message is leased for 10 s.
const (
	lastAttempt = 8
	beyondLease = 12 * time.Second
)

// victim is a message that its handler fails at.
type victim struct {
	queue, kind string
	reason      string // part of why it is dead in the end
	order       string // id, set when it is placed
}

// failing has single messages fail again and again while their neighbours go on: by
// a panic, in a handler that has talked to the provider, too; by an SQL error in the
// transaction; and two that take longer than their lease: one that talks to the
// outside, whose lease is renewed, and one in a transaction, which is cut off.
func failing(t *testing.T, s *Stack, base LoadResult) {
	c := NewCustomer(t, s.URL)
	sentBack, refunded := c.Place(t, wish("FILTER-01", "tok_ok")).ID, c.Place(t, wish("FILTER-01", "tok_ok")).ID
	if err := errors.Join(c.arrive(t, sentBack, 10*goesOn), c.arrive(t, refunded, 10*goesOn)); err != nil {
		t.Fatal(err)
	}
	s.relaunch(t, "orders", "FAULT_SQL=inventory.stock_reserved=8")
	s.relaunch(t, "notifications", "FAULT_SQL=orders.order_confirmed=8")
	s.relaunch(t, "payments", "FAULT_PANIC=payments.authorize_payment=8", fmt.Sprintf("FAULT_SLOW=payments.refund_payment=%s", beyondLease))
	s.relaunch(t, "inventory", "FAULT_PANIC=inventory.fulfil_order=8", fmt.Sprintf("FAULT_SLOW=inventory.expect_return=%s", beyondLease))
	s.WaitReady(t, services...)

	// The faults hit the first message of their kind: so each order meets one, in the
	// order of its way, and the next order gets past it.
	victims := []*victim{
		{queue: "orders", kind: "inventory.stock_reserved", reason: "SQLSTATE 22012"},
		{queue: "payments", kind: "payments.authorize_payment", reason: "panic: FAULT_PANIC"},
		{queue: "inventory", kind: "inventory.fulfil_order", reason: "panic: FAULT_PANIC"},
		{queue: "notifications", kind: "orders.order_confirmed", reason: "SQLSTATE 22012"},
	}
	var placed []string
	for _, v := range victims {
		if v.queue != "notifications" { // told of the one that fails in inventory
			placed = append(placed, c.Place(t, wish("FILTER-01", "tok_ok")).ID)
		}
		v.order = placed[len(placed)-1]
		s.awaitFailures(t, v.queue, v.kind, v.order, 1)
	}
	Must[any](t, c, http.StatusAccepted, http.MethodPost, "/v1/orders/"+sentBack+"/returns",
		map[string]any{"lines": []Line{{"FILTER-01", 1}}}, "Idempotency-Key", uuid.NewString())
	Must[any](t, c, http.StatusAccepted, http.MethodPost, "/v1/orders/"+refunded+"/refunds",
		map[string]any{"lines": []Line{{"FILTER-01", 1}}, "reason": "goodwill"}, "Idempotency-Key", uuid.NewString(), "X-Role", "operator")
	got := s.Load(t, loadRate, scaled(3*time.Second, 30*time.Second)).Wait(t)

	// Each is a dead letter, once, after all its attempts; the slow one was cut off.
	failures, slowest := scaled(2, lastAttempt), &victim{queue: "inventory", kind: "inventory.expect_return", reason: "time limit", order: sentBack}
	s.awaitFailures(t, slowest.queue, slowest.kind, slowest.order, failures)
	if failures == lastAttempt {
		victims = append(victims, slowest)
	}
	started := time.Now()
	dead := s.awaitDead(t, len(victims))
	t.Logf("%d messages failed until they were dead, %s after the load", len(victims), since(started))
	s.compareLoads(t, "beside failing handlers:", base, got)
	if len(dead) != len(victims) {
		t.Errorf("%d dead letters, want %d: %+v", len(dead), len(victims), dead)
	}
	for _, v := range victims {
		n := 0
		for _, d := range dead {
			if d.Queue == v.queue && d.Kind == v.kind && d.OrderID == v.order && d.Attempts == lastAttempt && strings.Contains(d.Reason, v.reason) {
				n++
			}
		}
		if n != 1 {
			t.Errorf("%s of order %s has %d dead letters in queue %s after %d attempts because of %q, want 1: %+v", v.kind, v.order, n, v.queue, lastAttempt, v.reason, dead)
		}
	}

	// The transaction of what is slow was cut: nothing of it is there before the fault ends.
	s.relaunch(t, "inventory")
	s.WaitReady(t, "inventory")
	s.shopctl(t, "dead", "retry", "--all", "--why", "mended")
	for _, id := range placed {
		if err := c.arrive(t, id, 10*goesOn); err != nil {
			t.Errorf("after its message was handled again: %v", err)
		}
	}
	for _, id := range []string{sentBack, refunded} {
		c.Await(t, id, "refunded")
	}
	s.checkLongRefund(t, refunded)
	s.checkOneAuthorization(t, victims[1].order)
	CheckShop(t, s.DSN("", ""), append(placed, sentBack, refunded)...)
	CheckLoad(t, s.Admin, got)
}

// relaunch ends the service in order and starts it with the settings of extra.
func (s *Stack) relaunch(t testing.TB, service string, extra ...string) {
	t.Helper()
	s.Terminate(t, service)
	s.Launch(t, service, extra...)
}

// awaitFailures waits until the message of that kind about the order has failed so
// often.
func (s *Stack) awaitFailures(t testing.TB, queue, kind, order string, failures int) {
	t.Helper()
	eventually(t, 2*time.Minute, func() error {
		var got int
		err := s.Admin.GetContext(t.Context(), &got, `
			SELECT coalesce(max(attempts - (token IS NOT NULL)::integer), 0)
			FROM messaging.queue_`+queue+`
			WHERE kind = $1 AND order_id = $2`, kind, order)
		if err == nil && got < failures {
			err = fmt.Errorf("%s of order %s has failed %d times, want %d: the fault must hit", kind, order, got, failures)
		}
		return err
	})
}

// checkLongRefund checks that the refund of the order took longer than its lease, and
// was one consumer's all the time.
func (s *Stack) checkLongRefund(t testing.TB, order string) {
	t.Helper()
	var took struct {
		Attempts int     `db:"attempts"`
		Seconds  float64 `db:"seconds"`
	}
	err := s.Admin.GetContext(t.Context(), &took, `
		SELECT max(attempts) AS attempts, coalesce(max(extract(epoch FROM ran)), 0)::float8 AS seconds
		FROM messaging.inbox_payments
		WHERE kind = 'payments.refund_payment' AND order_id = $1`, order)
	if err != nil {
		t.Fatalf("look how order %s was refunded: %v", order, err)
	}
	t.Logf("a refund took %.1f s at attempt %d; its lease is 10 s", took.Seconds, took.Attempts)
	if took.Attempts != 1 || took.Seconds < beyondLease.Seconds() {
		t.Errorf("the refund of order %s took %.1f s and %d attempts, want %s at least, and 1", order, took.Seconds, took.Attempts, beyondLease)
	}
}

// checkOneAuthorization checks that the provider set money aside once for the order.
func (s *Stack) checkOneAuthorization(t testing.TB, order string) {
	t.Helper()
	var n int
	err := s.Admin.GetContext(t.Context(), &n, `SELECT count(*) FROM paysim.operations WHERE kind = 'authorize' AND reference = $1`, order)
	if err != nil {
		t.Fatalf("read the provider's books about order %s: %v", order, err)
	}
	if n != 1 {
		t.Errorf("the provider set money aside %d times for order %s, want 1", n, order)
	}
}
