package payments

import (
	"example.com/orderflow/messaging"
	"example.com/orderflow/messaging/contracts"
)

// What the provider says changes an attempt here, and nowhere else. Each function
// is handed the attempt as it is recorded under lock; another command may have been
// faster, so each state has an answer.

// authorizationAnswered applies what came of Authorize. changed is false when the
// attempt has an answer already: that one counts.
func (a Attempt) authorizationAnswered(got Authorization) (_ Attempt, changed bool, err error) {
	switch {
	case a.Status == Voided && a.ProviderRef == "" && got.Status == Approved:
		// The key was used up without effect when the attempt was voided: this can't be,
		// and if it is, nobody may be left charged.
		return a, false, errMeanwhile
	case !a.unanswered():
		return a, false, nil
	}
	a.ProviderRef = got.Ref
	switch got.Status {
	case Refused:
		a.Status, a.ReasonCode = Declined, got.ReasonCode
	case Closed:
		a.Status = Voided
	case Lapsed:
		a.Status, a.ReasonCode = Expired, ReasonExpired
	default:
		a.Status = Authorized // also Taken: no capture of ours is on record, see reconciliation
	}
	return a, true, nil
}

// undone applies what undoing the attempt found and left at the provider: nothing
// but Approved leaves money set aside, and then refused says why.
func (a Attempt) undone(got Authorization, refused string) (_ Attempt, changed bool, err error) {
	switch {
	case a.Status != Authorized && !a.unanswered():
		return a, false, nil
	case a.Status == Authorized && got.Ref != a.ProviderRef:
		// It was answered after the provider had been asked what it knew: nothing, or of
		// another hold.
		return a, false, errMeanwhile
	}
	a.ProviderRef = got.Ref
	switch got.Status {
	case Approved:
		a.Status = Authorized
		a.VoidTry++ // the provider refused under this key, for good
	case Taken:
		if a.CaptureID == "" {
			a.Status = Authorized // not by us: see reconciliation
			break
		}
		a.Status, a.CapturedMinor = Captured, got.CapturedMinor
	case Refused:
		a.Status, a.ReasonCode = Declined, got.ReasonCode
	case Lapsed:
		a.Status, a.ReasonCode = Expired, ReasonExpired
	default: // Closed, or Missing for good
		a.Status = Voided
	}
	return a, true, nil
}

// captureAnswered applies what came of the capture a.CaptureID: got is Taken, or
// what became of the authorization instead, and refused is why.
func (a Attempt) captureAnswered(got Authorization, refused string) (_ Attempt, changed bool, err error) {
	switch {
	case a.Status == Captured, a.Status != Authorized && got.Status != Taken:
		return a, false, nil
	case a.Status != Authorized:
		return a, false, hopeless("attempt %d of payment %s is %s here and captured at the provider", a.Number, a.PaymentID, a.Status)
	case got.Status == Taken:
		a.Status, a.CapturedMinor = Captured, got.CapturedMinor
	case got.Status == Lapsed:
		a.Status, a.ReasonCode = Expired, ReasonExpired
	default:
		a.Status, a.ReasonCode = Uncapturable, refused
	}
	return a, true, nil
}

// lookedUp applies what a look-up, that nobody's command had asked for, found.
func (a Attempt) lookedUp(got Authorization) (_ Attempt, changed bool, err error) {
	switch {
	case got.Status == Missing:
		return a, false, nil
	case a.unanswered():
		return a.authorizationAnswered(got)
	case a.Status != Authorized || got.Status == Approved || got.Status == Refused:
		return a, false, nil
	case got.Status == Taken && a.CaptureID == "":
		return a, false, nil // not by us: see reconciliation
	}
	return a.undone(got, "")
}

// authorizationEvent is what AuthorizePayment c is answered with, now that it
// came to a.
func (a Attempt) authorizationEvent(c contracts.AuthorizePayment) messaging.Body {
	declined := contracts.PaymentDeclined{PaymentID: c.PaymentID, Attempt: c.Attempt, OrderID: c.OrderID, ReasonCode: a.ReasonCode}
	switch a.Status {
	case Authorized, Captured:
		return contracts.PaymentAuthorized{
			PaymentID: c.PaymentID, Attempt: c.Attempt, OrderID: c.OrderID,
			AmountMinor: a.AmountMinor, Currency: c.Currency,
		}
	case Voided:
		declined.ReasonCode = ReasonVoided
	}
	return declined
}

// captureEvent is what CapturePayment c is answered with, now that it came to a.
func (a Attempt) captureEvent(c contracts.CapturePayment) messaging.Body {
	if a.Status == Captured {
		return contracts.PaymentCaptured{
			PaymentID: c.PaymentID, Attempt: c.Attempt, CaptureID: a.CaptureID, OrderID: c.OrderID, AmountMinor: a.CapturedMinor,
		}
	}
	failed := contracts.CaptureFailed{
		PaymentID: c.PaymentID, Attempt: c.Attempt, CaptureID: c.CaptureID, OrderID: c.OrderID, ReasonCode: a.ReasonCode,
	}
	if a.Status == Voided {
		failed.ReasonCode = ReasonVoided
	}
	return failed
}

// voidEvent is what VoidPayment c is answered with: refused says why money is left
// that can't be given back, "" = none is.
func voidEvent(c contracts.VoidPayment, refused string) messaging.Body {
	if refused == "" {
		return contracts.PaymentVoided(c) // it says of what, as the command did
	}
	return contracts.PaymentVoidRefused{PaymentID: c.PaymentID, Attempt: c.Attempt, OrderID: c.OrderID, ReasonCode: refused}
}

// left is why something of the attempt can't be given back, now that undoing it came
// to a: "" = nothing is left of it.
func (a Attempt) left(refused string) string {
	switch a.Status {
	case Captured:
		return contracts.ReasonCaptured
	case Authorized:
		return refused
	}
	return ""
}
