package simulation

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"example.com/orderflow/messaging"
	"example.com/orderflow/messaging/contracts"
	"example.com/orderflow/messaging/httpapi"
	"example.com/orderflow/messaging/messagingtest"
	"example.com/orderflow/payments"
	"example.com/orderflow/services/internal/paysim"
)

// realPayments is the payments service on its database, with the provider simulator.
type realPayments struct {
	t   *testing.T
	db  *messagingtest.DB
	url string
}

const (
	providerKey    = "key-of-the-tests"
	providerSecret = "whsec_c2VjcmV0LW9mLXRoZS10ZXN0cw=="
)

func newRealPayments(t *testing.T) *realPayments {
	t.Helper()
	db := messagingtest.NewDB(t, payments.Spec(), paysim.Spec())
	provider, err := paysim.New(paysim.Config{APIKey: providerKey, Hang: time.Second, WebhookSecret: providerSecret, WebhookPoll: time.Second},
		db.Service("paysim"), messagingtest.Log(t))
	if err != nil {
		t.Fatal(err)
	}
	mux := httpapi.NewMux(messagingtest.Log(t))
	provider.Routes(mux)
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- provider.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run the provider: %v", err)
		}
	})
	bus := db.NewBus(t, payments.Spec())
	cfg := payments.Config{ProviderURL: server.URL, ProviderKey: providerKey, ProviderWebhookSecret: providerSecret, ProviderTimeout: 10 * time.Second}
	if _, err := payments.New(cfg, db.Service("payments"), bus, messagingtest.Log(t)); err != nil {
		t.Fatal(err)
	}
	messagingtest.Run(t, bus)
	return &realPayments{t, db, server.URL}
}

// conduct makes the next request of op go wrong.
func (r *realPayments) conduct(op payments.Operation, misdeed string) {
	r.t.Helper()
	body := fmt.Sprintf(`{"rules": [{"operation": %q, "misdeed": %q, "count": 1}]}`, op, misdeed)
	req, err := http.NewRequestWithContext(r.t.Context(), http.MethodPut, r.url+"/provider/v1/admin/conduct", strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+providerKey)
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	if err := res.Body.Close(); err != nil || res.StatusCode != http.StatusOK {
		r.t.Fatalf("set the conduct: status %d, error %v", res.StatusCode, err)
	}
}

// realMisdeeds are what the simulator calls the model's misdeeds.
var realMisdeeds = map[misdeed]string{
	lostBefore: "error_before", lostAfter: "error_after", storedBefore: "error_stored", storedAfter: "error_stored_after",
	stuck: "error_stuck", forgotten: "forgotten", refused: "refused", tooMany: "too_many",
}

// always is chance that chooses the second of whatever there is: a capture that is
// refused is not because the authorization has expired.
type always struct{}

func (always) below(n int) int { return min(1, n-1) }

// TestModelOfPaymentsIsTrue has the same random commands, and the same misdeeds of
// the provider, come to the models of payments and provider and to the real ones:
// answers, rows, ledger and the provider's books are the same.
func TestModelOfPaymentsIsTrue(t *testing.T) {
	t.Parallel()
	customers, steps := 8, 9
	if long() {
		customers, steps = 60, 12
	}
	r := newRealPayments(t)
	seen := map[string]int{}
	for seed := range uint64(customers) {
		dice := newDice(seed)
		w := newWorld(always{}, nothing, newTally())
		w.calm, w.provider.next = true, map[payments.Operation]misdeed{}
		base := fmt.Sprintf("00000000-0000-7000-9000-%08d", seed)
		c := contracts.AuthorizePayment{PaymentID: base + "0001", OrderID: base + "0002", CustomerID: "c", Attempt: 1, AmountMinor: 2000, Currency: "EUR", MethodToken: "tok_ok"}
		w.orders = []*order{{}}
		w.orders[0].ID = c.OrderID
		for n := range steps {
			m, op := command(dice, c, base, n)
			if a, ok := m.(contracts.AuthorizePayment); ok {
				c.Attempt = a.Attempt
			}
			if dice.below(2) == 0 {
				bad := []misdeed{lostBefore, lostAfter, storedBefore, storedAfter, stuck, forgotten, refused, refused, tooMany}[dice.below(9)]
				clear(w.provider.next)
				w.provider.next[op] = bad
				r.conduct(op, realMisdeeds[bad])
			} else {
				clear(w.provider.next)
				r.conduct("books", "error_before") // takes the place of a rule that nothing has come to
			}
			outcome := r.db.Deliver(t, m)[0]
			before := len(w.letters)
			dead := w.answer(m)
			if (outcome != "done") != dead {
				t.Errorf("seed %d: %T%+v: outcome %q, dead in the model: %v", seed, m, m, outcome, dead)
			}
			var sends []messaging.Body
			for _, l := range w.letters[before:] {
				if l.to == "orders" {
					sends = append(sends, l.body)
				}
			}
			var got []string
			for _, p := range r.db.Published(t, "payments") {
				got = append(got, timeless(t, p.Kind, p.Payload))
				seen[p.Kind]++
			}
			if want := said(t, sends); !slices.Equal(got, want) {
				t.Errorf("seed %d: %T%+v is answered\n%s\nin the model\n%s", seed, m, m, got, want)
			}
			if got, want := r.rows(c.PaymentID, c.OrderID), w.paymentRows(c.PaymentID, c.OrderID); got != want {
				t.Errorf("seed %d: after %T%+v the database has\n%s\nthe model\n%s", seed, m, m, got, want)
			}
			if t.Failed() {
				t.FailNow()
			}
		}
	}
	for _, kind := range payments.Spec().Speaks {
		if seen[kind] == 0 {
			t.Errorf("%s was never said: %v", kind, seen)
		}
	}
}

