package messaging_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"pgregory.net/rapid"

	"example.com/orderflow/messaging"
	"example.com/orderflow/messaging/messagingtest"
)

// anyGroup draws one.
func (w *replayWorld) anyGroup(rt *rapid.T) (string, *group) {
	name := rapid.SampledFrom(slices.Sorted(maps.Keys(w.groups))).Draw(rt, "group")
	return name, w.groups[name]
}

// speak has alpha send some events and commands in one transaction.
func (w *replayWorld) speak(rt *rapid.T) {
	var list []*spoken
	var bodies []messaging.Body
	for range rapid.IntRange(1, 6).Draw(rt, "messages") {
		w.last++
		m := &spoken{
			n: w.last, event: rapid.IntRange(0, 4).Draw(rt, "a command") > 0, lane: rapid.SampledFrom(w.lanes).Draw(rt, "lane"),
			does:   rapid.SampledFrom([]string{"succeed", "succeed", "succeed", "fail once", "be hopeless", "lose its lease", "crash always"}).Draw(rt, "does"),
			healed: map[string]bool{}, crashes: map[string]int{},
		}
		list = append(list, m)
		b := body{N: m.n, OrderID: m.lane}
		if m.event {
			bodies = append(bodies, happened{b})
		} else {
			bodies = append(bodies, note{b})
		}
	}
	w.mu.Lock()
	for _, m := range list {
		w.messages[m.n] = m
	}
	w.mu.Unlock()
	if err := w.sender.InTx(w.t.Context(), func(_ context.Context, tx *messaging.Tx) error { return tx.Publish(bodies...) }); err != nil {
		rt.Fatalf("publish: %v", err)
	}
	messagingtest.Wait(w.t, "the relay", func() bool { return count(w.t, w.db.Admin, `SELECT count(*) FROM messaging.outbox_alpha`) == 0 })
	for _, m := range list {
		if !m.event {
			w.groups["view"].queue = append(w.groups["view"].queue, copied{n: m.n})
			continue
		}
		w.log = append(w.log, m)
		for _, g := range w.groups {
			if g.live {
				g.queue = append(g.queue, copied{n: m.n})
			} else {
				w.seen["spoken while a group is replayed"]++
			}
		}
	}
	// Ids and times are the engine's choice; the order is not.
	for _, e := range w.entries(rt) {
		m := w.messages[e.N]
		m.id, m.at, m.day = e.ID, e.At, e.Day
	}
}

// entry is what the log has.
type entry struct {
	ID  int64
	N   int
	At  time.Time
	Day time.Time
}

func (w *replayWorld) entries(rt *rapid.T) (list []entry) {
	err := w.db.Admin.Select(&list, `
		SELECT id, (convert_from(payload, 'UTF8')::jsonb->>'n')::int AS n, occurred_at AS at, date_trunc('day', logged_at) AS day
		FROM messaging.log_alpha
		ORDER BY id`)
	if err != nil {
		rt.Fatalf("read the log: %v", err)
	}
	return list
}

// fate is what becomes of m in group name: whether it is handled in the end.
func (m *spoken) fate(name string) (handled bool) {
	return m.healed[name] || m.does != "be hopeless" && m.does != "crash always"
}

