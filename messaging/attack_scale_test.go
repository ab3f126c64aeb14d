package messaging_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"example.com/orderflow/messaging"
)

// C1, C2, C5, C9: the order of every lane is kept while messages fail, while
// replicas of consumers and relays come and go, and while one of them is killed.
func TestC1C2C5C9OrderWhileReplicasComeAndGo(t *testing.T) {
	t.Parallel()
	f := newField(t, newDB(t))
	f.exec(stopAt)
	a := newAttack(t, "replica gone with messages in hand")
	start(t, bus(t, f.DB, alpha(t)))
	var retried atomic.Int64
	replica := func(number int) *messaging.Bus {
		b := f.NewBus(t, beta(t), quick, func(c *messaging.Config) {
			messaging.SetLimits(c, func(l *messaging.Limits) { l.Batch = 10 })
		})
		messaging.Handle(b, nothing[happened])
		messaging.Handle(b, func(ctx context.Context, tx *messaging.Tx, m work) error {
			if tx.Message().Attempt <= 2 && (m.N*7+number)%11 == 0 {
				retried.Add(1)
				return errors.New("not yet")
			}
			return deed(ctx, tx, m.body)
		})
		return b
	}
	lanes := scaled(30, 60)
	ctx, cancel := context.WithCancel(t.Context())
	var replicas sync.WaitGroup
	for r := range 3 {
		replicas.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				life, end := context.WithTimeout(ctx, time.Duration(50+rand.IntN(200))*time.Millisecond)
				if err := replica(r + i).Run(life); err != nil {
					t.Errorf("run a replica: %v", err)
				}
				end()
			}
		})
	}
	for round := range scaled(2, 20) {
		relay := start(t, bus(t, f.DB, alpha(t))) // one more of them
		v := victim{Service: "beta", Number: round, Point: []string{"in the handler", "in mid-batch"}[round%2], DSN: f.DSN("beta"), Batch: 4, Lease: time.Hour}
		a.round(f.strikeLoaded(v, lanes))
		f.exec(`UPDATE messaging.queue_beta SET due = clock_timestamp() WHERE token IS NOT NULL AND due > clock_timestamp() + interval '30 minutes'`) // the victim's lease ends
		within(t, time.Minute, "what it had in hand to be done", func() bool {                                                                        // a second death is another test's
			return count(t, f.raw, `SELECT count(*) FROM messaging.queue_beta WHERE crashes > 0 OR token IS NOT NULL AND due < clock_timestamp()`) == 0
		})
		relay()
	}
	within(t, 2*time.Minute, "everything to be done", func() bool {
		return count(t, f.raw, `SELECT count(*) FROM messaging.outbox_alpha`) == 0 && f.living() == 0
	})
	cancel()
	replicas.Wait()
	a.messages = f.sent
	f.audit(0)
	if n := f.inversions(); n != 0 {
		t.Errorf("works done before an earlier one of their order: got %d, want 0", n)
	}
	if retried.Load() == 0 {
		t.Error("no message was retried: the test proves nothing")
	}
	t.Logf("%d retries in %d lanes", retried.Load(), lanes)
}

// strikeLoaded kills v at its point while there is work for it: others take it away.
func (f *field) strikeLoaded(v victim, lanes int) bool {
	ctx, cancel := context.WithCancel(f.t.Context())
	var feeding sync.WaitGroup
	feeding.Go(func() {
		for ctx.Err() == nil {
			if f.living() > 4*lanes {
				time.Sleep(10 * time.Millisecond)
				continue
			}
			f.put("outbox_alpha", "beta.work", lanes, func(i int, b *body) { b.OrderID = orderID(i) })
			select {
			case <-ctx.Done():
			case <-time.After(50 * time.Millisecond):
			}
		}
	})
	defer feeding.Wait()
	defer cancel()
	return f.strike(v, isCut)
}

// drain runs a bus until n more works are done and returns how long that took.
func (f *field) drain(n int) time.Duration {
	f.t.Helper()
	var handled atomic.Int64
	enough := make(chan struct{})
	b := f.NewBus(f.t, beta(f.t))
	messaging.Handle(b, nothing[happened])
	messaging.Handle(b, func(ctx context.Context, tx *messaging.Tx, m work) error {
		if handled.Add(1) == int64(n) {
			close(enough)
		}
		return effect(ctx, tx, "backlog", m.body)
	})
	begun := time.Now()
	stop := start(f.t, b)
	select {
	case <-enough:
	case <-time.After(2 * time.Minute):
		f.t.Fatalf("%d of %d messages done in 2 minutes", handled.Load(), n)
	}
	took := time.Since(begun)
	stop()
	return took
}

