// Package messagingtest lets tests run against a real PostgreSQL: a private
// cluster per test binary, and a database of its own per test, made from a migrated
// template in some 50 ms. It delivers messages to a service's handlers and shows what
// they published. It is for tests only.
//
// The cluster is in memory where there is room; at full length (ORDERFLOW_LONG) it is
// on the disk, as in production.
package messagingtest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"go.uber.org/goleak"

	"example.com/orderflow/deployments/postgres"
	"example.com/orderflow/messaging"
)

// Cluster is a private PostgreSQL for tests.
type Cluster struct {
	server    *postgres.Server
	admin     *sqlx.DB
	mu        sync.Mutex // one CREATE DATABASE, one migration at a time
	templates map[string]bool
	databases int
}

// shared is the cluster of this test binary, started by the first test that asks
// for a database.
var shared struct {
	sync.Mutex
	cluster *Cluster
}

// Main runs the tests of a package, stops the PostgreSQL that they used and
// checks that no goroutine is left but those that options name. It is what
// TestMain calls.
func Main(m *testing.M, options ...goleak.Option) {
	code := m.Run()
	shared.Lock()
	if shared.cluster != nil {
		if err := shared.cluster.stop(); err != nil {
			fmt.Fprintln(os.Stderr, "stop the tests' PostgreSQL:", err)
			code = max(code, 1)
		}
	}
	shared.Unlock()
	if code == 0 {
		if err := goleak.Find(options...); err != nil {
			fmt.Fprintln(os.Stderr, "goroutines left by the tests:", err)
			code = 1
		}
	}
	os.Exit(code)
}

func start(ctx context.Context) (*Cluster, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	// Tests run side by side, some with fifty subscribers, each with a connection to listen on.
	cfg := postgres.Config{Temp: true, Settings: map[string]string{"max_connections": "600"}}
	if os.Getenv("ORDERFLOW_LONG") == "" {
		cfg.TempDir = postgres.MemoryDir()
	}
	s, err := postgres.Start(ctx, cfg)
	if err != nil {
		return nil, err
	}
	// Making a database takes long on a busy machine: this pool has no time limits.
	admin, err := sqlx.Open("pgx", s.DSN("", "", ""))
	if err != nil {
		return nil, errors.Join(err, s.Stop(ctx))
	}
	return &Cluster{server: s, admin: admin, templates: map[string]bool{}}, nil
}

func (c *Cluster) stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	return errors.Join(c.admin.Close(), c.server.Stop(ctx))
}

// NewCluster starts a PostgreSQL for t alone, which t may restart; it is stopped
// when t ends.
func NewCluster(t testing.TB) *Cluster {
	t.Helper()
	c, err := start(t.Context())
	if err != nil {
		t.Fatalf("start a PostgreSQL for the test: %v", err)
	}
	t.Cleanup(func() {
		if err := c.stop(); err != nil {
			t.Errorf("stop the test's PostgreSQL: %v", err)
		}
	})
	return c
}

// Server is the PostgreSQL of the cluster.
func (c *Cluster) Server() *postgres.Server { return c.server }

// NewDB makes a database with the messaging layer and the schemas of specs in
// the PostgreSQL that the tests of this binary share; it is dropped when t ends.
func NewDB(t testing.TB, specs ...messaging.Spec) *DB {
	t.Helper()
	shared.Lock()
	if shared.cluster == nil {
		c, err := start(t.Context())
		if err != nil {
			shared.Unlock()
			t.Fatalf("start a PostgreSQL for the tests: %v", err)
		}
		shared.cluster = c
	}
	c := shared.cluster
	shared.Unlock()
	return c.NewDB(t, specs...)
}

// DB is a database of a test.
type DB struct {
	Admin *sqlx.DB // an administrator's pool
	Name  string

	t      testing.TB
	server *postgres.Server
	mu     sync.Mutex
	pools  map[string]*sqlx.DB
	specs  []messaging.Spec
}

// NewDB makes a database with the messaging layer and the schemas of specs,
// which is dropped when t ends.
func (c *Cluster) NewDB(t testing.TB, specs ...messaging.Spec) *DB {
	t.Helper()
	name, err := c.createDatabase(t.Context(), specs)
	if err != nil {
		t.Fatalf("make a database for the test: %v", err)
	}
	admin, err := messaging.OpenDB(c.server.DSN("", "", name), "test", 8)
	if err != nil {
		t.Fatalf("open database %s: %v", name, err)
	}
	d := &DB{Admin: admin, Name: name, t: t, server: c.server, pools: map[string]*sqlx.DB{}, specs: specs}
	t.Cleanup(func() {
		for _, p := range d.pools {
			if err := p.Close(); err != nil {
				t.Errorf("close a pool of %s: %v", name, err)
			}
		}
		if err := admin.Close(); err != nil {
			t.Errorf("close database %s: %v", name, err)
		}
		if _, err := c.admin.ExecContext(context.Background(), `DROP DATABASE IF EXISTS `+name+` WITH (FORCE)`); err != nil {
			t.Errorf("drop database %s: %v", name, err)
		}
	})
	return d
}

