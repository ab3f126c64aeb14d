package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"example.com/orderflow/messaging"
)

// backlogSizes are the backlogs measured: a thousand to a million messages.
var backlogSizes = []int{1_000, 10_000, 100_000, 1_000_000}

// drained is how many messages are handled to know how fast that goes: enough for
// the server to vacuum meanwhile.
const drained = 50_000

// backlog measures how fast chain's notification service handles messages with
// ever more of them waiting.
func (r *run) backlog(ctx context.Context) error {
	sizes := backlogSizes
	if r.cfg.Quick {
		sizes = sizes[:3]
	}
	return r.draining(ctx, partBacklog, func(d *drain) error {
		for _, size := range sizes {
			var all pace
			for done := 0; done < drained; done += size {
				p, err := d.run(ctx, size, min(size, drained), 2, nil)
				if err != nil {
					return fmt.Errorf("backlog of %d messages: %w", size, err)
				}
				all = all.plus(p)
			}
			b := Backlog{Messages: size, PerSecond: all.perSecond(), CPUMicros: all.cpuMicros()}
			r.report.Backlog = append(r.report.Backlog, b)
			r.tell("  backlog of %d messages: %.0f handled/s, %.0f µs of CPU each", b.Messages, b.PerSecond, b.CPUMicros)
		}
		return nil
	})
}

// consumers measures what more consumers are worth when handlers wait.
func (r *run) consumers(ctx context.Context) error {
	wait := func(next message.HandlerFunc) message.HandlerFunc {
		return func(m *message.Message) ([]*message.Message, error) {
			time.Sleep(2 * time.Millisecond)
			return next(m)
		}
	}
	return r.draining(ctx, partConsumers, func(d *drain) error {
		for _, n := range []int{1, 2, 4} {
			p, err := d.run(ctx, 1000*n, 1000*n, n, wait)
			if err != nil {
				return fmt.Errorf("%d consumers: %w", n, err)
			}
			c := Consumers{Consumers: n, PerSecond: p.perSecond()}
			r.report.Consumers = append(r.report.Consumers, c)
			r.tell("  %d consumers, handlers that wait 2 ms: %.0f handled/s", c.Consumers, c.PerSecond)
		}
		return nil
	})
}

// drain is chain's notification service alone, with a queue that is filled
// beforehand.
type drain struct {
	base *base
	spec messaging.Spec
}

func (r *run) draining(ctx context.Context, part string, f func(*drain) error) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("%s: %w", part, err)
		}
	}()
	specs, err := chainSpecs()
	if err != nil {
		return err
	}
	b, err := r.stand.newBase(ctx, part)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.drop(ctx)) }()
	d := &drain{base: b, spec: specs[len(specs)-1]}
	if err := messaging.Migrate(ctx, b.db, b.stand.log, nil, d.spec); err != nil {
		return err
	}
	return f(d)
}

// fill puts n messages, each of another order, into the empty queue.
func (d *drain) fill(ctx context.Context, n int) error {
	_, err := d.base.db.ExecContext(ctx, `TRUNCATE messaging.queue_notification, messaging.inbox_notification, notification.notifications`)
	if err == nil {
		_, err = d.base.db.ExecContext(ctx, `
			INSERT INTO messaging.queue_notification (message_id, kind, lane, order_id, correlation_id, payload)
			SELECT (left(messaging.uuid_at(clock_timestamp())::text, 14) || '7' || substr(gen_random_uuid()::text, 16))::uuid,
			       $1, o.id::text, o.id, '', convert_to(json_build_object('order_id', o.n)::text, 'UTF8')
			FROM (SELECT n, gen_random_uuid() AS id FROM generate_series(1, $2::int) n) o`, kindOrderConfirmed, n)
	}
	if err != nil {
		return fmt.Errorf("fill the queue: %w", err)
	}
	return d.base.settle(ctx)
}

// run fills the queue with size messages and returns how fast they are handled
// until n of them are.
func (d *drain) run(ctx context.Context, size, n, consumers int, middleware message.HandlerMiddleware) (p pace, err error) {
	if err := d.fill(ctx, size); err != nil {
		return p, err
	}
	c := &count{want: int64(n), reached: make(chan struct{})}
	list := []message.HandlerMiddleware{c.middleware}
	if middleware != nil {
		list = append(list, middleware)
	}
	pool, err := messaging.OpenDB(d.base.dsn(d.spec.Name), d.spec.Name, 16)
	if err != nil {
		return p, err
	}
	defer func() { err = errors.Join(err, pool.Close()) }()
	bus, err := messaging.New(messaging.Config{
		Spec: d.spec, DB: pool, DSN: d.base.dsn(d.spec.Name), Log: d.base.stand.log, Consumers: consumers, Middleware: list,
	})
	if err != nil {
		return p, err
	}
	registerNotification(bus)
	running, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	before := readMeter(d.base.stand.server.PID(), os.Getpid())
	ended := make(chan error, 1)
	go func() { ended <- bus.Run(running) }()
	select {
	case <-c.reached:
	case <-running.Done():
	}
	cancel()
	if err := <-ended; err != nil {
		return p, err
	}
	if handled := c.n.Load(); handled < c.want {
		return p, fmt.Errorf("only %d of %d messages were handled in time", handled, n)
	}
	used := readMeter(d.base.stand.server.PID(), os.Getpid()).since(before)
	if p, err = d.pace(ctx); err != nil {
		return p, err
	}
	p.cpu, p.handled = used.goes+used.server, int(c.n.Load())
	return p, nil
}

// pace is how many messages were handled in what time.
type pace struct {
	messages int
	took     time.Duration
	cpu      float64 // seconds of Go and PostgreSQL, for all messages handled
	handled  int     // all messages
}

func (p pace) perSecond() float64 { return float64(p.messages) / p.took.Seconds() }

// cpuMicros is the CPU time that a message takes, in microseconds.
func (p pace) cpuMicros() float64 { return 1e6 * p.cpu / float64(p.handled) }

func (p pace) plus(o pace) pace {
	return pace{p.messages + o.messages, p.took + o.took, p.cpu + o.cpu, p.handled + o.handled}
}

// pace reads how many messages were handled after the first commit, up to the
// last, and how long that took.
func (d *drain) pace(ctx context.Context) (p pace, err error) {
	var commits []struct {
		At       time.Time `db:"at"`
		Messages int       `db:"messages"`
	}
	err = d.base.db.SelectContext(ctx, &commits, `
		SELECT pg_xact_commit_timestamp(n.transaction) AS at, n.messages
		FROM (SELECT xmin AS transaction, count(*) AS messages FROM notification.notifications GROUP BY xmin) n
		ORDER BY at`)
	if err != nil || len(commits) < 2 {
		return p, errors.Join(fmt.Errorf("%d commits, no pace to be told", len(commits)), err)
	}
	for _, c := range commits[1:] {
		p.messages += c.Messages
	}
	p.took = commits[len(commits)-1].At.Sub(commits[0].At)
	return p, nil
}

// count tells when so many messages were handled.
type count struct {
	want    int64
	reached chan struct{}
	n       atomic.Int64
}

func (c *count) middleware(next message.HandlerFunc) message.HandlerFunc {
	return func(m *message.Message) ([]*message.Message, error) {
		out, err := next(m)
		if c.n.Add(1) == c.want {
			close(c.reached)
		}
		return out, err
	}
}
