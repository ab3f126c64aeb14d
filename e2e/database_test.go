package e2e

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jmoiron/sqlx"
)

// upAgain is how soon an order is to be taken once the database takes connections.
const upAgain = 5 * time.Second

// TestDatabaseOutages takes PostgreSQL from under a shop that is at work, in every
// way, or keeps it busy with others: while it is away the shop says so, in time; when it is back the shop goes
// on by itself, no order is lost, none is half there.
func TestDatabaseOutages(t *testing.T) {
	t.Parallel()
	s := NewStack(t)
	s.Admin.SetMaxIdleConns(0) // an idle connection would be one that has been cut
	// From the first restart on, so that fewer connections are to be used up.
	if _, err := s.Admin.ExecContext(t.Context(), `ALTER SYSTEM SET superuser_reserved_connections = 100`); err != nil {
		t.Fatal(err)
	}
	c := NewCustomer(t, s.URL)
	known := c.Place(t, wish("MUG-01", "tok_ok")).ID
	c.Await(t, known, "delivered")
	rounds := scaled(1, 3)
	load := s.Load(t, scaled(6, 12), time.Duration(rounds)*scaled(30*time.Second, 150*time.Second))
	shop := openShopping(t, NewCustomer(t, s.URL))
	asking := openAsking(t, s, known, c)
	for range rounds {
		for _, o := range append(outages(), strains(t, known, c)...) {
			o.strike(t, s, shop, asking)
		}
	}
	result := load.Wait(t)
	promised := append(append(shop.close(t), asking.close()...), known)
	CheckShop(t, s.DSN("", ""), promised...)
	CheckLoad(t, s.Admin, result)
	t.Logf("load: %d orders and %d of others, p50 %.0f ms, p99 %.0f ms", result.Placed, len(promised), result.P50, result.P99)
}

// databaseOutage is a way in which the database can be away.
type databaseOutage struct {
	name string
	away time.Duration
	down func(*Stack, *hold) error
	up   func(context.Context, *Stack, *hold) error
	hit  []string // questions that must be answered by 503 meanwhile
}

func outages() []databaseOutage {
	start := func(ctx context.Context, s *Stack, _ *hold) error {
		_, err := s.Start(ctx, Database, nil)
		return err
	}
	return []databaseOutage{
		{"immediate shutdown", time.Second, func(s *Stack, _ *hold) error { return s.QuitDatabase(context.Background()) }, start, []string{"any"}},
		{"kill -9 of the postmaster", time.Second, func(s *Stack, _ *hold) error { return s.Kill(Database) }, start, []string{"any"}},
		{"kill -9 of one backend", 0, func(s *Stack, h *hold) error { return s.KillSession(h.session) }, recovered, nil}, // it may have recovered before anybody asks
		{"the server hangs", scaled(6*time.Second, 15*time.Second), func(s *Stack, _ *hold) error { return s.Pause(Database) },
			func(_ context.Context, s *Stack, _ *hold) error { return s.Resume(Database) }, everyQuestion},
	}
}

