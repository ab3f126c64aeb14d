package messaging_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"example.com/orderflow/messaging"
	"example.com/orderflow/messaging/messagingtest"
)

func operator(db *messagingtest.DB) *messaging.Operator {
	return messaging.NewOperator(db.Admin, "tester")
}

// bury puts n dead letters into queue beta, dead of reason (%s in it is the
// number), in as many lanes as given, and returns nothing of them: they are work
// of 1..n.
func bury(t testing.TB, db *messagingtest.DB, n, lanes int, reason string) {
	t.Helper()
	_, err := db.Admin.Exec(`
		INSERT INTO messaging.queue_beta (message_id, kind, lane, order_id, payload, attempts, last_error, dead_reason)
		SELECT gen_random_uuid(), 'beta.work', lane, lane::uuid, convert_to(format('{"n": %s, "order_id": "%s"}', n, lane), 'UTF8'), 8, 'boom', format($3, n)
		FROM (SELECT n, format('00000000-0000-7000-8000-%s', lpad((n % $2)::text, 12, '0')) AS lane FROM generate_series(1, $1::int) n) m
		ORDER BY n`, n, lanes, reason)
	if err != nil {
		t.Fatalf("bury %d messages: %v", n, err)
	}
}

func letters(t testing.TB, o *messaging.Operator, f messaging.DeadFilter) []messaging.DeadLetter {
	t.Helper()
	list, next, err := o.DeadLetters(t.Context(), f, "", 1000)
	if err != nil || next != "" {
		t.Fatalf("list %+v: got %v and a next page %q, want all of them", f, err, next)
	}
	return list
}

func ids(list []messaging.DeadLetter) []string {
	all := make([]string, len(list))
	for i, l := range list {
		all[i] = l.MessageID
	}
	return all
}

func TestReasonsDifferingInValuesAreOneGroup(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		reasons []string
		want    string
	}{
		"nothing to leave out":   {[]string{"provider is away", " provider  is\naway "}, "provider is away"},
		"numbers":                {[]string{"failed 8 times", "failed 12 times"}, "failed # times"},
		"signs and fractions":    {[]string{"sum is -5", "sum is 1,234.50", "sum is +7"}, "sum is #"},
		"ids":                    {[]string{"order 0198f0c2-7a01-7bb2-8c4e-0242ac120002 is gone", "order ord_17 is gone"}, "order # is gone"},
		"times and addresses":    {[]string{"dial tcp 10.0.0.1:5432: refused", "dial tcp 127.0.0.1:80: refused"}, "dial tcp #: refused"},
		"double quotes":          {[]string{`no SKU "mug"`, `no SKU "a \"big\" mug"`}, `no SKU "…"`},
		"single quotes":          {[]string{`no SKU 'mug'`, "no SKU `tea pot`"}, `no SKU "…"`},
		"an apostrophe":          {[]string{"doesn't know it"}, "doesn't know it"},
		"a value cut off":        {[]string{`payload is "abc`, `payload is "d`}, `payload is "…"`},
		"kinds stay":             {[]string{"payload is no beta.work"}, "payload is no beta.work"},
		"an SQLSTATE stays":      {[]string{`ERROR: duplicate key "k1" (SQLSTATE 23505)`}, `ERROR: duplicate key "…" (SQLSTATE 23505)`},
		"nothing":                {[]string{""}, ""},
		"a letter of every kind": {[]string{"größe 3m: zu groß"}, "größe #: zu groß"},
		"the tail of a long one": {[]string{strings.Repeat("ab ", 100) + "1", strings.Repeat("ab ", 100) + "zzz"}, strings.Repeat("ab ", 66) + "a…"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, r := range c.reasons {
				if got := messaging.ReasonGroup(r); got != c.want {
					t.Errorf("group of %q: got %q, want %q", r, got, c.want)
				}
			}
		})
	}
}

