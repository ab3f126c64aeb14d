package payments

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"
)

const (
	breakAfter = 5 // calls in a row that got no answer
	firstPause = time.Second
	maxPause   = 10 * time.Second
	probePause = 300 * time.Millisecond // for the others, while one asks whether the provider is back
)

// errOpen: the provider wasn't asked, because it didn't answer those before.
var errOpen = errors.New("the provider did not answer the last calls and is left alone for a while")

// breaker is a Gateway that leaves a provider alone which doesn't answer: so that
// what needs it fails at once, and doesn't keep from being handled what doesn't. After
// a pause one call finds out whether it is back; the pause doubles until it is. A
// provider that says how long it wants to be left alone is.
//
// It goes by the process's clock, which is right for what ends with the process.
type breaker struct {
	Gateway
	log *slog.Logger
	now func() time.Time

	mu      sync.Mutex
	failed  int           // in a row
	pause   time.Duration // 0 = closed: calls go through
	until   time.Time     // when the pause is over
	probing bool          // one call finds out
}

func newBreaker(g Gateway, log *slog.Logger) *breaker {
	return &breaker{Gateway: g, log: log, now: time.Now}
}

// through has call made, unless the provider is left alone.
func through[T any](b *breaker, call func() (T, error)) (T, error) {
	probe, err := b.enter()
	if err != nil {
		var zero T
		return zero, err
	}
	ended := false
	defer func() {
		if !ended { // a panic is no answer, and must not leave it half open
			b.leave(probe, errProvider)
		}
	}()
	got, err := call()
	ended = true
	b.leave(probe, err)
	return got, err
}

// enter returns an *AwayError when the provider is left alone.
func (b *breaker) enter() (probe bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.pause == 0 {
		return false, nil
	}
	left := b.until.Sub(b.now())
	if left <= 0 && !b.probing {
		b.probing = true
		return true, nil
	}
	return false, &AwayError{NothingHappened: true, RetryAfter: max(left, probePause), Err: errOpen}
}

// leave notes how a call ended. Calls that were under way when the pause began
// change nothing, unless one got an answer.
func (b *breaker) leave(probe bool, err error) {
	var refused *RefusedError
	var away *AwayError
	answered := err == nil || errors.As(err, &refused)
	b.mu.Lock()
	defer b.mu.Unlock()
	if probe {
		b.probing = false
	}
	switch {
	case answered:
		if b.pause > 0 {
			b.log.Info("provider answers again", "service", "payments")
		}
		b.failed, b.pause = 0, 0
	case errors.Is(err, context.Canceled): // we gave up, not the provider
	case errors.As(err, &away) && away.RetryAfter > 0:
		b.open(max(b.pause, firstPause), away.RetryAfter)
	case probe:
		b.open(min(2*b.pause, maxPause), 0)
	case b.pause == 0:
		if b.failed++; b.failed >= breakAfter {
			b.open(firstPause, 0)
		}
	}
}

// open leaves the provider alone for pause, or for wanted if it said so.
func (b *breaker) open(pause, wanted time.Duration) {
	if b.pause == 0 {
		b.log.Warn("provider does not answer and is left alone", "service", "payments", "duration_ms", max(pause, wanted).Milliseconds())
	}
	b.failed, b.pause = 0, pause
	wait := pause
	if wanted > 0 {
		wait = wanted
	}
	b.until = b.now().Add(wait)
}

// Authorize is the Gateway's, through the breaker, as are the methods below.
func (b *breaker) Authorize(ctx context.Context, r AuthorizeRequest) (Authorization, error) {
	return through(b, func() (Authorization, error) { return b.Gateway.Authorize(ctx, r) })
}

// Capture is the Gateway's.
func (b *breaker) Capture(ctx context.Context, r CaptureRequest) (Authorization, error) {
	return through(b, func() (Authorization, error) { return b.Gateway.Capture(ctx, r) })
}

// Void is the Gateway's.
func (b *breaker) Void(ctx context.Context, r VoidRequest) (Authorization, error) {
	return through(b, func() (Authorization, error) { return b.Gateway.Void(ctx, r) })
}

// Refund is the Gateway's.
func (b *breaker) Refund(ctx context.Context, r RefundRequest) (Refund, error) {
	return through(b, func() (Refund, error) { return b.Gateway.Refund(ctx, r) })
}

// FindAuthorization is the Gateway's.
func (b *breaker) FindAuthorization(ctx context.Context, q AuthorizationQuery) (Authorization, error) {
	return through(b, func() (Authorization, error) { return b.Gateway.FindAuthorization(ctx, q) })
}

// FindRefund is the Gateway's.
func (b *breaker) FindRefund(ctx context.Context, q RefundQuery) (Refund, error) {
	return through(b, func() (Refund, error) { return b.Gateway.FindRefund(ctx, q) })
}

// ListMovements is the Gateway's.
func (b *breaker) ListMovements(ctx context.Context, q MovementQuery) ([]Movement, string, error) {
	var next string
	page, err := through(b, func() (page []Movement, err error) {
		page, next, err = b.Gateway.ListMovements(ctx, q)
		return page, err
	})
	return page, next, err
}
