package messaging_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"example.com/orderflow/messaging"
)

// C6, C10, C14, C17: a consumer's process is killed at every point of its way,
// several at a time; another one finishes what they had in hand.
func TestC6C10C14C17KilledConsumers(t *testing.T) {
	t.Parallel()
	f := newField(t, newDB(t))
	f.exec(stopAt)
	f.trapBefore("while it claims", "UPDATE", "messaging.queue_beta", "NEW.token IS NOT NULL")
	f.trapCommit("while the claim commits", "UPDATE", "messaging.queue_beta", "NEW.token IS NOT NULL")
	f.trapBefore("at a queued write", "INSERT", "public.effects", "NEW.who = 'queued'")
	f.trapBefore("at the trace", "INSERT", "messaging.inbox_beta", "")
	f.trapBefore("at the ack", "DELETE", "messaging.queue_beta", "")
	f.trapBefore("at the outbox", "INSERT", "messaging.outbox_beta", "")
	f.trapCommit("between flush and commit", "DELETE", "messaging.queue_beta", "")
	f.trapCommit("after the commit", "DELETE", "messaging.queue_beta", "")
	points := []string{
		"while it claims", "while the claim commits", "after the claim", "in the handler", "in mid-batch", "at a queued write",
		"at the trace", "at the ack", "at the outbox", "between flush and commit", "after the commit",
	}
	const batch = 3
	attacks := attackEach(t, "consumer killed ", points, batch)
	for round := range scaled(2, 20) {
		f.send(batch*len(points)+5, nil)
		var wave sync.WaitGroup
		for i, point := range points {
			v := victim{Service: "beta", Number: round*len(points) + i, Point: point, DSN: f.DSN("beta"), Batch: batch, Lease: time.Minute}
			how := []ending{goesOn, isCut}[round%2]
			if point == "after the commit" {
				how = isDone
			}
			wave.Go(func() { attacks[i].round(f.strike(v, how)) })
		}
		wave.Wait()
		f.bury("beta")
		stop := start(t, doer(t, f.DB))
		f.settle(0)
		stop()
	}
}

// attackEach is an attack for each point, of some messages a round.
func attackEach(t testing.TB, what string, points []string, messages int) []*attack {
	list := make([]*attack, len(points))
	for i, p := range points {
		list[i] = newAttack(t, what+p)
		list[i].messages = scaled(2, 20) * messages
	}
	return list
}

// C10: a message that kills every process that handles it ends as one dead letter,
// after three of them, and its neighbours are done.
func TestC10AMessageThatKills(t *testing.T) {
	t.Parallel()
	f := newField(t, newDB(t))
	f.exec(stopAt)
	a := newAttack(t, "message that kills its process")
	const batch = 5
	for round := range scaled(2, 20) {
		f.send(batch, func(i int, m *work) {
			if i == round%batch {
				m.Do = "kill"
			}
		})
		a.messages = f.sent
		killed := 0
		within(t, time.Minute, "everything to be done or dead", func() bool {
			p := victim{Service: "beta", Number: round, DSN: f.DSN("beta"), Batch: batch, Lease: time.Minute}.launch(t)
			for end := time.Now().Add(10 * time.Second); f.living() > 0 && time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
				if p.gone() {
					killed++
					break
				}
			}
			p.kill()
			f.bury("beta")
			return f.living() == 0
		})
		f.audit(round + 1)
		a.round(killed == 3)
	}
	if n := count(t, f.raw, `SELECT count(*) FROM messaging.queue_beta WHERE crashes <> 3`); n != 0 {
		t.Errorf("dead letters after another number of deaths than 3: got %d, want 0", n)
	}
}

