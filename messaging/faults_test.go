package messaging_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/jmoiron/sqlx"

	"example.com/orderflow/messaging"
	"example.com/orderflow/messaging/messagingtest"
)

// C4: a plan that was made while the tables were empty must serve a backlog, so
// no plan reads a table through, and none joins one without an index condition.
func TestC4PlansOfEmptyTablesServeABacklog(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	for _, table := range []string{"queue_beta", "inbox_beta", "outbox_beta"} {
		if _, err := db.Admin.Exec(`VACUUM ANALYZE messaging.` + table); err != nil {
			t.Fatal(err)
		}
	}
	b := db.NewBus(t, beta(t))
	statements, err := messaging.Statements(t.Context(), b, "beta")
	if err != nil {
		t.Fatal(err)
	}
	for name, statement := range statements {
		tx, err := db.Service("beta").Beginx()
		if err != nil {
			t.Fatal(err)
		}
		plan, err := messagingtest.Explain(t.Context(), tx, statement)
		if err != nil {
			t.Errorf("plan of %s: %v", name, err)
		}
		if err := tx.Rollback(); err != nil {
			t.Fatal(err)
		}
		for _, line := range plan {
			for _, table := range []string{"queue_", "inbox_", "outbox_"} {
				if strings.Contains(line, "Seq Scan on "+table) {
					t.Errorf("%s reads a table through:\n%s", name, strings.Join(plan, "\n"))
				}
			}
			if strings.Contains(line, "Join Filter") || strings.Contains(line, "hashed SubPlan") {
				t.Errorf("%s joins without an index condition:\n%s", name, strings.Join(plan, "\n"))
			}
		}
	}
}

// Rows that a handler leaves open make its connection busy for the next
// statement. That is the handler's fault, not a lost connection's.
func TestRowsLeftOpen(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"transactional", "leased", "preload"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			db := newDB(t)
			leak := func(ctx context.Context, tx *messaging.Tx) error {
				_, err := tx.QueryContext(ctx, `SELECT generate_series(1, 100000)`) // never closed
				return err
			}
			var message messaging.Body = work{body{N: 1, Do: "leak"}}
			b := db.NewBus(t, beta(t), quick)
			switch mode {
			case "leased":
				message = outside{body{N: 1}}
				b = db.NewBus(t, gamma(t), quick)
				messaging.HandleOutside(b, func(context.Context, outside) (messaging.Record, error) { return leak, nil })
			default:
				messaging.Handle(b, nothing[happened])
				messaging.Handle(b, func(ctx context.Context, tx *messaging.Tx, m work) error {
					if m.Do == "leak" && mode == "transactional" {
						return leak(ctx, tx)
					}
					return effect(ctx, tx, "beta", m.body)
				})
				if mode == "preload" {
					b.Preload("beta", func(ctx context.Context, tx *messaging.Tx, list []messaging.Message) error { return leak(ctx, tx) })
				}
			}
			messages := []messaging.Body{message}
			want := 0
			if mode == "transactional" {
				messages = append(messages, work{body{N: 2}}, work{body{N: 3}})
				want = 2
			}
			messagingtest.Run(t, b)
			got := db.Deliver(t, messages...)
			if !strings.Contains(got[0], "left rows open") {
				t.Errorf("outcome: got %q, want a dead letter for open rows", got[0])
			}
			if n := count(t, db.Admin, `SELECT count(*) FROM public.effects WHERE attempt = 1`); n != want {
				t.Errorf("neighbours done at the first attempt: got %d, want %d", n, want)
			}
		})
	}
}

// C7, C10: messages that are slow, each by itself, are nobody's crash: what can't
// be begun in time is given back.
func TestC7C10SlowHandlersOutliveNoLease(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	b := db.NewBus(t, beta(t), quick, func(c *messaging.Config) {
		messaging.SetLimits(c, func(l *messaging.Limits) {
			l.Lease, l.Slow, l.Alone = 2*time.Second, 50*time.Millisecond, time.Second
		})
	})
	var crashed atomic.Int32
	messaging.Handle(b, nothing[happened])
	messaging.Handle(b, func(ctx context.Context, tx *messaging.Tx, m work) error {
		crashed.Add(int32(count(t, db.Admin, `SELECT count(*) FROM messaging.queue_beta WHERE crashes > 0`)))
		time.Sleep(100 * time.Millisecond)
		return effect(ctx, tx, "beta", m.body)
	})
	for n := range 50 {
		db.Send(t, work{body{N: n}})
	}
	messagingtest.Run(t, b)
	messagingtest.Wait(t, "50 effects", func() bool { return count(t, db.Admin, `SELECT count(*) FROM public.effects`) == 50 })
	if n := crashed.Load(); n != 0 {
		t.Errorf("messages taken for a dead consumer's: got %d, want 0", n)
	}
}

