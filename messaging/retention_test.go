package messaging_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"example.com/orderflow/messaging"
	"example.com/orderflow/messaging/messagingtest"
)

// pastDay gives table a partition for the day so many days ago.
func pastDay(t testing.TB, db *messagingtest.DB, table string, ago int) string {
	t.Helper()
	day := time.Now().UTC().AddDate(0, 0, -ago).Truncate(24 * time.Hour)
	name := table + day.Format("_d20060102")
	bound := func(at time.Time) string {
		if strings.HasPrefix(table, "log_") {
			return "'" + at.Format(time.RFC3339) + "'"
		}
		return "'" + idAt(at) + "'"
	}
	_, err := db.Admin.Exec(fmt.Sprintf(`CREATE TABLE messaging.%s PARTITION OF messaging.%s FOR VALUES FROM (%s) TO (%s)`,
		name, table, bound(day), bound(day.AddDate(0, 0, 1))))
	if err != nil {
		t.Fatal(err)
	}
	return name
}

// idAt is the least UUID v7 of a moment.
func idAt(at time.Time) string {
	h := fmt.Sprintf("%012x", at.UnixMilli())
	return h[:8] + "-" + h[8:] + "-0000-0000-000000000000"
}

// days lists how long ago the days are that table has partitions for, oldest first.
func days(t testing.TB, db *messagingtest.DB, table string) (ago []int) {
	t.Helper()
	var names []string
	err := db.Admin.Select(&names, `
		SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
		WHERE i.inhparent = to_regclass('messaging.' || $1) AND c.relname ~ '_d[0-9]+$' ORDER BY 1`, table)
	if err != nil {
		t.Fatal(err)
	}
	today := time.Now().UTC().Truncate(24 * time.Hour)
	for _, n := range names {
		day, err := time.Parse("20060102", n[len(n)-8:])
		if err != nil {
			t.Fatal(err)
		}
		if d := int(today.Sub(day) / (24 * time.Hour)); d > 0 {
			ago = append(ago, d)
		}
	}
	return ago
}

func forgetAll(t testing.TB, db *messagingtest.DB, service, table string) {
	t.Helper()
	if _, err := messaging.ForgetOld(t.Context(), db.Service(service), table); err != nil {
		t.Fatal(err)
	}
}

// logAt writes an event of alpha that was logged so many days ago.
func logAt(t testing.TB, db *messagingtest.DB, n, ago int) {
	t.Helper()
	_, err := db.Admin.Exec(`
		INSERT INTO messaging.log_alpha (logged_at, message_id, kind, schema_version, class, occurred_at, payload)
		SELECT at, gen_random_uuid(), 'alpha.happened', 1, 1, at, convert_to(format('{"n": %s}', $1::int), 'UTF8')
		FROM (SELECT clock_timestamp() - make_interval(days => $2) AS at) a`, n, ago)
	if err != nil {
		t.Fatal(err)
	}
}

// C20: days of a log that are older than its retention go, and so do old rows of
// the rest; a replay that still reads them holds them up, and one that begins
// later begins where the log has no gaps.
func TestOldLogsAreDropped(t *testing.T) {
	t.Parallel()
	db := newViewDB(t, view(t))
	for n, ago := range []int{12, 11, 10, 9, 8, 7, 6} {
		if ago != 11 { // its day was missed: the event lies in the rest
			pastDay(t, db, "log_alpha", ago)
		}
		logAt(t, db, n, ago)
	}
	o := messaging.NewOperator(db.Admin, "test")
	ctx, cancel := context.WithCancel(t.Context())
	opts := messaging.ReplayOptions{Progress: func(r messaging.Replay) {
		if r.Copied == 3 {
			cancel()
		}
	}}
	messaging.SetPage(&opts, 1)
	if _, err := o.Replay(ctx, "view", opts); err == nil {
		t.Fatal("replay: got no error, want it interrupted")
	}
	forgetAll(t, db, "alpha", "log_alpha")
	if got, want := days(t, db, "log_alpha"), []int{9, 8, 7, 6}; !slices.Equal(got, want) {
		t.Errorf("days left beside a replay that has read the first three: got %v days ago, want %v", got, want)
	}
	if r, err := o.Replay(t.Context(), "view", messaging.ReplayOptions{}); err != nil || r.Copied != 7 {
		t.Errorf("replay: got %+v, %v; want all 7 events", r, err)
	}
	forgetAll(t, db, "alpha", "log_alpha")
	if got, want := days(t, db, "log_alpha"), []int{7, 6}; !slices.Equal(got, want) {
		t.Errorf("days left: got %v days ago, want %v", got, want)
	}
	if n := count(t, db.Admin, `SELECT count(*) FROM messaging.log_alpha`); n != 2 {
		t.Errorf("events left: got %d, want 2", n)
	}
	// What the log has forgotten stays in the queue as it is.
	if r, err := o.Replay(t.Context(), "view", messaging.ReplayOptions{Since: time.Now().AddDate(0, 0, -20)}); err != nil || r.Copied != 2 {
		t.Errorf("second replay: got %+v, %v; want 2 events", r, err)
	}
	if n, m := count(t, db.Admin, `SELECT count(*) FROM messaging.queue_view WHERE run = 1`), count(t, db.Admin, `SELECT count(*) FROM messaging.queue_view`); n != 5 || m != 7 {
		t.Errorf("messages in the queue: got %d of the first run among %d, want 5 among 7", n, m)
	}
}

