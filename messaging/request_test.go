package messaging_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"example.com/orderflow/messaging"
	"example.com/orderflow/messaging/messagingtest"
)

// The services of these tests: asker asks oracle what half of a number is.

type question struct {
	N  int    `json:"n" validate:"min=0"`
	Do string `json:"do,omitempty"`
}

type half struct {
	N    int    `json:"n"`
	Half int    `json:"half" validate:"max=1000"`
	Pad  string `json:"pad,omitempty"`
}

func (question) Kind() string  { return "oracle.question" }
func (question) Order() string { return "" }
func (question) Answer() half  { return half{} }
func (half) Kind() string      { return "oracle.half" }
func (half) Order() string     { return "" }

func asker(t testing.TB) messaging.Spec {
	return messaging.Spec{Name: "asker", Sends: []string{"oracle.question"}, Asks: []string{"oracle.question"}, Migrations: migrations(t)}
}

func oracle(t testing.TB) messaging.Spec {
	return messaging.Spec{Name: "oracle", Queues: []messaging.Queue{{Name: "oracle", Kinds: []string{"oracle.question"}}}, Speaks: []string{"oracle.spoke"}, Migrations: migrations(t)}
}

func newAskDB(t testing.TB) *messagingtest.DB {
	t.Helper()
	db := messagingtest.NewDB(t, asker(t), oracle(t), delta(t))
	_, err := db.Admin.Exec(`
		CREATE TABLE public.effects (id bigint GENERATED ALWAYS AS IDENTITY, who text NOT NULL, n integer NOT NULL);
		GRANT ALL ON public.effects TO PUBLIC; GRANT USAGE ON SCHEMA public TO PUBLIC`)
	if err != nil {
		t.Fatalf("make the table of effects: %v", err)
	}
	return db
}

// running returns a bus of spec that runs, with a relay.
func running(t testing.TB, db *messagingtest.DB, spec messaging.Spec, options ...func(*messaging.Config)) *messaging.Bus {
	t.Helper()
	b := bus(t, db, spec, options...)
	messagingtest.Run(t, b)
	return b
}

// runOracle runs an oracle that answers by answer.
func runOracle(t testing.TB, db *messagingtest.DB, answer func(context.Context, *messaging.Tx, question) (half, error), options ...func(*messaging.Config)) {
	t.Helper()
	o := bus(t, db, oracle(t), options...)
	messaging.Answer(o, answer)
	messagingtest.Run(t, o)
}

func halve(_ context.Context, _ *messaging.Tx, q question) (half, error) {
	return half{N: q.N, Half: q.N / 2}, nil
}

