// Package boot is what the programs of the services have in common: settings
// from the environment, log, database, messaging, HTTP, and an orderly end.
package boot

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/caarlos0/env/v11"
	"github.com/go-playground/validator/v10"
	"github.com/jmoiron/sqlx"
	"github.com/lmittmann/tint"

	"example.com/orderflow/messaging"
	"example.com/orderflow/messaging/httpapi"
)

// Config is what every service's program is told by its environment.
type Config struct {
	// Addr is where HTTP is served; port 0 takes a free one.
	Addr string `env:"ADDR" envDefault:"127.0.0.1:0" validate:"required"`
	// DatabaseURL logs in as the service's own role.
	DatabaseURL string `env:"DATABASE_URL,required,unset" validate:"required"`
	// Pool is the most connections that the service opens, the listening one apart.
	Pool int `env:"DATABASE_POOL" envDefault:"16" validate:"min=4,max=500"`
	// Consumers is how many transactions of a queue run at once.
	Consumers int `env:"CONSUMERS" envDefault:"2" validate:"min=1,max=64"`
	// InFlight is how many messages of a queue whose handlers talk to the outside are in hand at once.
	InFlight int `env:"IN_FLIGHT" envDefault:"16" validate:"min=1,max=256"`
	// Drain is how long requests are still taken after SIGTERM, while /readyz says
	// no: longer than it takes until balancers have asked and obey. Kubernetes needs 5 s.
	Drain time.Duration `env:"DRAIN_DELAY" envDefault:"500ms" validate:"min=0s,max=1m"`
	// Slow makes handlers slower, to see that it hurts nobody else:
	// "orders.order_placed=3s,…".
	Slow map[string]time.Duration `env:"FAULT_SLOW" envKeyValSeparator:"="`
	// Panics makes the first message of a kind that this process handles panic, so
	// many times, after all that its handler does: "payments.authorize_payment=8,…".
	Panics map[string]int `env:"FAULT_PANIC" envKeyValSeparator:"="`
	// SQLErrors does the same by a statement that the database refuses, in the
	// transaction of the message. Only messages of transactional queues have one.
	SQLErrors map[string]int `env:"FAULT_SQL" envKeyValSeparator:"="`
	// Crash kills the process at a point between two steps, to see that nothing is
	// lost by it: "relay.before_commit", or "relay.before_commit=3" at the third visit.
	Crash Crash `env:"FAULT_CRASH"`

	// Listener serves instead of Addr when set: for programs that run several services.
	Listener net.Listener `env:"-" validate:"-"`
}

// LogConfig says how the program logs.
type LogConfig struct {
	Level  slog.Level `env:"LOG_LEVEL" envDefault:"info"`
	Format string     `env:"LOG_FORMAT" envDefault:"text" validate:"oneof=text json"`
}

// Service is what a service's package gives to its program.
type Service interface {
	Routes(*httpapi.Mux)
	// Ready returns why the service can't serve yet, beyond messaging; nil when it can.
	Ready(context.Context) error
}

// Worker is a Service with work of its own besides messages and requests.
type Worker interface {
	// Run works until ctx ends; an error ends the program.
	Run(ctx context.Context) error
}

// Build makes the service on its database and bus.
type Build func(*sqlx.DB, *messaging.Bus, *slog.Logger) (Service, error)

// SpareCollector lets the heap grow to five times what is in use before it is
// collected, unless GOGC says otherwise. A service uses a few MB: so this costs
// some tens of MB and spares four of five collections, which under load are a
// sixth of a service's work.
func SpareCollector() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(400)
	}
}

// Main loads the settings C, runs run until SIGINT or SIGTERM, and ends the
// process: 0 after an orderly end, 1 after an error, which is logged.
func Main[C any](name string, run func(context.Context, C, *slog.Logger) error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	SpareCollector()
	cfg, log, err := Load[C]()
	if err == nil {
		err = run(ctx, cfg, log)
	}
	if err != nil {
		log.Error("ended by an error", "service", name, "err", err)
		os.Exit(1)
	}
}

// Load reads the settings C and the log's from the environment. It always
// returns a usable logger.
func Load[C any]() (C, *slog.Logger, error) {
	var cfg C
	var logs LogConfig
	err := errors.Join(env.Parse(&logs), env.Parse(&cfg))
	if err == nil {
		err = validator.New(validator.WithRequiredStructEnabled()).Struct(cfg)
	}
	if err != nil {
		err = fmt.Errorf("settings: %w", err)
	}
	return cfg, NewLog(logs), err
}

// NewLog logs to standard error: JSON for machines, else coloured text.
func NewLog(cfg LogConfig) *slog.Logger {
	if cfg.Format == "json" {
		return slog.New(slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{Level: cfg.Level}))
	}
	terminal, err := os.Stderr.Stat()
	plain := err != nil || terminal.Mode()&os.ModeCharDevice == 0
	return slog.New(tint.NewTextHandler(os.Stderr, &tint.Options{Level: cfg.Level, TimeFormat: "15:04:05.000", NoColor: plain}))
}

// stopLimit bounds each part of an orderly end.
const stopLimit = 5 * time.Second

