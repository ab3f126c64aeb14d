package messaging_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"

	"example.com/orderflow/messaging"
	"example.com/orderflow/messaging/messagingtest"
)

// The attacks: what may go wrong is made to go wrong, again and again, each time
// making sure that it really did; and at the end every message that was sent has
// had its whole effect, once. The tests bear the names of the rules that they
// attack; go test ./messaging -run C5 runs the proofs of rule C5.

// scaled is brief in a quick run and full when everything runs at its full length.
func scaled[T any](brief, full T) T {
	if long() {
		return full
	}
	return brief
}

// within waits until cond is true; after patience t fails with what was waited for.
func within(t testing.TB, patience time.Duration, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !cond(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited %s in vain for: %s", patience, what)
		}
	}
}

// start runs bus in the background until stop is called or t ends.
func start(t testing.TB, bus *messaging.Bus) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- bus.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("run the bus: %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// attack counts what an attack does. At the end of its test it tells the figures,
// and fails when too few of its rounds hit: a fault that hits nothing proves nothing.
type attack struct {
	t    testing.TB
	name string

	mu           sync.Mutex
	rounds, hits int
	messages     int
}

func newAttack(t testing.TB, name string) *attack {
	a := &attack{t: t, name: name}
	t.Cleanup(func() {
		t.Logf("%s: %d rounds, hit %d, %d messages", a.name, a.rounds, a.hits, a.messages)
		if a.rounds == 0 || a.hits*4 < a.rounds*3 {
			t.Errorf("%s: hit %d of %d: the attack proves nothing", a.name, a.hits, a.rounds)
		}
	})
	return a
}

// round notes a round and whether its fault hit.
func (a *attack) round(hit bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.rounds++
	if hit {
		a.hits++
	}
}

// done is what beta speaks of each work that it did: the outgoing part of an effect.
type done struct{ body }

func (done) Kind() string { return "beta.done" }

// deed is the whole effect of a work: a row written at once, a row queued for the
// flush, and an event published.
func deed(ctx context.Context, tx *messaging.Tx, b body) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO public.effects (who, n, lane, attempt) VALUES ('direct', $1, $2, $3)`, b.N, b.OrderID, tx.Message().Attempt)
	if err != nil {
		return err
	}
	if err := effect(ctx, tx, "queued", b); err != nil {
		return err
	}
	return tx.Publish(done{b})
}

// doer is a bus of beta that does every work.
func doer(t testing.TB, db *messagingtest.DB, options ...func(*messaging.Config)) *messaging.Bus {
	t.Helper()
	b := db.NewBus(t, beta(t), options...)
	messaging.Handle(b, nothing[happened])
	messaging.Handle(b, func(ctx context.Context, tx *messaging.Tx, m work) error { return deed(ctx, tx, m.body) })
	return b
}

// field is a database under attack with what was sent there: the works 0 to sent-1.
type field struct {
	*messagingtest.DB
	t    testing.TB
	raw  *sqlx.DB // an administrator's pool without time limits
	sent int
}

func newField(t testing.TB, db *messagingtest.DB) *field {
	t.Helper()
	raw, err := sqlx.Open("pgx", db.DSN(""))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := raw.Close(); err != nil {
			t.Errorf("close a pool: %v", err)
		}
	})
	return &field{DB: db, t: t, raw: raw}
}

func (f *field) exec(query string, args ...any) {
	f.t.Helper()
	if _, err := f.raw.Exec(query, args...); err != nil {
		f.t.Fatalf("%s: %v", query, err)
	}
}

// send puts n works into the queue of beta, each altered by change if that is not nil.
func (f *field) send(n int, change func(i int, m *work)) {
	f.t.Helper()
	f.put("queue_beta", "beta.work", n, func(i int, b *body) {
		m := work{*b}
		if change != nil {
			change(i, &m)
		}
		*b = m.body
	})
}

// put writes n bodies of kind into a table of the messaging layer.
func (f *field) put(table, kind string, n int, change func(i int, b *body)) {
	f.t.Helper()
	ids, lanes, payloads := make([]string, n), make([]*string, n), make([]string, n)
	for i := range n {
		b := body{N: f.sent}
		change(i, &b)
		text, err := json.Marshal(b)
		if err != nil {
			f.t.Fatal(err)
		}
		ids[i], payloads[i] = newID(), string(text)
		if b.OrderID != "" {
			lanes[i] = &b.OrderID
		}
		f.sent++
	}
	f.exec(`INSERT INTO messaging.`+table+` (message_id, kind, lane, order_id, correlation_id, payload)
		SELECT m.id, $1, m.lane, m.lane::uuid, 'attack', convert_to(m.payload, 'UTF8')
		FROM unnest($2::uuid[], $3::text[], $4::text[]) WITH ORDINALITY m (id, lane, payload, n) ORDER BY m.n`, kind, ids, lanes, payloads)
	f.wake()
}

// wake rings at the queue of beta.
func (f *field) wake() { f.exec(`SELECT pg_notify('queue_beta', '')`) }

// living counts the messages in the queue of beta that are not dead.
func (f *field) living() int {
	f.t.Helper()
	return count(f.t, f.raw, `SELECT count(*) FROM messaging.queue_beta WHERE dead_reason IS NULL`)
}

// settle waits until no message is left to be handled and audits the field.
func (f *field) settle(dead int) {
	f.t.Helper()
	within(f.t, 2*time.Minute, "the outbox of alpha and the queue of beta to be empty", func() bool {
		return count(f.t, f.raw, `SELECT count(*) FROM messaging.outbox_alpha`) == 0 && f.living() == 0
	})
	f.audit(dead)
}

// parts counts, for every work n that was sent, each part of its effect, its dead
// letters and its traces. With the queue empty each part is there once, or there
// is a dead letter and nothing else.
const parts = `
	SELECT s.n, coalesce(e.direct, 0) AS direct, coalesce(e.queued, 0) AS queued, coalesce(i.n, 0) AS traced, coalesce(o.n, 0) AS published, coalesce(d.n, 0) AS dead
	FROM generate_series(0, $1::int - 1) s (n)
	LEFT JOIN (SELECT n, count(*) FILTER (WHERE who = 'direct') AS direct, count(*) FILTER (WHERE who = 'queued') AS queued FROM public.effects GROUP BY n) e ON e.n = s.n
	LEFT JOIN (SELECT public.n_of(payload) AS k, count(*) AS n FROM messaging.inbox_beta WHERE kind = 'beta.work' GROUP BY 1) i ON i.k = s.n
	LEFT JOIN (SELECT public.n_of(payload) AS k, count(*) AS n
	           FROM (SELECT payload, kind FROM messaging.outbox_beta UNION ALL SELECT payload, kind FROM messaging.log_beta) x
	           WHERE kind = 'beta.done' GROUP BY 1) o ON o.k = s.n
	LEFT JOIN (SELECT public.n_of(payload) AS k, count(*) AS n FROM messaging.queue_beta WHERE kind = 'beta.work' AND dead_reason IS NOT NULL GROUP BY 1) d ON d.k = s.n`

// audit fails the test unless every work has had its effect whole and once, but
// for as many dead letters as are expected, which have had none.
func (f *field) audit(dead int) {
	f.t.Helper()
	f.exec(`CREATE OR REPLACE FUNCTION public.n_of(payload bytea) RETURNS integer LANGUAGE sql IMMUTABLE
		AS $$ SELECT (convert_from(payload, 'UTF8')::jsonb ->> 'n')::integer $$`)
	var got struct{ Lost, Half, Twice, Dead, Others int }
	err := f.raw.Get(&got, `
		WITH p AS (`+parts+`)
		SELECT count(*) FILTER (WHERE direct + queued + traced + published + dead = 0) AS lost,
		       count(*) FILTER (WHERE direct + queued + traced + published > 0 AND least(direct, queued, traced, published) = 0
		                           OR dead > 0 AND direct + queued + traced + published > 0) AS half,
		       count(*) FILTER (WHERE greatest(direct, queued, traced, published, dead) > 1) AS twice,
		       count(*) FILTER (WHERE dead > 0) AS dead,
		       (SELECT count(*) FROM public.effects WHERE who IN ('direct', 'queued') AND NOT n BETWEEN 0 AND $1::int - 1) AS others
		FROM p`, f.sent)
	if err != nil {
		f.t.Fatalf("audit: %v", err)
	}
	if got.Lost+got.Half+got.Twice+got.Others > 0 || got.Dead != dead {
		f.t.Errorf("of %d messages: %d lost, %d half done, %d done twice, %d dead, %d effects of none; want none lost, half done or done twice and %d dead%s",
			f.sent, got.Lost, got.Half, got.Twice, got.Dead, got.Others, dead, f.wrong())
	}
	if n := count(f.t, f.raw, `SELECT count(*) FROM messaging.queue_beta WHERE token IS NOT NULL AND dead_reason IS NULL`); n != 0 {
		f.t.Errorf("messages left in somebody's hand: got %d, want 0", n)
	}
}

// wrong lists the first works that are not as they should be, and the reasons of the dead.
func (f *field) wrong() string {
	f.t.Helper()
	var rows []struct{ N, Direct, Queued, Traced, Published, Dead int }
	err := f.raw.Select(&rows, `
		SELECT n, direct, queued, traced, published, dead FROM (`+parts+`) p
		WHERE dead > 0 OR (direct, queued, traced, published) <> (1, 1, 1, 1) ORDER BY n LIMIT 10`, f.sent)
	if err != nil {
		f.t.Fatalf("audit: %v", err)
	}
	var reasons []string
	if err := f.raw.Select(&reasons, `SELECT dead_reason FROM messaging.queue_beta WHERE dead_reason IS NOT NULL ORDER BY id LIMIT 10`); err != nil {
		f.t.Fatalf("audit: %v", err)
	}
	return fmt.Sprintf("\n%+v\n%s", rows, strings.Join(reasons, "\n"))
}

// inversions counts the works that were done before an earlier one of their lane.
func (f *field) inversions() int {
	f.t.Helper()
	return count(f.t, f.raw, `
		SELECT count(*) FROM (SELECT n, lag(n) OVER (PARTITION BY lane ORDER BY id) AS before FROM public.effects WHERE who = 'direct' AND lane <> '') e
		WHERE before > n`)
}

// orderID is the id of the order with that number.
func orderID(n int) string { return fmt.Sprintf("00000000-0000-7000-8000-%012d", n) }
