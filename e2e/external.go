package e2e

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"example.com/orderflow/deployments/postgres"
)

// externalPrefix begins the names of the databases that stacks make on a server
// from elsewhere, so that a later one knows what may be dropped.
const externalPrefix = "orderflow_e2e_"

// externalLock is the key of the advisory lock that the stack has which is on
// the server: roles belong to the whole server, so that one stack's passwords are
// all stacks'.
const externalLock = 0x6f72646572

// lockLimit is how long a stack waits for others to end.
const lockLimit = 10 * time.Minute

// external is a database of its own on the server of DATABASE_URL.
type external struct {
	server *postgres.Server
	conn   *pgx.Conn // holds the lock
	name   string    // of the database
}

// newExternal is the Backend of plain processes, as local is, on the server
// behind dsn. One stack has the server at a time: it waits for its turn.
func newExternal(ctx context.Context, dsn string) (*local, error) {
	return newProcesses("external", func(*local) (localDatabase, error) { return openExternal(ctx, dsn) })
}

func openExternal(ctx context.Context, dsn string) (_ *external, err error) {
	server, err := postgres.Start(ctx, postgres.Config{URL: dsn})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, lockLimit, fmt.Errorf("other stacks have the server of DATABASE_URL for %s", lockLimit))
	defer cancel()
	conn, err := pgx.Connect(ctx, server.DSN("", "", ""))
	if err != nil {
		return nil, fmt.Errorf("DATABASE_URL: %w", err)
	}
	e := &external{server: server, conn: conn, name: externalPrefix + strings.ToLower(rand.Text())}
	defer func() {
		if err != nil {
			err = errors.Join(err, conn.Close(context.WithoutCancel(ctx)))
		}
	}()
	if _, err := conn.Exec(ctx, `SELECT pg_advisory_lock($1)`, externalLock); err != nil {
		return nil, fmt.Errorf("wait for the server of DATABASE_URL: %w", whyEnded(ctx, err))
	}
	if err := e.drop(ctx); err != nil {
		return nil, err
	}
	if _, err := conn.Exec(ctx, `CREATE DATABASE `+e.name); err != nil {
		return nil, fmt.Errorf("make a database on the server of DATABASE_URL: %w", err)
	}
	return e, nil
}

func (e *external) DSN(role, password string) string { return e.server.DSN(role, password, e.name) }

func (e *external) own() *postgres.Server { return e.server }

// drop drops all databases of stacks: whoever has the lock is the only one.
func (e *external) drop(ctx context.Context) error {
	rows, err := e.conn.Query(ctx, `SELECT datname FROM pg_database WHERE starts_with(datname, $1)`, externalPrefix)
	if err != nil {
		return fmt.Errorf("look for databases of stacks: %w", err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("look for databases of stacks: %w", err)
	}
	for _, name := range names {
		if _, err := e.conn.Exec(ctx, `DROP DATABASE `+pgx.Identifier{name}.Sanitize()+` WITH (FORCE)`); err != nil {
			return fmt.Errorf("drop database %s: %w", name, err)
		}
	}
	return nil
}

// Stop drops what the stack had, but for the roles, and lets the next have the server.
func (e *external) Stop(ctx context.Context) error {
	return errors.Join(e.drop(ctx), e.conn.Close(ctx))
}
