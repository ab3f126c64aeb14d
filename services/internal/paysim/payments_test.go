package paysim_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"example.com/orderflow/messaging"
	"example.com/orderflow/messaging/contracts"
	"example.com/orderflow/messaging/messagingtest"
	"example.com/orderflow/payments"
	"example.com/orderflow/services/internal/paysim"
)

const (
	paymentID = "01890000-0000-7000-8000-000000000001"
	orderID   = "01890000-0000-7000-8000-000000000002"
	captureID = "01890000-0000-7000-8000-000000000003"
	otherID   = "01890000-0000-7000-8000-000000000009"
)

// shop is payments and the provider as they run: two schemas, HTTP between them.
type shop struct {
	caller
	db      *messagingtest.DB
	service *payments.Service
}

// shopConfig is what a test may change of both.
type shopConfig struct {
	payments payments.Config
	paysim   paysim.Config
}

func newShop(t *testing.T, options ...func(*shopConfig)) shop {
	t.Helper()
	db := messagingtest.NewDB(t, payments.Spec(), paysim.Spec())
	cfg := shopConfig{payments: payments.Config{ProviderKey: apiKey, ProviderWebhookSecret: webhookSecret, ProviderTimeout: 10 * time.Second}}
	for _, o := range options {
		o(&cfg)
	}
	cfg.payments.ProviderURL = serve(t, db, func(c *paysim.Config) { c.WebhookURL = cfg.paysim.WebhookURL })
	bus := db.NewBus(t, payments.Spec())
	service, err := payments.New(cfg.payments, db.Service("payments"), bus, messagingtest.Log(t))
	if err != nil {
		t.Fatalf("make payments: %v", err)
	}
	messagingtest.Run(t, bus)
	return shop{caller{t, cfg.payments.ProviderURL}, db, service}
}

// deliver delivers commands one after the other, each once its predecessor is
// handled, and returns what was published as "<event> <attempt>".
func (s shop) deliver(commands ...messaging.Body) string {
	s.t.Helper()
	for _, c := range commands {
		if got := s.db.Deliver(s.t, c)[0]; got != "done" {
			s.t.Errorf("%s: got outcome %q, want done", c.Kind(), got)
		}
	}
	var list []string
	for _, m := range s.db.Published(s.t, "payments") {
		list = append(list, eventName(m.Kind))
	}
	return strings.Join(list, ", ")
}

// eventName is the part of a kind that tells one from another.
func eventName(kind string) string {
	return strings.TrimPrefix(strings.TrimPrefix(kind, "payments."), "payment_")
}

// wantOperations checks the provider's books of the order: "<attempt> <kind> <amount>".
func (s shop) wantOperations(want ...string) {
	s.t.Helper()
	got := []string{}
	for _, e := range s.books("reference=" + orderID) {
		got = append(got, fmt.Sprintf("%s %s %d %s", strings.Split(e.Key, ":")[1], e.Kind, e.AmountMinor, e.Status))
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		s.t.Errorf("provider's books: got %q, want %q", got, want)
	}
}

// wantSucceeded checks the provider's books of the order, refusals of banks apart:
// "<kind> <amount>"; and that our ledger has what moved.
func (s shop) wantSucceeded(want ...string) {
	s.t.Helper()
	s.wantSucceededOf(orderID, want...)
}

func (s shop) wantSucceededOf(orderID string, want ...string) {
	s.t.Helper()
	got := []string{}
	for _, e := range s.books("status=succeeded&reference=" + orderID) {
		got = append(got, fmt.Sprintf("%s %d", e.Kind, e.AmountMinor))
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		s.t.Errorf("provider's books of order %s: got %q, want %q", orderID, got, want)
	}
	moved := slices.DeleteFunc(slices.Clone(want), func(row string) bool {
		return !strings.HasPrefix(row, "capture") && !strings.HasPrefix(row, "refund")
	})
	ours := []string{}
	if err := s.db.Admin.Select(&ours, `SELECT kind || ' ' || amount_minor FROM payments.ledger WHERE order_id = $1 ORDER BY id`, orderID); err != nil {
		s.t.Fatalf("read the ledger: %v", err)
	}
	if fmt.Sprint(ours) != fmt.Sprint(moved) {
		s.t.Errorf("our ledger: got %q, want %q", ours, moved)
	}
}