// handle runs a consumer of a group until nothing is left to it.
func (w *replayWorld) handle(rt *rapid.T) {
	name, g := w.anyGroup(rt)
	b := w.consumer(name)
	var ticks int
	b.Schedule("tick", func(context.Context, *messaging.Tx) (time.Duration, error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		ticks++
		return 10 * time.Millisecond, nil
	})
	first := count(w.t, w.db.Admin, `SELECT coalesce(max(id), 0) FROM public.handlings`)
	stop := start(w.t, b)
	if g.paused {
		messagingtest.Wait(w.t, "the consumer of a paused queue to have looked", func() bool {
			w.mu.Lock()
			defer w.mu.Unlock()
			return ticks > 5
		})
	} else {
		messagingtest.Wait(w.t, "the queue of "+name+" to be empty", func() bool {
			return count(w.t, w.db.Admin, `SELECT count(*) FROM messaging.queue_`+name+` WHERE dead_reason IS NULL`) == 0
		})
	}
	stop()
	if g.paused {
		w.seen["paused"]++
		return
	}
	want := map[string][]int{} // the order of each lane
	var rest []copied
	for _, c := range g.queue {
		m := w.messages[c.n]
		runs := 0
		last := -1
		for _, h := range g.handled {
			if h.n == c.n {
				runs, last = runs+1, max(last, h.run)
			}
		}
		switch {
		case c.dead:
			rest = append(rest, c)
		case last >= c.run:
			w.seen["second copy passed over"]++
		case !m.fate(name):
			c.dead = true
			rest = append(rest, c)
			w.seen[map[string]string{"be hopeless": "given up", "crash always": "died of crashes"}[m.does]]++
		default:
			g.handled = append(g.handled, handling{c.n, c.run})
			want[m.lane] = append(want[m.lane], c.n)
			w.seen[map[string]string{"fail once": "failed once", "lose its lease": "lost its lease"}[m.does]]++
			w.seen[map[int]string{1: "handled in a second run", 2: "handled in a third run"}[runs]]++
			if c.run > 0 && runs == 0 {
				w.seen["handled first in a replay"]++
			}
		}
	}
	g.queue = rest
	var done []struct{ N int }
	if err := w.db.Admin.Select(&done, `SELECT n FROM public.handlings WHERE id > $1 ORDER BY id`, first); err != nil {
		w.t.Fatal(err)
	}
	got := map[string][]int{}
	for _, d := range done {
		lane := w.messages[d.N].lane
		got[lane] = append(got[lane], d.N)
	}
	delete(want, "")
	delete(got, "")
	for lane := range want {
		if !slices.Equal(got[lane], want[lane]) {
			rt.Errorf("%s handled in lane %s: got %v, want %v", name, lane, got[lane], want[lane])
		}
	}
}

// consumer is a process of group name.
func (w *replayWorld) consumer(name string) *messaging.Bus {
	b := w.db.NewBus(w.t, w.specs[name], func(c *messaging.Config) {
		c.Log = slog.New(slog.DiscardHandler)
		messaging.SetLimits(c, func(l *messaging.Limits) {
			l.Backoff = func(int) time.Duration { return 2 * time.Millisecond }
			l.Poll = 10 * time.Millisecond
			l.Lease, l.Slow, l.Alone = time.Minute, 20*time.Second, 20*time.Second
		})
	})
	did := func(tx *messaging.Tx, n int, m messaging.Message) {
		tx.Queue(`INSERT INTO public.handlings (who, n, run, replayed) VALUES ($1, $2, $3, $4)`, name, n, m.Run, m.Replayed)
	}
	if w.specs[name].Queues[0].Mode == messaging.Leased {
		messaging.HandleOutside(b, func(ctx context.Context, m happened) (messaging.Record, error) {
			message := messaging.MessageFrom(ctx)
			if err := w.act(name, m.N, message); err != nil {
				return nil, err
			}
			return func(_ context.Context, tx *messaging.Tx) error { did(tx, m.N, message); return nil }, nil
		})
		return b
	}
	inside := func(tx *messaging.Tx, n int) error {
		if err := w.act(name, n, tx.Message()); err != nil {
			return err
		}
		did(tx, n, tx.Message())
		return nil
	}
	messaging.Handle(b, func(_ context.Context, tx *messaging.Tx, m happened) error { return inside(tx, m.N) })
	if name == "view" {
		messaging.Handle(b, func(_ context.Context, tx *messaging.Tx, m note) error { return inside(tx, m.N) })
	}
	return b
}

