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
	"github.com/jackc/pgx/v5/pgconn"
)

// strains are others who leave the shop nothing of a database that runs: its
// connections, or the locks of its tables. order is one that can be looked at by c.
func strains(t *testing.T, order string, c *Customer) []databaseOutage {
	away := scaled(6*time.Second, 10*time.Second)
	nothing := func(context.Context, *Stack, *hold) error { return nil }
	lock := func(statement string) func(*Stack, *hold) error {
		return func(_ *Stack, h *hold) error {
			_, err := h.tx.Exec(statement)
			return err
		}
	}
	crowd, foreign := &crowd{t: t, order: order, customer: c}, &foreigners{}
	return []databaseOutage{
		{"an exclusive lock on the orders", away, lock(`LOCK TABLE orders.orders IN ACCESS EXCLUSIVE MODE`), nothing,
			[]string{"place", "order", "orders", "cancel"}},
		{"an exclusive lock on a queue and an outbox", away, lock(`LOCK TABLE messaging.queue_orders, messaging.outbox_orders IN ACCESS EXCLUSIVE MODE`), nothing,
			[]string{"place"}},
		{"the pool of orders used up", away, crowd.come, crowd.gone, []string{"place", "order", "cancel", "orders ready"}},
		{"all connections used up", scaled(time.Second, 10*time.Second), foreign.come, foreign.gone, everyQuestion},
	}
}

// crowd is customers who all want the same of an order that somebody holds: more
// than orders has connections for.
type crowd struct {
	t        *testing.T
	order    string
	customer *Customer
	asking   sync.WaitGroup
}

func (c *crowd) come(_ *Stack, h *hold) error {
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
	return nil
}

func (c *crowd) gone(context.Context, *Stack, *hold) error {
	c.asking.Wait()
	return nil
}

// foreigners are sessions that have nothing to do with the shop, as many as the
// server takes.
type foreigners struct{ sessions []*pgx.Conn }

// come takes all connections there are, and then those of the shop: the last few
// are an administrator's, so that the shop's services, once ended, don't get in again.
func (f *foreigners) come(s *Stack, _ *hold) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	first, err := pgx.Connect(ctx, s.DSN("", ""))
	if err != nil {
		return err
	}
	f.sessions = append(f.sessions, first)
	for {
		if err := f.fill(ctx, s); err != nil {
			return err
		}
		var ended int
		err := first.QueryRow(ctx, `
			SELECT count(*) FILTER (WHERE pg_terminate_backend(pid, 1000))
			FROM (SELECT pid FROM pg_stat_activity WHERE starts_with(usename, 'orderflow_')
			      LIMIT current_setting('superuser_reserved_connections')::integer) s`).Scan(&ended)
		if err != nil || ended == 0 {
			return err
		}
	}
}

// fill opens sessions until the server takes no more.
func (f *foreigners) fill(ctx context.Context, s *Stack) error {
	for {
		conn, err := pgx.Connect(ctx, s.DSN("", ""))
		if refused, ok := errors.AsType[*pgconn.PgError](err); ok && refused.Code == "53300" {
			return nil
		}
		if err != nil {
			return fmt.Errorf("foreign session %d: %w", len(f.sessions), err)
		}
		f.sessions = append(f.sessions, conn)
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
