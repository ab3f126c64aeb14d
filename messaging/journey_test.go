package messaging_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"example.com/orderflow/messaging"
	"example.com/orderflow/messaging/messagingtest"
)

type answered struct{ body }

func (answered) Kind() string { return "beta.done" }

// told is a journey in lines: "..kind from>queue outcome note".
func told(j messaging.Journey) string {
	var b strings.Builder
	for _, s := range j.Steps {
		fmt.Fprintln(&b, strings.TrimRight(fmt.Sprintf("%s%s %s>%s %s %s", strings.Repeat("..", s.Depth), s.Kind, s.From, s.Queue, s.Outcome, s.Note), " "))
	}
	return b.String()
}

func journey(t testing.TB, db *messagingtest.DB, order string) messaging.Journey {
	t.Helper()
	j, err := messaging.NewOperator(db.Admin, "test").Journey(t.Context(), order)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

// An order's messages are found wherever they are, each below what caused it.
func TestJourneyTellsAll(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	a, b, g, d := bus(t, db, alpha(t)), bus(t, db, beta(t), quick), bus(t, db, gamma(t)), bus(t, db, delta(t))
	held := make(chan struct{})
	messaging.Handle(b, func(ctx context.Context, tx *messaging.Tx, m work) error {
		switch m.Do {
		case "fail":
			return errors.New("no such thing")
		case "late":
			tx.Ignore("it is late")
			return nil
		}
		return tx.Publish(answered(m))
	})
	messaging.Handle(b, nothing[happened])
	messaging.Handle(d, nothing[happened])
	messaging.HandleOutside(g, func(ctx context.Context, m outside) (messaging.Record, error) {
		select {
		case <-held:
		case <-ctx.Done():
		}
		return nil, nil
	})
	for _, x := range []*messaging.Bus{a, b, g, d} {
		messagingtest.Run(t, x)
	}
	t.Cleanup(func() { close(held) })
	order := newID()
	send := func(bodies ...messaging.Body) {
		t.Helper()
		if err := a.InTx(messaging.WithCorrelation(t.Context(), "request-1"), func(ctx context.Context, tx *messaging.Tx) error { return tx.Publish(bodies...) }); err != nil {
			t.Fatal(err)
		}
	}
	of := func(do string) body { return body{N: 1, OrderID: order, Do: do} }
	send(work{of("")}, happened{of("")}, outside{of("")}, work{of("late")}, work{of("fail")}, messaging.After(work{of("")}, time.Hour), work{body{N: 2, OrderID: newID()}})
	want := `beta.work alpha>beta done
..beta.done beta> unheard
alpha.happened alpha>beta done
alpha.happened alpha>delta done
gamma.outside alpha>gamma in flight
beta.work alpha>beta ignored it is late
beta.work alpha>beta dead failed 8 times, at last: no such thing
beta.work alpha>beta waiting
`
	messagingtest.Wait(t, "all to get where they will be", func() bool { return told(journey(t, db, order)) == want || t.Failed() })
	for _, s := range journey(t, db, order).Steps {
		if s.CorrelationID != "request-1" || s.SentAt.IsZero() || s.Outcome == messaging.Done && (s.Attempts != 1 || s.EndedAt == nil || s.Waited <= 0) {
			t.Errorf("step: got %+v, want a correlation, and of what is done when", s)
		}
		if s.Outcome == messaging.Waiting && (s.DueAt == nil || time.Until(*s.DueAt) < 50*time.Minute) {
			t.Errorf("step that waits: got due %v, want in an hour", s.DueAt)
		}
		if s.Outcome == messaging.Dead && s.Attempts != 8 {
			t.Errorf("dead step: got %d attempts, want 8", s.Attempts)
		}
	}
	// The dead one is discarded, another can't leave its outbox.
	var gone string
	for _, s := range journey(t, db, order).Steps {
		if s.Outcome == messaging.Dead {
			gone = s.MessageID
		}
	}
	if err := messaging.NewOperator(db.Admin, "ada").DiscardDead(t.Context(), gone, "", "a test"); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Admin.Exec(`INSERT INTO messaging.outbox_alpha (message_id, kind, order_id, payload, dead_reason) VALUES ($1, 'nobody.knows', $2, '{}', 'unroutable')`, newID(), order); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Admin.Exec(`INSERT INTO messaging.queue_beta (message_id, kind, order_id, payload, due, attempts, last_error) VALUES ($1, 'beta.work', $2, '{}', clock_timestamp() + interval '1 minute', 3, 'not yet')`, newID(), order); err != nil {
		t.Fatal(err)
	}
	for _, s := range journey(t, db, order).Steps {
		if s.Outcome == messaging.Discarded && (s.MessageID != gone || s.CorrelationID != "request-1" || s.Attempts != 8 || s.EndedAt == nil || !s.SentAt.Before(*s.EndedAt)) {
			t.Errorf("discarded step: got %+v, want what the dead one was", s)
		}
	}
	got := told(journey(t, db, order))
	for _, line := range []string{
		"beta.work alpha>beta discarded a test; was dead: failed 8 times, at last: no such thing\n",
		"nobody.knows alpha> dead unroutable\n",
		">beta waiting not yet\n",
	} {
		if !strings.Contains(got, line) {
			t.Errorf("journey:\n%swant a line %q", got, line)
		}
	}
}

// A copy that still waits is shown beside the trace of another; what was never
// heard of has no steps.
func TestJourneyTellsOfCopies(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	order, message := newID(), newID()
	for _, stmt := range []string{
		`INSERT INTO messaging.inbox_beta (message_id, consumer, kind, order_id, producer, payload, sent_at, started_at, ran, attempts, outcome, causation_id)
		 VALUES ($2, 'beta', 'beta.work', $1, 'alpha', '{}', clock_timestamp(), clock_timestamp(), '1 ms', 1, 'done', $2)`,
		`INSERT INTO messaging.queue_beta (message_id, kind, order_id, lane, payload) VALUES ($2, 'beta.work', $1, $1::uuid::text, '{}')`,
	} {
		if _, err := db.Admin.Exec(stmt, order, message); err != nil {
			t.Fatal(err)
		}
	}
	j := journey(t, db, order)
	if len(j.Steps) != 2 || j.Steps[0].Outcome == j.Steps[1].Outcome {
		t.Errorf("journey: got\n%swant one that is done and one that waits", told(j))
	}
	if j := journey(t, db, newID()); len(j.Steps) != 0 || len(j.Gaps) != 0 {
		t.Errorf("journey of an unknown order: got %+v, want none", j)
	}
	if _, err := messaging.NewOperator(db.Admin, "test").Journey(t.Context(), "1"); err == nil {
		t.Error("journey of what is no UUID: got nil, want an error")
	}
}

// A journey takes as long among a million messages, and 35 days, as among few.
func TestJourneyAmongAMillion(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	n := manyRows()
	for _, inbox := range []string{"inbox_beta", "inbox_gamma", "inbox_delta"} {
		_, err := db.Admin.Exec(`
			DO $$ BEGIN FOR i IN 1..35 LOOP
				EXECUTE format('CREATE TABLE messaging.%I PARTITION OF messaging.%I FOR VALUES FROM (%L) TO (%L)', '` + inbox + `_old' || i, '` + inbox + `',
					messaging.uuid_at(((clock_timestamp() AT TIME ZONE 'UTC')::date - i)::timestamp AT TIME ZONE 'UTC'),
					messaging.uuid_at(((clock_timestamp() AT TIME ZONE 'UTC')::date - i + 1)::timestamp AT TIME ZONE 'UTC'));
			END LOOP; END $$`)
		if err != nil {
			t.Fatal(err)
		}
	}
	fill(t, db, n)
	_, err := db.Admin.Exec(`
		INSERT INTO messaging.outbox_alpha (message_id, kind, order_id, payload)
		SELECT message_id, kind, order_id, payload FROM messaging.queue_beta ORDER BY id LIMIT 25000`)
	if err != nil {
		t.Fatal(err)
	}
	var orders []string
	if err := db.Admin.Select(&orders, `SELECT DISTINCT order_id FROM messaging.queue_beta WHERE id IN (15, $1, $2)`, n/2, n-5); err != nil {
		t.Fatal(err)
	}
	old := "01234567-89ab-7000-8000-000000000000" // so that no day is left out
	for _, order := range append(orders, old) {
		var j messaging.Journey
		took := measured(t, func() { j = journey(t, db, order) })
		t.Logf("among %d: %d steps after %s, gaps %q", n, len(j.Steps), took, j.Gaps)
		if took > time.Second {
			t.Errorf("journey among %d messages: took %s, want 100 ms (here up to a second)", n, took)
		}
		if order != old && len(j.Steps) < 10 {
			t.Errorf("steps: got\n%swant ten at least", told(j))
		}
		if len(j.Gaps) != 1 || !strings.Contains(j.Gaps[0], "outbox of alpha") {
			t.Errorf("gaps: got %q, want the deep outbox", j.Gaps)
		}
		// A connection's first statements read what the server knows of every table
		// and, of an order without a day, of every day.
		took = measured(t, func() {
			admin, err := messaging.OpenDB(db.DSN(""), "operator", 1)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := messaging.NewOperator(admin, "test").Journey(t.Context(), order); err != nil {
				t.Error(err)
			}
			if err := admin.Close(); err != nil {
				t.Error(err)
			}
		})
		t.Logf("among %d in a new connection: %s", n, took)
		if took > time.Second {
			t.Errorf("journey among %d messages in a new connection: took %s at best, want 100 ms (here up to a second)", n, took)
		}
	}
}
