package e2e

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/jmoiron/sqlx"
)

// services are the programs of a stack, in the order in which they are started.
// All but the last log in to the database, each under its own role.
var services = []string{"paysim", "inventory", "orders", "payments", "notifications", "console"}

// stopLimit is how long a program may take to end after SIGTERM.
const stopLimit = 10 * time.Second

// Stack is a whole shop: a PostgreSQL of its own, migrated, and every service as
// a process of its own.
type Stack struct {
	Backend
	Admin *sqlx.DB // an administrator's, for checks
	URL   string   // of the console

	crew      *crew
	passwords map[string]string // of the roles, by service; and the provider's key
	mu        sync.Mutex
	up        map[string]bool
	links     []*Link
	mails     bool
}

// Option is what a stack is only when it is asked for.
type Option func(*Stack)

// WithMails has the shop send its mails, to the console's mailbox. Under load that
// is a fifth of all the work, so that stacks are without.
func WithMails(s *Stack) { s.mails = true }

// NewStack starts a shop for t and returns when it takes orders. When t ends,
// all programs are stopped, each of which must end with code 0, and t fails when
// one had ended by itself; when t has failed, the ends of their logs are shown.
func NewStack(t testing.TB, options ...Option) *Stack {
	t.Helper()
	started := time.Now()
	b, err := newBackend(t.Context())
	if err != nil {
		t.Fatalf("nothing to run the shop on: %v", err)
	}
	s := &Stack{Backend: b, passwords: map[string]string{}, up: map[string]bool{}}
	for _, o := range options {
		o(s)
	}
	t.Cleanup(func() { s.close(t) })
	if s.crew, err = newCrew("tools"); err != nil {
		t.Fatal(err)
	}
	if s.Admin, err = openDB(b.DSN("", "")); err != nil {
		t.Fatalf("open the database as administrator: %v", err)
	}
	env := map[string]string{"DATABASE_URL": b.DSN("", "")}
	for _, name := range services {
		s.passwords[name] = rand.Text()
		env[strings.ToUpper(name)+"_DATABASE_PASSWORD"] = s.passwords[name]
	}
	if _, err := run(t.Context(), s.crew, "shopctl", env, "migrate"); err != nil {
		t.Fatalf("migrate the database: %v", err)
	}
	for _, name := range services {
		s.Launch(t, name)
	}
	s.WaitReady(t, services...)
	t.Logf("shop on backend %s up after %s", b.Name(), since(started))
	return s
}

// openDB returns a pool for the administrator behind dsn. It doesn't connect yet.
func openDB(dsn string) (*sqlx.DB, error) { return openDatabase(dsn, "") }

// openDatabase does so for another database of the same server.
func openDatabase(dsn, database string) (*sqlx.DB, error) {
	cfg, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, err
	}
	if database != "" {
		cfg.Database = database
	}
	cfg.RuntimeParams["timezone"] = "UTC"
	cfg.RuntimeParams["application_name"] = "e2e"
	return sqlx.NewDb(stdlib.OpenDB(*cfg), "pgx"), nil
}

func first(service string) Process { return Process{Service: service, Replica: 1} }

// Launch starts the service with the settings that the stack needs and those of
// extra, "NAME=value" each. It doesn't wait until it is ready.
func (s *Stack) Launch(t testing.TB, service string, extra ...string) {
	t.Helper()
	url, err := s.Start(t.Context(), first(service), s.settings(service, extra))
	if err != nil {
		t.Fatal(err)
	}
	s.setUp(service, true)
	if service == "console" {
		s.URL = url
	}
}

