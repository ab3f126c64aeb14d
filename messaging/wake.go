package messaging

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// wakes are the wake-ups of a process: one bell per queue. Ringing a bell that
// nobody waits at is remembered, so that a consumer that looks, finds nothing and
// then waits misses nothing; one ring wakes one consumer, who rings again when
// it leaves work behind.
type wakes struct {
	mu      sync.Mutex
	bells   map[string]chan struct{}
	untold  map[string]bool // queues whose consumers elsewhere are to be woken
	telling chan struct{}
}

func newWakes() *wakes {
	return &wakes{bells: map[string]chan struct{}{}, untold: map[string]bool{}, telling: make(chan struct{}, 1)}
}

func (w *wakes) bell(queue string) chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.bells[queue] == nil {
		w.bells[queue] = make(chan struct{}, 1)
	}
	return w.bells[queue]
}

func (w *wakes) ring(queue string) {
	select {
	case w.bell(queue) <- struct{}{}:
	default:
	}
}

// tell has the consumers of queues woken, in all processes.
func (w *wakes) tell(queues ...string) {
	if len(queues) == 0 {
		return
	}
	w.mu.Lock()
	for _, q := range queues {
		w.untold[q] = true
	}
	w.mu.Unlock()
	select {
	case w.telling <- struct{}{}:
	default:
	}
}

// take returns what is to be told, as NOTIFY channels, and forgets it.
func (w *wakes) take() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	channels := make([]string, 0, len(w.untold))
	for q := range w.untold {
		channels = append(channels, wakeChannel(q))
	}
	clear(w.untold)
	return channels
}

// wakeGap is the least time between two NOTIFYs of a process: a consumer that is
// busy hears of what came meanwhile when it looks next.
const wakeGap = 2 * time.Millisecond

// notify tells the server whom to wake until ctx ends: the first at once, those
// that come within the gap together at its end. It is a statement of its own,
// after the commit of what it tells of: inside a transaction that writes, NOTIFY
// makes all commits of the server wait in line.
func (b *Bus) notify(ctx context.Context) {
	for ended := false; !ended; {
		select {
		case <-b.wakes.telling:
		case <-ctx.Done():
			ended = true // what was told before goes out
		}
		channels := b.wakes.take()
		if len(channels) == 0 {
			continue
		}
		sending, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		err := relaxed(sending, b.db, nil, `SELECT pg_notify(c, '') FROM unnest($1::text[]) c`, channels)
		cancel()
		if err != nil {
			b.log.Warn("consumers must find out by polling", "service", b.spec.Name, "topic", strings.Join(channels, ","), "err", err)
		}
		time.Sleep(wakeGap)
	}
}

// wakeChannel is the NOTIFY channel of a queue.
func wakeChannel(queue string) string { return "queue_" + queue }

// listen keeps a connection on which the server tells of new messages. While it
// is down, polling serves; when it is back everyone looks once.
func (b *Bus) listen(ctx context.Context) {
	listen(ctx, b.cfg.DSN, b.bells(), b.wakes, func(err error) {
		b.log.Warn("wake-ups lost, polling until they are back", "service", b.spec.Name, "err", err)
	})
}

func listen(ctx context.Context, dsn string, queues []string, w *wakes, lost func(error)) {
	if len(queues) == 0 {
		return
	}
	for ctx.Err() == nil {
		err := listenOnce(ctx, dsn, queues, w)
		if ctx.Err() != nil {
			return
		}
		lost(err)
		select {
		case <-ctx.Done():
		case <-time.After(250 * time.Millisecond):
		}
	}
}

func listenOnce(ctx context.Context, dsn string, queues []string, w *wakes) (err error) {
	cfg, err := pgx.ParseConfig(dsn)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	cfg.ConnectTimeout = 5 * time.Second
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		err = errors.Join(err, conn.Close(closing))
	}()
	for _, q := range queues {
		if _, err := conn.Exec(ctx, `LISTEN `+quote(wakeChannel(q))); err != nil {
			return fmt.Errorf("listen: %w", err)
		}
	}
	for _, q := range queues {
		w.ring(q)
	}
	for {
		n, err := conn.WaitForNotification(ctx)
		if err != nil {
			return fmt.Errorf("listen: %w", err)
		}
		w.ring(strings.TrimPrefix(n.Channel, "queue_"))
	}
}
