package bench

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/jmoiron/sqlx"

	"example.com/orderflow/deployments/postgres"
	"example.com/orderflow/messaging"
)

//go:embed sql
var embedded embed.FS

// services are the four of the yardstick's order, each with a schema.
var services = []string{"ordering", "inventory", "payment", "notification"}

// migrations is the schema of a service, as its Spec takes it.
func migrations(service string) (fs.FS, error) { return fs.Sub(embedded, "sql/"+service) }

// stand is where everything is measured: a PostgreSQL of its own.
type stand struct {
	server *postgres.Server
	admin  *sqlx.DB
	log    *slog.Logger
	flush  time.Duration // what a commit waits for the disk
	made   int
}

// newStand starts the PostgreSQL. Its settings are the product's, but for the
// times of commits, which it notes.
func newStand(ctx context.Context, log *slog.Logger, statements bool) (*stand, error) {
	settings := map[string]string{"track_commit_timestamp": "on"}
	if statements {
		settings["shared_preload_libraries"] = "pg_stat_statements"
		settings["pg_stat_statements.track_planning"] = "on"
	}
	server, err := postgres.Start(ctx, postgres.Config{Temp: true, Settings: settings, Log: log})
	if err != nil {
		return nil, err
	}
	s := &stand{server: server, log: log}
	if s.admin, err = s.open(""); err == nil {
		s.flush, err = s.measureFlush(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, s.close(ctx))
	}
	return s, nil
}

func (s *stand) close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
	defer cancel()
	var err error
	if s.admin != nil {
		err = s.admin.Close()
	}
	return errors.Join(err, s.server.Stop(ctx))
}

// open is an administrator's pool on database ("" = the first one). Its
// statements may take as long as they like.
func (s *stand) open(database string) (*sqlx.DB, error) {
	db, err := sqlx.Open("pgx", s.server.DSN("", "", database))
	if err != nil {
		return nil, fmt.Errorf("open database %q: %w", database, err)
	}
	db.SetMaxOpenConns(4)
	return db, nil
}

// base is a database for one run, dropped at its end.
type base struct {
	stand *stand
	name  string
	db    *sqlx.DB // an administrator's pool
}

// newBase makes an empty database.
func (s *stand) newBase(ctx context.Context, purpose string) (*base, error) {
	s.made++
	b := &base{stand: s, name: fmt.Sprintf("%s_%d", purpose, s.made)}
	if _, err := s.admin.ExecContext(ctx, `CREATE DATABASE `+b.name); err != nil {
		return nil, fmt.Errorf("make database %s: %w", b.name, err)
	}
	var err error
	if b.db, err = s.open(b.name); err != nil {
		return nil, err
	}
	return b, nil
}

// newShopBase makes a database with the yardstick's tables.
func (s *stand) newShopBase(ctx context.Context, purpose string) (*base, error) {
	b, err := s.newBase(ctx, purpose)
	if err != nil {
		return nil, err
	}
	for _, service := range services {
		text, err := embedded.ReadFile("sql/" + service + "/migrations/0001_" + service + ".sql")
		if err == nil {
			_, err = b.db.ExecContext(ctx, `CREATE SCHEMA `+service+`; `+string(text))
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("make the tables of %s: %w", service, err), b.drop(ctx))
		}
	}
	return b, nil
}

// settle leaves the server with nothing to catch up on.
func (b *base) settle(ctx context.Context) error {
	for _, stmt := range []string{`VACUUM ANALYZE`, `CHECKPOINT`} {
		if _, err := b.db.ExecContext(ctx, stmt); err != nil {
			return fmt.Errorf("%s of database %s: %w", stmt, b.name, err)
		}
	}
	return nil
}

func (b *base) drop(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
	defer cancel()
	err := b.db.Close()
	if _, derr := b.stand.admin.ExecContext(ctx, `DROP DATABASE IF EXISTS `+b.name+` WITH (FORCE)`); derr != nil {
		err = errors.Join(err, fmt.Errorf("drop database %s: %w", b.name, derr))
	}
	return err
}

// dsn is the way in for a service's role, "" = the administrator.
func (b *base) dsn(service string) string {
	if service == "" {
		return b.stand.server.DSN("", "", b.name)
	}
	return b.stand.server.DSN(messaging.Spec{Name: service}.Role(), "", b.name)
}

// measureFlush compares commits that wait for the disk with commits that don't:
// the difference of the medians.
func (s *stand) measureFlush(ctx context.Context) (_ time.Duration, err error) {
	const each = 100
	conn, err := s.admin.Connx(ctx)
	if err != nil {
		return 0, fmt.Errorf("measure the disk: %w", err)
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	exec := func(query string) error {
		if _, err := conn.ExecContext(ctx, query); err != nil {
			return fmt.Errorf("measure the disk: %w", err)
		}
		return nil
	}
	if err := exec(`CREATE TABLE flushed (n bigint)`); err != nil {
		return 0, err
	}
	median := func(commit string) (time.Duration, error) {
		if err := exec(`SET synchronous_commit = ` + commit); err != nil {
			return 0, err
		}
		var all []time.Duration
		for range each {
			started := time.Now()
			if err := exec(fmt.Sprintf(`INSERT INTO flushed VALUES (%d)`, rand.Int64())); err != nil {
				return 0, err
			}
			all = append(all, time.Since(started))
		}
		slices.Sort(all)
		return all[each/2], nil
	}
	with, err := median("on")
	if err != nil {
		return 0, err
	}
	without, err := median("off")
	if err != nil {
		return 0, err
	}
	return max(0, with-without), exec(`DROP TABLE flushed; RESET synchronous_commit`)
}
