package payments

import (
	"errors"
	"reflect"
	"testing"

	"example.com/orderflow/messaging/contracts"
)

const (
	paymentID = "01890000-0000-7000-8000-000000000001"
	orderID   = "01890000-0000-7000-8000-000000000002"
	captureID = "01890000-0000-7000-8000-000000000003"
	otherID   = "01890000-0000-7000-8000-000000000009"
)

// paid is a payment with attempts.
func paid(voidedThrough int, attempts ...Attempt) Payment {
	return Payment{
		ID: paymentID, OrderID: orderID, CustomerID: "ann", Currency: "EUR",
		VoidedThrough: voidedThrough, Attempts: attempts,
	}
}

// tried is attempt n in a state, changed by f.
func tried(n int, status Status, f ...func(*Attempt)) Attempt {
	a := Attempt{PaymentID: paymentID, Number: n, Status: status, AmountMinor: 1250, MethodToken: "tok_ok", AuthorizeTry: 1, CaptureTry: 1, VoidTry: 1}
	switch status {
	case Authorized:
		a.ProviderRef = "ref"
	case Captured:
		a.ProviderRef, a.CaptureID, a.CapturedMinor = "ref", captureID, 1000
	case Declined:
		a.ProviderRef, a.ReasonCode = "ref", "card_declined"
	case Expired, Uncapturable:
		a.ProviderRef, a.ReasonCode = "ref", "authorization_expired"
	}
	for _, change := range f {
		change(&a)
	}
	return a
}

func withRef(a *Attempt)       { a.ProviderRef = "ref" }
func beingCaptured(a *Attempt) { a.CaptureID = captureID }

func authorizing(n int) contracts.AuthorizePayment {
	return contracts.AuthorizePayment{
		PaymentID: paymentID, Attempt: n, OrderID: orderID, CustomerID: "ann",
		AmountMinor: 1250, Currency: "EUR", MethodToken: "tok_ok",
	}
}

func capturing(n int) contracts.CapturePayment {
	return contracts.CapturePayment{PaymentID: paymentID, Attempt: n, CaptureID: captureID, OrderID: orderID, AmountMinor: 1000}
}

func voiding(n int) contracts.VoidPayment {
	return contracts.VoidPayment{PaymentID: paymentID, Attempt: n, OrderID: orderID}
}

func TestAuthorizeIsDecided(t *testing.T) {
	t.Parallel()
	changed := func(f func(*contracts.AuthorizePayment)) contracts.AuthorizePayment {
		c := authorizing(1)
		f(&c)
		return c
	}
	for _, tc := range []struct {
		name string
		p    Payment
		c    contracts.AuthorizePayment
		want step
		dead bool
	}{
		{"first attempt is asked for", paid(0), authorizing(1), ask, false},
		{"second attempt after a decline is asked for", paid(0, tried(1, Declined)), authorizing(2), ask, false},
		{"unanswered attempt is looked up", paid(0, tried(1, Authorizing)), authorizing(1), find, false},
		{"unknown attempt is looked up", paid(0, tried(1, Unknown)), authorizing(1), find, false},
		{"unknown and to be voided is undone", paid(1, tried(1, Unknown)), authorizing(1), undo, false},
		{"expired attempt is told again", paid(0, tried(1, Expired)), authorizing(1), tell, false},
		{"closed attempt is told again", paid(0, tried(1, Uncapturable)), authorizing(1), tell, false},
		{"authorized attempt is told again", paid(0, tried(1, Authorized)), authorizing(1), tell, false},
		{"captured attempt is told again", paid(0, tried(1, Captured)), authorizing(1), tell, false},
		{"declined attempt is told again", paid(0, tried(1, Declined)), authorizing(1), tell, false},
		{"voided before it came is told voided", paid(1), authorizing(1), tell, false},
		{"below what was voided before it came is told voided", paid(3), authorizing(2), tell, false},
		{"above what was voided is asked for", paid(1), authorizing(2), ask, false},
		{"unanswered and to be voided is undone", paid(1, tried(1, Authorizing)), authorizing(1), undo, false},
		{"voided is told again", paid(1, tried(1, Voided, withRef)), authorizing(1), tell, false},
		{"voided unheard of by the provider is told again", paid(1, tried(1, Voided)), authorizing(1), tell, false},
		{"other amount", paid(0, tried(1, Authorized)), changed(func(c *contracts.AuthorizePayment) { c.AmountMinor++ }), tell, true},
		{"other method", paid(0, tried(1, Authorized)), changed(func(c *contracts.AuthorizePayment) { c.MethodToken = "tok_slow" }), tell, true},
		{"other currency", paid(0), changed(func(c *contracts.AuthorizePayment) { c.Currency = "USD" }), tell, true},
		{"other order", paid(0), changed(func(c *contracts.AuthorizePayment) { c.OrderID = otherID }), tell, true},
		{"other customer", paid(0), changed(func(c *contracts.AuthorizePayment) { c.CustomerID = "bob" }), tell, true},
	} {
		got, _, err := tc.p.authorize(tc.c)
		if (err != nil) != tc.dead || err == nil && got != tc.want {
			t.Errorf("%s: got step %d, %v, want step %d, error %t", tc.name, got, err, tc.want, tc.dead)
		}
	}
}

