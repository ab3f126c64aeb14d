package messaging

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jmoiron/sqlx"
)

// Request is a Body that is answered by an A: a command whose sender waits. Its
// receiver answers it in the transaction that acknowledges it.
type Request[A Body] interface {
	Body
	// Answer is the zero value of what answers it.
	Answer() A
}

// ErrNoAnswer is returned by Ask when the deadline passed first. Whether the
// request was handled isn't known; it will not be from now on.
var ErrNoAnswer = errors.New("no answer in time")

// Refused is the error of Ask when whoever was asked answered that it won't.
type Refused struct {
	Kind   string // of the request
	Reason string // in the words of the service that was asked
}

// Error says what was refused and why.
func (r *Refused) Error() string { return fmt.Sprintf("%s was refused: %s", r.Kind, r.Reason) }

const (
	// askPatience is how long Ask waits when its context has no deadline.
	askPatience = 2 * time.Second
	// maxPatience is how long it waits at most: answers are swept after a minute.
	maxPatience = time.Minute
	// replyPoll is how often answers are looked for while somebody waits, for when
	// wake-ups are lost. While nobody waits they never are.
	replyPoll = 250 * time.Millisecond
)

// Keys of the metadata that a request travels with, besides a message's own.
const (
	keyReplyTo  = "reply_to" // the bell of the process that waits
	keyPatience = "patience" // how long it waits from when the request was sent
)

// Ask sends q to the queue that takes its kind and waits for the answer until
// the deadline of ctx, for 2 s without one and never for more than a minute. The
// request is committed by itself, in class Express; the Bus must be running, and
// the kind among the Asks of its Spec. Any number may ask at once.
//
// The error is ErrNoAnswer when the deadline passed, a *Refused when the answer
// is that there is none, and the context's when that was cancelled. A request
// that nobody waits for any more is acknowledged unanswered. Ask never stands in
// a transaction: it would hold its locks while it waits.
func Ask[Q Request[A], A Body](ctx context.Context, b *Bus, q Q) (A, error) {
	var none A
	r, err := b.ask(ctx, q)
	if err != nil {
		return none, fmt.Errorf("ask %s of order %q: %w", q.Kind(), q.Order(), err)
	}
	if r.refusal != "" {
		return none, &Refused{Kind: q.Kind(), Reason: r.refusal}
	}
	if want := kindOf[A](); r.kind != want {
		return none, fmt.Errorf("ask %s: answered by %s, want %s", q.Kind(), r.kind, want)
	}
	answer, err := decode[A](b, Message{Kind: r.kind, SchemaVersion: r.version, Payload: r.payload})
	if err != nil {
		return none, fmt.Errorf("ask %s: answer: %w", q.Kind(), err)
	}
	return answer, nil
}

// ask sends q and waits for whatever answers it.
func (b *Bus) ask(ctx context.Context, q Body) (reply, error) {
	if !slices.Contains(b.spec.Asks, q.Kind()) {
		return reply{}, Permanent(fmt.Errorf("not among what service %s asks", b.spec.Name))
	}
	if _, ok := TxFrom(ctx); ok {
		return reply{}, Permanent(errors.New("a handler can't wait for an answer in its transaction"))
	}
	patience := askPatience
	if end, ok := ctx.Deadline(); ok {
		patience = min(time.Until(end), maxPatience)
	}
	if patience <= 0 {
		return reply{}, ErrNoAnswer
	}
	deadline := time.Now().Add(patience)
	waiting, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	s, class := asSending(q), Express
	s.class = &class
	answer := make(chan reply, 1)
	var id string
	defer func() { b.replies.forget(id) }()
	err := b.InTx(waiting, func(_ context.Context, tx *Tx) error {
		s.metadata = map[string]string{keyReplyTo: b.replies.bell, keyPatience: time.Until(deadline).String()}
		if err := tx.Publish(s); err != nil {
			return err
		}
		id = tx.out[len(tx.out)-1].ID
		b.replies.expect(id, answer) // before the commit: the answer may come at once
		return nil
	})
	if err != nil && errors.Is(waiting.Err(), context.DeadlineExceeded) {
		err = errors.Join(ErrNoAnswer, err) // it was not even sent in time
	}
	if err != nil {
		return reply{}, err
	}
	select {
	case r := <-answer:
		return r, nil
	case <-b.replies.done:
		return reply{}, fmt.Errorf("service %s stops: %w", b.spec.Name, ErrNoAnswer)
	case <-waiting.Done():
	}
	select {
	case r := <-answer: // both came at once
		return r, nil
	default:
	}
	if err := ctx.Err(); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return reply{}, err
	}
	return reply{}, fmt.Errorf("request %s, after %s: %w", id, patience.Round(time.Millisecond), ErrNoAnswer)
}

