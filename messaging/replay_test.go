package messaging_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"

	"example.com/orderflow/messaging"
	"example.com/orderflow/messaging/messagingtest"
)

// view is a group that may be replayed: it hears alpha, takes work and keeps
// every handling of it in effects, under who run<n>.
func view(t testing.TB) messaging.Spec {
	return messaging.Spec{Name: "view", Migrations: migrations(t), Queues: []messaging.Queue{
		{Name: "view", Kinds: []string{"alpha.happened", "view.note"}, Replayable: true},
	}}
}

// note is a command in the same queue.
type note struct{ body }

func (note) Kind() string { return "view.note" }

// speaker is alpha, which also commands view.
func speaker(t testing.TB) messaging.Spec {
	s := alpha(t)
	s.Sends = append(s.Sends, "view.note")
	return s
}

func newViewDB(t testing.TB, specs ...messaging.Spec) *messagingtest.DB {
	t.Helper()
	db := messagingtest.NewDB(t, append([]messaging.Spec{speaker(t), beta(t), delta(t)}, specs...)...)
	_, err := db.Admin.Exec(`
		CREATE TABLE public.effects (id bigint GENERATED ALWAYS AS IDENTITY, who text NOT NULL, n integer NOT NULL, lane text, attempt integer, at timestamptz NOT NULL DEFAULT clock_timestamp());
		GRANT ALL ON public.effects TO PUBLIC; GRANT USAGE ON SCHEMA public TO PUBLIC`)
	if err != nil {
		t.Fatalf("make the table of effects: %v", err)
	}
	return db
}

func viewBus(t testing.TB, db *messagingtest.DB, options ...func(*messaging.Config)) *messaging.Bus {
	t.Helper()
	b := db.NewBus(t, view(t), append([]func(*messaging.Config){quick}, options...)...)
	messaging.Handle(b, func(ctx context.Context, tx *messaging.Tx, m happened) error {
		return effect(ctx, tx, fmt.Sprintf("run%d", tx.Message().Run), m.body)
	})
	messaging.Handle(b, func(ctx context.Context, tx *messaging.Tx, m note) error { return effect(ctx, tx, "note", m.body) })
	return b
}

// lane is one of twenty orders', of more where there are many events: what an
// order waits for is never much.
func lane(n int) string {
	lanes := 20
	if long() {
		lanes = 2000
	}
	return fmt.Sprintf("00000000-0000-7000-8000-%012d", n%lanes)
}

// logEvents writes n events of alpha, the first of number from, into its log as
// its relay does.
func logEvents(t testing.TB, db *messagingtest.DB, from, n int) {
	t.Helper()
	_, err := db.Admin.Exec(`
		INSERT INTO messaging.log_alpha (message_id, kind, schema_version, lane, class, order_id, occurred_at, payload)
		SELECT gen_random_uuid(), 'alpha.happened', 1, l, 1, l::uuid, clock_timestamp(), convert_to(format('{"n": %s, "order_id": "%s"}', i, l), 'UTF8')
		FROM generate_series($1::int, $1::int + $2::int - 1) i, format('00000000-0000-7000-8000-%s', lpad((i % 20)::text, 12, '0')) l`, from, n)
	if err != nil {
		t.Fatal(err)
	}
}

func publish(t testing.TB, b *messaging.Bus, bodies ...messaging.Body) {
	t.Helper()
	if t.Failed() {
		return
	}
	if err := b.InTx(t.Context(), func(ctx context.Context, tx *messaging.Tx) error { return tx.Publish(bodies...) }); err != nil {
		t.Error(err)
	}
}

// drained waits until everything sent is handled.
func drained(t testing.TB, db *messagingtest.DB, queues ...string) {
	t.Helper()
	messagingtest.Wait(t, "outbox and queues to be empty", func() bool {
		left := count(t, db.Admin, `SELECT count(*) FROM messaging.outbox_alpha`)
		for _, q := range queues {
			left += count(t, db.Admin, `SELECT count(*) FROM messaging.queue_`+q)
		}
		return left == 0
	})
}