// Dead letters of queues and outboxes are found by what an operator knows.
func TestDeadLettersAreBrowsed(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	o := operator(db)
	bury(t, db, 5, 5, `order "%s" is unknown`)
	event, order := newID(), newID()
	_, err := db.Admin.Exec(`
		INSERT INTO messaging.queue_beta (message_id, kind, payload) SELECT gen_random_uuid(), 'beta.work', '{}' FROM generate_series(1, 3)`)
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range []string{"beta", "delta"} {
		_, err := db.Admin.Exec(`
			INSERT INTO messaging.queue_`+q+` (message_id, kind, order_id, producer, correlation_id, class, payload, attempts, crashes, dead_reason, due)
			VALUES ($1, 'alpha.happened', $2, 'alpha', 'request-1', 0, '{"n": 1}', 3, 3, 'its consumer was gone 3 times', clock_timestamp() - interval '2 hours')`, event, order)
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := db.Admin.Exec(`INSERT INTO messaging.outbox_alpha (message_id, kind, payload, dead_reason) VALUES ($1, 'nobody.knows', '{}', 'no queue takes it')`, newID()); err != nil {
		t.Fatal(err)
	}

	all := letters(t, o, messaging.DeadFilter{})
	if len(all) != 8 || all[7].Queue != "outbox of alpha" || all[7].Producer != "alpha" || all[7].Reason != "no queue takes it" {
		t.Fatalf("dead letters: got %+v, want 8 and the one in the outbox last", all)
	}
	e := all[5]
	if e.MessageID != event || e.Queue != "beta" || e.Kind != "alpha.happened" || e.OrderID != order || e.Producer != "alpha" || e.CorrelationID != "request-1" ||
		e.Class != messaging.Express || e.Attempts != 3 || e.Crashes != 3 || time.Since(e.DiedAt) < time.Hour || time.Since(e.SentAt) > time.Hour {
		t.Errorf("the event's letter: got %+v", e)
	}
	if l := all[0]; l.Lane == "" || l.Lane != l.OrderID || l.LastError != "boom" || l.Attempts != 8 {
		t.Errorf("the first letter: got %+v, want its lane, last error and attempts", l)
	}

	for name, c := range map[string]struct {
		filter messaging.DeadFilter
		want   []messaging.DeadLetter
	}{
		"a queue":               {messaging.DeadFilter{Queue: "delta"}, all[6:7]},
		"an outbox":             {messaging.DeadFilter{Queue: "outbox of alpha"}, all[7:]},
		"a kind":                {messaging.DeadFilter{Kind: "alpha.happened"}, all[5:7]},
		"a producer":            {messaging.DeadFilter{Producer: "alpha"}, all[5:]},
		"an order":              {messaging.DeadFilter{OrderID: order}, all[5:7]},
		"an order, otherwise":   {messaging.DeadFilter{OrderID: strings.ToUpper(order)}, all[5:7]},
		"ids":                   {messaging.DeadFilter{MessageIDs: []string{all[3].MessageID, strings.ToUpper(all[1].MessageID), newID()}}, []messaging.DeadLetter{all[1], all[3]}},
		"no ids":                {messaging.DeadFilter{MessageIDs: []string{}}, nil},
		"a part of a reason":    {messaging.DeadFilter{Reason: `"3" is unk`}, all[2:3]},
		"a group's reason":      {messaging.DeadFilter{Reason: `order "…" is unknown`}, all[:5]},
		"a reason with no word": {messaging.DeadFilter{Reason: `"5"`}, all[4:5]},
		"another's reason":      {messaging.DeadFilter{Reason: `order "…" is known`}, nil},
		"long dead":             {messaging.DeadFilter{OlderThan: time.Hour}, all[5:7]},
		"dead since lately":     {messaging.DeadFilter{YoungerThan: time.Hour, Queue: "beta"}, all[:5]},
		"all at once":           {messaging.DeadFilter{Queue: "beta", Kind: "alpha.happened", Reason: "its consumer was gone # times", Producer: "alpha", OrderID: order, OlderThan: time.Hour, YoungerThan: 3 * time.Hour}, all[5:6]},
	} {
		if got := letters(t, o, c.filter); !slices.Equal(ids(got), ids(c.want)) {
			t.Errorf("%s: got %v, want %v", name, ids(got), ids(c.want))
		}
	}

	for _, f := range []messaging.DeadFilter{{}, {Reason: "o"}} {
		var paged []messaging.DeadLetter
		pages := 0
		for after := ""; pages == 0 || after != "" && pages < 10; pages++ {
			list, next, err := o.DeadLetters(t.Context(), f, after, 2)
			if err != nil || len(list) == 0 || len(list) > 2 {
				t.Fatalf("page after %q: got %d letters, %v; want 1 or 2", after, len(list), err)
			}
			paged, after = append(paged, list...), next
		}
		if pages != 4 || !slices.Equal(ids(paged), ids(all)) {
			t.Errorf("pages of 2 of %+v: got %d with %v, want 4 with %v", f, pages, ids(paged), ids(all))
		}
	}

	groups, err := o.DeadGroups(t.Context(), messaging.DeadFilter{})
	if err != nil || len(groups) != 4 {
		t.Fatalf("groups: got %+v, %v; want 4", groups, err)
	}
	g := groups[0]
	if g.Queue != "beta" || g.Kind != "beta.work" || g.Reason != `order "…" is unknown` || g.Count != 5 || g.SampleID != all[0].MessageID ||
		!g.Oldest.Equal(all[0].DiedAt) || !g.Newest.Equal(all[4].DiedAt) {
		t.Errorf("the largest group: got %+v", g)
	}
	if groups, err := o.DeadGroups(t.Context(), messaging.DeadFilter{Reason: g.Reason}); err != nil || len(groups) != 1 || groups[0] != g {
		t.Errorf("the groups of that reason: got %+v, %v; want that one", groups, err)
	}

	if _, err := o.DeadGroups(t.Context(), messaging.DeadFilter{Queue: "betta"}); !errors.Is(err, messaging.ErrNoQueue) || !strings.Contains(err.Error(), "beta, delta") {
		t.Errorf("groups of no queue: got %v, want %v and the names that there are", err, messaging.ErrNoQueue)
	}
	for name, f := range map[string]messaging.DeadFilter{"message id": {MessageIDs: []string{"7"}}, "order id": {OrderID: "7"}} {
		if _, _, err := o.DeadLetters(t.Context(), f, "", 1); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("list by the %s 7: got %v, want an error that says so", name, err)
		}
	}
	for _, cursor := range []string{"beta", "beta/x", "nowhere/1"} {
		if _, _, err := o.DeadLetters(t.Context(), messaging.DeadFilter{}, cursor, 1); err == nil {
			t.Errorf("cursor %q: got no error", cursor)
		}
	}

	copies, err := o.DeadMessages(t.Context(), event, "")
	if err != nil || len(copies) != 2 || copies[0].Queue != "beta" || copies[1].Queue != "delta" || string(copies[1].Payload) != `{"n": 1}` || copies[1].CorrelationID != "request-1" {
		t.Errorf("the event with its payload: got %+v, %v; want both copies", copies, err)
	}
	if one, err := o.DeadMessages(t.Context(), event, "delta"); err != nil || len(one) != 1 || one[0].Queue != "delta" {
		t.Errorf("the event in queue delta: got %+v, %v; want one", one, err)
	}
	if _, err := o.DeadMessages(t.Context(), newID(), ""); !errors.Is(err, messaging.ErrNoDeadLetter) {
		t.Errorf("an unknown message: got %v, want %v", err, messaging.ErrNoDeadLetter)
	}
	if n := count(t, db.Admin, `SELECT count(*) FROM messaging.actions`); n != 0 {
		t.Errorf("actions recorded for looking: got %d, want 0", n)
	}
}

