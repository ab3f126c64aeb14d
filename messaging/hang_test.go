package messaging_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"example.com/orderflow/messaging"
	"example.com/orderflow/messaging/messagingtest"
)

// C9: a transaction that ends on a server that hangs holds nobody: neither its
// commit, once its context ends, nor its rollback, which has none.
func TestC9AServerThatHangsHoldsNobody(t *testing.T) {
	t.Parallel()
	cluster := messagingtest.NewCluster(t)
	db := cluster.NewDB(t, beta(t))
	b := db.NewBus(t, beta(t))
	refused := errors.New("refused")
	for name, outcome := range map[string]error{"commit": nil, "rollback": refused} {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var frozen time.Time
		err := b.InTx(ctx, func(ctx context.Context, tx *messaging.Tx) error {
			if _, err := tx.ExecContext(ctx, `CREATE TABLE IF NOT EXISTS pg_temp.note ()`); err != nil {
				return err
			}
			frozen = time.Now()
			return errors.Join(cluster.Server().Freeze(ctx), outcome)
		})
		took := time.Since(frozen)
		if terr := cluster.Server().Thaw(t.Context()); terr != nil {
			t.Fatal(terr)
		}
		if took > 3*time.Second {
			t.Errorf("%s: it took %s on a server that hangs, want a second", name, took)
		}
		if outcome != nil && !errors.Is(err, outcome) || outcome == nil && !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: got error %v, want %v or a deadline", name, err, outcome)
		}
		messagingtest.Wait(t, "the next transaction", func() bool {
			return b.InTx(t.Context(), func(ctx context.Context, tx *messaging.Tx) error {
				_, err := tx.ExecContext(ctx, `SELECT`)
				return err
			}) == nil
		})
	}
}

// C9: what the server lacks is no message's fault, and costs it no attempt, however
// long it lacks it.
func TestC9WhatTheServerLacksDoesNotCount(t *testing.T) {
	t.Parallel()
	type failure func(context.Context, *messaging.Tx, *messagingtest.DB) error
	state := func(code string) failure {
		return func(ctx context.Context, tx *messaging.Tx, _ *messagingtest.DB) error {
			_, err := tx.ExecContext(ctx, fmt.Sprintf(`DO $$ BEGIN RAISE SQLSTATE '%s'; END $$`, code))
			return err
		}
	}
	for what, fail := range map[string]failure{
		"disk_full": state("53100"), "out_of_memory": state("53200"), "io_error": state("58030"),
		"no session": func(ctx context.Context, _ *messaging.Tx, db *messagingtest.DB) error {
			cfg, err := pgconn.ParseConfig(db.DSN("beta"))
			if err != nil {
				return err
			}
			cfg.Database = "nowhere" // it is refused in many ways, each with a state of its own
			conn, err := pgconn.ConnectConfig(ctx, cfg)
			if err == nil {
				err = messaging.Permanent(errors.Join(errors.New("there is a session"), conn.Close(ctx)))
			}
			return err
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			db := newDB(t)
			b := db.NewBus(t, beta(t), quick)
			tries := 0
			messaging.Handle(b, nothing[happened])
			messaging.Handle(b, func(ctx context.Context, tx *messaging.Tx, m work) error {
				if tries++; tries <= 20 { // more than a message has
					return fail(ctx, tx, db)
				}
				return effect(ctx, tx, "beta", m.body)
			})
			messagingtest.Run(t, b)
			if got := db.Deliver(t, work{body{N: 1}}); !strings.HasPrefix(got[0], "done") {
				t.Errorf("after %d failures: got %q, want done", tries-1, got[0])
			}
			if n := count(t, db.Admin, `SELECT attempts FROM messaging.inbox_beta`); n != 1 || tries != 21 {
				t.Errorf("got attempt %d after %d tries, want 1 after 21", n, tries)
			}
		})
	}
}

// C9, C10: a message that can't be put back, for want of connections, is put back
// when there are some again: it waits for no lease to run out, and its consumer isn't
// taken for dead.
func TestC9C10PuttingBackOutlastsAServerWithoutConnections(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	b := db.NewBus(t, beta(t), quick)
	limit := func(n int) error { // an administrator has none
		_, err := db.Admin.Exec(fmt.Sprintf(`ALTER DATABASE %s CONNECTION LIMIT %d`, db.Name, n))
		return err
	}
	runs := 0
	messaging.Handle(b, nothing[happened])
	messaging.Handle(b, func(ctx context.Context, tx *messaging.Tx, m work) error {
		if runs++; runs > 1 {
			if n := count(t, db.Admin, `SELECT crashes FROM messaging.queue_beta`); n != 0 {
				t.Errorf("crashes: got %d, want 0", n)
			}
			return effect(ctx, tx, "beta", m.body)
		}
		if err := limit(0); err != nil {
			return err
		}
		time.AfterFunc(time.Second, func() {
			if err := limit(-1); err != nil {
				t.Errorf("let it have connections again: %v", err)
			}
		})
		_, err := db.Admin.Exec(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'orderflow_beta' AND datname = current_database()`)
		return errors.Join(err, errors.New("refused"))
	})
	messagingtest.Run(t, b)
	started := time.Now()
	if got := db.Deliver(t, work{body{N: 1}}); got[0] != "done" {
		t.Errorf("got %q, want done", got[0])
	}
	if took := time.Since(started); took > 5*time.Second || runs != 2 {
		t.Errorf("done after %s in %d runs, want 2, the second a second after the first", took, runs)
	}
}