// C4: neither a long backlog, nor dead letters, nor the remains of what was
// handled, which an old snapshot keeps, make a claim slower.
func TestC4BacklogAndDeadRows(t *testing.T) {
	t.Parallel()
	f := newField(t, newDB(t))
	a := newAttack(t, "claims beside a backlog, dead letters and dead rows")
	fill := func(n int, columns, values string) {
		f.exec(`
			INSERT INTO messaging.queue_beta (message_id, kind, lane, order_id, payload` + columns + `)
			SELECT gen_random_uuid(), 'beta.work', o, o::uuid, convert_to(format('{"n": %s, "order_id": "%s"}', n, o), 'UTF8')` + values + `
			FROM (SELECT n, '00000000-0000-7000-8000-' || lpad((n % 100000)::text, 12, '0') AS o FROM generate_series(1, ` + fmt.Sprint(n) + `) n) x`)
	}
	each, dead, backlog := scaled(1000, 3000), scaled(10_000, 100_000), scaled(100_000, 1_000_000)
	fill(3*each, "", "")
	f.drain(each) // caches and pools fill
	alone := f.drain(each)
	before := count(t, f.raw, `SELECT count(*) FROM messaging.inbox_beta`)
	f.exec(`TRUNCATE messaging.queue_beta`)

	old := f.raw.MustBegin()
	defer func() { _ = old.Rollback() }()
	if _, err := old.Exec(`SET TRANSACTION ISOLATION LEVEL REPEATABLE READ`); err != nil {
		t.Fatal(err)
	}
	if _, err := old.Exec(`SELECT count(*) FROM public.effects`); err != nil {
		t.Fatal(err)
	}
	fill(dead, "", "")
	f.exec(`DELETE FROM messaging.queue_beta`)
	fill(dead, ", dead_reason", ", 'dead'")
	begun := time.Now()
	fill(backlog, "", "")
	t.Logf("%d messages, %d dead letters and %d dead rows made in %s", backlog, dead, dead, time.Since(begun).Round(time.Millisecond))
	var worst time.Duration
	for range scaled(2, 20) {
		took := f.drain(each)
		worst = max(worst, took)
		a.round(f.living() > backlog/2)
	}
	a.messages = a.rounds * each
	ratio := worst.Seconds() / alone.Seconds()
	t.Logf("%d messages took at most %s, %s without: %.2f times", each, worst, alone, ratio)
	if worst > 5*alone+2*time.Second {
		t.Errorf("%d messages took %s beside backlog and dead rows, %s without", each, worst, alone)
	}
	if n, want := count(t, f.raw, `SELECT count(*) FROM messaging.queue_beta WHERE dead_reason IS NOT NULL`), dead; n != want {
		t.Errorf("dead letters: got %d, want %d", n, want)
	}
	traced := count(t, f.raw, `SELECT count(*) FROM messaging.inbox_beta`) - before
	effects := count(t, f.raw, `SELECT count(*) FROM public.effects`) - before
	if left := f.living(); traced+left != backlog || effects != traced {
		t.Errorf("of %d messages: %d left, %d traced and %d effects; want none lost or doubled", backlog, left, traced, effects)
	}
}

// C5: a message passes by long lanes whose first is in somebody's hand. To find it
// a claim reads past them all: that is what bounds their length.
func TestC5LongLanesStopNoOther(t *testing.T) {
	t.Parallel()
	f := newField(t, newDB(t))
	a := newAttack(t, "message sent beside long lanes")
	backlog := scaled(10_000, 30_000)
	f.exec(`
		INSERT INTO messaging.queue_beta (message_id, kind, lane, payload)
		SELECT gen_random_uuid(), 'beta.work', 'lane ' || n % 10, '{"n": -1}' FROM generate_series(1, $1::int) n`, backlog)
	f.exec(`UPDATE messaging.queue_beta SET token = 1, due = clock_timestamp() + interval '1 hour' WHERE id < (SELECT min(id) FROM messaging.queue_beta) + 10`)
	start(t, doer(t, f.DB))
	var slowest time.Duration
	for range scaled(2, 20) {
		begun := time.Now()
		f.send(1, nil)
		within(t, 30*time.Second, "a message of no lane", func() bool { return count(t, f.raw, `SELECT count(*) FROM public.effects WHERE n = $1`, f.sent-1) == 2 })
		slowest = max(slowest, time.Since(begun))
		a.round(f.living() == backlog)
	}
	a.messages = f.sent
	t.Logf("a message took at most %s beside %d that wait for the first of their ten lanes", slowest, backlog)
}