// C15: while new events keep coming, every event of the log is handled once more,
// in the order of its lane, and what comes after the switch to live is handled
// once: nothing is lost or doubled between the two, and nobody else notices.
func TestC15ReplayUnderLoad(t *testing.T) {
	t.Parallel()
	db := newViewDB(t, view(t))
	before, during := 500, 500
	if long() {
		before, during = 20_000, 20_000
	}
	a := bus(t, db, speaker(t))
	messagingtest.Run(t, a)
	for range 2 {
		messagingtest.Run(t, viewBus(t, db))
	}
	d := db.NewBus(t, delta(t))
	messaging.Handle(d, func(ctx context.Context, tx *messaging.Tx, m happened) error { return effect(ctx, tx, "delta", m.body) })
	messagingtest.Run(t, d)
	send := func(from, n int) {
		for i := from; i < from+n; i += 10 {
			var list []messaging.Body
			for k := i; k < i+10; k++ {
				list = append(list, happened{body{N: k, OrderID: lane(k)}})
			}
			publish(t, a, append(list, note{body{N: i, OrderID: lane(i)}})...)
		}
	}
	send(0, before)
	drained(t, db, "view")
	var load sync.WaitGroup
	half, live := make(chan struct{}), make(chan struct{})
	load.Go(func() {
		send(before, during)
		close(half)
		for ended := false; !ended && !t.Failed(); during += 50 { // until the replay has ended, and once more
			select {
			case <-live:
				ended = true
			default:
			}
			send(before+during, 50)
			if !ended { // a busy machine must be able to follow
				messagingtest.Wait(t, "the relay", func() bool { return count(t, db.Admin, `SELECT count(*) FROM messaging.outbox_alpha`) == 0 })
			}
		}
	})
	opts := messaging.ReplayOptions{Reason: "a test"}
	messaging.SetPage(&opts, 100)
	var reports []messaging.Replay
	opts.Progress = func(r messaging.Replay) {
		reports = append(reports, r)
		if len(reports) == 3 {
			<-half // so that there is something to come after the switch, and in the log before it
		}
	}
	r, err := messaging.NewOperator(db.Admin, "test").Replay(t.Context(), "view", opts)
	close(live)
	load.Wait()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d of %d events copied", r.Copied, before+during)
	drained(t, db, "view", "delta")

	all := before + during
	if n := count(t, db.Admin, `SELECT count(*) FROM messaging.log_alpha`); n != all {
		t.Fatalf("events in the log: got %d, want %d", n, all)
	}
	switchedAt := count(t, db.Admin, `SELECT count(*) FROM messaging.log_alpha WHERE id <= (SELECT position FROM messaging.replay_positions)`)
	if switchedAt != int(r.Copied) || switchedAt < before || switchedAt == all {
		t.Errorf("events copied: got %d, want the %d up to the position, at least %d and fewer than %d", r.Copied, switchedAt, before, all)
	}
	wrong := count(t, db.Admin, `
		SELECT count(*)
		FROM messaging.log_alpha l
		LEFT JOIN (SELECT message_id, count(*) FILTER (WHERE run = 1) AS again, count(*) FILTER (WHERE run = 0) AS live
		           FROM messaging.inbox_view WHERE consumer = 'view' GROUP BY message_id) i USING (message_id)
		WHERE CASE WHEN l.id <= (SELECT position FROM messaging.replay_positions) THEN coalesce(i.again, 0) <> 1 OR i.live > 1
		           ELSE coalesce(i.live, 0) <> 1 OR i.again <> 0 END`)
	if wrong != 0 {
		t.Errorf("events not handled exactly once, replayed or live: got %d, want 0", wrong)
	}
	for who, want := range map[string]int{"delta": all, "run1": switchedAt, "note": all / 10} {
		if n, m := count(t, db.Admin, `SELECT count(*) FROM public.effects WHERE who = $1`, who), count(t, db.Admin, `SELECT count(DISTINCT n) FROM public.effects WHERE who = $1`, who); n != want || m != want {
			t.Errorf("effects of %s: got %d of %d messages, want %d of as many", who, n, m, want)
		}
	}
	inverted := count(t, db.Admin, `
		SELECT count(*) FROM (
			SELECT n, lag(n) OVER (PARTITION BY lane ORDER BY id) AS before FROM public.effects
			WHERE who = 'run1' OR who = 'run0' AND n >= $1) e
		WHERE before >= n`, switchedAt)
	if inverted != 0 {
		t.Errorf("events handled before an earlier one of their lane: got %d, want 0", inverted)
	}
	if len(reports) < 3 {
		t.Fatalf("reports of progress: got %d, want one per page", len(reports))
	}
	for i, p := range reports {
		if p.Read > p.Total || i > 0 && (p.Read < reports[i-1].Read || p.Copied < reports[i-1].Copied) {
			t.Errorf("progress %d: got %d of %d after %+v, want it to grow up to the total", i, p.Read, p.Total, reports[max(0, i-1)])
		}
	}
	if last := reports[len(reports)-1]; last.FinishedAt == nil || last.Copied != r.Copied {
		t.Errorf("last report: got %+v, want that of the end", last)
	}
}

