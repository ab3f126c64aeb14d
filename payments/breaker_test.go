package payments

import (
	"context"
	"errors"
	"testing"
	"time"

	"example.com/orderflow/messaging/messagingtest"
)

// stub answers Void as it is told.
type stub struct {
	Gateway
	err   error
	calls int
}

func (s *stub) Void(context.Context, VoidRequest) (Authorization, error) {
	s.calls++
	return Authorization{}, s.err
}

func TestBreaker(t *testing.T) {
	t.Parallel()
	now := time.Now()
	g := &stub{}
	b := newBreaker(g, messagingtest.Log(t))
	b.now = func() time.Time { return now }
	call := func(err error) error {
		g.err = err
		_, got := b.Void(t.Context(), VoidRequest{})
		return got
	}
	want := func(what string, err error, open bool, calls int) {
		t.Helper()
		var away *AwayError
		isOpen := errors.Is(err, errOpen) && errors.As(err, &away) && away.NothingHappened && away.RetryAfter > 0
		if isOpen != open || g.calls != calls {
			t.Errorf("%s: got %v after %d calls, want open %t after %d", what, err, g.calls, open, calls)
		}
	}
	for range breakAfter - 1 {
		want("failing", call(errAway), false, g.calls)
	}
	want("a refusal is an answer", call(&RefusedError{Status: 409}), false, breakAfter)
	for range breakAfter - 1 {
		want("failing again", call(errAway), false, g.calls)
	}
	want("we gave up", call(context.Canceled), false, 2*breakAfter)
	want("the last of five in a row", call(errAway), false, 2*breakAfter+1)
	n := g.calls
	want("open", call(nil), true, n)
	now = now.Add(firstPause)
	want("the probe fails", call(errAway), false, n+1)
	now = now.Add(firstPause)
	want("the pause has doubled", call(nil), true, n+1)
	now = now.Add(firstPause)
	g.err = nil
	if probe, err := b.enter(); !probe || err != nil {
		t.Errorf("after the pause: got %t, %v, want a probe", probe, err)
	}
	want("others wait for the probe", call(nil), true, n+1)
	b.leave(true, nil)
	want("closed", call(nil), false, n+2)
	want("the provider says how long", call(&AwayError{NothingHappened: true, RetryAfter: time.Minute, Err: errAway}), false, n+3)
	now = now.Add(59 * time.Second)
	want("it is left alone as long", call(nil), true, n+3)
	now = now.Add(time.Second)
	want("and then asked", call(nil), false, n+4)
	want("closed again", call(nil), false, n+5)
}

func TestBreakerSurvivesAPanic(t *testing.T) {
	t.Parallel()
	now := time.Now()
	b := newBreaker(&stub{}, messagingtest.Log(t))
	b.now = func() time.Time { return now }
	b.mu.Lock()
	b.open(firstPause, 0)
	b.mu.Unlock()
	now = now.Add(firstPause)
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic was swallowed")
			}
		}()
		_, _ = through(b, func() (int, error) { panic("broken") })
	}()
	now = now.Add(maxPause)
	if got, err := through(b, func() (int, error) { return 1, nil }); got != 1 || err != nil {
		t.Errorf("after a probe that panicked: got %d, %v, want another probe", got, err)
	}
}
