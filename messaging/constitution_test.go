package messaging_test

import (
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"example.com/orderflow/messaging"
	"example.com/orderflow/messaging/messagingtest"
)

// rules are what the layer is built on. A test that proves some of them bears
// their numbers: TestC6C16… . go test ./messaging -run 'C6' runs the proofs of one
// (for C1 and C2: -run 'C1[^0-9]').
var rules = map[int]string{
	1:  "outbox ids follow the commits of every order",
	2:  "one relay at a time moves rows in order; what can't be moved is buried and stops nobody",
	3:  "an event goes into the log and every live subscriber's queue in one statement",
	4:  "due alone is visibility; dead rows are never scanned",
	5:  "claimable is what has no lane or is the first living one of it",
	6:  "a claim sets a token; an ack without it rolls back",
	7:  "limits of time, number and bytes of a batch",
	8:  "only the culprit of a batch fails",
	9:  "backoff, for the lane too; what is no fault of the message doesn't count",
	10: "suspects run one at a time and die at three crashes",
	11: "a dead letter stays in its place and is redriven there",
	12: "wake-ups by a NOTIFY of its own, bounded in number, the last never dropped; polling covers",
	13: "one migrator at a time; services wait for the version",
	14: "the inbox remembers what was handled, with the ack",
	15: "a replay is a new run",
	16: "intent before the call; renewal ends; recording is fenced",
	17: "only what moves messages relaxes its commit; an error from COMMIT is unknown",
	18: "classes get six, three and one of ten claims",
	19: "a transaction ends with its attempt; a handler outlives its bus's context",
	20: "tables are made for queues: vacuum, fill factor, day partitions",
	21: "requests carry a deadline, replies are swept",
}

// TestEveryRuleIsProven fails for a rule that no test of this folder names.
func TestEveryRuleIsProven(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	named, number := regexp.MustCompile(`^Test((?:C[0-9]+)+)`), regexp.MustCompile(`[0-9]+`)
	proofs := map[int][]string{}
	for _, file := range files {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range parsed.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok || f.Recv != nil {
				continue
			}
			for _, digits := range number.FindAllString(named.FindString(f.Name.Name), -1) {
				n, err := strconv.Atoi(digits)
				if err != nil || rules[n] == "" {
					t.Errorf("%s proves C%s, which is no rule", f.Name.Name, digits)
				}
				proofs[n] = append(proofs[n], f.Name.Name)
			}
		}
	}
	for n := 1; n <= len(rules); n++ {
		t.Logf("C%d, %s:\n    %s", n, rules[n], strings.Join(proofs[n], "\n    "))
		if len(proofs[n]) == 0 {
			t.Errorf("C%d, %s: no test proves it", n, rules[n])
		}
	}
}

// C1: transactions that lock their order first write the outbox in the order of
// their commits, however long each takes after it has published.
func TestC1OutboxFollowsCommits(t *testing.T) {
	t.Parallel()
	f := newField(t, newDB(t))
	f.exec(`CREATE TABLE public.orders (id uuid PRIMARY KEY, n integer NOT NULL DEFAULT 0); GRANT ALL ON public.orders TO PUBLIC`)
	for o := range 3 {
		f.exec(`INSERT INTO public.orders VALUES ($1)`, orderID(o))
	}
	a := f.NewBus(t, alpha(t))
	var senders sync.WaitGroup
	const senderCount, each = 6, 20
	for s := range senderCount {
		senders.Go(func() {
			for i := range each {
				order := orderID((s + i) % 3)
				err := a.InTx(t.Context(), func(ctx context.Context, tx *messaging.Tx) error {
					var n int
					err := tx.GetContext(ctx, &n, `UPDATE public.orders SET n = n + 1 WHERE id = $1 RETURNING n`, order)
					if err != nil {
						return err
					}
					if err := tx.Publish(work{body{N: 2 * n, OrderID: order}}); err != nil {
						return err
					}
					if _, err := tx.ExecContext(ctx, `SELECT pg_sleep($1)`, float64(s)/2000); err != nil {
						return err
					}
					return tx.Publish(work{body{N: 2*n + 1, OrderID: order}})
				})
				if err != nil {
					t.Errorf("send: %v", err)
				}
			}
		})
	}
	senders.Wait()
	last := map[string]int{}
	sent := f.Published(t, "alpha")
	for _, m := range sent {
		w := messagingtest.As[work](t, m)
		if w.N <= last[w.OrderID] {
			t.Errorf("order %s: message %d stands behind %d in the outbox", w.OrderID, w.N, last[w.OrderID])
		}
		last[w.OrderID] = w.N
	}
	if len(sent) != 2*senderCount*each {
		t.Errorf("messages in the outbox: got %d, want %d", len(sent), 2*senderCount*each)
	}
}