// C15: who has a message of the old run in hand when it is taken from him can't
// commit what he did, whatever the new run has done with it by then.
func TestC15AnOldRunIsFenced(t *testing.T) {
	t.Parallel()
	db := newViewDB(t, view(t))
	a := bus(t, db, speaker(t))
	messagingtest.Run(t, a)
	inHand, released := make(chan struct{}), make(chan struct{})
	release := sync.OnceFunc(func() { close(released) })
	slow := db.NewBus(t, view(t), func(c *messaging.Config) {
		messaging.SetLimits(c, func(l *messaging.Limits) { l.Slow, l.Alone, l.Lease = time.Minute, time.Minute, time.Minute })
	})
	var stopped atomic.Bool
	messaging.Handle(slow, func(ctx context.Context, tx *messaging.Tx, m happened) error {
		if stopped.CompareAndSwap(false, true) {
			close(inHand)
			<-released
			return effect(ctx, tx, "old", m.body)
		}
		return effect(ctx, tx, "run", m.body)
	})
	messaging.Handle(slow, nothing[note])
	messagingtest.Run(t, slow)
	t.Cleanup(release)
	publish(t, a, happened{body{N: 1, OrderID: lane(1)}})
	<-inHand
	// It idles in its transaction with the message in hand; the new run overtakes it.
	fast := viewBus(t, db)
	messagingtest.Run(t, fast)
	if _, err := messaging.NewOperator(db.Admin, "test").Replay(t.Context(), "view", messaging.ReplayOptions{}); err != nil {
		t.Fatal(err)
	}
	messagingtest.Wait(t, "the new run's effect", func() bool { return count(t, db.Admin, `SELECT count(*) FROM public.effects`) == 1 })
	release()
	publish(t, a, happened{body{N: 2, OrderID: lane(1)}})
	messagingtest.Wait(t, "the next event's effect", func() bool {
		return count(t, db.Admin, `SELECT count(*) FROM public.effects WHERE n = 2`) == 1
	})
	messagingtest.Wait(t, "the old run's transaction to end", func() bool {
		return count(t, db.Admin, `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'view' AND state LIKE 'idle in transaction%'`) == 0
	})
	if n := count(t, db.Admin, `SELECT count(*) FROM public.effects WHERE who = 'old'`); n != 0 {
		t.Errorf("effects of the fenced consumer: got %d, want 0", n)
	}
	if n := count(t, db.Admin, `SELECT count(*) FROM public.effects WHERE n = 1`); n != 1 {
		t.Errorf("effects of the event in the new run: got %d, want 1", n)
	}
	if n := count(t, db.Admin, `SELECT count(*) FROM messaging.inbox_view WHERE run = 0 AND payload LIKE '{"n":1,%'`); n != 0 {
		t.Errorf("inbox rows of the old run: got %d, want 0", n)
	}
}

