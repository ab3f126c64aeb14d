package payments

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"example.com/orderflow/messaging"
	"example.com/orderflow/messaging/contracts"
	"example.com/orderflow/messaging/messagingtest"
)

func TestMain(m *testing.M) { messagingtest.Main(m) }

// shop is payments on a database of its own with a provider in memory.
type shop struct {
	t        *testing.T
	db       *messagingtest.DB
	service  *Service
	provider *provider
}

func newShop(t *testing.T) *shop {
	t.Helper()
	db := messagingtest.NewDB(t, Spec())
	bus := db.NewBus(t, Spec())
	p := newProvider()
	return &shop{t, db, newService(Config{}, p, db.Service("payments"), bus, messagingtest.Log(t)), p}
}

// running is a shop whose bus runs.
func running(t *testing.T) *shop {
	t.Helper()
	s := newShop(t)
	messagingtest.Run(t, s.service.bus)
	return s
}

// wantDelivered delivers commands one after the other and checks outcomes and events.
func (s *shop) wantDelivered(c messaging.Body, outcome string, events ...messaging.Body) {
	s.t.Helper()
	got := s.db.Deliver(s.t, c)[0]
	if outcome == "dead" && strings.HasPrefix(got, "dead: ") {
		got = "dead"
	}
	if got != outcome {
		s.t.Errorf("%s: got outcome %q, want %q", c.Kind(), got, outcome)
	}
	s.wantPublished(events...)
}

func (s *shop) wantPublished(want ...messaging.Body) {
	s.t.Helper()
	got := []messaging.Body{}
	for _, m := range s.db.Published(s.t, "payments") {
		switch m.Kind {
		case contracts.KindPaymentAuthorized:
			got = append(got, messagingtest.As[contracts.PaymentAuthorized](s.t, m))
		case contracts.KindPaymentDeclined:
			got = append(got, messagingtest.As[contracts.PaymentDeclined](s.t, m))
		case contracts.KindPaymentCaptured:
			got = append(got, messagingtest.As[contracts.PaymentCaptured](s.t, m))
		case contracts.KindPaymentVoided:
			got = append(got, messagingtest.As[contracts.PaymentVoided](s.t, m))
		case contracts.KindCaptureFailed:
			got = append(got, messagingtest.As[contracts.CaptureFailed](s.t, m))
		case contracts.KindPaymentVoidRefused:
			got = append(got, messagingtest.As[contracts.PaymentVoidRefused](s.t, m))
		case contracts.KindRefundSucceeded:
			got = append(got, messagingtest.As[contracts.RefundSucceeded](s.t, m))
		case contracts.KindRefundFailed:
			got = append(got, messagingtest.As[contracts.RefundFailed](s.t, m))
		}
	}
	if fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", want) {
		s.t.Errorf("published: got %+v, want %+v", got, want)
	}
}

// wantRows checks the attempts ("1 voided") and the calls ("1 void closed").
func (s *shop) wantRows(attempts, calls string) {
	s.t.Helper()
	var gotAttempts, gotCalls []string
	if err := s.db.Admin.Select(&gotAttempts, `
		SELECT concat_ws(' ', attempt, status, reason_code)
		FROM payments.attempts
		ORDER BY attempt`); err != nil {
		s.t.Fatalf("read the attempts: %v", err)
	}
	if err := s.db.Admin.Select(&gotCalls, `
		SELECT concat_ws(' ', attempt, operation, outcome)
		FROM payments.provider_calls
		ORDER BY attempt, operation`); err != nil {
		s.t.Fatalf("read the calls: %v", err)
	}
	if got := strings.Join(gotAttempts, ", "); got != attempts {
		s.t.Errorf("attempts: got %q, want %q", got, attempts)
	}
	if got := strings.Join(gotCalls, ", "); got != calls {
		s.t.Errorf("calls: got %q, want %q", got, calls)
	}
}

