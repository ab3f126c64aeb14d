package messaging

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/go-playground/validator/v10"
	"github.com/jmoiron/sqlx"
)

// Config is what a Bus is made of. Spec, DB, DSN and Log must be set.
type Config struct {
	Spec Spec
	DB   *sqlx.DB // pool under the service's role
	DSN  string   // the same login, for the listening connection
	Log  *slog.Logger

	Consumers  int                         // concurrent consumers of each transactional queue; 0 = 2
	InFlight   int                         // messages in hand at once of each leased queue; 0 = 16
	Deadline   time.Duration               // of a leased handler; 0 = 30 s
	Middleware []message.HandlerMiddleware // around every handler, outermost first
	// WithoutRelay leaves what is published in the outbox: for tests of one service.
	WithoutRelay bool
	// Crash is called at each of CrashPoints with its name, by the goroutine that is
	// there and goes on when it returns: for tests that have the process die there, or
	// look. It is a function and not a point and a way to die, since how a process ends
	// is its program's business. nil, as it is in every shop, costs a look at it.
	Crash func(point string)

	limits limits
}

// Record is the second half of a leased handler: what is written once the
// outside has answered. It runs in the transaction that acknowledges, which it may
// share with other messages that were answered at the same time; when that one
// fails it runs again, by itself.
type Record func(ctx context.Context, tx *Tx) error

// Bus is the messaging layer of one service in one process: its handlers, its
// relay, its wake-ups and its schedules. Handlers are registered first, then
// Run runs everything until its context ends.
type Bus struct {
	cfg       Config
	db        *sqlx.DB
	spec      Spec
	log       *slog.Logger
	validate  *validator.Validate
	handlers  map[string]handler
	preloads  map[string]preload
	schedules []*schedule
	wakes     *wakes
	relay     *relay
	replies   *replies
	ready     atomic.Bool
}

// handler is what happens to the messages of one kind; one of its two is set.
type handler struct {
	inside  func(context.Context, *Tx, Message) error
	outside func(context.Context, Message) (Record, error)
}

type preload func(context.Context, *Tx, []Message) error

// New returns a Bus for cfg.Spec. It touches neither network nor database.
func New(cfg Config) (*Bus, error) {
	if err := cfg.Spec.validate(); err != nil {
		return nil, err
	}
	if cfg.Consumers == 0 {
		cfg.Consumers = 2
	}
	if cfg.InFlight == 0 {
		cfg.InFlight = 16
	}
	if cfg.Deadline == 0 {
		cfg.Deadline = 30 * time.Second
	}
	if cfg.limits.batch == 0 {
		cfg.limits = defaultLimits()
	}
	b := &Bus{
		cfg: cfg, db: cfg.DB, spec: cfg.Spec, log: cfg.Log,
		validate: validator.New(validator.WithRequiredStructEnabled()),
		handlers: map[string]handler{}, preloads: map[string]preload{},
		wakes: newWakes(),
	}
	b.relay, b.replies = newRelay(b), newReplies(b)
	return b, nil
}

// Handle registers h for the kind of T: a handler that only touches the
// database. It panics when the kind is not among the Spec's, stands in a leased
// queue, or has a handler already: mistakes of the program, found at start.
func Handle[T Body](b *Bus, h func(context.Context, *Tx, T) error) {
	kind := kindOf[T]()
	b.register(kind, Transactional, handler{inside: func(ctx context.Context, tx *Tx, m Message) error {
		body, err := decode[T](b, m)
		if err != nil {
			return err
		}
		return h(ctx, tx, body)
	}})
}

// HandleOutside registers h for the kind of T: a handler that talks to the
// outside. It runs under a lease, outside any transaction of the Bus; the Record
// that it returns runs in the transaction that acknowledges. It may run again
// after a crash or a lost lease, so whatever it calls must know its request by a
// key. It panics as Handle does.
func HandleOutside[T Body](b *Bus, h func(context.Context, T) (Record, error)) {
	kind := kindOf[T]()
	b.register(kind, Leased, handler{outside: func(ctx context.Context, m Message) (Record, error) {
		body, err := decode[T](b, m)
		if err != nil {
			return nil, err
		}
		return h(ctx, body)
	}})
}

func kindOf[T Body]() string {
	var zero T
	return zero.Kind()
}

func (b *Bus) register(kind string, mode Mode, h handler) {
	i := slices.IndexFunc(b.spec.Queues, func(q Queue) bool { return slices.Contains(q.Kinds, kind) })
	if i < 0 {
		panic(fmt.Sprintf("handler for %s: not among the kinds that service %s receives", kind, b.spec.Name))
	}
	if q := b.spec.Queues[i]; q.Mode != mode {
		panic(fmt.Sprintf("handler for %s: queue %s is of the other mode", kind, q.Name))
	}
	if _, ok := b.handlers[kind]; ok {
		panic(fmt.Sprintf("handler for %s: registered twice", kind))
	}
	b.handlers[kind] = h
}

// decode makes the payload of m a T. What can't be read, or isn't valid, is
// hopeless; fields that T doesn't know are a newer sender's and are passed over.
func decode[T Body](b *Bus, m Message) (T, error) {
	var body T
	version := 1
	if v, ok := any(body).(versioner); ok {
		version = v.SchemaVersion()
	}
	if m.SchemaVersion > version {
		return body, Permanent(fmt.Errorf("schema version %d of %s: known up to %d; upgrade this service, then redrive", m.SchemaVersion, m.Kind, version))
	}
	if err := json.Unmarshal(m.Payload, &body); err != nil {
		return body, Permanent(fmt.Errorf("payload is no %s: %w", m.Kind, err))
	}
	if reflect.TypeOf(body).Kind() == reflect.Struct {
		if err := b.validate.Struct(body); err != nil {
			return body, Permanent(fmt.Errorf("payload of %s is not valid: %w", m.Kind, withoutValues(err)))
		}
	}
	return body, nil
}

