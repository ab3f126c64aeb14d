package payments

import (
	"errors"
	"strings"
	"testing"
)

// spentKey has every request under key answered with the error that the provider
// keeps for good.
func spentKey(key string) func(Operation, string) error {
	return func(op Operation, asked string) error {
		if op != opLookup && asked == key {
			return &AwayError{Spent: true, Err: errAway}
		}
		return nil
	}
}

func TestRefusedReleaseOfARefusedCaptureIsTriedUnderTheNextKey(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.authorize(1)
	s.provider.before = func(op Operation, key string) error {
		if op == OpCapture || op == OpVoid && key == Key(paymentID, 1, OpVoid, 1) {
			return &RefusedError{Status: 409, Code: "refused"}
		}
		return nil
	}
	if _, err := s.service.capturePayment(t.Context(), capturing(1)); !errors.Is(err, errSpent) {
		t.Fatalf("capture: got %v, want %v: the money is set aside yet", err, errSpent)
	}
	s.wantRows("1 authorized", "1 authorize approved, 1 capture, 1 void not_found")
	r, err := s.service.capturePayment(t.Context(), capturing(1))
	if err == nil {
		err = s.record(r)
	}
	if err != nil {
		t.Fatalf("capture again: %v", err)
	}
	s.wantPublished(authorized(1), captureFailed(1, "refused"))
	s.wantNothingOpen()
}

func TestUndoingUnderTheNextKeyHasItsIntentRecorded(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.provider.before = spentKey(Key(paymentID, 1, OpAuthorize, 1))
	if _, err := s.service.authorizePayment(t.Context(), authorizing(1)); !errors.Is(err, errSpent) {
		t.Fatalf("authorize: got %v, want %v", err, errSpent)
	}
	s.provider.before = func(op Operation, key string) error {
		var noted bool
		err := s.db.Admin.Get(&noted, `SELECT EXISTS (SELECT FROM payments.provider_calls WHERE key = $1)`, key)
		if op != opLookup && (err != nil || !noted) {
			t.Errorf("%s under %s: got intent %t, %v, want it on record", op, key, noted, err)
		}
		return nil
	}
	s.void(1)
	s.wantPublished(voided(1))
	s.wantRows("1 voided", "1 authorize not_found, 1 authorize approved, 1 void closed")
	s.wantNothingOpen()
}

// A void that found nothing under a spent key says nothing about the next key, under
// which another consumer has money set aside meanwhile.
func TestVoidUnderASpentKeyIsNotRecordedWhenTheNextIsInUse(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	spent := spentKey(Key(paymentID, 1, OpAuthorize, 1))
	s.provider.before = func(op Operation, _ string) error {
		if op == OpAuthorize {
			return errAway
		}
		return nil
	}
	if _, err := s.service.authorizePayment(t.Context(), authorizing(1)); !errors.Is(err, errAway) {
		t.Fatalf("authorize: got %v, want %v", err, errAway)
	}
	again, _, _, err := s.service.beginAuthorization(t.Context(), authorizing(1))
	if err != nil {
		t.Fatalf("begin again: %v", err)
	}
	s.provider.before = spent
	undo, err := s.service.voidPayment(t.Context(), voiding(1))
	if err != nil {
		t.Fatalf("void: %v", err)
	}
	if err := s.service.useNextKey(t.Context(), again.Attempts[0], OpAuthorize, errAway); !errors.Is(err, errSpent) {
		t.Fatalf("use the next key: got %v, want %v", err, errSpent)
	}
	// That consumer dies between asking under the next key and voiding what came of it.
	s.provider.before = func(op Operation, key string) error {
		if op == OpVoid {
			return errAway
		}
		return spent(op, key)
	}
	if _, err := s.service.authorizePayment(t.Context(), authorizing(1)); !errors.Is(err, errAway) {
		t.Fatalf("authorize under the next key: got %v, want %v", err, errAway)
	}
	if err := s.record(undo); !errors.Is(err, errMeanwhile) {
		t.Errorf("record the void: got %v, want %v", err, errMeanwhile)
	}
	s.provider.before = nil
	s.void(1)
	s.wantPublished(voided(1))
	s.wantNothingOpen()
}

// What a request came to under a key that was given up isn't the attempt's.
func TestAnswerUnderAKeyThatWasGivenUpIsNotRecorded(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	late, err := s.service.authorizePayment(t.Context(), authorizing(1))
	if err != nil {
		t.Fatalf("authorize: %v", err)
	}
	first := tried(1, Authorizing)
	if err := s.service.useNextKey(t.Context(), first, OpAuthorize, errAway); !errors.Is(err, errSpent) {
		t.Fatalf("use the next key: got %v, want %v", err, errSpent)
	}
	if err := s.record(late); !errors.Is(err, errMeanwhile) {
		t.Errorf("record: got %v, want %v", err, errMeanwhile)
	}
	s.authorize(1)
	s.wantPublished(authorized(1))
	var ref string
	if err := s.db.Admin.Get(&ref, `SELECT provider_ref FROM payments.attempts`); err != nil || !strings.HasSuffix(ref, ":authorize:2") {
		t.Errorf("the attempt came to %q, %v, want what the second key came to", ref, err)
	}
}

func TestStraysAreTold(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		a    Attempt
		ref  string
		want bool
	}{
		{"of an attempt without an answer, whose it may be", tried(1, Unknown), "other", false},
		{"what is authorized", tried(1, Authorized), "ref", false},
		{"beside what is authorized", tried(1, Authorized), "other", true},
		{"beside what is captured", tried(1, Captured), "other", true},
		{"of an attempt that was voided before it was there", tried(1, Voided), "other", true},
		{"of a declined attempt", tried(1, Declined), "other", true},
	} {
		if got := tc.a.hasStray(tc.ref); got != tc.want {
			t.Errorf("%s: got %t, want %t", tc.name, got, tc.want)
		}
	}
	y := Stray{Attempt: tried(2, Voided), Ref: "ref", Try: 1}
	if got, want := y.key(), paymentID+":2:void:ref"; got != want {
		t.Errorf("key: got %s, want %s", got, want)
	}
	if y.Try = 3; y.key() != paymentID+":2:void:ref:3" {
		t.Errorf("key of the third try: got %s", y.key())
	}
}