// Whether a handler gave a message up or its consumers died: the letter tells when.
func TestADeadLetterTellsWhenItDied(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	b := db.NewBus(t, beta(t), func(c *messaging.Config) {
		messaging.SetLimits(c, func(l *messaging.Limits) {
			l.MaxAttempts, l.Backoff = 1, func(int) time.Duration { return time.Hour }
		})
	})
	messaging.Handle(b, nothing[happened])
	messaging.Handle(b, func(context.Context, *messaging.Tx, work) error { return errors.New("boom") })
	_, err := db.Admin.Exec(`
		INSERT INTO messaging.queue_beta (message_id, kind, payload, token, crashes, due)
		VALUES (gen_random_uuid(), 'beta.work', '{}', 1, 2, clock_timestamp() - interval '1 minute')`)
	if err != nil {
		t.Fatal(err)
	}
	var begun time.Time
	if err := db.Admin.Get(&begun, `SELECT clock_timestamp()`); err != nil {
		t.Fatal(err)
	}
	db.Send(t, work{body{N: 1}})
	messagingtest.Run(t, b)
	messagingtest.Wait(t, "two dead letters", func() bool {
		return count(t, db.Admin, `SELECT count(*) FROM messaging.queue_beta WHERE dead_reason IS NOT NULL`) == 2
	})
	var ended time.Time
	if err := db.Admin.Get(&ended, `SELECT clock_timestamp()`); err != nil {
		t.Fatal(err)
	}
	for _, l := range letters(t, operator(db), messaging.DeadFilter{}) {
		if l.DiedAt.Before(begun) || l.DiedAt.After(ended) {
			t.Errorf("dead because %q: got %s, want between %s and %s", l.Reason, l.DiedAt, begun, ended)
		}
	}
}

