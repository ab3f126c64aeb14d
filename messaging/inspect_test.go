package messaging_test

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"example.com/orderflow/messaging"
	"example.com/orderflow/messaging/messagingtest"
)

// inspected is how queue name stands by db's administrator.
func inspected(t testing.TB, db *messagingtest.DB, name string) messaging.QueueState {
	t.Helper()
	v, err := messaging.NewOperator(db.Admin, "test").Queues(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range v.Queues {
		if q.Name == name {
			return q
		}
	}
	t.Fatalf("queue %s is not among %+v", name, v.Queues)
	return messaging.QueueState{}
}

func exact(n int64) messaging.Count { return messaging.Count{N: n, How: messaging.Exact} }

// Every message is counted for what it is.
func TestQueuesTellHowEachStands(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	_, err := db.Admin.Exec(`
		INSERT INTO messaging.queue_beta (message_id, kind, payload, class, occurred_at, due, attempts, crashes, token, dead_reason)
		SELECT gen_random_uuid(), 'beta.work', '{}', m.class, clock_timestamp() - m.age, clock_timestamp() + m.due, m.attempts, m.crashes, m.token, m.dead
		FROM (VALUES (0, interval '1 minute', interval '-1 minute', 0, 0, NULL::bigint, NULL::text), -- ready
		             (1, '10 minutes', '-10 minutes', 0, 0, NULL, NULL),
		             (2, '1 second', '-1 second', 0, 0, NULL, NULL),
		             (1, '1 hour', '-1 second', 3, 0, NULL, NULL),            -- ready for its fourth attempt
		             (1, '1 minute', '-1 second', 1, 0, 7, NULL),             -- left behind by one that died
		             (1, '0', '1 hour', 0, 0, NULL, NULL),                    -- sent to be handled later
		             (1, '0', '1 minute', 2, 1, NULL, NULL),                  -- waits after a failure and a crash
		             (1, '0', '10 seconds', 1, 0, 8, NULL),                   -- in hand
		             (0, '0', '10 seconds', 2, 0, 9, NULL),                   -- in hand, again
		             (1, '2 days', '-2 days', 8, 0, NULL, 'broken'),          -- dead
		             (1, '2 days', '-2 days', 3, 3, 5, 'crashes')) m (class, age, due, attempts, crashes, token, dead);
		INSERT INTO messaging.outbox_alpha (message_id, kind, payload, occurred_at, dead_reason)
		VALUES (gen_random_uuid(), 'beta.work', '{}', clock_timestamp() - interval '1 minute', 'unroutable'),
		       (gen_random_uuid(), 'beta.work', '{}', clock_timestamp() - interval '30 seconds', NULL),
		       (gen_random_uuid(), 'beta.work', '{}', clock_timestamp(), NULL);
		UPDATE messaging.queues SET paused_at = clock_timestamp(), run = 3 WHERE name = 'beta'`)
	if err != nil {
		t.Fatal(err)
	}
	q := inspected(t, db, "beta")
	for _, c := range []struct {
		what      string
		got, want messaging.Count
	}{
		{"depth", q.Depth, exact(9)}, {"ready", q.Ready, exact(5)}, {"delayed", q.Delayed, exact(2)}, {"in flight", q.InFlight, exact(2)},
		{"retried", q.Retried, exact(2)}, {"crashed", q.Crashed, exact(1)}, {"dead", q.Dead, exact(2)},
	} {
		if c.got != c.want {
			t.Errorf("%s: got %s, want %s", c.what, c.got, c.want)
		}
	}
	if age := time.Duration(q.Oldest); age < time.Hour || age > 2*time.Hour {
		t.Errorf("age of the oldest: got %s, want an hour", q.Oldest)
	}
	if q.Service != "beta" || q.Leased || q.Run != 3 || q.PausedAt == nil {
		t.Errorf("queue: got %+v, want beta's, transactional, in run 3, paused", q)
	}
	if q := inspected(t, db, "gamma"); !q.Leased || q.PausedAt != nil || q.Depth != exact(0) || q.Oldest != 0 || q.In != 0 || q.Out != 0 {
		t.Errorf("idle queue: got %+v, want it leased and empty", q)
	}
	v, err := messaging.NewOperator(db.Admin, "test").Queues(t.Context())
	if err != nil || len(v.Queues) != 3 || len(v.Outboxes) != 2 {
		t.Fatalf("overview: got %+v, %v; want three queues and two outboxes", v, err)
	}
	b := v.Outboxes[0]
	if age := time.Duration(b.Oldest); b.Service != "alpha" || b.Depth != exact(2) || b.Dead != exact(1) || age < 30*time.Second || age > time.Minute {
		t.Errorf("outbox: got %+v, want alpha's with 2 of 30 s, and a dead one", b)
	}
	text, err := json.Marshal(q)
	var back messaging.QueueState
	if err = errors.Join(err, json.Unmarshal(text, &back)); err != nil || back.Depth != q.Depth || back.Oldest.String() != q.Oldest.String() {
		t.Errorf("JSON: got %s, %v", text, err)
	}
}

// In and Out are what was sent and handled, by the traces and the queue.
func TestQueuesTellRates(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	a, b := bus(t, db, alpha(t)), bus(t, db, beta(t))
	messaging.Handle(b, nothing[happened])
	messaging.Handle(b, nothing[work])
	messagingtest.Run(t, a)
	messagingtest.Run(t, b)
	err := a.InTx(t.Context(), func(ctx context.Context, tx *messaging.Tx) error {
		for n := range 120 {
			if err := tx.Publish(work{body{N: n}}); err != nil {
				return err
			}
		}
		return tx.Publish(messaging.After(work{body{N: 120}}, time.Hour))
	})
	if err != nil {
		t.Fatal(err)
	}
	messagingtest.Wait(t, "120 traces", func() bool { return count(t, db.Admin, `SELECT count(*) FROM messaging.inbox_beta`) == 120 })
	q := inspected(t, db, "beta")
	if q.Out < 1.99 || q.Out > 2.01 || q.In < 2.00 || q.In > 2.03 {
		t.Errorf("rates of 120 messages handled and one waiting in a minute: got %.3f in, %.3f out, want 121/60 and 2", q.In, q.Out)
	}
	// What was handled before the last minute is past.
	if _, err := db.Admin.Exec(`UPDATE messaging.inbox_beta SET handled_at = handled_at - interval '1 hour', sent_at = sent_at - interval '1 hour'`); err != nil {
		t.Fatal(err)
	}
	if q := inspected(t, db, "beta"); q.Out != 0 {
		t.Errorf("rate an hour later: got %f out, want 0", q.Out)
	}
}

// manyRows is how many messages a queue and an inbox are filled with.
func manyRows() int {
	if long() {
		return 1_000_000
	}
	return 30_000
}

// fill puts n messages into queue beta and as many into its inbox, each tenth of
// which was handled within the last seconds. Each order has ten, so its id bears
// one time for all rows.
func fill(t testing.TB, db *messagingtest.DB, n int) {
	t.Helper()
	for _, stmt := range []string{`
		INSERT INTO messaging.queue_beta (message_id, kind, lane, order_id, causation_id, payload)
		SELECT m.id, 'beta.work', m.order_id, m.order_id::uuid, CASE WHEN m.n % 2 = 0 THEN m.id END, '{"n": 1, "padding": "a payload of an ordinary length, as orders have them"}'
		FROM (SELECT n, (lpad(to_hex((extract(epoch FROM clock_timestamp()) * 1000)::bigint), 12, '0') || '70008000' || lpad(to_hex(n), 12, '0'))::uuid AS id,
		             (lpad(to_hex((extract(epoch FROM now()) * 1000)::bigint), 12, '0') || '7000a000' || lpad(to_hex(n / 10), 12, '0'))::uuid::text AS order_id
		      FROM generate_series(1, $1) n) m`, `
		INSERT INTO messaging.inbox_beta (message_id, consumer, kind, lane, order_id, producer, payload, sent_at, started_at, handled_at, ran, attempts, outcome)
		SELECT message_id, 'beta', 'alpha.happened', lane, order_id, 'alpha', payload, m.at, m.at, m.at, '1 millisecond', 1, 'done'
		FROM (SELECT q.*, clock_timestamp() - make_interval(secs => ($1 - q.id) * 0.001) AS at FROM messaging.queue_beta q) m
		ORDER BY m.id
		LIMIT $1`,
	} {
		// This takes longer than a service's statement may.
		tx, err := db.Admin.Beginx()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tx.Exec(`SET LOCAL statement_timeout = 0`); err != nil {
			t.Fatal(err)
		}
		if _, err := tx.Exec(stmt, n); err != nil {
			t.Fatal(err)
		}
		if err := tx.Commit(); err != nil {
			t.Fatal(err)
		}
	}
}

// measured is the shortest of five times that f takes; the first, on which the
// server reads what it has to know of the tables, is logged.
func measured(t testing.TB, f func()) time.Duration {
	t.Helper()
	best := time.Hour
	for i := range 5 {
		begun := time.Now()
		f()
		took := time.Since(begun)
		best = min(best, took)
		if i == 0 {
			t.Logf("the first time: %s", took)
		}
	}
	return best
}

// A million messages in a queue and a million traces cost no more than the first
// 10,000.
func TestQueuesOfAMillion(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	n := manyRows()
	fill(t, db, n)
	var q messaging.QueueState
	took := measured(t, func() { q = inspected(t, db, "beta") })
	t.Logf("%d messages: %s; %+v", n, took, q)
	if took > time.Second {
		t.Errorf("overview of %d messages: took %s, want 100 ms (here up to a second)", n, took)
	}
	if q.Ready != (messaging.Count{N: 10_000, How: messaging.AtLeast}) || q.Depth.How != messaging.About {
		t.Errorf("got %s ready of depth %s, want ≥10000 and about %d", q.Ready, q.Depth, n)
	}
	if q.Out < 10 || q.Out > 1200 || q.In <= 0 {
		t.Errorf("got %.0f in and %.0f out per second, want some in and up to 1000 out", q.In, q.Out)
	}
	// The server's statistics come a moment later.
	messagingtest.Wait(t, "the estimate", func() bool {
		d := inspected(t, db, "beta").Depth.N
		return d > int64(n)*8/10 && d < int64(n)*12/10
	})
}

// Tables that were there before get what later ones get, once.
func TestInspectionOfOldTables(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	const indexes = `SELECT count(*) FROM pg_index WHERE indrelid IN ('messaging.queue_beta'::regclass, 'messaging.outbox_alpha'::regclass)`
	want := count(t, db.Admin, indexes)
	_, err := db.Admin.Exec(`
		DO $$ DECLARE i regclass; BEGIN
			FOR i IN SELECT x.indexrelid FROM pg_index x LEFT JOIN pg_attribute a ON a.attrelid = x.indrelid AND a.attnum = x.indkey[0]
			         WHERE x.indrelid = 'messaging.queue_beta'::regclass AND a.attname IN ('attempts', 'order_id', 'message_id')
			            OR x.indrelid = 'messaging.outbox_alpha'::regclass AND x.indpred IS NOT NULL
			LOOP EXECUTE 'DROP INDEX ' || i; END LOOP;
		END $$`)
	if err != nil {
		t.Fatal(err)
	}
	if n := count(t, db.Admin, indexes); n != want-5 {
		t.Fatalf("indexes left: got %d, want %d: the test proves nothing", n, want-5)
	}
	for range 2 {
		if _, err := db.Admin.Exec(`SELECT messaging.ensure_inspection()`); err != nil {
			t.Fatal(err)
		}
		if n := count(t, db.Admin, indexes); n != want {
			t.Errorf("indexes: got %d, want %d", n, want)
		}
	}
}
