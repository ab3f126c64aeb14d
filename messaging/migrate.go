package messaging

import (
	"context"
	"database/sql"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jmoiron/sqlx"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/database"
)

//go:embed migrations/*.sql
var migrations embed.FS

// messagingSpec is the schema that all share, as the migrator sees it.
var messagingSpec = Spec{Name: "messaging", Migrations: migrations}

// Migrate brings the database of db, an administrator's pool, to what specs
// declare: schemas and their migrations, login roles, queues, outboxes, inboxes,
// logs, routes and rights. It may run at any time, from several processes at
// once (they wait for each other), beside running services; running it again
// changes nothing. A migration is one transaction and only goes forward.
//
// Every owner has its own numbered set and version table (<schema>.goose_db_version)
// and a service needs no other's: so a service added later numbers from 1, and
// one can move to a database server of its own with its set.
//
// passwords gives login roles (by service name) a password; a role without one
// can log in only where the server asks for none.
func Migrate(ctx context.Context, db *sqlx.DB, log *slog.Logger, passwords map[string]string, specs ...Spec) (err error) {
	for _, s := range specs {
		if err := s.validate(); err != nil {
			return err
		}
	}
	unlock, err := lockMigrations(ctx, db)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	for _, s := range append([]Spec{messagingSpec}, specs...) {
		version, err := migrateSchema(ctx, db.DB, s)
		if err != nil {
			return err
		}
		log.Debug("schema migrated", "service", s.Name, "version", version)
	}
	for _, s := range specs {
		if err := ensureRole(ctx, db, s, passwords[s.Name]); err != nil {
			return err
		}
	}
	if err := declare(ctx, db, specs); err != nil {
		return err
	}
	return feedNewQueues(ctx, db, log)
}

// lockMigrations keeps other migrators of the database out until unlock is
// called. It is our own lock because it covers roles and declarations too, and
// because goose's asks in whole seconds.
func lockMigrations(ctx context.Context, db *sqlx.DB) (unlock func() error, err error) {
	conn, err := db.Connx(ctx)
	if err != nil {
		return nil, fmt.Errorf("lock migrations: %w", err)
	}
	for {
		var got bool
		if err := conn.GetContext(ctx, &got, `SELECT pg_try_advisory_lock(hashtext('messaging.migrate'))`); err != nil {
			return nil, errors.Join(fmt.Errorf("lock migrations: %w", err), conn.Close())
		}
		if got {
			break
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(fmt.Errorf("lock migrations: another migrator is at work: %w", ctx.Err()), conn.Close())
		case <-time.After(200 * time.Millisecond):
		}
	}
	return func() error {
		_, err := conn.ExecContext(context.WithoutCancel(ctx), `SELECT pg_advisory_unlock(hashtext('messaging.migrate'))`)
		return errors.Join(err, conn.Close())
	}, nil
}

// migrateSchema applies the migrations of s and returns the version reached.
func migrateSchema(ctx context.Context, db *sql.DB, s Spec) (int64, error) {
	if _, err := db.ExecContext(ctx, `CREATE SCHEMA IF NOT EXISTS `+s.schema()); err != nil && !isDuplicate(err) {
		return 0, fmt.Errorf("create schema %s: %w", s.Name, err)
	}
	dir, err := fs.Sub(s.Migrations, "migrations")
	if err != nil {
		return 0, fmt.Errorf("migrations of %s: %w", s.Name, err)
	}
	store, err := database.NewStore(database.DialectPostgres, s.schema()+".goose_db_version")
	if err != nil {
		return 0, fmt.Errorf("migrations of %s: %w", s.Name, err)
	}
	provider, err := goose.NewProvider("", db, dir, goose.WithStore(versions{store}))
	if err != nil {
		return 0, fmt.Errorf("migrations of %s: %w", s.Name, err)
	}
	if _, err := provider.Up(ctx); err != nil {
		return 0, fmt.Errorf("migrate schema %s: %w", s.Name, err)
	}
	return latest(s)
}

// versions is goose's table of versions in a schema whose name is quoted: goose
// itself would look for one whose name has the quotes in it.
type versions struct{ database.Store }

// TableExists reports whether the table was made already.
func (v versions) TableExists(ctx context.Context, db database.DBTxConn) (exists bool, err error) {
	err = db.QueryRowContext(ctx, `SELECT to_regclass($1) IS NOT NULL`, v.Tablename()).Scan(&exists)
	return exists, err
}

