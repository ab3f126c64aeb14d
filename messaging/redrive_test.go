package messaging_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"example.com/orderflow/messaging"
	"example.com/orderflow/messaging/messagingtest"
)

// runBeta runs a bus of beta that notes an effect of each message.
func runBeta(t testing.TB, db *messagingtest.DB) {
	t.Helper()
	b := db.NewBus(t, beta(t), quick)
	messaging.Handle(b, nothing[happened])
	messaging.Handle(b, func(ctx context.Context, tx *messaging.Tx, m work) error { return effect(ctx, tx, "beta", m.body) })
	messagingtest.Run(t, b)
}

// C11, and what the shop asks for: 10,000 dead letters are handled again within
// 30 s, at the rate that leaves room for living orders, each once, those of an
// order in the order sent.
func TestManyDeadLettersAreRedriven(t *testing.T) {
	t.Parallel()
	n := 1_000
	if long() {
		n = 10_000
	}
	const lanes = 100
	db := newDB(t)
	o := operator(db)
	runBeta(t, db)
	runBeta(t, db)
	bury(t, db, n, lanes, "the provider was away for order %s")
	bury(t, db, 3, 3, "another reason")
	var told []int
	begun := time.Now()
	done, err := o.Redrive(t.Context(), messaging.DeadFilter{Reason: "the provider was away for order #"}, messaging.RedriveOptions{
		Rate: messaging.RedriveRate, Reason: "it is back",
		Progress: func(done, estimated int) {
			told = append(told, done)
			if estimated < n || estimated > n+3 {
				t.Errorf("estimated: got %d, want about %d", estimated, n)
			}
		},
	})
	if err != nil || done != n {
		t.Fatalf("redrive: got %d, %v; want %d", done, err, n)
	}
	redriven := time.Since(begun)
	want := 30 * time.Second * time.Duration(n) / 10_000
	for end := begun.Add(10 * want); count(t, db.Admin, `SELECT count(*) FROM public.effects`) < n; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d dead letters were not handled within %s", n, 10*want)
		}
	}
	t.Logf("%d dead letters at %d/s: redriven after %s, handled after %s; wanted within %s", n, messaging.RedriveRate, redriven.Round(time.Millisecond), time.Since(begun).Round(time.Millisecond), want)
	batches := n / (messaging.RedriveRate / 5)
	if least := time.Duration(n-messaging.RedriveRate/5) * time.Second / messaging.RedriveRate; redriven < least {
		t.Errorf("redriving took %s, want %s or more: that is the rate", redriven, least)
	}
	if !slices.IsSorted(told) || len(told) != batches || told[len(told)-1] != n {
		t.Errorf("progress: got %v, want %d steps up to %d", told, batches, n)
	}
	messagingtest.Wait(t, "the queue to hold the other letters only", func() bool { return count(t, db.Admin, `SELECT count(*) FROM messaging.queue_beta`) == 3 })
	if got := count(t, db.Admin, `SELECT count(DISTINCT n) FROM public.effects`); got != n || count(t, db.Admin, `SELECT count(*) FROM public.effects`) != n {
		t.Errorf("messages with an effect: got %d, want %d with one each", got, n)
	}
	if got := count(t, db.Admin, `SELECT count(*) FROM public.effects WHERE attempt <> 1`); got != 0 {
		t.Errorf("effects at a later attempt than the first: got %d, want 0", got)
	}
	inverted := count(t, db.Admin, `
		SELECT count(*) FROM (SELECT n, lag(n) OVER (PARTITION BY lane ORDER BY at, id) AS before FROM public.effects) e WHERE before > n`)
	if inverted != 0 {
		t.Errorf("messages handled before an earlier one of their order: got %d, want 0", inverted)
	}
	if left := letters(t, o, messaging.DeadFilter{}); len(left) != 3 || left[0].Reason != "another reason" {
		t.Errorf("left: got %+v, want the three that were not chosen", left)
	}
	rows := count(t, db.Admin, `
		SELECT sum(jsonb_array_length(detail->'rows')) FROM messaging.actions
		WHERE action = 'dead.redrive' AND queue = 'beta' AND reason = 'it is back' AND (detail->>'count')::int = jsonb_array_length(detail->'rows')
		  AND detail->'filter' = '{"reason": "the provider was away for order #"}'`)
	if got := count(t, db.Admin, `SELECT count(*) FROM messaging.actions`); rows != n || got != batches {
		t.Errorf("recorded: got %d letters in %d actions, want %d in %d", rows, got, n, batches)
	}
}

