package messaging

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
)

// Outcome is what has become of a message in one queue so far.
type Outcome string

// The outcomes.
const (
	Done      Outcome = "done"
	Ignored   Outcome = "ignored"   // it came late, again, or changed nothing: Note says why
	InFlight  Outcome = "in flight" // a consumer has it in hand
	Waiting   Outcome = "waiting"   // until DueAt, if that is set
	Dead      Outcome = "dead"      // Note is the reason
	Discarded Outcome = "discarded" // by an operator, for the reason in Note
	InOutbox  Outcome = "in outbox" // the relay hasn't carried it
	Unheard   Outcome = "unheard"   // an event that only the log got
)

// Step is one message on its way to one queue: of an event there is one for
// every queue that got it.
type Step struct {
	Depth         int        `json:"depth"` // 0, or one more than that of the message whose handling sent it
	MessageID     string     `json:"message_id"`
	Kind          string     `json:"kind"`
	From          string     `json:"from"`              // the service that sent it
	Queue         string     `json:"queue,omitempty"`   // "" while it is in no queue
	Service       string     `json:"service,omitempty"` // that the queue belongs to
	Run           int        `json:"run,omitempty"`     // of the queue; 0 but in a replay
	CausationID   string     `json:"causation_id,omitempty"`
	CorrelationID string     `json:"correlation_id,omitempty"`
	SentAt        time.Time  `json:"sent_at"`
	Waited        Millis     `json:"waited_ms"` // from sent to the start of its latest attempt; until now when it still waits
	Ran           Millis     `json:"ran_ms"`    // its latest attempt
	EndedAt       *time.Time `json:"ended_at,omitempty"`
	Attempts      int        `json:"attempts"`
	Crashes       int        `json:"crashes,omitempty"` // consumers that died with it in hand
	Outcome       Outcome    `json:"outcome"`
	Note          string     `json:"note,omitempty"` // why; of one that waits after a failure, its last error
	DueAt         *time.Time `json:"due_at,omitempty"`
}

// Journey is everything that is known of the messages about an order: parents
// before what they caused, else in the order sent.
type Journey struct {
	OrderID string    `json:"order_id"`
	At      time.Time `json:"at"`
	Steps   []Step    `json:"steps"`
	Gaps    []string  `json:"gaps,omitempty"` // what was too much to look through, one sentence each
}

// journeyBound is the most messages of an order that are read from one table, and
// outboxBound how many of an outbox are looked through from either end: it has no
// index by order, which every message would pay for.
const (
	journeyBound = 1000
	outboxBound  = 10_000
)

// Journey finds all messages about an order: in outboxes, queues, inboxes and
// logs, and those that were discarded. Each table is read by itself, in the
// direction of travel, so that no message is missed which moves meanwhile; one
// seen twice is where it was seen last. An order's id, a UUID v7, tells on which
// day it was made: days before that are not read. Of an unknown order there are
// no steps. The error for an id that is no UUID wraps nothing.
func (o *Operator) Journey(ctx context.Context, orderID string) (Journey, error) {
	id, err := uuid.Parse(orderID)
	if err != nil {
		return Journey{}, fmt.Errorf("journey of order %q: its id must be a UUID", orderID)
	}
	f := finding{op: o, order: id.String()}
	if id.Version() == 7 { // else it may be of any day
		sec, nsec := id.Time().UnixTime()
		f.since = time.Unix(sec, nsec).UTC().Add(-time.Hour) // two machines' clocks differ
	}
	steps, err := f.find(ctx)
	if err != nil {
		return Journey{}, fmt.Errorf("journey of order %s: %w", id, err)
	}
	j := Journey{OrderID: f.order, Steps: inTree(steps), Gaps: f.gaps}
	if err := o.db.GetContext(ctx, &j.At, `SELECT clock_timestamp()`); err != nil {
		return Journey{}, fmt.Errorf("journey of order %s: %w", id, err)
	}
	return j, nil
}

// finding is a Journey being found.
type finding struct {
	op    *Operator
	order string
	since time.Time // when the order was made, at the earliest; zero = unknown
	gaps  []string
}