// C14: an inbox forgets what is older than its retention, but not while it may be
// asked for it.
func TestOldInboxesAreDropped(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	now := time.Now()
	at := func(ago int) time.Time { return now.AddDate(0, 0, -ago) }
	remember := func(id string, ago int) {
		t.Helper()
		_, err := db.Admin.Exec(`
			INSERT INTO messaging.inbox_beta (message_id, consumer, kind, producer, payload, sent_at, started_at, handled_at, ran, attempts, outcome)
			VALUES ($1, 'beta', 'beta.work', 'alpha', '{"n": 0}', $2, $2, $2, '0', 1, 'done')`, id, at(ago))
		if err != nil {
			t.Fatal(err)
		}
	}
	send := func(id, dead string) {
		t.Helper()
		_, err := db.Admin.Exec(`INSERT INTO messaging.queue_beta (message_id, kind, payload, dead_reason) VALUES ($1, 'beta.work', '{"n": 1}', nullif($2, ''))`, id, dead)
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, ago := range []int{50, 38, 37, 36, 35, 34} {
		pastDay(t, db, "inbox_beta", ago)
		remember(idAt(at(ago)), ago)
	}
	send(idAt(at(37)), "a second copy of what was handled, given up")
	dead := idAt(at(36).Add(time.Millisecond))
	send(dead, "given up, never handled")
	// Rows of the rest: an id without a time, handled long ago; one whose second
	// copy waits; one that was handled yesterday, 40 days after it was sent.
	random, waiting, late := newID(), idAt(at(60)), idAt(at(61))
	random = "f" + random[1:]
	remember(random, 40)
	remember(waiting, 40)
	remember(late, 1)
	send(waiting, "a second copy, given up")

	forgetAll(t, db, "beta", "inbox_beta")
	if got, want := days(t, db, "inbox_beta"), []int{37, 35, 34}; !slices.Equal(got, want) {
		t.Errorf("days left: got %v days ago, want %v", got, want)
	}
	var rest []string
	if err := db.Admin.Select(&rest, `SELECT message_id::text FROM messaging.inbox_beta_rest ORDER BY 1`); err != nil {
		t.Fatal(err)
	}
	if want := []string{late, waiting}; !slices.Equal(rest, want) {
		t.Errorf("rows left in the rest: got %v, want %v", rest, want)
	}
	// All dead letters are redriven: only the one that was never handled has an effect.
	b := db.NewBus(t, beta(t), quick)
	messaging.Handle(b, nothing[happened])
	messaging.Handle(b, func(ctx context.Context, tx *messaging.Tx, m work) error { return effect(ctx, tx, "beta", m.body) })
	messagingtest.Run(t, b)
	if n, err := messaging.NewOperator(db.Admin, "test").Redrive(t.Context(), messaging.DeadFilter{}, messaging.RedriveOptions{}); n != 3 || err != nil {
		t.Fatalf("redriven: got %d, %v; want 3", n, err)
	}
	messagingtest.Wait(t, "the queue to be empty", func() bool { return count(t, db.Admin, `SELECT count(*) FROM messaging.queue_beta`) == 0 })
	if n, m := count(t, db.Admin, `SELECT count(*) FROM public.effects`), count(t, db.Admin, `SELECT count(*) FROM messaging.inbox_beta WHERE message_id = $1`, dead); n != 1 || m != 1 {
		t.Errorf("effects and inbox rows of the message never handled: got %d and %d, want 1 and 1", n, m)
	}
	forgetAll(t, db, "beta", "inbox_beta")
	if got, want := days(t, db, "inbox_beta"), []int{35, 34}; !slices.Equal(got, want) {
		t.Errorf("days left after the copies were handled: got %v days ago, want %v", got, want)
	}
}

// An inbox outlives the logs that its service hears, and waits for a replay.
func TestAnInboxOutlivesItsLogs(t *testing.T) {
	t.Parallel()
	db := newViewDB(t, view(t))
	o := messaging.NewOperator(db.Admin, "test")
	for _, ago := range []int{6, 5, 4, 3} {
		pastDay(t, db, "inbox_view", ago)
	}
	for table, n := range map[string]int{"log_alpha": 4, "inbox_view": 1} {
		if err := o.Keep(t.Context(), table, n, "a test"); err != nil {
			t.Fatal(err)
		}
	}
	logEvents(t, db, 0, 10)
	ctx, cancel := context.WithCancel(t.Context())
	opts := messaging.ReplayOptions{Progress: func(messaging.Replay) { cancel() }}
	messaging.SetPage(&opts, 1)
	if _, err := o.Replay(ctx, "view", opts); err == nil {
		t.Fatal("replay: got no error, want it interrupted")
	}
	forgetAll(t, db, "view", "inbox_view")
	if got, want := days(t, db, "inbox_view"), []int{6, 5, 4, 3}; !slices.Equal(got, want) {
		t.Errorf("days left beside a replay: got %v days ago, want %v", got, want)
	}
	if _, err := o.Replay(t.Context(), "view", messaging.ReplayOptions{}); err != nil {
		t.Fatal(err)
	}
	forgetAll(t, db, "view", "inbox_view")
	if got, want := days(t, db, "inbox_view"), []int{5, 4, 3}; !slices.Equal(got, want) {
		t.Errorf("days left, a log being kept for 4: got %v days ago, want %v", got, want)
	}
	list, err := o.Retentions(t.Context())
	if err != nil || !slices.ContainsFunc(list, func(r messaging.Retention) bool {
		return r.Table == "inbox_view" && r.Days == 1 && r.GoneBefore != nil
	}) {
		t.Errorf("retentions: got %+v, %v; want a day for inbox_view", list, err)
	}
}

// Dropping a day waits for nobody for long: a table that somebody works in is
// left for the next hour, and those who come meanwhile go on.
func TestDroppingWaitsForNobody(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	pastDay(t, db, "inbox_beta", 40)
	tx, err := db.Service("beta").Beginx()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(`SELECT count(*) FROM messaging.inbox_beta`); err != nil {
		t.Fatal(err)
	}
	b := db.NewBus(t, beta(t))
	messaging.Handle(b, nothing[happened])
	messaging.Handle(b, func(ctx context.Context, tx *messaging.Tx, m work) error { return effect(ctx, tx, "beta", m.body) })
	messagingtest.Run(t, b)
	begun := time.Now()
	tried := make(chan error, 1)
	go func() {
		n, err := messaging.ForgetOld(t.Context(), db.Service("beta"), "inbox_beta")
		if n != 0 && err == nil {
			err = fmt.Errorf("dropped %d", n)
		}
		tried <- err
	}()
	if got := db.Deliver(t, work{body{N: 1}}); got[0] != "done" {
		t.Errorf("outcome meanwhile: got %q, want done", got)
	}
	if err := <-tried; err != nil {
		t.Errorf("drop from a busy table: %v; want it to give up", err)
	}
	t.Logf("given up and handled within %s", time.Since(begun))
	if got := days(t, db, "inbox_beta"); !slices.Equal(got, []int{40}) {
		t.Errorf("days left: got %v, want the one", got)
	}
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	messagingtest.Wait(t, "the day to go", func() bool {
		forgetAll(t, db, "beta", "inbox_beta")
		return len(days(t, db, "inbox_beta")) == 0
	})
}

// A service has its own old days dropped by running, and can neither drop
// another's nor its own before their time.
func TestWhoForgets(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	pastDay(t, db, "log_alpha", 8)
	pastDay(t, db, "log_alpha", 7)
	for _, q := range []string{
		`SELECT messaging.drop_days('log_alpha')`, `SELECT messaging.drop_days('inbox_delta')`, `SELECT messaging.drop_days('nothing')`,
		`SELECT messaging.drop_days('queue_beta')`, `SELECT messaging.drop_days('log_beta"; DROP TABLE messaging.queue_beta; --')`,
		`UPDATE messaging.retention SET days = 1`, `DROP TABLE messaging.inbox_beta_rest`,
	} {
		if _, err := db.Service("beta").Exec(q); err == nil {
			t.Errorf("%s by service beta: got no error, want it refused", q)
		}
	}
	for _, n := range []int{0, -1, 100_000} {
		if err := messaging.NewOperator(db.Admin, "test").Keep(t.Context(), "log_alpha", n, ""); err == nil {
			t.Errorf("keep for %d days: got no error, want it refused", n)
		}
	}
	if err := messaging.NewOperator(db.Admin, "test").Keep(t.Context(), "queue_beta", 3, ""); err == nil {
		t.Error("keep a queue: got no error, want it refused")
	}
	messagingtest.Run(t, bus(t, db, alpha(t)))
	messagingtest.Wait(t, "the older day to go", func() bool { return slices.Equal(days(t, db, "log_alpha"), []int{7}) })
	if n := count(t, db.Admin, `SELECT count(*) FROM messaging.retention WHERE base = 'log_alpha' AND gone_before = date_trunc('day', clock_timestamp()) - interval '7 days'`); n != 1 {
		t.Error("the log doesn't say before when it has gaps")
	}
}