// A redrive that is called off stops after a batch and tells how far it went.
func TestARedriveIsCalledOff(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	o := operator(db)
	bury(t, db, 50, 50, "broken")
	ctx, cancel := context.WithCancel(t.Context())
	done, err := o.Redrive(ctx, messaging.DeadFilter{}, messaging.RedriveOptions{Rate: 50, Progress: func(done, _ int) {
		if done == 20 {
			cancel()
		}
	}})
	if done != 20 || !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "20 of about 50") {
		t.Errorf("redrive that was called off: got %d, %v; want 20 and how far it went", done, err)
	}
	if n := count(t, db.Admin, `SELECT count(*) FROM messaging.queue_beta WHERE dead_reason IS NULL`); n != 20 {
		t.Errorf("living messages: got %d, want 20", n)
	}
	if done, err := o.Redrive(t.Context(), messaging.DeadFilter{}, messaging.RedriveOptions{}); done != 30 || err != nil {
		t.Errorf("redrive of the others: got %d, %v; want 30", done, err)
	}
	if n := count(t, db.Admin, `SELECT sum((detail->>'count')::int) FROM messaging.actions`); n != 50 {
		t.Errorf("recorded: got %d letters, want 50", n)
	}
	if _, err := o.Redrive(t.Context(), messaging.DeadFilter{}, messaging.RedriveOptions{Rate: -1}); err == nil {
		t.Error("redrive at a negative rate: got no error")
	}
}

// What comes to the dead while letters are redriven is left alone.
func TestARedriveHasAnEnd(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	bury(t, db, 1200, 30, "broken") // some transactions' worth
	batches := 0
	done, err := operator(db).Redrive(t.Context(), messaging.DeadFilter{}, messaging.RedriveOptions{Progress: func(int, int) {
		batches++
		bury(t, db, 10, 10, "broken")
	}})
	if done != 1200 || err != nil || batches < 2 {
		t.Errorf("redrive: got %d in %d batches, %v; want 1200 in some", done, batches, err)
	}
	if n := count(t, db.Admin, `SELECT count(*) FROM messaging.queue_beta WHERE dead_reason IS NOT NULL`); n != 10*batches {
		t.Errorf("dead letters that came meanwhile: got %d, want %d", n, 10*batches)
	}
}

// Ids that are no dead letters' are named, after the others were redriven.
func TestSelectedLettersAreRedriven(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	o := operator(db)
	bury(t, db, 5, 5, "broken")
	all := letters(t, o, messaging.DeadFilter{})
	unknown := newID()
	f := messaging.DeadFilter{MessageIDs: []string{all[3].MessageID, unknown, strings.ToUpper(all[1].MessageID)}}
	done, err := o.Redrive(t.Context(), f, messaging.RedriveOptions{})
	if done != 2 || !errors.Is(err, messaging.ErrNoDeadLetter) || !strings.Contains(err.Error(), unknown) || strings.Contains(err.Error(), all[3].MessageID) {
		t.Errorf("redrive: got %d, %v; want 2 and %v for %s only", done, err, messaging.ErrNoDeadLetter, unknown)
	}
	if left := letters(t, o, messaging.DeadFilter{}); !slices.Equal(ids(left), []string{all[0].MessageID, all[2].MessageID, all[4].MessageID}) {
		t.Errorf("left: got %v, want the first, third and fifth of %v", ids(left), ids(all))
	}
	if done, err := o.Redrive(t.Context(), messaging.DeadFilter{MessageIDs: []string{}}, messaging.RedriveOptions{}); done != 0 || err != nil {
		t.Errorf("redrive of an empty selection: got %d, %v; want 0", done, err)
	}
	if done, err := o.Redrive(t.Context(), messaging.DeadFilter{MessageIDs: []string{all[0].MessageID}}, messaging.RedriveOptions{}); done != 1 || err != nil {
		t.Fatalf("redrive of one: got %d, %v; want 1", done, err)
	}
	actions, err := o.Actions(t.Context(), 10)
	if err != nil || len(actions) != 2 || actions[0].MessageID != all[0].MessageID || actions[1].MessageID != "" {
		t.Fatalf("actions: got %+v, %v; want two, the last of one message", actions, err)
	}
	var detail struct {
		Count  int
		Filter map[string]string
		Rows   []int64
	}
	if err := json.Unmarshal(actions[1].Detail, &detail); err != nil || detail.Count != 2 || detail.Filter["selected"] != "3" || !slices.Equal(detail.Rows, []int64{all[1].Row, all[3].Row}) {
		t.Errorf("detail: got %s, %v", actions[1].Detail, err)
	}
}

