package messaging

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/jmoiron/sqlx"
)

// SubscriberConfig is what a Subscriber is made of.
type SubscriberConfig struct {
	DB        *sqlx.DB // pool with the rights of the queue's owner
	DSN       string   // for a listening connection; "" = look only at the poll interval
	Log       *slog.Logger
	Mode      Mode
	Consumers int           // per subscription: transactions (Transactional) or messages in hand (Leased); 0 = 2
	Deadline  time.Duration // for one message in Leased mode; 0 = 30 s

	limits limits
}

// Subscriber is a Watermill subscriber on queue tables: its topic is the name of
// a queue. Any number of subscriptions and processes share a queue; each message
// goes to one of them and comes again when it is nacked, when its consumer dies
// or takes too long.
//
// In Transactional mode the context of a message holds the transaction in which
// it will be acknowledged (TxFrom): what the handler writes there is committed
// with the ack, or not at all. An ack counts once that transaction has
// committed, so a message may be offered again after it was acked when another
// of its batch failed. In Leased mode a message is acknowledged by a statement
// of its own after the ack.
//
// Subscriber knows nothing of inboxes and outboxes: a Bus puts them on top.
type Subscriber struct {
	cfg     SubscriberConfig
	wakes   *wakes
	bus     *Bus // nil for a plain Watermill subscriber
	closing chan struct{}
	once    sync.Once
	mu      sync.Mutex // guards closed and the adding to running
	closed  bool
	running sync.WaitGroup
}

var _ message.Subscriber = (*Subscriber)(nil)

// NewSubscriber returns a plain Watermill subscriber.
func NewSubscriber(cfg SubscriberConfig) *Subscriber {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Consumers == 0 {
		cfg.Consumers = 2
	}
	if cfg.Deadline == 0 {
		cfg.Deadline = 30 * time.Second
	}
	if cfg.limits.batch == 0 {
		cfg.limits = defaultLimits()
	}
	return &Subscriber{cfg: cfg, wakes: newWakes(), closing: make(chan struct{})}
}

// spec is the service whose Bus is on top, the zero Spec without one.
func (s *Subscriber) spec() Spec {
	if s.bus == nil {
		return Spec{}
	}
	return s.bus.spec
}

// ErrClosed is returned by Subscribe on a closed Subscriber.
var ErrClosed = errors.New("subscriber is closed")

// Subscribe returns the channel on which the messages of queue are offered,
// until ctx ends or the Subscriber is closed; then it is closed, after what was
// in hand is acked, nacked or given back.
func (s *Subscriber) Subscribe(ctx context.Context, queue string) (<-chan *message.Message, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, fmt.Errorf("subscribe to %s: %w", queue, ErrClosed)
	}
	stop, cancel := context.WithCancel(ctx)
	base, cut := context.WithCancel(context.WithoutCancel(ctx))
	inbox := ""
	if s.cfg.Mode == Leased {
		inbox = s.spec().Name
	}
	c := &consumer{
		sub: s, table: newQueueTable(s.cfg.DB, queue, inbox, s.cfg.limits), bell: s.wakes.bell(queue),
		base: base, stop: stop, out: make(chan *message.Message),
		suspects: make(chan struct{}, 1),
	}
	var workers sync.WaitGroup
	if s.cfg.Mode == Leased {
		workers.Go(c.lease)
	} else {
		for range s.cfg.Consumers {
			workers.Go(c.transact)
		}
	}
	if s.bus == nil && s.cfg.DSN != "" {
		workers.Go(func() {
			listen(stop, s.cfg.DSN, []string{queue}, s.wakes, func(err error) {
				s.cfg.Log.Warn("wake-ups lost, polling until they are back", "topic", queue, "err", err)
			})
		})
	}
	s.running.Go(func() {
		select {
		case <-s.closing:
		case <-stop.Done():
		}
		cancel()
		late := time.AfterFunc(closeLimit, cut)
		workers.Wait()
		late.Stop()
		cut()
		close(c.out)
	})
	return c.out, nil
}

// closeLimit is when a consumer that was closed gives up what it waits for. All that
// is in hand ends before, each by its own time limit, unless the server hangs: then
// leases must run out.
const closeLimit = 8 * time.Second

// Close stops taking messages and returns once nothing is in hand any more. Each
// message in hand has until the end of its own time limit, all of them until
// closeLimit.
func (s *Subscriber) Close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.once.Do(func() { close(s.closing) })
	s.running.Wait()
	return nil
}