// C4: a great many delayed messages: those that are due are not slowed by them;
// and when they fall due none is early and none is lost.
func TestC4DelayedAtScale(t *testing.T) {
	t.Parallel()
	f := newField(t, newDB(t))
	a := newAttack(t, "message sent beside delayed ones")
	delayed, spread := scaled(10_000, 100_000), scaled(time.Second, 30*time.Second)
	b := f.NewBus(t, beta(t))
	messaging.Handle(b, nothing[happened])
	messaging.Handle(b, func(ctx context.Context, tx *messaging.Tx, m work) error {
		if m.Do != "" {
			return effect(ctx, tx, "living", m.body)
		}
		return nil
	})
	start(t, b)
	// one sends a message that is due and returns how long it took.
	one := func() time.Duration {
		begun := time.Now()
		f.send(1, func(_ int, m *work) { m.Do = "living" })
		within(t, time.Minute, "a message that is due", func() bool {
			return count(t, f.raw, `SELECT count(*) FROM public.effects WHERE n = $1`, f.sent-1) == 1
		})
		return time.Since(begun)
	}
	f.exec(`
		CREATE TABLE public.planned AS
		SELECT gen_random_uuid() AS message_id, interval '1 hour' + random() * $2::interval AS wait, NULL::timestamptz AS due FROM generate_series(1, $1::int);
		`, delayed, spread.String())
	var alone, beside time.Duration
	for range scaled(2, 20) {
		alone = max(alone, one())
	}
	f.exec(`
		INSERT INTO messaging.queue_beta (message_id, kind, payload, due)
		SELECT message_id, 'beta.work', '{"n": 0}', clock_timestamp() + wait FROM public.planned`)
	for range scaled(2, 20) {
		beside = max(beside, one())
		a.round(count(t, f.raw, `SELECT count(*) FROM messaging.queue_beta WHERE due > clock_timestamp()`) == delayed)
	}
	t.Logf("a message took at most %s beside %d delayed ones, %s without", beside, delayed, alone)
	if beside > 10*alone+2*time.Second {
		t.Errorf("a message took %s beside %d delayed ones, %s without", beside, delayed, alone)
	}
	// In one statement: a claim moves due.
	f.exec(`
		WITH moved AS (UPDATE messaging.queue_beta SET due = due - interval '1 hour' + interval '1 second' RETURNING message_id, due)
		UPDATE public.planned p SET due = m.due FROM moved m WHERE m.message_id = p.message_id`)
	within(t, 5*time.Minute, "the delayed ones to be done", func() bool { return f.living() == 0 })
	a.messages = delayed + f.sent
	var p struct{ Early, Handled, Late int }
	err := f.raw.Get(&p, `
		SELECT count(*) FILTER (WHERE i.started_at < p.due) AS early, count(i.message_id) AS handled,
		       (percentile_cont(0.99) WITHIN GROUP (ORDER BY extract(epoch FROM i.started_at - p.due) * 1000))::int AS late
		FROM public.planned p LEFT JOIN messaging.inbox_beta i USING (message_id)`)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d delayed, falling due in %s: p99 of their lateness %d ms", delayed, spread, p.Late)
	if p.Early > 0 || p.Handled != delayed {
		t.Errorf("of %d delayed messages: %d early, %d handled", delayed, p.Early, p.Handled)
	}
}

// C18: with a backlog of all classes express gets six of ten claims, standard
// three and bulk one, in every stretch of the way.
func TestC18ClassesDoNotStarve(t *testing.T) {
	t.Parallel()
	f := newField(t, newDB(t))
	a := newAttack(t, "ten claims from a backlog of all classes")
	const batch = 10
	rounds := scaled(2, 20)
	f.exec(`
		INSERT INTO messaging.queue_beta (message_id, kind, class, payload)
		SELECT gen_random_uuid(), 'beta.work', n % 3, convert_to(format('{"n": %s}', n), 'UTF8') FROM generate_series(1, $1::int) n`, 3*10*batch*(rounds+2))
	var mu sync.Mutex
	var classes []messaging.Class
	enough := make(chan struct{})
	b := f.NewBus(t, beta(t), func(c *messaging.Config) {
		c.Consumers = 1
		messaging.SetLimits(c, func(l *messaging.Limits) { l.Batch = batch })
	})
	messaging.Handle(b, nothing[happened])
	messaging.Handle(b, func(_ context.Context, tx *messaging.Tx, _ work) error {
		mu.Lock()
		defer mu.Unlock()
		if classes = append(classes, tx.Message().Class); len(classes) == rounds*10*batch {
			close(enough)
		}
		return nil
	})
	stop := start(t, b)
	select {
	case <-enough:
	case <-time.After(time.Minute):
		t.Fatal("the backlog wasn't worked off in a minute")
	}
	stop()
	a.messages = len(classes)
	var total [3]int
	for r := range rounds {
		var got [3]int
		for _, c := range classes[r*10*batch : (r+1)*10*batch] {
			got[c]++
			total[c]++
		}
		a.round(got[0] > 0 && got[1] > 0 && got[2] > 0)
	}
	for class, want := range []int{60, 30, 10} {
		share := total[class] / rounds // of 100
		if share < want/2 || share > want*2 {
			t.Errorf("class %d: got %d of 100, want about %d", class, share, want)
		}
	}
	t.Logf("express, standard and bulk got %d, %d and %d of %d", total[0], total[1], total[2], rounds*100)
}