func TestCaptureIsDecided(t *testing.T) {
	t.Parallel()
	changed := func(f func(*contracts.CapturePayment)) contracts.CapturePayment {
		c := capturing(1)
		f(&c)
		return c
	}
	for _, tc := range []struct {
		name string
		p    Payment
		c    contracts.CapturePayment
		want step
		dead bool
	}{
		{"authorized is captured", paid(0, tried(1, Authorized)), capturing(1), ask, false},
		{"begun capture is looked up", paid(0, tried(1, Authorized, beingCaptured)), capturing(1), find, false},
		{"captured is told again", paid(0, tried(1, Captured)), capturing(1), tell, false},
		{"unknown attempt", paid(0), capturing(1), tell, true},
		{"unanswered attempt", paid(0, tried(1, Authorizing)), capturing(1), tell, true},
		{"declined attempt has failed", paid(0, tried(1, Declined)), capturing(1), tell, false},
		{"voided attempt has failed", paid(1, tried(1, Voided, withRef)), capturing(1), tell, false},
		{"expired attempt has failed", paid(0, tried(1, Expired)), capturing(1), tell, false},
		{"closed attempt has failed", paid(0, tried(1, Uncapturable)), capturing(1), tell, false},
		{"attempt that is being voided is undone", paid(1, tried(1, Authorized)), capturing(1), undo, false},
		{"a second attempt beside a captured one", paid(0, tried(1, Captured), tried(2, Authorized)), capturing(2), tell, true},
		{"another capture of a captured attempt", paid(0, tried(1, Captured)), changed(func(c *contracts.CapturePayment) { c.CaptureID = otherID }), tell, true},
		{"another capture of one being captured", paid(0, tried(1, Authorized, beingCaptured)), changed(func(c *contracts.CapturePayment) { c.CaptureID = otherID }), tell, true},
		{"another amount under the same capture", paid(0, tried(1, Captured)), changed(func(c *contracts.CapturePayment) { c.AmountMinor = 999 }), tell, true},
		{"more than authorized", paid(0, tried(1, Authorized)), changed(func(c *contracts.CapturePayment) { c.AmountMinor = 1251 }), tell, true},
		{"of another order", paid(0, tried(1, Authorized)), changed(func(c *contracts.CapturePayment) { c.OrderID = otherID }), tell, true},
	} {
		got, _, err := tc.p.capture(tc.c)
		if (err != nil) != tc.dead || err == nil && got != tc.want {
			t.Errorf("%s: got step %d, %v, want step %d, error %t", tc.name, got, err, tc.want, tc.dead)
		}
	}
}

func TestVoidIsDecided(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		p    Payment
		c    contracts.VoidPayment
		want []int // attempts to undo
		kept string
	}{
		{"nothing was tried", paid(0), voiding(1), nil, ""},
		{"authorized is undone", paid(0, tried(1, Authorized)), voiding(1), []int{1}, ""},
		{"unanswered is undone", paid(0, tried(1, Authorizing)), voiding(1), []int{1}, ""},
		{"declined and voided need nothing", paid(0, tried(1, Declined), tried(2, Voided)), voiding(2), nil, ""},
		{"those before are undone too", paid(0, tried(1, Authorizing), tried(2, Authorized)), voiding(2), []int{1, 2}, ""},
		{"those after are left alone", paid(0, tried(1, Declined), tried(2, Authorized)), voiding(1), nil, ""},
		{"captured", paid(0, tried(1, Captured)), voiding(1), nil, "captured"},
		{"being captured is undone, or found captured", paid(0, tried(1, Authorized, beingCaptured)), voiding(1), []int{1}, ""},
		{"unknown is undone", paid(0, tried(1, Unknown)), voiding(1), []int{1}, ""},
		{"expired and closed need nothing", paid(0, tried(1, Expired), tried(2, Uncapturable)), voiding(2), nil, ""},
	} {
		open, kept, err := tc.p.void(tc.c)
		var got []int
		for _, a := range open {
			got = append(got, a.Number)
		}
		if err != nil || kept != tc.kept || !reflect.DeepEqual(got, tc.want) {
			t.Errorf("%s: got attempts %v, %q, %v, want %v, %q", tc.name, got, kept, err, tc.want, tc.kept)
		}
	}
}

