package messaging

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"reflect"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jmoiron/sqlx"
)

// Tx is a transaction in which rows change and messages are sent together, or
// not at all. It belongs to the goroutine that got it and ends with the
// function that it was handed to.
type Tx struct {
	*sqlx.Tx

	// Loaded is what Preload left for the handlers of its batch; nil outside one.
	Loaded any

	conn     *sqlx.Conn // that the transaction is on
	spec     Spec
	cause    Message        // the message in hand; of an InTx: only its correlation
	out      []Message      // to be written last, in one ordered INSERT
	ignored  string         // why the message in hand was ignored, "" when it was not
	queued   []write        // to be sent together with the commit
	latest   map[string]int // the place in queued of the last write about an order
	gathered map[string]int // where in queued the rows of a QueueRow stand, by query
	index    int            // of the message in hand in its batch, -1 outside one
	after    []func()       // to be done once it has committed

	beforeCommit func() // of Bus.around: called when all is done but the COMMIT; nil as a rule
}

// write is a statement that goes with the commit.
type write struct {
	query  string
	args   []any
	rows   *rows               // instead of args: of a QueueRow
	index  int                 // of the message that queued it, -1 = nobody's or several'
	answer func(pgx.Row) error // reads the one row that it answers; nil when nobody wants to know
}

func (w write) values() []any {
	if w.rows != nil {
		return w.rows.columns()
	}
	return w.args
}

// rows are those of one QueueRow statement, column by column: slices of the
// columns' Go types.
type rows []reflect.Value

func (r *rows) add(values []any) {
	if len(*r) == 0 {
		for _, v := range values {
			*r = append(*r, reflect.MakeSlice(reflect.SliceOf(reflect.TypeOf(v)), 0, 16))
		}
	}
	for i, v := range values {
		(*r)[i] = reflect.Append((*r)[i], reflect.ValueOf(v))
	}
}

func (r *rows) columns() []any {
	list := make([]any, len(*r))
	for i, c := range *r {
		list[i] = c.Interface()
	}
	return list
}

// errUnknownOutcome marks a COMMIT that was sent and of which nobody knows whether
// it happened.
var errUnknownOutcome = errors.New("the commit got no answer")

// beginTx opens a transaction on a connection of its own. The caller ends it
// with commit or rollback.
func beginTx(ctx context.Context, db *sqlx.DB, spec Spec, cause Message) (*Tx, error) {
	conn, err := db.Connx(ctx)
	if err != nil {
		return nil, err
	}
	stx, err := conn.BeginTxx(ctx, nil)
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return &Tx{Tx: stx, conn: conn, spec: spec, cause: cause, index: -1}, nil
}

// Publish sends commands and events with the transaction's commit. They are
// written by one INSERT just before it, so that the ids of a service's outbox
// follow the order of commits for every order that was locked first. It returns
// an error, marked Permanent, for a kind that the service didn't declare.
func (t *Tx) Publish(bodies ...Body) error {
	for _, b := range bodies {
		if !t.spec.sends(b.Kind()) {
			return Permanent(fmt.Errorf("publish %s: not among what service %s sends or speaks", b.Kind(), t.spec.Name))
		}
		m, err := newMessage(b, t.cause)
		if err != nil {
			return Permanent(err)
		}
		t.out = append(t.out, m)
	}
	return nil
}

// Queue has a write executed before the commit, together with all others that
// were queued, in their order and in one round trip. Nobody reads its result:
// its error is the commit's, or, of a batch, that of the message that queued it.
// What is read in the same transaction doesn't see it yet.
func (t *Tx) Queue(query string, args ...any) {
	t.queue(write{query: query, args: args, index: t.index})
}

