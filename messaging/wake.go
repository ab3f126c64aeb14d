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
	mu    sync.Mutex
	bells map[string]chan struct{}
}

func newWakes() *wakes { return &wakes{bells: map[string]chan struct{}{}} }

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

// wakeChannel is the NOTIFY channel of a queue.
func wakeChannel(queue string) string { return "queue_" + queue }

// listen keeps a connection on which the server tells of new messages. While it
// is down, polling serves; when it is back everyone looks once.
func (b *Bus) listen(ctx context.Context) {
	queues := make([]string, len(b.spec.Queues))
	for i, q := range b.spec.Queues {
		queues[i] = q.Name
	}
	listen(ctx, b.cfg.DSN, queues, b.wakes, func(err error) {
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
