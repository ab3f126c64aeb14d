package messaging

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/jmoiron/sqlx"
)

// What an operator does to dead letters, as messaging.actions names it.
const (
	actionRedrive = "dead.redrive"
	actionEdit    = "dead.edit"
	actionDiscard = "dead.discard"
)

// RedriveRate is the rate to take when nobody asks for another: messages per
// second, a fraction of what a queue's consumers do, so that what is sent meanwhile
// isn't held up.
const RedriveRate = 500

// redriveBatch is the most letters that one transaction redrives.
const redriveBatch = 500

// RedriveOptions say how letters are redriven. The zero value is: as fast as it goes.
type RedriveOptions struct {
	Rate     float64                   // messages per second, 0 = as fast as it goes
	Reason   string                    // the operator's own, for the record
	Progress func(done, estimated int) // called after every batch; more or fewer than estimated may come
}

// batch is how many letters a transaction redrives: a fifth of a second's.
func (r RedriveOptions) batch() int {
	if r.Rate == 0 {
		return redriveBatch
	}
	return int(min(redriveBatch, max(1, r.Rate/5)))
}

// Redrive has the dead letters that f chooses handled again as if they had just
// been sent: in their place, with all attempts before them. It returns how many
// there were: a letter that is none any more, because another operator was
// faster, is passed over. It ends with the last letter that was there when it
// began, and never takes one twice, not even one that dies again.
//
// The letters of a queue go in the order of sending, in batches of a transaction
// each with its record, and their consumers are woken after each. When ctx ends,
// Redrive stops after a batch: what it returns then has been redriven. It returns
// ErrNoDeadLetter, after the others, for each of f.MessageIDs that isn't found.
func (o *Operator) Redrive(ctx context.Context, f DeadFilter, r RedriveOptions) (done int, err error) {
	if r.Rate < 0 || math.IsNaN(r.Rate) {
		return 0, fmt.Errorf("redrive: rate %v, want 0 or more", r.Rate)
	}
	if err := f.check(); err != nil {
		return 0, err
	}
	tables, err := o.deadTables(ctx, f.Queue)
	if err != nil {
		return 0, err
	}
	lasts, estimated, err := o.lastDead(ctx, tables, f)
	if err != nil {
		return 0, err
	}
	w := &redriving{Operator: o, filter: f, options: r, estimated: estimated, missing: map[string]bool{}}
	for _, id := range f.MessageIDs {
		w.missing[id] = true
	}
	for i, t := range tables {
		if err := w.table(ctx, t, lasts[i]); err != nil {
			return w.done, err
		}
	}
	var missing []error
	for _, id := range f.MessageIDs {
		if w.missing[id] {
			missing = append(missing, fmt.Errorf("redrive message %s: %w", id, ErrNoDeadLetter))
		}
	}
	return w.done, errors.Join(missing...)
}

// lastDead returns the last row with a dead letter in each of tables, and how
// many of them f chooses in all, at most.
func (o *Operator) lastDead(ctx context.Context, tables []deadTable, f DeadFilter) (lasts []int64, total int, err error) {
	lasts = make([]int64, len(tables))
	for i, t := range tables {
		for end, err := range o.windows(ctx, t, f, 0, math.MaxInt64, deadWindow) {
			var n int
			if err == nil {
				err = o.db.GetContext(ctx, &n, `SELECT count(*) FROM `+t.chosen(f), f.args(lasts[i], end)...)
			}
			if err != nil {
				return nil, 0, fmt.Errorf("count the dead letters of %s: %w", t.queue, err)
			}
			lasts[i], total = end, total+n
		}
	}
	return lasts, total, nil
}

// redriving is a Redrive at work.
type redriving struct {
	*Operator
	filter    DeadFilter
	options   RedriveOptions
	done      int
	estimated int
	missing   map[string]bool // of the ids asked for
	next      time.Time       // when the next batch may go
}

// table redrives the letters of t up to the row last.
func (w *redriving) table(ctx context.Context, t deadTable, last int64) error {
	size := w.options.batch()
	var batch []DeadLetter
	columns := `id, message_id::text, dead_reason`
	for l, err := range w.dead(ctx, t, columns, w.filter, 0, last, redriveBatch) {
		if err != nil {
			return w.stopped(ctx, err)
		}
		if batch = append(batch, l); len(batch) < size {
			continue
		}
		if err := w.batch(ctx, t, batch); err != nil {
			return err
		}
		batch = batch[:0]
	}
	if len(batch) == 0 {
		return nil
	}
	return w.batch(ctx, t, batch)
}

