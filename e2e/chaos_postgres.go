package e2e

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// postgresFaults are those of PostgreSQL itself.
func postgresFaults() []faultKind {
	draw := func(*rand.Rand) ([]string, string) { return []string{Database.Service}, "" }
	return []faultKind{
		{name: "postgres quits", most: 2 * time.Second, draw: draw,
			strike: func(c *chaos, ctx context.Context, _ fault) (wound, error) { return c.endDatabase(ctx, c.QuitDatabase) }},
		{name: "postgres killed", most: 2 * time.Second, draw: draw,
			strike: func(c *chaos, ctx context.Context, _ fault) (wound, error) {
				return c.endDatabase(ctx, func(context.Context) error { return c.Kill(Database) })
			}},
		{name: "postgres session killed", draw: draw, strike: (*chaos).strikeSession},
		{name: "postgres hangs", least: 2 * time.Second, most: 8 * time.Second, draw: draw, strike: (*chaos).strikeHang},
		{name: "connections used up", least: time.Second, most: 5 * time.Second, draw: draw, strike: (*chaos).strikeConnections},
	}
}

// atWork waits until sessions of services are at work and returns one's process and
// how many there are.
func (c *chaos) atWork(ctx context.Context) (pid, n int, err error) {
	for {
		var s struct {
			PID int `db:"pid"`
			N   int `db:"n"`
		}
		err = c.Admin.GetContext(ctx, &s, `
			SELECT coalesce(min(pid), 0) AS pid, count(*) AS n
			FROM pg_stat_activity
			WHERE usename LIKE 'orderflow\_%' AND state IN ('active', 'idle in transaction')`)
		if err == nil && s.N > 0 {
			return s.PID, s.N, nil
		}
		if !pause(ctx, time.Millisecond) {
			return 0, 0, errors.Join(errMissed, err)
		}
	}
}

// endDatabase ends PostgreSQL while services are at work in it, and heals by starting
// it again.
func (c *chaos) endDatabase(ctx context.Context, end func(context.Context) error) (wound, error) {
	_, n, err := c.atWork(ctx)
	if err != nil {
		return wound{}, err
	}
	at := time.Now()
	if err := end(ctx); err != nil {
		return wound{}, err
	}
	return wound{at: at, hits: n, what: fmt.Sprintf("%d sessions were at work", n), heal: func(ctx context.Context) error {
		_, err := c.Start(ctx, Database, nil)
		return err
	}}, nil
}

// strikeSession kills (SIGKILL) the process of a session that is at work: the server
// ends all others then, too.
func (c *chaos) strikeSession(ctx context.Context, _ fault) (wound, error) {
	for {
		pid, n, err := c.atWork(ctx)
		if err != nil {
			return wound{}, err
		}
		at := time.Now()
		if err := c.KillSession(pid); err == nil {
			return wound{at: at, hits: n, what: fmt.Sprintf("%d sessions were at work", n)}, nil
		} else if !pause(ctx, time.Millisecond) { // it had ended meanwhile
			return wound{}, err
		}
	}
}

// strikeHang freezes all of PostgreSQL.
func (c *chaos) strikeHang(ctx context.Context, _ fault) (wound, error) {
	_, n, err := c.atWork(ctx)
	if err != nil {
		return wound{}, err
	}
	w := wound{at: time.Now(), hits: n, what: fmt.Sprintf("%d sessions were at work", n), heal: func(context.Context) error {
		return c.Resume(Database)
	}}
	return w, c.Pause(Database)
}

// strikeConnections takes all connections that the server has to give, but for an
// administrator's, and ends those that services have.
func (c *chaos) strikeConnections(ctx context.Context, f fault) (wound, error) {
	var taken []*pgx.Conn
	defer func() {
		for _, conn := range taken {
			// Another fault may have cut it.
			_ = conn.Close(context.WithoutCancel(ctx))
		}
	}()
	cfg, err := pgx.ParseConfig(c.DSN("", ""))
	if err != nil {
		return wound{}, err
	}
	cfg.User, cfg.Password = "orderflow_paysim", c.passwords["paysim"]
	refused := func() int { return strings.Count(c.Logs(Database), "connection slots are reserved") }
	before, at := refused(), time.Now()
	for first := true; first || time.Since(at) < f.Lasts; first = false {
		for ctx.Err() == nil {
			conn, err := pgx.ConnectConfig(ctx, cfg)
			if err != nil {
				break // there are no more
			}
			taken = append(taken, conn)
		}
		if _, err := c.Admin.ExecContext(ctx, `
			SELECT pg_terminate_backend(pid) FROM pg_stat_activity
			WHERE usename LIKE 'orderflow\_%' AND usename <> 'orderflow_paysim' AND state = 'idle'`); err != nil && ctx.Err() != nil {
			break
		}
		pause(ctx, 20*time.Millisecond)
	}
	n := refused() - before
	w := wound{at: at, hits: n, what: fmt.Sprintf("%d connections refused, %d taken", n, len(taken))}
	if n == 0 {
		return w, errMissed
	}
	return w, nil
}