// C2: a relay waits for a row that somebody else has locked instead of passing it by.
func TestC2RelaySkipsNoLockedRow(t *testing.T) {
	t.Parallel()
	f := newField(t, newDB(t))
	f.put("outbox_alpha", "beta.work", 10, func(_ int, b *body) { b.OrderID = orderID(1) })
	tx := f.raw.MustBegin()
	if _, err := tx.Exec(`SELECT id FROM messaging.outbox_alpha ORDER BY id LIMIT 1 FOR UPDATE`); err != nil {
		t.Fatal(err)
	}
	start(t, bus(t, f.DB, alpha(t)))
	within(t, 20*time.Second, "the relay to wait for the row", func() bool {
		return count(t, f.raw, `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND usename = 'orderflow_alpha' AND wait_event = 'transactionid'`) > 0
	})
	if n := count(t, f.raw, `SELECT count(*) FROM messaging.queue_beta`); n != 0 {
		t.Errorf("rows that passed the locked one: got %d, want 0", n)
	}
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	within(t, 20*time.Second, "all to be carried", func() bool { return count(t, f.raw, `SELECT count(*) FROM messaging.queue_beta`) == 10 })
	var numbers []int
	if err := f.raw.Select(&numbers, `SELECT (convert_from(payload, 'UTF8')::jsonb ->> 'n')::int FROM messaging.queue_beta ORDER BY id`); err != nil {
		t.Fatal(err)
	}
	if !slices.IsSorted(numbers) {
		t.Errorf("order in the queue: got %v, want that of the outbox", numbers)
	}
}

// C7: no transaction handles more than 50 messages, nor goes on after a mebibyte
// or 50 ms; and no statement or idle transaction may take more than 5 s.
func TestC7BoundsOfABatch(t *testing.T) {
	t.Parallel()
	for way, c := range map[string]struct{ n, bytes, most int }{
		"number": {200, 0, 50},
		"bytes":  {20, 300_000, 3},
		"time":   {30, 0, 6},
	} {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			f := newField(t, newDB(t))
			f.send(c.n, func(_ int, m *work) { m.Do = strings.Repeat("x", c.bytes) })
			b := f.NewBus(t, beta(t))
			messaging.Handle(b, nothing[happened])
			messaging.Handle(b, func(ctx context.Context, tx *messaging.Tx, m work) error {
				if way == "time" {
					time.Sleep(15 * time.Millisecond)
				}
				return deed(ctx, tx, m.body)
			})
			start(t, b)
			f.settle(0)
			if n := count(t, f.raw, `SELECT max(n) FROM (SELECT count(*) AS n FROM messaging.inbox_beta GROUP BY xmin::text) t`); n > c.most {
				t.Errorf("messages in the largest transaction: got %d, want at most %d", n, c.most)
			}
			for _, setting := range []string{"statement_timeout", "idle_in_transaction_session_timeout"} {
				var value string
				if err := f.Service("beta").Get(&value, `SELECT current_setting($1)`, setting); err != nil || value != "5s" {
					t.Errorf("%s: got %s, %v; want 5s", setting, value, err)
				}
			}
		})
	}
}

// C9: the messages of a lane wait at least as long as the one before them that is
// tried again; others don't.
func TestC9ALaneWaitsForItsFirst(t *testing.T) {
	t.Parallel()
	f := newField(t, newDB(t))
	b := f.NewBus(t, beta(t), func(c *messaging.Config) {
		messaging.SetLimits(c, func(l *messaging.Limits) { l.Backoff = func(int) time.Duration { return time.Hour } })
	})
	messaging.Handle(b, nothing[happened])
	messaging.Handle(b, func(ctx context.Context, tx *messaging.Tx, m work) error {
		if m.N == 0 {
			return errors.New("not yet")
		}
		return deed(ctx, tx, m.body)
	})
	f.send(10, func(i int, m *work) { m.OrderID = orderID(i % 2) })
	start(t, b)
	within(t, 20*time.Second, "the other lane to be done", func() bool { return count(t, f.raw, `SELECT count(*) FROM public.effects`) == 10 })
	within(t, 20*time.Second, "its own lane to wait", func() bool {
		return count(t, f.raw, `SELECT count(*) FROM messaging.queue_beta WHERE due > clock_timestamp() + interval '50 minutes' AND token IS NULL`) == 5
	})
}