// C11: many dead letters beside many more living messages are listed and found
// at once, also with a plan that was made while there were none.
func TestBrowsingManyDeadLetters(t *testing.T) {
	t.Parallel()
	living, dead := 20_000, 2_000
	if long() {
		living, dead = 1_000_000, 100_000
	}
	db := newDB(t)
	o := operator(db)
	if _, _, err := o.DeadLetters(t.Context(), messaging.DeadFilter{}, "", 100); err != nil { // with no rows at all
		t.Fatal(err)
	}
	fill, err := db.Admin.Beginx()
	if err != nil {
		t.Fatal(err)
	}
	_, err = fill.Exec(`SET LOCAL statement_timeout = 0`)
	if err == nil {
		_, err = fill.Exec(`
			INSERT INTO messaging.queue_beta (message_id, kind, lane, order_id, payload, dead_reason)
			SELECT gen_random_uuid(), 'beta.work', n, gen_random_uuid(), '{"n": 1}',
			       CASE WHEN n % (1 + $1::int / $2::int) = 0 THEN format('failed 8 times, at last: %s of order "%s": call the provider: status 500', (ARRAY['charge', 'refund', 'void'])[1 + n % 3], n) END
			FROM generate_series(1, $1::int + $2::int) n`, living, dead)
	}
	if err := errors.Join(err, fill.Commit()); err != nil {
		t.Fatal(err)
	}
	last := count(t, db.Admin, `SELECT max(id) FROM messaging.queue_beta WHERE dead_reason IS NOT NULL`)
	for _, state := range []string{"as planned while empty", "analyzed"} {
		if state == "analyzed" {
			if _, err := db.Admin.Exec(`ANALYZE messaging.queue_beta`); err != nil { // has all plans made anew
				t.Fatal(err)
			}
		}
		within := func(what string, limit time.Duration, f func() error) {
			t.Helper()
			begun := time.Now()
			if err := f(); err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			took := time.Since(begun)
			t.Logf("%d dead beside %d living, %s: %s: %s", dead, living, state, what, took.Round(time.Millisecond))
			if took > 10*limit {
				t.Errorf("%s took %s, want %s and never ten times that", what, took, limit)
			}
		}
		var page []messaging.DeadLetter
		var next string
		list := func(f messaging.DeadFilter, after string) func() error {
			return func() (err error) {
				page, next, err = o.DeadLetters(t.Context(), f, after, 100)
				return err
			}
		}
		within("first page", 100*time.Millisecond, list(messaging.DeadFilter{}, ""))
		within("second page", 100*time.Millisecond, list(messaging.DeadFilter{}, next))
		within("last page", 100*time.Millisecond, list(messaging.DeadFilter{}, fmt.Sprintf("beta/%d", last-100)))
		within("page of a group", 100*time.Millisecond, list(messaging.DeadFilter{Reason: `failed # times, at last: refund of order "…": call the provider: status #`}, ""))
		if len(page) != 100 {
			t.Errorf("page of a group: got %d letters, want 100", len(page))
		}
		within("a kind that none has", time.Second, list(messaging.DeadFilter{Kind: "beta.other"}, ""))
		within("groups", time.Second, func() error {
			groups, err := o.DeadGroups(t.Context(), messaging.DeadFilter{})
			if err == nil && len(groups) != 3 {
				err = fmt.Errorf("got %d groups, want 3", len(groups))
			}
			return err
		})
	}
}