// find reads all tables and returns what is to be shown of what they hold.
func (f *finding) find(ctx context.Context) ([]Step, error) {
	outboxes, err := tables(ctx, f.op.db, "outbox_")
	if err != nil {
		return nil, err
	}
	var queues []struct{ Name, Service string }
	if err := f.op.db.SelectContext(ctx, &queues, `SELECT name, service FROM messaging.queues ORDER BY name`); err != nil {
		return nil, fmt.Errorf("list the queues: %w", err)
	}
	var leaving, queued, handled, logged []Step
	for _, s := range outboxes {
		list, err := f.inOutbox(ctx, s)
		if err != nil {
			return nil, err
		}
		leaving = append(leaving, list...)
	}
	service := map[string]string{}
	for _, q := range queues {
		service[q.Name] = q.Service
		list, err := f.inQueue(ctx, q.Name)
		if err != nil {
			return nil, err
		}
		queued = append(queued, list...)
	}
	var bases []string
	err = f.op.db.SelectContext(ctx, &bases, `
		SELECT relname FROM pg_class
		WHERE relnamespace = 'messaging'::regnamespace AND relkind = 'p' AND (relname LIKE 'inbox\_%' OR relname LIKE 'log\_%')
		ORDER BY relname`)
	if err != nil {
		return nil, fmt.Errorf("list the inboxes and logs: %w", err)
	}
	for _, b := range bases {
		var err error
		var list []Step
		if s, ok := strings.CutPrefix(b, "log_"); ok {
			list, err = f.inLog(ctx, s)
			logged = append(logged, list...)
		} else {
			list, err = f.inInbox(ctx, strings.TrimPrefix(b, "inbox_"))
			handled = append(handled, list...)
		}
		if err != nil {
			return nil, err
		}
	}
	if queued, err = f.stillQueued(ctx, queued, handled); err != nil {
		return nil, err
	}
	discarded, err := f.discarded(ctx)
	if err != nil {
		return nil, err
	}
	steps := slices.Concat(handled, queued, discarded)
	steps = append(steps, missing(leaving, steps, logged)...)
	steps = append(steps, missing(logged, steps)...)
	for i := range steps {
		steps[i].Service = service[steps[i].Queue]
	}
	return steps, nil
}

// missing are those of list whose message is in none of the others.
func missing(list []Step, others ...[]Step) []Step {
	known := map[string]bool{}
	for _, o := range others {
		for _, s := range o {
			known[s.MessageID] = true
		}
	}
	return slices.DeleteFunc(slices.Clone(list), func(s Step) bool { return known[s.MessageID] })
}

// stillQueued leaves out of queued what was handled while the tables were read:
// what has a trace and isn't in its queue any more. What still is there is
// another copy.
func (f *finding) stillQueued(ctx context.Context, queued, handled []Step) ([]Step, error) {
	traced := map[[2]string]bool{}
	for _, s := range handled {
		traced[[2]string{s.MessageID, s.Queue}] = true
	}
	again := map[string][]Step{}
	var list []Step
	for _, s := range queued {
		if traced[[2]string{s.MessageID, s.Queue}] {
			if _, ok := again[s.Queue]; !ok {
				var err error
				if again[s.Queue], err = f.inQueue(ctx, s.Queue); err != nil {
					return nil, err
				}
			}
			if !slices.ContainsFunc(again[s.Queue], func(o Step) bool { return o.MessageID == s.MessageID }) {
				continue
			}
		}
		list = append(list, s)
	}
	return list, nil
}

// found is a row of any of the tables.
type found struct {
	MessageID     string     `db:"message_id"`
	Queue         string     `db:"queue"`
	Run           int        `db:"run"`
	Kind          string     `db:"kind"`
	Producer      string     `db:"producer"`
	CausationID   string     `db:"causation_id"`
	CorrelationID string     `db:"correlation_id"`
	SentAt        time.Time  `db:"sent_at"`
	Waited        float64    `db:"waited"`
	Ran           float64    `db:"ran"`
	EndedAt       *time.Time `db:"ended_at"`
	Attempts      int        `db:"attempts"`
	Crashes       int        `db:"crashes"`
	Outcome       Outcome    `db:"outcome"`
	Note          string     `db:"note"`
	DueAt         *time.Time `db:"due_at"`
}

// read makes steps of the rows of query, at most journeyBound of them.
func (f *finding) read(ctx context.Context, where, query string, args ...any) ([]Step, error) {
	var rows []found
	if err := f.op.db.SelectContext(ctx, &rows, query, append([]any{afresh}, args...)...); err != nil {
		return nil, fmt.Errorf("look into %s: %w", where, err)
	}
	if len(rows) > journeyBound {
		rows = rows[:journeyBound]
		f.gaps = append(f.gaps, fmt.Sprintf("%s holds more than %d messages about the order: the others are not shown", where, journeyBound))
	}
	steps := make([]Step, len(rows))
	for i, r := range rows {
		steps[i] = Step{
			MessageID: r.MessageID, Kind: r.Kind, From: r.Producer, Queue: r.Queue, Run: r.Run,
			CausationID: r.CausationID, CorrelationID: r.CorrelationID,
			SentAt: r.SentAt.UTC(), Waited: seconds(r.Waited), Ran: seconds(r.Ran), EndedAt: utc(r.EndedAt),
			Attempts: r.Attempts, Crashes: r.Crashes, Outcome: r.Outcome, Note: r.Note, DueAt: utc(r.DueAt),
		}
	}
	return steps, nil
}