// createDatabase copies the template for specs, which the first caller migrates.
func (c *Cluster) createDatabase(ctx context.Context, specs []messaging.Spec) (string, error) {
	var all strings.Builder
	for _, s := range specs {
		fmt.Fprintf(&all, "%s %v %v %v %v;", s.Name, s.Queues, s.Sends, s.Asks, s.Speaks)
	}
	sum := sha256.Sum256([]byte(all.String()))
	template := "template_" + hex.EncodeToString(sum[:6])
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.templates[template] {
		if err := c.migrate(ctx, template, specs); err != nil {
			return "", fmt.Errorf("migrate the template: %w", err)
		}
		c.templates[template] = true
	}
	c.databases++
	name := fmt.Sprintf("test_%d", c.databases)
	_, err := c.admin.ExecContext(ctx, `CREATE DATABASE `+name+` TEMPLATE `+template)
	return name, err
}

func (c *Cluster) migrate(ctx context.Context, name string, specs []messaging.Spec) error {
	if _, err := c.admin.ExecContext(ctx, `CREATE DATABASE `+name); err != nil {
		return err
	}
	db, err := messaging.OpenDB(c.server.DSN("", "", name), "tests", 4)
	if err != nil {
		return err
	}
	passwords := map[string]string{}
	for _, s := range specs {
		passwords[s.Name] = password(s.Name)
	}
	return errors.Join(messaging.Migrate(ctx, db, slog.New(slog.DiscardHandler), passwords, specs...), db.Close())
}

func password(service string) string { return "test-" + service }

// DSN is the way in for the role of service ("" = the administrator).
func (d *DB) DSN(service string) string {
	if service == "" {
		return d.server.DSN("", "", d.Name)
	}
	return d.server.DSN(messaging.Spec{Name: service}.Role(), password(service), d.Name)
}

// Service returns a pool under the service's own role, closed when t ends.
func (d *DB) Service(name string) *sqlx.DB {
	d.t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	if p := d.pools[name]; p != nil {
		return p
	}
	p, err := messaging.OpenDB(d.DSN(name), name, 16)
	if err != nil {
		d.t.Fatalf("open database %s as %s: %v", d.Name, name, err)
	}
	d.pools[name] = p
	return p
}

// NewBus returns a Bus for spec that leaves what is published in the outbox, for
// Published to take.
func (d *DB) NewBus(t testing.TB, spec messaging.Spec, options ...func(*messaging.Config)) *messaging.Bus {
	t.Helper()
	cfg := messaging.Config{Spec: spec, DB: d.Service(spec.Name), DSN: d.DSN(spec.Name), Log: Log(t), WithoutRelay: true}
	for _, o := range options {
		o(&cfg)
	}
	b, err := messaging.New(cfg)
	if err != nil {
		t.Fatalf("make the bus of %s: %v", spec.Name, err)
	}
	return b
}

// Log is a logger that writes into t's output, warnings and errors only.
func Log(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
}

// Run runs bus in the background and ends it, gracefully, when t ends.
func Run(t testing.TB, bus *messaging.Bus) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- bus.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run the bus: %v", err)
		}
	})
}

// patience is how long Deliver and Wait wait.
const patience = 20 * time.Second

// Wait asks until cond is true, for up to 20 s; then t fails with what was
// waited for.
func Wait(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !cond(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited %s in vain for: %s", patience, what)
		}
	}
}

// Deliver puts bodies into the queues that get their kinds, in order, and waits
// until each is handled. It returns an outcome for each: done, ignored, or
// "dead: <reason>".
func (d *DB) Deliver(t testing.TB, bodies ...messaging.Body) []string {
	t.Helper()
	outcomes := make([]string, len(bodies))
	ids := make([]string, len(bodies))
	queues := make([]string, len(bodies))
	for i, b := range bodies {
		ids[i], queues[i] = d.Send(t, b)
	}
	for i := range bodies {
		Wait(t, fmt.Sprintf("%s (message %s) to be handled", bodies[i].Kind(), ids[i]), func() bool {
			outcomes[i] = d.outcome(t, queues[i], ids[i])
			return outcomes[i] != ""
		})
	}
	return outcomes
}