// C2, C3, C12: a relay's process is killed at every point of its way. What it had
// in hand is carried whole, to every queue and the log, once and in order.
func TestC1C2C3C12KilledRelays(t *testing.T) {
	t.Parallel()
	f := newField(t, newDB(t))
	f.exec(stopAt)
	f.trapBefore("while it takes", "DELETE", "messaging.outbox_alpha", "")
	f.trapBefore("while it puts", "INSERT", "messaging.queue_beta", "")
	f.trapBefore("while it logs", "INSERT", "messaging.log_alpha", "")
	f.trapCommit("between move and commit", "DELETE", "messaging.outbox_alpha", "")
	f.trapCommit("after the commit, before the wake-up", "DELETE", "messaging.outbox_alpha", "")
	points := []string{"before the lock", "while it takes", "while it puts", "while it logs", "between move and commit", "after the commit, before the wake-up"}
	const each = 12
	attacks := attackEach(t, "relay killed ", points, each)
	start(t, doer(t, f.DB))
	d := f.NewBus(t, delta(t))
	messaging.Handle(d, func(ctx context.Context, tx *messaging.Tx, m happened) error { return effect(ctx, tx, "delta", m.body) })
	start(t, d)
	events := 0
	for round := range scaled(2, 20) {
		for i, point := range points {
			f.letGo() // the last one's server process may carry what is put from now on
			f.put("outbox_alpha", "beta.work", each-2, func(i int, b *body) { b.OrderID = orderID(i % 3) })
			f.exec(`INSERT INTO messaging.outbox_alpha (message_id, kind, payload)
				SELECT gen_random_uuid(), 'alpha.happened', convert_to(format('{"n": %s}', n), 'UTF8') FROM generate_series($1::int + 1, $1::int + 2) n`, events)
			events += 2
			v := victim{Service: "alpha", Number: round*len(points) + i, Point: point, DSN: f.DSN("alpha"), Batch: 1, Lease: time.Minute}
			if point == "before the lock" {
				attacks[i].round(f.strikeBeforeLock(v))
				continue
			}
			how := []ending{goesOn, isCut}[round%2]
			if i == len(points)-1 {
				how = isDone
			}
			attacks[i].round(f.strike(v, how))
		}
	}
	a := bus(t, f.DB, alpha(t))
	start(t, a)
	f.settle(0)
	within(t, time.Minute, "delta to hear everything", func() bool { return count(t, f.raw, `SELECT count(*) FROM messaging.queue_delta`) == 0 })
	if n := f.inversions(); n != 0 {
		t.Errorf("works done before an earlier one of their order: got %d, want 0", n)
	}
	for what, query := range map[string]string{
		"in the log":                   `SELECT count(*) FROM messaging.log_alpha`,
		"in the log, each once":        `SELECT count(DISTINCT message_id) FROM messaging.log_alpha`,
		"heard by beta":                `SELECT count(*) FROM messaging.inbox_beta WHERE kind = 'alpha.happened'`,
		"heard by delta":               `SELECT count(*) FROM public.effects WHERE who = 'delta'`,
		"heard by delta, each of them": `SELECT count(DISTINCT n) FROM public.effects WHERE who = 'delta'`,
	} {
		if n := count(t, f.raw, query); n != events {
			t.Errorf("events %s: got %d, want %d", what, n, events)
		}
	}
}

// strikeBeforeLock kills a relay that waits for the one before it.
func (f *field) strikeBeforeLock(v victim) (hit bool) {
	tx, err := f.raw.Beginx()
	if err != nil {
		f.t.Fatal(err)
	}
	defer func() { _ = tx.Rollback() }()
	if _, err := tx.Exec(messaging.LockRelaySQL, v.Service); err != nil {
		f.t.Fatal(err)
	}
	p := v.launch(f.t)
	if p == nil {
		return false
	}
	defer p.kill()
	waiting := func() bool {
		return count(f.t, f.raw, `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = $1 AND wait_event = 'advisory'`, v.name()) > 0
	}
	for end := time.Now().Add(15 * time.Second); !hit && time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		hit = waiting()
	}
	return hit
}

// provider is the outside. It keeps books: an effect happens once under a key,
// however often it is asked for.
type provider struct {
	*httptest.Server
	mu       sync.Mutex
	requests map[int]int // by key
	effects  map[int]bool
	hold     func(key int) // called before an answer, after the effect; may be nil
	refuse   func(key int) // called before the effect; may be nil
}

