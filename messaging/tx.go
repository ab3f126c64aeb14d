package messaging

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/jmoiron/sqlx"
)

// Tx is a transaction in which rows change and messages are sent together, or
// not at all. It belongs to the goroutine that got it and ends with the
// function that it was handed to.
type Tx struct {
	*sqlx.Tx

	// Loaded is what Preload left for the handlers of its batch; nil outside one.
	Loaded any

	conn    *sqlx.Conn // that the transaction is on
	spec    Spec
	cause   Message   // the message in hand; of an InTx: only its correlation
	out     []Message // to be written last, in one ordered INSERT
	ignored string    // why the message in hand was ignored, "" when it was not
	queued  []write   // to be sent together before the commit
	index   int       // of the message in hand in its batch, -1 outside one
	after   []func()  // to be done once it has committed
}

// write is a statement whose result nobody reads.
type write struct {
	query string
	args  []any
	index int                           // of the message that queued it, -1 = nobody's
	check func(pgconn.CommandTag) error // of what it answered; may be nil
}

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
	t.queued = append(t.queued, write{query: query, args: args, index: t.index})
}

// Ignore notes that the message in hand changed nothing because it is late,
// repeated or illegal now. It is acknowledged all the same, with the outcome
// "ignored" and the reason in the trace.
func (t *Tx) Ignore(reason string) { t.ignored = reason }

// Message is the message being handled; in an InTx its zero value.
func (t *Tx) Message() Message { return t.cause }

// last queues a statement of the layer itself, whose answer check judges.
func (t *Tx) last(check func(pgconn.CommandTag) error, query string, args ...any) {
	t.queued = append(t.queued, write{query: query, args: args, index: -1, check: check})
}

// flush sends what was queued and, at the end, what was published. It returns
// the index of the message whose write failed, -1 when it was nobody's.
func (t *Tx) flush(ctx context.Context) (culprit int, err error) {
	if err := t.queueOutbox(); err != nil {
		return -1, err
	}
	if len(t.queued) == 0 {
		return -1, nil
	}
	culprit = -1
	err = t.conn.Raw(func(driver any) error {
		c := driver.(*stdlib.Conn).Conn()
		// Outside a healthy transaction the writes would commit by themselves.
		if s := c.PgConn().TxStatus(); s != 'T' {
			return fmt.Errorf("write %d statements: the transaction is in state %q", len(t.queued), s)
		}
		var b pgx.Batch
		for _, w := range t.queued {
			b.Queue(w.query, w.args...)
		}
		res := c.SendBatch(ctx, &b)
		for _, w := range t.queued {
			tag, err := res.Exec()
			if err == nil && w.check != nil {
				err = w.check(tag)
			}
			if err != nil {
				culprit = w.index
				return errors.Join(err, closeAfter(res))
			}
		}
		return res.Close()
	})
	t.queued = nil
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
		c := driver.(*stdlib.Conn).Conn().PgConn()
		if c.IsBusy() {
			return errors.New("the handler left rows open")
		}
		if s := c.TxStatus(); s != 'T' {
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
		closed = driver.(*stdlib.Conn).Conn().IsClosed()
		return nil
	})
	if closed || rerr != nil {
		err = errors.Join(err, errConnectionGone)
	}
	return errors.Join(err, rollback(t.Tx), t.conn.Close())
}

// afterCommit has f, which is quick, done once t has committed, if it does.
func (t *Tx) afterCommit(f func()) { t.after = append(t.after, f) }

// commit ends t. The server's own refusal is a plain error: nothing was written;
// anything else leaves the outcome unknown.
func (t *Tx) commit() error {
	err := t.Commit()
	closing := t.conn.Close()
	switch {
	case err == nil:
		for _, f := range t.after {
			f()
		}
		return closing
	case sqlState(err) != "" && !connectionLost(err):
		return errors.Join(fmt.Errorf("commit: %w", err), closing)
	}
	return errors.Join(errUnknownOutcome, err, closing)
}