// C9: a connection that ends without a word from the server costs no attempt.
func TestC9ALostConnectionDoesNotCount(t *testing.T) {
	t.Parallel()
	cluster := messagingtest.NewCluster(t)
	db := cluster.NewDB(t, beta(t))
	b := db.NewBus(t, beta(t), quick)
	started := make(chan struct{}, 10)
	var failed atomic.Value
	messaging.Handle(b, nothing[happened])
	messaging.Handle(b, func(ctx context.Context, tx *messaging.Tx, m work) error {
		started <- struct{}{}
		_, err := tx.ExecContext(ctx, `SELECT pg_sleep(0.9)`)
		if err != nil {
			failed.Store(err.Error())
		}
		return err
	})
	id, _ := db.Send(t, work{body{N: 1}})
	messagingtest.Run(t, b)
	<-started
	// A commit that waits for the disk takes the claim's along: else the crash may undo it.
	if _, err := db.Admin.Exec(`CREATE TABLE public.flushed ()`); err != nil {
		t.Fatal(err)
	}
	if err := cluster.Server().Restart(t.Context(), "immediate"); err != nil {
		t.Fatal(err)
	}
	messagingtest.Wait(t, "the message to be handled", func() bool {
		var n int
		err := db.Admin.Get(&n, `SELECT count(*) FROM messaging.inbox_beta WHERE message_id = $1`, id)
		return err == nil && n == 1 // the administrator's connections were cut, too
	})
	if failed.Load() == nil {
		t.Fatal("no statement failed: the test proves nothing")
	}
	if n := count(t, db.Admin, `SELECT attempts FROM messaging.inbox_beta WHERE message_id = $1`, id); n != 1 {
		t.Errorf("attempts after %q: got %d, want 1", failed.Load(), n)
	}
}

// C9: what is put back after a lost connection stays so when the server crashes
// right afterwards: else the message would wait for its lease and count an attempt.
func TestC9WhatIsPutBackOutlivesACrash(t *testing.T) {
	t.Parallel()
	cluster := messagingtest.NewCluster(t)
	db := cluster.NewDB(t, beta(t))
	// Commits that don't wait for the disk are not taken there by the way.
	for _, statement := range []string{`ALTER SYSTEM SET wal_writer_delay = '10s'`, `SELECT pg_reload_conf()`} {
		if _, err := db.Admin.Exec(statement); err != nil {
			t.Fatal(err)
		}
	}
	b := db.NewBus(t, beta(t), quick)
	started := make(chan struct{}, 10)
	claimed := make(chan struct{})
	var calls atomic.Int32
	messaging.Handle(b, nothing[happened])
	messaging.Handle(b, func(ctx context.Context, tx *messaging.Tx, m work) error {
		started <- struct{}{}
		var err error
		switch calls.Add(1) {
		case 1:
			<-claimed
			_, err = tx.ExecContext(ctx, `SELECT pg_terminate_backend(pg_backend_pid())`)
		case 2:
			_, err = tx.ExecContext(ctx, `SELECT pg_sleep(4)`)
		}
		return err
	})
	id, _ := db.Send(t, work{body{N: 1}})
	messagingtest.Run(t, b)
	<-started
	if _, err := db.Admin.Exec(`CREATE TABLE public.flushed ()`); err != nil { // takes the claim along to the disk
		t.Fatal(err)
	}
	close(claimed)
	<-started // it was put back, and taken once more
	if err := cluster.Server().Restart(t.Context(), "immediate"); err != nil {
		t.Fatal(err)
	}
	messagingtest.Wait(t, "the message to be handled", func() bool {
		var n int
		err := db.Admin.Get(&n, `SELECT count(*) FROM messaging.inbox_beta WHERE message_id = $1`, id)
		return err == nil && n == 1
	})
	if n := calls.Load(); n != 3 {
		t.Errorf("the message was begun %d times, want 3: before the lost connection, before the crash, and after it", n)
	}
	if n := count(t, db.Admin, `SELECT attempts FROM messaging.inbox_beta WHERE message_id = $1`, id); n != 1 {
		t.Errorf("attempts: got %d, want 1", n)
	}
}