// act is what the handler of message n does before it writes.
func (w *replayWorld) act(name string, n int, m messaging.Message) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	p := w.messages[n]
	if p == nil {
		return messaging.Permanent(fmt.Errorf("message %d was never sent", n))
	}
	if p.healed[name] {
		return nil
	}
	this := fmt.Sprint(name, m.Run)
	switch p.does {
	case "fail once":
		if m.Attempt == 1 {
			return errors.New("as planned")
		}
	case "be hopeless":
		return messaging.Permanent(errors.New("as planned"))
	case "lose its lease", "crash always": // as a consumer that dies with it in hand
		if p.does == "lose its lease" && p.crashes[this] > 0 {
			return nil
		}
		p.crashes[this]++
		_, err := w.db.Admin.Exec(`UPDATE messaging.queue_`+name+` SET token = token + 1, due = clock_timestamp() WHERE message_id = $1 AND token IS NOT NULL AND dead_reason IS NULL`, m.ID)
		return err
	}
	return nil
}

// subscribe makes the group late, which is fed from the log by its migration.
func (w *replayWorld) subscribe(rt *rapid.T) {
	if w.groups["late"] != nil {
		return
	}
	if err := messaging.Migrate(w.t.Context(), w.db.Admin, slog.New(slog.DiscardHandler), nil, w.specs["late"]); err != nil {
		rt.Fatalf("migrate late: %v", err)
	}
	g := &group{replayable: true}
	w.groups["late"] = g
	w.beginOrContinue(rt, "late", g, time.Time{})
	if !w.copyPages(g, 1000, 1<<30) {
		rt.Fatal("the model doesn't feed to the end")
	}
	w.seen["new group fed"]++
	if len(w.log) == 0 {
		w.seen["new group fed from an empty log"]++
	} else if !w.gone.IsZero() {
		w.seen["new group fed from a log with gaps"]++
	}
}

func (w *replayWorld) pause(rt *rapid.T) {
	name, g := w.anyGroup(rt)
	if err := w.op.Pause(w.t.Context(), name, "a test"); err != nil {
		rt.Fatal(err)
	}
	g.paused = true
}

func (w *replayWorld) resume(rt *rapid.T) {
	for _, name := range slices.Sorted(maps.Keys(w.groups)) {
		if err := w.op.Resume(w.t.Context(), name, "a test"); err != nil {
			rt.Fatal(err)
		}
		w.groups[name].paused = false
	}
}

// redriveAll heals what killed a group's dead letters and redrives them.
func (w *replayWorld) redriveAll(rt *rapid.T) {
	name, g := w.anyGroup(rt)
	dead := 0
	w.mu.Lock()
	for i, c := range g.queue {
		if c.dead {
			dead++
			g.queue[i].dead = false
			w.messages[c.n].healed[name] = true
			w.seen["redriven"]++
			if c.run > 0 {
				w.seen["redriven in a replay"]++
			}
		}
	}
	w.mu.Unlock()
	n, err := w.op.Redrive(w.t.Context(), messaging.DeadFilter{Queue: name}, messaging.RedriveOptions{})
	if err != nil || n != dead {
		rt.Fatalf("redriven in %s: got %d, %v; want %d", name, n, err, dead)
	}
}

// repeat puts a second copy of what a group has handled into its queue, as a
// transport may.
func (w *replayWorld) repeat(rt *rapid.T) {
	name, g := w.anyGroup(rt)
	if len(g.handled) == 0 {
		return
	}
	n := g.handled[rapid.IntRange(0, len(g.handled)-1).Draw(rt, "handled")].n
	w.exec(`
		INSERT INTO messaging.queue_`+name+` (message_id, kind, lane, order_id, producer, payload, occurred_at)
		SELECT message_id, kind, lane, order_id, producer, payload, $2 FROM messaging.inbox_`+name+`
		WHERE (convert_from(payload, 'UTF8')::jsonb->>'n')::int = $1 LIMIT 1`, n, w.messages[n].sentAt())
	g.queue = append(g.queue, copied{n: n})
}

