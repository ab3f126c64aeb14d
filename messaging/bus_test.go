package messaging_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"example.com/orderflow/messaging"
	"example.com/orderflow/messaging/messagingtest"
)

func TestAMessageTravelsFromOutboxToHandler(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	a, b, g, d := bus(t, db, alpha(t)), bus(t, db, beta(t)), bus(t, db, gamma(t)), bus(t, db, delta(t))
	messaging.Handle(b, func(ctx context.Context, tx *messaging.Tx, m work) error { return effect(ctx, tx, "beta", m.body) })
	messaging.Handle(b, func(ctx context.Context, tx *messaging.Tx, m happened) error {
		return effect(ctx, tx, "beta heard", m.body)
	})
	messaging.Handle(d, func(ctx context.Context, tx *messaging.Tx, m happened) error {
		return effect(ctx, tx, "delta heard", m.body)
	})
	messaging.HandleOutside(g, func(ctx context.Context, m outside) (messaging.Record, error) {
		return func(ctx context.Context, tx *messaging.Tx) error { return effect(ctx, tx, "gamma", m.body) }, nil
	})
	for _, x := range []*messaging.Bus{a, b, g, d} {
		messagingtest.Run(t, x)
	}
	order := newID()
	ctx := messaging.WithCorrelation(t.Context(), "request-1")
	err := a.InTx(ctx, func(ctx context.Context, tx *messaging.Tx) error {
		return tx.Publish(work{body{N: 1, OrderID: order}}, outside{body{N: 2, OrderID: order}}, happened{body{N: 3, OrderID: order}})
	})
	if err != nil {
		t.Fatal(err)
	}
	messagingtest.Wait(t, "four effects", func() bool { return count(t, db.Admin, `SELECT count(*) FROM public.effects`) == 4 })
	for _, who := range []string{"beta", "beta heard", "delta heard", "gamma"} {
		if n := count(t, db.Admin, `SELECT count(*) FROM public.effects WHERE who = $1`, who); n != 1 {
			t.Errorf("effects of %s: got %d, want 1", who, n)
		}
	}
	if n := count(t, db.Admin, `SELECT count(*) FROM messaging.log_alpha WHERE kind = 'alpha.happened' AND correlation_id = 'request-1'`); n != 1 {
		t.Errorf("log rows: got %d, want 1: events are kept, commands are not", n)
	}
	if n := count(t, db.Admin, `SELECT count(*) FROM messaging.log_alpha`); n != 1 {
		t.Errorf("log rows in all: got %d, want 1", n)
	}
	if n := count(t, db.Admin, `SELECT count(*) FROM messaging.inbox_beta WHERE producer = 'alpha' AND correlation_id = 'request-1' AND outcome = 'done'`); n != 2 {
		t.Errorf("traces of beta: got %d, want 2", n)
	}
}

func TestNothingIsSentWithoutCommit(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	a := db.NewBus(t, alpha(t))
	boom := errors.New("boom")
	err := a.InTx(t.Context(), func(ctx context.Context, tx *messaging.Tx) error {
		if err := tx.Publish(work{body{N: 1}}); err != nil {
			return err
		}
		return boom
	})
	if !errors.Is(err, boom) {
		t.Errorf("error: got %v, want %v", err, boom)
	}
	if got := db.Published(t, "alpha"); len(got) != 0 {
		t.Errorf("published: got %v, want nothing", got)
	}
	err = a.InTx(t.Context(), func(ctx context.Context, tx *messaging.Tx) error { return tx.Publish(unknown{}) })
	if err == nil || !strings.Contains(err.Error(), "nobody.knows") {
		t.Errorf("publish of an undeclared kind: got %v, want an error that names it", err)
	}
}