// A Preload that panics fails its messages and not the process.
func TestAPanicInPreload(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	b := db.NewBus(t, beta(t), quick)
	messaging.Handle(b, nothing[happened])
	messaging.Handle(b, func(ctx context.Context, tx *messaging.Tx, m work) error { return effect(ctx, tx, "beta", m.body) })
	b.Preload("beta", func(ctx context.Context, tx *messaging.Tx, list []messaging.Message) error {
		for _, m := range list {
			if strings.Contains(string(m.Payload), "poison") {
				panic("poison")
			}
		}
		return nil
	})
	messagingtest.Run(t, b)
	got := db.Deliver(t, work{body{N: 1}}, work{body{N: 2, Do: "poison"}}, work{body{N: 3}})
	if got[0] != "done" || !strings.HasPrefix(got[1], "dead: ") || got[2] != "done" {
		t.Errorf("outcomes: got %q, want the second dead and the others done", got)
	}
}

// What goes wrong in a middleware is the message's failure and tells why, like what
// goes wrong in a handler.
func TestMiddlewareThatFails(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	b := db.NewBus(t, beta(t), quick, func(c *messaging.Config) {
		c.Middleware = []message.HandlerMiddleware{func(next message.HandlerFunc) message.HandlerFunc {
			return func(m *message.Message) ([]*message.Message, error) {
				out, err := next(m)
				switch {
				case strings.Contains(string(m.Payload), "refuse"):
					err = errors.New("no entry")
				case strings.Contains(string(m.Payload), "panic"):
					panic("no way")
				}
				return out, err
			}
		}}
	})
	messaging.Handle(b, nothing[happened])
	messaging.Handle(b, func(ctx context.Context, tx *messaging.Tx, m work) error { return effect(ctx, tx, "beta", m.body) })
	messagingtest.Run(t, b)
	got := db.Deliver(t, work{body{N: 1}}, work{body{N: 2, Do: "refuse"}}, work{body{N: 3, Do: "panic"}})
	if got[0] != "done" || !strings.HasSuffix(got[1], "no entry") || !strings.HasSuffix(got[2], "panic: no way") {
		t.Errorf("outcomes: got %q, want the first done and the others dead, each with its reason", got)
	}
	if n := count(t, db.Admin, `SELECT count(*) FROM public.effects`); n != 1 {
		t.Errorf("effects: got %d, want 1", n)
	}
}

// What a handler gives as its reason may hold anything.
func TestOddReasonsAndMetadata(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	b := db.NewBus(t, beta(t), quick)
	messaging.Handle(b, nothing[happened])
	messaging.Handle(b, func(ctx context.Context, tx *messaging.Tx, m work) error {
		tx.Ignore("no such thing: \x00\xff")
		return nil
	})
	_, err := db.Admin.Exec(`INSERT INTO messaging.queue_beta (message_id, kind, metadata, payload)
		VALUES ($1, 'beta.work', '{"tenant": 7}', '{}'), ($2, 'beta.work', '[]', '{}')`, newID(), newID())
	if err != nil {
		t.Fatal(err)
	}
	messagingtest.Run(t, b)
	messagingtest.Wait(t, "both to be handled", func() bool {
		return count(t, db.Admin, `SELECT count(*) FROM messaging.inbox_beta WHERE outcome = 'ignored' AND attempts = 1`) == 2
	})
}