func newProvider(t testing.TB) *provider {
	p := &provider{requests: map[int]int{}, effects: map[int]bool{}}
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		key, err := strconv.Atoi(strings.TrimPrefix(r.URL.Path, "/"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		p.mu.Lock()
		p.requests[key]++
		hold, refuse := p.hold, p.refuse
		p.mu.Unlock()
		if refuse != nil {
			refuse(key)
		}
		if r.Context().Err() != nil { // the caller has gone before anything happened
			return
		}
		p.mu.Lock()
		p.effects[key] = true
		p.mu.Unlock()
		if hold != nil {
			hold(key)
		}
	}))
	t.Cleanup(p.Close)
	return p
}

func (p *provider) intercept(refuse, hold func(int)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refuse, p.hold = refuse, hold
}

// newOutside is a field whose messages go to gamma, with what its handler needs.
func newOutside(t testing.TB) *field {
	t.Helper()
	f := newField(t, newDB(t))
	f.exec(`CREATE TABLE public.intents (n integer PRIMARY KEY); GRANT ALL ON public.intents TO PUBLIC`)
	f.exec(stopAt)
	return f
}

func (f *field) sendOutside(n int) {
	f.t.Helper()
	f.put("queue_gamma", "gamma.outside", n, func(int, *body) {})
	f.exec(`SELECT pg_notify('queue_gamma', '')`)
}