// One culprit in a batch: its neighbours' effects happen once, its own not at
// all, and it ends as one dead letter after its attempts.
func TestC8OnlyTheCulpritFails(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"error", "panic", "sql", "dropped sql", "permanent"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			db := newDB(t)
			b := db.NewBus(t, beta(t), quick)
			var tries atomic.Int32
			messaging.Handle(b, nothing[happened])
			messaging.Handle(b, func(ctx context.Context, tx *messaging.Tx, m work) error {
				if err := effect(ctx, tx, "beta", m.body); err != nil || m.Do == "" {
					return err
				}
				tries.Add(1)
				switch m.Do {
				case "panic":
					panic("poison")
				case "sql":
					_, err := tx.ExecContext(ctx, `SELECT 1 / 0`)
					return err
				case "dropped sql":
					if _, err := tx.ExecContext(ctx, `SELECT 1 / 0`); err == nil {
						return errors.New("division by zero passed")
					}
					return nil
				case "permanent":
					return messaging.Permanent(errors.New("hopeless"))
				}
				return errors.New("poison")
			})
			var ids []string
			for n := range 20 {
				m := work{body{N: n, OrderID: newID()}}
				if n == 7 {
					m.Do = how
				}
				id, _ := db.Send(t, m)
				ids = append(ids, id)
			}
			messagingtest.Run(t, b)
			messagingtest.Wait(t, "19 effects and a dead letter", func() bool {
				return count(t, db.Admin, `SELECT count(*) FROM messaging.queue_beta WHERE dead_reason IS NULL`) == 0
			})
			if n := count(t, db.Admin, `SELECT count(*) FROM public.effects`); n != 19 {
				t.Errorf("effects: got %d, want 19", n)
			}
			if n := count(t, db.Admin, `SELECT count(DISTINCT n) FROM public.effects WHERE n <> 7`); n != 19 {
				t.Errorf("neighbours with an effect: got %d, want 19", n)
			}
			want := int32(8)
			if how == "permanent" {
				want = 1
			}
			if got := tries.Load(); got != want {
				t.Errorf("tries of the culprit: got %d, want %d", got, want)
			}
			dead, _, err := operator(db).DeadLetters(t.Context(), messaging.DeadFilter{}, "", 10)
			if err != nil || len(dead) != 1 || dead[0].MessageID != ids[7] || dead[0].Reason == "" {
				t.Fatalf("dead letters: got %+v, %v; want the one of message %s with a reason", dead, err, ids[7])
			}
		})
	}
}

// quick makes retries follow each other in milliseconds.
func quick(c *messaging.Config) {
	messaging.SetLimits(c, func(l *messaging.Limits) { l.Backoff = func(int) time.Duration { return 5 * time.Millisecond } })
}

func TestC11ADeadLetterIsRedrivenInItsPlace(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	b := db.NewBus(t, beta(t), quick)
	var healed atomic.Bool
	messaging.Handle(b, nothing[happened])
	messaging.Handle(b, func(ctx context.Context, tx *messaging.Tx, m work) error {
		if m.Do == "fail" && !healed.Load() {
			return messaging.Permanent(errors.New("not yet"))
		}
		return effect(ctx, tx, "beta", m.body)
	})
	messagingtest.Run(t, b)
	order := newID()
	got := db.Deliver(t, work{body{N: 1, OrderID: order, Do: "fail"}}, work{body{N: 2, OrderID: order}})
	if got[0] != "dead: not yet" || got[1] != "done" {
		t.Fatalf("outcomes: got %q, want a dead letter and a message done: the dead one stops nobody", got)
	}
	dead, _, err := operator(db).DeadLetters(t.Context(), messaging.DeadFilter{}, "", 10)
	if err != nil || len(dead) != 1 {
		t.Fatalf("dead letters: got %v, %v; want one", dead, err)
	}
	if _, err := operator(db).Redrive(t.Context(), messaging.DeadFilter{MessageIDs: []string{newID()}}, messaging.RedriveOptions{}); !errors.Is(err, messaging.ErrNoDeadLetter) {
		t.Errorf("redrive of an unknown id: got %v, want %v", err, messaging.ErrNoDeadLetter)
	}
	healed.Store(true)
	if n, err := operator(db).Redrive(t.Context(), messaging.DeadFilter{MessageIDs: []string{dead[0].MessageID}}, messaging.RedriveOptions{}); n != 1 || err != nil {
		t.Fatalf("redrive: got %d, %v; want 1", n, err)
	}
	messagingtest.Wait(t, "the redriven message's effect", func() bool {
		return count(t, db.Admin, `SELECT count(*) FROM public.effects WHERE n = 1`) == 1
	})
	if n, err := operator(db).Redrive(t.Context(), messaging.DeadFilter{}, messaging.RedriveOptions{}); n != 0 || err != nil {
		t.Errorf("redrive all afterwards: got %d, %v; want 0", n, err)
	}
}

