package messaging

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
)

// deadTable is a queue or an outbox with its dead letters. Both have the columns
// of an envelope; what only queues note has a stand-in for outboxes. The due time
// of a dead row in a queue is when it died.
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

// chosen is what FROM takes to find the dead letters (d) of f between two rows,
// with the parameters that DeadFilter.args makes. Those of given messages are found
// by their own index, one message at a time: whatever a planner believes of the
// table, it can't read all that is dead instead.
func (t deadTable) chosen(f DeadFilter) string {
	message := `$6::uuid[] IS NULL`
	if f.MessageIDs != nil {
		message = `id = ANY (ARRAY(
			SELECT o.id FROM unnest($6::uuid[]) m (id)
			CROSS JOIN LATERAL (SELECT id FROM ` + t.table + ` WHERE message_id = m.id AND dead_reason IS NOT NULL OFFSET 0) o))`
	}
	return t.table + ` d
		WHERE dead_reason IS NOT NULL AND id > $1 AND id <= $2
		  AND ($3 = '' OR kind = $3)
		  AND ($4 = '' OR ` + t.producer + ` = $4)
		  AND ($5::uuid IS NULL OR order_id = $5)
		  AND ` + message + `
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
//
// Where f names messages there is but one window: they are found by their ids.
func (o *Operator) windows(ctx context.Context, t deadTable, f DeadFilter, after, last int64, size int) iter.Seq2[int64, error] {
	return func(yield func(int64, error) bool) {
		if f.MessageIDs != nil {
			yield(last, nil)
			return
		}
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
		for end, err := range o.windows(ctx, t, f, after, last, window) {
			var list []DeadLetter
			if err == nil {
				err = o.db.SelectContext(ctx, &list, `SELECT `+columns+` FROM `+t.chosen(f)+` ORDER BY id`, f.args(after, end)...)
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
