package messaging

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"iter"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
)

// DeadLetter is a message that was given up, in a queue or in an outbox. It
// keeps its place, id and producer until somebody redrives or discards it. Its
// payload, which may hold personal data, is shown by DeadMessages only.
type DeadLetter struct {
	Queue         string    `db:"queue" json:"queue"` // "outbox of <service>" when it never left
	Row           int64     `db:"id" json:"row"`      // its place there: the order of sending
	MessageID     string    `db:"message_id" json:"message_id"`
	Kind          string    `db:"kind" json:"kind"`
	SchemaVersion int       `db:"schema_version" json:"schema_version"`
	Lane          string    `db:"lane" json:"lane,omitempty"`
	Class         Class     `db:"class" json:"class"`
	OrderID       string    `db:"order_id" json:"order_id,omitempty"`
	CorrelationID string    `db:"correlation_id" json:"correlation_id,omitempty"`
	CausationID   string    `db:"causation_id" json:"causation_id,omitempty"`
	Producer      string    `db:"producer" json:"producer"`
	SentAt        time.Time `db:"occurred_at" json:"sent_at"`
	DiedAt        time.Time `db:"died_at" json:"died_at"` // in an outbox, which doesn't note it, when it was sent
	Attempts      int       `db:"attempts" json:"attempts"`
	Crashes       int       `db:"crashes" json:"crashes"` // of consumers that had it in hand
	Reason        string    `db:"dead_reason" json:"reason"`
	LastError     string    `db:"last_error" json:"last_error,omitempty"`
}

// DeadGroup is what DeadGroups makes of the dead letters of one queue and kind
// whose reasons differ only in ids, numbers and quoted values.
type DeadGroup struct {
	Queue    string    `json:"queue"`
	Kind     string    `json:"kind"`
	Reason   string    `json:"reason"` // as DeadFilter takes it
	Count    int       `json:"count"`
	Oldest   time.Time `json:"oldest"` // when the first of them died
	Newest   time.Time `json:"newest"`
	SampleID string    `json:"sample_id"` // the message that was sent first
}

// DeadFilter chooses dead letters. What is left empty chooses all.
type DeadFilter struct {
	Queue       string // as DeadLetter.Queue
	Kind        string
	Reason      string // a part of the reason, or a DeadGroup's
	Producer    string
	OrderID     string
	MessageIDs  []string      // nil chooses all, an empty list nothing
	OlderThan   time.Duration // dead for at least that long
	YoungerThan time.Duration // dead for at most that long
}

var (
	// ErrNoDeadLetter is returned for an id that no dead letter bears (any more).
	ErrNoDeadLetter = errors.New("no such dead letter")
	// ErrSeveralDead is returned by what changes one dead letter when several
	// queues have one with that id, copies of one event, and none was named.
	ErrSeveralDead = errors.New("several queues have a dead letter with that id: name one")
	// ErrNoQueue is returned for a name that no queue and no outbox bears.
	ErrNoQueue = errors.New("no such queue")
)

// deadTable is a queue or an outbox with its dead letters. Both have the columns
// of an envelope; what only queues note has a stand-in for outboxes.
type deadTable struct {
	queue  string // as DeadLetter.Queue
	table  string
	wake   string // NOTIFY channel of its consumers, "" for an outbox
	revive string // what makes a dead row a living one with all attempts before it

	producer, died, attempts, crashes, lastError string
}

func deadQueue(name string) deadTable {
	return deadTable{
		queue: name, table: "messaging." + quote("queue_"+name), wake: wakeChannel(name),
		revive:   `dead_reason = NULL, token = NULL, attempts = 0, crashes = 0, due = clock_timestamp()`,
		producer: `producer`, died: `due`, attempts: `attempts`, crashes: `crashes`, lastError: `coalesce(last_error, '')`,
	}
}

func deadOutbox(service string) deadTable {
	return deadTable{
		queue: outboxOf + service, table: "messaging." + quote("outbox_"+service),
		revive:   `dead_reason = NULL`,
		producer: literal(service), died: `occurred_at`, attempts: `0`, crashes: `0`, lastError: `''`,
	}
}

// outboxOf begins the Queue of a dead letter in an outbox: no queue's name has spaces.
const outboxOf = "outbox of "