// The messages of one order are handled in the order sent, one at a time, while
// some of them fail and others of other orders overtake.
func TestC5C9ALaneKeepsItsOrder(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	b := db.NewBus(t, beta(t), quick, func(c *messaging.Config) { c.Consumers = 4 })
	messaging.Handle(b, nothing[happened])
	messaging.Handle(b, func(ctx context.Context, tx *messaging.Tx, m work) error {
		if tx.Message().Attempt == 1 && m.N%7 == 3 {
			return errors.New("not at the first try")
		}
		return effect(ctx, tx, "beta", m.body)
	})
	const lanes, each = 20, 15
	for i := range each {
		for l := range lanes {
			db.Send(t, work{body{N: i, OrderID: fmt.Sprintf("00000000-0000-7000-8000-%012d", l)}})
		}
	}
	messagingtest.Run(t, b)
	messagingtest.Wait(t, "all effects", func() bool { return count(t, db.Admin, `SELECT count(*) FROM public.effects`) == lanes*each })
	inverted := count(t, db.Admin, `
		SELECT count(*) FROM (SELECT n, lag(n) OVER (PARTITION BY lane ORDER BY at, id) AS before FROM public.effects) e WHERE before > n`)
	if inverted != 0 {
		t.Errorf("messages handled before an earlier one of their order: got %d, want 0", inverted)
	}
	if n := count(t, db.Admin, `SELECT count(*) FROM public.effects WHERE attempt > 1`); n == 0 {
		t.Error("no message was retried: the test proves nothing")
	}
}

func TestC14IgnoredMessagesAreTracedAsSuch(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	b := db.NewBus(t, beta(t))
	messaging.Handle(b, nothing[happened])
	messaging.Handle(b, func(ctx context.Context, tx *messaging.Tx, m work) error {
		tx.Ignore("late")
		return nil
	})
	messagingtest.Run(t, b)
	if got := db.Deliver(t, work{body{N: 1}}); got[0] != "ignored" {
		t.Errorf("outcome: got %q, want ignored", got)
	}
	if n := count(t, db.Admin, `SELECT count(*) FROM messaging.inbox_beta WHERE note = 'late'`); n != 1 {
		t.Errorf("traces with the reason: got %d, want 1", n)
	}
}

func TestPayloadsThatCannotBeReadDieAtOnce(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	b := db.NewBus(t, beta(t))
	messaging.Handle(b, nothing[happened])
	messaging.Handle(b, nothing[work])
	messagingtest.Run(t, b)
	insert := func(kind, version, payload string) {
		t.Helper()
		_, err := db.Admin.Exec(`INSERT INTO messaging.queue_beta (message_id, kind, schema_version, payload) VALUES ($1, $2, $3, $4)`,
			newID(), kind, version, []byte(payload))
		if err != nil {
			t.Fatal(err)
		}
	}
	insert("beta.work", "1", `{"n": `)
	insert("beta.work", "1", ``)
	insert("beta.work", "2", `{"n": 1}`)
	insert("beta.unheard_of", "1", `{}`)
	messagingtest.Wait(t, "four dead letters", func() bool {
		return count(t, db.Admin, `SELECT count(*) FROM messaging.queue_beta WHERE dead_reason IS NOT NULL AND attempts = 1`) == 4
	})
	for _, want := range []string{"payload is no beta.work", "schema version 2", "doesn't know beta.unheard_of"} {
		if n := count(t, db.Admin, `SELECT count(*) FROM messaging.queue_beta WHERE dead_reason LIKE '%' || $1 || '%'`, want); n == 0 {
			t.Errorf("no dead letter says %q", want)
		}
	}
}

func TestC4C5ADelayedMessageWaits(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	a, b := bus(t, db, alpha(t)), bus(t, db, beta(t))
	messaging.Handle(b, nothing[happened])
	messaging.Handle(b, func(ctx context.Context, tx *messaging.Tx, m work) error { return effect(ctx, tx, "beta", m.body) })
	messagingtest.Run(t, a)
	messagingtest.Run(t, b)
	order := newID()
	var published time.Time // by the server's clock; what is sent is written later
	if err := db.Admin.Get(&published, `SELECT clock_timestamp()`); err != nil {
		t.Fatal(err)
	}
	err := a.InTx(t.Context(), func(ctx context.Context, tx *messaging.Tx) error {
		return tx.Publish(messaging.After(work{body{N: 1, OrderID: order}}, 700*time.Millisecond), work{body{N: 2, OrderID: order}})
	})
	if err != nil {
		t.Fatal(err)
	}
	messagingtest.Wait(t, "both effects", func() bool { return count(t, db.Admin, `SELECT count(*) FROM public.effects`) == 2 })
	waited := count(t, db.Admin, `SELECT (extract(epoch FROM started_at - $1::timestamptz) * 1000)::int FROM messaging.inbox_beta WHERE lane IS NULL`, published)
	if waited < 700 || waited > 7000 {
		t.Errorf("the delayed message waited %d ms, want 700 ms and little more", waited)
	}
	if first := count(t, db.Admin, `SELECT n FROM public.effects ORDER BY at, id LIMIT 1`); first != 2 {
		t.Errorf("handled first: got %d, want 2: a delayed message keeps no place in its lane", first)
	}
}
