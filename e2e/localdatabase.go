package e2e

import (
	"context"
	"errors"
	"fmt"

	"example.com/orderflow/deployments/postgres"
)

// localDatabase is the database of a stack of processes.
type localDatabase interface {
	DSN(role, password string) string
	// own is the server, which may be somebody else's.
	own() *postgres.Server
	// Stop ends what was started or made.
	Stop(ctx context.Context) error
}

// privateDatabase is the one of a server that is started for it.
type privateDatabase struct{ *postgres.Server }

func (p privateDatabase) DSN(role, password string) string { return p.Server.DSN(role, password, "") }

func (p privateDatabase) own() *postgres.Server { return p.Server }

// errNotOurs is what can't be done to a server from elsewhere.
var errNotOurs = fmt.Errorf("%w: E2E_BACKEND=docker and E2E_BACKEND=local have one that is", postgres.ErrNotPrivate)

// toServer does something to the server, which has to be ours.
func (l *local) toServer(verb string, do func(*postgres.Server) error) error {
	err := do(l.database.own())
	if errors.Is(err, postgres.ErrNotPrivate) {
		err = errNotOurs
	}
	if err != nil {
		return fmt.Errorf("%s %s: %w", verb, Database, err)
	}
	return nil
}

func (l *local) startDatabase(ctx context.Context) (string, error) {
	return l.DSN("", ""), l.toServer("start", func(s *postgres.Server) error { return s.Relaunch(ctx) })
}

func (l *local) halt(ctx context.Context, verb, mode string) error {
	return l.toServer(verb, func(s *postgres.Server) error { return s.Halt(ctx, mode) })
}

func (l *local) QuitDatabase(ctx context.Context) error {
	return l.halt(ctx, "quit", postgres.Immediate)
}

func (l *local) KillSession(pid int) error {
	return l.toServer("kill a session of", func(s *postgres.Server) error { return s.KillSession(context.Background(), pid) })
}

func (l *local) databaseLog() string {
	var said string
	err := l.toServer("read the log of", func(s *postgres.Server) (err error) {
		said, err = s.Log(context.Background())
		return err
	})
	if err != nil {
		return said + err.Error()
	}
	return said
}
