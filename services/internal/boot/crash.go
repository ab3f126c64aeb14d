package boot

import (
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"

	"example.com/orderflow/messaging"
)

// Crash is the setting FAULT_CRASH: one of messaging.CrashPoints at which the
// process is to die, "relay.before_commit", or the visit at which it is to,
// "relay.before_commit=3". The zero Crash is none.
type Crash struct {
	point string
	visit int64 // counted from 1
}

// UnmarshalText reads the setting. It returns an error for a point that there isn't.
func (c *Crash) UnmarshalText(text []byte) error {
	point, visit, numbered := strings.Cut(string(text), "=")
	if !slices.ContainsFunc(messaging.CrashPoints(), func(p messaging.CrashPoint) bool { return p.Name == point }) {
		return fmt.Errorf("there is no crash point %q", point)
	}
	*c = Crash{point: point, visit: 1}
	if !numbered {
		return nil
	}
	n, err := strconv.ParseInt(visit, 10, 32)
	if err != nil || n < 1 {
		return fmt.Errorf("crash point %s: visit %q is not a number from 1", point, visit)
	}
	c.visit = n
	return nil
}

// hook is what is to be called at every point: it tells and has die called at the
// one that was set, at its visit. nil when none was set.
func (c Crash) hook(service string, log *slog.Logger, die func()) func(point string) {
	if c.point == "" {
		return nil
	}
	var visits atomic.Int64
	return func(point string) {
		if point != c.point || visits.Add(1) != c.visit {
			return
		}
		log.Error("dies at a crash point, as it was told to", "service", service, "point", point, "visit", c.visit)
		die()
	}
}

// die ends the process as kill -9 does: nothing that was deferred runs, and
// connections end in the middle of whatever was sent.
func die() {
	if p, err := os.FindProcess(os.Getpid()); err == nil {
		_ = p.Kill()
	}
	// The first process of a container can't be killed from inside.
	os.Exit(128 + int(syscall.SIGKILL))
}

// BeforeAnswer is h, with the point before an answer: a request that may change
// something was done, and its client is about to hear of it.
func (c Crash) BeforeAnswer(h http.Handler, service string, log *slog.Logger) http.Handler {
	return beforeAnswer(h, c.hook(service, log, die))
}

func beforeAnswer(h http.Handler, crash func(point string)) http.Handler {
	if crash == nil {
		return h
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w = &answering{w, func() { crash(messaging.CrashHTTPBeforeAnswer) }}
		}
		h.ServeHTTP(w, r)
	})
}

// answering is a ResponseWriter that calls before ahead of the answer, unless that
// is a failure of the server's.
type answering struct {
	http.ResponseWriter
	before func() // nil once the answer has begun
}

func (a *answering) begin(status int) {
	if before := a.before; before != nil {
		a.before = nil
		if status < http.StatusInternalServerError {
			before()
		}
	}
}

// WriteHeader begins the answer.
func (a *answering) WriteHeader(status int) {
	a.begin(status)
	a.ResponseWriter.WriteHeader(status)
}

// Write begins the answer with 200 unless it has begun.
func (a *answering) Write(b []byte) (int, error) {
	a.begin(http.StatusOK)
	return a.ResponseWriter.Write(b)
}

// Unwrap is for http.ResponseController.
func (a *answering) Unwrap() http.ResponseWriter { return a.ResponseWriter }
