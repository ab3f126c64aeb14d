package paysim_test

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"example.com/orderflow/messaging"
	"example.com/orderflow/messaging/contracts"
	"example.com/orderflow/messaging/messagingtest"
)

const refundID = "01890000-0000-7000-8000-000000000004"

// short makes the time-out of calls short: most tests of misdeeds wait for it.
func short(c *shopConfig) { c.payments.ProviderTimeout = 400 * time.Millisecond }

func refund(amount int64) contracts.RefundPayment {
	return contracts.RefundPayment{RefundID: refundID, PaymentID: paymentID, OrderID: orderID, AmountMinor: amount, Reason: "returned"}
}

// Every misdeed, of every operation: the command is answered once it is known what
// happened, and the provider's books have the money moved once.
func TestEveryMisdeedEndsWithOneEffect(t *testing.T) {
	t.Parallel()
	s := newShop(t, short)
	type play struct {
		name  string
		op    string
		c     contracts.AuthorizePayment
		kinds string // of the events, in order
		books []string
	}
	var plays []play
	for _, op := range []string{"authorize", "capture", "void", "refund"} {
		for _, m := range []string{
			"slow", "timeout_before", "timeout_after", "error_before", "error_after", "error_stored", "error_stored_after", "error_stuck",
			"reset", "too_many", "down", "late", "forgotten",
		} {
			if op == "refund" && m == "error_stuck" {
				continue // it fails, and is tried anew by whoever wants it: TestRefusals
			}
			p := play{name: op + " " + m, op: op, c: authorize(1, "tok_"+op+"_"+m), kinds: "authorized", books: []string{"authorize 1250"}}
			p.c.PaymentID, p.c.OrderID = uuid.NewString(), uuid.NewString()
			switch op {
			case "void":
				p.kinds, p.books = p.kinds+", voided", append(p.books, "void 1250")
			case "capture":
				p.kinds, p.books = p.kinds+", captured", append(p.books, "capture 1250")
			case "refund":
				p.kinds, p.books = p.kinds+", captured, refund_succeeded", append(p.books, "capture 1250", "refund 1000")
			}
			plays = append(plays, p)
		}
	}
	told := map[string][]string{} // by order
	stage := func(of func(play) messaging.Body) {
		t.Helper()
		var commands []messaging.Body
		var names []string
		for _, p := range plays {
			if c := of(p); c != nil {
				commands, names = append(commands, c), append(names, p.name)
			}
		}
		for i, got := range s.db.Deliver(t, commands...) {
			if got != "done" {
				t.Errorf("%s: %s: got outcome %q, want done", names[i], commands[i].Kind(), got)
			}
		}
		for _, m := range s.db.Published(t, "payments") {
			told[m.OrderID] = append(told[m.OrderID], eventName(m.Kind))
		}
	}
	stage(func(p play) messaging.Body { return p.c })
	stage(func(p play) messaging.Body {
		switch p.op {
		case "void":
			return contracts.VoidPayment{PaymentID: p.c.PaymentID, Attempt: 1, OrderID: p.c.OrderID}
		case "capture", "refund":
			return contracts.CapturePayment{PaymentID: p.c.PaymentID, Attempt: 1, CaptureID: uuid.NewString(), OrderID: p.c.OrderID, AmountMinor: 1250}
		}
		return nil
	})
	stage(func(p play) messaging.Body {
		if p.op == "refund" {
			return contracts.RefundPayment{RefundID: uuid.NewString(), PaymentID: p.c.PaymentID, OrderID: p.c.OrderID, AmountMinor: 1000, Reason: "returned"}
		}
		return nil
	})
	for _, p := range plays {
		if got := strings.Join(told[p.c.OrderID], ", "); got != p.kinds {
			t.Errorf("%s: published: got %q, want %q", p.name, got, p.kinds)
		}
		s.wantSucceededOf(p.c.OrderID, p.books...)
	}
	s.wantNoBreaks()
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name     string
		commands []messaging.Body
		events   string
		books    []string
	}{
		{
			"a capture that is refused closes its authorization, and stays refused",
			[]messaging.Body{authorize(1, "tok_capture_refused"), capture(1), capture(1)},
			"authorized, capture_failed, capture_failed", []string{"authorize 1250", "void 1250"},
		},
		{
			"an authorization that has expired can't be captured, and needs no void",
			[]messaging.Body{authorize(1, "tok_capture_expired"), capture(1), void(1)},
			"authorized, capture_failed, voided", []string{"authorize 1250", "expire 1250"},
		},
		{
			"another method is captured after a capture that failed",
			[]messaging.Body{authorize(1, "tok_capture_refused"), capture(1), authorize(2, "tok_ok"), captureAs(2, otherID)},
			"authorized, capture_failed, authorized, captured", []string{"authorize 1250", "void 1250", "authorize 1250", "capture 1250"},
		},
		{
			"a void that is refused is tried anew, under another key",
			[]messaging.Body{authorize(1, "tok_void_refused"), void(1), void(1), void(1)},
			"authorized, void_refused, voided, voided", []string{"authorize 1250", "void 1250"},
		},
		{
			"what is captured can't be voided",
			[]messaging.Body{authorize(1, "tok_ok"), capture(1), void(1), void(1)},
			"authorized, captured, void_refused, void_refused", []string{"authorize 1250", "capture 1250"},
		},
		{
			"a refund that is refused is tried anew, under another key",
			[]messaging.Body{authorize(1, "tok_refund_refused"), capture(1), refund(1000), refund(1000), refund(1000)},
			"authorized, captured, refund_failed, refund_succeeded, refund_succeeded", []string{"authorize 1250", "capture 1250", "refund 1000"},
		},
		{
			"a refund whose key is stuck fails, and is tried anew under another",
			[]messaging.Body{authorize(1, "tok_refund_error_stuck"), capture(1), refund(1000), refund(1000)},
			"authorized, captured, refund_failed, refund_succeeded", []string{"authorize 1250", "capture 1250", "refund 1000"},
		},
		{
			"more than was captured isn't refunded",
			[]messaging.Body{authorize(1, "tok_ok"), refund(1), capture(1), refund(1251)},
			"authorized, refund_failed, captured, refund_failed", []string{"authorize 1250", "capture 1250"},
		},
		{
			"a method that is refused by a rule of its own is declined",
			[]messaging.Body{authorize(1, "tok_authorize_refused")},
			"declined", nil,
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := newShop(t, short)
			if got := s.deliver(tc.commands...); got != tc.events {
				t.Errorf("published: got %q, want %q", got, tc.events)
			}
			s.wantSucceeded(tc.books...)
			s.wantNoBreaks()
		})
	}
}

