package messaging_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"example.com/orderflow/messaging"
	"example.com/orderflow/messaging/messagingtest"
)

// C2: a row that no queue takes is marked dead in the outbox; its neighbours go on.
func TestC2RelayBuriesWhatNoQueueTakes(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	a, b := bus(t, db, alpha(t)), bus(t, db, beta(t))
	messaging.Handle(b, nothing[happened])
	messaging.Handle(b, func(ctx context.Context, tx *messaging.Tx, m work) error { return effect(ctx, tx, "beta", m.body) })
	insert := func(kind, payload string) {
		t.Helper()
		if _, err := db.Admin.Exec(`INSERT INTO messaging.outbox_alpha (message_id, kind, payload) VALUES ($1, $2, $3)`, newID(), kind, []byte(payload)); err != nil {
			t.Fatal(err)
		}
	}
	insert("beta.work", `{"n": 1}`)
	insert("nobody.knows", `{}`)
	insert("beta.work", fmt.Sprintf(`{"n": 2, "do": "%01048600d"}`, 0)) // more than a queue takes
	insert("beta.work", `{"n": 3}`)
	messagingtest.Run(t, a)
	messagingtest.Run(t, b)
	messagingtest.Wait(t, "both neighbours' effects", func() bool { return count(t, db.Admin, `SELECT count(*) FROM public.effects`) == 2 })
	if n := count(t, db.Admin, `SELECT count(*) FROM messaging.outbox_alpha WHERE dead_reason IS NOT NULL`); n != 2 {
		t.Errorf("dead rows in the outbox: got %d, want 2", n)
	}
	dead, _, err := operator(db).DeadLetters(t.Context(), messaging.DeadFilter{}, "", 10)
	if err != nil || len(dead) != 2 || dead[0].Queue != "outbox of alpha" {
		t.Errorf("dead letters: got %+v, %v; want the two in the outbox of alpha", dead, err)
	}
}

// C3: a queue that subscribes while the relay runs gets what is sent from then on.
func TestC3RelayLearnsNewSubscribers(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	a := bus(t, db, alpha(t))
	messagingtest.Run(t, a)
	send := func(n int) {
		t.Helper()
		err := a.InTx(t.Context(), func(ctx context.Context, tx *messaging.Tx) error { return tx.Publish(happened{body{N: n}}) })
		if err != nil {
			t.Fatal(err)
		}
		messagingtest.Wait(t, "the outbox to be empty", func() bool { return count(t, db.Admin, `SELECT count(*) FROM messaging.outbox_alpha`) == 0 })
	}
	send(1)
	late := messaging.Spec{Name: "late", Queues: []messaging.Queue{{Name: "late", Kinds: []string{"alpha.happened"}}}, Migrations: migrations(t)}
	if err := messaging.Migrate(t.Context(), db.Admin, messagingtest.Log(t), nil, alpha(t), late); err != nil {
		t.Fatal(err)
	}
	send(2)
	if n := count(t, db.Admin, `SELECT count(*) FROM messaging.queue_late`); n != 1 {
		t.Errorf("messages in the new queue: got %d, want 1", n)
	}
	for _, q := range []string{"beta", "delta"} {
		if n := count(t, db.Admin, `SELECT count(*) FROM messaging.queue_`+q); n != 2 {
			t.Errorf("messages in queue %s: got %d, want 2", q, n)
		}
	}
}