func (s *shop) wantCalls(want string) {
	s.t.Helper()
	if got := s.provider.log(); got != want {
		s.t.Errorf("calls of the provider: got %q, want %q", got, want)
	}
}

// record runs what a handler left to be written, as its bus would.
func (s *shop) record(r messaging.Record) error {
	return s.service.bus.InTx(context.Background(), r)
}

func authorized(n int) messaging.Body {
	return contracts.PaymentAuthorized{PaymentID: paymentID, Attempt: n, OrderID: orderID, AmountMinor: 1250, Currency: "EUR"}
}

func declined(n int, reason string) messaging.Body {
	return contracts.PaymentDeclined{PaymentID: paymentID, Attempt: n, OrderID: orderID, ReasonCode: reason}
}

func captured(n int) messaging.Body {
	return contracts.PaymentCaptured{PaymentID: paymentID, Attempt: n, CaptureID: captureID, OrderID: orderID, AmountMinor: 1000}
}

func voided(n int) messaging.Body {
	return contracts.PaymentVoided{PaymentID: paymentID, Attempt: n, OrderID: orderID}
}

func voidRefused(n int, reason string) messaging.Body {
	return contracts.PaymentVoidRefused{PaymentID: paymentID, Attempt: n, OrderID: orderID, ReasonCode: reason}
}

func captureFailed(n int, reason string) messaging.Body {
	return contracts.CaptureFailed{PaymentID: paymentID, Attempt: n, CaptureID: captureID, OrderID: orderID, ReasonCode: reason}
}

func withToken(n int, token string) contracts.AuthorizePayment {
	c := authorizing(n)
	c.MethodToken = token
	return c
}

func TestAuthorizedAndCapturedOnce(t *testing.T) {
	t.Parallel()
	s := running(t)
	for range 2 {
		s.wantDelivered(authorizing(1), "done", authorized(1))
	}
	for range 2 {
		s.wantDelivered(capturing(1), "done", captured(1))
	}
	s.wantDelivered(authorizing(1), "done", authorized(1))
	s.wantDelivered(voiding(1), "done", voidRefused(1, contracts.ReasonCaptured))
	s.wantRows("1 captured", "1 authorize approved, 1 capture taken")
	s.wantCalls("authorize 1, capture 1")
}

func TestDeclinedThenAnotherMethod(t *testing.T) {
	t.Parallel()
	s := running(t)
	for range 2 {
		s.wantDelivered(withToken(1, "tok_declined"), "done", declined(1, "card_declined"))
	}
	s.wantDelivered(authorizing(2), "done", authorized(2))
	s.wantDelivered(voiding(2), "done", voided(2))
	s.wantRows("1 declined card_declined, 2 voided", "1 authorize refused, 2 authorize approved, 2 void closed")
	s.wantCalls("authorize 1, authorize 2, lookup 2, void 2")
}

func TestVoidBeforeAuthorizeRefusesIt(t *testing.T) {
	t.Parallel()
	s := running(t)
	for range 2 {
		s.wantDelivered(voiding(2), "done", voided(2))
	}
	s.wantDelivered(authorizing(1), "done", declined(1, "voided"))
	s.wantDelivered(authorizing(2), "done", declined(2, "voided"))
	s.wantRows("", "")
	s.wantDelivered(authorizing(3), "done", authorized(3))
	s.wantCalls("authorize 3")
}

func TestVoidAfterAuthorizeGivesTheMoneyBackOnce(t *testing.T) {
	t.Parallel()
	s := running(t)
	s.wantDelivered(authorizing(1), "done", authorized(1))
	for range 2 {
		s.wantDelivered(voiding(1), "done", voided(1))
	}
	s.wantDelivered(authorizing(1), "done", declined(1, "voided"))
	s.wantDelivered(capturing(1), "done", captureFailed(1, ReasonVoided))
	s.wantRows("1 voided", "1 authorize approved, 1 void closed")
	s.wantCalls("authorize 1, lookup 1, void 1")
}