// literal makes s an SQL literal.
func literal(s string) string { return `'` + strings.ReplaceAll(s, `'`, `''`) + `'` }

// columns are those of a DeadLetter.
func (t deadTable) columns() string {
	return `id, ` + literal(t.queue) + ` AS queue, message_id::text, kind, schema_version, coalesce(lane, '') AS lane, class,
		coalesce(order_id::text, '') AS order_id, coalesce(correlation_id, '') AS correlation_id, coalesce(causation_id::text, '') AS causation_id,
		` + t.producer + ` AS producer, occurred_at, ` + t.died + ` AS died_at, ` + t.attempts + ` AS attempts, ` + t.crashes + ` AS crashes,
		dead_reason, ` + t.lastError + ` AS last_error`
}

// chosen is what FROM takes to find the dead letters (d) of a filter between two
// rows, with the parameters that DeadFilter.args makes.
func (t deadTable) chosen() string {
	return t.table + ` d
		WHERE dead_reason IS NOT NULL AND id > $1 AND id <= $2
		  AND ($3 = '' OR kind = $3)
		  AND ($4 = '' OR ` + t.producer + ` = $4)
		  AND ($5::uuid IS NULL OR order_id = $5)
		  AND ($6::uuid[] IS NULL OR message_id = ANY ($6))
		  AND ($7 = '' OR strpos(dead_reason, $7) > 0)
		  AND ($8::interval IS NULL OR ` + t.died + ` <= statement_timestamp() - $8::interval)
		  AND ($9::interval IS NULL OR ` + t.died + ` >= statement_timestamp() - $9::interval)`
}

// args are the parameters of chosen: $1 the row before, $2 the last one, $3 and on
// what the filter says.
func (f DeadFilter) args(after, last int64) []any {
	age := func(d time.Duration) *time.Duration {
		if d == 0 {
			return nil
		}
		return &d
	}
	return []any{after, last, f.Kind, f.Producer, nullable(f.OrderID), f.MessageIDs, longestWord(f.Reason), age(f.OlderThan), age(f.YoungerThan)}
}

// all reports whether f chooses all letters of a queue.
func (f DeadFilter) all() bool {
	return f.MessageIDs == nil && f.Kind+f.Reason+f.Producer+f.OrderID == "" && f.OlderThan == 0 && f.YoungerThan == 0
}

// matches tells what the server can't: whether reason is of the filter's group.
func (f DeadFilter) matches(reason string) bool {
	return f.Reason == "" || strings.Contains(reason, f.Reason) || reasonGroup(reason) == f.Reason
}

// check reports ids that are none, and writes the others as the database does.
func (f *DeadFilter) check() error {
	ids := slices.Clone(f.MessageIDs)
	for i, id := range ids {
		parsed, err := uuid.Parse(id)
		if err != nil {
			return fmt.Errorf("message id %q: %w", id, err)
		}
		ids[i] = parsed.String()
	}
	f.MessageIDs = ids
	if _, err := uuid.Parse(f.OrderID); f.OrderID != "" && err != nil {
		return fmt.Errorf("order id %q: %w", f.OrderID, err)
	}
	return nil
}

// deadTables are the queues, then the outboxes, by name; only the one called
// queue if that isn't "".
func (o *Operator) deadTables(ctx context.Context, queue string) ([]deadTable, error) {
	queues, err := tables(ctx, o.db, "queue_")
	if err != nil {
		return nil, err
	}
	outboxes, err := tables(ctx, o.db, "outbox_")
	if err != nil {
		return nil, err
	}
	var all []deadTable
	for _, q := range queues {
		all = append(all, deadQueue(q))
	}
	for _, s := range outboxes {
		all = append(all, deadOutbox(s))
	}
	if queue == "" {
		return all, nil
	}
	i := slices.IndexFunc(all, func(t deadTable) bool { return t.queue == queue })
	if i < 0 {
		return nil, fmt.Errorf("queue %q: %w; there are %s, and \"%s<service>\"", queue, ErrNoQueue, strings.Join(queues, ", "), outboxOf)
	}
	return all[i : i+1], nil
}