// What dies again is a dead letter again, with the new reason, and knows how
// often it was tried; a redrive doesn't run after its own letters.
func TestARedrivenLetterDiesAgain(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	o := operator(db)
	var round atomic.Int32
	b := db.NewBus(t, beta(t), quick)
	messaging.Handle(b, nothing[happened])
	messaging.Handle(b, func(context.Context, *messaging.Tx, work) error { return fmt.Errorf("round %d", round.Load()) })
	messagingtest.Run(t, b)
	// Rows are told from actions by their numbers, too.
	if _, err := db.Admin.Exec(`ALTER TABLE messaging.queue_beta ALTER id RESTART WITH 1000`); err != nil {
		t.Fatal(err)
	}
	ids := make([]string, 3)
	for i := range ids {
		ids[i], _ = db.Send(t, work{body{N: i}})
	}
	for r := range 3 {
		reason := fmt.Sprintf("failed 8 times, at last: round %d", r)
		messagingtest.Wait(t, "three dead letters of round "+fmt.Sprint(r), func() bool {
			return count(t, db.Admin, `SELECT count(*) FROM messaging.queue_beta WHERE dead_reason = $1 AND attempts = 8`, reason) == 3
		})
		m, err := o.DeadMessages(t.Context(), ids[1], "")
		if err != nil || len(m) != 1 || m[0].Reason != reason || m[0].Redrives != r || m[0].Attempts != 8 || m[0].LastError != fmt.Sprintf("round %d", r) {
			t.Fatalf("letter of round %d: got %+v, %v", r, m, err)
		}
		round.Add(1)
		if done, err := o.Redrive(t.Context(), messaging.DeadFilter{Reason: reason}, messaging.RedriveOptions{}); done != 3 || err != nil {
			t.Fatalf("redrive %d: got %d, %v; want 3", r, done, err)
		}
	}
}

// A row that no queue took leaves its outbox once there is a queue for it.
func TestDeadRowsOfAnOutboxAreRedriven(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	o := operator(db)
	messagingtest.Run(t, bus(t, db, alpha(t)))
	runBeta(t, db)
	id := newID()
	if _, err := db.Admin.Exec(`INSERT INTO messaging.outbox_alpha (message_id, kind, payload) VALUES ($1, 'beta.late', '{"n": 1}')`, id); err != nil {
		t.Fatal(err)
	}
	messagingtest.Wait(t, "a dead row", func() bool {
		return count(t, db.Admin, `SELECT count(*) FROM messaging.outbox_alpha WHERE dead_reason IS NOT NULL`) == 1
	})
	if err := o.EditDead(t.Context(), messaging.DeadEdit{MessageID: id, Payload: []byte(`{"n": 2}`)}); err != nil {
		t.Fatalf("edit in the outbox: %v", err)
	}
	if _, err := db.Admin.Exec(`INSERT INTO messaging.routes (kind, queue) VALUES ('beta.late', 'beta')`); err != nil {
		t.Fatal(err)
	}
	if done, err := o.Redrive(t.Context(), messaging.DeadFilter{Queue: "outbox of alpha"}, messaging.RedriveOptions{}); done != 1 || err != nil {
		t.Fatalf("redrive: got %d, %v; want 1", done, err)
	}
	// Beta has no handler for it: it comes as far as its queue.
	messagingtest.Wait(t, "the message in its queue", func() bool {
		return count(t, db.Admin, `SELECT count(*) FROM messaging.queue_beta WHERE message_id = $1 AND payload = '{"n": 2}' AND dead_reason LIKE '%beta.late%'`, id) == 1
	})
	if err := o.DiscardDead(t.Context(), id, "", "nobody handles it"); err != nil {
		t.Errorf("discard: %v", err)
	}
	if n := count(t, db.Admin, `SELECT count(*) FROM messaging.outbox_alpha`); n != 0 {
		t.Errorf("rows left in the outbox: got %d, want 0", n)
	}
}

