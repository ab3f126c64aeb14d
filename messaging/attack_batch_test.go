package messaging_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/jmoiron/sqlx"

	"example.com/orderflow/messaging"
	"example.com/orderflow/messaging/messagingtest"
)

// poisons are the ways in which a message spoils the transaction that it shares
// with its neighbours, after it has written its part of it.
var poisons = map[string]func(ctx context.Context, tx *messaging.Tx) error{
	"error": func(context.Context, *messaging.Tx) error { return errors.New("poison") },
	"panic": func(context.Context, *messaging.Tx) error { panic("poison") },
	"statement that fails": func(ctx context.Context, tx *messaging.Tx) error {
		_, err := tx.ExecContext(ctx, `SELECT 1 / 0`)
		return err
	},
	"queued write that fails": func(_ context.Context, tx *messaging.Tx) error {
		tx.Queue(`INSERT INTO public.effects (who, n) VALUES ('poison', 1 / 0)`)
		return nil
	},
	"statement past its limit": func(ctx context.Context, tx *messaging.Tx) error {
		_, err := tx.ExecContext(ctx, `SELECT pg_sleep(10)`)
		return err
	},
	idlePreload: func(context.Context, *messaging.Tx) error { return nil }, // its Preload does the harm
	"handler past its limit": func(_ context.Context, tx *messaging.Tx) error {
		<-time.After(600 * time.Millisecond) // it doesn't look at its context
		// It wakes up in a transaction that has long ended: nothing of this may ever be seen.
		_, err := tx.ExecContext(context.Background(), `INSERT INTO public.effects (who, n) VALUES ('late', 0)`)
		tx.Queue(`INSERT INTO public.effects (who, n) VALUES ('late', 0)`)
		return errors.Join(err, tx.Publish(done{body{N: -1}}))
	},
}

// idlePreload is the poison of which the Preload idles, until the server ends the session.
const idlePreload = "preload idle past its limit"

// C7, C8, C9, C19: whatever a message does to the transaction of its batch, its
// neighbours are done, once, and it becomes one dead letter.
func TestC7C8C9C19PoisonInABatch(t *testing.T) {
	t.Parallel()
	for way, spoil := range poisons {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			f := newField(t, newDB(t))
			a := newAttack(t, "poison in a batch: "+way)
			b := f.NewBus(t, beta(t), quick, func(c *messaging.Config) {
				c.DB = f.impatient(200*time.Millisecond, 250*time.Millisecond)
				messaging.SetLimits(c, func(l *messaging.Limits) {
					l.MaxAttempts = 3
					if way == "handler past its limit" || way == idlePreload {
						l.Slow, l.Alone = 100*time.Millisecond, 200*time.Millisecond
					}
				})
			})
			var shared atomic.Int64
			b.Preload("beta", func(ctx context.Context, tx *messaging.Tx, list []messaging.Message) error {
				tx.Loaded = len(list)
				idle := func(m messaging.Message) bool { return strings.Contains(string(m.Payload), idlePreload) }
				if !slices.ContainsFunc(list, idle) {
					return nil
				}
				if len(list) > 1 {
					shared.Add(1)
				}
				var pid int
				if err := tx.GetContext(ctx, &pid, `SELECT pg_backend_pid()`); err != nil {
					return err
				}
				for count(t, f.raw, `SELECT count(*) FROM pg_stat_activity WHERE pid = $1`, pid) > 0 {
					time.Sleep(10 * time.Millisecond)
				}
				_, err := tx.ExecContext(context.Background(), `SELECT 1`)
				return err
			})
			messaging.Handle(b, nothing[happened])
			messaging.Handle(b, func(ctx context.Context, tx *messaging.Tx, m work) error {
				if err := deed(ctx, tx, m.body); err != nil || m.Do == "" {
					return err
				}
				if tx.Loaded.(int) > 1 {
					shared.Add(1)
				}
				return spoil(ctx, tx)
			})
			start(t, b)
			const batch = 12
			for round := range scaled(2, 20) {
				before, bad := shared.Load(), rand.IntN(batch)
				f.send(batch, func(i int, m *work) {
					if i == bad {
						m.Do = way
					}
				})
				a.messages = f.sent
				f.settle(round + 1)
				a.round(shared.Load() > before)
			}
			if n := count(t, f.raw, `SELECT count(*) FROM public.effects WHERE who NOT IN ('direct', 'queued')`); n != 0 {
				t.Errorf("effects of the poison: got %d, want 0", n)
			}
			if n := count(t, f.raw, `SELECT count(*) FROM messaging.queue_beta WHERE attempts NOT BETWEEN 3 AND 4`); n != 0 {
				t.Errorf("dead letters after another number of attempts than three, or four with one in a batch that wasn't its alone: got %d", n)
			}
		})
	}
}

// impatient is a pool of beta whose server ends statements and idle transactions sooner.
func (f *field) impatient(statement, idle time.Duration) *sqlx.DB {
	f.t.Helper()
	cfg, err := pgx.ParseConfig(f.DSN("beta"))
	if err != nil {
		f.t.Fatal(err)
	}
	cfg.RuntimeParams["statement_timeout"] = strconv.FormatInt(statement.Milliseconds(), 10)
	cfg.RuntimeParams["idle_in_transaction_session_timeout"] = strconv.FormatInt(idle.Milliseconds(), 10)
	db := sqlx.NewDb(stdlib.OpenDB(*cfg), "pgx")
	f.t.Cleanup(func() {
		if err := db.Close(); err != nil {
			f.t.Errorf("close a pool: %v", err)
		}
	})
	return db
}

