package payments

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"sync/atomic"
	"time"

	"github.com/stripe/stripe-go/v85"
)

// maxStripeAnswer is the most bytes of an answer that are read: a page of a hundred
// intents with their charges is about one MiB.
const maxStripeAnswer = 8 << 20

// exchange is what was seen of the last request that was sent with its context: the
// library keeps it to itself when an answer is no JSON.
type exchange struct {
	connected atomic.Bool // the request had a connection, so it may have arrived
	status    int         // of the response; 0 = there was none
	header    http.Header
}

type exchangeKey struct{}

// watch returns a context whose requests are noted in the exchange beside it.
func watch(ctx context.Context) (context.Context, *exchange) {
	x := &exchange{}
	return context.WithValue(ctx, exchangeKey{}, x), x
}

// wire sends requests and notes what came of them.
type wire struct{ next http.RoundTripper }

func newWire() wire {
	return wire{&http.Transport{
		DialContext:         (&net.Dialer{Timeout: dialTimeout}).DialContext,
		TLSHandshakeTimeout: 2 * dialTimeout,
		MaxIdleConnsPerHost: 64, // more than messages in hand at once
		IdleConnTimeout:     time.Minute,
	}}
}

// RoundTrip sends r once.
func (w wire) RoundTrip(r *http.Request) (*http.Response, error) {
	x, watched := r.Context().Value(exchangeKey{}).(*exchange)
	if !watched {
		return nil, errors.New("a request that nobody watches")
	}
	x.connected.Store(false)
	x.status, x.header = 0, nil
	r = r.Clone(httptrace.WithClientTrace(r.Context(), &httptrace.ClientTrace{
		GotConn: func(httptrace.GotConnInfo) { x.connected.Store(true) },
	}))
	// net/http sends a request that bears an Idempotency-Key again when its
	// connection breaks, if it can have the body again.
	r.GetBody = nil
	// It tells of the machine that the program runs on.
	r.Header.Del("X-Stripe-Client-User-Agent")
	r.Header.Set("User-Agent", "Orderflow stripe-go/"+stripe.ClientVersion)
	res, err := w.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	x.status, x.header = res.StatusCode, res.Header
	res.Body = struct {
		io.Reader
		io.Closer
	}{io.LimitReader(res.Body, maxStripeAnswer), res.Body}
	if res.StatusCode < 400 && res.StatusCode != http.StatusOK {
		// A redirect. The library would take its body for the answer.
		return nil, errors.Join(errProvider, res.Body.Close())
	}
	return res, nil
}

// failure says of which class of Gateway's errors err is, the library's about the
// request that x saw. It never wraps the library's error where there was a response:
// that one tells the whole body.
//
// By docs.stripe.com/api/errors and /error-low-level: 401 and 403 (our key) and 429
// (too many) are answered before anything is done, but for lock_timeout, which is 429
// about an object in use. 409 says that the first request under the key runs still,
// 424 that somebody behind Stripe failed; the result of 5xx is indeterminate. All other
// 4xx are Stripe's word, if it is Stripe who speaks. An answer that is kept under the
// key and given again bears the header Idempotent-Replayed.
func (x *exchange) failure(err error) error {
	if x.status == 0 {
		return &AwayError{NothingHappened: !x.connected.Load(), Err: err}
	}
	away := &AwayError{
		RetryAfter: retryAfter(x.header),
		Spent:      x.header.Get("Idempotent-Replayed") == "true",
		Err:        fmt.Errorf("answer %d: %w", x.status, errProvider),
	}
	var said *stripe.Error
	if !errors.As(err, &said) {
		said = nil
	}
	switch code := x.status; {
	case code == http.StatusUnauthorized, code == http.StatusForbidden:
		away.NothingHappened = true
	case code == http.StatusTooManyRequests:
		away.NothingHappened = said == nil || said.Code != stripe.ErrorCodeLockTimeout
	case code < 400, code >= 500, said == nil:
	case code == http.StatusRequestTimeout, code == http.StatusConflict, code == http.StatusFailedDependency,
		code == http.StatusTooEarly, said.Type == stripe.ErrorTypeAPI, said.Code == stripe.ErrorCodeIdempotencyKeyInUse:
	default:
		return &RefusedError{Status: code, Code: refusal(said)}
	}
	return away
}

// unsettled is err about a request that had to follow another: what that one did
// isn't settled, whatever is known of this one.
func unsettled(err error) error {
	away := &AwayError{Err: errors.New(err.Error())}
	var seen *AwayError
	if errors.As(err, &seen) {
		away.RetryAfter, away.Err = seen.RetryAfter, seen.Err
	}
	return away
}

// noAnswer is the error for an answer that is none: what it says, and nobody asked for.
func noAnswer(status string) error {
	return &AwayError{Err: fmt.Errorf("answer says %q: %w", word(status), errProvider)}
}
