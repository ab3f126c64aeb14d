package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// strains are others who leave the shop nothing of a database that runs: its
// connections, or the locks of its tables. order is one that can be looked at by c.
func strains(t *testing.T, order string, c *Customer) []databaseOutage {
	away := scaled(6*time.Second, 10*time.Second)
	nothing := func(context.Context, *Stack, *hold) error { return nil }
	lock := func(_ *Stack, h *hold) error {
		_, err := h.tx.Exec(`LOCK TABLE orders.orders, messaging.queue_orders, messaging.outbox_orders IN ACCESS EXCLUSIVE MODE`)
		return err
	}
	crush, foreign := &crush{t: t, order: order, customer: c}, &foreigners{}
	return []databaseOutage{
		{"exclusive locks on the orders, their queue and outbox", away, lock, nothing, []string{"place", "order", "orders", "cancel"}},
		{"the pool of orders used up", away, crush.come, crush.gone, []string{"cancel"}},
		{"all connections used up", scaled(3*time.Second, 10*time.Second), foreign.come, foreign.gone, everyQuestion},
	}
}

// crush is customers who all want the same of an order that somebody holds: more
// than orders has connections for.
type crush struct {
	t        *testing.T
	order    string
	customer *Customer
	asking   sync.WaitGroup
}

func (c *crush) come(s *Stack, h *hold) error {
	if _, err := h.tx.Exec(`SELECT FROM orders.orders WHERE id = $1 FOR UPDATE`, c.order); err != nil {
		return err
	}
	for range 40 {
		c.asking.Go(func() {
			started := time.Now()
			a, err := c.customer.Do(context.Background(), http.MethodPost, "/v1/orders/"+c.order+"/cancel", nil)
			if err != nil || a.Status != http.StatusServiceUnavailable {
				c.t.Errorf("cancel of an order that is held: after %s status %d, %v; want 503", since(started), a.Status, err)
			}
		})
	}
	// Its own work apart, the pool is theirs.
	const most = 14
	for waiting, end := 0, time.Now().Add(answerLimit); waiting < most; {
		err := s.Admin.Get(&waiting, `SELECT count(*) FROM pg_stat_activity WHERE usename = 'orderflow_orders' AND wait_event_type = 'Lock'`)
		if err == nil && time.Now().After(end) {
			err = fmt.Errorf("%d sessions of orders wait, want %d", waiting, most)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *crush) gone(context.Context, *Stack, *hold) error {
	c.asking.Wait()
	return nil
}

// foreigners are sessions that have nothing to do with the shop, as many as the
// server takes.
type foreigners struct{ sessions []*pgx.Conn }

// come takes all connections that are there for others than administrators, and
// more, and then those of the shop: each time that it is ended it gets fewer again.
func (f *foreigners) come(s *Stack, _ *hold) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	first, err := pgx.Connect(ctx, s.DSN("", ""))
	if err != nil {
		return err
	}
	f.sessions = append(f.sessions, first)
	for {
		var free, shop int
		err := first.QueryRow(ctx, `
			SELECT current_setting('max_connections')::integer - current_setting('superuser_reserved_connections')::integer - count(*),
			       count(*) FILTER (WHERE starts_with(usename, 'orderflow_'))
			FROM pg_stat_activity
			WHERE backend_type = 'client backend'`).Scan(&free, &shop)
		switch {
		case err != nil:
			return err
		case free <= 0 && shop == 0:
			return nil
		case free <= 0:
			_, err = first.Exec(ctx, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE starts_with(usename, 'orderflow_')`)
			free = shop
		}
		for range free + 2 {
			var conn *pgx.Conn
			if err == nil {
				conn, err = pgx.Connect(ctx, s.DSN("", ""))
			}
			if err != nil {
				return fmt.Errorf("foreign session %d: %w", len(f.sessions), err)
			}
			f.sessions = append(f.sessions, conn)
		}
	}
}

func (f *foreigners) gone(ctx context.Context, _ *Stack, _ *hold) error {
	var err error
	for _, conn := range f.sessions {
		err = errors.Join(err, conn.Close(ctx))
	}
	f.sessions = nil
	return err
}