func (s *Stack) settings(service string, extra []string) map[string]string {
	env := map[string]string{}
	switch service {
	case "console":
		env["MAILBOX_ADDR"], _, _ = s.mailbox()
		for _, name := range []string{"orders", "payments", "inventory", "notifications"} {
			env[strings.ToUpper(name)+"_URL"] = s.Peer(first(name))
		}
	case "payments":
		env["PAYMENTS_PROVIDER_URL"] = s.Peer(first("paysim"))
		env["PAYMENTS_PROVIDER_KEY"] = s.passwords["paysim"]
	case "notifications":
		if s.mails {
			_, env["NOTIFICATIONS_SMTP_HOST"], env["NOTIFICATIONS_SMTP_PORT"] = s.mailbox()
			env["NOTIFICATIONS_SMTP_TLS"] = "none"
		}
		env["NOTIFICATIONS_WEBHOOK_INSECURE"] = "true" // the endpoints are the test's
	case "paysim":
		env["PAYSIM_API_KEY"] = s.passwords["paysim"]
	}
	if service != "console" {
		env["DATABASE_URL"] = s.DSN("orderflow_"+service, s.passwords[service])
	}
	for _, e := range extra {
		name, value, _ := strings.Cut(e, "=")
		env[name] = value
	}
	return env
}

// mailbox is where the console catches the shop's mails, and how notifications
// reaches it.
func (s *Stack) mailbox() (listen, host, port string) {
	at := func(p Process) *url.URL {
		u, err := url.Parse(s.Peer(p))
		if err != nil {
			panic(fmt.Sprintf("address of %s: %v", p, err)) // a backend makes them
		}
		return u
	}
	host, port = at(first("console")).Hostname(), "1025"
	if ip := net.ParseIP(host); ip == nil {
		return "0.0.0.0:" + port, host, port
	}
	// Loopback is shared with other stacks: a port that is nobody else's.
	port = at(first("mailbox")).Port()
	return net.JoinHostPort(host, port), host, port
}

func (s *Stack) setUp(service string, up bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.up[service] = up
}

func (s *Stack) isUp(service string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.up[service]
}

// WaitReady returns when each of names answers 200 to GET /readyz, which may
// take 30 s.
func (s *Stack) WaitReady(t testing.TB, names ...string) {
	t.Helper()
	for _, name := range names {
		c := NewCustomer(t, s.Reach(first(name)))
		eventually(t, 30*time.Second, func() error {
			a, err := c.Do(t.Context(), http.MethodGet, "/readyz", nil)
			if err == nil && a.Status != http.StatusOK {
				err = fmt.Errorf("GET /readyz: status %d: %s", a.Status, a.Body)
			}
			if err != nil {
				return fmt.Errorf("%s isn't ready: %w\n%s", name, err, tail(s.Logs(first(name)), 10))
			}
			return nil
		})
	}
}

// Terminate stops the service as an operator does, and returns how long that
// took. It must end with code 0.
func (s *Stack) Terminate(t testing.TB, service string) time.Duration {
	t.Helper()
	took, err := s.terminate(service)
	if err != nil {
		t.Error(err)
	}
	return took
}

func (s *Stack) terminate(service string) (time.Duration, error) {
	// A test waits longer than it allows, so that it can say what it measured.
	ctx, cancel := context.WithTimeout(context.Background(), 3*stopLimit)
	defer cancel()
	started := time.Now()
	exit, err := s.Stop(ctx, first(service))
	took := time.Since(started)
	s.setUp(service, false)
	switch {
	case err != nil:
		return took, err
	case exit != 0:
		return took, fmt.Errorf("%s ended with exit code %d, want 0\n%s", service, exit, tail(s.Logs(first(service)), 10))
	case took > stopLimit:
		return took, fmt.Errorf("%s took %s to end after SIGTERM, want %s at most", service, took, stopLimit)
	}
	return took, nil
}

// KillNow kills the service.
func (s *Stack) KillNow(t testing.TB, service string) {
	t.Helper()
	if err := s.Kill(first(service)); err != nil {
		t.Fatal(err)
	}
	s.setUp(service, false)
}

