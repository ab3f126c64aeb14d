package paysim_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

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
)

// shop is payments and the provider as they run: two schemas, HTTP between them.
type shop struct {
	caller
	db *messagingtest.DB
}

func newShop(t *testing.T) shop {
	t.Helper()
	db := messagingtest.NewDB(t, payments.Spec(), paysim.Spec())
	url := serve(t, db)
	bus := db.NewBus(t, payments.Spec())
	cfg := payments.Config{ProviderURL: url, ProviderKey: apiKey, ProviderWebhookSecret: webhookSecret, ProviderTimeout: 10 * time.Second}
	if _, err := payments.New(cfg, db.Service("payments"), bus, messagingtest.Log(t)); err != nil {
		t.Fatalf("make payments: %v", err)
	}
	messagingtest.Run(t, bus)
	return shop{caller{t, url}, db}
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
		list = append(list, strings.TrimPrefix(m.Kind, "payments.payment_"))
	}
	return strings.Join(list, ", ")
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
		same[i] = laneless{authorize(1, "tok_slow")}
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

// laneless is a command that nothing orders, as a redriven one: all of them are
// handled at once.
type laneless struct{ contracts.AuthorizePayment }

func (laneless) Lane() string { return "" }

func TestAMethodThatTheProviderDoesNotKnowIsDeclined(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	if got := s.deliver(authorize(1, "tok_unheard_of"), authorize(2, "tok_ok")); got != "declined, authorized" {
		t.Errorf("published: got %q, want declined, then authorized by another method", got)
	}
	s.wantOperations("2 authorize 1250 succeeded")
}