// latest is the version of the newest migration that s carries.
func latest(s Spec) (int64, error) {
	names, err := fs.Glob(s.Migrations, "migrations/*.sql")
	if err != nil || len(names) == 0 {
		return 0, errors.Join(fmt.Errorf("service %s carries no migrations/*.sql", s.Name), err)
	}
	version, err := goose.NumericComponent(slices.Max(names))
	if err != nil {
		return 0, fmt.Errorf("migrations of %s: %w", s.Name, err)
	}
	return version, nil
}

func isDuplicate(err error) bool {
	switch sqlState(err) {
	case "42P06", "23505", "42710": // schema, catalog row, role: somebody else was faster
		return true
	}
	return false
}

// ensureRole makes the service's login role, which belongs to the cluster.
func ensureRole(ctx context.Context, db *sqlx.DB, s Spec, password string) error {
	var exists bool
	if err := db.GetContext(ctx, &exists, `SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)`, s.Role()); err != nil {
		return fmt.Errorf("look for role %s: %w", s.Role(), err)
	}
	if !exists {
		if _, err := db.ExecContext(ctx, `CREATE ROLE `+s.Role()+` LOGIN`); err != nil && !isDuplicate(err) {
			return fmt.Errorf("create role %s: %w", s.Role(), err)
		}
	}
	if password == "" {
		return nil
	}
	// A password can't be a parameter of ALTER ROLE.
	var stmt string
	if err := db.GetContext(ctx, &stmt, `SELECT format('ALTER ROLE %I PASSWORD %L', $1::text, $2::text)`, s.Role(), password); err != nil {
		return fmt.Errorf("set the password of role %s: %w", s.Role(), err)
	}
	if err := alterRole(ctx, db, stmt); err != nil {
		return fmt.Errorf("set the password of role %s: %w", s.Role(), err)
	}
	return nil
}

// alterRole runs stmt until nobody else alters the role at the same moment, as a
// migration of another database of the server may: no lock is common to databases,
// and PostgreSQL refuses the second with "tuple concurrently updated".
func alterRole(ctx context.Context, db *sqlx.DB, stmt string) error {
	for {
		_, err := db.ExecContext(ctx, stmt)
		if sqlState(err) != "XX000" {
			return err
		}
		select {
		case <-ctx.Done():
			return errors.Join(err, ctx.Err())
		case <-time.After(rand.N(20 * time.Millisecond)):
		}
	}
}

// declare makes tables, routes and rights of what specs declare, in one
// transaction, which notes each service's version.
func declare(ctx context.Context, db *sqlx.DB, specs []Spec) (err error) {
	tx, err := db.BeginTxx(ctx, nil)
	if err != nil {
		return fmt.Errorf("declare services: %w", err)
	}
	defer func() { err = errors.Join(err, rollback(tx)) }() // after Commit it does nothing
	for _, s := range specs {
		for _, stmt := range declaration(s) {
			if _, err := tx.ExecContext(ctx, stmt); err != nil {
				return fmt.Errorf("declare service %s: %s: %w", s.Name, firstLine(stmt), err)
			}
		}
		for _, q := range s.Queues {
			if err := route(ctx, tx, s, q); err != nil {
				return err
			}
		}
	}
	for _, s := range specs {
		version, err := latest(s)
		if err != nil {
			return err
		}
		text, err := s.declared()
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `
			INSERT INTO messaging.services (name, version, declaration) VALUES ($1, $2, $3)
			ON CONFLICT (name) DO UPDATE SET version = EXCLUDED.version, declaration = EXCLUDED.declaration
			WHERE (services.version, services.declaration) IS DISTINCT FROM (EXCLUDED.version, EXCLUDED.declaration)`,
			s.Name, version, text)
		if err != nil {
			return fmt.Errorf("note the version of service %s: %w", s.Name, err)
		}
	}
	senders, err := declaredServices(ctx, tx)
	if err != nil {
		return err
	}
	for _, s := range senders {
		if err := grantTargets(ctx, tx, s); err != nil {
			return err
		}
		if err := grantReplies(ctx, tx, s); err != nil {
			return err
		}
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("declare services: %w", err)
	}
	return nil
}