// C15: a replay whose operator dies again and again, at any point, is continued
// where it stood: every event is copied once.
func TestC15ReplayIsContinued(t *testing.T) {
	t.Parallel()
	db := newViewDB(t, view(t))
	a := bus(t, db, speaker(t))
	messagingtest.Run(t, a)
	total := 300
	if long() {
		total = 5000
	}
	logEvents(t, db, 0, total)
	// Rows of the old run, to be taken out, and a command, to be left.
	for n := range 30 {
		db.Send(t, happened{body{N: n, OrderID: lane(n)}})
	}
	if _, err := db.Admin.Exec(`DELETE FROM messaging.queue_beta; DELETE FROM messaging.queue_delta`); err != nil {
		t.Fatal(err)
	}
	_, err := db.Admin.Exec(`INSERT INTO messaging.queue_view (message_id, kind, payload) SELECT gen_random_uuid(), 'alpha.happened', '{}' FROM generate_series(1, 30)`)
	if err != nil {
		t.Fatal(err)
	}
	db.Send(t, note{body{N: 1}})
	deaths := 0
	for {
		ctx, cancel := context.WithTimeout(t.Context(), rand.N(30*time.Millisecond)+time.Duration(deaths)*time.Millisecond/2)
		opts := messaging.ReplayOptions{}
		messaging.SetPage(&opts, 5)
		r, err := messaging.NewOperator(db.Admin, "test").Replay(ctx, "view", opts)
		cancel()
		if err == nil {
			t.Logf("run %d finished after %d deaths", r.Run, deaths)
			break
		}
		deaths++
		// The operator may have died between the last commit and hearing of it.
		if list, err := messaging.NewOperator(db.Admin, "test").Replays(t.Context(), 1); err != nil {
			t.Fatal(err)
		} else if len(list) > 0 && list[0].FinishedAt != nil {
			t.Logf("run %d had finished when its operator died, after %d deaths", list[0].Run, deaths)
			break
		}
		publish(t, a, happened{body{N: total + deaths, OrderID: lane(deaths)}})
		if deaths > 5000 {
			t.Fatalf("no end after %d deaths: %v", deaths, err)
		}
	}
	if deaths < 3 {
		t.Errorf("deaths: got %d, want some: the test proves nothing", deaths)
	}
	messagingtest.Wait(t, "the outbox to be empty", func() bool { return count(t, db.Admin, `SELECT count(*) FROM messaging.outbox_alpha`) == 0 })
	list, err := messaging.NewOperator(db.Admin, "test").Replays(t.Context(), 10)
	if err != nil || len(list) != 1 || list[0].FinishedAt == nil {
		t.Errorf("replays: got %+v, %v; want the one, finished", list, err)
	}
	wrong := count(t, db.Admin, `
		SELECT count(*) FROM messaging.log_alpha l
		FULL JOIN (SELECT message_id, count(*) AS n FROM messaging.queue_view WHERE kind = 'alpha.happened' GROUP BY message_id) q USING (message_id)
		WHERE l.id IS NULL OR coalesce(q.n, 0) <> 1`)
	if wrong != 0 {
		t.Errorf("events of the log that aren't in the queue once, or messages that aren't in the log: got %d, want 0", wrong)
	}
	inLogOrder(t, db)
	if n := count(t, db.Admin, `SELECT count(*) FROM messaging.queue_view WHERE kind = 'view.note'`); n != 1 {
		t.Errorf("commands left in the queue: got %d, want 1", n)
	}
}

// inLogOrder checks that the queue of view has its events in the order of the log.
func inLogOrder(t testing.TB, db *messagingtest.DB) {
	t.Helper()
	// Joined here: OpenDB's pool would look through all of one table for each row of
	// the other, as neither has an index by message.
	var logged, queued []string
	if err := db.Admin.Select(&logged, `SELECT message_id FROM messaging.log_alpha ORDER BY id`); err != nil {
		t.Fatal(err)
	}
	if err := db.Admin.Select(&queued, `SELECT message_id FROM messaging.queue_view ORDER BY id`); err != nil {
		t.Fatal(err)
	}
	place := make(map[string]int, len(logged))
	for i, id := range logged {
		place[id] = i
	}
	inverted, before := 0, 0
	for _, id := range queued {
		i, ok := place[id]
		if !ok {
			continue // no event, or one that has gone from the log
		}
		if i < before {
			inverted++
		}
		before = i
	}
	if inverted != 0 {
		t.Errorf("messages in another order than the log: got %d, want 0", inverted)
	}
}

