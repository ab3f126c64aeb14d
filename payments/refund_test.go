package payments

import (
	"testing"

	"example.com/orderflow/messaging/contracts"
)

const refundID = "01890000-0000-7000-8000-000000000004"

func refunding(amount int64) contracts.RefundPayment {
	return contracts.RefundPayment{RefundID: refundID, PaymentID: paymentID, OrderID: orderID, AmountMinor: amount, Reason: "returned"}
}

// repaid is a refund of 400 in a state.
func repaid(id string, status RepaymentStatus) Repayment {
	r := Repayment{ID: id, PaymentID: paymentID, Attempt: 1, AmountMinor: 400, Reason: "returned", Status: status, Try: 1}
	if status == Failed {
		r.ReasonCode = "refund_refused"
	}
	return r
}

func TestRefundIsDecided(t *testing.T) {
	t.Parallel()
	with := func(list ...Repayment) Payment { // 1000 were captured
		p := paid(0, tried(1, Captured))
		p.Repayments = list
		return p
	}
	elsewhere := repaid(refundID, Succeeded)
	elsewhere.PaymentID = otherID
	foreign := refunding(400)
	foreign.OrderID = otherID
	for _, tc := range []struct {
		name   string
		p      Payment
		c      contracts.RefundPayment
		want   step
		try    int
		reason string // why it fails without being asked for
		dead   bool
	}{
		{"the whole capture", with(), refunding(1000), ask, 1, "", false},
		{"more than the capture", with(), refunding(1001), tell, 1, ReasonExceeds, false},
		{"what others left", with(repaid(otherID, Succeeded)), refunding(600), ask, 1, "", false},
		{"more than others left", with(repaid(otherID, Succeeded)), refunding(601), tell, 1, ReasonExceeds, false},
		{"one that is unknown counts", with(repaid(otherID, RefundUnknown)), refunding(601), tell, 1, ReasonExceeds, false},
		{"one that failed doesn't", with(repaid(otherID, Failed)), refunding(1000), ask, 1, "", false},
		{"begun is looked up", with(repaid(refundID, Refunding)), refunding(400), find, 1, "", false},
		{"unknown is looked up", with(repaid(refundID, RefundUnknown)), refunding(400), find, 1, "", false},
		{"succeeded is told again", with(repaid(refundID, Succeeded)), refunding(400), tell, 1, "", false},
		{"failed is tried anew, under another key", with(repaid(refundID, Failed)), refunding(400), ask, 2, "", false},
		{"another amount", with(repaid(refundID, Succeeded)), refunding(401), tell, 1, "", true},
		{"another payment's", with(elsewhere), refunding(400), tell, 1, "", true},
		{"another order's", with(), foreign, tell, 1, "", true},
		{"nothing was captured", paid(0, tried(1, Authorized)), refunding(400), tell, 1, ReasonNotCaptured, false},
		{"nothing was tried", paid(1), refunding(400), tell, 1, ReasonNotCaptured, false},
	} {
		todo, r, err := tc.p.refund(tc.c)
		if (err != nil) != tc.dead || err == nil && (todo != tc.want || r.Try != tc.try || r.ReasonCode != tc.reason) {
			t.Errorf("%s: got step %d, try %d, %q, %v, want step %d, try %d, %q, error %t", tc.name, todo, r.Try, r.ReasonCode, err, tc.want, tc.try, tc.reason, tc.dead)
		}
	}
}

func TestRefundAnswersAreApplied(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name    string
		r       Repayment
		key     string
		got     Refund
		want    RepaymentStatus
		changed bool
	}{
		{"given", repaid(refundID, Refunding), RefundKey(refundID, 1), Refund{Ref: "r", Status: Refunded}, Succeeded, true},
		{"found given", repaid(refundID, RefundUnknown), RefundKey(refundID, 1), Refund{Ref: "r", Status: Refunded}, Succeeded, true},
		{"refused", repaid(refundID, Refunding), RefundKey(refundID, 1), Refund{Status: NotRefunded, ReasonCode: "refund_refused"}, Failed, true},
		{"refused after it was given", repaid(refundID, Succeeded), RefundKey(refundID, 1), Refund{Status: NotRefunded}, Succeeded, false},
		{"of an earlier try", repaid(refundID, Refunding), RefundKey(refundID, 2), Refund{Status: NotRefunded}, Refunding, false},
	} {
		r, changed := tc.r.answered(tc.key, tc.got)
		if r.Status != tc.want || changed != tc.changed {
			t.Errorf("%s: got %s, %t, want %s, %t", tc.name, r.Status, changed, tc.want, tc.changed)
		}
	}
}

