package messaging_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"example.com/orderflow/messaging"
	"example.com/orderflow/messaging/messagingtest"
)

// C9, C12, C17: under load the server ends sessions of consumers, relays and
// listeners, each while it is at work.
func TestC9C12C17SessionsAreCut(t *testing.T) {
	t.Parallel()
	f := newField(t, newDB(t))
	start(t, bus(t, f.DB, alpha(t), func(c *messaging.Config) {
		messaging.SetLimits(c, func(l *messaging.Limits) { l.Poll = 10 * time.Millisecond })
	}))
	for range 2 {
		b := f.NewBus(t, beta(t), quick, func(c *messaging.Config) {
			messaging.SetLimits(c, func(l *messaging.Limits) { l.Lease = 2 * time.Second }) // what a cut commit leaves behind
		})
		messaging.Handle(b, nothing[happened])
		messaging.Handle(b, func(ctx context.Context, tx *messaging.Tx, m work) error {
			if _, err := tx.ExecContext(ctx, `SELECT pg_sleep(0.001)`); err != nil {
				return err
			}
			return deed(ctx, tx, m.body)
		})
		start(t, b)
	}
	// The relay and the commits are short: held up a little, they can be hit.
	f.exec(`
		CREATE FUNCTION public.dawdle() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.005); RETURN NULL; END';
		CREATE CONSTRAINT TRIGGER dawdle AFTER DELETE ON messaging.outbox_alpha DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION public.dawdle();
		CREATE CONSTRAINT TRIGGER dawdle AFTER INSERT ON messaging.outbox_beta DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION public.dawdle()`)
	const active = ` AND datname = current_database() AND xact_start IS NOT NULL AND state IN ('active', 'idle in transaction') AND pid <> pg_backend_pid()`
	targets := []struct {
		who   string
		where string
		table string // where the load goes
	}{
		{"consumer", `usename = 'orderflow_beta'` + active, "queue_beta"},
		{"consumer in its commit", `usename = 'orderflow_beta' AND wait_event = 'PgSleep' AND lower(query) LIKE 'commit%'` + active, "queue_beta"},
		{"relay", `usename = 'orderflow_alpha'` + active, "outbox_alpha"},
		{"listener", `query LIKE 'LISTEN%' AND datname = current_database()`, "outbox_alpha"},
	}
	attacks := make([]*attack, len(targets))
	for i, x := range targets {
		attacks[i] = newAttack(t, x.who+" cut off by the server")
	}
	for range scaled(2, 20) {
		for i, x := range targets {
			f.put(x.table, "beta.work", 30, func(i int, b *body) {
				if i%2 == 0 {
					b.OrderID = orderID(i % 10)
				}
			})
			attacks[i].messages += 30
			hit := false
			for end := time.Now().Add(5 * time.Second); !hit && time.Now().Before(end); {
				hit = count(t, f.raw, `SELECT count(*) FILTER (WHERE pg_terminate_backend(pid)) FROM (SELECT pid FROM pg_stat_activity WHERE `+x.where+` LIMIT 1) s`) > 0
			}
			attacks[i].round(hit)
		}
	}
	f.settle(0)
}

