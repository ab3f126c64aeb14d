package e2e

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"math"
	"net"
	"net/http"
	"net/url"
	"os"
	"runtime"
	"slices"
	"strconv"
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
// a process of its own, or several. Its methods call a process by name: "orders"
// is the service's first replica, "orders-2" the second.
type Stack struct {
	Backend
	Admin *sqlx.DB // an administrator's, for checks
	URL   string   // where customers come in: the console, or what balances over several

	started   time.Time
	replicas  int  // of each service at most
	smallDisk bool // for Database
	crew      *crew
	passwords map[string]string // of the roles, by service; and the provider's key
	provider  string            // where payments finds it
	mu        sync.Mutex
	up        map[Process]bool // of all that were ever launched
	links     []*Link
	mails     bool
}

// Option is what a stack is only when it is asked for.
type Option func(*Stack)

// WithMails has the shop send its mails, to the mailbox of its one console. Under
// load that is a fifth of all the work, so that stacks are without.
func WithMails(s *Stack) { s.mails = true }

// WithReplicas has the shop have up to n copies of each service: the console shares
// requests out among those that are up, and so does a Link before the consoles, and
// one before the providers. The first of each is started; Launch the others.
func WithReplicas(n int) Option { return func(s *Stack) { s.replicas = n } }

// WithSmallDisk has the shop's PostgreSQL keep its data on a small disk of its own,
// which FillDisk fills. On the backend local that is a mount, which needs Linux, and
// root or a kernel that lets users make namespaces.
func WithSmallDisk(s *Stack) { s.smallDisk = true }

// NewStack starts a shop for t and returns when it takes orders. When t ends,
// all programs are stopped, each of which must end with code 0, and t fails when
// one had ended by itself; when t has failed, the ends of their logs are shown.
func NewStack(t testing.TB, options ...Option) *Stack {
	t.Helper()
	s := newStack(t, options...)
	if err := s.migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.launchAll(t)
	s.WaitReady(t, services...)
	t.Logf("shop on backend %s up after %s", s.Name(), since(s.started))
	return s
}

// stacks holds a token for each that there is: at most one for each core in
// containers, which take more, else as many as tests run side by side.
var stacks = sync.OnceValue(func() chan struct{} {
	n := runtime.GOMAXPROCS(0)
	if c, err := decided(); err == nil && c.backend != "docker" {
		n = math.MaxInt32
	}
	return make(chan struct{}, n)
})

// newStack is a shop with an empty database, of which nothing runs yet.
func newStack(t testing.TB, options ...Option) *Stack {
	t.Helper()
	s := &Stack{replicas: 1, passwords: map[string]string{}, up: map[Process]bool{}}
	for _, o := range options {
		o(s)
	}
	stacks() <- struct{}{}
	t.Cleanup(func() { <-stacks() })
	s.started = time.Now()
	var err error
	if s.Backend, err = newBackend(t.Context(), s.smallDisk); err != nil {
		t.Fatalf("nothing to run the shop on: %v", err)
	}
	t.Cleanup(func() { s.close(t) })
	if s.crew, err = newCrew("tools"); err != nil {
		t.Fatal(err)
	}
	if s.Admin, err = openDB(s.DSN("", "")); err != nil {
		t.Fatalf("open the database as administrator: %v", err)
	}
	for _, name := range services {
		s.passwords[name] = rand.Text()
	}
	s.URL, s.provider = s.Reach(first("console")), s.Peer(first("paysim"))
	if s.replicas > 1 {
		s.URL = s.balance(t, "console").local()
		s.provider = "http://" + s.balance(t, "paysim").Host
	}
	return s
}