// limited is a context that ends after d, and with the test.
func limited(t testing.TB, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// wantNothingLeft waits until nothing of any request is on its way, and checks
// that none became a dead letter.
func wantNothingLeft(t *testing.T, db *messagingtest.DB) {
	t.Helper()
	for _, table := range []string{"outbox_asker", "queue_oracle", "replies_asker"} {
		messagingtest.Wait(t, table+" to be empty", func() bool {
			if n := count(t, db.Admin, `SELECT count(*) FROM messaging.`+table+` WHERE to_jsonb(`+table+`) ->> 'dead_reason' IS NOT NULL`); n > 0 {
				t.Fatalf("dead letters in %s: got %d, want none", table, n)
			}
			return count(t, db.Admin, `SELECT count(*) FROM messaging.`+table) == 0
		})
	}
}

// C21: a request is answered in the transaction that acknowledges it.
func TestC21AskIsAnswered(t *testing.T) {
	t.Parallel()
	db := newAskDB(t)
	runOracle(t, db, func(ctx context.Context, tx *messaging.Tx, q question) (half, error) {
		if m := tx.Message(); m.Class != messaging.Express || m.CorrelationID != "request-1" || m.Producer != "asker" {
			t.Errorf("request: got class %d, correlation %q, producer %q; want express, request-1, asker", m.Class, m.CorrelationID, m.Producer)
		}
		tx.Queue(`INSERT INTO public.effects (who, n) VALUES ('oracle', $1)`, q.N)
		return halve(ctx, tx, q)
	})
	a := running(t, db, asker(t))
	ctx := messaging.WithCorrelation(limited(t, 20*time.Second), "request-1")
	for n := range 5 {
		begun := time.Now()
		got, err := messaging.Ask(ctx, a, question{N: 2 * n})
		if want := (half{N: 2 * n, Half: n}); err != nil || got != want {
			t.Fatalf("answer: got %+v, %v; want %+v", got, err, want)
		}
		t.Logf("answered after %s", time.Since(begun))
	}
	wantNothingLeft(t, db)
	if n := count(t, db.Admin, `SELECT count(*) FROM public.effects`); n != 5 {
		t.Errorf("effects: got %d, want 5", n)
	}
	if n := count(t, db.Admin, `SELECT count(*) FROM messaging.inbox_oracle WHERE outcome = 'done'`); n != 5 {
		t.Errorf("traces of answered requests: got %d, want 5", n)
	}
}

// C21: a refusal is an answer, without the effects of who refused and without a
// dead letter.
func TestRefusals(t *testing.T) {
	t.Parallel()
	db := newAskDB(t)
	runOracle(t, db, func(ctx context.Context, tx *messaging.Tx, q question) (half, error) {
		tx.Queue(`INSERT INTO public.effects (who, n) VALUES ($1, $2)`, q.Do, q.N)
		switch q.Do {
		case "refuse":
			return half{}, messaging.Permanent(errors.New("the stars are hidden"))
		case "too much":
			return half{Pad: strings.Repeat("x", messaging.MaxPayload)}, nil
		case "invalid":
			return half{Half: 1001}, nil
		}
		return halve(ctx, tx, q)
	})
	a := running(t, db, asker(t))
	for _, tt := range []struct {
		q      question
		reason string
	}{
		{question{N: 1, Do: "refuse"}, "the stars are hidden"},
		{question{N: -1}, "payload of oracle.question is not valid"},
		{question{N: 1, Do: "too much"}, "at most 1048576"},
	} {
		_, err := messaging.Ask(limited(t, 20*time.Second), a, tt.q)
		var refused *messaging.Refused
		if !errors.As(err, &refused) || !strings.Contains(refused.Reason, tt.reason) {
			t.Errorf("%+v: got %v, want a refusal with %q", tt.q, err, tt.reason)
		}
	}
	if _, err := messaging.Ask(limited(t, 20*time.Second), a, question{Do: "invalid"}); err == nil || !strings.Contains(err.Error(), "not valid") {
		t.Errorf("invalid answer: got %v, want an error that says so", err)
	}
	wantNothingLeft(t, db)
	if n := count(t, db.Admin, `SELECT count(*) FROM public.effects WHERE who <> 'invalid'`); n != 0 {
		t.Errorf("effects of those that refused: got %d, want 0", n)
	}
	if n := count(t, db.Admin, `SELECT count(*) FROM messaging.inbox_oracle WHERE outcome = 'ignored' AND note LIKE 'refused: %'`); n != 3 {
		t.Errorf("traces of refusals: got %d, want 3", n)
	}
	if _, err := messaging.Ask(t.Context(), bus(t, db, oracle(t)), question{}); err == nil || errors.Is(err, messaging.ErrNoAnswer) {
		t.Errorf("ask of a kind that isn't declared: got %v, want an error that isn't ErrNoAnswer", err)
	}
}

// C21: who refuses in a batch takes nothing back but what it queued itself.
func TestARefusalAmongOthers(t *testing.T) {
	t.Parallel()
	db := newAskDB(t)
	a := running(t, db, asker(t))
	var all sync.WaitGroup
	var refusals atomic.Int32
	for n := range 12 {
		all.Go(func() {
			q := question{N: n}
			if n%3 == 1 {
				q.Do = "refuse"
			}
			got, err := messaging.Ask(limited(t, 20*time.Second), a, q)
			var refused *messaging.Refused
			switch {
			case q.Do != "" && errors.As(err, &refused):
				refusals.Add(1)
			case q.Do != "" || err != nil || got.Half != n/2:
				t.Errorf("%+v: got %+v, %v", q, got, err)
			}
		})
	}
	messagingtest.Wait(t, "all requests in the queue", func() bool { return count(t, db.Admin, `SELECT count(*) FROM messaging.queue_oracle`) == 12 })
	runOracle(t, db, func(ctx context.Context, tx *messaging.Tx, q question) (half, error) {
		who := "answers"
		if q.Do != "" {
			who = "refuses"
			tx.QueueRow(`INSERT INTO public.effects (who, n) SELECT 'alone', n FROM unnest($1::int[]) n`, int32(q.N))
		}
		tx.QueueRow(`INSERT INTO public.effects (who, n) SELECT * FROM unnest($1::text[], $2::int[])`, who, int32(q.N))
		if q.Do != "" {
			return half{}, messaging.Permanent(errors.New("no"))
		}
		return halve(ctx, tx, q)
	})
	all.Wait()
	if n := refusals.Load(); n != 4 {
		t.Errorf("refusals: got %d, want 4", n)
	}
	if answers, others := count(t, db.Admin, `SELECT count(*) FROM public.effects WHERE who = 'answers'`), count(t, db.Admin, `SELECT count(*) FROM public.effects WHERE who <> 'answers'`); answers != 8 || others != 0 {
		t.Errorf("effects: got %d of those that answered and %d of others, want 8 and 0", answers, others)
	}
	wantNothingLeft(t, db)
}

// C21: a handler that fails is tried again, until the deadline and no longer.
func TestFailingAnswers(t *testing.T) {
	t.Parallel()
	db := newAskDB(t)
	var tries atomic.Int32
	runOracle(t, db, func(ctx context.Context, tx *messaging.Tx, q question) (half, error) {
		switch tries.Add(1); {
		case q.Do == "panic":
			panic("poison")
		case q.Do == "fail", tx.Message().Attempt < 3:
			return half{}, errors.New("not now")
		}
		return halve(ctx, tx, q)
	}, quick)
	a := running(t, db, asker(t))
	if got, err := messaging.Ask(limited(t, 20*time.Second), a, question{N: 4}); err != nil || got.Half != 2 || tries.Load() != 3 {
		t.Errorf("failing twice: got %+v, %v after %d tries; want the answer at the third", got, err, tries.Load())
	}
	for _, how := range []string{"fail", "panic"} {
		tries.Store(0)
		var refused *messaging.Refused
		if _, err := messaging.Ask(limited(t, 20*time.Second), a, question{Do: how}); !errors.As(err, &refused) || tries.Load() != 7 {
			t.Errorf("always %s: got %v after %d tries, want a refusal at the last of eight", how, err, tries.Load())
		}
	}
	tries.Store(0)
	slowly := newAskDB(t)
	runOracle(t, slowly, func(ctx context.Context, tx *messaging.Tx, q question) (half, error) {
		tries.Add(1)
		return half{}, errors.New("not now")
	})
	b, asks := running(t, slowly, asker(t)), 0
	messagingtest.Wait(t, "a try", func() bool { // on a busy machine the first request may be late before it
		asks++
		if _, err := messaging.Ask(limited(t, 300*time.Millisecond), b, question{}); !errors.Is(err, messaging.ErrNoAnswer) {
			t.Fatalf("failing past the deadline: got %v, want ErrNoAnswer", err)
		}
		return tries.Load() > 0
	})
	wantNothingLeft(t, db)
	wantNothingLeft(t, slowly)
	if n := tries.Load(); int(n) > 3*asks {
		t.Errorf("tries of %d requests within 300 ms each: got %d, want 3 of each at most", asks, n)
	}
	if n := count(t, slowly.Admin, `SELECT count(*) FROM messaging.inbox_oracle WHERE outcome = 'ignored' AND note = 'deadline passed'`); n == 0 {
		t.Error("traces of late requests: got none")
	}
}

// C21: with nobody there, Ask ends at its deadline; the late request is
// acknowledged unanswered and unhandled.
func TestC21DeadlinePasses(t *testing.T) {
	t.Parallel()
	db := newAskDB(t)
	a := running(t, db, asker(t))
	const patience = 300 * time.Millisecond
	messagingtest.Wait(t, "a request that is late", func() bool { // on a busy machine the first may not even be sent in time
		begun := time.Now()
		_, err := messaging.Ask(limited(t, patience), a, question{N: 1})
		took := time.Since(begun)
		t.Logf("gave up after %s", took)
		if !errors.Is(err, messaging.ErrNoAnswer) || took < patience || took > 10*patience {
			t.Fatalf("nobody there: got %v after %s, want ErrNoAnswer after %s", err, took, patience)
		}
		return count(t, db.Admin, `SELECT count(*) FROM messaging.queue_oracle WHERE occurred_at < clock_timestamp() - $1::interval`, patience.String()) > 0
	})
	ctx, cancel := context.WithCancel(t.Context())
	go cancel()
	if _, err := messaging.Ask(ctx, a, question{N: 2}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: got %v, want context.Canceled", err)
	}
	var asked atomic.Int32
	runOracle(t, db, func(ctx context.Context, tx *messaging.Tx, q question) (half, error) {
		if q.N == 1 {
			asked.Add(1)
		}
		return halve(ctx, tx, q)
	})
	messagingtest.Wait(t, "the late request's trace", func() bool {
		return count(t, db.Admin, `SELECT count(*) FROM messaging.inbox_oracle WHERE outcome = 'ignored' AND note = 'deadline passed'`) > 0
	})
	if n := asked.Load(); n != 0 {
		t.Errorf("calls of the handler: got %d, want 0", n)
	}
	if n := count(t, db.Admin, `SELECT count(*) FROM messaging.queue_oracle WHERE dead_reason IS NOT NULL`); n != 0 {
		t.Errorf("dead letters: got %d, want 0", n)
	}
	if n := count(t, db.Admin, `SELECT count(*) FROM messaging.replies_asker WHERE convert_from(payload, 'UTF8') LIKE '%"n":1,%'`); n != 0 {
		t.Errorf("answers to the late request: got %d, want 0", n)
	}
}

// C21: many ask at once in two processes, of two; each gets its own answer.
func TestManyAsk(t *testing.T) {
	t.Parallel()
	db := newAskDB(t)
	for range 2 {
		runOracle(t, db, halve)
	}
	askers := []*messaging.Bus{running(t, db, asker(t)), running(t, db, asker(t))}
	ctx := limited(t, 40*time.Second)
	begun := time.Now()
	var all sync.WaitGroup
	for n := range 100 {
		all.Go(func() {
			if got, err := messaging.Ask(ctx, askers[n%2], question{N: 2 * n}); err != nil || got.Half != n {
				t.Errorf("half of %d: got %+v, %v", 2*n, got, err)
			}
		})
	}
	all.Wait()
	t.Logf("100 answered after %s", time.Since(begun))
	wantNothingLeft(t, db)
}

// C21: an answer that nobody comes for any more is swept.
func TestC21LostAskerLeavesNothing(t *testing.T) {
	t.Parallel()
	db := newAskDB(t)
	ctx, leave := context.WithCancel(limited(t, 20*time.Second))
	runOracle(t, db, func(ctx context.Context, tx *messaging.Tx, q question) (half, error) {
		leave()
		return halve(ctx, tx, q)
	})
	// The one that asks fetches nothing after it has left; another process sweeps.
	a := running(t, db, asker(t))
	if _, err := messaging.Ask(ctx, a, question{N: 2}); !errors.Is(err, context.Canceled) {
		t.Fatalf("ask: got %v, want context.Canceled", err)
	}
	messagingtest.Wait(t, "the answer that nobody waits for", func() bool { return count(t, db.Admin, `SELECT count(*) FROM messaging.replies_asker`) == 1 })
	running(t, db, asker(t), func(c *messaging.Config) {
		messaging.SetLimits(c, func(l *messaging.Limits) { l.Replies = 100 * time.Millisecond })
	})
	wantNothingLeft(t, db)
}

// C21: without wake-ups answers are found by looking.
func TestAnswersWithoutWakeUps(t *testing.T) {
	t.Parallel()
	db := newAskDB(t)
	deaf := func(c *messaging.Config) { c.DSN = "host=/nowhere" }
	runOracle(t, db, halve, deaf)
	a := running(t, db, asker(t), deaf)
	begun := time.Now()
	got, err := messaging.Ask(limited(t, 20*time.Second), a, question{N: 8})
	if err != nil || got.Half != 4 {
		t.Errorf("answer: got %+v, %v; want 4", got, err)
	}
	t.Logf("answered after %s", time.Since(begun))
}

// Only who is asked may answer, only the asker may read.
func TestRightsOnReplies(t *testing.T) {
	t.Parallel()
	db := newAskDB(t)
	insert := `INSERT INTO messaging.replies_asker (request_id, kind, payload) VALUES (gen_random_uuid(), 'oracle.half', '{}')`
	for _, tt := range []struct {
		service, statement string
		allowed            bool
	}{
		{"oracle", insert, true},
		{"oracle", `SELECT count(*) FROM messaging.replies_asker`, false},
		{"oracle", `DELETE FROM messaging.replies_asker`, false},
		{"oracle", `INSERT INTO messaging.replies_asker (request_id, kind, payload, answered_at) VALUES (gen_random_uuid(), 'oracle.half', '{}', 'infinity')`, false},
		{"asker", `SELECT count(*) FROM messaging.replies_asker`, true},
		{"asker", insert, false},
		{"asker", `DELETE FROM messaging.replies_asker`, true},
		{"delta", insert, false},
		{"delta", `SELECT count(*) FROM messaging.replies_asker`, false},
	} {
		_, err := db.Service(tt.service).Exec(tt.statement)
		if (err == nil) != tt.allowed {
			t.Errorf("%s: %s: got %v, want allowed %t", tt.service, tt.statement, err, tt.allowed)
		}
	}
}

// A request stands among what is sent, and can't be asked inside a transaction.
func TestAskRefusesMisuse(t *testing.T) {
	t.Parallel()
	wrong := messaging.Spec{Name: "asker", Asks: []string{"oracle.question"}, Migrations: migrations(t)}
	if _, err := messaging.New(messaging.Config{Spec: wrong}); err == nil {
		t.Error("a request that isn't sent: got nil, want an error")
	}
	db := newAskDB(t)
	both := oracle(t)
	both.Name, both.Queues[0].Name, both.Speaks = "twofold", "twofold", nil
	both.Queues[0].Kinds, both.Sends, both.Asks = []string{"beta.work"}, asker(t).Sends, asker(t).Asks
	if err := messaging.Migrate(t.Context(), db.Admin, messagingtest.Log(t), map[string]string{"twofold": "test-twofold"}, both); err != nil {
		t.Fatal(err)
	}
	b := db.NewBus(t, both)
	got := make(chan error, 1)
	messaging.Handle(b, func(ctx context.Context, tx *messaging.Tx, m work) error {
		_, err := messaging.Ask(ctx, b, question{})
		got <- err
		return nil
	})
	messagingtest.Run(t, b)
	db.Send(t, work{body{N: 1}})
	if err := <-got; err == nil || !strings.Contains(fmt.Sprint(err), "transaction") {
		t.Errorf("ask in a transaction: got %v, want an error that names the transaction", err)
	}
}
