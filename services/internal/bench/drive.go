package bench

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jmoiron/sqlx"
)

// system is what is measured: something that takes orders and confirms them by
// itself.
type system interface {
	// place stores a new order and returns its id, as the books know it. Several
	// clients call it at once.
	place(ctx context.Context) (id string, err error)
	// clients is how many place orders at once in a burst.
	clients() int
	// pids are the processes whose CPU time is the system's, PostgreSQL's apart.
	pids() []int
	// stop ends it and returns the first error that it met.
	stop(ctx context.Context) error
}

// books are where an observer can read what became of the orders. The queries
// take no part in the work.
type books struct {
	// confirmed lists id and time of confirmation of all orders that are.
	confirmed string
	// finished tells whether $1 orders are through, notifications included.
	finished string
	// last is when the last of them was.
	last string
}

// shopBooks are those of the yardstick's tables.
var shopBooks = books{
	confirmed: `SELECT order_id::text AS id, pg_xact_commit_timestamp(xmin) AS at FROM ordering.order_history WHERE status = 'confirmed'`,
	// A sequence is ahead of its rows or level with them: as long as it is behind,
	// nobody need count.
	finished: `
		SELECT CASE WHEN (SELECT last_value FROM notification.notifications_id_seq) >= 3 * $1 THEN
		       (SELECT count(*) FROM ordering.order_history WHERE status = 'confirmed') >= $1
		   AND (SELECT count(*) FROM notification.notifications) >= 3 * $1
		       ELSE false END`,
	last: `
		SELECT greatest((SELECT max(pg_xact_commit_timestamp(xmin)) FROM ordering.order_history WHERE status = 'confirmed'),
		                (SELECT max(pg_xact_commit_timestamp(xmin)) FROM notification.notifications))`,
}

// load is how hard a system is driven.
type load struct {
	warmUp int           // orders before anything is measured
	rate   float64       // orders per second of the open run
	open   time.Duration // for how long
	burst  int           // orders of the burst
	// patience is how long to wait for the orders under way.
	patience time.Duration
}

// driver places orders with a system and finds out what became of them.
type driver struct {
	system system
	db     *sqlx.DB // an observer's pool
	books  books
	load   load
	meter  func() meter
	flush  time.Duration
	during func(part string) (stop func() error, err error) // called around each part; may be nil

	placed int
}

// measurement is what driving a system found.
type measurement struct {
	perSecond float64         // burst: orders through per second
	latencies []time.Duration // open: from placing to confirmed, sorted
	burst     usage
	open      usage
}

// run drives the system: warm-up, open run, burst.
func (d *driver) run(ctx context.Context) (measurement, error) {
	var m measurement
	if err := d.burst(ctx, d.load.warmUp); err != nil {
		return m, fmt.Errorf("warm up: %w", err)
	}
	stop, err := d.around("open")
	if err == nil {
		m.latencies, m.open, err = d.openRun(ctx)
		err = errors.Join(err, stop())
	}
	if err != nil {
		return m, fmt.Errorf("at %g orders/s: %w", d.load.rate, err)
	}
	if stop, err = d.around("burst"); err != nil {
		return m, err
	}
	before := d.meter()
	err = errors.Join(d.burst(ctx, d.load.burst), stop())
	if err != nil {
		return m, fmt.Errorf("burst of %d orders: %w", d.load.burst, err)
	}
	m.burst = d.meter().since(before)
	var last time.Time
	if err := d.db.GetContext(ctx, &last, d.books.last); err != nil {
		return m, fmt.Errorf("read when the last order was through: %w", err)
	}
	m.perSecond = float64(d.load.burst) / last.Add(d.flush).Sub(before.at).Seconds()
	return m, nil
}

func (d *driver) around(part string) (func() error, error) {
	if d.during == nil {
		return func() error { return nil }, nil
	}
	return d.during(part)
}

// burst places n orders as fast as the system's clients can and waits until all
// are through.
func (d *driver) burst(ctx context.Context, n int) error {
	var clients sync.WaitGroup
	var next atomic.Int64
	errs := make([]error, d.system.clients())
	for i := range errs {
		clients.Go(func() {
			for next.Add(1) <= int64(n) && errs[i] == nil && ctx.Err() == nil {
				_, errs[i] = d.system.place(ctx)
			}
		})
	}
	clients.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	d.placed += n
	return d.finish(ctx)
}

// openRun places orders at the given rate, whether or not the system keeps up,
// and returns how long each took.
func (d *driver) openRun(ctx context.Context) ([]time.Duration, usage, error) {
	var mu sync.Mutex
	began := map[string]time.Time{}
	var first error
	var placing sync.WaitGroup
	n := int(d.load.rate * d.load.open.Seconds())
	started := d.meter()
	for i := range n {
		at := started.at.Add(time.Duration(float64(i) / d.load.rate * float64(time.Second)))
		select {
		case <-time.After(time.Until(at)):
		case <-ctx.Done():
		}
		placing.Go(func() {
			at := time.Now()
			id, err := d.system.place(ctx)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				first = errors.Join(first, err)
				return
			}
			began[id] = at
		})
	}
	used := d.meter().since(started)
	placing.Wait()
	if first != nil {
		return nil, used, first
	}
	d.placed += n
	if err := d.finish(ctx); err != nil {
		return nil, used, err
	}
	var confirmed []struct {
		ID string    `db:"id"`
		At time.Time `db:"at"`
	}
	if err := d.db.SelectContext(ctx, &confirmed, d.books.confirmed); err != nil {
		return nil, used, fmt.Errorf("read when the orders were confirmed: %w", err)
	}
	var took []time.Duration
	for _, c := range confirmed {
		if at, ok := began[c.ID]; ok {
			took = append(took, c.At.Add(d.flush).Sub(at))
		}
	}
	if len(took) != n {
		return nil, used, fmt.Errorf("%d orders placed, %d of them confirmed", n, len(took))
	}
	slices.Sort(took)
	return took, used, nil
}

// finish waits until all orders placed so far are through.
func (d *driver) finish(ctx context.Context) error {
	for end := time.Now().Add(d.load.patience); ; {
		var done bool
		if err := d.db.GetContext(ctx, &done, d.books.finished, d.placed); err != nil {
			return fmt.Errorf("look whether all orders are through: %w", err)
		}
		if done {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("not all of %d orders were through after %s", d.placed, d.load.patience)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// percentile is the p-th (0 to 1) of sorted, in milliseconds; 0 of none.
func percentile(sorted []time.Duration, p float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	i := min(len(sorted)-1, int(p*float64(len(sorted))))
	return float64(sorted[i]) / float64(time.Millisecond)
}
