package messaging

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
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
	OlderThan   time.Duration // dead for at least that long when it is looked at
	YoungerThan time.Duration // dead for at most that long, likewise
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