// stopped tells how far it went when ctx ended, and err when it didn't.
func (w *redriving) stopped(ctx context.Context, err error) error {
	if ctx.Err() == nil {
		return err
	}
	return fmt.Errorf("redrive stopped after %d of about %d dead letters: %w", w.done, w.estimated, context.Cause(ctx))
}

// batch redrives letters once the rate allows it. The end of ctx doesn't cut it
// short: nobody is left in doubt about a commit.
func (w *redriving) batch(ctx context.Context, t deadTable, letters []DeadLetter) error {
	timer := time.NewTimer(time.Until(w.next))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
	if err := ctx.Err(); err != nil {
		return w.stopped(ctx, err)
	}
	begun := time.Now()
	ctx = context.WithoutCancel(ctx)
	n, err := w.commit(ctx, t, letters)
	if err != nil {
		return fmt.Errorf("redrive dead letters of %s, after %d: %w", t.queue, w.done, err)
	}
	w.done += n
	if w.options.Rate > 0 {
		w.next = begun.Add(time.Duration(float64(n) / w.options.Rate * float64(time.Second)))
	}
	// By itself: within a transaction that writes it would make others' commits wait.
	if n > 0 && t.wake != "" {
		if _, err := w.db.ExecContext(ctx, `SELECT pg_notify($1, '')`, t.wake); err != nil {
			return fmt.Errorf("wake the consumers of queue %s, after redriving %d: %w", t.queue, w.done, err)
		}
	}
	if w.options.Progress != nil {
		w.options.Progress(w.done, w.estimated)
	}
	return nil
}

// commit redrives those of letters that are still dead for a reason that was
// chosen, and records it. It returns how many they were.
func (w *redriving) commit(ctx context.Context, t deadTable, letters []DeadLetter) (n int, err error) {
	rows := make([]int64, len(letters))
	reasons := make([]string, len(letters))
	for i, l := range letters {
		rows[i], reasons[i] = l.Row, l.Reason
	}
	slices.Sort(reasons)
	reasons = slices.Compact(reasons)
	var redriven []DeadLetter
	err = w.inTx(ctx, func(tx *sqlx.Tx) error {
		err := tx.SelectContext(ctx, &redriven, `
			UPDATE `+t.table+` SET `+t.revive+`
			WHERE id = ANY ($1) AND dead_reason = ANY ($2)
			RETURNING id, message_id::text`, rows, reasons)
		if err != nil || len(redriven) == 0 {
			return err
		}
		return w.recordRedrive(ctx, tx, t, redriven)
	})
	if err != nil {
		return 0, err
	}
	for _, l := range redriven {
		delete(w.missing, l.MessageID)
	}
	return len(redriven), nil
}

// recordRedrive notes the rows of a batch: that tells how often a letter was redriven.
func (w *redriving) recordRedrive(ctx context.Context, tx *sqlx.Tx, t deadTable, redriven []DeadLetter) error {
	rows := make([]int64, len(redriven))
	for i, l := range redriven {
		rows[i] = l.Row
	}
	slices.Sort(rows)
	a := Action{Action: actionRedrive, Queue: t.queue, Reason: w.options.Reason}
	if len(redriven) == 1 {
		a.MessageID = redriven[0].MessageID
	}
	return w.recordOf(ctx, tx, a, redriveDetail{len(redriven), w.filter.told(), rows})
}

// redriveDetail is what is kept of a batch.
type redriveDetail struct {
	Count  int               `json:"count"`
	Filter map[string]string `json:"filter"`
	Rows   []int64           `json:"rows"` // DeadLetter.Row of each
}

// told is what a filter says, for the record. Of ids it tells how many they are.
func (f DeadFilter) told() map[string]string {
	m := map[string]string{"queue": f.Queue, "kind": f.Kind, "reason": f.Reason, "producer": f.Producer, "order_id": f.OrderID}
	if f.MessageIDs != nil {
		m["selected"] = strconv.Itoa(len(f.MessageIDs))
	}
	if f.OlderThan != 0 {
		m["older_than"] = f.OlderThan.String()
	}
	if f.YoungerThan != 0 {
		m["younger_than"] = f.YoungerThan.String()
	}
	maps.DeleteFunc(m, func(_, v string) bool { return v == "" })
	return m
}