// Send puts body into the queue that gets its kind, without waiting, and returns
// the message's id and the queue.
func (d *DB) Send(t testing.TB, body messaging.Body) (id, queue string) {
	t.Helper()
	payload, err := json.Marshal(body)
	if err != nil {
		t.Fatalf("encode %s: %v", body.Kind(), err)
	}
	if err := d.Admin.Get(&queue, `SELECT queue FROM messaging.routes WHERE kind = $1`, body.Kind()); err != nil {
		t.Fatalf("find the queue of %s: %v", body.Kind(), err)
	}
	id = uuid.Must(uuid.NewV7()).String()
	lane := body.Order()
	if l, ok := body.(interface{ Lane() string }); ok {
		lane = l.Lane()
	}
	_, err = d.Admin.Exec(`
		INSERT INTO messaging.queue_`+queue+` (message_id, kind, lane, order_id, correlation_id, payload)
		VALUES ($1, $2, nullif($3, ''), nullif($4, '')::uuid, 'test', $5)`, id, body.Kind(), lane, body.Order(), payload)
	if err != nil {
		t.Fatalf("send %s: %v", body.Kind(), err)
	}
	if _, err := d.Admin.Exec(`SELECT pg_notify('queue_' || $1, '')`, queue); err != nil {
		t.Fatalf("wake queue %s: %v", queue, err)
	}
	return id, queue
}

// outcome is what became of a message so far: "" when nothing did.
func (d *DB) outcome(t testing.TB, queue, id string) string {
	t.Helper()
	var list []string
	owner := queue
	for _, s := range d.specs {
		for _, q := range s.Queues {
			if q.Name == queue {
				owner = s.Name
			}
		}
	}
	err := d.Admin.Select(&list, `
		SELECT outcome FROM messaging.inbox_`+owner+` WHERE message_id = $1 AND consumer = $2
		UNION ALL
		SELECT 'dead: ' || dead_reason FROM messaging.queue_`+queue+` WHERE message_id = $1 AND dead_reason IS NOT NULL`, id, queue)
	if err != nil {
		t.Fatalf("look for message %s: %v", id, err)
	}
	return strings.Join(list, ", ")
}

// Published takes the messages that wait in the outbox of service, in order: the
// next call returns what came since. The service's Bus must be WithoutRelay.
func (d *DB) Published(t testing.TB, service string) []messaging.Message {
	t.Helper()
	var rows []struct {
		ID          string  `db:"message_id"`
		Kind        string  `db:"kind"`
		Lane        *string `db:"lane"`
		OrderID     *string `db:"order_id"`
		Class       int16   `db:"class"`
		Correlation *string `db:"correlation_id"`
		Causation   *string `db:"causation_id"`
		Delay       *int64  `db:"delay"`
		Payload     []byte  `db:"payload"`
	}
	err := d.Admin.Select(&rows, `
		WITH taken AS (DELETE FROM messaging.outbox_`+service+` RETURNING *)
		SELECT message_id::text, kind, lane, order_id::text, class, correlation_id, causation_id::text,
		       (extract(epoch FROM not_before - occurred_at) * 1000)::bigint AS delay, payload
		FROM taken ORDER BY id`)
	if err != nil {
		t.Fatalf("take what %s published: %v", service, err)
	}
	text := func(s *string) string {
		if s == nil {
			return ""
		}
		return *s
	}
	list := make([]messaging.Message, len(rows))
	for i, r := range rows {
		list[i] = messaging.Message{
			ID: r.ID, Kind: r.Kind, Lane: text(r.Lane), OrderID: text(r.OrderID), Class: messaging.Class(r.Class),
			CorrelationID: text(r.Correlation), CausationID: text(r.Causation), Payload: r.Payload,
		}
		if r.Delay != nil {
			list[i].Delay = time.Duration(*r.Delay) * time.Millisecond
		}
	}
	return list
}

// Kinds are the kinds of msgs, in order: what most tests compare.
func Kinds(msgs []messaging.Message) []string {
	list := make([]string, len(msgs))
	for i, m := range msgs {
		list[i] = m.Kind
	}
	return list
}

// As is the body of m as a T; t fails when m is of another kind.
func As[T messaging.Body](t testing.TB, m messaging.Message) T {
	t.Helper()
	var body T
	if m.Kind != body.Kind() {
		t.Fatalf("message %s is %s, want %s", m.ID, m.Kind, body.Kind())
	}
	if err := json.Unmarshal(m.Payload, &body); err != nil {
		t.Fatalf("payload of %s is no %T: %v", m.ID, body, err)
	}
	return body
}
