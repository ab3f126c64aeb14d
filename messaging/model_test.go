package messaging_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"example.com/orderflow/messaging"
	"example.com/orderflow/messaging/messagingtest"
)

// TestModel has alpha send at random, beta (transactional) and gamma (leased)
// fail in every way at random, replicas come and go, consumers die, transports
// repeat and operators redrive. In the end each message must be where a model of
// a few lines says: handled once or dead, those of a lane in order, none lost.
func TestModel(t *testing.T) {
	t.Parallel()
	setFlag(t, "rapid.checks", 25, 300)
	setFlag(t, "rapid.steps", 15, 40)
	setFlag(t, "rapid.nofailfile", true, true) // the seed it prints says as much: consumers run side by side
	w := newWorld(t)
	rapid.Check(t, func(rt *rapid.T) {
		w.begin(rt)
		defer w.stopAll()
		rt.Repeat(map[string]func(*rapid.T){
			"send":        w.send,
			"send not":    w.sendNot,
			"repeat":      w.repeat,
			"redrive":     w.redrive,
			"start beta":  func(rt *rapid.T) { w.startReplica(rt, "beta") },
			"start gamma": func(rt *rapid.T) { w.startReplica(rt, "gamma") },
			"stop":        w.stopReplica,
			"":            w.nothingTwice,
		})
		w.settle(rt)
	})
	for _, does := range misbehaviours {
		if w.seen[does] == 0 {
			t.Errorf("no message did %q: the test proves nothing about it", does)
		}
	}
	t.Logf("messages by what their handlers do: %v", w.seen)
}

// setFlag sets a flag of rapid for the short or the full run, unless the command
// line has.
func setFlag[T any](t *testing.T, name string, short, full T) {
	t.Helper()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == name })
	if given {
		return
	}
	value := short
	if long() {
		value = full
	}
	if err := flag.Set(name, fmt.Sprint(value)); err != nil {
		t.Fatal(err)
	}
}

// misbehaviours are what a handler does with a message.
var misbehaviours = []string{
	"succeed",
	"return an error", "panic", "fail in SQL", "queue a bad write", // at its first attempts
	"ask for later",  // at its first calls: no attempts
	"lose its lease", // at its first attempts: as a consumer that dies with it in hand
	"be hopeless",
}

// planned is a message of the model.
type planned struct {
	n        int
	queue    string
	lane     string // "" also when it is delayed
	delay    time.Duration
	does     string
	times    int // attempts, or calls, at which it does so
	healed   bool
	redriven bool
	lost     map[int]bool // attempts at which its lease was lost already
}

// dies reports whether the message ends as a dead letter.
func (p *planned) dies() bool {
	switch {
	case p.healed:
		return false
	case p.does == "be hopeless":
		return true
	case p.does == "lose its lease":
		return p.times >= 3
	case p.does == "succeed", p.does == "ask for later":
		return false
	}
	return p.times >= 8
}

// world is the model and the services that it is compared with. They share one
// database for all checks.
type world struct {
	t      *testing.T
	db     *messagingtest.DB
	sender *messaging.Bus
	seen   map[string]int

	mu       sync.Mutex // handlers read the plan
	plan     map[int]*planned
	last     int // number of a message, never used again
	lanes    []string
	replicas []replica
}

type replica struct {
	service string
	stop    func()
}

func newWorld(t *testing.T) *world {
	db := newDB(t)
	w := &world{t: t, db: db, sender: bus(t, db, alpha(t)), seen: map[string]int{}}
	messagingtest.Run(t, w.sender)
	return w
}

// begin empties world and database.
func (w *world) begin(*rapid.T) {
	w.mu.Lock()
	w.plan = map[int]*planned{}
	w.lanes = []string{newID(), newID(), newID()}
	w.mu.Unlock()
	for _, table := range []string{"messaging.outbox_alpha", "messaging.queue_beta", "messaging.queue_gamma", "messaging.inbox_beta", "messaging.inbox_gamma", "public.effects"} {
		if _, err := w.db.Admin.Exec(`DELETE FROM ` + table); err != nil {
			w.t.Fatalf("empty %s: %v", table, err)
		}
	}
}