// QueueRow queues one row of a write over rows: query takes an array per column,
// as in INSERT … SELECT … FROM unnest($1::uuid[], $2::text[]). Rows that the
// messages of a batch queue with the same query go to the server together, as one
// statement, in the order queued. A row joins those before it unless something was
// queued in between about the same order (by this message or another): what is
// done to an order is done in the order queued. A column has the same Go type in
// every row, a pointer where it may be null.
func (t *Tx) QueueRow(query string, values ...any) {
	about := t.about()
	i, ok := t.gathered[query]
	if !ok || i < t.latest[about] {
		if t.gathered == nil {
			t.gathered = map[string]int{}
		}
		i = t.queue(write{query: query, rows: &rows{}, index: t.index})
		t.gathered[query] = i
	}
	t.latest[about] = i
	w := &t.queued[i]
	if w.index != t.index {
		w.index = -1
	}
	w.rows.add(values)
}

// queue appends w to what goes with the commit and returns its place.
func (t *Tx) queue(w write) int {
	t.queued = append(t.queued, w)
	if t.latest == nil {
		t.latest = map[string]int{}
	}
	t.latest[t.about()] = len(t.queued) - 1
	return len(t.queued) - 1
}

// about is whose writes keep their order: the order of the message in hand, or
// what else its lane stands for.
func (t *Tx) about() string {
	if t.cause.OrderID != "" {
		return t.cause.OrderID
	}
	return t.cause.Lane
}

// Ignore notes that the message in hand changed nothing because it is late,
// repeated or illegal now. It is acknowledged all the same, with the outcome
// "ignored" and the reason in the trace.
func (t *Tx) Ignore(reason string) { t.ignored = reason }

// Message is the message being handled; in an InTx its zero value.
func (t *Tx) Message() Message { return t.cause }

// last queues a statement of the layer itself; answer, which may be nil, reads
// the one row that it answers.
func (t *Tx) last(answer func(pgx.Row) error, query string, args ...any) {
	t.queued = append(t.queued, write{query: query, args: args, index: -1, answer: answer})
}

// SelectContext reads the rows of query into dest, a pointer to a slice: of
// structs by their db tags, or of one column's type. It is sqlx's, but the
// transaction's first statement takes BEGIN along.
func (t *Tx) SelectContext(ctx context.Context, dest any, query string, args ...any) error {
	return t.read(ctx, query, args, func(r pgxRows) error { return scanAll(r, dest) })
}

// GetContext reads the first row of query into dest, a pointer to a struct or to
// one column's type. It returns sql.ErrNoRows when there is none.
func (t *Tx) GetContext(ctx context.Context, dest any, query string, args ...any) error {
	slice := reflect.New(reflect.SliceOf(reflect.TypeOf(dest).Elem()))
	if err := t.SelectContext(ctx, slice.Interface(), query, args...); err != nil {
		return err
	}
	if slice.Elem().Len() == 0 {
		return sql.ErrNoRows
	}
	reflect.ValueOf(dest).Elem().Set(slice.Elem().Index(0))
	return nil
}

// read runs query and hands its rows to scan.
func (t *Tx) read(ctx context.Context, query string, args []any, scan func(pgxRows) error) error {
	return t.conn.Raw(func(driver any) error {
		c, opening := raw(driver)
		if !*opening {
			r, err := c.Query(ctx, query, args...)
			if err != nil {
				return err
			}
			return scan(pgxRows{r})
		}
		*opening = false
		var b pgx.Batch
		b.Queue(`begin`)
		b.Queue(query, args...)
		res := c.SendBatch(ctx, &b)
		_, err := res.Exec()
		if err == nil {
			var r pgx.Rows
			if r, err = res.Query(); err == nil {
				err = scan(pgxRows{r})
			}
		}
		if err != nil {
			return errors.Join(err, closeAfter(res))
		}
		return res.Close()
	})
}

// afterCommit has f, which is quick, done once t has committed, if it does.
func (t *Tx) afterCommit(f func()) { t.after = append(t.after, f) }