// The issue's own sentence: time-out after the effect, so many times; so many single
// charges. It is 200 with ORDERFLOW_LONG=1.
func TestTimeoutsAfterTheEffectChargeOnce(t *testing.T) {
	t.Parallel()
	n := 20
	if os.Getenv("ORDERFLOW_LONG") != "" {
		n = 200
	}
	s := newShop(t, short)
	s.conduct("authorize", "timeout_after", n)
	list := make([]messaging.Body, n)
	for i := range list {
		c := authorize(1, "tok_ok")
		c.PaymentID, c.OrderID = uuid.NewString(), uuid.NewString()
		list[i] = c
	}
	for i, got := range s.db.Deliver(t, list...) {
		if got != "done" {
			t.Errorf("payment %d: got outcome %q, want done", i, got)
		}
	}
	kinds := messagingtest.Kinds(s.db.Published(t, "payments"))
	if len(kinds) != n || slices.ContainsFunc(kinds, func(k string) bool { return k != contracts.KindPaymentAuthorized }) {
		t.Errorf("published: got %d events %v, want %d authorizations", len(kinds), kinds, n)
	}
	charged := map[string]int{}
	for _, e := range s.books("") {
		charged[e.Reference]++
	}
	if len(charged) != n {
		t.Errorf("provider's books: got %d orders, want %d", len(charged), n)
	}
	for order, times := range charged {
		if times != 1 {
			t.Errorf("order %s was charged %d times, want once", order, times)
		}
	}
	var left int
	err := s.db.Admin.Get(&left, `SELECT count(*) FROM payments.provider_calls WHERE answered_at IS NULL OR try > 1`)
	if err != nil || left != 0 {
		t.Errorf("calls without an answer, or under a second key: got %d, %v, want none", left, err)
	}
	s.wantNoBreaks()
}

// A provider that is down lets nothing through, and everything goes on once it is
// back; meanwhile it is left alone, and what needs no provider is handled at once.
func TestTheBreakerLeavesAProviderAloneThatIsDown(t *testing.T) {
	t.Parallel()
	s := newShop(t, short)
	if got := s.deliver(authorize(1, "tok_ok")); got != "authorized" {
		t.Fatalf("published: got %q, want authorized", got)
	}
	if r := s.do("PUT", "/admin/conduct", "", rules(map[string]any{"misdeed": "down", "seconds": 3})); r.status != 200 {
		t.Fatalf("set the conduct: got %d %s", r.status, r.body)
	}
	const n = 12
	waiting := make([]messaging.Body, n)
	for i := range waiting {
		c := authorize(1, "tok_ok")
		c.PaymentID, c.OrderID = uuid.NewString(), uuid.NewString()
		waiting[i] = c
		s.db.Send(t, c)
	}
	messagingtest.Wait(t, "the breaker to open", func() bool {
		var n int
		err := s.db.Admin.Get(&n, `SELECT count(*) FROM messaging.queue_payments WHERE last_error LIKE '%is left alone%'`)
		return err == nil && n > 0
	})
	begun := time.Now()
	if got := s.deliver(authorize(1, "tok_ok")); !strings.Contains(got, "authorized") || time.Since(begun) > 2*time.Second {
		t.Errorf("an answer on record: got %q after %s, want authorized at once", got, time.Since(begun))
	}
	messagingtest.Wait(t, "every payment to go on", func() bool {
		done := 0
		err := s.db.Admin.Get(&done, `SELECT count(*) FROM payments.attempts WHERE status = 'authorized'`)
		return err == nil && done == n+1
	})
	if got := len(s.books("")); got != n+1 {
		t.Errorf("provider's books: got %d rows, want %d", got, n+1)
	}
}

