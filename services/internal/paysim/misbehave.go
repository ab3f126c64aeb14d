package paysim

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"time"

	"example.com/orderflow/messaging/httpapi"
)

// mischief is what goes wrong with one request; the zero mischief is nothing.
type mischief struct{ rule }

func (m mischief) does(what misdeed) bool { return misdeed(m.Misdeed) == what }

// mischief decides what goes wrong with a request of op: what the rules in force
// say, else what the method token's conduct c says. answered is true when the
// request has been answered meanwhile.
func (s *Server) mischief(w http.ResponseWriter, r *http.Request, op string, c conduct, key, fingerprint, subject string) (m mischief, answered bool, err error) {
	if m.rule = s.conducts.take(op); !m.does(none) {
		return m, false, nil
	}
	if c.op != op {
		return m, false, nil
	}
	return s.tokenMischief(w, r, op, c, key, fingerprint, subject)
}

// tokenMischief is the mischief of a method token. What was answered before is
// answered again at once; else subject has its one failure, unless it had it.
func (s *Server) tokenMischief(w http.ResponseWriter, r *http.Request, op string, c conduct, key, fingerprint, subject string) (mischief, bool, error) {
	ans, done, err := s.answered(r.Context(), key, fingerprint)
	if err != nil {
		return mischief{}, false, err
	}
	if done {
		return mischief{}, true, write(w, ans, true)
	}
	m := mischief{rule{Operation: op, Misdeed: string(c.misdeed), DelayMS: int(s.cfg.Slow.Milliseconds())}}
	if m.does(none) || m.does(slow) {
		return m, false, nil
	}
	first, err := s.store.failOnce(r.Context(), subject)
	if err != nil || !first {
		return mischief{}, false, err
	}
	return m, false, nil
}

// perform does what was asked for by effect, or doesn't, and answers or doesn't,
// as m says. effect returns its answer, true when that was kept from before.
func (s *Server) perform(w http.ResponseWriter, r *http.Request, m mischief, ans answer,
	effect func(context.Context, answer) (answer, bool, error),
) error {
	ctx := r.Context()
	if stop, err := s.before(w, r, m); stop || err != nil {
		return err
	}
	switch misdeed(m.Misdeed) {
	case errorStored, errorStuck:
		ans.Status, ans.Failure = http.StatusInternalServerError, untilLookedUp
		if m.does(errorStuck) {
			ans.Failure = forGood
		}
		return s.kept(w, r, ans, s.store.insertAnswer(ctx, ans))
	case storedAfter:
		ans.Failure = untilLookedUp
	case late:
		// The client hears nothing, and has gone when it happens.
		ctx = context.WithoutCancel(ctx)
		timer := time.NewTimer(m.delay())
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-s.closing:
		}
	}
	ans, replayed, err := effect(ctx, ans)
	if err != nil {
		return err
	}
	switch misdeed(m.Misdeed) {
	case timeoutAfter:
		s.hang(r)
		panic(http.ErrAbortHandler)
	case late:
		panic(http.ErrAbortHandler)
	case forgotten:
		if err := s.store.forget(ctx, ans.Key); err != nil {
			return err
		}
		panic(http.ErrAbortHandler)
	case errorAfter:
		return httpapi.WriteJSON(w, http.StatusInternalServerError, result{Code: "provider_error"})
	case reset:
		return resetAfter(w, ans)
	}
	return write(w, ans, replayed)
}

// before does what goes wrong before any effect; true when that was the answer.
func (s *Server) before(w http.ResponseWriter, r *http.Request, m mischief) (bool, error) {
	switch misdeed(m.Misdeed) {
	case slow:
		timer := time.NewTimer(m.delay())
		defer timer.Stop()
		select {
		case <-timer.C:
			return false, nil
		case <-r.Context().Done():
			return true, r.Context().Err()
		}
	case timeoutBefore:
		s.hang(r)
		panic(http.ErrAbortHandler)
	case down:
		panic(http.ErrAbortHandler)
	case errorBefore:
		return true, httpapi.WriteJSON(w, http.StatusInternalServerError, result{Code: "provider_error"})
	case tooMany:
		w.Header().Set("Retry-After", strconv.Itoa(max(retryAfter, m.DelayMS/1000)))
		return true, httpapi.WriteJSON(w, http.StatusTooManyRequests, result{Code: "rate_limited"})
	}
	return false, nil
}

// misread lets a request that only reads go wrong, if a rule says so; true when
// that was the answer.
func (s *Server) misread(w http.ResponseWriter, r *http.Request, op string) (bool, error) {
	return s.before(w, r, mischief{s.conducts.take(op)})
}

// hang keeps the client waiting until it gives up, for Config.Hang at most.
func (s *Server) hang(r *http.Request) {
	timer := time.NewTimer(s.cfg.Hang)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-r.Context().Done():
	case <-s.closing:
	}
}

// resetAfter sends half of ans and resets the connection.
func resetAfter(w http.ResponseWriter, ans answer) error {
	conn, buf, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return fmt.Errorf("take over a connection: %w", err)
	}
	_, err = fmt.Fprintf(buf, "HTTP/1.1 %d %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
		ans.Status, http.StatusText(ans.Status), len(ans.Body), ans.Body[:len(ans.Body)/2])
	if err == nil {
		err = buf.Flush()
	}
	if tcp, ok := conn.(*net.TCPConn); ok { // so that closing it is a reset
		err = errors.Join(err, tcp.SetLinger(0))
	}
	return errors.Join(err, conn.Close())
}