func TestCaptureOfWhatIsNotThere(t *testing.T) {
	t.Parallel()
	s := running(t)
	s.wantDelivered(capturing(1), "dead")
	s.wantDelivered(withToken(1, "tok_declined"), "done", declined(1, "card_declined"))
	s.wantDelivered(capturing(1), "done", captureFailed(1, "card_declined"))
	s.wantCalls("authorize 1")
}

func TestProviderErrorsAreTriedAgainUnderTheSameKey(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name  string
		op    Operation
		after bool
		calls string
	}{
		{"authorize fails before the effect", OpAuthorize, false, "authorize 1, lookup 1, lookup 1, authorize 1, capture 1"},
		{"authorize fails after the effect", OpAuthorize, true, "authorize 1, lookup 1, capture 1"},
		{"capture fails before the effect", OpCapture, false, "authorize 1, capture 1, lookup 1, lookup 1, capture 1"},
		{"capture fails after the effect", OpCapture, true, "authorize 1, capture 1, lookup 1"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := newShop(t)
			if tc.after {
				s.provider.after = once(tc.op)
			} else {
				s.provider.before = once(tc.op)
			}
			messagingtest.Run(t, s.service.bus)
			s.wantDelivered(authorizing(1), "done", authorized(1))
			s.wantDelivered(capturing(1), "done", captured(1))
			s.wantRows("1 captured", "1 authorize approved, 1 capture taken")
			s.wantCalls(tc.calls)
			if got := s.provider.books(); len(got) != 1 || got[Taken] != 1 {
				t.Errorf("provider's books: got %v, want one taken", got)
			}
		})
	}
}

func TestIntentIsCommittedBeforeTheCall(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.provider.before = func(op Operation, key string) error {
		if op == opLookup {
			return nil
		}
		var found bool
		err := s.db.Admin.Get(&found, `SELECT answered_at IS NULL FROM payments.provider_calls WHERE key = $1`, key)
		if err != nil || !found {
			t.Errorf("%s under %s: got %t, %v, want an unanswered intent", op, key, found, err)
		}
		return nil
	}
	messagingtest.Run(t, s.service.bus)
	s.wantDelivered(authorizing(1), "done", authorized(1))
	s.wantDelivered(voiding(1), "done", voided(1))
	s.wantDelivered(authorizing(2), "done", authorized(2))
	s.wantDelivered(capturing(2), "done", captured(2))
}

func TestAuthorizeRepeatedAfterACrashChargesOnce(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	// The call was made; the process died before what it left was recorded.
	if _, err := s.service.authorizePayment(t.Context(), authorizing(1)); err != nil {
		t.Fatalf("authorize: %v", err)
	}
	s.wantRows("1 authorizing", "1 authorize")
	messagingtest.Run(t, s.service.bus)
	s.wantDelivered(authorizing(1), "done", authorized(1))
	s.wantRows("1 authorized", "1 authorize approved")
	if got := s.provider.books(); len(got) != 1 || got[Approved] != 1 {
		t.Errorf("provider's books: got %v, want one approved", got)
	}
}

func TestConcurrentDuplicatesHaveOneEffect(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	all := func(h func() (messaging.Record, error)) {
		t.Helper()
		errs := make([]error, 8)
		var wg sync.WaitGroup
		for i := range errs {
			wg.Go(func() {
				r, err := h()
				if err == nil {
					err = s.record(r)
				}
				errs[i] = err
			})
		}
		wg.Wait()
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
	}
	all(func() (messaging.Record, error) { return s.service.authorizePayment(t.Context(), authorizing(1)) })
	s.wantPublished(authorized(1), authorized(1), authorized(1), authorized(1), authorized(1), authorized(1), authorized(1), authorized(1))
	all(func() (messaging.Record, error) { return s.service.capturePayment(t.Context(), capturing(1)) })
	s.wantRows("1 captured", "1 authorize approved, 1 capture taken")
	if got := s.provider.books(); len(got) != 1 || got[Taken] != 1 {
		t.Errorf("provider's books: got %v, want one taken", got)
	}
}