// An unfinished replay can be seen, and only be continued.
func TestAnUnfinishedReplayIsSeen(t *testing.T) {
	t.Parallel()
	db := newViewDB(t, view(t))
	logEvents(t, db, 0, 100)
	o := messaging.NewOperator(db.Admin, "test")
	ctx, cancel := context.WithCancel(t.Context())
	opts := messaging.ReplayOptions{Kinds: []string{"alpha.happened"}, Progress: func(messaging.Replay) { cancel() }}
	messaging.SetPage(&opts, 10)
	if _, err := o.Replay(ctx, "view", opts); !errors.Is(err, context.Canceled) {
		t.Fatalf("replay whose context ended: got %v, want that", err)
	}
	list, err := o.Replays(t.Context(), 10)
	if err != nil || len(list) != 1 || list[0].FinishedAt != nil || list[0].Copied != 10 || list[0].Read != 10 || list[0].Total != 100 {
		t.Errorf("replays: got %+v, %v; want one that stands at 10 of 100", list, err)
	}
	if _, err := o.Replay(t.Context(), "view", messaging.ReplayOptions{Since: time.Now()}); !errors.Is(err, messaging.ErrReplaying) {
		t.Errorf("another replay: got %v, want ErrReplaying", err)
	}
	// A migration leaves an operator's replay alone.
	if err := messaging.Migrate(t.Context(), db.Admin, messagingtest.Log(t), nil, view(t)); err != nil {
		t.Fatal(err)
	}
	if n := count(t, db.Admin, `SELECT count(*) FROM messaging.queue_view`); n != 10 {
		t.Errorf("messages after a migration: got %d, want 10", n)
	}
	r, err := o.Replay(t.Context(), "view", messaging.ReplayOptions{})
	if err != nil || r.Run != 1 || r.Copied != 100 {
		t.Errorf("continued: got %+v, %v; want 100 events in run 1", r, err)
	}
	if n := count(t, db.Admin, `SELECT count(*) FROM messaging.actions WHERE actor = 'test' AND action IN ('replay', 'replay finished') AND queue = 'view'`); n != 2 {
		t.Errorf("actions recorded: got %d, want begin and end", n)
	}
}

// C15: a queue whose service doesn't declare it replayable isn't replayed.
func TestRefusedReplays(t *testing.T) {
	t.Parallel()
	db := newViewDB(t, view(t))
	o := messaging.NewOperator(db.Admin, "test")
	for _, c := range []struct {
		name, queue string
		opts        messaging.ReplayOptions
		want        error
	}{
		{"not replayable", "delta", messaging.ReplayOptions{}, messaging.ErrNotReplayable},
		{"no such queue", "nobody", messaging.ReplayOptions{}, messaging.ErrNoQueue},
		{"a kind that it doesn't hear", "view", messaging.ReplayOptions{Kinds: []string{"beta.done"}}, nil},
		{"a command", "view", messaging.ReplayOptions{Kinds: []string{"view.note"}}, nil},
	} {
		if _, err := o.Replay(t.Context(), c.queue, c.opts); err == nil || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want an error %v", c.name, err, c.want)
		}
	}
	if n := count(t, db.Admin, `SELECT count(*) FROM messaging.routes WHERE NOT live`) + count(t, db.Admin, `SELECT count(*) FROM messaging.replays`) + count(t, db.Admin, `SELECT sum(run) FROM messaging.queues`); n != 0 {
		t.Errorf("routes taken off, replays and runs after refusals: got %d, want 0", n)
	}
	for _, q := range []string{
		`UPDATE messaging.queues SET run = 7`, `UPDATE messaging.routes SET live = false`, `INSERT INTO messaging.replays (queue, run, actor, kinds) VALUES ('view', 7, 'me', '{}')`,
		`UPDATE messaging.queue_view SET run = 7`, `DELETE FROM messaging.log_alpha`,
	} {
		for _, s := range []string{"view", "alpha"} {
			if _, err := db.Service(s).Exec(q); err == nil || !strings.Contains(err.Error(), "permission denied") {
				t.Errorf("%s by service %s: got %v, want permission denied", q, s, err)
			}
		}
	}
}

