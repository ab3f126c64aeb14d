package messaging

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/jmoiron/sqlx"
)

// conn is a connection of OpenDB: pgx's own, except that BEGIN is not sent when
// a transaction begins but together with its first statement, and that COMMIT may
// have gone with its last ones (Tx.commit). Each of them saves a round trip.
type conn struct {
	*stdlib.Conn
	opening bool // a transaction has begun of which the server hasn't heard
}

// reconnectPause lies between two attempts to connect while the database is away.
const reconnectPause = 50 * time.Millisecond

// connector makes connections of our own from pgx's, as many at once as are asked
// for. While the database is away one attempt is made for all who want one, and its
// error is theirs: so it isn't met by a storm when it is back.
type connector struct {
	driver.Connector
	mu     sync.Mutex
	failed time.Time // when the last attempt did; zero when it was answered
	next   *attempt  // nil when nobody waits for one
}

// attempt is made by the first who wants it.
type attempt struct {
	due  time.Time
	done chan struct{}
	err  error // readable then; nil when those who waited may try for themselves
}

// Connect opens a connection.
func (c *connector) Connect(ctx context.Context) (driver.Conn, error) {
	for {
		a, first := c.turn()
		switch {
		case a == nil:
			return c.open(ctx)
		case first:
			return c.try(ctx, a)
		}
		select {
		case <-a.done:
			if a.err != nil {
				return nil, a.err
			}
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// turn returns the attempt to wait for, nil when the database isn't away, and
// whether it is the caller's to make.
func (c *connector) turn() (a *attempt, first bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failed.IsZero() {
		return nil, false
	}
	first = c.next == nil
	if first {
		c.next = &attempt{due: c.failed.Add(reconnectPause), done: make(chan struct{})}
	}
	return c.next, first
}

// try makes attempt a, when it is due.
func (c *connector) try(ctx context.Context, a *attempt) (driver.Conn, error) {
	defer func() {
		c.mu.Lock()
		c.next = nil
		c.mu.Unlock()
		close(a.done)
	}()
	select {
	case <-time.After(time.Until(a.due)):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	d, err := c.open(ctx)
	if !over(ctx) {
		a.err = err // an impatient caller's would say nothing of the database
	}
	return d, err
}

func (c *connector) open(ctx context.Context) (driver.Conn, error) {
	d, err := c.Connector.Connect(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		if !over(ctx) {
			c.failed = time.Now()
		}
		return nil, err
	}
	c.failed = time.Time{}
	return &conn{Conn: d.(*stdlib.Conn)}, nil
}

// over reports whether ctx has ended, or has to: a dial may notice that first.
func over(ctx context.Context) bool {
	deadline, limited := ctx.Deadline()
	return ctx.Err() != nil || limited && !time.Now().Before(deadline)
}

// BeginTx begins a transaction; one of the server's default kind is told to the
// server later.
func (c *conn) BeginTx(ctx context.Context, opts driver.TxOptions) (driver.Tx, error) {
	if opts.ReadOnly || opts.Isolation != driver.IsolationLevel(sql.LevelDefault) {
		return c.Conn.BeginTx(ctx, opts)
	}
	if c.Conn.Conn().IsClosed() {
		return nil, driver.ErrBadConn
	}
	c.opening = true
	return ending{c}, nil
}

// open tells the server of the transaction that has begun, by itself: for
// whatever doesn't come through a Tx's own methods.
func (c *conn) open(ctx context.Context) error {
	if !c.opening {
		return nil
	}
	c.opening = false
	_, err := c.Conn.Conn().Exec(ctx, "begin")
	return err
}

// QueryContext runs a query, in the transaction if one has begun.
func (c *conn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	if err := c.open(ctx); err != nil {
		return nil, err
	}
	return c.Conn.QueryContext(ctx, query, args)
}

// ExecContext runs a statement, in the transaction if one has begun.
func (c *conn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	if err := c.open(ctx); err != nil {
		return nil, err
	}
	return c.Conn.ExecContext(ctx, query, args)
}

// PrepareContext prepares a statement, in the transaction if one has begun.
func (c *conn) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	if err := c.open(ctx); err != nil {
		return nil, err
	}
	s, err := c.Conn.PrepareContext(ctx, query)
	if err != nil {
		return nil, err
	}
	return stmt{s, c}, nil
}

// stmt is a prepared statement of a conn: database/sql may use it in a transaction
// that begins later.
type stmt struct {
	driver.Stmt
	c *conn
}

// QueryContext runs the query, in the transaction if one has begun.
func (s stmt) QueryContext(ctx context.Context, args []driver.NamedValue) (driver.Rows, error) {
	if err := s.c.open(ctx); err != nil {
		return nil, err
	}
	return s.Stmt.(driver.StmtQueryContext).QueryContext(ctx, args)
}

// ExecContext runs the statement, in the transaction if one has begun.
func (s stmt) ExecContext(ctx context.Context, args []driver.NamedValue) (driver.Result, error) {
	if err := s.c.open(ctx); err != nil {
		return nil, err
	}
	return s.Stmt.(driver.StmtExecContext).ExecContext(ctx, args)
}

// The ends of a transaction are not told whose time they take, so that they have
// limits of their own: a server that hangs holds nobody for longer.
const (
	commitLimit   = 5 * time.Second
	rollbackLimit = 500 * time.Millisecond // then the connection is closed, which rolls back as well
)

// ending ends the transaction of a conn.
type ending struct{ c *conn }

// Commit commits, unless the server has heard nothing of the transaction or has
// committed it already. One that has failed is rolled back and reported.
func (e ending) Commit() error {
	if e.over() {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), commitLimit)
	defer cancel()
	tag, err := e.c.Conn.Conn().Exec(ctx, "commit")
	if err == nil && tag.String() == "ROLLBACK" {
		err = pgx.ErrTxCommitRollback
	}
	return err
}

// Rollback rolls back what the server has heard of the transaction. A connection
// on which even that fails is closed.
func (e ending) Rollback() error {
	if e.over() {
		return nil
	}
	p := e.c.Conn.Conn()
	ctx, cancel := context.WithTimeout(context.Background(), rollbackLimit)
	defer cancel()
	if _, err := p.Exec(ctx, "rollback"); err != nil {
		if cerr := p.Close(ctx); cerr != nil {
			err = fmt.Errorf("%w; close: %w", err, cerr)
		}
		return err
	}
	return nil
}

// over reports whether there is no transaction at the server.
func (e ending) over() bool {
	e.c.opening = false
	p := e.c.Conn.Conn()
	return !p.IsClosed() && p.PgConn().TxStatus() == 'I'
}

// raw is what a function given to database/sql's Raw gets, as pgx has it;
// opening is where it notes that BEGIN is still to be sent, false for good on a
// connection that isn't OpenDB's.
func raw(driver any) (p *pgx.Conn, opening *bool) {
	if c, ok := driver.(*conn); ok {
		return c.Conn.Conn(), &c.opening
	}
	return driver.(*stdlib.Conn).Conn(), new(bool)
}

// pgxRows are pgx's rows as sqlx's scanning wants them.
type pgxRows struct{ pgx.Rows }

// Columns are the names of the columns.
func (r pgxRows) Columns() ([]string, error) {
	fields := r.FieldDescriptions()
	names := make([]string, len(fields))
	for i, f := range fields {
		names[i] = f.Name
	}
	return names, nil
}

// Close closes the rows and returns what went wrong while they were read.
func (r pgxRows) Close() error {
	r.Rows.Close()
	return r.Err()
}

// scanAll reads all rows into dest, a pointer to a slice, and closes them.
func scanAll(r pgxRows, dest any) (err error) {
	defer func() { err = errors.Join(err, r.Close()) }()
	slice := reflect.ValueOf(dest).Elem()
	if elem := slice.Type().Elem(); elem.Kind() == reflect.Struct && elem != reflect.TypeFor[time.Time]() {
		return sqlx.StructScan(r, dest)
	}
	for r.Next() {
		v := reflect.New(slice.Type().Elem())
		if err := r.Scan(v.Interface()); err != nil {
			return err
		}
		slice.Set(reflect.Append(slice, v.Elem()))
	}
	return nil
}
