package messaging_test

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"example.com/orderflow/messaging"
	"example.com/orderflow/messaging/messagingtest"
)

// TestModelOfReplay has alpha speak at random while groups are fed from its log,
// replayed as a whole, in part, from a time, interrupted, cut off at any moment and
// continued, paused and resumed, while handlers fail, die and give up, operators
// redrive, transports repeat, days pass and old ones are dropped. After every step
// the log, every queue and what each group has handled in which run must be what a
// model of a few lines says.
func TestModelOfReplay(t *testing.T) {
	t.Parallel()
	setFlag(t, "rapid.checks", 25, 150)
	setFlag(t, "rapid.steps", 15, 40)
	setFlag(t, "rapid.nofailfile", true, true)
	w := newReplayWorld(t)
	rapid.Check(t, func(rt *rapid.T) {
		w.begin(rt)
		rt.Repeat(map[string]func(*rapid.T){
			"speak":              w.speak,
			"speak again":        w.speak,
			"handle":             w.handle,
			"handle again":       w.handle,
			"replay":             func(rt *rapid.T) { w.replay(rt, whole) },
			"replay, handle":     func(rt *rapid.T) { w.replay(rt, whole); w.agree(rt); w.handle(rt) },
			"replay in part":     func(rt *rapid.T) { w.replay(rt, interrupted) },
			"replay and be cut":  func(rt *rapid.T) { w.replay(rt, cut) },
			"subscribe":          w.subscribe,
			"pause":              w.pause,
			"resume":             w.resume,
			"redrive":            w.redriveAll,
			"repeat":             w.repeat,
			"days pass":          w.daysPass,
			"forget":             w.forget,
			"days pass, forget":  func(rt *rapid.T) { w.daysPass(rt); w.forget(rt) },
			"replay from a time": func(rt *rapid.T) { w.replay(rt, fromATime) },
			"":                   w.agree,
		})
	})
	t.Logf("situations: %v", w.seen)
	for _, situation := range situations {
		if w.seen[situation] == 0 && long() {
			t.Errorf("never seen: %s: the test proves nothing about it", situation)
		}
	}
}

// situations are those that the long run must have met.
var situations = []string{
	"spoken while a group is replayed", "replay interrupted", "replay continued", "replay continued after more was spoken",
	"replay cut before it began", "replay cut in the middle", "replay refused", "replay from a time", "replay takes out dead letters",
	"replay takes out what waits", "replay leaves older messages of the log", "replay leaves what the log has forgotten", "replay while paused",
	"handled in a second run", "handled in a third run", "handled first in a replay", "second copy passed over", "command among replayed events",
	"failed once", "lost its lease", "died of crashes", "given up", "redriven", "redriven in a replay", "paused",
	"new group fed", "new group fed from a log with gaps", "new group fed from an empty log", "days dropped", "days kept for a replay",
}

// spoken is a message of the model.
type spoken struct {
	n       int
	event   bool // else a command to view
	lane    string
	does    string
	at      time.Time // when it was sent
	healed  map[string]bool
	id      int64     // its entry of the log
	day     time.Time // of it
	crashes map[string]int
}

// copied is a message in a queue.
type copied struct {
	n, run int
	dead   bool
}

// handling is one handling of a message.
type handling struct{ n, run int }

// replayed is an unfinished replay.
type replayed struct {
	run      int
	fenced   bool
	since    time.Time
	position int64 // all that is in the log at or before it is copied
	asOf     int64 // the last entry of the log when it was last at work
}

// group is a subscriber of the model.
type group struct {
	replayable, live, paused bool
	run                      int
	queue                    []copied
	handled                  []handling // in the order of handling
	unfinished               *replayed
}

// replayWorld is the model and the services that it is compared with.
type replayWorld struct {
	t      *testing.T
	db     *messagingtest.DB
	sender *messaging.Bus
	op     *messaging.Operator
	specs  map[string]messaging.Spec
	seen   map[string]int
	lanes  []string

	mu       sync.Mutex // handlers read the messages
	messages map[int]*spoken
	last     int
	log      []*spoken
	gone     time.Time // before it the log has gaps
	groups   map[string]*group
}

// late is a leased group that subscribes when the log has begun long ago.
func late(t testing.TB) messaging.Spec {
	return messaging.Spec{Name: "late", Migrations: migrations(t), Queues: []messaging.Queue{
		{Name: "late", Mode: messaging.Leased, Kinds: []string{"alpha.happened"}, Replayable: true},
	}}
}

func newReplayWorld(t *testing.T) *replayWorld {
	db := newViewDB(t, view(t), late(t))
	_, err := db.Admin.Exec(`
		CREATE TABLE public.handlings (id bigint GENERATED ALWAYS AS IDENTITY, who text NOT NULL, n integer NOT NULL, run integer NOT NULL, replayed boolean NOT NULL);
		GRANT ALL ON public.handlings TO PUBLIC; DELETE FROM messaging.routes WHERE queue = 'beta'`)
	if err != nil {
		t.Fatal(err)
	}
	w := &replayWorld{t: t, db: db, sender: bus(t, db, speaker(t)), op: messaging.NewOperator(db.Admin, "model"), seen: map[string]int{}}
	w.specs = map[string]messaging.Spec{"view": view(t), "late": late(t), "delta": delta(t)}
	messagingtest.Run(t, w.sender)
	return w
}

