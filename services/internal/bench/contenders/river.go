package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"
)

// The jobs: one per step of an order and one per notification.
type (
	reserveJob   struct{ order }
	authorizeJob struct{ order }
	confirmJob   struct{ order }
	notifyJob    struct {
		order
		What string `json:"what"`
	}
)

func (reserveJob) Kind() string   { return "reserve" }
func (authorizeJob) Kind() string { return "authorize" }
func (confirmJob) Kind() string   { return "confirm" }
func (notifyJob) Kind() string    { return "notify" }

// riverShop runs the steps as River jobs, each of which inserts the next one in
// its own transaction.
type riverShop struct {
	pool   *pgxpool.Pool
	client *river.Client[pgx.Tx]
}

func startRiver(ctx context.Context, url string) (contender, error) {
	cfg, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("open the database: %w", err)
	}
	cfg.MaxConns = 48
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("open the database: %w", err)
	}
	r := &riverShop{pool: pool}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	migrator, err := rivermigrate.New(riverpgxv5.New(pool), &rivermigrate.Config{Logger: log})
	if err == nil {
		_, err = migrator.Migrate(ctx, rivermigrate.DirectionUp, nil)
	}
	if err != nil {
		return nil, fmt.Errorf("migrate River's tables: %w", err)
	}
	workers := river.NewWorkers()
	river.AddWorker(workers, river.WorkFunc(r.reserve))
	river.AddWorker(workers, river.WorkFunc(r.authorize))
	river.AddWorker(workers, river.WorkFunc(r.confirm))
	river.AddWorker(workers, river.WorkFunc(r.notify))
	r.client, err = river.NewClient(riverpgxv5.New(pool), &river.Config{
		Queues:  map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: 200}},
		Workers: workers,
		// The best of what was tried. With the default cooldown of 100 ms an order
		// takes some 200 ms more at a low rate; what is polled is what a NOTIFY tells.
		FetchCooldown:     5 * time.Millisecond,
		FetchPollInterval: time.Second,
		Logger:            log,
	})
	if err != nil {
		return nil, fmt.Errorf("make River's client: %w", err)
	}
	if err := r.client.Start(ctx); err != nil {
		return nil, fmt.Errorf("start River's client: %w", err)
	}
	return r, nil
}

// inTx runs f in a transaction and inserts the jobs that follow.
func (r *riverShop) inTx(ctx context.Context, f func(execer) error, next ...river.JobArgs) error {
	return pgx.BeginFunc(ctx, r.pool, func(tx pgx.Tx) error {
		if err := f(pgxExecer(tx)); err != nil {
			return err
		}
		for _, args := range next {
			if _, err := r.client.InsertTx(ctx, tx, args, nil); err != nil {
				return fmt.Errorf("insert job %s: %w", args.Kind(), err)
			}
		}
		return nil
	})
}

func (r *riverShop) place(ctx context.Context, o order) error {
	return r.inTx(ctx, func(x execer) error { return insertOrder(ctx, x, o) }, reserveJob{o}, notifyJob{o, "placed"})
}

func (r *riverShop) reserve(ctx context.Context, j *river.Job[reserveJob]) error {
	return r.inTx(ctx, func(x execer) error { return reserve(ctx, x, j.Args.order) }, authorizeJob(j.Args))
}

func (r *riverShop) authorize(ctx context.Context, j *river.Job[authorizeJob]) error {
	o := j.Args.order
	return r.inTx(ctx, func(x execer) error { return authorize(ctx, x, o) }, confirmJob{o}, notifyJob{o, "paid"})
}

func (r *riverShop) confirm(ctx context.Context, j *river.Job[confirmJob]) error {
	o := j.Args.order
	return r.inTx(ctx, func(x execer) error { return confirm(ctx, x, o) }, notifyJob{o, "confirmed"})
}

func (r *riverShop) notify(ctx context.Context, j *river.Job[notifyJob]) error {
	return r.inTx(ctx, func(x execer) error { return notify(ctx, x, j.Args.order, j.Args.What) })
}

func (r *riverShop) close(ctx context.Context) error {
	err := r.client.Stop(ctx)
	r.pool.Close()
	return err
}

func pgxExecer(tx pgx.Tx) execer {
	return func(ctx context.Context, query string, args ...any) (int64, error) {
		tag, err := tx.Exec(ctx, query, args...)
		return tag.RowsAffected(), err
	}
}