// C9, C17: PostgreSQL is restarted without a checkpoint under load. What was
// promised, a commit that was answered, is done; nothing is half done or done twice.
func TestC9C17RestartsUnderLoad(t *testing.T) {
	t.Parallel()
	cluster := messagingtest.NewCluster(t)
	db := cluster.NewDB(t, alpha(t), beta(t), gamma(t), delta(t))
	f := newField(t, db)
	makeEffects(t, db.Admin)
	a := newAttack(t, "PostgreSQL restarted under load")
	sender := bus(t, db, alpha(t))
	start(t, sender)
	for range 2 {
		start(t, doer(t, db, quick))
	}
	var mu sync.Mutex
	var promised []int
	ctx, cancel := context.WithCancel(t.Context())
	var sending sync.WaitGroup
	var next atomic.Int64
	for range 3 {
		sending.Go(func() {
			for ctx.Err() == nil {
				n := int(next.Add(1)) - 1
				err := sender.InTx(ctx, func(_ context.Context, tx *messaging.Tx) error {
					return tx.Publish(work{body{N: n, OrderID: orderID(n % 500)}})
				})
				if err != nil {
					time.Sleep(10 * time.Millisecond) // the outcome is unknown: it may be done, or not at all
					continue
				}
				mu.Lock()
				promised = append(promised, n)
				mu.Unlock()
				time.Sleep(5 * time.Millisecond) // no backlog is wanted
			}
		})
	}
	for range scaled(2, 20) {
		// It hits when messages are on their way, here or there.
		hit := false
		for end := time.Now().Add(5 * time.Second); !hit && time.Now().Before(end); {
			var n int
			err := db.Admin.Get(&n, `SELECT (SELECT count(*) FROM messaging.queue_beta WHERE token IS NOT NULL) + (SELECT count(*) FROM messaging.outbox_alpha)`)
			hit = err == nil && n > 0
		}
		if err := cluster.Server().Restart(t.Context(), "immediate"); err != nil {
			t.Fatal(err)
		}
		a.round(hit)
		// Work is done again before the next one.
		mu.Lock()
		have := len(promised)
		mu.Unlock()
		within(t, time.Minute, "promises after the restart", func() bool {
			mu.Lock()
			defer mu.Unlock()
			return len(promised) > have+20
		})
	}
	cancel()
	sending.Wait()
	within(t, time.Minute, "everything to be done", func() bool {
		var n int
		err := f.raw.Get(&n, `SELECT (SELECT count(*) FROM messaging.queue_beta WHERE dead_reason IS NULL) + (SELECT count(*) FROM messaging.outbox_alpha)`)
		return err == nil && n == 0 // connections of the pool were cut, too
	})
	if n := count(t, f.raw, `SELECT count(*) FROM messaging.queue_beta`); n != 0 {
		t.Errorf("dead letters: got %d, want 0: a restart is no fault of a message", n)
	}
	a.messages = len(promised)
	var doneOnes []int
	if err := f.raw.Select(&doneOnes, `SELECT n FROM public.effects WHERE who = 'direct' ORDER BY n`); err != nil {
		t.Fatal(err)
	}
	for _, n := range promised {
		if _, found := slices.BinarySearch(doneOnes, n); !found {
			t.Errorf("message %d was promised and is lost", n)
		}
	}
	f.onlyDone(doneOnes)
	t.Logf("%d sent, %d promised, %d done", next.Load(), len(promised), len(doneOnes))
}

// onlyDone audits a field of which only some messages were sent for sure: those
// that were done are whole and once, of the others there is no trace.
func (f *field) onlyDone(list []int) {
	f.t.Helper()
	for what, query := range map[string]string{
		"works done, each once":   `SELECT count(DISTINCT n) FROM public.effects WHERE who = 'direct'`,
		"second parts of effects": `SELECT count(*) FROM public.effects WHERE who = 'queued'`,
		"works with both parts":   `SELECT count(*) FROM public.effects d JOIN public.effects q USING (n) WHERE d.who = 'direct' AND q.who = 'queued'`,
		"traces":                  `SELECT count(*) FROM messaging.inbox_beta WHERE kind = 'beta.work'`,
		"messages sent by them":   `SELECT (SELECT count(*) FROM messaging.outbox_beta) + (SELECT count(*) FROM messaging.log_beta)`,
	} {
		if n := count(f.t, f.raw, query); n != len(list) {
			f.t.Errorf("%s: got %d, want %d", what, n, len(list))
		}
	}
}