// declaredServices lists the services that were declared at any time, with what
// they send and speak. A new subscriber may be migrated without its speakers:
// a relay that may not write to one of its queues carries nothing at all.
func declaredServices(ctx context.Context, q sqlx.QueryerContext) ([]Spec, error) {
	var rows []struct{ Name, Declaration string }
	if err := sqlx.SelectContext(ctx, q, &rows, `SELECT name, declaration FROM messaging.services ORDER BY name`); err != nil {
		return nil, fmt.Errorf("list the declared services: %w", err)
	}
	list := make([]Spec, len(rows))
	for i, r := range rows {
		if err := json.Unmarshal([]byte(r.Declaration), &list[i]); err != nil {
			return nil, fmt.Errorf("read the declaration of service %s: %w", r.Name, err)
		}
		list[i].Name = r.Name
	}
	return list, nil
}

// declared is the part of s that others' tables depend on, as text to compare.
func (s Spec) declared() (string, error) {
	b, err := json.Marshal(struct {
		Queues              []Queue
		Sends, Asks, Speaks []string
	}{s.Queues, s.Sends, s.Asks, s.Speaks})
	if err != nil {
		return "", fmt.Errorf("describe service %s: %w", s.Name, err)
	}
	return string(b), nil
}

// declaration is the SQL that makes what s owns and the rights on it: no more
// than its programs use, so that a mistake in one of them can't forge a message,
// rewrite a trace or pass for a migration. A function is everybody's until that
// is taken away. What is revoked from the role was granted by an earlier version.
func declaration(s Spec) []string {
	role, schema := s.Role(), s.schema()
	list := []string{
		`REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA ` + schema + `, messaging FROM PUBLIC`,
		`GRANT USAGE ON SCHEMA ` + schema + `, messaging TO ` + role,
		`GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA ` + schema + ` TO ` + role,
		`GRANT USAGE ON ALL SEQUENCES IN SCHEMA ` + schema + ` TO ` + role,
		`GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA ` + schema + ` TO ` + role,
		`REVOKE ALL ON ` + schema + `.goose_db_version FROM ` + role,
		`REVOKE ALL ON SEQUENCE ` + schema + `.goose_db_version_id_seq FROM ` + role,
		`GRANT SELECT ON messaging.services TO ` + role,
		`GRANT EXECUTE ON FUNCTION messaging.shop_now() TO ` + role,
	}
	if !s.messages() {
		return list
	}
	list = append(list,
		`GRANT SELECT ON messaging.routes, messaging.routes_version, messaging.events, messaging.queues TO `+role,
		`GRANT EXECUTE ON FUNCTION messaging.producer(), messaging.ensure_days(text, integer),
			messaging.all_acknowledged(bigint, bigint), messaging.all_carried(bigint, bigint, bigint, bigint) TO `+role,
		`REVOKE ALL ON FUNCTION messaging.make_days(text, integer) FROM `+role)
	if len(s.Sends)+len(s.Speaks) > 0 {
		list = append(list,
			fmt.Sprintf(`SELECT messaging.ensure_outbox('%s')`, s.Name),
			fmt.Sprintf(`REVOKE UPDATE ON messaging.outbox_%s FROM %s`, s.Name, role),
			fmt.Sprintf(`GRANT SELECT, INSERT, DELETE, UPDATE (dead_reason) ON messaging.outbox_%s TO %s`, s.Name, role))
	}
	if len(s.Asks) > 0 {
		list = append(list,
			fmt.Sprintf(`SELECT messaging.ensure_replies('%s')`, s.Name),
			fmt.Sprintf(`GRANT SELECT, DELETE ON messaging.replies_%s TO %s`, s.Name, role))
	}
	if len(s.Speaks) > 0 {
		list = append(list,
			fmt.Sprintf(`SELECT messaging.ensure_log('%s')`, s.Name),
			fmt.Sprintf(`SELECT messaging.ensure_days('log_%s')`, s.Name),
			fmt.Sprintf(`GRANT SELECT, INSERT ON messaging.log_%s TO %s`, s.Name, role),
			fmt.Sprintf(`GRANT USAGE ON SEQUENCE messaging.log_%s_id TO %s`, s.Name, role),
			fmt.Sprintf(`DELETE FROM messaging.events WHERE speaker = '%s' AND NOT kind = ANY('{%s}')`, s.Name, strings.Join(s.Speaks, ",")),
			fmt.Sprintf(`INSERT INTO messaging.events (kind, speaker) SELECT unnest('{%s}'::text[]), '%s' ON CONFLICT DO NOTHING`, strings.Join(s.Speaks, ","), s.Name))
	}
	if len(s.Queues) > 0 {
		list = append(list,
			fmt.Sprintf(`SELECT messaging.ensure_inbox('%s')`, s.Name),
			fmt.Sprintf(`SELECT messaging.ensure_days('inbox_%s')`, s.Name),
			fmt.Sprintf(`REVOKE UPDATE, DELETE ON messaging.inbox_%s FROM %s`, s.Name, role),
			fmt.Sprintf(`GRANT SELECT, INSERT ON messaging.inbox_%s TO %s`, s.Name, role))
	}
	list = append(list, `GRANT EXECUTE ON FUNCTION messaging.drop_days(text) TO `+role)
	for _, q := range s.Queues {
		list = append(list,
			fmt.Sprintf(`SELECT messaging.ensure_queue('%s')`, q.Name),
			fmt.Sprintf(`GRANT SELECT, DELETE, UPDATE (due, attempts, crashes, token, last_error, dead_reason) ON messaging.queue_%s TO %s`, q.Name, role))
	}
	return append(list, `SELECT messaging.ensure_inspection()`)
}

