package payments

import (
	"errors"
	"sync/atomic"
	"testing"

	"example.com/orderflow/messaging"
)

// void runs a whole VoidPayment.
func (s *shop) void(n int) {
	s.t.Helper()
	r, err := s.service.voidPayment(s.t.Context(), voiding(n))
	if err == nil {
		err = s.record(r)
	}
	if err != nil {
		s.t.Errorf("void attempt %d: %v", n, err)
	}
}

// authorize runs a whole AuthorizePayment.
func (s *shop) authorize(n int) {
	s.t.Helper()
	r, err := s.service.authorizePayment(s.t.Context(), authorizing(n))
	if err == nil {
		err = s.record(r)
	}
	if err != nil {
		s.t.Errorf("authorize attempt %d: %v", n, err)
	}
}

func (s *shop) wantNothingOpen() {
	s.t.Helper()
	if got := s.provider.books(); got[Approved] != 0 || got[Closed] != 1 {
		s.t.Errorf("provider's books: got %v, want one closed and none open", got)
	}
}

func TestVoidBetweenCallAndRecord(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	r, err := s.service.authorizePayment(t.Context(), authorizing(1))
	if err != nil {
		t.Fatalf("authorize: %v", err)
	}
	s.void(1)
	s.wantPublished(voided(1))
	if err := s.record(r); err != nil {
		t.Fatalf("record the authorization: %v", err)
	}
	s.wantPublished(declined(1, "voided"))
	s.wantRows("1 voided", "1 authorize approved, 1 void closed")
	s.wantCalls("authorize 1, lookup 1, void 1")
	s.wantNothingOpen()
}

// A request that takes its effect after our time-out, and after the void has looked
// it up in vain, must leave nothing open: the void uses its key up.
func TestVoidThatOvertakesTheCallOnItsWay(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	var asked atomic.Int32
	s.provider.before = func(op Operation, _ string) error {
		if op == OpAuthorize && asked.Add(1) == 1 {
			s.void(1) // begins and ends before this request reaches the provider
		}
		return nil
	}
	r, err := s.service.authorizePayment(t.Context(), authorizing(1))
	if err != nil {
		t.Fatalf("authorize: %v", err)
	}
	s.wantPublished(voided(1))
	s.wantRows("1 voided", "1 authorize approved, 1 void closed")
	if err := s.record(r); err != nil {
		t.Fatalf("record the authorization: %v", err)
	}
	s.wantPublished(declined(1, "voided"))
	s.wantRows("1 voided", "1 authorize approved, 1 void closed")
	s.wantCalls("authorize 1, lookup 1, authorize 1, void 1")
	s.wantNothingOpen()
}

func TestAuthorizeRecordedBetweenUndoingAndItsRecord(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	var asked atomic.Int32
	var undo messaging.Record
	s.provider.before = func(op Operation, _ string) (err error) {
		if op == OpAuthorize && asked.Add(1) == 1 {
			undo, err = s.service.voidPayment(t.Context(), voiding(1))
		}
		return err
	}
	late, err := s.service.authorizePayment(t.Context(), authorizing(1))
	if err != nil {
		t.Fatalf("authorize: %v", err)
	}
	if err := s.record(late); err != nil {
		t.Fatalf("record the authorization: %v", err)
	}
	s.wantPublished(authorized(1))
	if err := s.record(undo); err != nil {
		t.Fatalf("record the void: %v", err)
	}
	s.wantPublished(voided(1))
	s.wantRows("1 voided", "1 authorize approved, 1 void closed")
	s.wantNothingOpen()
}

func TestVoidOfAnAttemptThatTheProviderRefused(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	if _, err := s.service.authorizePayment(t.Context(), withToken(1, "tok_declined")); err != nil {
		t.Fatalf("authorize: %v", err)
	}
	s.void(1)
	s.wantPublished(voided(1))
	s.wantRows("1 declined card_declined", "1 authorize refused, 1 void refused")
	s.wantCalls("authorize 1, lookup 1")
}

func TestVoidIsTriedAgainWhenTheProviderIsAway(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name  string
		op    Operation
		after bool
		known bool // a look-up tells what came of it, at once
	}{
		{"look-up fails", opLookup, false, false},
		{"void fails before the effect", OpVoid, false, false},
		{"void fails after the effect", OpVoid, true, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := newShop(t)
			if _, err := s.service.authorizePayment(t.Context(), authorizing(1)); err != nil {
				t.Fatalf("authorize: %v", err)
			}
			if tc.after {
				s.provider.after = once(tc.op)
			} else {
				s.provider.before = once(tc.op)
			}
			if _, err := s.service.voidPayment(t.Context(), voiding(1)); errors.Is(err, errAway) == tc.known {
				t.Fatalf("void: got %v, want %v: %t", err, errAway, !tc.known)
			}
			s.void(1)
			s.wantPublished(voided(1))
			s.wantRows("1 voided", "1 authorize approved, 1 void closed")
			s.wantNothingOpen()
		})
	}
}

func TestAuthorizeAfterAVoidThatBeganOnly(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	if _, err := s.service.authorizePayment(t.Context(), authorizing(1)); err != nil {
		t.Fatalf("authorize: %v", err)
	}
	// The void noted its intent and asked the provider, then its process died.
	if _, err := s.service.voidPayment(t.Context(), voiding(1)); err != nil {
		t.Fatalf("void: %v", err)
	}
	s.authorize(1)
	s.wantPublished(declined(1, "voided"))
	s.void(1)
	s.wantPublished(voided(1))
	s.wantRows("1 voided", "1 authorize approved, 1 void closed")
	s.wantNothingOpen()
}
