package postgres

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/jackc/pgx/v5"
)

// serverArgs are the server's command-line settings, which are stronger than
// its files, so that kept data get changed ones with the next start: ours, those
// of the caller, and those that the way in depends on, which are not for the
// caller to change.
func serverArgs(callers, fixed map[string]string) []string {
	set := map[string]string{
		"cluster_name":        "orderflow",
		"timezone":            "UTC",
		"log_timezone":        "UTC",
		"log_checkpoints":     "off",
		"max_connections":     "200",
		"shared_buffers":      "64MB",
		"wal_level":           "replica",
		"max_wal_size":        "1GB",
		"autovacuum_naptime":  "5s",  // queue tables die young: the default minute lets them bloat
		"jit":                 "off", // compiling costs more than these short statements
		"password_encryption": "scram-sha-256",
	}
	maps.Copy(set, callers)
	maps.Copy(set, fixed)
	var args []string
	for _, name := range slices.Sorted(maps.Keys(set)) {
		args = append(args, "-c", name+"="+set[name])
	}
	return args
}

// unfitError: a server works and is refused all the same.
type unfitError struct{ why string }

func (e *unfitError) Error() string { return e.why }

// checkServer refuses a server that is too old or may lose what it has
// committed, and returns its version.
func checkServer(ctx context.Context, conn *pgx.Conn) (version, error) {
	var server, fsync, commit, pages string
	err := conn.QueryRow(ctx, `
		SELECT
			current_setting('server_version'),
			current_setting('fsync'),
			current_setting('synchronous_commit'),
			current_setting('full_page_writes')`,
	).Scan(&server, &fsync, &commit, &pages)
	if err != nil {
		return version{}, fmt.Errorf("read the server's settings: %w", err)
	}
	v, err := parseVersion(server)
	if err != nil {
		return version{}, err
	}
	if v.major < oldest {
		return v, &unfitError{fmt.Sprintf("the server is PostgreSQL %s: at least %d is needed", v, oldest)}
	}
	var off []error
	for _, s := range []struct{ name, value string }{
		{"fsync", fsync},
		{"synchronous_commit", commit}, // "local" and the others all reach our own disk
		{"full_page_writes", pages},
	} {
		if s.value == "off" {
			off = append(off, &unfitError{fmt.Sprintf("the server's setting %s is off: committed orders could be lost, turn it on", s.name)})
		}
	}
	return v, errors.Join(off...)
}