// route makes the routes of queue q, and what is known of it, what the Spec of
// its service says.
func route(ctx context.Context, tx *sqlx.Tx, s Spec, q Queue) error {
	_, err := tx.ExecContext(ctx, `
		INSERT INTO messaging.queues (name, service, leased, replayable) VALUES ($1, $2, $3, $4)
		ON CONFLICT (name) DO UPDATE SET service = EXCLUDED.service, leased = EXCLUDED.leased, replayable = EXCLUDED.replayable
		WHERE (queues.service, queues.leased, queues.replayable) IS DISTINCT FROM (EXCLUDED.service, EXCLUDED.leased, EXCLUDED.replayable)`,
		q.Name, s.Name, q.Mode == Leased, q.Replayable)
	if err != nil {
		return fmt.Errorf("note queue %s: %w", q.Name, err)
	}
	_, err = tx.ExecContext(ctx, `
		WITH gone AS (DELETE FROM messaging.routes WHERE queue = $1 AND NOT kind = ANY($2))
		INSERT INTO messaging.routes (queue, kind, live) SELECT $1, k, `+liveAtOnceSQL+` FROM unnest($2::text[]) k ON CONFLICT DO NOTHING`, q.Name, q.Kinds, q.Replayable)
	if err != nil {
		return fmt.Errorf("route to queue %s: %w", q.Name, err)
	}
	return nil
}

// grantTargets lets the relay of s write into every queue that gets a kind which
// s sends, but never the columns that say who sent it and what became of it.
func grantTargets(ctx context.Context, tx *sqlx.Tx, s Spec) error {
	queues, err := targets(ctx, tx, s)
	if err != nil {
		return err
	}
	for _, q := range queues {
		_, err := tx.ExecContext(ctx, fmt.Sprintf(`GRANT INSERT (%s, due) ON messaging.queue_%s TO %s`, envelopeColumns, q, s.Role()))
		if err != nil {
			return fmt.Errorf("let service %s send to queue %s: %w", s.Name, q, err)
		}
	}
	return nil
}

// targets lists the queues that get a kind which s sends, in a fixed order.
func targets(ctx context.Context, q sqlx.QueryerContext, s Spec) ([]string, error) {
	var queues []string
	err := sqlx.SelectContext(ctx, q, &queues, `
		SELECT DISTINCT queue FROM messaging.routes WHERE kind = ANY($1) ORDER BY queue`, slices.Concat(s.Sends, s.Speaks))
	if err != nil {
		return nil, fmt.Errorf("routes of service %s: %w", s.Name, err)
	}
	return queues, nil
}

// WaitMigrated returns once the database is at the version that s needs, asking
// every 200 ms: services never migrate, they wait for whoever does.
func WaitMigrated(ctx context.Context, db *sqlx.DB, log *slog.Logger, s Spec) error {
	want, err := latest(s)
	if err != nil {
		return err
	}
	text, err := s.declared()
	if err != nil {
		return err
	}
	told := false
	for {
		var ok bool
		err := db.GetContext(ctx, &ok, `
			SELECT EXISTS (SELECT FROM messaging.services WHERE name = $1 AND (version > $2 OR version = $2 AND declaration = $3))`,
			s.Name, want, text)
		if ok {
			return nil
		}
		if !told {
			told = true
			log.Info("waiting for the database to be migrated", "service", s.Name, "version", want, "err", err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for version %d of service %s (shopctl migrate brings it): %w", want, s.Name, errors.Join(ctx.Err(), err))
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(s), "\n")
	return line
}

// quote makes name an SQL identifier.
func quote(name string) string { return pgx.Identifier{name}.Sanitize() }
