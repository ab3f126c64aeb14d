package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"path"
	"runtime/debug"
	"time"

	"github.com/google/uuid"

	"example.com/orderflow/messaging"
)

// requestLimit ends the context of a request, so that nobody waits more than 5 s
// for the problem that a database is which hangs or is used up: what is left of
// them is for giving up a transaction, and for the way. See Waiting and Mux.Limit.
const requestLimit = 4 * time.Second

// Mux routes requests by method and path. What isn't there is answered with a
// problem, like every error that a handler returns.
type Mux struct {
	mux     *http.ServeMux
	log     *slog.Logger
	limit   time.Duration
	service string
}

// NewMux returns a Mux without routes.
func NewMux(log *slog.Logger) *Mux {
	return &Mux{mux: http.NewServeMux(), log: log, limit: requestLimit}
}

// Limit has the context of each request last for d instead of 4 s.
func (m *Mux) Limit(d time.Duration) { m.limit = d }

// Service names the service whose routes these are: a request that says it is for
// another one is answered by 421 (see ServiceHeader).
func (m *Mux) Service(name string) { m.service = name }

// Handle registers h for a pattern of http.ServeMux, method included
// ("POST /v1/orders/{id}/cancel"). An error that h returns is the answer: a
// *Problem as it is, anything else as 503 or 500. h writes nothing before it
// returns an error. Handle panics for a pattern that conflicts with another.
func (m *Mux) Handle(pattern string, h func(http.ResponseWriter, *http.Request) error) {
	m.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		err := checkRequest(r)
		if err == nil {
			err = h(w, r)
		}
		if err != nil {
			m.fail(w, r, err)
		}
	})
}

// ServeHTTP gives the request its id and answers it.
func (m *Mux) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	started := time.Now()
	id, err := requestID(r)
	if err != nil {
		m.log.Error("no request id could be made", "err", err)
	}
	whole := messaging.WithCorrelation(context.WithValue(r.Context(), requestIDKey{}, id), id)
	ctx, cancel := context.WithTimeout(context.WithValue(whole, wholeKey{}, whole), m.limit)
	defer cancel()
	r = r.WithContext(ctx)

	w := &response{ResponseWriter: rw}
	w.Header().Set("X-Request-Id", id)
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")

	_, pattern := m.mux.Handler(r)
	defer func() {
		if v := recover(); v != nil {
			m.recovered(w, r, pattern, v)
		}
		m.log.DebugContext(ctx, "request answered", "correlation_id", id, "method", r.Method, "pattern", pattern,
			"status", w.status, "duration_ms", time.Since(started).Milliseconds())
	}()
	if Misdirected(r, m.service) {
		m.fail(w, r, NewProblem(http.StatusMisdirectedRequest, "misdirected-request", "another service is at this address; nothing was done"))
		return
	}
	if pattern == "" || !cleanPath(r.URL) {
		m.fail(w, r, m.unrouted(r))
		return
	}
	m.mux.ServeHTTP(w, r)
}

// unrouted is the problem for a request that no handler takes: 405 when another
// method would be, else 404.
func (m *Mux) unrouted(r *http.Request) *Problem {
	if !cleanPath(r.URL) {
		return NotFound()
	}
	// ServeMux knows which methods are allowed and tells it in a header only.
	h, _ := m.mux.Handler(r)
	plain := unsent{}
	h.ServeHTTP(plain, r)
	if allow := http.Header(plain).Get("Allow"); allow != "" {
		return NewProblem(http.StatusMethodNotAllowed, "method-not-allowed", "allowed here: "+allow).WithHeader("Allow", allow)
	}
	return NotFound()
}

// cleanPath reports whether the path is as routes are written: nothing to be
// redirected to another spelling, and no text that can't be stored.
func cleanPath(u *url.URL) bool {
	escaped := u.EscapedPath()
	clean := path.Clean(escaped)
	if len(escaped) > 1 && escaped[len(escaped)-1] == '/' {
		clean += "/"
	}
	return clean == escaped && escaped[0] == '/' && plainText(u.Path)
}

