package notifications

import (
	"bytes"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/caarlos0/env/v11"

	"example.com/orderflow/messaging"
	"example.com/orderflow/messaging/contracts"
	"example.com/orderflow/messaging/messagingtest"
)

func TestMain(m *testing.M) { messagingtest.Main(m) }

// defaults is the configuration that an empty environment gives: e-mail is off.
func defaults(t *testing.T) Config {
	t.Helper()
	var cfg Config
	if err := env.ParseWithOptions(&cfg, env.Options{Environment: map[string]string{}}); err != nil {
		t.Fatalf("default configuration: %v", err)
	}
	return cfg
}

// newService is a service on a database of its own, with its bus not running yet.
func newService(t *testing.T) (*messagingtest.DB, *messaging.Bus, *Service) {
	t.Helper()
	f := newFixture(t, defaults(t))
	return f.DB, f.bus, f.service
}

// running is a service that handles what is delivered to db.
func running(t *testing.T) (*messagingtest.DB, *Service) {
	t.Helper()
	db, bus, s := newService(t)
	messagingtest.Run(t, bus)
	return db, s
}

// fixture is a service on a database of its own.
type fixture struct {
	*messagingtest.DB
	bus     *messaging.Bus
	service *Service
}

// newFixture makes a fixture whose bus, which isn't running yet, carries what the
// service sends to itself when relayed is among options.
func newFixture(t *testing.T, cfg Config, options ...func(*messaging.Config)) fixture {
	t.Helper()
	db := messagingtest.NewDB(t, Spec())
	bus := db.NewBus(t, Spec(), options...)
	s, err := New(cfg, db.Service("notifications"), bus, messagingtest.Log(t))
	if err != nil {
		t.Fatalf("new service: %v", err)
	}
	s.look = 20 * time.Millisecond
	if s.mailer != nil {
		s.mailer.first = 10 * time.Millisecond
	}
	return fixture{DB: db, bus: bus, service: s}
}

// relayed has the bus carry what is published.
func relayed(cfg *messaging.Config) { cfg.WithoutRelay = false }

// whole is a fixture that is running, relay included.
func whole(t *testing.T, cfg Config) fixture {
	t.Helper()
	f := newFixture(t, cfg, relayed)
	messagingtest.Run(t, f.bus)
	return f
}

// row is a notification's row.
type row struct {
	ID         string `db:"id"`
	Channel    string `db:"channel"`
	Status     string `db:"status"`
	ReasonCode string `db:"reason_code"`
	Kind       string `db:"kind"`
}

// rows are the notifications of a channel, oldest first.
func (f fixture) rows(t *testing.T, channel string) []row {
	t.Helper()
	var list []row
	err := f.Admin.Select(&list, `
		SELECT id, channel, status, coalesce(reason_code, '') AS reason_code, kind
		FROM notifications.notifications
		WHERE channel = $1
		ORDER BY occurred_at, id`, channel)
	if err != nil {
		t.Fatalf("read notifications: %v", err)
	}
	return list
}

// settled waits until n notifications of a channel are no longer pending.
func (f fixture) settled(t *testing.T, channel string, n int) []row {
	t.Helper()
	var list []row
	messagingtest.Wait(t, channel+" to be settled", func() bool {
		list = slices.DeleteFunc(f.rows(t, channel), func(r row) bool { return r.Status == string(Pending) })
		return len(list) >= n
	})
	if len(list) != n {
		t.Errorf("%d notifications by %s, want %d", len(list), channel, n)
	}
	return list
}

// said are the events that the service spoke, in the order logged.
func (f fixture) said(t *testing.T) []string {
	t.Helper()
	var list []string
	if err := f.Admin.Select(&list, `SELECT kind || ' ' || (convert_from(payload, 'UTF8')::jsonb ->> 'notification_id') FROM messaging.log_notifications ORDER BY id`); err != nil {
		t.Fatalf("read the log: %v", err)
	}
	return list
}

// says waits until the service has spoken want, and nothing else.
func (f fixture) says(t *testing.T, want ...string) {
	t.Helper()
	messagingtest.Wait(t, "events to be spoken", func() bool { return len(f.said(t)) >= len(want) })
	if got := f.said(t); !slices.Equal(got, want) {
		t.Errorf("spoke %v, want %v", got, want)
	}
}

// number is what a query counts.
func (f fixture) number(t *testing.T, query string, args ...any) int {
	t.Helper()
	var n int
	if err := f.Admin.Get(&n, query, args...); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return n
}

// cutRecording has the server cut the connection of whoever writes down, for the
// first time, what came of a sending: as if the process had died after delivering.
func (f fixture) cutRecording(t *testing.T) {
	t.Helper()
	for _, stmt := range []string{
		`CREATE SEQUENCE notifications.recordings`,
		`CREATE FUNCTION notifications.cut() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
		 BEGIN
			IF nextval('notifications.recordings') = 1 THEN
				PERFORM pg_terminate_backend(pg_backend_pid());
			END IF;
			RETURN NULL;
		 END $$`,
		`CREATE TRIGGER cut AFTER INSERT ON notifications.attempts FOR EACH STATEMENT EXECUTE FUNCTION notifications.cut()`,
	} {
		if _, err := f.Admin.Exec(stmt); err != nil {
			t.Fatalf("prepare the cut: %v", err)
		}
	}
}

const orderID = "0197f000-0000-7000-8000-000000000001"

var ada = contracts.Customer{ID: "ada", Name: "Ada <b>Lovelace</b> {{7*7}}", Email: "ada@example.com"}

// safeBuffer is a buffer that several may write.
type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// withLog has the bus log to l.
func withLog(l *slog.Logger) func(*messaging.Config) {
	return func(cfg *messaging.Config) { cfg.Log = l }
}