// C10: what a dead process had in hand is done one after the other without a pause:
// nobody waits for the next poll, which never comes here.
func TestC10SuspectsFollowEachOther(t *testing.T) {
	t.Parallel()
	for _, queue := range []string{"beta", "gamma"} {
		t.Run(queue, func(t *testing.T) {
			t.Parallel()
			f := newOutside(t)
			never := func(c *messaging.Config) {
				messaging.SetLimits(c, func(l *messaging.Limits) { l.Poll = time.Hour })
			}
			b := f.NewBus(t, gamma(t), never)
			if queue == "gamma" {
				f.sendOutside(16)
				handleOutside(b, newProvider(t).URL)
			} else {
				f.send(16, nil)
				b = doer(t, f.DB, never)
			}
			f.exec(`UPDATE messaging.queue_` + queue + ` SET token = id, attempts = 1, due = clock_timestamp() - interval '1 second'`)
			start(t, b)
			within(t, 20*time.Second, "all suspects to be done", func() bool { return count(t, f.raw, `SELECT count(*) FROM messaging.queue_`+queue) == 0 })
		})
	}
}

// C12: a burst makes few wake-ups, and the last is never dropped: where nothing
// polls everything is handled all the same.
func TestC12WakeUpsAreFewAndSure(t *testing.T) {
	t.Parallel()
	f := newField(t, newDB(t))
	never := func(c *messaging.Config) {
		messaging.SetLimits(c, func(l *messaging.Limits) { l.Poll = time.Hour })
	}
	a := bus(t, f.DB, alpha(t), never)
	start(t, a)
	start(t, doer(t, f.DB, never))
	conn, err := pgx.Connect(t.Context(), f.DSN(""))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Exec(t.Context(), `LISTEN queue_beta`); err != nil {
		t.Fatal(err)
	}
	heard, listening := 0, make(chan struct{})
	ctx, stop := context.WithCancel(t.Context())
	go func() {
		defer close(listening)
		for ; ; heard++ {
			if _, err := conn.WaitForNotification(ctx); err != nil {
				return
			}
		}
	}()
	begun := time.Now()
	for range scaled(2, 20) {
		for range 30 {
			err := a.InTx(t.Context(), func(_ context.Context, tx *messaging.Tx) error { return tx.Publish(work{body{N: f.sent}}) })
			if err != nil {
				t.Fatal(err)
			}
			f.sent++
		}
		f.settle(0)
	}
	took := time.Since(begun)
	stop()
	<-listening
	if err := conn.Close(context.WithoutCancel(t.Context())); err != nil {
		t.Error(err)
	}
	if most := int(took/(2*time.Millisecond)) + 1; heard == 0 || heard > most || heard > f.sent {
		t.Errorf("wake-ups in %s for %d messages: got %d, want 1 to %d", took, f.sent, heard, min(most, f.sent))
	}
	t.Logf("%d wake-ups for %d messages in %s", heard, f.sent, took)
}

// C13: migrators that start at the same time wait for each other, a service waits
// for its version, and doing it again changes nothing.
func TestC13MigratorsAndServicesWait(t *testing.T) {
	t.Parallel()
	f := newField(t, messagingtest.NewDB(t, alpha(t)))
	waiting := make(chan error, 1)
	go func() { waiting <- messaging.WaitMigrated(t.Context(), f.Admin, messagingtest.Log(t), beta(t)) }()
	lock := f.raw.MustBegin()
	if _, err := lock.Exec(`SELECT pg_advisory_xact_lock(hashtext('messaging.migrate'))`); err != nil {
		t.Fatal(err)
	}
	const migrators = 4
	ended := make(chan error, migrators)
	for range migrators {
		go func() {
			ended <- messaging.Migrate(t.Context(), f.raw, messagingtest.Log(t), nil, alpha(t), beta(t), delta(t))
		}()
	}
	select {
	case err := <-ended:
		t.Errorf("a migrator passed another's lock: %v", err)
	case err := <-waiting:
		t.Errorf("a service didn't wait for its version: %v", err)
	case <-time.After(500 * time.Millisecond):
	}
	if err := lock.Rollback(); err != nil {
		t.Fatal(err)
	}
	for range migrators {
		if err := <-ended; err != nil {
			t.Errorf("migrate: %v", err)
		}
	}
	if err := <-waiting; err != nil {
		t.Errorf("wait for the version: %v", err)
	}
	if n := count(t, f.raw, `SELECT count(*) FROM messaging.routes WHERE queue = 'beta'`); n != 2 {
		t.Errorf("routes to beta: got %d, want 2", n)
	}
}