func TestRefundsAreSummedUp(t *testing.T) {
	t.Parallel()
	whole := repaid(otherID, Succeeded)
	whole.AmountMinor = 600
	for _, tc := range []struct {
		name   string
		list   []Repayment
		status Status
		sum    int64
	}{
		{"none", nil, Captured, 0},
		{"failed and unknown ones only", []Repayment{repaid(refundID, Failed), repaid(otherID, RefundUnknown)}, Captured, 0},
		{"a part", []Repayment{repaid(refundID, Succeeded)}, PartlyRefunded, 400},
		{"all", []Repayment{repaid(refundID, Succeeded), whole}, WhollyRefunded, 1000},
	} {
		p := paid(0, tried(1, Captured))
		p.Repayments = tc.list
		if p.Status() != tc.status || p.RefundedMinor() != tc.sum {
			t.Errorf("%s: got %s, %d, want %s, %d", tc.name, p.Status(), p.RefundedMinor(), tc.status, tc.sum)
		}
	}
}

func TestCaptureAnswersAreApplied(t *testing.T) {
	t.Parallel()
	taken := Authorization{Ref: "ref", Status: Taken, CapturedMinor: 1000}
	for _, tc := range []struct {
		name    string
		a       Attempt
		got     Authorization
		want    Status
		changed bool
		dead    bool
	}{
		{"taken", tried(1, Authorized, beingCaptured), taken, Captured, true, false},
		{"taken once more", tried(1, Captured), taken, Captured, false, false},
		{"refused, and given back", tried(1, Authorized, beingCaptured), Authorization{Status: Closed}, Uncapturable, true, false},
		{"refused, and kept", tried(1, Authorized, beingCaptured), Authorization{Status: Approved}, Uncapturable, true, false},
		{"refused because it expired", tried(1, Authorized, beingCaptured), Authorization{Status: Lapsed}, Expired, true, false},
		{"refused after a void", tried(1, Voided, withRef), Authorization{Status: Closed}, Voided, false, false},
		{"taken though voided", tried(1, Voided, withRef), taken, Voided, false, true},
	} {
		a, changed, err := tc.a.captureAnswered(tc.got, "capture_refused")
		if a.Status != tc.want || changed != tc.changed || (err != nil) != tc.dead {
			t.Errorf("%s: got %s, %t, %v, want %s, %t, error %t", tc.name, a.Status, changed, err, tc.want, tc.changed, tc.dead)
		}
	}
}

func TestLookUpsAreApplied(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		a    Attempt
		got  Outcome
		want Status
	}{
		{"unknown, found approved", tried(1, Unknown), Approved, Authorized},
		{"unknown, found refused", tried(1, Unknown), Refused, Declined},
		{"unknown, not found", tried(1, Unknown), Missing, Unknown},
		{"authorized, as is", tried(1, Authorized), Approved, Authorized},
		{"authorized, expired since", tried(1, Authorized), Lapsed, Expired},
		{"authorized, voided by the provider", tried(1, Authorized), Closed, Voided},
		{"being captured, and it is", tried(1, Authorized, beingCaptured), Taken, Captured},
		{"captured by nobody here", tried(1, Authorized), Taken, Authorized},
		{"captured", tried(1, Captured), Closed, Captured},
	} {
		a, changed, err := tc.a.lookedUp(Authorization{Ref: "ref", Status: tc.got, ReasonCode: "card_declined", CapturedMinor: 1000})
		if err != nil || a.Status != tc.want || changed != (tc.a.Status != tc.want) {
			t.Errorf("%s: got %s, %t, %v, want %s", tc.name, a.Status, changed, err, tc.want)
		}
	}
}