// command is the nth command about the payment of c.
func command(d dice, c contracts.AuthorizePayment, base string, n int) (messaging.Body, payments.Operation) {
	switch k := d.below(12); {
	case n == 0 || k < 2:
		return c, payments.OpAuthorize
	case k < 3:
		c.Attempt++
		return c, payments.OpAuthorize
	case k < 7:
		id := fmt.Sprintf("%s1%03d", base, c.Attempt)
		return contracts.CapturePayment{PaymentID: c.PaymentID, Attempt: c.Attempt, CaptureID: id, OrderID: c.OrderID, AmountMinor: 1500}, payments.OpCapture
	case k < 8:
		return contracts.VoidPayment{PaymentID: c.PaymentID, Attempt: c.Attempt, OrderID: c.OrderID}, payments.OpVoid
	}
	id := fmt.Sprintf("%s2%03d", base, d.below(3))
	return contracts.RefundPayment{RefundID: id, PaymentID: c.PaymentID, OrderID: c.OrderID, AmountMinor: 700, Reason: "returned"}, payments.OpRefund
}

// answer has the model handle m, again and again until it is done; it reports whether
// it is dead.
func (w *world) answer(m messaging.Body) bool {
	l := &letter{n: len(w.letters), to: "payments", body: m}
	w.letters = append(w.letters, l)
	d := &delivery{letter: l}
	for l.done == 0 && !l.buried {
		w.claim(d)
		for len(w.jobs) > 0 {
			w.carryOn(w.jobs[0])
		}
	}
	return l.buried
}

// rows are the payment's rows, and what the provider has of it, as one text.
func (r *realPayments) rows(paymentID, orderID string) string {
	r.t.Helper()
	var text string
	err := r.db.Admin.Get(&text, `
		SELECT coalesce((SELECT string_agg(format(E'attempt %s %s %s %s %s\n', attempt, status, amount_minor, captured_minor, coalesce(reason_code, '')), '' ORDER BY attempt)
		          FROM payments.attempts WHERE payment_id = $1), '') ||
		       coalesce((SELECT string_agg(format(E'refund %s %s %s %s\n', id, status, try, coalesce(reason_code, '')), '' ORDER BY id)
		          FROM payments.refunds WHERE payment_id = $1), '') ||
		       coalesce((SELECT string_agg(format(E'ledger %s %s\n', kind, amount_minor), '' ORDER BY id) FROM payments.ledger WHERE payment_id = $1), '') ||
		       coalesce((SELECT string_agg(format(E'provider %s %s %s\n', status, captured_minor, refunded_minor), '' ORDER BY created_at)
		          FROM paysim.authorizations WHERE reference = $2), '')`, paymentID, orderID)
	if err != nil {
		r.t.Fatal(err)
	}
	return text
}

// paymentRows are the same of the model.
func (w *world) paymentRows(paymentID, orderID string) string {
	var b strings.Builder
	if p := w.desk.find(paymentID); p != nil {
		for _, a := range p.Attempts {
			fmt.Fprintf(&b, "attempt %d %s %d %d %s\n", a.Number, a.Status, a.AmountMinor, a.CapturedMinor, a.ReasonCode)
		}
		refunds := slices.SortedFunc(slices.Values(p.Repayments), func(a, b payments.Repayment) int { return strings.Compare(a.ID, b.ID) })
		for _, f := range refunds {
			fmt.Fprintf(&b, "refund %s %s %d %s\n", f.ID, f.Status, f.Try, f.ReasonCode)
		}
	}
	for _, l := range w.desk.ledger {
		fmt.Fprintf(&b, "ledger %s %d\n", l.kind, l.amount)
	}
	names := map[payments.Outcome]string{
		payments.Approved: "authorized", payments.Refused: "declined", payments.Closed: "voided", payments.Lapsed: "expired", payments.Taken: "captured",
	}
	for _, a := range w.provider.auths {
		if a.reference == orderID {
			fmt.Fprintf(&b, "provider %s %d %d\n", names[a.Status], a.CapturedMinor, a.RefundedMinor)
		}
	}
	return b.String()
}