func count1(t testing.TB, db *messagingtest.DB, query string, args ...any) (text string) {
	t.Helper()
	if err := db.Admin.Get(&text, query, args...); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return text
}

// Whatever the planner knew, only what is dead is read, and the next window of it
// without sorting the rest.
func TestPlansOfBrowsingReadOnlyTheDead(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	check := func(state string) {
		t.Helper()
		for name, statement := range messaging.BrowseDead("beta", "beta") {
			tx, err := db.Admin.Beginx()
			if err != nil {
				t.Fatal(err)
			}
			plan, err := messagingtest.Explain(t.Context(), tx, statement)
			if err := errors.Join(err, tx.Rollback()); err != nil {
				t.Fatalf("plan of %s: %v", name, err)
			}
			text := strings.Join(plan, "\n")
			if strings.Contains(text, "_pkey") || strings.Contains(text, "Seq Scan") || strings.HasPrefix(name, "window") && strings.Contains(text, "Sort") ||
				strings.HasPrefix(name, "named") && !strings.Contains(text, "Index Cond: (message_id = m.id)") {
				t.Errorf("%s, %s:\n%s", name, state, text)
			}
		}
	}
	analyze := func() {
		t.Helper()
		for _, table := range []string{"queue_beta", "outbox_beta"} {
			if _, err := db.Admin.Exec(`VACUUM ANALYZE messaging.` + table); err != nil {
				t.Fatal(err)
			}
		}
	}
	check("never analyzed")
	analyze()
	check("empty")
	for _, table := range []string{"queue_beta", "outbox_beta"} {
		_, err := db.Admin.Exec(`
			INSERT INTO messaging.` + table + ` (message_id, kind, payload, dead_reason)
			SELECT gen_random_uuid(), 'beta.work', '{}', CASE WHEN n % 10 = 0 THEN 'broken' END FROM generate_series(1, 20000) n`)
		if err != nil {
			t.Fatal(err)
		}
	}
	check("analyzed before the backlog came")
	analyze()
	check("backlog")
}