// What is chosen by time and kind is handled again; the rest, commands and their
// duplicates, are not. A handler sees which is which.
func TestWhatIsReplayed(t *testing.T) {
	t.Parallel()
	two := beta(t)
	two.Queues = nil
	spec := view(t)
	spec.Queues[0].Kinds = append(spec.Queues[0].Kinds, "beta.done")
	db := messagingtest.NewDB(t, speaker(t), two, spec)
	if _, err := db.Admin.Exec(`CREATE TABLE public.seen (n integer, run integer, replayed boolean); GRANT ALL ON public.seen TO PUBLIC; GRANT USAGE ON SCHEMA public TO PUBLIC`); err != nil {
		t.Fatal(err)
	}
	type seen struct {
		N, Run   int
		Replayed bool
	}
	b := db.NewBus(t, spec, quick)
	keep := func(_ context.Context, tx *messaging.Tx, m body) error {
		if m.Do == "fail" && tx.Message().Run == 0 {
			return messaging.Permanent(errors.New("told to"))
		}
		tx.Queue(`INSERT INTO public.seen (n, run, replayed) VALUES ($1, $2, $3)`, m.N, tx.Message().Run, tx.Message().Replayed)
		return nil
	}
	messaging.Handle(b, func(ctx context.Context, tx *messaging.Tx, m happened) error { return keep(ctx, tx, m.body) })
	messaging.Handle(b, func(ctx context.Context, tx *messaging.Tx, m note) error { return keep(ctx, tx, m.body) })
	messaging.Handle(b, func(ctx context.Context, tx *messaging.Tx, m done) error { return keep(ctx, tx, m.body) })
	messagingtest.Run(t, b)
	a, be := bus(t, db, speaker(t)), bus(t, db, two)
	messagingtest.Run(t, a)
	messagingtest.Run(t, be)
	await := func(want ...seen) {
		t.Helper()
		messagingtest.Wait(t, fmt.Sprint(want), func() bool { return count(t, db.Admin, `SELECT count(*) FROM public.seen`) >= len(want) })
		var got []seen
		if err := db.Admin.Select(&got, `WITH g AS (DELETE FROM public.seen RETURNING n, run, replayed) SELECT n, run, replayed FROM g ORDER BY n, run`); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got, want) {
			t.Errorf("handled: got %v, want %v", got, want)
		}
	}
	publish(t, a, happened{body{N: 1}})
	await(seen{1, 0, false})
	since := time.Now()
	publish(t, a, happened{body{N: 2}}, note{body{N: 3}}, messaging.After(happened{body{N: 6}}, time.Hour), happened{body{N: 5, Do: "fail"}})
	publish(t, be, done{body{N: 4}})
	await(seen{2, 0, false}, seen{3, 0, false}, seen{4, 0, false})
	messagingtest.Wait(t, "the dead letter", func() bool {
		return count(t, db.Admin, `SELECT count(*) FROM messaging.queue_view WHERE dead_reason IS NOT NULL`) == 1
	})

	o := messaging.NewOperator(db.Admin, "test")
	r, err := o.Replay(t.Context(), "view", messaging.ReplayOptions{Since: since, Kinds: []string{"alpha.happened"}})
	if err != nil || r.Copied != 3 {
		t.Fatalf("replay: got %+v, %v; want 3 events", r, err)
	}
	await(seen{2, 1, true}, seen{5, 1, false}) // the dead letter was never handled
	var due time.Time
	if err := db.Admin.Get(&due, `SELECT due FROM messaging.queue_view`); err != nil || time.Until(due) < 50*time.Minute {
		t.Errorf("delayed event: got due %s (%v), want it in an hour, once", due, err)
	}
	// Second copies, as a transport may bring them.
	_, err = db.Admin.Exec(`
		INSERT INTO messaging.queue_view (message_id, kind, payload)
		SELECT DISTINCT message_id, kind, payload FROM messaging.inbox_view`)
	if err != nil {
		t.Fatal(err)
	}
	publish(t, a, happened{body{N: 7}})
	await(seen{7, 0, false})
	messagingtest.Wait(t, "the second copies to go", func() bool { return count(t, db.Admin, `SELECT count(*) FROM messaging.queue_view`) == 1 })
	if r, err := o.Replay(t.Context(), "view", messaging.ReplayOptions{Rate: 100}); err != nil || r.Run != 2 || r.Copied != 6 {
		t.Fatalf("second replay: got %+v, %v; want 6 events in run 2", r, err)
	}
	await(seen{1, 2, true}, seen{2, 2, true}, seen{4, 2, true}, seen{5, 2, true}, seen{7, 2, true})
}