// migrate brings the database up to date and sets the roles' passwords.
func (s *Stack) migrate(ctx context.Context) error {
	env := map[string]string{"DATABASE_URL": s.DSN("", "")}
	for name, password := range s.passwords {
		env[strings.ToUpper(name)+"_DATABASE_PASSWORD"] = password
	}
	if _, err := run(ctx, s.crew, "shopctl", env, "migrate"); err != nil {
		return fmt.Errorf("migrate the database: %w", err)
	}
	return nil
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

// process is the one that a name means: a service's first, or "orders-2".
func process(name string) Process {
	service, number, numbered := strings.Cut(name, "-")
	if n, err := strconv.Atoi(number); numbered && err == nil {
		return Process{Service: service, Replica: n}
	}
	return first(name)
}

// Launch starts the process with the settings that the stack needs and those of
// extra, "NAME=value" each. It doesn't wait until it is ready.
func (s *Stack) Launch(t testing.TB, name string, extra ...string) {
	t.Helper()
	p := process(name)
	if p.Replica > s.replicas {
		t.Fatalf("launch %s: the shop is one for %d replicas", p, s.replicas)
	}
	if err := s.launch(t.Context(), p, extra...); err != nil {
		t.Fatal(err)
	}
}

func (s *Stack) launch(ctx context.Context, p Process, extra ...string) error {
	if _, err := s.Start(ctx, p, s.settings(p.Service, extra)); err != nil {
		return err
	}
	s.setUp(p, true)
	return nil
}

// launchAll launches a process of every service, all at once: containers take
// their time.
func (s *Stack) launchAll(t testing.TB) {
	t.Helper()
	errs := make([]error, len(services))
	var all sync.WaitGroup
	for i, name := range services {
		all.Go(func() { errs[i] = s.launch(t.Context(), first(name)) })
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func (s *Stack) settings(service string, extra []string) map[string]string {
	env := map[string]string{}
	switch service {
	case "console":
		env["MAILBOX_ADDR"] = "off"
		if s.mails {
			env["MAILBOX_ADDR"], _, _ = s.mailbox()
		}
		for _, name := range []string{"orders", "payments", "inventory", "notifications"} {
			env[strings.ToUpper(name)+"_URL"] = strings.Join(s.peers(name), ",")
		}
	case "payments":
		env["PAYMENTS_PROVIDER_URL"] = s.provider
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

// peers are the addresses of all replicas of the service, up or not.
func (s *Stack) peers(service string) []string {
	list := make([]string, s.replicas)
	for i := range list {
		list[i] = s.Peer(Process{Service: service, Replica: i + 1})
	}
	return list
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

func (s *Stack) setUp(p Process, up bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.up[p] = up
}

// replicasUp lists the service's processes that are up.
func (s *Stack) replicasUp(service string) (list []Process) {
	_, up := s.launched()
	for _, p := range up {
		if p.Service == service {
			list = append(list, p)
		}
	}
	return list
}

// launched lists the processes that were ever launched and, of these, those that
// are up, each in the order of their names.
func (s *Stack) launched() (all, up []Process) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all = slices.SortedFunc(maps.Keys(s.up), func(a, b Process) int { return strings.Compare(a.String(), b.String()) })
	for _, p := range all {
		if s.up[p] {
			up = append(up, p)
		}
	}
	return all, up
}

// WaitReady returns when each of names answers 200 to GET /readyz, which may
// take 30 s.
func (s *Stack) WaitReady(t testing.TB, names ...string) {
	t.Helper()
	for _, name := range names {
		p := process(name)
		c := NewCustomer(t, s.Reach(p))
		eventually(t, 30*time.Second, func() error {
			if err := c.ready(t.Context()); err != nil {
				return fmt.Errorf("%s isn't ready: %w\n%s", p, err, tail(s.Logs(p), 10))
			}
			return nil
		})
	}
}

// ready returns nil when whoever is at c.Base can serve.
func (c *Customer) ready(ctx context.Context) error {
	a, err := c.Do(ctx, http.MethodGet, "/readyz", nil)
	if err == nil && a.Status != http.StatusOK {
		err = fmt.Errorf("GET /readyz: status %d: %s", a.Status, a.Body)
	}
	return err
}

// Terminate stops the process as an operator does, and returns how long that
// took. It must end with code 0.
func (s *Stack) Terminate(t testing.TB, name string) time.Duration {
	t.Helper()
	took, err := s.terminate(process(name))
	if err != nil {
		t.Error(err)
	}
	return took
}

func (s *Stack) terminate(p Process) (time.Duration, error) {
	// A test waits longer than it allows, so that it can say what it measured.
	ctx, cancel := context.WithTimeout(context.Background(), 3*stopLimit)
	defer cancel()
	started := time.Now()
	exit, err := s.Stop(ctx, p)
	took := time.Since(started)
	s.setUp(p, false)
	switch {
	case err != nil:
		return took, err
	case exit != 0:
		return took, fmt.Errorf("%s ended with exit code %d, want 0\n%s", p, exit, tail(s.Logs(p), 10))
	case took > stopLimit:
		return took, fmt.Errorf("%s took %s to end after SIGTERM, want %s at most", p, took, stopLimit)
	}
	return took, nil
}

// KillNow kills the process.
func (s *Stack) KillNow(t testing.TB, name string) {
	t.Helper()
	p := process(name)
	if err := s.Kill(p); err != nil {
		t.Fatal(err)
	}
	s.setUp(p, false)
}

// close ends the stack. The programs go all at once, as they may in a cluster.
func (s *Stack) close(t testing.TB) {
	known, up := s.launched()
	errs := make([]error, len(up))
	var ending sync.WaitGroup
	for i, p := range up {
		ending.Go(func() { _, errs[i] = s.terminate(p) })
	}
	ending.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Errorf("stop the shop: %v", err)
	}
	if t.Failed() {
		for _, p := range append([]Process{Database}, known...) {
			t.Logf("last lines of %s:\n%s", p, tail(s.Logs(p), 40))
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