// C17: the commit of an effect waits for the disk; those of claim, nack, relay
// and lease, which only move messages, don't.
func TestC17OnlyMovingRelaxesTheCommit(t *testing.T) {
	t.Parallel()
	f := newOutside(t)
	f.exec(`
		CREATE TABLE public.commits (what text NOT NULL, waits text NOT NULL);
		GRANT ALL ON public.commits TO PUBLIC;
		CREATE FUNCTION public.note_commit() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN
			INSERT INTO public.commits VALUES (TG_ARGV[0], current_setting('synchronous_commit'));
			RETURN NULL;
		END $$`)
	note := func(what, event, table, condition string) {
		f.exec(fmt.Sprintf(`CREATE CONSTRAINT TRIGGER %q AFTER %s ON messaging.%s DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (%s) EXECUTE FUNCTION public.note_commit('%s')`,
			what, event, table, condition, what))
	}
	note("moves: relay", "DELETE", "outbox_alpha", "true")
	note("effect: of the sender", "INSERT", "outbox_alpha", "true")
	for _, q := range []string{"beta", "gamma"} {
		note("moves: claim of "+q, "UPDATE", "queue_"+q, "NEW.token IS NOT NULL AND OLD.token IS NULL")
		note("moves: nack of "+q, "UPDATE", "queue_"+q, "NEW.token IS NULL AND OLD.token IS NOT NULL")
		note("effect: of "+q, "DELETE", "queue_"+q, "true")
	}
	note("moves: lease", "UPDATE", "queue_gamma", "NEW.token = OLD.token")
	a := bus(t, f.DB, alpha(t))
	b := f.NewBus(t, beta(t), quick)
	messaging.Handle(b, nothing[happened])
	messaging.Handle(b, func(ctx context.Context, tx *messaging.Tx, m work) error {
		if tx.Message().Attempt == 1 {
			return errors.New("not yet")
		}
		return deed(ctx, tx, m.body)
	})
	g := f.NewBus(t, gamma(t), func(c *messaging.Config) {
		messaging.SetLimits(c, func(l *messaging.Limits) {
			l.Lease, l.Backoff = 300*time.Millisecond, func(int) time.Duration { return time.Millisecond }
		})
	})
	messaging.HandleOutside(g, func(ctx context.Context, m outside) (messaging.Record, error) {
		if messaging.MessageFrom(ctx).Attempt == 1 {
			return nil, errors.New("not yet")
		}
		select {
		case <-time.After(500 * time.Millisecond):
		case <-ctx.Done():
		}
		return func(ctx context.Context, tx *messaging.Tx) error { return effect(ctx, tx, "gamma", m.body) }, nil
	})
	for _, x := range []*messaging.Bus{a, b, g} {
		start(t, x)
	}
	err := a.InTx(t.Context(), func(_ context.Context, tx *messaging.Tx) error {
		return tx.Publish(work{body{N: 1}}, outside{body{N: 2}})
	})
	if err != nil {
		t.Fatal(err)
	}
	within(t, 20*time.Second, "both to be done", func() bool { return count(t, f.raw, `SELECT count(*) FROM public.effects`) == 3 })
	var rows []struct{ What, Waits string }
	if err := f.raw.Select(&rows, `SELECT DISTINCT what, waits FROM public.commits ORDER BY what`); err != nil {
		t.Fatal(err)
	}
	if len(rows) != 9 {
		t.Errorf("kinds of commits seen: got %v, want each of nine in one way", rows)
	}
	for _, r := range rows {
		if want := map[bool]string{true: "off", false: "on"}[strings.HasPrefix(r.What, "moves")]; r.Waits != want {
			t.Errorf("synchronous_commit, %s: got %s, want %s", r.What, r.Waits, want)
		}
	}
}

// C20: queues and outboxes are vacuumed early and leave room in their pages; ids
// are the database's own; inboxes and logs are partitioned.
func TestC20TablesAreMadeForQueues(t *testing.T) {
	t.Parallel()
	f := newField(t, newDB(t))
	for _, table := range []string{"queue_beta", "queue_gamma", "outbox_alpha", "outbox_beta"} {
		var options string
		if err := f.raw.Get(&options, `SELECT array_to_string(reloptions, ' ') FROM pg_class WHERE oid = ('messaging.' || $1)::regclass`, table); err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"fillfactor=70", "autovacuum_vacuum_scale_factor=0", "autovacuum_vacuum_threshold=2000", "autovacuum_vacuum_cost_delay=0"} {
			if !strings.Contains(options, want) {
				t.Errorf("%s: got %q, want %s among it", table, options, want)
			}
		}
		if n := count(t, f.raw, `SELECT count(*) FROM information_schema.columns WHERE table_schema = 'messaging' AND table_name = $1 AND column_name = 'id' AND data_type = 'bigint' AND identity_generation = 'ALWAYS'`, table); n != 1 {
			t.Errorf("%s: its id is no identity of type bigint", table)
		}
	}
	for _, table := range []string{"inbox_beta", "log_alpha"} {
		if n := count(t, f.raw, `SELECT count(*) FROM pg_inherits WHERE inhparent = ('messaging.' || $1)::regclass`, table); n < 4 {
			t.Errorf("partitions of %s: got %d, want the rest and three days", table, n)
		}
	}
}