func TestAuthorizationAnswersAreApplied(t *testing.T) {
	t.Parallel()
	approved := Authorization{Ref: "ref", Status: Approved}
	refused := Authorization{Ref: "ref", Status: Refused, ReasonCode: "card_declined"}
	for _, tc := range []struct {
		name    string
		a       Attempt
		got     Authorization
		want    Status
		changed bool
		again   bool
	}{
		{"approved", tried(1, Authorizing), approved, Authorized, true, false},
		{"refused", tried(1, Authorizing), refused, Declined, true, false},
		{"approved once more", tried(1, Authorized), approved, Authorized, false, false},
		{"approved after capture", tried(1, Captured), approved, Captured, false, false},
		{"approved and voided at the provider since", tried(1, Voided, withRef), approved, Voided, false, false},
		{"approved after a void that found nothing", tried(1, Voided), approved, Voided, false, true},
		{"refused after a void that found nothing", tried(1, Voided), refused, Voided, false, false},
	} {
		a, changed, err := tc.a.authorizationAnswered(tc.got)
		if a.Status != tc.want || changed != tc.changed || errors.Is(err, errMeanwhile) != tc.again {
			t.Errorf("%s: got %s, %t, %v, want %s, %t, again %t", tc.name, a.Status, changed, err, tc.want, tc.changed, tc.again)
		}
	}
}

func TestUndoneAnswersAreApplied(t *testing.T) {
	t.Parallel()
	approved := Authorization{Ref: "ref", Status: Approved}
	closed := Authorization{Ref: "ref", Status: Closed}
	refused := Authorization{Ref: "ref", Status: Refused, ReasonCode: "card_declined"}
	unknown := Authorization{Status: Missing}
	for _, tc := range []struct {
		name    string
		a       Attempt
		got     Authorization
		want    Status
		changed bool
		fails   bool
	}{
		{"authorized and voided", tried(1, Authorized), closed, Voided, true, false},
		{"unanswered, found and voided", tried(1, Authorizing), closed, Voided, true, false},
		{"unanswered and unheard of", tried(1, Authorizing), unknown, Voided, true, false},
		{"unanswered and refused", tried(1, Authorizing), refused, Declined, true, false},
		{"voided, unheard of for good", tried(1, Voided), closed, Voided, false, false},
		{"unknown, found and voided", tried(1, Unknown), closed, Voided, true, false},
		{"refused to be voided", tried(1, Authorized), approved, Authorized, true, false},
		{"being captured, and found captured", tried(1, Authorized, beingCaptured), Authorization{Ref: "ref", Status: Taken, CapturedMinor: 1000}, Captured, true, false},
		{"expired", tried(1, Authorized), Authorization{Ref: "ref", Status: Lapsed}, Expired, true, false},
		{"voided, still unheard of", tried(1, Voided), unknown, Voided, false, false},
		{"voided already", tried(1, Voided, withRef), closed, Voided, false, false},
		{"declined meanwhile", tried(1, Declined), refused, Declined, false, false},
		{"another hold was voided than it came to", tried(1, Authorized), Authorization{Ref: "other", Status: Closed}, Authorized, false, true},
		{"authorized after it was unheard of", tried(1, Authorized), unknown, Authorized, false, true},
		{"captured meanwhile", tried(1, Captured), closed, Captured, false, false},
	} {
		a, changed, err := tc.a.undone(tc.got, "void_refused")
		if a.Status != tc.want || changed != tc.changed || (err != nil) != tc.fails {
			t.Errorf("%s: got %s, %t, %v, want %s, %t, error %t", tc.name, a.Status, changed, err, tc.want, tc.changed, tc.fails)
		}
	}
}

func TestPaymentSumsUpItsAttempts(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name     string
		p        Payment
		status   Status
		captured int64
		amount   int64
	}{
		{"voided before anything", paid(1), Voided, 0, 0},
		{"declined, then authorized", paid(0, tried(1, Declined), tried(2, Authorized)), Authorized, 0, 1250},
		{"captured", paid(0, tried(1, Declined), tried(2, Captured)), Captured, 1000, 1250},
	} {
		if tc.p.Status() != tc.status || tc.p.CapturedMinor() != tc.captured || tc.p.AmountMinor() != tc.amount {
			t.Errorf("%s: got %s %d of %d, want %s %d of %d", tc.name,
				tc.p.Status(), tc.p.CapturedMinor(), tc.p.AmountMinor(), tc.status, tc.captured, tc.amount)
		}
	}
}

func TestKeyIsAPureFunctionOfWhatIsAttempted(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ got, want string }{
		{Key(paymentID, 2, OpVoid, 1), paymentID + ":2:void"},
		{Key(paymentID, 2, OpVoid, 3), paymentID + ":2:void:3"},
		{RefundKey(otherID, 1), otherID + ":refund"},
		{RefundKey(otherID, 2), otherID + ":refund:2"},
	} {
		if tc.got != tc.want {
			t.Errorf("got %s, want %s", tc.got, tc.want)
		}
	}
}
