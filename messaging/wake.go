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

// wakes are the wake-ups of a process: one bell per queue.
type wakes struct {
	mu      sync.Mutex
	bells   map[string]*bell
	untold  map[string]bool // queues whose consumers elsewhere are to be woken
	told    time.Time       // when the server was last asked to wake anybody
	telling chan struct{}
}

func newWakes() *wakes {
	return &wakes{bells: map[string]*bell{}, untold: map[string]bool{}, telling: make(chan struct{}, 1)}
}

func (w *wakes) bell(queue string) *bell {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.bells[queue] == nil {
		w.bells[queue] = &bell{wake: make(chan struct{}, 1)}
	}
	return w.bells[queue]
}

func (w *wakes) ring(queue string) { w.bell(queue).ring() }

// bell is what the consumers of a queue in this process listen to. Rings are
// counted: a consumer notes the count, claims, and sleeps only while nobody has
// rung since. One ring wakes one sleeper, who rings again when it leaves work
// behind.
type bell struct {
	wake chan struct{}

	mu       sync.Mutex
	rung     uint64
	answered uint64 // rung, when somebody last began to claim
	busy     int    // consumers with messages in hand
	full     bool   // the latest claim got all that it asked for
}

// ring has a sleeper claim, now or as soon as it would go to sleep.
func (b *bell) ring() {
	b.mu.Lock()
	b.rung++
	b.mu.Unlock()
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// ringFull rings for what a claim left behind that got all it asked for: there is
// work for another.
func (b *bell) ringFull() {
	b.mu.Lock()
	b.full = true
	b.mu.Unlock()
	b.ring()
}

// ringAfter rings when something that was put back falls due.
func (b *bell) ringAfter(d time.Duration) { time.AfterFunc(d, b.ring) }

// answer notes that a claim begins, which will see what was rung for so far, and
// returns how often that was.
func (b *bell) answer() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.answered, b.full = b.rung, false
	return b.rung
}

// since reports whether somebody has rung since the count was seen.
func (b *bell) since(seen uint64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.rung > seen
}

// waiting reports whether there was a ring that no claim has answered, and
// whether somebody is at work who may well answer it in a moment.
func (b *bell) waiting() (unanswered, busy bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.rung > b.answered, b.busy > 0 && !b.full
}

// work counts a consumer as at work (1) or done (-1).
func (b *bell) work(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.busy += n
}

// patience is how long a sleeper that is woken lets one that is at work come back
// first: then that one takes what has come, in one batch, and the sleeper sleeps on.
const patience = 5 * time.Millisecond

// sleep returns when something may be there to be claimed: at the latest after d,
// before when the bell was rung since seen, or when stop is closed.
func (b *bell) sleep(d time.Duration, seen uint64, stop <-chan struct{}) {
	if b.since(seen) {
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	for {
		select {
		case <-b.wake:
		case <-timer.C:
			return
		case <-stop:
			return
		}
		unanswered, busy := b.waiting()
		if unanswered && busy {
			second := time.NewTimer(patience)
			select {
			case <-second.C:
			case <-stop:
			}
			second.Stop()
			unanswered, _ = b.waiting()
		}
		if unanswered {
			return
		}
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

// wakeGap is the least time between two NOTIFYs of a process: a consumer that is
// busy hears of what came meanwhile when it looks next.
const wakeGap = 2 * time.Millisecond

// mayTell reports whether the gap since the last NOTIFY has passed, and takes the
// turn if so.
func (w *wakes) mayTell() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if time.Since(w.told) < wakeGap {
		return false
	}
	w.told = time.Now()
	return true
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

// notify tells the server whom to wake until ctx ends: what a relay could not tell
// with its own batch because the last NOTIFY was too short a time ago.
func (b *Bus) notify(ctx context.Context) {
	for ended := false; !ended; {
		select {
		case <-b.wakes.telling:
		case <-ctx.Done():
			ended = true // what was told before goes out
		}
		for !b.wakes.mayTell() {
			time.Sleep(wakeGap)
		}
		channels := b.wakes.take()
		if len(channels) == 0 {
			continue
		}
		sending, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		err := run(sending, b.db, nil, `SELECT pg_notify(c, '') FROM unnest($1::text[]) c`, channels)
		cancel()
		if err != nil {
			b.log.Warn("consumers must find out by polling", "service", b.spec.Name, "topic", strings.Join(channels, ","), "err", err)
		}
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