// tables lists the tables of schema messaging whose name begins with prefix,
// without the prefix, in order.
func tables(ctx context.Context, db *sqlx.DB, prefix string) ([]string, error) {
	var names []string
	err := db.SelectContext(ctx, &names, `
		SELECT substr(tablename, length($1) + 1) FROM pg_tables
		WHERE schemaname = 'messaging' AND starts_with(tablename, $1) ORDER BY tablename`, prefix)
	if err != nil {
		return nil, fmt.Errorf("list the tables messaging.%s*: %w", prefix, err)
	}
	return names, nil
}

// How many dead letters a statement looks at, at most, so that none lasts long
// however many there are.
const (
	deadWindow = 10_000
	pageWindow = 2_000 // where what is found is looked at in full
)

// windows parts the dead letters of t between two rows into runs of up to size
// letters, whatever a filter says of them, and yields the last row of each. The
// statement reads the index of the dead in its order: with a filter in it, or the
// letters themselves, the planner may sort all of them for every window.
func (o *Operator) windows(ctx context.Context, t deadTable, after, last int64, size int) iter.Seq2[int64, error] {
	return func(yield func(int64, error) bool) {
		for n := size; n == size; {
			var end int64
			err := o.db.QueryRowxContext(ctx, t.window(), after, last, size).Scan(&n, &end)
			if err != nil {
				yield(0, fmt.Errorf("look for dead letters of %s: %w", t.queue, err))
				return
			}
			if n == 0 || !yield(end, nil) {
				return
			}
			after = end
		}
	}
}

// window counts the next $3 dead letters between the rows $1 and $2 and finds the last of them.
func (t deadTable) window() string {
	return `SELECT count(*), coalesce(max(id), 0) FROM (
		SELECT id FROM ` + t.table + `
		WHERE dead_reason IS NOT NULL AND id > $1 AND id <= $2
		ORDER BY id
		LIMIT $3) w`
}

// dead reads columns of the letters of t that f chooses between two rows, in the
// order of rows, those of a window at a time.
func (o *Operator) dead(ctx context.Context, t deadTable, columns string, f DeadFilter, after, last int64, window int) iter.Seq2[DeadLetter, error] {
	return func(yield func(DeadLetter, error) bool) {
		for end, err := range o.windows(ctx, t, after, last, window) {
			var list []DeadLetter
			if err == nil {
				err = o.db.SelectContext(ctx, &list, `SELECT `+columns+` FROM `+t.chosen()+` ORDER BY id`, f.args(after, end)...)
			}
			if err != nil {
				yield(DeadLetter{}, fmt.Errorf("read the dead letters of %s: %w", t.queue, err))
				return
			}
			for _, l := range list {
				if f.matches(l.Reason) && !yield(l, nil) {
					return
				}
			}
			after = end
		}
	}
}

// DeadGroups puts the dead letters that f chooses into groups of one queue, kind
// and reason, where reasons that differ only in ids, numbers and quoted values
// are one; the largest group comes first.
func (o *Operator) DeadGroups(ctx context.Context, f DeadFilter) ([]DeadGroup, error) {
	if err := f.check(); err != nil {
		return nil, err
	}
	tables, err := o.deadTables(ctx, f.Queue)
	if err != nil {
		return nil, err
	}
	all := []DeadGroup{}
	type key struct{ queue, kind, reason string }
	index := map[key]int{}
	for _, t := range tables {
		columns := `id, message_id::text, kind, ` + t.died + ` AS died_at, dead_reason`
		for l, err := range o.dead(ctx, t, columns, f, 0, math.MaxInt64, deadWindow) {
			if err != nil {
				return nil, err
			}
			k := key{t.queue, l.Kind, reasonGroup(l.Reason)}
			i, ok := index[k]
			if !ok {
				i = len(all)
				index[k] = i
				all = append(all, DeadGroup{Queue: t.queue, Kind: l.Kind, Reason: k.reason, Oldest: l.DiedAt, Newest: l.DiedAt, SampleID: l.MessageID})
			}
			g := &all[i]
			g.Count++
			if l.DiedAt.Before(g.Oldest) {
				g.Oldest = l.DiedAt
			}
			if l.DiedAt.After(g.Newest) {
				g.Newest = l.DiedAt
			}
		}
	}
	slices.SortStableFunc(all, func(a, b DeadGroup) int { return cmp.Compare(b.Count, a.Count) })
	return all, nil
}