func utc(t *time.Time) *time.Time {
	if t == nil {
		return nil
	}
	u := t.UTC()
	return &u
}

// inOutbox finds what service has sent and its relay hasn't carried.
func (f *finding) inOutbox(ctx context.Context, service string) ([]Step, error) {
	outbox := "messaging." + quote("outbox_"+service)
	var depth int
	err := f.op.db.GetContext(ctx, &depth, `SELECT count(*) FROM (SELECT FROM `+outbox+` LIMIT $1) o`, afresh, 2*outboxBound+1)
	if err != nil {
		return nil, fmt.Errorf("look into the outbox of %s: %w", service, err)
	}
	if depth > 2*outboxBound {
		f.gaps = append(f.gaps, fmt.Sprintf("the outbox of %s holds more than %d messages: only the first and the last %d were looked through", service, 2*outboxBound, outboxBound))
	}
	from := func(order string) string {
		return `
		SELECT message_id::text, '' AS queue, kind, $2::text AS producer, coalesce(causation_id::text, '') AS causation_id,
		       coalesce(correlation_id, '') AS correlation_id, occurred_at AS sent_at,
		       extract(epoch FROM statement_timestamp() - occurred_at)::float8 AS waited, not_before AS due_at,
		       CASE WHEN dead_reason IS NULL THEN 'in outbox' ELSE 'dead' END AS outcome, coalesce(dead_reason, '') AS note
		FROM (SELECT id, message_id, kind, order_id, causation_id, correlation_id, occurred_at, not_before, dead_reason
		      FROM ` + outbox + ` ORDER BY id ` + order + ` LIMIT $3) o
		WHERE order_id = $1::uuid`
	}
	return f.read(ctx, "the outbox of "+service, from("ASC")+` UNION `+from("DESC")+` LIMIT $4`, f.order, service, outboxBound, journeyBound+1)
}

// inQueue finds what waits in queue, is in hand, or is dead. What has its order
// as its lane is found by that, the rest by an index that only holds the rest.
func (f *finding) inQueue(ctx context.Context, queue string) ([]Step, error) {
	columns := `
		SELECT message_id::text, $2::text AS queue, run, kind, producer, coalesce(causation_id::text, '') AS causation_id,
		       coalesce(correlation_id, '') AS correlation_id, occurred_at AS sent_at,
		       extract(epoch FROM CASE WHEN dead_reason IS NULL THEN statement_timestamp() ELSE due END - occurred_at)::float8 AS waited,
		       attempts, crashes, CASE WHEN dead_reason IS NOT NULL THEN due END AS ended_at,
		       CASE WHEN dead_reason IS NOT NULL THEN 'dead' WHEN token IS NOT NULL AND due > statement_timestamp() THEN 'in flight' ELSE 'waiting' END AS outcome,
		       CASE WHEN dead_reason IS NULL AND token IS NULL AND due > statement_timestamp() THEN due END AS due_at,
		       coalesce(dead_reason, CASE WHEN token IS NULL AND attempts > 0 THEN last_error
		                                  WHEN due <= statement_timestamp() AND token IS NOT NULL THEN 'the consumer that had it in hand is gone' END, '') AS note
		FROM messaging.` + quote("queue_"+queue)
	return f.read(ctx, "queue "+queue, columns+`
		WHERE lane = $1 AND dead_reason IS NULL AND order_id = $1::text::uuid
		UNION ALL`+columns+`
		WHERE order_id = $1::text::uuid AND (lane IS DISTINCT FROM order_id::text OR dead_reason IS NOT NULL)
		LIMIT $3`, f.order, queue, journeyBound+1)
}

// inInbox finds what service has handled. Its first day is written into the
// statement, so that days before it are not even opened.
func (f *finding) inInbox(ctx context.Context, service string) ([]Step, error) {
	first := "00000000-0000-0000-0000-000000000000"
	if !f.since.IsZero() {
		first = fmt.Sprintf("%08x-%04x-0000-0000-000000000000", f.since.UnixMilli()>>16, f.since.UnixMilli()&0xffff)
	}
	return f.read(ctx, "the inbox of "+service, `
		SELECT message_id::text, consumer AS queue, run, kind, producer, coalesce(causation_id::text, '') AS causation_id,
		       coalesce(correlation_id, '') AS correlation_id, sent_at, extract(epoch FROM started_at - sent_at)::float8 AS waited,
		       extract(epoch FROM ran)::float8 AS ran, handled_at AS ended_at, attempts, outcome, coalesce(note, '') AS note
		FROM messaging.`+quote("inbox_"+service)+`
		WHERE order_id = $1::uuid AND message_id >= '`+first+`'
		LIMIT $2`, f.order, journeyBound+1)
}

