package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/dbos-inc/dbos-transact-golang/dbos"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// dbosShop runs an order as one DBOS workflow of five steps: one process, no
// messages, no services apart.
type dbosShop struct {
	pool *pgxpool.Pool
	ctx  dbos.DBOSContext
}

func startDBOS(ctx context.Context, url string) (contender, error) {
	cfg, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("open the database: %w", err)
	}
	cfg.MaxConns = 40
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("open the database: %w", err)
	}
	d := &dbosShop{pool: pool}
	d.ctx, err = dbos.NewDBOSContext(ctx, dbos.Config{
		AppName: "bench", DatabaseURL: url,
		Logger: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError})),
	})
	if err != nil {
		return nil, fmt.Errorf("make the DBOS context: %w", err)
	}
	dbos.RegisterWorkflow(d.ctx, d.process)
	if err := d.ctx.Launch(); err != nil {
		return nil, fmt.Errorf("launch DBOS: %w", err)
	}
	return d, nil
}

// process is the workflow.
func (d *dbosShop) process(ctx dbos.DBOSContext, o order) (string, error) {
	steps := []struct {
		name string
		run  func(context.Context, execer) error
	}{
		{"place", func(ctx context.Context, x execer) error { return insertOrder(ctx, x, o) }},
		{"reserve", func(ctx context.Context, x execer) error { return reserve(ctx, x, o) }},
		{"authorize", func(ctx context.Context, x execer) error { return authorize(ctx, x, o) }},
		{"confirm", func(ctx context.Context, x execer) error { return confirm(ctx, x, o) }},
		{"notify", func(ctx context.Context, x execer) error {
			for _, kind := range []string{"placed", "paid", "confirmed"} {
				if err := notify(ctx, x, o, kind); err != nil {
					return err
				}
			}
			return nil
		}},
	}
	for _, s := range steps {
		_, err := dbos.RunAsStep(ctx, func(ctx context.Context) (string, error) {
			err := pgx.BeginFunc(ctx, d.pool, func(tx pgx.Tx) error { return s.run(ctx, pgxExecer(tx)) })
			return "done", err
		}, dbos.WithStepName(s.name))
		if err != nil {
			return "", fmt.Errorf("step %s of order %d: %w", s.name, o.ID, err)
		}
	}
	return "confirmed", nil
}

// place returns when the workflow has ended: so no more run at once than there are
// clients.
func (d *dbosShop) place(_ context.Context, o order) error {
	handle, err := dbos.RunWorkflow(d.ctx, d.process, o)
	if err != nil {
		return fmt.Errorf("start the workflow of order %d: %w", o.ID, err)
	}
	result, err := handle.GetResult()
	if err == nil && result != "confirmed" {
		err = errors.New(result)
	}
	return err
}

func (d *dbosShop) close(context.Context) error {
	d.ctx.Shutdown(5 * time.Second)
	d.pool.Close()
	return nil
}