// sentAt is when m was sent; of a command, which no replay asks, any time will do.
func (m *spoken) sentAt() time.Time {
	if m.at.IsZero() {
		return time.Now()
	}
	return m.at
}

// daysPass has all that was sent and logged be some days older.
func (w *replayWorld) daysPass(rt *rapid.T) {
	days := rapid.IntRange(1, 5).Draw(rt, "days")
	for range days {
		made := map[string]bool{}
		for _, m := range w.log {
			m.day, m.at = m.day.AddDate(0, 0, -1), m.at.AddDate(0, 0, -1)
			if day := m.day.Format("20060102"); !made[day] {
				made[day] = true
				w.exec(fmt.Sprintf(`CREATE TABLE IF NOT EXISTS messaging.log_alpha_d%s PARTITION OF messaging.log_alpha FOR VALUES FROM ('%s') TO ('%s')`,
					day, m.day.Format(time.RFC3339), m.day.AddDate(0, 0, 1).Format(time.RFC3339)))
			}
		}
		w.exec(`UPDATE messaging.log_alpha SET logged_at = logged_at - interval '1 day', occurred_at = occurred_at - interval '1 day'`)
	}
	for _, m := range w.messages {
		if m.event && !slices.Contains(w.log, m) {
			m.at = m.at.AddDate(0, 0, -days)
		}
	}
	for name := range w.groups {
		w.exec(`UPDATE messaging.queue_`+name+` SET occurred_at = occurred_at - make_interval(days => $1) WHERE kind = 'alpha.happened'`, days)
	}
	w.exec(`UPDATE messaging.retention SET gone_before = gone_before - make_interval(days => $1)`, days)
	w.exec(`UPDATE messaging.replays SET since = since - make_interval(days => $1)`, days)
	w.exec(`UPDATE messaging.replay_positions SET since = since - make_interval(days => $1)`, days)
	if !w.gone.IsZero() {
		w.gone = w.gone.AddDate(0, 0, -days)
	}
	for _, g := range w.groups {
		if u := g.unfinished; u != nil && !u.since.IsZero() {
			u.since = u.since.AddDate(0, 0, -days)
		}
	}
}

// forget drops the days of the log that are older than its seven.
func (w *replayWorld) forget(rt *rapid.T) {
	var dates []time.Time
	err := w.db.Admin.Select(&dates, `
		SELECT to_date(right(c.relname, 8), 'YYYYMMDD')::timestamptz
		FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
		WHERE i.inhparent = 'messaging.log_alpha'::regclass AND c.relname ~ '_d[0-9]{8}$'
		  AND to_date(right(c.relname, 8), 'YYYYMMDD') < (clock_timestamp() AT TIME ZONE 'UTC')::date - 7
		ORDER BY 1`)
	if err != nil {
		rt.Fatalf("list the days of the log: %v", err)
	}
	for _, day := range dates {
		held := slices.ContainsFunc(w.log, func(m *spoken) bool {
			return m.day.Equal(day) && slices.ContainsFunc(slices.Collect(maps.Values(w.groups)), func(g *group) bool { return g.unfinished != nil && g.unfinished.position < m.id })
		})
		if held {
			w.seen["days kept for a replay"]++
			break
		}
		before := len(w.log)
		w.log = slices.DeleteFunc(w.log, func(m *spoken) bool { return m.day.Equal(day) })
		if len(w.log) < before {
			w.seen["days dropped"]++
		}
		if end := day.AddDate(0, 0, 1); end.After(w.gone) {
			w.gone = end
		}
	}
	// A drop gives up when somebody is in its way for a moment, and comes again.
	messagingtest.Wait(w.t, "old days to go", func() bool {
		forgetAll(w.t, w.db, "alpha", "log_alpha")
		return len(w.entries(rt)) <= len(w.log)
	})
}