// commit sends what was queued, then what was published, then COMMIT, all in one
// round trip, and ends t. It returns the index of the message whose write failed,
// -1 when it was nobody's. After an error nothing of t was committed, unless it
// is errUnknownOutcome: the connection was lost meanwhile.
func (t *Tx) commit(ctx context.Context) (culprit int, err error) {
	culprit = -1
	if err = t.queueOutbox(); err == nil {
		err = t.conn.Raw(func(driver any) (err error) {
			c, opening := raw(driver)
			if t.beforeCommit != nil {
				if culprit, err = t.send(ctx, c, opening, false); err != nil {
					return err
				}
				t.beforeCommit()
			}
			culprit, err = t.send(ctx, c, opening, true)
			return err
		})
	}
	if err != nil {
		return culprit, t.rollback(err)
	}
	// The server is done with it; that database/sql, too, has to end it changes
	// nothing any more.
	_ = errors.Join(rollback(t.Tx), t.conn.Close())
	for _, f := range t.after {
		f()
	}
	return -1, nil
}

// send sends the queued writes, with commit the COMMIT after them, and the BEGIN
// before them if that is still due.
func (t *Tx) send(ctx context.Context, c *pgx.Conn, opening *bool, commit bool) (culprit int, err error) {
	if len(t.queued) == 0 && (*opening || !commit) {
		return -1, nil
	}
	// Outside a healthy transaction the writes would commit by themselves.
	if s := c.PgConn().TxStatus(); s != 'T' && !*opening {
		return -1, fmt.Errorf("write %d statements: the transaction is in state %q", len(t.queued), s)
	}
	all := make([]write, 0, len(t.queued)+2)
	if *opening {
		all = append(all, write{query: `begin`, index: -1})
	}
	all = append(all, t.queued...)
	if commit {
		all = append(all, write{query: `commit`, index: -1})
	}
	t.queued, *opening = nil, false
	var b pgx.Batch
	for _, w := range all {
		b.Queue(w.query, w.values()...)
	}
	res := c.SendBatch(ctx, &b)
	for _, w := range all {
		if w.answer != nil {
			err = w.answer(res.QueryRow())
		} else {
			_, err = res.Exec()
		}
		if err != nil {
			culprit = w.index
			break
		}
	}
	if err == nil {
		return -1, res.Close()
	}
	err = errors.Join(err, closeAfter(res))
	if sqlState(err) == "" { // not the server's refusal of one statement
		culprit = -1
		if c.IsClosed() && !pgconn.SafeToRetry(err) {
			err = errors.Join(errUnknownOutcome, err)
		}
	}
	return culprit, err
}

// closeAfter closes res after an error, which Close would only repeat.
func closeAfter(res pgx.BatchResults) error {
	var server *pgconn.PgError
	if err := res.Close(); err != nil && !errors.As(err, &server) {
		return err
	}
	return nil
}

// healthy returns an error when a statement of the transaction has failed and
// the handler said nothing of it, or when it left rows open: the next statement
// would find the connection busy and take it for lost.
func (t *Tx) healthy() error {
	return t.conn.Raw(func(driver any) error {
		p, opening := raw(driver)
		c := p.PgConn()
		if c.IsBusy() {
			return errors.New("the handler left rows open")
		}
		if s := c.TxStatus(); s != 'T' && !*opening {
			return fmt.Errorf("the handler returned without error from a transaction in state %q: a statement's error was dropped", s)
		}
		return nil
	})
}

// rollback ends t without effect and returns err with what went wrong besides,
// errConnectionGone when the connection is found closed. It looks first: rolling
// back may itself close it.
func (t *Tx) rollback(err error) error {
	closed := false
	rerr := t.conn.Raw(func(driver any) error {
		p, _ := raw(driver)
		closed = p.IsClosed()
		return nil
	})
	if closed || rerr != nil {
		err = errors.Join(err, errConnectionGone)
	}
	return errors.Join(err, rollback(t.Tx), t.conn.Close())
}