// inLog finds the events that service has spoken.
func (f *finding) inLog(ctx context.Context, service string) ([]Step, error) {
	first := "-infinity"
	if !f.since.IsZero() {
		first = f.since.Format(time.RFC3339)
	}
	return f.read(ctx, "the log of "+service, `
		SELECT message_id::text, '' AS queue, kind, $2::text AS producer, coalesce(causation_id::text, '') AS causation_id,
		       coalesce(correlation_id, '') AS correlation_id, occurred_at AS sent_at, 'unheard' AS outcome
		FROM messaging.`+quote("log_"+service)+`
		WHERE order_id = $1::uuid AND logged_at >= '`+first+`'
		LIMIT $3`, f.order, service, journeyBound+1)
}

// discarded finds what operators took out of queues and outboxes: the record of
// it is all that is left.
func (f *finding) discarded(ctx context.Context) ([]Step, error) {
	return f.read(ctx, "the operators' actions", `
		SELECT coalesce(message_id::text, '') AS message_id, CASE WHEN queue LIKE '`+outboxOf+`%' THEN '' ELSE coalesce(queue, '') END AS queue,
		       coalesce(detail ->> 'kind', '') AS kind, coalesce(detail ->> 'producer', '') AS producer,
		       coalesce(detail ->> 'causation_id', '') AS causation_id, coalesce(detail ->> 'correlation_id', '') AS correlation_id,
		       coalesce((detail ->> 'sent_at')::timestamptz, at) AS sent_at, at AS ended_at, coalesce((detail ->> 'attempts')::int, 0) AS attempts,
		       'discarded' AS outcome, concat_ws('; ', reason, 'was dead: ' || (detail ->> 'dead_reason')) AS note
		FROM messaging.actions
		WHERE action = '`+actionDiscard+`' AND detail ->> 'order_id' = $1
		LIMIT $2`, f.order, journeyBound+1)
}

// inTree puts steps into the order of cause and effect: each after the one whose
// handling sent it, one level deeper, those of one parent by when they were sent.
func inTree(steps []Step) []Step {
	slices.SortFunc(steps, func(a, b Step) int {
		return cmp.Or(a.SentAt.Compare(b.SentAt), cmp.Compare(a.MessageID, b.MessageID), cmp.Compare(a.Queue, b.Queue), cmp.Compare(a.Run, b.Run))
	})
	byMessage := map[string][]int{}
	for i, s := range steps {
		byMessage[s.MessageID] = append(byMessage[s.MessageID], i)
	}
	children := make([][]int, len(steps))
	root := make([]bool, len(steps))
	for i, s := range steps {
		if p := parentOf(steps, byMessage[s.CausationID], i); p >= 0 {
			children[p] = append(children[p], i)
		} else {
			root[i] = true
		}
	}
	tree := make([]Step, 0, len(steps))
	shown := make([]bool, len(steps))
	var show func(i, depth int)
	show = func(i, depth int) {
		if shown[i] {
			return
		}
		shown[i] = true
		steps[i].Depth = depth
		tree = append(tree, steps[i])
		for _, c := range children[i] {
			show(c, depth+1)
		}
	}
	for i := range steps {
		if root[i] {
			show(i, 0)
		}
	}
	for i := range steps { // what only causes itself, which nobody of ours writes
		show(i, 0)
	}
	return tree
}

// parentOf is which of candidates, the copies of the message that caused step i,
// its sender handled: of several runs that which ended when i was sent. It is -1
// without candidates.
func parentOf(steps []Step, candidates []int, i int) int {
	best, bestRank := -1, time.Duration(0)
	for _, c := range candidates {
		if steps[c].MessageID == steps[i].MessageID {
			continue
		}
		rank := time.Duration(math.MaxInt64)
		if steps[c].Service == steps[i].From {
			rank--
			if end := steps[c].EndedAt; end != nil {
				rank = min(rank, end.Sub(steps[i].SentAt).Abs())
			}
		}
		if best < 0 || rank < bestRank {
			best, bestRank = c, rank
		}
	}
	return best
}