// withoutValues reduces a validation error to fields and rules: values may be
// personal data, and dead letters are shown.
func withoutValues(err error) error {
	var list validator.ValidationErrors
	if !errors.As(err, &list) {
		return err
	}
	var all []error
	for _, e := range list {
		all = append(all, fmt.Errorf("%s: %s", e.Namespace(), e.Tag()))
	}
	return errors.Join(all...)
}

// Preload registers f to run once at the start of every batch of a transactional
// queue, with the messages about to be handled: it locks and reads, in sorted
// order, every row that they will touch, and leaves them in tx.Loaded.
func (b *Bus) Preload(queue string, f func(context.Context, *Tx, []Message) error) {
	b.preloads[queue] = f
}

// InTx runs f in a transaction and commits it unless f returns an error, which
// comes back as it is. What f publishes is sent with the commit. An error from
// the commit itself means that the outcome is unknown.
func (b *Bus) InTx(ctx context.Context, f func(context.Context, *Tx) error) error {
	return b.inTx(ctx, crashInTxBeforeCommit, crashInTxAfterCommit, f)
}

// inTx is InTx, with the names of the points around its commit.
func (b *Bus) inTx(ctx context.Context, before, after string, f func(context.Context, *Tx) error) error {
	cause := MessageFrom(ctx) // the intent of a leased handler, too, is caused by its message
	if cause.ID == "" {
		cause = Message{Class: Standard, CorrelationID: Correlation(ctx)}
	}
	tx, err := beginTx(ctx, b.db, b.spec, cause)
	if err != nil {
		return fmt.Errorf("begin a transaction of %s: %w", b.spec.Name, err)
	}
	defer func() {
		if r := recover(); r != nil { // the connection goes back before the caller hears of it
			_ = tx.rollback(nil)
			panic(r)
		}
	}()
	if err := f(ctx, tx); err != nil {
		return tx.rollback(err)
	}
	if len(tx.queued)+len(tx.out) > 0 { // else it has only looked: schedules do so all the time
		b.around(tx, before, after)
	}
	if _, err := tx.commit(ctx); err != nil {
		return errors.Join(err, ctx.Err()) // the end of ctx closes the connection: say why
	}
	if len(tx.out) > 0 {
		b.relay.wake()
	}
	return nil
}

// Ready returns nil while the Bus runs and reaches its database.
func (b *Bus) Ready(ctx context.Context) error {
	if !b.ready.Load() {
		return fmt.Errorf("service %s: not running", b.spec.Name)
	}
	return b.db.PingContext(ctx)
}

// Run runs handlers, relay, wake-ups and schedules until ctx ends, then stops
// taking messages, finishes what is in hand and returns. It returns an error
// when a declared kind has no handler.
func (b *Bus) Run(ctx context.Context) error {
	for _, q := range b.spec.Queues {
		for _, k := range q.Kinds {
			if _, ok := b.handlers[k]; !ok {
				return fmt.Errorf("service %s receives %s and has no handler for it", b.spec.Name, k)
			}
		}
	}
	var router *message.Router
	var subs []*Subscriber
	if len(b.spec.Queues) > 0 {
		var err error
		if router, subs, err = b.newRouter(); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithCancel(ctx) // ends the schedules, too, when something else ends
	defer cancel()
	// The relay and the listener outlive the handlers: what these send while
	// draining still goes out.
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	var helpers, work sync.WaitGroup
	helpers.Go(func() { b.listen(background) })
	helpers.Go(func() { b.replies.run(background) })
	if !b.cfg.WithoutRelay {
		helpers.Go(func() { b.relay.run(background) })
	}
	for _, s := range b.schedules {
		work.Go(func() { s.run(ctx, b) })
	}
	// A router that is told to end while it starts would neither start nor end.
	var err error
	routed := make(chan error, 1)
	if router != nil {
		work.Go(func() { routed <- router.Run(background) })
		select {
		case <-router.Running():
		case err = <-routed:
			err = errors.Join(err, fmt.Errorf("router of %s ended while starting", b.spec.Name))
		}
	}
	if err == nil {
		b.ready.Store(true)
		b.log.Info("messaging started", "service", b.spec.Name)
		select {
		case <-ctx.Done():
		case err = <-routed: // every subscription has ended by itself
			err = errors.Join(err, fmt.Errorf("router of %s ended by itself", b.spec.Name))
		}
	}
	b.ready.Store(false)
	b.at(crashDrainBegun)
	cancel()
	// All at once: none may go on claiming while another finishes what it has.
	closed := make([]error, len(subs))
	var closing sync.WaitGroup
	for i, s := range subs {
		closing.Go(func() { closed[i] = s.Close() })
	}
	closing.Wait()
	err = errors.Join(err, errors.Join(closed...))
	if router != nil {
		err = errors.Join(err, router.Close())
	}
	work.Wait()
	select {
	case r := <-routed:
		err = errors.Join(err, r)
	default:
	}
	b.at(crashDrainHandled)
	stop()
	helpers.Wait()
	b.log.Info("messaging stopped", "service", b.spec.Name)
	return err
}

type correlationKey struct{}

// WithCorrelation notes the request id under which everything that ctx causes
// is sent.
func WithCorrelation(ctx context.Context, id string) context.Context {
	return context.WithValue(ctx, correlationKey{}, id)
}

// Correlation is the id noted by WithCorrelation, "" when there is none.
func Correlation(ctx context.Context) string {
	id, _ := ctx.Value(correlationKey{}).(string)
	return id
}