// Events of different speakers come in the order in which they were logged, those
// of one speaker in the order of its log even where its clock went back.
func TestReplayOfSeveralSpeakers(t *testing.T) {
	t.Parallel()
	spec := view(t)
	spec.Queues[0].Kinds = append(spec.Queues[0].Kinds, "beta.done")
	db := messagingtest.NewDB(t, speaker(t), beta(t), spec)
	_, err := db.Admin.Exec(`
		INSERT INTO messaging.log_alpha (logged_at, message_id, kind, schema_version, class, occurred_at, payload)
		SELECT clock_timestamp() - interval '1 hour' + make_interval(secs => i - CASE WHEN i = 50 THEN 30 ELSE 0 END), gen_random_uuid(), 'alpha.happened', 1, 1, now(), format('a%s', i)::bytea FROM generate_series(1, 100) i;
		INSERT INTO messaging.log_beta (logged_at, message_id, kind, schema_version, class, occurred_at, payload)
		SELECT clock_timestamp() - interval '1 hour' + make_interval(secs => i + 0.5), gen_random_uuid(), 'beta.done', 1, 1, now(), format('b%s', i)::bytea FROM generate_series(1, 100, 3) i`)
	if err != nil {
		t.Fatal(err)
	}
	opts := messaging.ReplayOptions{}
	messaging.SetPage(&opts, 7)
	if _, err := messaging.NewOperator(db.Admin, "test").Replay(t.Context(), "view", opts); err != nil {
		t.Fatal(err)
	}
	var got, want []string
	if err := db.Admin.Select(&got, `SELECT convert_from(payload, 'UTF8') FROM messaging.queue_view ORDER BY id`); err != nil {
		t.Fatal(err)
	}
	for i := 1; i <= 100; i++ {
		want = append(want, fmt.Sprint("a", i))
		if i%3 == 1 {
			want = append(want, fmt.Sprint("b", i))
		}
	}
	// Where the clock went back, 50 may come before or after what beta logged by its neighbours.
	without := func(list []string) []string {
		return slices.DeleteFunc(slices.Clone(list), func(s string) bool { return s == "a50" })
	}
	if !slices.Equal(without(got), without(want)) {
		t.Errorf("order of the queue:\n got %v\nwant %v", got, want)
	}
	if i, j, k := slices.Index(got, "a49"), slices.Index(got, "a50"), slices.Index(got, "a51"); i > j || j > k {
		t.Errorf("order of one speaker: got 49, 50, 51 at %d, %d, %d", i, j, k)
	}
}

// C15: a group that comes later is fed from the logs before it goes live, by the
// migration, while events keep coming; one that isn't replayable begins live.
func TestC15ANewGroupIsFed(t *testing.T) {
	t.Parallel()
	db := newViewDB(t)
	before, during := 200, 400
	if long() {
		before, during = 5000, 10_000
	}
	a := bus(t, db, speaker(t))
	messagingtest.Run(t, a)
	send := func(from, n int) {
		for i := from; i < from+n; i++ {
			publish(t, a, happened{body{N: i, OrderID: lane(i)}})
		}
	}
	send(0, before)
	messagingtest.Wait(t, "the outbox to be empty", func() bool { return count(t, db.Admin, `SELECT count(*) FROM messaging.outbox_alpha`) == 0 })
	var load sync.WaitGroup
	load.Go(func() { send(before, during) })
	password := map[string]string{"view": "test-view"}
	if err := messaging.Migrate(t.Context(), db.Admin, messagingtest.Log(t), password, view(t)); err != nil {
		t.Fatal(err)
	}
	if n := count(t, db.Admin, `SELECT count(*) FROM messaging.routes WHERE NOT live`); n != 0 {
		t.Errorf("routes that aren't live after the migration: got %d, want 0", n)
	}
	messagingtest.Run(t, viewBus(t, db))
	load.Wait()
	drained(t, db, "view")
	if n, m := count(t, db.Admin, `SELECT count(*) FROM public.effects`), count(t, db.Admin, `SELECT count(DISTINCT n) FROM public.effects`); n != before+during || m != n {
		t.Errorf("effects: got %d of %d events, want %d of as many", n, m, before+during)
	}
	inverted := count(t, db.Admin, `
		SELECT count(*) FROM (SELECT n, lag(n) OVER (PARTITION BY lane ORDER BY id) AS before FROM public.effects) e WHERE before >= n`)
	if inverted != 0 {
		t.Errorf("events handled before an earlier one of their lane: got %d, want 0", inverted)
	}
	// Nothing is fed twice.
	if err := messaging.Migrate(t.Context(), db.Admin, messagingtest.Log(t), nil, view(t)); err != nil {
		t.Fatal(err)
	}
	if n := count(t, db.Admin, `SELECT count(*) FROM messaging.replays`); n != 1 {
		t.Errorf("feedings after a second migration: got %d, want 1", n)
	}
}