// DeadLetters returns up to limit dead letters that f chooses, queue by queue in
// the order of sending, beginning after the cursor of an earlier call ("" = at
// the first). next is the cursor for the following ones, "" when there are none.
func (o *Operator) DeadLetters(ctx context.Context, f DeadFilter, after string, limit int) (list []DeadLetter, next string, err error) {
	if limit < 1 {
		return nil, "", fmt.Errorf("list dead letters: limit %d, want 1 or more", limit)
	}
	if err := f.check(); err != nil {
		return nil, "", err
	}
	from, row, err := parseCursor(after)
	if err != nil {
		return nil, "", err
	}
	tables, err := o.deadTables(ctx, f.Queue)
	if err != nil {
		return nil, "", err
	}
	if from != "" {
		i := slices.IndexFunc(tables, func(t deadTable) bool { return t.queue == from })
		if i < 0 {
			return nil, "", fmt.Errorf("cursor %q: queue %q: %w", after, from, ErrNoQueue)
		}
		tables = tables[i:]
	}
	list = []DeadLetter{}
	for _, t := range tables {
		if t.queue != from {
			row = 0
		}
		// One more than is returned tells whether there are more.
		window := limit - len(list) + 1
		if !f.all() {
			window = max(window, pageWindow)
		}
		for l, err := range o.dead(ctx, t, t.columns(), f, row, math.MaxInt64, window) {
			if err != nil {
				return nil, "", err
			}
			if len(list) == limit {
				end := list[limit-1]
				return list, end.Queue + "/" + strconv.FormatInt(end.Row, 10), nil
			}
			list = append(list, l)
		}
	}
	return list, "", nil
}

// parseCursor takes apart what DeadLetters returned as next.
func parseCursor(s string) (queue string, row int64, err error) {
	if s == "" {
		return "", 0, nil
	}
	queue, text, _ := strings.Cut(s, "/")
	if row, err = strconv.ParseInt(text, 10, 64); err != nil {
		return "", 0, fmt.Errorf("cursor %q is none that a list of dead letters ended with", s)
	}
	return queue, row, nil
}

// DeadMessage is a dead letter with its payload.
type DeadMessage struct {
	DeadLetter
	Payload  []byte `db:"payload" json:"payload"`   // as it is: perhaps no JSON, perhaps no text
	Redrives int    `db:"redrives" json:"redrives"` // how often it was redriven before
}

// DeadMessages returns the dead letters with that message id, payloads included:
// one, or a copy in the queue of each subscriber of an event, unless queue names
// one. It returns ErrNoDeadLetter when there is none.
func (o *Operator) DeadMessages(ctx context.Context, messageID, queue string) ([]DeadMessage, error) {
	f := DeadFilter{Queue: queue, MessageIDs: []string{messageID}}
	if err := f.check(); err != nil {
		return nil, err
	}
	tables, err := o.deadTables(ctx, queue)
	if err != nil {
		return nil, err
	}
	all := []DeadMessage{}
	for _, t := range tables {
		for l, err := range o.dead(ctx, t, `id, dead_reason`, f, 0, math.MaxInt64, deadWindow) {
			if err != nil {
				return nil, err
			}
			m, err := o.deadMessage(ctx, t, l.Row)
			if errors.Is(err, sql.ErrNoRows) {
				continue // redriven or discarded since it was found
			}
			if err != nil {
				return nil, fmt.Errorf("read dead letter %s of %s: %w", messageID, t.queue, err)
			}
			all = append(all, m)
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("message %s: %w", messageID, ErrNoDeadLetter)
	}
	return all, nil
}

func (o *Operator) deadMessage(ctx context.Context, t deadTable, row int64) (m DeadMessage, err error) {
	err = o.db.GetContext(ctx, &m, `
		SELECT `+t.columns()+`, payload,
		       (SELECT count(*) FROM messaging.actions a
		        WHERE a.action = '`+actionRedrive+`' AND a.queue = `+literal(t.queue)+` AND a.detail->'rows' @> to_jsonb(d.id)) AS redrives
		FROM `+t.table+` d
		WHERE id = $1 AND dead_reason IS NOT NULL`, row)
	return m, err
}