// draw plans a message that nobody has sent yet.
func (w *world) draw(rt *rapid.T) (*planned, messaging.Body) {
	p := &planned{
		queue: rapid.SampledFrom([]string{"beta", "gamma"}).Draw(rt, "queue"),
		does:  rapid.SampledFrom(misbehaviours).Draw(rt, "does"),
		times: rapid.SampledFrom([]int{1, 2, 3, 9}).Draw(rt, "times"),
		lost:  map[int]bool{},
	}
	w.mu.Lock()
	w.last++
	p.n = w.last
	w.mu.Unlock()
	m := body{N: p.n, OrderID: rapid.SampledFrom(append([]string{""}, w.lanes...)).Draw(rt, "lane")}
	p.lane = m.OrderID
	var send messaging.Body = work{m}
	if p.queue == "gamma" {
		send = outside{m}
	}
	if rapid.IntRange(0, 5).Draw(rt, "delayed") == 0 {
		p.delay = time.Duration(rapid.IntRange(1, 60).Draw(rt, "delay")) * time.Millisecond
		p.lane = ""
		send = messaging.After(send, p.delay)
	}
	return p, messaging.InClass(send, messaging.Class(rapid.IntRange(0, 2).Draw(rt, "class")))
}

// send publishes some messages in one transaction.
func (w *world) send(rt *rapid.T) {
	err := w.sender.InTx(context.Background(), func(_ context.Context, tx *messaging.Tx) error {
		for range rapid.IntRange(1, 6).Draw(rt, "messages") {
			p, m := w.draw(rt)
			w.mu.Lock()
			w.plan[p.n] = p
			w.mu.Unlock()
			w.seen[p.does]++
			if err := tx.Publish(m); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		rt.Fatalf("publish: %v", err)
	}
}

var errChangedItsMind = errors.New("changed its mind")

// sendNot publishes a message in a transaction that comes to nothing.
func (w *world) sendNot(rt *rapid.T) {
	err := w.sender.InTx(context.Background(), func(_ context.Context, tx *messaging.Tx) error {
		_, m := w.draw(rt)
		return errors.Join(tx.Publish(m), errChangedItsMind)
	})
	if !errors.Is(err, errChangedItsMind) {
		rt.Fatalf("transaction: got %v, want %v", err, errChangedItsMind)
	}
}

// repeat puts a copy of a message into its queue, as a transport may, under the
// same id.
func (w *world) repeat(rt *rapid.T) {
	queue := rapid.SampledFrom([]string{"beta", "gamma"}).Draw(rt, "queue")
	w.mu.Lock()
	var fit []string
	for _, p := range w.plan {
		if p.queue == queue && p.does == "succeed" && p.delay == 0 {
			fit = append(fit, strconv.Itoa(p.n))
		}
	}
	w.mu.Unlock()
	_, err := w.db.Admin.Exec(`
		INSERT INTO messaging.queue_`+queue+` (message_id, kind, lane, class, order_id, producer, payload)
		SELECT message_id, kind, lane, class, order_id, producer, payload FROM messaging.queue_`+queue+`
		WHERE convert_from(payload, 'UTF8')::jsonb->>'n' = ANY ($1) ORDER BY id LIMIT 1`, fit)
	if err != nil {
		w.t.Fatalf("repeat a message: %v", err)
	}
}

// redrive heals what killed a dead letter and redrives it.
func (w *world) redrive(rt *rapid.T) {
	operator := messaging.NewOperator(w.db.Admin, "model")
	dead, _, err := operator.DeadLetters(w.t.Context(), messaging.DeadFilter{}, "", 100)
	if err != nil {
		w.t.Fatal(err)
	}
	if len(dead) == 0 {
		return
	}
	d := dead[rapid.IntRange(0, len(dead)-1).Draw(rt, "dead")]
	n := count(w.t, w.db.Admin, `SELECT (convert_from(payload, 'UTF8')::jsonb->>'n')::int FROM messaging.queue_`+d.Queue+` WHERE message_id = $1`, d.MessageID)
	w.mu.Lock()
	p := w.plan[n]
	if p != nil && p.dies() {
		p.healed, p.redriven = true, true
	}
	w.mu.Unlock()
	if p == nil || !p.healed {
		rt.Fatalf("message %d (%+v) is dead: %s", n, p, d.Reason)
	}
	if _, err := operator.Redrive(w.t.Context(), messaging.DeadFilter{MessageIDs: []string{d.MessageID}}, messaging.RedriveOptions{}); err != nil {
		w.t.Fatal(err)
	}
}

// startReplica runs one more process of service, up to three.
func (w *world) startReplica(_ *rapid.T, service string) {
	if w.running(service) == 3 {
		return
	}
	spec := beta(w.t)
	if service == "gamma" {
		spec = gamma(w.t)
	}
	b := w.db.NewBus(w.t, spec, func(c *messaging.Config) {
		c.Log = slog.New(slog.DiscardHandler) // thousands of planned failures
		messaging.SetLimits(c, func(l *messaging.Limits) {
			l.Backoff = func(int) time.Duration { return 2 * time.Millisecond }
			l.Poll = 20 * time.Millisecond
			// However busy the machine is, nothing is given up but what the plan says.
			l.Lease, l.Slow, l.Alone = time.Minute, 20*time.Second, 20*time.Second
		})
	})
	if service == "beta" {
		messaging.Handle(b, nothing[happened])
		messaging.Handle(b, func(ctx context.Context, tx *messaging.Tx, m work) error {
			if err := w.act(m.N, tx.Message()); err != nil {
				return err
			}
			return w.write(ctx, tx, "beta", m.body, tx.Message())
		})
	} else {
		messaging.HandleOutside(b, func(ctx context.Context, m outside) (messaging.Record, error) {
			message := messaging.MessageFrom(ctx)
			if err := w.act(m.N, message); err != nil {
				return nil, err
			}
			return func(ctx context.Context, tx *messaging.Tx) error { return w.write(ctx, tx, "gamma", m.body, message) }, nil
		})
	}
	w.replicas = append(w.replicas, replica{service, start(w.t, b)})
}

func (w *world) running(service string) (n int) {
	for _, r := range w.replicas {
		if r.service == service {
			n++
		}
	}
	return n
}

// stopReplica ends one process, gracefully.
func (w *world) stopReplica(rt *rapid.T) {
	if len(w.replicas) == 0 {
		return
	}
	i := rapid.IntRange(0, len(w.replicas)-1).Draw(rt, "replica")
	w.replicas[i].stop()
	w.replicas = slices.Delete(w.replicas, i, i+1)
}

func (w *world) stopAll() {
	for _, r := range w.replicas {
		r.stop()
	}
	w.replicas = nil
}

// act is what the handler of message n does before it writes.
func (w *world) act(n int, m messaging.Message) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	p := w.plan[n]
	if p == nil {
		return messaging.Permanent(fmt.Errorf("message %d was never sent", n))
	}
	if p.healed {
		return nil
	}
	switch p.does {
	case "return an error":
		if m.Attempt <= p.times {
			return errors.New("as planned")
		}
	case "panic":
		if m.Attempt <= p.times {
			panic("as planned")
		}
	case "ask for later":
		if p.times > 0 {
			p.times--
			return messaging.Later(time.Millisecond, errors.New("as planned"))
		}
	case "be hopeless":
		return messaging.Permanent(errors.New("as planned"))
	case "lose its lease":
		if m.Attempt <= p.times && !p.lost[m.Attempt] {
			p.lost[m.Attempt] = true
			_, err := w.db.Admin.Exec(`UPDATE messaging.queue_`+p.queue+` SET token = token + 1, due = clock_timestamp() WHERE message_id = $1 AND token IS NOT NULL`, m.ID)
			return err
		}
	}
	return nil
}

// write is what it writes.
func (w *world) write(ctx context.Context, tx *messaging.Tx, who string, b body, m messaging.Message) error {
	w.mu.Lock()
	does := ""
	if p := w.plan[b.N]; !p.healed && m.Attempt <= p.times {
		does = p.does
	}
	w.mu.Unlock()
	if err := effect(ctx, tx, who, b); err != nil {
		return err
	}
	switch does {
	case "fail in SQL":
		_, err := tx.ExecContext(ctx, `SELECT 1 / 0`)
		return err
	case "queue a bad write":
		tx.Queue(`INSERT INTO public.effects (who, n) VALUES ($1, NULL)`, who)
	}
	return nil
}

// nothingTwice holds at any time.
func (w *world) nothingTwice(rt *rapid.T) {
	if n := count(w.t, w.db.Admin, `SELECT count(*) - count(DISTINCT n) FROM public.effects`); n != 0 {
		rt.Fatalf("messages with more than one effect: %d", n)
	}
}

// settle has everything brought to its end and compares it with the model.
func (w *world) settle(rt *rapid.T) {
	for _, service := range []string{"beta", "gamma"} {
		if w.running(service) == 0 {
			w.startReplica(rt, service)
		}
	}
	rest := 0
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(2 * time.Millisecond) {
		rest = count(w.t, w.db.Admin, `
			SELECT (SELECT count(*) FROM messaging.outbox_alpha) +
			       (SELECT count(*) FROM messaging.queue_beta WHERE dead_reason IS NULL) + (SELECT count(*) FROM messaging.queue_gamma WHERE dead_reason IS NULL)`)
		if rest == 0 {
			break
		}
		if time.Now().After(end) {
			w.show(rt)
			rt.Fatalf("%d messages are still on their way after 20 s", rest)
		}
	}
	w.stopAll() // an ack may be followed by more
	w.nothingTwice(rt)
	w.compare(rt)
}

// compare finds what differs between the model and the database at rest.
func (w *world) compare(rt *rapid.T) {
	type row struct {
		N      int
		Who    string
		Lane   string
		Reason string
		Waited time.Duration
	}
	var effects, dead, traces []row
	for list, query := range map[*[]row]string{
		&effects: `SELECT n, who, coalesce(lane, '') AS lane FROM public.effects ORDER BY id`,
		&dead: `
			SELECT (convert_from(payload, 'UTF8')::jsonb->>'n')::int AS n, 'beta' AS who, dead_reason AS reason FROM messaging.queue_beta
			UNION ALL
			SELECT (convert_from(payload, 'UTF8')::jsonb->>'n')::int, 'gamma', dead_reason FROM messaging.queue_gamma`,
		&traces: `
			SELECT (convert_from(payload, 'UTF8')::jsonb->>'n')::int AS n, 'beta' AS who, (extract(epoch FROM started_at - sent_at) * 1e9)::bigint AS waited FROM messaging.inbox_beta
			UNION ALL
			SELECT (convert_from(payload, 'UTF8')::jsonb->>'n')::int, 'gamma', (extract(epoch FROM started_at - sent_at) * 1e9)::bigint FROM messaging.inbox_gamma`,
	} {
		if err := w.db.Admin.Select(list, query); err != nil {
			w.t.Fatal(err)
		}
	}
	var done, died, handled, buried []int
	for _, p := range w.plan {
		if p.dies() {
			died = append(died, p.n)
		} else {
			done = append(done, p.n)
		}
	}
	for _, r := range dead {
		buried = append(buried, r.N)
	}
	before := map[string]int{} // the last number handled of each queue's lane
	for _, r := range effects {
		handled = append(handled, r.N)
		p := w.plan[r.N]
		if p == nil || p.lane == "" || p.redriven {
			continue
		}
		lane := p.queue + " " + p.lane
		if before[lane] > p.n {
			rt.Errorf("message %d was handled after %d, which was sent later in the same lane", p.n, before[lane])
		}
		before[lane] = p.n
	}
	same := func(what string, got, want []int) {
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			rt.Errorf("messages %s: got %v, want %v", what, got, want)
		}
	}
	same("with an effect", handled, done)
	same("among the dead", buried, died)
	traced := map[int]bool{}
	for _, r := range traces {
		traced[r.N] = true
		if p := w.plan[r.N]; p != nil && r.Waited < p.delay {
			rt.Errorf("message %d waited %s, want at least %s", r.N, r.Waited, p.delay)
		}
	}
	same("in an inbox", slices.Collect(maps.Keys(traced)), done)
	if len(traced) != len(traces) {
		rt.Errorf("traces: got %d of %d messages, want one each", len(traces), len(traced))
	}
	if rt.Failed() {
		w.show(rt)
	}
}

// show logs the model and the queues.
func (w *world) show(rt *rapid.T) {
	for _, n := range slices.Sorted(maps.Keys(w.plan)) {
		rt.Logf("planned: %+v", *w.plan[n])
	}
	for _, queue := range []string{"beta", "gamma"} {
		var rows []string
		if err := w.db.Admin.Select(&rows, `SELECT convert_from(q.payload, 'UTF8') || ' in ' || to_jsonb(q)::text FROM messaging.queue_`+queue+` q`); err != nil {
			w.t.Fatal(err)
		}
		rt.Logf("in queue %s: %q", queue, rows)
	}
}