func (w *replayWorld) exec(query string, args ...any) {
	w.t.Helper()
	if _, err := w.db.Admin.Exec(query, args...); err != nil {
		w.t.Fatalf("%s: %v", query, err)
	}
}

// begin empties model and database; late isn't subscribed.
func (w *replayWorld) begin(*rapid.T) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.messages, w.log, w.gone = map[int]*spoken{}, nil, time.Time{}
	w.lanes = []string{"", newID(), newID(), newID()}
	w.groups = map[string]*group{"view": {replayable: true, live: true}, "delta": {live: true}}
	for _, table := range []string{"messaging.queue_view", "messaging.queue_late", "messaging.queue_delta", "messaging.inbox_view", "messaging.inbox_late", "messaging.inbox_delta", "messaging.log_alpha", "public.handlings", "messaging.replay_positions", "messaging.replays"} {
		w.exec(`DELETE FROM ` + table)
	}
	w.exec(`DELETE FROM messaging.routes WHERE queue = 'late'`)
	w.exec(`UPDATE messaging.routes SET live = true WHERE NOT live`)
	w.exec(`DELETE FROM messaging.queues WHERE name = 'late'`)
	w.exec(`UPDATE messaging.queues SET run = 0, paused_at = NULL`)
	w.exec(`UPDATE messaging.retention SET gone_before = NULL`)
}

// agree compares the model with the database.
func (w *replayWorld) agree(rt *rapid.T) {
	var got, want []string
	for _, e := range w.entries(rt) {
		got = append(got, fmt.Sprint(e.N))
	}
	for _, m := range w.log {
		want = append(want, fmt.Sprint(m.n))
	}
	w.same(rt, "log", got, want)
	for name, g := range w.groups {
		got, want = nil, nil
		var rows []struct {
			N, Run int
			Dead   bool
		}
		err := w.db.Admin.Select(&rows, `
			SELECT (convert_from(payload, 'UTF8')::jsonb->>'n')::int AS n, run, dead_reason IS NOT NULL AS dead FROM messaging.queue_`+name+` ORDER BY id`)
		if err != nil {
			rt.Fatal(err)
		}
		for _, r := range rows {
			got = append(got, fmt.Sprint(copied{r.N, r.Run, r.Dead}))
		}
		for _, c := range g.queue {
			want = append(want, fmt.Sprint(c))
		}
		w.same(rt, "queue of "+name, got, want)

		want = nil
		handledIn := map[int][]int{}
		for _, h := range g.handled {
			handledIn[h.n] = append(handledIn[h.n], h.run)
		}
		for _, n := range slices.Sorted(maps.Keys(handledIn)) {
			for _, run := range slices.Sorted(slices.Values(handledIn[n])) {
				want = append(want, fmt.Sprintf("%d in run %d, replayed %t", n, run, run > slices.Min(handledIn[n])))
			}
		}
		for _, query := range []string{
			`SELECT format('%s in run %s, replayed %s', n, run, CASE WHEN replayed THEN 'true' ELSE 'false' END) FROM public.handlings WHERE who = $1 ORDER BY n, run, id`,
			`SELECT format('%s in run %s, replayed %s', n, run, CASE WHEN run > min(run) OVER (PARTITION BY n) THEN 'true' ELSE 'false' END)
			 FROM (SELECT (convert_from(payload, 'UTF8')::jsonb->>'n')::int AS n, run FROM messaging.inbox_` + name + ` WHERE consumer = $1) i ORDER BY n, run`,
		} {
			got = nil
			if err := w.db.Admin.Select(&got, query, name); err != nil {
				rt.Fatal(err)
			}
			w.same(rt, "what "+name+" has handled", got, want)
		}
		var state string
		err = w.db.Admin.Get(&state, `
			SELECT format('run %s, live %s, paused %s, unfinished %s', k.run, (SELECT bool_and(live) FROM messaging.routes WHERE queue = k.name)::text,
			              (k.paused_at IS NOT NULL)::text, (SELECT count(*) FROM messaging.replays r WHERE r.queue = k.name AND r.finished_at IS NULL))
			FROM messaging.queues k WHERE k.name = $1`, name)
		unfinished := 0
		if g.unfinished != nil {
			unfinished = 1
		}
		if want := fmt.Sprintf("run %d, live %t, paused %t, unfinished %d", g.run, g.live, g.paused, unfinished); err != nil || state != want {
			rt.Fatalf("%s: got %s, %v; want %s", name, state, err, want)
		}
	}
}

func (w *replayWorld) same(rt *rapid.T, what string, got, want []string) {
	if !slices.Equal(got, want) {
		rt.Fatalf("%s:\n got %v\nwant %v", what, got, want)
	}
}