// C2: a lane that is too long for an index is found by the queue, not by the
// outbox; it stops nobody.
func TestC2RelayBuriesATooLongLane(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	a := bus(t, db, alpha(t))
	messagingtest.Run(t, a)
	var lane strings.Builder
	for lane.Len() < 10_000 {
		lane.WriteString(newID())
	}
	err := a.InTx(t.Context(), func(ctx context.Context, tx *messaging.Tx) error {
		return tx.Publish(laned{work{body{N: 1}}, lane.String()}, work{body{N: 2}})
	})
	if err != nil {
		t.Fatal(err)
	}
	messagingtest.Wait(t, "the neighbour in its queue", func() bool { return count(t, db.Admin, `SELECT count(*) FROM messaging.queue_beta`) == 1 })
	if n := count(t, db.Admin, `SELECT count(*) FROM messaging.outbox_alpha WHERE dead_reason IS NOT NULL`); n != 1 {
		t.Errorf("dead rows in the outbox: got %d, want 1", n)
	}
}

// laned is work in a lane of its own choice.
type laned struct {
	work
	lane string
}

func (l laned) Lane() string { return l.lane }

// C3: a subscriber that is migrated by itself gets its copies, and its speaker's
// relay isn't stopped by a queue that it may not write.
func TestC3ASubscriberMigratedAlone(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	a := bus(t, db, alpha(t))
	messagingtest.Run(t, a)
	late := messaging.Spec{Name: "later", Queues: []messaging.Queue{{Name: "later", Kinds: []string{"alpha.happened"}}}, Migrations: migrations(t)}
	if err := messaging.Migrate(t.Context(), db.Admin, messagingtest.Log(t), nil, late); err != nil {
		t.Fatal(err)
	}
	err := a.InTx(t.Context(), func(ctx context.Context, tx *messaging.Tx) error {
		return tx.Publish(happened{body{N: 1}}, work{body{N: 2}})
	})
	if err != nil {
		t.Fatal(err)
	}
	messagingtest.Wait(t, "the outbox to be empty", func() bool { return count(t, db.Admin, `SELECT count(*) FROM messaging.outbox_alpha`) == 0 })
	if n := count(t, db.Admin, `SELECT count(*) FROM messaging.queue_later`); n != 1 {
		t.Errorf("messages in the new queue: got %d, want 1", n)
	}
}

// C2: a batch that takes longer than a statement may is carried in smaller ones.
func TestC2RelayCarriesLessWhenItIsSlow(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	_, err := db.Admin.Exec(`
		CREATE FUNCTION public.slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.02); RETURN NEW; END';
		CREATE TRIGGER slow BEFORE INSERT ON messaging.queue_beta FOR EACH ROW EXECUTE FUNCTION public.slow();
		INSERT INTO messaging.outbox_alpha (message_id, kind, payload) SELECT gen_random_uuid(), 'beta.work', '{}' FROM generate_series(1, 100)`)
	if err != nil {
		t.Fatal(err)
	}
	impatient, err := sqlx.Open("pgx", db.DSN("alpha"))
	if err != nil {
		t.Fatal(err)
	}
	impatient.SetMaxOpenConns(1)
	t.Cleanup(func() {
		if err := impatient.Close(); err != nil {
			t.Error(err)
		}
	})
	if _, err := impatient.Exec(`SET statement_timeout = '1s'`); err != nil {
		t.Fatal(err)
	}
	messagingtest.Run(t, bus(t, db, alpha(t), func(c *messaging.Config) { c.DB = impatient }))
	messagingtest.Wait(t, "all messages to be carried", func() bool { return count(t, db.Admin, `SELECT count(*) FROM messaging.queue_beta`) == 100 })
}

// C20: a service that only listens has its day partitions, too.
func TestC20DaysOfAListener(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	const partitions = `SELECT count(*) FROM pg_inherits WHERE inhparent = 'messaging.inbox_delta'::regclass`
	var names []string
	if err := db.Admin.Select(&names, `SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'messaging.inbox_delta'::regclass AND inhrelid::regclass::text ~ '_d[0-9]+$'`); err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if _, err := db.Admin.Exec(`DROP TABLE ` + name); err != nil {
			t.Fatal(err)
		}
	}
	d := bus(t, db, delta(t))
	messaging.Handle(d, nothing[happened])
	messagingtest.Run(t, d)
	messagingtest.Wait(t, "today's and the next two days' partitions", func() bool { return count(t, db.Admin, partitions) == 4 })
}