// recovered returns when the database has ended all sessions, that of h among them,
// and takes connections again.
func recovered(ctx context.Context, s *Stack, h *hold) error {
	for {
		if _, err := h.tx.ExecContext(ctx, `SELECT`); err != nil {
			break
		}
		time.Sleep(time.Millisecond)
	}
	for {
		conn, err := pgx.Connect(ctx, s.DSN("", ""))
		if err == nil {
			return conn.Close(ctx)
		}
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// strike has the outage happen at a moment when work is in hand: messages that are
// claimed, and a transaction that is open. It waits until the shop takes an order,
// and until what was in hand is done.
func (o databaseOutage) strike(t *testing.T, s *Stack, shop *shopping, asking *asking) {
	t.Helper()
	asking.look(t, "before")
	h := s.holdOrder(t, shop.customer)
	inHand := s.messagesInHand(t)
	if len(inHand) == 0 {
		t.Fatalf("%s: no message is in hand: it would hit nothing", o.name)
	}
	struck := time.Now()
	if err := o.down(s, h); err != nil {
		t.Fatalf("%s: %v", o.name, err)
	}
	time.Sleep(o.away)
	ctx, cancel := context.WithTimeout(t.Context(), 10*upAgain)
	defer cancel()
	if err := o.up(ctx, s, h); err != nil {
		t.Fatalf("end of %s: %v", o.name, err)
	}
	up := time.Now()
	h.release()
	if err := shop.buy(ctx); err != nil {
		t.Fatalf("no order taken after %s: %v", o.name, err)
	}
	answer := since(up)
	var moved time.Duration
	eventually(t, 10*moveAgain, func() error {
		last, left, err := s.handled(inHand)
		if err == nil && left > 0 {
			err = fmt.Errorf("%s: %d of %d messages that were in hand aren't handled", o.name, left, len(inHand))
		}
		moved = max(0, last.Sub(up)).Round(time.Millisecond)
		return err
	})
	asking.look(t, o.name, o.hit...)
	t.Logf("%s: hit %d messages in hand and an open transaction; away for %s; FIRST NEW 2xx %s after it was up (to reach: %s); all that was in hand handled %s after (to reach: %s)",
		o.name, len(inHand), up.Sub(struck).Round(time.Millisecond), answer, upAgain, moved, moveAgain)
}

// hold is a transaction that has an order's row, and the process id of a session of
// orders that waits for it in a transaction.
type hold struct {
	tx      *sqlx.Tx
	session int
}

// release lets the order go on. The connection may be cut.
func (h *hold) release() { _ = h.tx.Rollback() }

// holdOrder places an order and holds its row until release, or the database's end.
func (s *Stack) holdOrder(t *testing.T, c *Customer) *hold {
	t.Helper()
	o, err := c.PlaceSurely(t.Context(), wish("FILTER-01", "tok_slow"))
	if err != nil {
		t.Fatal(err)
	}
	tx, err := s.Admin.BeginTxx(t.Context(), nil)
	if err != nil {
		t.Fatalf("hold order %s: %v", o.ID, err)
	}
	h := &hold{tx: tx}
	if _, err := tx.ExecContext(t.Context(), `SELECT FROM orders.orders WHERE id = $1 FOR UPDATE`, o.ID); err != nil {
		t.Fatalf("hold order %s: %v", o.ID, err)
	}
	eventually(t, 10*time.Second, func() error {
		return s.Admin.GetContext(t.Context(), &h.session, `
			SELECT pid FROM pg_stat_activity
			WHERE usename = 'orderflow_orders' AND wait_event_type = 'Lock' AND state = 'active' AND xact_start IS NOT NULL
			LIMIT 1`)
	})
	return h
}

// receivers are the services that receive messages.
var receivers = []string{"inventory", "orders", "payments", "notifications"}

// messagesInHand are the ids of messages that are claimed.
func (s *Stack) messagesInHand(t *testing.T) []string {
	t.Helper()
	parts := make([]string, len(receivers))
	for i, name := range receivers {
		parts[i] = `SELECT message_id::text FROM messaging.queue_` + name + ` WHERE token IS NOT NULL AND dead_reason IS NULL`
	}
	var ids []string
	if err := s.Admin.SelectContext(t.Context(), &ids, strings.Join(parts, " UNION ALL ")); err != nil {
		t.Fatalf("look what is in hand: %v", err)
	}
	return ids
}

// handled tells when the last of the messages was handled and how many aren't.
func (s *Stack) handled(ids []string) (last time.Time, left int, err error) {
	parts := make([]string, len(receivers))
	for i, name := range receivers {
		parts[i] = `SELECT message_id, handled_at FROM messaging.inbox_` + name + ` WHERE message_id = ANY ($1::uuid[])`
	}
	var found struct {
		Last *time.Time `db:"last"`
		N    int        `db:"n"`
	}
	err = s.Admin.Get(&found, `SELECT max(handled_at) AS last, count(DISTINCT message_id) AS n FROM (`+strings.Join(parts, " UNION ALL ")+`) i`, ids)
	if found.Last != nil {
		last = *found.Last
	}
	distinct := map[string]bool{}
	for _, id := range ids {
		distinct[id] = true
	}
	return last, len(distinct) - found.N, err
}