// settleOutside waits until gamma has nothing left and compares its books with the provider's.
func (f *field) settleOutside(p *provider) {
	f.t.Helper()
	within(f.t, time.Minute, "the queue of gamma to be empty", func() bool { return count(f.t, f.raw, `SELECT count(*) FROM messaging.queue_gamma`) == 0 })
	for what, query := range map[string]string{
		"effects":              `SELECT count(*) FROM public.effects WHERE who = 'direct'`,
		"effects, second part": `SELECT count(*) FROM public.effects WHERE who = 'queued'`,
		"done":                 `SELECT count(DISTINCT n) FROM public.effects`,
		"traces":               `SELECT count(*) FROM messaging.inbox_gamma`,
		"intents":              `SELECT count(*) FROM public.intents`,
	} {
		if n := count(f.t, f.raw, query); n != f.sent {
			f.t.Errorf("%s: got %d, want %d", what, n, f.sent)
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.effects) != f.sent {
		f.t.Errorf("effects at the provider: got %d, want %d", len(p.effects), f.sent)
	}
}

// C16: a process that talks to the outside is killed after its intent, during the
// call before and after the effect there, and while it records. The provider is
// asked again under the same key, and the record is written once.
func TestC6C16KilledOutside(t *testing.T) {
	t.Parallel()
	f := newOutside(t)
	f.trapCommit("after the intent", "INSERT", "public.intents", "")
	f.trapBefore("after the call, before the record", "INSERT", "public.effects", "NEW.who = 'direct'")
	f.trapBefore("at the ack", "DELETE", "messaging.queue_gamma", "")
	f.trapCommit("between record and commit", "DELETE", "messaging.queue_gamma", "")
	f.trapCommit("after the record", "DELETE", "messaging.queue_gamma", "")
	points := []string{"during the call, before its effect", "during the call, after its effect", "after the intent", "after the call, before the record", "at the ack", "between record and commit", "after the record"}
	const batch = 2
	attacks := attackEach(t, "leased handler killed ", points, batch)
	// Two providers with one book would be one too many: each victim calls its own door.
	prov := newProvider(t)
	for round := range scaled(2, 20) {
		for i, point := range points[:2] { // one after the other: it is the provider who holds them up
			f.sendOutside(batch)
			attacks[i].round(f.strikeDuringCall(prov, victim{Service: "gamma", Number: round*len(points) + i, Point: point, DSN: f.DSN("gamma"), Provider: prov.URL, Batch: batch, Lease: time.Minute}, i == 1))
			f.bury("gamma")
			g := f.NewBus(t, gamma(t))
			handleOutside(g, prov.URL)
			stop := start(t, g)
			f.settleOutside(prov)
			stop()
		}
		f.sendOutside(batch*(len(points)-2) + 3)
		var wave sync.WaitGroup
		for i := 2; i < len(points); i++ {
			v := victim{Service: "gamma", Number: round*len(points) + i, Point: points[i], DSN: f.DSN("gamma"), Provider: prov.URL, Batch: batch, Lease: time.Minute}
			how := []ending{goesOn, isCut}[round%2]
			if v.Point == "after the intent" || v.Point == "after the record" {
				how = isDone
			}
			wave.Go(func() { attacks[i].round(f.strike(v, how)) })
		}
		wave.Wait()
		f.bury("gamma")
		g := f.NewBus(t, gamma(t))
		handleOutside(g, prov.URL)
		stop := start(t, g)
		f.settleOutside(prov)
		stop()
	}
}

// strikeDuringCall kills v while the provider has its request: before the effect
// there, or after it.
func (f *field) strikeDuringCall(p *provider, v victim, after bool) (hit bool) {
	asked, answer := make(chan int, 100), make(chan struct{})
	pause := func(key int) {
		asked <- key
		<-answer
	}
	if after {
		p.intercept(nil, pause)
	} else {
		p.intercept(pause, nil)
	}
	defer p.intercept(nil, nil)
	defer close(answer)
	x := v.launch(f.t)
	if x == nil {
		return false
	}
	defer x.kill()
	select {
	case key := <-asked:
		x.kill()
		if count(f.t, f.raw, `SELECT count(*) FROM public.intents WHERE n = $1`, key) != 1 {
			f.t.Errorf("message %d: the provider was called before the intent was committed", key)
		}
		return true
	case <-time.After(15 * time.Second):
		f.t.Logf("victim %d never called; it said:\n%s", v.Number, x.log)
		return false
	}
}

// C6, C16: a process is frozen for longer than its leases and goes on when others
// have done its work: it can't commit. Its own clocks, which would make it give up
// by itself, believe in a minute: only the token and the inbox's key guard here.
func TestC6C16PausedConsumersAreFenced(t *testing.T) {
	t.Parallel()
	const batch, lease = 3, time.Second
	for _, service := range []string{"beta", "gamma"} {
		t.Run(service, func(t *testing.T) {
			t.Parallel()
			f := newOutside(t)
			prov := newProvider(t)
			a := newAttack(t, "consumer of "+service+" paused beyond its lease")
			f.trapBefore("before the record", "INSERT", "public.effects", "NEW.who = 'direct'")
			point := map[string]string{"beta": "in the handler", "gamma": "before the record"}[service]
			rounds, atOnce := scaled(2, 20), scaled(2, 5)
			for wave := range rounds / atOnce {
				if service == "beta" {
					f.send(batch*atOnce, nil)
				} else {
					f.sendOutside(batch * atOnce)
				}
				a.messages = f.sent
				paused := make([]*process, atOnce)
				var freezing sync.WaitGroup
				for i := range atOnce {
					v := victim{Service: service, Number: wave*atOnce + i, Point: point, DSN: f.DSN(service), Provider: prov.URL, Batch: batch, Lease: time.Minute}
					freezing.Go(func() { paused[i] = f.pause(v) })
				}
				freezing.Wait()
				f.exec(`UPDATE messaging.queue_`+service+` SET due = clock_timestamp() + $1::interval WHERE token IS NOT NULL`, lease.String())
				var b *messaging.Bus
				if service == "beta" {
					b = doer(t, f.DB)
				} else {
					b = f.NewBus(t, gamma(t))
					handleOutside(b, prov.URL)
				}
				begun := time.Now()
				stop := start(t, b)
				within(t, time.Minute, "the others to take over", func() bool { return count(t, f.raw, `SELECT count(*) FROM messaging.queue_`+service) == 0 })
				t.Logf("taken over %s after the pause began (lease %s)", time.Since(begun).Round(time.Millisecond), lease)
				for _, p := range paused {
					if p != nil {
						p.thaw(t)
					}
				}
				for _, p := range paused {
					hit := p != nil && p.fenced()
					if a.round(hit); p != nil && !hit {
						t.Logf("the late one said:\n%s", p.log)
					}
				}
				if service == "beta" {
					f.settle(0)
				} else {
					f.settleOutside(prov)
				}
				stop()
				for _, p := range paused {
					if p != nil {
						p.kill()
					}
				}
			}
		})
	}
}

// fenced waits until the process tells that it was too late: by the token, or by
// the trace of whoever was faster. By that it has tried.
func (p *process) fenced() bool {
	for end := time.Now().Add(15 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		said := p.log.String()
		if strings.Contains(said, messaging.ErrLost.Error()) || strings.Contains(said, "inbox_") && strings.Contains(said, "SQLSTATE 23505") {
			return true
		}
	}
	return false
}

// pause starts v, freezes it at its point and lets its transaction go on; nil
// when it never got there.
func (f *field) pause(v victim) *process {
	release, err := f.hold(v)
	if err != nil {
		f.t.Errorf("lie in wait for victim %d: %v", v.Number, err)
		return nil
	}
	defer release()
	p := v.launch(f.t)
	if p == nil {
		return nil
	}
	pid := f.caught(v)
	if pid == 0 {
		f.t.Logf("victim %d never came to the point %q; it said:\n%s", v.Number, v.Point, p.log)
		p.kill()
		return nil
	}
	p.freeze(f.t)
	release()
	f.awaitIdle(pid)
	return p
}

// C6, C14: copies of a message that are in hand at the same time have one effect.
// They stand in the queue as a carrier leaves them that was killed between
// carrying and forgetting, and carried them again.
func TestC6C14DoubledMessages(t *testing.T) {
	t.Parallel()
	f := newField(t, newDB(t))
	a := newAttack(t, "messages doubled")
	f.exec(`
		CREATE TABLE public.acked (message_id uuid NOT NULL);
		GRANT ALL ON public.acked TO PUBLIC;
		CREATE FUNCTION public.note_ack() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO public.acked VALUES (OLD.message_id); RETURN NULL; END';
		CREATE TRIGGER note_ack AFTER DELETE ON messaging.queue_beta FOR EACH ROW EXECUTE FUNCTION public.note_ack()`)
	var calls atomic.Int64
	for range 2 {
		b := f.NewBus(t, beta(t), quick, func(c *messaging.Config) { c.Consumers = 3 })
		messaging.Handle(b, nothing[happened])
		messaging.Handle(b, func(ctx context.Context, tx *messaging.Tx, m work) error {
			calls.Add(1)
			return deed(ctx, tx, m.body)
		})
		start(t, b)
	}
	start(t, bus(t, f.DB, alpha(t)))
	each := scaled(50, 200)
	for round := range scaled(2, 20) {
		table := []string{"queue_beta", "outbox_alpha"}[round%2]
		f.exec(`
			INSERT INTO messaging.`+table+` (message_id, kind, lane, correlation_id, payload)
			SELECT m.id, 'beta.work', CASE WHEN m.n % 3 = 0 THEN 'lane ' || m.n END, 'attack', convert_to(format('{"n": %s}', m.n), 'UTF8')
			FROM (SELECT n, gen_random_uuid() AS id FROM generate_series($1::int, $1::int + $2::int - 1) n) m, generate_series(1, 3) copy
			ORDER BY CASE WHEN $3 THEN copy END, m.n`, f.sent, each, round%4 < 2)
		f.sent += each
		f.wake()
		f.settle(0)
		a.round(count(t, f.raw, `SELECT count(*) FROM public.acked`) == 3*f.sent) // every copy has come and gone
	}
	a.messages = 3 * f.sent
	t.Logf("%d works were begun twice at the same time", int(calls.Load())-f.sent)
}
