package messaging_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"example.com/orderflow/messaging"
)

// C11: a dead letter is found by its message's id in a moment, however many there
// are and were redriven, in the first call of a connection, too: to be looked at,
// edited, discarded or redriven.
func TestC11ADeadLetterIsFoundAmongMany(t *testing.T) {
	t.Parallel()
	f := newField(t, newDB(t))
	dead, living := scaled(3000, 100_000), scaled(3000, 100_000)
	f.exec(`
		INSERT INTO messaging.queue_beta (message_id, kind, lane, payload, dead_reason)
		SELECT gen_random_uuid(), 'beta.work', n, '{"n": 1}', CASE WHEN n <= $1 THEN 'failed 8 times, at last: no such thing' END
		FROM generate_series(1, $1::int + $2::int) n`, dead, living)
	f.exec(`INSERT INTO messaging.queue_delta (message_id, kind, payload, dead_reason) SELECT message_id, 'alpha.happened', '{}', 'too' FROM messaging.queue_beta WHERE dead_reason IS NOT NULL AND id % 10 = 0`)
	f.exec(`INSERT INTO messaging.outbox_alpha (message_id, kind, payload, dead_reason) SELECT gen_random_uuid(), 'nobody.knows', '{}', 'no queue takes it' FROM generate_series(1, $1::int)`, dead)
	f.exec(`
		INSERT INTO messaging.actions (actor, action, queue, detail)
		SELECT 'test', 'dead.redrive', 'beta', jsonb_build_object('count', 500, 'rows', jsonb_agg(n)) FROM generate_series(1, $1::int) n GROUP BY n / 500`, dead)
	var ids []string
	if err := f.raw.Select(&ids, `SELECT message_id::text FROM messaging.queue_beta WHERE id = ANY ($1) ORDER BY id`, []int{1, dead / 2, dead - 1}); err != nil {
		t.Fatal(err)
	}
	if len(ids) != 3 {
		t.Fatalf("ids to look for: got %d, want 3", len(ids))
	}
	const limit = 20 * time.Millisecond
	find := func(what string, o *messaging.Operator, call func(*messaging.Operator, string) error) {
		t.Helper()
		best, worst := time.Hour, time.Duration(0)
		for range scaled(3, 20) {
			begun := time.Now()
			err := call(o, ids[rand.IntN(len(ids))])
			took := time.Since(begun)
			if err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			best, worst = min(best, took), max(worst, took)
		}
		t.Logf("%s among %d: %s to %s", what, dead, best.Round(time.Microsecond), worst.Round(time.Microsecond))
		if best > 10*limit { // the machine may be busy: to read through all that is dead takes longer still
			t.Errorf("%s among %d dead letters: took %s at best, want %s and never ten times that", what, dead, best, limit)
		}
	}
	o := messaging.NewOperator(f.Admin, "test")
	look := func(o *messaging.Operator, id string) error {
		list, err := o.DeadMessages(t.Context(), id, "")
		if err == nil && (list[0].MessageID != id || list[0].Redrives != 1 || string(list[0].Payload) != `{"n": 1}`) {
			err = fmt.Errorf("got %+v, want message %s, redriven once", list, id)
		}
		return err
	}
	find("a look, as planned while empty", o, look)
	for _, table := range []string{"queue_beta", "outbox_alpha", "actions"} {
		f.exec(`ANALYZE messaging.` + table)
	}
	find("a look, analyzed", o, look)
	find("a look in a new connection", nil, func(_ *messaging.Operator, id string) error {
		db, err := messaging.OpenDB(f.DSN(""), "operator", 1)
		if err != nil {
			return err
		}
		defer db.Close()
		return look(messaging.NewOperator(db, "test"), id)
	})
	find("an edit", o, func(o *messaging.Operator, id string) error {
		return o.EditDead(t.Context(), messaging.DeadEdit{MessageID: id, Queue: "beta", Payload: []byte(`{"n": 1}`)})
	})
	find("a page of one id", o, func(o *messaging.Operator, id string) error {
		list, next, err := o.DeadLetters(t.Context(), messaging.DeadFilter{Queue: "beta", MessageIDs: []string{id}}, "", 10)
		if err == nil && (len(list) != 1 || next != "") {
			err = fmt.Errorf("got %d letters and next %q, want the one", len(list), next)
		}
		return err
	})
	for _, id := range ids[:2] {
		find("a redrive", o, func(o *messaging.Operator, _ string) error {
			n, err := o.Redrive(t.Context(), messaging.DeadFilter{Queue: "beta", MessageIDs: []string{id}}, messaging.RedriveOptions{})
			if err == nil && n != 1 {
				err = fmt.Errorf("redriven: got %d, want 1", n)
			}
			f.exec(`UPDATE messaging.queue_beta SET dead_reason = 'again' WHERE id <= $1 AND id IN (1, $1 / 2) AND dead_reason IS NULL`, dead)
			return err
		})
	}
	begun := time.Now()
	if err := o.DiscardDead(t.Context(), ids[2], "beta", "a test"); err != nil {
		t.Fatal(err)
	}
	t.Logf("a discard among %d: %s", dead, time.Since(begun).Round(time.Microsecond))
}