// Two operators redrive the same letters, and a third some by hand, while
// consumers work on the lanes: each letter is handled once, and recorded once.
func TestTwoRedriveTheSame(t *testing.T) {
	t.Parallel()
	const n, lanes = 400, 20
	db := newDB(t)
	runBeta(t, db)
	runBeta(t, db)
	bury(t, db, n, lanes, "broken")
	all := letters(t, operator(db), messaging.DeadFilter{})
	var working sync.WaitGroup
	var total atomic.Int32
	redrive := func(who string, f messaging.DeadFilter, rate float64) {
		working.Go(func() {
			done, err := messaging.NewOperator(db.Admin, who).Redrive(t.Context(), f, messaging.RedriveOptions{Rate: rate})
			if err != nil && !errors.Is(err, messaging.ErrNoDeadLetter) {
				t.Error(err)
			}
			total.Add(int32(done))
		})
	}
	redrive("one", messaging.DeadFilter{}, 2000)
	redrive("two", messaging.DeadFilter{Kind: "beta.work"}, 1500)
	redrive("three", messaging.DeadFilter{MessageIDs: ids(all[100:300])}, 1000)
	// Living messages of the same lanes come in between.
	for i := range lanes {
		db.Send(t, work{body{N: n + 1 + i, OrderID: all[i].OrderID}})
	}
	working.Wait()
	messagingtest.Wait(t, "all effects", func() bool {
		return count(t, db.Admin, `SELECT count(DISTINCT n) FROM public.effects`) == n+lanes && count(t, db.Admin, `SELECT count(*) FROM messaging.queue_beta`) == 0
	})
	if got := count(t, db.Admin, `SELECT count(*) FROM public.effects`); got != n+lanes {
		t.Errorf("effects: got %d, want %d", got, n+lanes)
	}
	if got := int(total.Load()); got != n {
		t.Errorf("letters redriven by all three: got %d, want %d", got, n)
	}
	once := count(t, db.Admin, `
		SELECT count(*) FROM (SELECT r FROM messaging.actions, jsonb_array_elements(detail->'rows') r GROUP BY r HAVING count(*) = 1) once`)
	if once != n {
		t.Errorf("letters recorded once: got %d, want %d", once, n)
	}
}

// An edit that races with a redrive takes effect while the letter is dead, or not
// at all, and says which.
func TestAnEditRacesWithARedrive(t *testing.T) {
	t.Parallel()
	const n = 60
	db := newDB(t)
	o := operator(db)
	_, err := db.Admin.Exec(`
		CREATE FUNCTION public.living() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'a living message was edited'; END $$;
		CREATE TRIGGER living BEFORE UPDATE OF payload ON messaging.queue_beta FOR EACH ROW WHEN (OLD.dead_reason IS NULL) EXECUTE FUNCTION public.living()`)
	if err != nil {
		t.Fatal(err)
	}
	runBeta(t, db)
	bury(t, db, n, n, "broken")
	list := letters(t, o, messaging.DeadFilter{})
	edited, discarded := make([]bool, n), make([]bool, n)
	var working sync.WaitGroup
	expect := func(err error) bool {
		if err != nil && !errors.Is(err, messaging.ErrNoDeadLetter) {
			t.Error(err)
		}
		return err == nil
	}
	begun := make(chan struct{})
	var once sync.Once
	working.Go(func() {
		options := messaging.RedriveOptions{Rate: 50, Progress: func(int, int) { once.Do(func() { close(begun) }) }}
		if _, err := o.Redrive(t.Context(), messaging.DeadFilter{}, options); err != nil {
			t.Error(err)
		}
	})
	for w := range 3 {
		working.Go(func() {
			<-begun
			for i := n - 1 - w; i >= 0; i -= 3 { // towards the redrive
				payload := fmt.Appendf(nil, `{"n": %d}`, 1001+i)
				edited[i] = expect(o.EditDead(t.Context(), messaging.DeadEdit{MessageID: list[i].MessageID, Payload: payload}))
				if i%10 == 9 {
					discarded[i] = expect(o.DiscardDead(t.Context(), list[i].MessageID, "beta", "in the way"))
				}
			}
		})
	}
	working.Wait()
	messagingtest.Wait(t, "the queue to be empty", func() bool { return count(t, db.Admin, `SELECT count(*) FROM messaging.queue_beta`) == 0 })
	var edits, discards int
	for i := range n {
		var got []int
		if err := db.Admin.Select(&got, `SELECT n FROM public.effects WHERE n IN ($1, $2)`, i+1, 1001+i); err != nil {
			t.Fatal(err)
		}
		want := []int{i + 1}
		if edited[i] {
			edits++
			want = []int{1001 + i}
		}
		if discarded[i] {
			discards++
			want = nil
		}
		if !slices.Equal(got, want) {
			t.Errorf("effects of message %d, edited %t, discarded %t: got %v, want %v", i+1, edited[i], discarded[i], got, want)
		}
	}
	t.Logf("%d of %d letters were edited first, %d discarded", edits, n, discards)
	if edits == 0 || edits == n {
		t.Error("edits and redrive never met: the test proves nothing")
	}
	for action, want := range map[string]int{"dead.edit": edits, "dead.discard": discards} {
		if got := count(t, db.Admin, `SELECT count(*) FROM messaging.actions WHERE action = $1`, action); got != want {
			t.Errorf("actions %s: got %d, want %d", action, got, want)
		}
	}
}