// A long log is copied in statements that each take a moment, from any time on.
func TestReplayOfALongLog(t *testing.T) {
	t.Parallel()
	db := newViewDB(t, view(t))
	total := 10_000
	if long() {
		total = 200_000
	}
	for from := 0; from < total; from += 10_000 {
		logEvents(t, db, from, 10_000)
	}
	_, err := db.Admin.Exec(`SELECT setval('messaging.log_alpha_id', nextval('messaging.log_alpha_id') + 1000000)`) // numbers never used
	if err != nil {
		t.Fatal(err)
	}
	logEvents(t, db, total, 10)
	longest := slowest(t, db.Admin)
	begun := time.Now()
	r, err := messaging.NewOperator(db.Admin, "test").Replay(t.Context(), "view", messaging.ReplayOptions{})
	if err != nil || r.Copied != int64(total)+10 {
		t.Fatalf("replay: got %+v, %v; want %d events", r, err, total+10)
	}
	t.Logf("%d events copied in %s, longest statement seen %s", total, time.Since(begun).Round(time.Millisecond), longest())
	// The hour of slack aside, a late time is found without reading what is before.
	for from := 0; from < total; from += 10_000 { // in portions: a statement has 5 s
		_, err := db.Admin.Exec(`
			WITH older AS (
				UPDATE messaging.log_alpha SET logged_at = logged_at - interval '5 hours', occurred_at = occurred_at - interval '5 hours'
				WHERE id > $1 AND id <= $2
				RETURNING message_id, occurred_at)
			UPDATE messaging.queue_view q SET occurred_at = o.occurred_at FROM older o WHERE q.message_id = o.message_id AND q.id > $1 AND q.id <= $2`, from, from+10_000)
		if err != nil {
			t.Fatal(err)
		}
	}
	r, err = messaging.NewOperator(db.Admin, "test").Replay(t.Context(), "view", messaging.ReplayOptions{Since: time.Now().Add(-2 * time.Hour)})
	if err != nil || r.Copied != 10 {
		t.Fatalf("replay of the last hours: got %+v, %v; want 10 events", r, err)
	}
	if n := count(t, db.Admin, `SELECT count(*) FROM messaging.log_alpha WHERE id <= (SELECT first FROM messaging.replay_positions WHERE run = 2)`); n != total {
		t.Errorf("entries passed over: got %d, want %d", n, total)
	}
	if n := count(t, db.Admin, `SELECT count(*) FROM messaging.queue_view`); n != total+10 {
		t.Errorf("messages in the queue: got %d, want %d: ten of them replaced", n, total+10)
	}
}

// slowest watches the statements of the database until it is called, and returns
// the longest time that one was seen to run.
func slowest(t testing.TB, db *sqlx.DB) func() time.Duration {
	ctx, cancel := context.WithCancel(t.Context())
	var watching sync.WaitGroup
	var longest time.Duration
	watching.Go(func() {
		for ctx.Err() == nil {
			var ms float64
			err := db.GetContext(ctx, &ms, `
				SELECT coalesce(max(extract(epoch FROM clock_timestamp() - query_start)) * 1000, 0) FROM pg_stat_activity
				WHERE datname = current_database() AND state = 'active' AND pid <> pg_backend_pid()`)
			if err == nil {
				longest = max(longest, time.Duration(ms*float64(time.Millisecond)))
			}
			select {
			case <-time.After(5 * time.Millisecond):
			case <-ctx.Done():
			}
		}
	})
	return func() time.Duration {
		cancel()
		watching.Wait()
		return longest
	}
}