// reconcile compares the two books and returns the breaks that are open then:
// "<what> <kind>".
func (s shop) reconcile() []string {
	s.t.Helper()
	c := contracts.ReconcilePayments{ReconciliationID: uuid.NewString(), From: time.Unix(0, 0).UTC(), Until: time.Now().Add(time.Minute).UTC()}
	if _, err := s.db.Admin.Exec(`INSERT INTO payments.reconciliations (id, from_at, until_at) VALUES ($1, $2, $3)`, c.ReconciliationID, c.From, c.Until); err != nil {
		s.t.Fatalf("note a reconciliation: %v", err)
	}
	if got := s.db.Deliver(s.t, c)[0]; got != "done" {
		s.t.Fatalf("reconcile: got outcome %q, want done", got)
	}
	breaks := []string{}
	if err := s.db.Admin.Select(&breaks, `
		SELECT what || ' ' || split_part(key, ' ', 1) FROM payments.breaks WHERE resolved_at IS NULL ORDER BY 1`); err != nil {
		s.t.Fatalf("read the breaks: %v", err)
	}
	return breaks
}

func (s shop) wantNoBreaks() {
	s.t.Helper()
	if got := s.reconcile(); len(got) > 0 {
		s.t.Errorf("breaks: got %q, want none", got)
	}
}

func captureAs(attempt int, id string) messaging.Body {
	return contracts.CapturePayment{PaymentID: paymentID, Attempt: attempt, CaptureID: id, OrderID: orderID, AmountMinor: 1250}
}

func authorize(attempt int, token string) contracts.AuthorizePayment {
	return contracts.AuthorizePayment{
		PaymentID: paymentID, Attempt: attempt, OrderID: orderID, CustomerID: "ann",
		AmountMinor: 1250, Currency: "EUR", MethodToken: token,
	}
}

func capture(attempt int) messaging.Body {
	return contracts.CapturePayment{PaymentID: paymentID, Attempt: attempt, CaptureID: captureID, OrderID: orderID, AmountMinor: 1250}
}

func void(attempt int) messaging.Body {
	return contracts.VoidPayment{PaymentID: paymentID, Attempt: attempt, OrderID: orderID}
}

func TestPaymentsOnTheProvider(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name     string
		commands []messaging.Body
		events   string
		books    []string
	}{
		{
			"authorized and captured, each repeated",
			[]messaging.Body{authorize(1, "tok_ok"), authorize(1, "tok_ok"), capture(1), capture(1), authorize(1, "tok_ok")},
			"authorized, authorized, captured, captured, authorized",
			[]string{"1 authorize 1250 succeeded", "1 capture 1250 succeeded"},
		},
		{
			"declined, then paid by another method",
			[]messaging.Body{authorize(1, "tok_declined"), authorize(1, "tok_declined"), authorize(2, "tok_slow"), capture(2)},
			"declined, declined, authorized, captured",
			[]string{"1 authorize 1250 declined", "2 authorize 1250 succeeded", "2 capture 1250 succeeded"},
		},
		{
			"an error of the provider, then one charge",
			[]messaging.Body{authorize(1, "tok_error_once"), capture(1)},
			"authorized, captured",
			[]string{"1 authorize 1250 succeeded", "1 capture 1250 succeeded"},
		},
		{
			"voided before it was asked for",
			[]messaging.Body{void(1), authorize(1, "tok_ok")},
			"voided, declined",
			nil,
		},
		{
			"voided after, repeated",
			[]messaging.Body{authorize(1, "tok_ok"), void(1), void(1)},
			"authorized, voided, voided",
			[]string{"1 authorize 1250 succeeded", "1 void 1250 succeeded"},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := newShop(t)
			if got := s.deliver(tc.commands...); got != tc.events {
				t.Errorf("published: got %q, want %q", got, tc.events)
			}
			s.wantOperations(tc.books...)
		})
	}
}

func TestDuplicatesAtOnceAreChargedOnce(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	same := make([]messaging.Body, 6)
	for i := range same {
		same[i] = unordered{authorize(1, "tok_slow")}
	}
	for i, got := range s.db.Deliver(t, same...) {
		if got != "done" {
			t.Errorf("duplicate %d: got outcome %q, want done", i, got)
		}
	}
	if got := len(s.db.Published(t, "payments")); got != len(same) {
		t.Errorf("published: got %d events, want %d", got, len(same))
	}
	s.wantOperations("1 authorize 1250 succeeded")
}

func TestAMethodThatTheProviderDoesNotKnowIsDeclined(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	if got := s.deliver(authorize(1, "tok_unheard_of"), authorize(2, "tok_ok")); got != "declined, authorized" {
		t.Errorf("published: got %q, want declined, then authorized by another method", got)
	}
	s.wantOperations("2 authorize 1250 succeeded")
}