// close ends the stack. The programs go all at once, as they may in a cluster.
func (s *Stack) close(t testing.TB) {
	errs := make([]error, len(services))
	var all sync.WaitGroup
	for i, name := range services {
		all.Go(func() {
			if s.isUp(name) {
				_, errs[i] = s.terminate(name)
			}
		})
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Errorf("stop the shop: %v", err)
	}
	if t.Failed() {
		for _, name := range services {
			t.Logf("last lines of %s:\n%s", name, tail(s.Logs(first(name)), 40))
		}
	}
	var err error
	for _, l := range s.links {
		err = errors.Join(err, l.close())
	}
	if s.Admin != nil {
		err = errors.Join(err, s.Admin.Close())
	}
	if s.crew != nil {
		err = errors.Join(err, s.crew.end())
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := errors.Join(err, s.Close(ctx)); err != nil {
		t.Errorf("end the stack: %v", err)
	}
}

// LoadResult is what "shopctl load --json" reports of a run.
type LoadResult struct {
	Placed     int            `json:"placed"`
	Failed     int            `json:"failed"`
	FirstError string         `json:"first_error"`
	Confirmed  int            `json:"confirmed"`
	Unfinished int            `json:"unfinished"`
	Statuses   map[string]int `json:"statuses"`
	P50        float64        `json:"confirm_p50_ms"` // placed -> confirmed
	P99        float64        `json:"confirm_p99_ms"`
	Customer   string         `json:"customer"`
}

// Load is orders being placed by "shopctl load" in the background.
type Load struct {
	done   chan struct{}
	result LoadResult
	err    error
}

// Load starts placing rate orders per second for the given time. Wait for it.
func (s *Stack) Load(t testing.TB, rate int, duration time.Duration) *Load {
	t.Helper()
	return startLoad(t, s.crew, s.URL, rate, duration)
}

func startLoad(t testing.TB, c *crew, url string, rate int, duration time.Duration) *Load {
	t.Helper()
	path, err := program("shopctl")
	if err != nil {
		t.Fatal(err)
	}
	// Progress goes into a file of its own: the result stands alone.
	progress, err := os.Create(filepath.Join(c.dir, fmt.Sprintf("load-%s.log", rand.Text())))
	if err != nil {
		t.Fatal(err)
	}
	cmd := c.command(context.Background(), path, "load", "--addr", url, "--rate", fmt.Sprint(rate), "--duration", duration.String(), "--json")
	cmd.Env = environment(nil)
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, progress
	if err := errors.Join(cmd.Start(), progress.Close()); err != nil {
		t.Fatalf("start shopctl load: %v", err)
	}
	l := &Load{done: make(chan struct{})}
	go func() {
		defer close(l.done)
		err := cmd.Wait()
		if err != nil {
			said, readErr := os.ReadFile(progress.Name())
			err = errors.Join(fmt.Errorf("shopctl load: %w\n%s", err, tail(string(said), 10)), readErr)
		}
		if out.Len() > 0 {
			err = errors.Join(err, json.Unmarshal([]byte(out.String()), &l.result))
		}
		l.err = err
	}()
	t.Cleanup(func() {
		// It is of the crew: when a test gives up it is killed here, else gone long since.
		if err := cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
			t.Errorf("end shopctl load: %v", err)
		}
		<-l.done
	})
	return l
}

// Wait waits for the end of the load and returns its result. Every order must
// have been placed in the end and be confirmed or ended.
func (l *Load) Wait(t testing.TB) LoadResult {
	t.Helper()
	<-l.done
	if l.err != nil {
		t.Fatalf("load: %v", l.err)
	}
	r := l.result
	if r.Placed == 0 || r.Failed > 0 || r.Unfinished > 0 {
		t.Fatalf("load: placed %d, failed %d (%s), unfinished %d, statuses %v; want some, 0, 0", r.Placed, r.Failed, r.FirstError, r.Unfinished, r.Statuses)
	}
	return r
}

// tail is the last n lines of text.
func tail(text string, n int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return "    " + strings.Join(lines[max(0, len(lines)-n):], "\n    ")
}

// since is the time passed, fit to be read.
func since(start time.Time) time.Duration { return time.Since(start).Round(time.Millisecond) }

// long reports whether tests run at full length.
func long() bool { return os.Getenv("ORDERFLOW_LONG") != "" }

// scaled is full at full length, else brief.
func scaled[T any](brief, full T) T {
	if long() {
		return full
	}
	return brief
}