func TestADeadLetterIsEdited(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	o := operator(db)
	b := db.NewBus(t, beta(t), quick)
	messaging.Handle(b, nothing[happened])
	messaging.Handle(b, func(ctx context.Context, tx *messaging.Tx, m work) error { return effect(ctx, tx, "beta", m.body) })
	messagingtest.Run(t, b)
	id := newID()
	_, err := db.Admin.Exec(`
		INSERT INTO messaging.queue_beta (message_id, kind, schema_version, lane, order_id, payload, attempts, dead_reason)
		VALUES ($1, 'beta.work', 2, 'x', $1, '{"customer": "Ada"}', 1, 'schema version 2 of beta.work: known up to 1')`, id)
	if err != nil {
		t.Fatal(err)
	}
	before := letters(t, o, messaging.DeadFilter{})
	for name, e := range map[string]messaging.DeadEdit{
		"nothing":            {},
		"no JSON":            {Payload: []byte(`{"n": `)},
		"two values":         {Payload: []byte(`{} {}`)},
		"no UTF-8":           {Payload: []byte("{\"n\": \"\xff\"}")},
		"too much":           {Payload: []byte(`"` + strings.Repeat("x", messaging.MaxPayload-1) + `"`)},
		"a negative version": {Payload: []byte(`{}`), SchemaVersion: -1},
	} {
		e.MessageID = id
		if err := o.EditDead(t.Context(), e); !errors.Is(err, messaging.ErrBadPayload) {
			t.Errorf("edit with %s: got %v, want %v", name, err, messaging.ErrBadPayload)
		}
	}
	if got := letters(t, o, messaging.DeadFilter{}); !slices.Equal(got, before) || count(t, db.Admin, `SELECT count(*) FROM messaging.actions`) != 0 {
		t.Fatalf("after edits that were refused: got %+v, want %+v and nothing recorded", got, before)
	}
	if err := o.EditDead(t.Context(), messaging.DeadEdit{MessageID: newID(), Payload: []byte(`{}`)}); !errors.Is(err, messaging.ErrNoDeadLetter) {
		t.Errorf("edit of an unknown message: got %v, want %v", err, messaging.ErrNoDeadLetter)
	}
	edit := messaging.DeadEdit{MessageID: id, Payload: []byte(`{"n": 42}`), SchemaVersion: 1, Reason: "the sender was ahead"}
	if err := o.EditDead(t.Context(), edit); err != nil {
		t.Fatalf("edit: %v", err)
	}
	after := letters(t, o, messaging.DeadFilter{})
	if want := before[0]; len(after) == 1 {
		want.SchemaVersion = 1
		if after[0] != want {
			t.Errorf("the letter after the edit: got %+v, want %+v", after[0], want)
		}
	}
	actions, err := o.Actions(t.Context(), 10)
	if err != nil || len(actions) != 1 || actions[0].Action != "dead.edit" || actions[0].Actor != "tester" || actions[0].Queue != "beta" || actions[0].MessageID != id || actions[0].Reason != edit.Reason {
		t.Fatalf("actions: got %+v, %v; want the edit", actions, err)
	}
	var detail struct {
		OldSHA256 string `json:"old_sha256"`
		NewSHA256 string `json:"new_sha256"`
		OldBytes  int    `json:"old_bytes"`
		NewBytes  int    `json:"new_bytes"`
		Old       int    `json:"old_schema_version"`
		New       int    `json:"new_schema_version"`
	}
	if err := json.Unmarshal(actions[0].Detail, &detail); err != nil {
		t.Fatal(err)
	}
	// sha256sum's of both
	if detail.OldSHA256 != count1(t, db, `SELECT encode(sha256('{"customer": "Ada"}'), 'hex')`) || detail.OldBytes != 19 || detail.Old != 2 ||
		detail.NewSHA256 != count1(t, db, `SELECT encode(sha256('{"n": 42}'), 'hex')`) || detail.NewBytes != 9 || detail.New != 1 {
		t.Errorf("detail of the edit: got %s", actions[0].Detail)
	}
	if strings.Contains(string(actions[0].Detail), "Ada") {
		t.Errorf("detail of the edit holds the payload: %s", actions[0].Detail)
	}
	if n, err := o.Redrive(t.Context(), messaging.DeadFilter{}, messaging.RedriveOptions{}); n != 1 || err != nil {
		t.Fatalf("redrive: got %d, %v; want 1", n, err)
	}
	messagingtest.Wait(t, "the edited message's effect", func() bool {
		return count(t, db.Admin, `SELECT count(*) FROM public.effects WHERE n = 42 AND attempt = 1`) == 1
	})
	if n := count(t, db.Admin, `SELECT count(*) FROM messaging.inbox_beta WHERE message_id = $1 AND payload = '{"n": 42}' AND lane = 'x'`, id); n != 1 {
		t.Errorf("traces with the payload that was handled: got %d, want 1", n)
	}
	if err := o.EditDead(t.Context(), edit); !errors.Is(err, messaging.ErrNoDeadLetter) {
		t.Errorf("edit of a message that was handled: got %v, want %v", err, messaging.ErrNoDeadLetter)
	}
}

// A living message is nobody's to edit or discard, and of several copies the one
// that is meant must be named.
func TestWhatIsNoDeadLetterIsLeftAlone(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	o := operator(db)
	alive, event := newID(), newID()
	_, err := db.Admin.Exec(`INSERT INTO messaging.queue_beta (message_id, kind, payload) VALUES ($1, 'beta.work', '{}')`, alive)
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range []string{"beta", "delta"} {
		if _, err := db.Admin.Exec(`INSERT INTO messaging.queue_`+q+` (message_id, kind, payload, dead_reason) VALUES ($1, 'alpha.happened', '{}', 'broken')`, event); err != nil {
			t.Fatal(err)
		}
	}
	change := func(id, queue string, want error) {
		t.Helper()
		if err := o.EditDead(t.Context(), messaging.DeadEdit{MessageID: id, Queue: queue, Payload: []byte(`{"n": 1}`)}); !errors.Is(err, want) {
			t.Errorf("edit of message %s in %q: got %v, want %v", id, queue, err, want)
		}
		if err := o.DiscardDead(t.Context(), id, queue, "why not"); !errors.Is(err, want) {
			t.Errorf("discard of message %s in %q: got %v, want %v", id, queue, err, want)
		}
	}
	change(alive, "", messaging.ErrNoDeadLetter)
	change(alive, "beta", messaging.ErrNoDeadLetter)
	change(event, "gamma", messaging.ErrNoDeadLetter)
	change(event, "nowhere", messaging.ErrNoQueue)
	change(event, "", messaging.ErrSeveralDead)
	if n := count(t, db.Admin, `SELECT count(*) FROM messaging.actions`); n != 0 {
		t.Errorf("actions: got %d, want 0", n)
	}
	change(event, "delta", nil)
	if n := count(t, db.Admin, `SELECT count(*) FROM messaging.queue_beta WHERE payload = '{}'`); n != 2 {
		t.Errorf("messages of queue beta as they were: got %d, want 2", n)
	}
	if n := count(t, db.Admin, `SELECT count(*) FROM messaging.queue_delta`); n != 0 {
		t.Errorf("messages of queue delta: got %d, want 0: it was discarded", n)
	}
}