// C8, C9: real deadlocks, real serialization failures and lock waits, with
// neighbours in the same transaction: nobody pays for them with an attempt.
func TestC8C9Contention(t *testing.T) {
	t.Parallel()
	for _, way := range []string{"deadlock", "serialization failure", "lock wait", "lock wait past the limit"} {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			f := newField(t, newDB(t))
			a := newAttack(t, way)
			f.exec(`CREATE TABLE public.stock (sku integer PRIMARY KEY, n integer NOT NULL DEFAULT 0); INSERT INTO public.stock VALUES (1), (2); GRANT ALL ON public.stock TO PUBLIC`)
			f.exec(`ALTER DATABASE ` + f.Name + ` SET deadlock_timeout = '20ms'`)
			if way == "serialization failure" {
				f.exec(`ALTER DATABASE ` + f.Name + ` SET default_transaction_isolation = 'repeatable read'`)
			}
			statement := 5 * time.Second
			if way == "lock wait past the limit" {
				statement = 300 * time.Millisecond
			}
			var trouble atomic.Int64
			var armed atomic.Bool
			ready, goOn := make(chan struct{}), make(chan struct{})
			b := f.NewBus(t, beta(t), quick, func(c *messaging.Config) {
				c.DB, c.Consumers = f.impatient(statement, 5*time.Second), 1
			})
			messaging.Handle(b, nothing[happened])
			messaging.Handle(b, func(ctx context.Context, tx *messaging.Tx, m work) error {
				if err := deed(ctx, tx, m.body); err != nil || m.Do == "" {
					return err
				}
				if _, err := tx.ExecContext(ctx, `UPDATE public.stock SET n = n + 1 WHERE sku = 1`); err != nil {
					return err
				}
				if armed.CompareAndSwap(true, false) { // the test has its turn, once a round
					ready <- struct{}{}
					<-goOn
				}
				_, err := tx.ExecContext(ctx, `UPDATE public.stock SET n = n + 1 WHERE sku = 2`)
				if err != nil {
					trouble.Add(1)
				}
				return err
			})
			stop := start(t, b)
			const batch = 8
			rounds := scaled(2, 20)
			for range rounds {
				before := trouble.Load()
				armed.Store(true)
				f.send(batch, func(i int, m *work) {
					if i == batch/2 {
						m.Do = way
					}
				})
				a.messages = f.sent
				<-ready
				waited := f.contend(way, goOn)
				f.settle(0)
				a.round(waited && (way == "lock wait" || trouble.Load() > before))
			}
			stop()
			want := 0 // attempts beyond the first
			if way == "lock wait past the limit" {
				want = rounds // the message's own fault, as far as anybody can tell
			}
			if n := count(t, f.raw, `SELECT count(*) FROM messaging.inbox_beta WHERE attempts > 1`); n != want {
				t.Errorf("messages that paid with an attempt: got %d, want %d", n, want)
			}
			if n := count(t, f.raw, `SELECT n FROM public.stock WHERE sku = 2`); n != 2*rounds {
				t.Errorf("sum of the updates: got %d, want %d", n, 2*rounds)
			}
		})
	}
}

// contend is the other transaction: it updates what the handler is about to
// update, in the way of trouble wanted, and tells the handler to go on. It
// reports whether the handler waited for a lock, or had no reason to.
func (f *field) contend(way string, handler chan<- struct{}) (waited bool) {
	f.t.Helper()
	tx, err := f.raw.BeginTxx(f.t.Context(), nil)
	if err != nil {
		f.t.Fatal(err)
	}
	must := func(_ any, err error) {
		f.t.Helper()
		if err != nil {
			f.t.Errorf("the other transaction: %v", err)
		}
	}
	waiting := func(n int) bool {
		return count(f.t, f.raw, `SELECT count(DISTINCT pid) FROM pg_locks WHERE NOT granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) OR NOT granted AND locktype = 'transactionid'`) >= n
	}
	until := func(n int) bool {
		for end := time.Now().Add(3 * time.Second); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
			if waiting(n) {
				return true
			}
		}
		return false
	}
	must(tx.Exec(`SET LOCAL deadlock_timeout = '1min'`)) // it is not this one who gives way
	must(tx.Exec(`UPDATE public.stock SET n = n + 1 WHERE sku = 2`))
	switch way {
	case "serialization failure":
		must(nil, tx.Commit())
		handler <- struct{}{}
		return true
	case "deadlock":
		crossed := make(chan error, 1)
		go func() {
			_, err := tx.Exec(`UPDATE public.stock SET n = n + 0 WHERE sku = 1`)
			crossed <- err
		}()
		waited = until(1)
		handler <- struct{}{}
		must(nil, <-crossed)
	default:
		handler <- struct{}{}
		if waited = until(1); way == "lock wait past the limit" {
			time.Sleep(400 * time.Millisecond)
		}
	}
	must(nil, tx.Commit())
	return waited
}