// Answer registers h for the requests of the kind of Q. Like the handlers of
// Handle it only touches the database, in a transaction that also holds the
// answer and the acknowledgement.
//
// An error marked Permanent refuses: it is the answer, with the error's text, and
// what h queued or published is dropped; what h wrote at once is not, so it
// refuses first. So is a payload that isn't valid. After any other error the
// request is tried again, as messages are, until its deadline; at its last
// attempt it is refused. It never becomes a dead letter by failing. Answer
// panics as Handle does.
func Answer[Q Request[A], A Body](b *Bus, h func(context.Context, *Tx, Q) (A, error)) {
	b.register(kindOf[Q](), Transactional, handler{inside: func(ctx context.Context, tx *Tx, m Message) error {
		return b.answer(tx, m, func() (Body, error) {
			q, err := decode[Q](b, m)
			if err != nil {
				return nil, err
			}
			return h(ctx, tx, q)
		})
	}})
}

// answer handles the request m by h, unless nobody waits for it.
func (b *Bus) answer(tx *Tx, m Message, h func() (Body, error)) error {
	patience, err := time.ParseDuration(m.metadata[keyPatience])
	bell := m.metadata[keyReplyTo]
	if err != nil || !isReplyBell(bell) {
		tx.Ignore("nobody waits for an answer")
		return nil
	}
	if m.age() >= patience {
		tx.Ignore("deadline passed")
		return nil
	}
	before := tx.mark()
	r, err := b.answerOf(m, h)
	if err != nil {
		return err
	}
	if r.refusal != "" {
		tx.drop(before)
		tx.Ignore("refused: " + r.refusal)
	}
	// Without a target, ON CONFLICT needs no right to read.
	tx.Queue(`
		INSERT INTO messaging.`+quote("replies_"+m.Producer)+` (request_id, kind, schema_version, payload, refusal)
		VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT DO NOTHING`, m.ID, r.kind, r.version, r.payload, nullable(r.refusal))
	tx.afterCommit(func() { b.wakes.tell(bell) })
	return nil
}

// mark is how far a transaction has come with what it will write at its end.
type mark struct {
	queued, out int
	rows        map[string]int // of every QueueRow
}

func (t *Tx) mark() mark {
	m := mark{queued: len(t.queued), out: len(t.out), rows: map[string]int{}}
	for query, i := range t.gathered {
		m.rows[query] = t.queued[i].rows.len()
	}
	return m
}

// drop forgets what was queued and published since m.
func (t *Tx) drop(m mark) {
	for query, i := range t.gathered {
		if i < m.queued {
			t.queued[i].rows.cut(m.rows[query])
		} else {
			delete(t.gathered, query)
		}
	}
	t.queued, t.out = t.queued[:m.queued], t.out[:m.out]
}

func (r *rows) len() int {
	if len(*r) == 0 {
		return 0
	}
	return (*r)[0].Len()
}

// cut keeps the first n rows.
func (r *rows) cut(n int) {
	for i, c := range *r {
		(*r)[i] = c.Slice(0, n)
	}
}

// answerOf is what h answers to m: also that it doesn't. The error is one after
// which m is to be tried again.
func (b *Bus) answerOf(m Message, h func() (Body, error)) (reply, error) {
	refused := func(why string) (reply, error) { return reply{kind: m.Kind, version: 1, refusal: shorten(why)}, nil }
	if last := b.cfg.limits.maxAttempts; last > 0 && m.Attempt >= last {
		return refused(fmt.Sprintf("it failed %d times", m.Attempt-1))
	}
	body, err := h()
	if isPermanent(err) {
		return refused(err.Error())
	}
	if err != nil {
		return reply{}, err
	}
	a, err := newMessage(body, m)
	if err != nil {
		return refused(err.Error())
	}
	return reply{kind: a.Kind, version: a.SchemaVersion, payload: a.Payload}, nil
}

// reply is a row of a table of replies.
type reply struct {
	kind    string
	version int
	payload []byte // nil when refused
	refusal string // why, "" when answered
}

// replies are the answers that a process waits for. One statement fetches all
// that have come, whoever of the process asked.
type replies struct {
	bus   *Bus
	bell  string        // which bell is rung when one has come: no other process's
	asked chan struct{} // somebody began to wait
	done  chan struct{} // closed when nobody fetches any more

	mu      sync.Mutex
	waiting map[string]chan<- reply // by request id
}

func newReplies(b *Bus) *replies {
	return &replies{
		bus: b, bell: replyBell + uuid.NewString(), asked: make(chan struct{}, 1), done: make(chan struct{}),
		waiting: map[string]chan<- reply{},
	}
}