// Run runs the service of spec until ctx ends: it waits for the database to be
// migrated, then handles messages and serves HTTP. At the end it isn't ready any
// more, goes on for cfg.Drain, finishes the requests and messages in hand and
// closes everything.
func Run(ctx context.Context, cfg Config, spec messaging.Spec, log *slog.Logger, build Build) (err error) {
	db, err := messaging.OpenDB(cfg.DatabaseURL, spec.Name, cfg.Pool)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	waiting, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := messaging.WaitMigrated(waiting, db, log, spec); err != nil {
		if ctx.Err() != nil {
			return nil // told to stop before it had begun
		}
		return err
	}
	crash := cfg.Crash.hook(spec.Name, log, die)
	bus, err := messaging.New(messaging.Config{
		Spec: spec, DB: db, DSN: cfg.DatabaseURL, Log: log, Consumers: cfg.Consumers, InFlight: cfg.InFlight, Middleware: faults(cfg), Crash: crash,
	})
	if err != nil {
		return err
	}
	service, err := build(db, bus, log)
	if err != nil {
		return fmt.Errorf("make service %s: %w", spec.Name, err)
	}
	mux := httpapi.NewMux(log)
	mux.Service(spec.Name)
	service.Routes(mux)
	health(mux, func(ctx context.Context) error {
		return errors.Join(bus.Ready(ctx), service.Ready(ctx))
	})
	listener := cfg.Listener
	if listener == nil {
		if listener, err = new(net.ListenConfig).Listen(ctx, "tcp", cfg.Addr); err != nil {
			return fmt.Errorf("serve %s: %w", spec.Name, err)
		}
	}
	log.Info("serving", "service", spec.Name, "addr", listener.Addr().String())
	work := bus.Run
	if w, ok := service.(Worker); ok {
		work = both(bus.Run, w.Run)
	}
	return serve(ctx, listener, beforeAnswer(mux, crash), cfg.Drain, work)
}

// both runs a and b until ctx ends or one of them does.
func both(a, b func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		other := make(chan error, 1)
		go func() {
			defer cancel()
			other <- b(ctx)
		}()
		err := a(ctx)
		cancel()
		return errors.Join(err, <-other)
	}
}

// serve runs HTTP and work until ctx ends or one of them fails, then ends both.
// When it was told to end, nobody who asks meanwhile is turned away: first it isn't
// ready and closes each connection with its answer, and all else goes on for the
// time of drain, in which balancers and clients turn to others; then it ends.
func serve(ctx context.Context, l net.Listener, h http.Handler, drain time.Duration, work func(context.Context) error) error {
	working, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	leave := &leaving{handler: h}
	server := httpapi.NewServer(l.Addr().String(), leave)
	var unused unusedConns
	server.ConnState = unused.note
	served, worked := make(chan error, 1), make(chan error, 1)
	go func() {
		defer stop()
		err := server.Serve(l)
		if errors.Is(err, http.ErrServerClosed) {
			err = nil
		}
		served <- err
	}()
	go func() {
		defer stop()
		worked <- work(working)
	}()
	select {
	case <-ctx.Done():
		leave.begun.Store(true)
		wait(working, drain)
	case <-working.Done():
		leave.begun.Store(true)
	}
	stop()
	ending, done := context.WithTimeout(context.WithoutCancel(ctx), stopLimit)
	defer done()
	unused.close()
	err := server.Shutdown(ending)
	if err != nil {
		err = errors.Join(fmt.Errorf("requests were cut off: %w", err), server.Close())
	}
	return errors.Join(err, <-served, <-worked)
}

// wait returns after d, or when ctx ends.
func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// leaving is a handler that tells everybody, once begun, to ask somebody else next time.
type leaving struct {
	handler http.Handler
	begun   atomic.Bool
}

func (l *leaving) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !l.begun.Load() {
		l.handler.ServeHTTP(w, r)
		return
	}
	// A connection that is idle at the end is closed while its client may just be
	// sending: that one couldn't know what came of it. So there are none.
	w.Header().Set("Connection", "close")
	if r.URL.Path == "/readyz" {
		_ = notReady(w, errors.New("stopping")) // a client that hangs up meanwhile is no event
		return
	}
	l.handler.ServeHTTP(w, r)
}

// unusedConns are the connections on which nothing was asked yet: clients leave
// some behind, and Shutdown would wait 5 s for each to say something.
type unusedConns struct {
	mu     sync.Mutex
	conns  map[net.Conn]bool
	closed bool
}

// note is an http.Server's ConnState.
func (u *unusedConns) note(c net.Conn, state http.ConnState) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if state != http.StateNew {
		delete(u.conns, c)
		return
	}
	if u.closed {
		_ = c.Close() // the client finds out by itself
		return
	}
	if u.conns == nil {
		u.conns = map[net.Conn]bool{}
	}
	u.conns[c] = true
}

func (u *unusedConns) close() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.closed = true
	for c := range u.conns {
		_ = c.Close()
	}
}

// Serve serves h alone until ctx ends, and ends as Run does: for programs without
// messages.
func Serve(ctx context.Context, l net.Listener, h http.Handler, drain time.Duration) error {
	return serve(ctx, l, h, drain, func(ctx context.Context) error {
		<-ctx.Done()
		return nil
	})
}

// health mounts /healthz (the process lives) and /readyz (it can serve).
func health(mux *httpapi.Mux, ready func(context.Context) error) {
	mux.Handle("GET /healthz", func(w http.ResponseWriter, r *http.Request) error {
		return httpapi.WriteJSON(w, http.StatusOK, map[string]string{"status": "ok"})
	})
	mux.Handle("GET /readyz", func(w http.ResponseWriter, r *http.Request) error {
		ctx, cancel := context.WithTimeout(r.Context(), 2*time.Second)
		defer cancel()
		if err := ready(ctx); err != nil {
			return notReady(w, err)
		}
		return httpapi.WriteJSON(w, http.StatusOK, map[string]string{"status": "ready"})
	})
}

// notReady answers why: it is no failure, it is asked for while services start and stop.
func notReady(w http.ResponseWriter, why error) error {
	w.Header().Set("Retry-After", "1")
	return httpapi.WriteJSON(w, http.StatusServiceUnavailable, map[string]string{"status": "not ready", "reason": why.Error()})
}