// fail answers with the problem that err is, and logs what somebody may have to
// look at.
func (m *Mux) fail(w http.ResponseWriter, r *http.Request, err error) {
	ctx, id := r.Context(), RequestID(r.Context())
	p := problemOf(err)
	if p.Status == http.StatusInternalServerError && ctx.Err() != nil {
		p = notNow() // time was up, and what fails then fails in many ways
	}
	gone := errors.Is(context.Cause(ctx), context.Canceled)
	switch {
	case p.Status == http.StatusInternalServerError:
		m.log.ErrorContext(ctx, "request failed", "correlation_id", id, "pattern", r.Pattern, "err", err)
	case p.Status > http.StatusInternalServerError && !gone:
		m.log.WarnContext(ctx, "request could not be answered now", "correlation_id", id, "pattern", r.Pattern, "err", err)
	}
	if rec, ok := w.(*response); ok && rec.status != 0 {
		return // the answer is on its way; what failed was sending it
	}
	if err := p.write(w, id); err != nil {
		m.log.DebugContext(ctx, "answer not sent", "correlation_id", id, "err", err)
	}
}

// recovered answers for a handler that panicked with v.
func (m *Mux) recovered(w *response, r *http.Request, pattern string, v any) {
	if v == http.ErrAbortHandler {
		panic(v)
	}
	m.log.ErrorContext(r.Context(), "handler panicked", "correlation_id", RequestID(r.Context()), "pattern", pattern,
		"err", fmt.Sprint(v), "stack", string(debug.Stack()))
	if w.status != 0 {
		panic(http.ErrAbortHandler) // half an answer is out: cut the connection
	}
	if err := problemOf(errors.New("panic")).write(w, RequestID(r.Context())); err != nil {
		m.log.DebugContext(r.Context(), "answer not sent", "correlation_id", RequestID(r.Context()), "err", err)
	}
}

// unsent is an answer of which only the headers are kept.
type unsent http.Header

func (u unsent) Header() http.Header         { return http.Header(u) }
func (u unsent) Write(b []byte) (int, error) { return len(b), nil }
func (u unsent) WriteHeader(int)             {}

// response remembers the status that was sent, 0 before that.
type response struct {
	http.ResponseWriter
	status int
}

// WriteHeader notes the status unless it is an interim one.
func (w *response) WriteHeader(status int) {
	if w.status == 0 && status >= http.StatusOK {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

// Write notes that an answer without a status is a 200.
func (w *response) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return w.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController reach what is below.
func (w *response) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// WriteJSON answers with v. It returns an error when v can't be encoded, before
// anything was written, or when the client is gone.
func WriteJSON(w http.ResponseWriter, status int, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode an answer: %w", err)
	}
	return writeBody(w, status, "application/json", body)
}

func writeBody(w http.ResponseWriter, status int, mediaType string, body []byte) error {
	w.Header().Set("Content-Type", mediaType)
	w.WriteHeader(status)
	if _, err := w.Write(append(body, '\n')); err != nil {
		return fmt.Errorf("send an answer: %w", err)
	}
	return nil
}

// wholeKey has the context of a request without its limit.
type wholeKey struct{}

// Waiting is the context of a request that waits for d because its client prefers
// to: it lasts as much longer than the request's own. It ends when the client is
// gone, too.
func Waiting(r *http.Request, d time.Duration) (context.Context, context.CancelFunc) {
	whole, ok := r.Context().Value(wholeKey{}).(context.Context)
	if !ok {
		whole = r.Context()
	}
	return context.WithTimeout(whole, d+requestLimit)
}

type requestIDKey struct{}

// RequestID is the id of the request that ctx belongs to: the client's
// X-Request-Id, or one made here. It is "" outside a request.
func RequestID(ctx context.Context) string {
	id, _ := ctx.Value(requestIDKey{}).(string)
	return id
}

// requestID takes the client's id when it can be shown and logged, else a new one.
func requestID(r *http.Request) (string, error) {
	if ids := r.Header.Values("X-Request-Id"); len(ids) == 1 && printable(ids[0], 64) && !hasCardNumber(ids[0]) {
		return ids[0], nil
	}
	id, err := uuid.NewV7()
	if err != nil {
		return "", fmt.Errorf("make a request id: %w", err)
	}
	return id.String(), nil
}