// C1, C2, C5: one sender's messages about one order reach the handler in order,
// with two relays and three consumers at work.
func TestC1C2C5OrderSurvivesReplicas(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	const lanes, each = 10, 30
	senders := []*messaging.Bus{bus(t, db, alpha(t)), bus(t, db, alpha(t))}
	for _, a := range senders {
		messagingtest.Run(t, a)
	}
	for range 3 {
		b := bus(t, db, beta(t))
		messaging.Handle(b, nothing[happened])
		messaging.Handle(b, func(ctx context.Context, tx *messaging.Tx, m work) error { return effect(ctx, tx, "beta", m.body) })
		messagingtest.Run(t, b)
	}
	var sending sync.WaitGroup
	for l := range lanes {
		sending.Go(func() {
			for n := range each {
				order := fmt.Sprintf("00000000-0000-7000-8000-%012d", l)
				err := senders[n%2].InTx(t.Context(), func(ctx context.Context, tx *messaging.Tx) error {
					return tx.Publish(work{body{N: n, OrderID: order}})
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	sending.Wait()
	messagingtest.Wait(t, "all effects", func() bool { return count(t, db.Admin, `SELECT count(*) FROM public.effects`) == lanes*each })
	inverted := count(t, db.Admin, `
		SELECT count(*) FROM (SELECT n, lag(n) OVER (PARTITION BY lane ORDER BY at, id) AS before FROM public.effects) e WHERE before > n`)
	if inverted != 0 {
		t.Errorf("messages handled before an earlier one of their order: got %d, want 0", inverted)
	}
}

// C6, C14: a message that comes twice has its effect once.
func TestC6C14ADuplicateHasNoEffect(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"transactional", "leased"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			db := newDB(t)
			var calls atomic.Int32
			queue, kind := "beta", "beta.work"
			var b *messaging.Bus
			if mode == "leased" {
				queue, kind = "gamma", "gamma.outside"
				b = db.NewBus(t, gamma(t))
				messaging.HandleOutside(b, func(ctx context.Context, m outside) (messaging.Record, error) {
					calls.Add(1)
					return func(ctx context.Context, tx *messaging.Tx) error { return effect(ctx, tx, "gamma", m.body) }, nil
				})
			} else {
				b = db.NewBus(t, beta(t))
				messaging.Handle(b, nothing[happened])
				messaging.Handle(b, func(ctx context.Context, tx *messaging.Tx, m work) error {
					calls.Add(1)
					return effect(ctx, tx, "beta", m.body)
				})
			}
			messagingtest.Run(t, b)
			for _, id := range []string{newID(), newID()} {
				for range 3 {
					_, err := db.Admin.Exec(`INSERT INTO messaging.queue_`+queue+` (message_id, kind, payload) VALUES ($1, $2, '{"n": 1}')`, id, kind)
					if err != nil {
						t.Fatal(err)
					}
					messagingtest.Wait(t, "the queue to be empty", func() bool { return count(t, db.Admin, `SELECT count(*) FROM messaging.queue_`+queue) == 0 })
				}
			}
			if n := count(t, db.Admin, `SELECT count(*) FROM public.effects`); n != 2 {
				t.Errorf("effects of two messages sent three times each: got %d, want 2", n)
			}
			// What a transactional handler did once more was rolled back; nothing outside
			// is to be called once more.
			if got := calls.Load(); mode == "leased" && got != 2 {
				t.Errorf("calls of the handler: got %d, want 2", got)
			}
		})
	}
}

// C6: a consumer that lost its messages while it was stopped can't commit what
// it did with them.
func TestC6ALostLeaseIsFenced(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	b := db.NewBus(t, beta(t))
	stolen := make(chan error, 1)
	var tries atomic.Int32
	messaging.Handle(b, nothing[happened])
	messaging.Handle(b, func(ctx context.Context, tx *messaging.Tx, m work) error {
		if tries.Add(1) == 1 {
			_, err := db.Admin.Exec(`UPDATE messaging.queue_beta SET token = token + 1`) // as another's claim would
			stolen <- err
		}
		return effect(ctx, tx, "first", m.body)
	})
	id, _ := db.Send(t, work{body{N: 1}})
	messagingtest.Run(t, b)
	if err := <-stolen; err != nil {
		t.Fatal(err)
	}
	// The thief is never heard of again: his lease ends.
	messagingtest.Wait(t, "the thief's token", func() bool {
		return count(t, db.Admin, `SELECT count(*) FROM messaging.queue_beta WHERE token IS NOT NULL`) == 1
	})
	if n := count(t, db.Admin, `SELECT count(*) FROM public.effects`); n != 0 {
		t.Fatalf("effects of the fenced consumer: got %d, want 0", n)
	}
	if _, err := db.Admin.Exec(`UPDATE messaging.queue_beta SET due = clock_timestamp()`); err != nil {
		t.Fatal(err)
	}
	messagingtest.Wait(t, "the effect", func() bool { return count(t, db.Admin, `SELECT count(*) FROM public.effects`) == 1 })
	if n := count(t, db.Admin, `SELECT attempts FROM messaging.inbox_beta WHERE message_id = $1`, id); n != 2 {
		t.Errorf("attempts: got %d, want 2", n)
	}
}

// C7: a handler that is too slow for a batch runs alone and doesn't hold up its
// neighbours; one that is too slow altogether fails.
func TestC7SlowHandlers(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	b := db.NewBus(t, beta(t), quick, func(c *messaging.Config) {
		messaging.SetLimits(c, func(l *messaging.Limits) {
			l.Slow, l.Alone, l.MaxAttempts = 100*time.Millisecond, 400*time.Millisecond, 3
		})
	})
	messaging.Handle(b, nothing[happened])
	messaging.Handle(b, func(ctx context.Context, tx *messaging.Tx, m work) error {
		if d, err := time.ParseDuration(m.Do); err == nil {
			time.Sleep(d) // a handler that doesn't look at its context
		}
		return effect(ctx, tx, "beta", m.body)
	})
	for n := range 10 {
		m := work{body{N: n}}
		switch n {
		case 3:
			m.Do = "200ms"
		case 6:
			m.Do = "700ms"
		}
		db.Send(t, m)
	}
	messagingtest.Run(t, b)
	messagingtest.Wait(t, "nine effects and a dead letter", func() bool {
		return count(t, db.Admin, `SELECT count(*) FROM messaging.queue_beta WHERE dead_reason IS NULL`) == 0
	})
	if n := count(t, db.Admin, `SELECT count(DISTINCT n) FROM public.effects`); n != 9 {
		t.Errorf("messages with an effect: got %d, want 9", n)
	}
	if n := count(t, db.Admin, `SELECT count(*) FROM public.effects`); n != 9 {
		t.Errorf("effects: got %d, want 9", n)
	}
	if n := count(t, db.Admin, `SELECT attempt FROM public.effects WHERE n = 3`); n != 2 {
		t.Errorf("the slow one succeeded at attempt %d, want 2: alone", n)
	}
	if n := count(t, db.Admin, `SELECT count(*) FROM messaging.queue_beta WHERE dead_reason LIKE '%time limit%'`); n != 1 {
		t.Errorf("dead letters for the time limit: got %d, want 1", n)
	}
}

// C7: many slow messages in one batch don't outlive their lease: what can't be
// begun in time is given back, and nobody is taken for dead.
func TestC7SlowBatchesGiveBack(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	b := db.NewBus(t, beta(t), quick, func(c *messaging.Config) {
		messaging.SetLimits(c, func(l *messaging.Limits) {
			l.Slow, l.Alone, l.Lease = 50*time.Millisecond, 500*time.Millisecond, time.Second
		})
	})
	messaging.Handle(b, nothing[happened])
	messaging.Handle(b, func(ctx context.Context, tx *messaging.Tx, m work) error {
		time.Sleep(200 * time.Millisecond)
		return effect(ctx, tx, "beta", m.body)
	})
	for n := range 20 {
		db.Send(t, work{body{N: n}})
	}
	messagingtest.Run(t, b)
	crashes := 0
	messagingtest.Wait(t, "all effects", func() bool {
		crashes = max(crashes, count(t, db.Admin, `SELECT coalesce(max(crashes), 0) FROM messaging.queue_beta`))
		return count(t, db.Admin, `SELECT count(*) FROM public.effects`) == 20
	})
	if crashes != 0 {
		t.Errorf("crashes counted: got %d, want 0: nobody died", crashes)
	}
}

// C9: what is no fault of the message doesn't count as an attempt.
func TestC9SomeFailuresDoNotCount(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	g := db.NewBus(t, gamma(t), quick)
	var calls atomic.Int32
	away := &url.Error{Op: "Post", URL: "http://provider", Err: errors.New("connection refused")}
	messaging.HandleOutside(g, func(ctx context.Context, m outside) (messaging.Record, error) {
		if calls.Add(1) <= 12 {
			return nil, fmt.Errorf("call the provider: %w", messaging.Later(time.Millisecond, away))
		}
		return func(ctx context.Context, tx *messaging.Tx) error { return effect(ctx, tx, "gamma", m.body) }, nil
	})
	b := db.NewBus(t, beta(t), quick)
	var tries atomic.Int32
	messaging.Handle(b, nothing[happened])
	messaging.Handle(b, func(ctx context.Context, tx *messaging.Tx, m work) error {
		if tries.Add(1) <= 12 {
			_, err := tx.ExecContext(ctx, `DO $$ BEGIN RAISE EXCEPTION 'deadlock' USING ERRCODE = '40P01'; END $$`)
			return err
		}
		return effect(ctx, tx, "beta", m.body)
	})
	messagingtest.Run(t, g)
	messagingtest.Run(t, b)
	got := db.Deliver(t, outside{body{N: 1}}, work{body{N: 2}})
	if !slices.Equal(got, []string{"done", "done"}) {
		t.Errorf("outcomes after 12 failures that don't count: got %q, want done", got)
	}
}

// C10: messages whose consumer died are tried one at a time, and one that was in
// hand at three deaths is dead.
func TestC10SuspectsRunAloneAndDie(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	b := db.NewBus(t, beta(t), func(c *messaging.Config) { c.Consumers = 4 })
	var atOnce, most atomic.Int32
	messaging.Handle(b, nothing[happened])
	messaging.Handle(b, func(ctx context.Context, tx *messaging.Tx, m work) error {
		n := atOnce.Add(1)
		defer atOnce.Add(-1)
		for old := most.Load(); n > old && !most.CompareAndSwap(old, n); old = most.Load() {
		}
		time.Sleep(5 * time.Millisecond)
		return effect(ctx, tx, "beta", m.body)
	})
	for n := range 20 {
		db.Send(t, work{body{N: n}})
	}
	// As twenty consumers leave them that died with a message each in hand, one
	// of them for the third time.
	_, err := db.Admin.Exec(`
		UPDATE messaging.queue_beta SET token = id, attempts = 1, due = clock_timestamp() - interval '1 second',
		       crashes = CASE WHEN id = (SELECT min(id) + 4 FROM messaging.queue_beta) THEN 2 ELSE 0 END`)
	if err != nil {
		t.Fatal(err)
	}
	messagingtest.Run(t, b)
	messagingtest.Wait(t, "19 effects and a dead letter", func() bool {
		return count(t, db.Admin, `SELECT count(*) FROM messaging.queue_beta WHERE dead_reason IS NULL`) == 0
	})
	if n := count(t, db.Admin, `SELECT count(*) FROM public.effects`); n != 19 {
		t.Errorf("effects: got %d, want 19", n)
	}
	if n := count(t, db.Admin, `SELECT count(*) FROM messaging.queue_beta WHERE dead_reason LIKE '%gone 3 times%'`); n != 1 {
		t.Errorf("dead letters for three deaths: got %d, want 1", n)
	}
	if got := most.Load(); got != 1 {
		t.Errorf("suspects in hand at once: got %d, want 1", got)
	}
}

// C16: a handler outside that takes longer than a lease keeps its message.
func TestC16ALeaseIsRenewed(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	g := db.NewBus(t, gamma(t), func(c *messaging.Config) {
		messaging.SetLimits(c, func(l *messaging.Limits) { l.Lease = 300 * time.Millisecond })
	})
	var calls atomic.Int32
	messaging.HandleOutside(g, func(ctx context.Context, m outside) (messaging.Record, error) {
		calls.Add(1)
		select {
		case <-time.After(1500 * time.Millisecond):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		return func(ctx context.Context, tx *messaging.Tx) error { return effect(ctx, tx, "gamma", m.body) }, nil
	})
	messagingtest.Run(t, g)
	if got := db.Deliver(t, outside{body{N: 1}}); got[0] != "done" {
		t.Errorf("outcome: got %q, want done", got)
	}
	if got := calls.Load(); got != 1 {
		t.Errorf("calls: got %d, want 1", got)
	}
}

// A Bus that is ended finishes what is in hand, gives back the rest and leaves
// no message with a token.
func TestC19ClosingDrains(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	b := db.NewBus(t, beta(t))
	started := make(chan struct{}, 100)
	messaging.Handle(b, nothing[happened])
	messaging.Handle(b, func(ctx context.Context, tx *messaging.Tx, m work) error {
		started <- struct{}{}
		time.Sleep(30 * time.Millisecond)
		return effect(ctx, tx, "beta", m.body)
	})
	for n := range 60 {
		db.Send(t, work{body{N: n}})
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx) }()
	<-started
	cancel()
	if err := <-done; err != nil {
		t.Fatalf("run: %v", err)
	}
	effects := count(t, db.Admin, `SELECT count(*) FROM public.effects`)
	left := count(t, db.Admin, `SELECT count(*) FROM messaging.queue_beta`)
	if effects == 0 || left == 0 || effects+left != 60 {
		t.Errorf("effects %d and messages left %d: want some of both, 60 together", effects, left)
	}
	if n := count(t, db.Admin, `SELECT count(*) FROM messaging.queue_beta WHERE token IS NOT NULL OR attempts > 0`); n != 0 {
		t.Errorf("messages left in hand or with an attempt counted: got %d, want 0", n)
	}
}

// A Bus that is told to end while it starts ends at once.
func TestEndingWhileStarting(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	for range 20 {
		b := db.NewBus(t, beta(t))
		messaging.Handle(b, nothing[happened])
		messaging.Handle(b, nothing[work])
		ctx, cancel := context.WithCancel(t.Context())
		go cancel()
		begun := time.Now()
		if err := b.Run(ctx); err != nil {
			t.Fatalf("run: %v", err)
		}
		if d := time.Since(begun); d > 10*time.Second {
			t.Fatalf("ending took %s", d)
		}
	}
}

// C12: when the connection that hears wake-ups is gone, polling takes over.
func TestC12LostWakeUps(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	b := db.NewBus(t, beta(t))
	messaging.Handle(b, nothing[happened])
	messaging.Handle(b, func(ctx context.Context, tx *messaging.Tx, m work) error { return effect(ctx, tx, "beta", m.body) })
	messagingtest.Run(t, b)
	db.Deliver(t, work{body{N: 1}})
	if n := count(t, db.Admin, `SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'`); n == 0 {
		t.Fatal("no listening connection was cut: the test proves nothing")
	}
	begun := time.Now()
	db.Deliver(t, work{body{N: 2}})
	t.Logf("handled %s after the connection was cut", time.Since(begun))
}

// A kind that nobody handles is found before anything runs.
func TestRunWithoutHandlers(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	if err := db.NewBus(t, beta(t)).Run(t.Context()); err == nil {
		t.Error("run without handlers: got nil, want an error")
	}
}