// consumer is one subscription at work.
type consumer struct {
	sub   *Subscriber
	table *queueTable
	bell  *bell
	base  context.Context // ends closeLimit after stop: a shutdown doesn't cut what is in hand
	stop  context.Context // ends when no more is to be taken
	out   chan *message.Message

	suspects chan struct{} // holds a token while a suspect is in hand: one at a time
	answered chan answered // Leased: what is to be recorded

	mu     sync.Mutex
	turn   uint
	lookAt time.Time // when the queue is to be looked at again without a floor
	floor  time.Time // nothing living was due before it at the last look
}

// delivery is one attempt at one message. It travels in the message's context;
// its fields are read by the consumer after the ack or nack, and never when the
// attempt was given up before.
type delivery struct {
	message Message
	tx      *Tx    // Transactional
	record  Record // Leased: set by the handler, run in the acknowledging transaction
	err     error  // why the handler failed
	ran     time.Duration
}

type deliveryKey struct{}

func deliveryFrom(ctx context.Context) *delivery {
	d, _ := ctx.Value(deliveryKey{}).(*delivery)
	return d
}

// TxFrom returns the transaction in which the message of ctx will be
// acknowledged: of a Transactional queue, while the message is being handled.
func TxFrom(ctx context.Context) (*Tx, bool) {
	d := deliveryFrom(ctx)
	if d == nil || d.tx == nil {
		return nil, false
	}
	return d.tx, true
}

// errNacked stands for a nack without a reason: a plain Watermill handler's.
var errNacked = errors.New("nacked")

// offer hands one attempt to whoever reads the channel and returns how it went:
// nil when it was acked, errHandlerTimeout when limit passed first, errClosing
// when nobody takes it any more.
func (c *consumer) offer(ctx context.Context, d *delivery, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(context.WithValue(ctx, deliveryKey{}, d), limit)
	defer cancel()
	m := watermillMessage(d.message)
	m.SetContext(ctx)
	select {
	case c.out <- m:
	case <-c.stop.Done():
		return errClosing
	}
	started := time.Now()
	select {
	case <-m.Acked():
		d.ran = time.Since(started)
		return nil
	case <-m.Nacked():
		err := d.err
		if err == nil {
			err = errNacked
		}
		if ctx.Err() != nil { // the limit made it fail, whatever it calls that
			err = errors.Join(errHandlerTimeout, err)
		}
		return err
	case <-ctx.Done():
		// An answer that came together with the limit still counts.
		select {
		case <-m.Acked():
			d.ran = time.Since(started)
			return nil
		default:
			return errHandlerTimeout
		}
	}
}

// watch is what a worker knows of its queue since its last claim.
type watch struct {
	seen uint64    // rings of the bell when it began to claim
	due  time.Time // when the next message falls due, at the latest the next poll
}

// next waits until there may be something to claim and claims up to n messages.
// What is due after w is known to the worker from its last claim.
func (c *consumer) next(n int, w *watch) []claimed {
	if c.bell.sleep(time.Until(w.due), w.seen, c.stop.Done()); c.stop.Err() != nil {
		return nil
	}
	w.seen = c.bell.answer()
	ctx, cancel := context.WithTimeout(c.base, 10*time.Second)
	defer cancel()
	turn, floor, look := c.nextTurn()
	var list []claimed
	if look {
		suspect, err := c.look(ctx)
		if err != nil {
			c.trouble(err, w)
			return nil
		}
		if suspect {
			list = c.nextSuspect(ctx)
		}
	}
	if n -= len(list); n == 0 {
		return list
	}
	got, err := c.table.claim(ctx, n, turn, floor)
	if err != nil {
		c.trouble(err, w)
		return list
	}
	w.due = time.Now().Add(got.wait)
	if len(got.list) == n {
		c.bell.ringFull() // there may be more: for this one, and for others
	}
	list = append(list, got.list...)
	// In a queue that was replayed a message may have been handled in another run,
	// which the key of the inbox doesn't refuse.
	if got.run > 0 && c.sub.bus != nil && c.sub.cfg.Mode == Transactional && len(list) > 0 {
		if _, err := c.markHandled(list); err != nil {
			c.sub.cfg.Log.Warn("claimed messages are given back", "topic", c.table.name, "err", err)
			for _, m := range list {
				c.freeSuspect(m)
			}
			c.giveBack(list, pause())
			return nil
		}
	}
	return list
}

// nextTurn counts a claim, says where it may begin and whether it is time to
// look at the queue as a whole, which happens once per poll interval.
func (c *consumer) nextTurn() (turn uint, floor time.Time, look bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.turn++
	if time.Now().Before(c.lookAt) {
		return c.turn, c.floor, false
	}
	c.lookAt = time.Now().Add(c.table.limits.poll)
	return c.turn, time.Time{}, true
}