// C8, C19: a plain Watermill handler nacks in mid-batch: what it wrote in the
// message's transaction is gone, and what its neighbours wrote is there once.
func TestC8C19NackInABatch(t *testing.T) {
	t.Parallel()
	f := newField(t, newDB(t))
	a := newAttack(t, "nack in a batch")
	cfg := messaging.SubscriberConfig{DB: f.Service("beta"), DSN: f.DSN("beta"), Log: messagingtest.Log(t), Mode: messaging.Transactional}
	messaging.SetSubscriberLimits(&cfg, func(l *messaging.Limits) {
		l.MaxAttempts = 3
		l.Backoff = func(int) time.Duration { return 5 * time.Millisecond }
	})
	s := messaging.NewSubscriber(cfg)
	out, err := s.Subscribe(t.Context(), "beta")
	if err != nil {
		t.Fatal(err)
	}
	var tries atomic.Int64
	var reading sync.WaitGroup
	reading.Go(func() {
		for m := range out {
			if !f.plain(m) {
				tries.Add(1)
			}
		}
	})
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close the subscriber: %v", err)
		}
		reading.Wait()
	})
	const batch = 12
	for round := range scaled(2, 20) {
		before, bad := tries.Load(), rand.IntN(batch)
		f.send(batch, func(i int, m *work) {
			if i == bad {
				m.Do = "nack"
			}
		})
		within(t, time.Minute, "the queue of beta to be empty", func() bool { return f.living() == 0 })
		a.messages = f.sent
		a.round(tries.Load() == before+3)
		if n := count(t, f.raw, `SELECT count(*) FROM messaging.queue_beta WHERE dead_reason IS NOT NULL AND attempts = 3`); n != round+1 {
			t.Errorf("dead letters: got %d, want %d", n, round+1)
		}
	}
	if n, of := count(t, f.raw, `SELECT count(*) FROM public.effects`), count(t, f.raw, `SELECT count(DISTINCT n) FROM public.effects`); n != f.sent-a.rounds || of != n {
		t.Errorf("effects: got %d of %d messages, want %d, each once", n, of, f.sent-a.rounds)
	}
	if n := count(t, f.raw, `SELECT count(*) FROM public.effects WHERE lane = 'nack'`); n != 0 {
		t.Errorf("effects of nacked messages: got %d, want 0", n)
	}
}

// plain handles m as a plain Watermill handler would, and reports whether it acked.
func (f *field) plain(m *message.Message) bool {
	tx, ok := messaging.TxFrom(m.Context())
	if !ok {
		f.t.Errorf("message %s has no transaction", m.UUID)
		return m.Nack()
	}
	_, err := tx.ExecContext(m.Context(), `
		INSERT INTO public.effects (who, n, lane)
		SELECT 'plain', (p ->> 'n')::integer, p ->> 'do' FROM (SELECT convert_from($1::bytea, 'UTF8')::jsonb AS p) x`, []byte(m.Payload))
	if err != nil {
		f.t.Errorf("message %s: %v", m.UUID, err)
	}
	var nack bool
	if err := tx.GetContext(m.Context(), &nack, `SELECT convert_from($1::bytea, 'UTF8')::jsonb ? 'do'`, []byte(m.Payload)); err != nil {
		f.t.Errorf("message %s: %v", m.UUID, err)
	}
	if nack {
		m.Nack()
		return false
	}
	return m.Ack()
}

// C19: a Bus is ended in mid-batch, again and again: what it began is done, the
// rest is given back, no attempt is counted.
func TestC19ClosingInMidBatch(t *testing.T) {
	t.Parallel()
	f := newField(t, newDB(t))
	a := newAttack(t, "bus ended in mid-batch")
	for range scaled(2, 20) {
		f.send(40, nil)
		after, begun := int64(1+rand.IntN(30)), atomic.Int64{}
		ctx, cancel := context.WithCancel(t.Context())
		b := f.NewBus(t, beta(t), func(c *messaging.Config) { c.Consumers = 1 + rand.IntN(3) })
		messaging.Handle(b, nothing[happened])
		messaging.Handle(b, func(ctx context.Context, tx *messaging.Tx, m work) error {
			if begun.Add(1) == after {
				cancel()
				time.Sleep(20 * time.Millisecond) // so that the bus is at it, too
				if err := ctx.Err(); err != nil {
					t.Errorf("context of a handler while its bus ends: got %v, want one that goes on", err)
				}
			}
			return deed(ctx, tx, m.body)
		})
		if err := b.Run(ctx); err != nil {
			t.Errorf("run the bus: %v", err)
		}
		a.round(f.living() > 0 && begun.Load() >= after)
		a.messages = f.sent
		if n := count(t, f.raw, `SELECT count(*) FROM messaging.queue_beta WHERE token IS NOT NULL OR attempts > 0`); n != 0 {
			t.Errorf("messages left in hand or with an attempt counted: got %d, want 0", n)
		}
	}
	start(t, doer(t, f.DB))
	f.settle(0)
}