func TestADiscardedLetterLeavesARecord(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	o := operator(db)
	bury(t, db, 2, 2, "broken %s")
	list := letters(t, o, messaging.DeadFilter{})
	if err := o.DiscardDead(t.Context(), list[0].MessageID, "", ""); err == nil {
		t.Error("discard without a reason: got no error")
	}
	if err := o.DiscardDead(t.Context(), list[0].MessageID, "", "a test order"); err != nil {
		t.Fatalf("discard: %v", err)
	}
	if left := letters(t, o, messaging.DeadFilter{}); len(left) != 1 || left[0] != list[1] {
		t.Errorf("left: got %+v, want %+v", left, list[1:])
	}
	actions, err := o.Actions(t.Context(), 10)
	if err != nil || len(actions) != 1 {
		t.Fatalf("actions: got %+v, %v; want one", actions, err)
	}
	a, l := actions[0], list[0]
	if a.Action != "dead.discard" || a.Queue != "beta" || a.MessageID != l.MessageID || a.Reason != "a test order" {
		t.Errorf("action: got %+v", a)
	}
	var detail map[string]any
	if err := json.Unmarshal(a.Detail, &detail); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]any{
		"kind": l.Kind, "order_id": l.OrderID, "lane": l.Lane, "dead_reason": "broken 1", "attempts": 8., "producer": l.Producer,
		"sha256": count1(t, db, `SELECT encode(sha256(convert_to('{"n": 1, "order_id": "' || $1 || '"}', 'UTF8')), 'hex')`, l.OrderID),
	} {
		if detail[key] != want {
			t.Errorf("detail %s: got %v, want %v", key, detail[key], want)
		}
	}
	if err := o.DiscardDead(t.Context(), l.MessageID, "beta", "again"); !errors.Is(err, messaging.ErrNoDeadLetter) {
		t.Errorf("discard again: got %v, want %v", err, messaging.ErrNoDeadLetter)
	}
}

// What operators did can't be rewritten, even by who owns the table.
func TestActionsStayAsTheyWereWritten(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	bury(t, db, 1, 1, "broken")
	if _, err := operator(db).Redrive(t.Context(), messaging.DeadFilter{}, messaging.RedriveOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, statement := range []string{
		`UPDATE messaging.actions SET actor = 'nobody'`, `UPDATE messaging.actions SET actor = 'nobody' WHERE false`,
		`DELETE FROM messaging.actions`, `TRUNCATE messaging.actions`, `TRUNCATE messaging.actions CASCADE`,
	} {
		if _, err := db.Admin.Exec(statement); err == nil || !strings.Contains(err.Error(), "kept as they were written") {
			t.Errorf("%s: got %v, want a refusal", statement, err)
		}
	}
	for _, statement := range []string{`INSERT INTO messaging.actions (actor, action) VALUES ('me', 'nothing')`, `SELECT * FROM messaging.actions`} {
		if _, err := db.Service("beta").Exec(statement); err == nil {
			t.Errorf("%s as a service: got no error: it has no right to it", statement)
		}
	}
	if n := count(t, db.Admin, `SELECT count(*) FROM messaging.actions WHERE actor = 'tester' AND login = session_user`); n != 1 {
		t.Errorf("actions as they were written: got %d, want 1", n)
	}
}