// look asks whether a suspect waits, and learns the floor of the claims to come.
func (c *consumer) look(ctx context.Context) (suspect bool, err error) {
	oldest, suspect, err := c.table.look(ctx)
	if err != nil {
		return false, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.floor = oldest
	return suspect, nil
}

// nextSuspect claims a message that a consumer left behind, unless this process
// has one in hand: should it kill the process, it kills nobody's neighbour.
func (c *consumer) nextSuspect(ctx context.Context) []claimed {
	select {
	case c.suspects <- struct{}{}:
	default:
		return nil
	}
	s, err := c.table.claimSuspect(ctx)
	switch {
	case err != nil:
		c.sub.cfg.Log.Warn("suspect will be claimed later", "topic", c.table.name, "err", err)
	case s == nil:
	case s.dead:
		c.sub.cfg.Log.Error("message is dead: its consumer was gone whenever it had it in hand",
			"topic", c.table.name, "message_id", s.ID, "order_id", s.OrderID, "kind", s.Kind, "attempt", s.Attempt)
	default:
		return []claimed{*s}
	}
	<-c.suspects
	return nil
}

// freeSuspect lets the process take the next suspect after m, if m was one.
func (c *consumer) freeSuspect(m claimed) {
	if m.suspect {
		<-c.suspects
		c.mu.Lock()
		c.lookAt = time.Time{} // there may be another
		c.mu.Unlock()
		c.bell.ring() // for whoever sleeps
	}
}

// trouble has the queue asked again in a moment.
func (c *consumer) trouble(err error, w *watch) {
	c.sub.cfg.Log.Warn("queue will be asked again", "topic", c.table.name, "err", err)
	w.due = time.Now().Add(pause())
}

// failed puts back, or among the dead, a message whose handling failed.
func (c *consumer) failed(m claimed, err error) {
	if errors.Is(err, errClosing) {
		c.giveBack([]claimed{m}, 0)
		return
	}
	l := c.table.limits
	counts := countsAsAttempt(err)
	var reason *string
	switch {
	case isPermanent(err):
		text := shorten(err.Error())
		reason = &text
	case counts && l.maxAttempts > 0 && m.Attempt >= l.maxAttempts:
		text := shorten(fmt.Sprintf("failed %d times, at last: %v", m.Attempt, err))
		reason = &text
	}
	wait := pause()
	var away later
	switch {
	case counts:
		wait = l.backoff(m.Attempt)
	case errors.As(err, &away):
		wait = away.wait
	}
	log := c.sub.cfg.Log.With("topic", c.table.name, "message_id", m.ID, "order_id", m.OrderID, "kind", m.Kind, "attempt", m.Attempt, "correlation_id", m.CorrelationID, "err", err)
	if reason != nil {
		log.Error("message is dead")
	} else {
		log.Warn("message will be tried again", "wait_ms", wait.Milliseconds())
	}
	c.nack("put a message back", m, wait, counts, err, reason)
	if reason != nil {
		wait = 0 // for the next of its lane
	}
	c.bell.ringAfter(wait)
}

// nack puts m back after wait, or among the dead when reason says why.
func (c *consumer) nack(what string, m claimed, wait time.Duration, counts bool, err error, reason *string) {
	c.sub.bus.at(crashNackBefore)
	c.insist(what, func(ctx context.Context) error { return c.table.nack(ctx, m, wait, counts, err, reason) })
	c.sub.bus.at(crashNackAfter)
}

// giveBack returns messages that were never handled.
func (c *consumer) giveBack(list []claimed, wait time.Duration) {
	if len(list) == 0 {
		return
	}
	c.insist("give messages back", func(ctx context.Context) error { return c.table.giveBack(ctx, list, wait) })
	c.bell.ringAfter(wait)
}

// insist repeats what must reach the database, while that is away or lacks something,
// for as long as the lease runs: after that the messages are anybody's, and taken for
// those of a consumer that is gone.
func (c *consumer) insist(what string, f func(context.Context) error) {
	end := time.Now().Add(c.table.limits.lease)
	for {
		ctx, cancel := context.WithTimeout(c.base, time.Second)
		err := f(ctx)
		cancel()
		if err == nil {
			return
		}
		if countsAsAttempt(err) && !errors.Is(err, context.DeadlineExceeded) || time.Now().After(end) {
			c.sub.cfg.Log.Warn("lease must run out", "topic", c.table.name, "handler", what, "err", err)
			return
		}
		time.Sleep(pause())
	}
}