// Whoever waits for a letter that another operator is redriving finds it living,
// and leaves it alone.
func TestALetterIsRedrivenMeanwhile(t *testing.T) {
	t.Parallel()
	for name, act := range map[string]func(*testing.T, *messaging.Operator, string) error{
		"edit": func(t *testing.T, o *messaging.Operator, id string) error {
			return o.EditDead(t.Context(), messaging.DeadEdit{MessageID: id, Payload: []byte(`{"n": 2}`)})
		},
		"discard": func(t *testing.T, o *messaging.Operator, id string) error {
			return o.DiscardDead(t.Context(), id, "", "in the way")
		},
		"redrive": func(t *testing.T, o *messaging.Operator, id string) error {
			_, err := o.Redrive(t.Context(), messaging.DeadFilter{MessageIDs: []string{id}}, messaging.RedriveOptions{})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := newDB(t)
			o := operator(db)
			bury(t, db, 1, 1, "broken")
			id := letters(t, o, messaging.DeadFilter{})[0].MessageID
			other, err := db.Admin.Beginx()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := other.Exec(`UPDATE messaging.queue_beta SET dead_reason = NULL, attempts = 1`); err != nil {
				t.Fatal(err)
			}
			result := make(chan error, 1)
			go func() { result <- act(t, o, id) }()
			messagingtest.Wait(t, "the two to meet", func() bool {
				return count(t, db.Admin, `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`) == 1
			})
			if err := other.Commit(); err != nil {
				t.Fatal(err)
			}
			if err := <-result; !errors.Is(err, messaging.ErrNoDeadLetter) {
				t.Errorf("%s: got %v, want %v", name, err, messaging.ErrNoDeadLetter)
			}
			if n := count(t, db.Admin, `SELECT count(*) FROM messaging.queue_beta WHERE attempts = 1 AND payload LIKE '%"n": 1,%'`); n != 1 {
				t.Errorf("living messages as they were: got %d, want 1", n)
			}
			if n := count(t, db.Admin, `SELECT count(*) FROM messaging.actions`); n != 0 {
				t.Errorf("actions: got %d, want 0", n)
			}
		})
	}
}

// Consumers hear of what was redriven: they needn't poll for it.
func TestRedrivingWakesConsumers(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	b := db.NewBus(t, beta(t), func(c *messaging.Config) {
		messaging.SetLimits(c, func(l *messaging.Limits) { l.Poll = time.Hour })
	})
	messaging.Handle(b, nothing[happened])
	messaging.Handle(b, func(ctx context.Context, tx *messaging.Tx, m work) error { return effect(ctx, tx, "beta", m.body) })
	messagingtest.Run(t, b)
	messagingtest.Wait(t, "the consumers to listen", func() bool {
		return count(t, db.Admin, `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'`) > 0
	})
	db.Deliver(t, work{body{N: 100}})
	bury(t, db, 1, 1, "broken")
	if done, err := operator(db).Redrive(t.Context(), messaging.DeadFilter{}, messaging.RedriveOptions{}); done != 1 || err != nil {
		t.Fatalf("redrive: got %d, %v; want 1", done, err)
	}
	messagingtest.Wait(t, "the effect", func() bool { return count(t, db.Admin, `SELECT count(*) FROM public.effects WHERE n = 1`) == 1 })
}