func TestRetryAfterIsHonoured(t *testing.T) {
	t.Parallel()
	s := newShop(t, short)
	s.do("PUT", "/admin/conduct", "", rules(map[string]any{"operation": "authorize", "misdeed": "too_many", "count": 1, "delay_ms": 2000}))
	begun := time.Now()
	if got := s.deliver(authorize(1, "tok_ok")); got != "authorized" || time.Since(begun) < 2*time.Second {
		t.Errorf("got %q after %s, want authorized, no sooner than after 2 s", got, time.Since(begun))
	}
	s.wantSucceeded("authorize 1250")
}

// A void and a capture at the same moment: one of them wins, both are told, and the
// books agree. So it is with two refunds of what only one can have.
func TestRaces(t *testing.T) {
	t.Parallel()
	n := 10
	if os.Getenv("ORDERFLOW_LONG") != "" {
		n = 200
	}
	s := newShop(t)
	var captured, voided atomic.Int32
	for i := range n {
		c := authorize(1, "tok_ok")
		c.PaymentID, c.OrderID = uuid.NewString(), uuid.NewString()
		s.deliver(c)
		take := contracts.CapturePayment{PaymentID: c.PaymentID, Attempt: 1, CaptureID: uuid.NewString(), OrderID: c.OrderID, AmountMinor: 1250}
		give := contracts.VoidPayment{PaymentID: c.PaymentID, Attempt: 1, OrderID: c.OrderID}
		both := []messaging.Body{unordered{take}, unordered{give}}
		if i%2 == 1 {
			slices.Reverse(both)
		}
		for j, got := range s.db.Deliver(t, both...) {
			if got != "done" {
				t.Errorf("race %d, command %d: got outcome %q, want done", i, j, got)
			}
		}
		kinds := messagingtest.Kinds(s.db.Published(t, "payments"))
		slices.Sort(kinds)
		switch strings.Join(kinds, " ") {
		case contracts.KindPaymentCaptured + " " + contracts.KindPaymentVoidRefused:
			captured.Add(1)
			s.raceRefunds(c)
		case contracts.KindCaptureFailed + " " + contracts.KindPaymentVoided:
			voided.Add(1)
		default:
			t.Errorf("race %d: got %v, want captured and not voided, or the other way round", i, kinds)
		}
	}
	t.Logf("captured %d, voided %d", captured.Load(), voided.Load())
	s.wantNoBreaks()
}

// raceRefunds asks at once for two refunds of 700 of 1250: one is given.
func (s shop) raceRefunds(c contracts.AuthorizePayment) {
	s.t.Helper()
	two := make([]messaging.Body, 2)
	for i := range two {
		two[i] = unordered{contracts.RefundPayment{
			RefundID: uuid.NewString(), PaymentID: c.PaymentID, OrderID: c.OrderID, AmountMinor: 700, Reason: "returned",
		}}
	}
	s.db.Deliver(s.t, two...)
	kinds := messagingtest.Kinds(s.db.Published(s.t, "payments"))
	slices.Sort(kinds)
	if fmt.Sprint(kinds) != fmt.Sprint([]string{contracts.KindRefundFailed, contracts.KindRefundSucceeded}) {
		s.t.Errorf("two refunds at once: got %v, want one given and one refused", kinds)
	}
}

// unordered is a command that nothing orders, as a redriven one.
type unordered struct{ messaging.Body }

func (unordered) Lane() string { return "" }

func (u unordered) MarshalJSON() ([]byte, error) { return json.Marshal(u.Body) }

// The void finds nothing at the provider, whose request comes later all the same.
func TestNothingIsLeftOpenByARequestThatComesLate(t *testing.T) {
	t.Parallel()
	s := newShop(t, short)
	s.do("PUT", "/admin/conduct", "", rules(map[string]any{"operation": "authorize", "misdeed": "late", "count": 1, "delay_ms": 1500}))
	begun := time.Now()
	late, _ := s.db.Send(t, unordered{authorize(1, "tok_ok")})
	messagingtest.Wait(t, "the attempt to be unknown", func() bool {
		var n int
		err := s.db.Admin.Get(&n, `SELECT count(*) FROM payments.attempts WHERE status IN ('unknown', 'authorized')`)
		return err == nil && n == 1
	})
	if got := s.db.Deliver(t, unordered{void(1)})[0]; got != "done" {
		t.Errorf("void: got outcome %q, want done", got)
	}
	messagingtest.Wait(t, "message "+late, func() bool {
		var n int
		err := s.db.Admin.Get(&n, `SELECT count(*) FROM messaging.queue_payments`)
		return err == nil && n == 0
	})
	messagingtest.Wait(t, "the late request to have come", func() bool { return time.Since(begun) > 2500*time.Millisecond })
	s.wantSucceeded("authorize 1250", "void 1250")
	s.wantNoBreaks()
}