// replyBell begins the name of a process's bell. No queue is named like this:
// a UUID has hyphens.
const replyBell = "reply_"

// isReplyBell reports whether name, which came with a request, is one.
func isReplyBell(name string) bool {
	id, ok := strings.CutPrefix(name, replyBell)
	return ok && len(id) == 36 && uuid.Validate(id) == nil
}

// bells are the names of the bells that the process listens for: of its queues
// and, when it asks, of its answers.
func (b *Bus) bells() []string {
	var names []string
	for _, q := range b.spec.Queues {
		names = append(names, q.Name)
	}
	if len(b.spec.Asks) > 0 {
		names = append(names, b.replies.bell)
	}
	return names
}

func (r *replies) expect(id string, answer chan<- reply) {
	r.mu.Lock()
	r.waiting[id] = answer
	r.mu.Unlock()
	select {
	case r.asked <- struct{}{}:
	default:
	}
}

func (r *replies) forget(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.waiting, id)
}

// expected are the requests that somebody waits for.
func (r *replies) expected() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Collect(maps.Keys(r.waiting))
}

// run fetches answers until ctx ends: when the bell rings and, while somebody
// waits, at the latest after replyPoll. Twice in the life of an answer it sweeps
// those that nobody came for.
func (r *replies) run(ctx context.Context) {
	if len(r.bus.spec.Asks) == 0 {
		return
	}
	defer close(r.done)
	bell := r.bus.wakes.bell(r.bell).wake
	sweep := time.NewTicker(r.bus.cfg.limits.replies / 2)
	defer sweep.Stop()
	var poll <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-sweep.C:
			r.sweep(ctx)
			continue
		case <-r.asked:
			if poll == nil {
				poll = time.After(replyPoll)
			}
			continue
		case <-bell:
		case <-poll:
			poll = nil
		}
		ids := r.expected()
		if len(ids) == 0 {
			poll = nil
			continue
		}
		r.fetch(ctx, ids)
		if poll == nil {
			poll = time.After(replyPoll)
		}
	}
}

// fetch takes the answers to ids that have come and hands them to who waits. The
// commit doesn't wait for the disk: an answer that comes back to the table after
// a crash is swept.
func (r *replies) fetch(ctx context.Context, ids []string) {
	limited, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	err := run(limited, r.bus.db, func(rows pgx.Rows) error {
		var id string
		var got reply
		if err := rows.Scan(&id, &got.kind, &got.version, &got.payload, &got.refusal); err != nil {
			return err
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		if answer := r.waiting[id]; answer != nil {
			delete(r.waiting, id)
			answer <- got // it has room for one, and is sent one
		}
		return nil
	}, `
		DELETE FROM messaging.`+quote("replies_"+r.bus.spec.Name)+`
		WHERE request_id = ANY ($1::text[]::uuid[]) AND `+noWait+`
		RETURNING request_id::text, kind, schema_version, payload, coalesce(refusal, '')`, ids)
	if err != nil && ctx.Err() == nil {
		r.bus.log.Warn("answers will be fetched later", "service", r.bus.spec.Name, "err", err)
	}
}

// sweep deletes the answers that nobody came for.
func (r *replies) sweep(ctx context.Context) {
	limited, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	err := run(limited, r.bus.db, nil, `
		DELETE FROM messaging.`+quote("replies_"+r.bus.spec.Name)+`
		WHERE answered_at < statement_timestamp() - $1::interval AND `+noWait, r.bus.cfg.limits.replies)
	if err != nil && ctx.Err() == nil {
		r.bus.log.Warn("answers that nobody came for will be swept later", "service", r.bus.spec.Name, "err", err)
	}
}

// grantReplies lets every service that is asked by s write its answers, and no
// one else. Which service that is, is known by whose queue takes the kind.
func grantReplies(ctx context.Context, tx *sqlx.Tx, s Spec) error {
	if len(s.Asks) == 0 {
		return nil
	}
	var asked []string
	err := tx.SelectContext(ctx, &asked, `
		SELECT DISTINCT q.service FROM messaging.routes r JOIN messaging.queues q ON q.name = r.queue
		WHERE r.kind = ANY ($1) ORDER BY q.service`, s.Asks)
	if err != nil {
		return fmt.Errorf("find whom service %s asks: %w", s.Name, err)
	}
	for _, a := range asked {
		_, err := tx.ExecContext(ctx, fmt.Sprintf(`GRANT INSERT (request_id, kind, schema_version, payload, refusal) ON messaging.replies_%s TO %s`, s.Name, Spec{Name: a}.Role()))
		if err != nil {
			return fmt.Errorf("let service %s answer service %s: %w", a, s.Name, err)
		}
	}
	return nil
}