// C4: a foreign transaction that writes in another database of the server, and an
// old snapshot in this one, delay nothing and lose nothing.
func TestC4ForeignTransactions(t *testing.T) {
	t.Parallel()
	f := newField(t, newDB(t))
	a := newAttack(t, "foreign write transaction and old snapshot held open")
	sender := bus(t, f.DB, alpha(t))
	start(t, sender)
	start(t, doer(t, f.DB))
	flow := func(n int) (p50, p99 time.Duration) {
		t.Helper()
		from := f.sent
		for range n {
			err := sender.InTx(t.Context(), func(_ context.Context, tx *messaging.Tx) error {
				return tx.Publish(work{body{N: f.sent, OrderID: orderID(f.sent % 50)}})
			})
			if err != nil {
				t.Fatal(err)
			}
			f.sent++
		}
		f.settle(0)
		var ms []float64
		err := f.raw.Select(&ms, `
			SELECT percentile_cont(p) WITHIN GROUP (ORDER BY extract(epoch FROM handled_at - sent_at) * 1000)
			FROM messaging.inbox_beta, unnest(ARRAY[0.5, 0.99]) p WHERE public.n_of(payload) >= $1 GROUP BY p ORDER BY p`, from)
		if err != nil || len(ms) != 2 {
			t.Fatalf("how long it took: %v, %v", ms, err)
		}
		return time.Duration(ms[0] * float64(time.Millisecond)), time.Duration(ms[1] * float64(time.Millisecond))
	}
	other := newField(t, messagingtest.NewDB(t, delta(t)))
	other.exec(`CREATE TABLE public.foreign_writes (n integer)`)
	each := scaled(100, 300)
	flow(each) // caches and pools fill
	base50, base99 := flow(each)
	for range scaled(2, 20) {
		write, snapshot := other.raw.MustBegin(), f.raw.MustBegin()
		if _, err := write.Exec(`INSERT INTO public.foreign_writes VALUES (1)`); err != nil {
			t.Fatal(err)
		}
		if _, err := snapshot.Exec(`SET TRANSACTION ISOLATION LEVEL REPEATABLE READ`); err != nil {
			t.Fatal(err)
		}
		seen := count(t, f.raw, `SELECT count(*) FROM public.effects`)
		var old int
		if err := snapshot.Get(&old, `SELECT count(*) FROM public.effects`); err != nil {
			t.Fatal(err)
		}
		p50, p99 := flow(each)
		var still int
		if err := snapshot.Get(&still, `SELECT count(*) FROM public.effects`); err != nil {
			t.Fatal(err)
		}
		a.round(old == seen && still == old && count(t, f.raw, `SELECT count(*) FROM public.effects`) > old)
		if err := errors.Join(write.Rollback(), snapshot.Rollback()); err != nil {
			t.Fatal(err)
		}
		t.Logf("p50 %s (alone %s), p99 %s (alone %s)", p50, base50, p99, base99)
		if p99 > 10*base99+time.Second {
			t.Errorf("p99 beside them %s, alone %s", p99, base99)
		}
	}
	a.messages = f.sent
}

// C12: the connection that hears the wake-ups is cut, or never comes about:
// polling serves.
func TestC12WakeUpsLost(t *testing.T) {
	t.Parallel()
	for _, way := range []string{"cut", "kept out"} {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			f := newField(t, newDB(t))
			a := newAttack(t, "listener "+way)
			start(t, doer(t, f.DB, func(c *messaging.Config) {
				if way == "kept out" {
					c.DSN = "host=/nowhere"
				}
			}))
			const listeners = `FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'`
			var slowest time.Duration
			for range scaled(2, 20) {
				if way == "cut" {
					within(t, 20*time.Second, "the listener", func() bool { return count(t, f.raw, `SELECT count(*) `+listeners) == 1 })
					count(t, f.raw, `SELECT count(*) FILTER (WHERE pg_terminate_backend(pid, 1000)) `+listeners)
				}
				deaf := count(t, f.raw, `SELECT count(*) `+listeners) == 0
				begun := time.Now()
				f.send(1, nil)
				f.settle(0)
				slowest = max(slowest, time.Since(begun))
				a.round(deaf)
			}
			a.messages = f.sent
			t.Logf("handled at the latest %s after it was sent (to reach: the poll interval of 1 s and 1 s)", slowest)
			if slowest > 20*time.Second {
				t.Errorf("a message waited %s for a consumer that didn't hear of it", slowest)
			}
		})
	}
}
