package messaging

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jmoiron/sqlx"
)

// relay carries what its service has sent from the outbox into the queues of the
// receivers and, for events, into the log: in one statement, under a lock that
// lets one relay of the service work at a time, so that the order of an outbox
// becomes the order of every queue.
type relay struct {
	bus      *Bus
	bell     chan struct{}
	queues   []string // that the service may send to
	channels []string // their NOTIFY channels
	moveSQL  string
	size     int       // rows of the next batch, at most
	floor    floor     // where the next batch may begin
	daysAt   time.Time // when the day partitions were last looked after
}

func newRelay(b *Bus) *relay {
	return &relay{bus: b, bell: make(chan struct{}, 1), size: b.cfg.limits.relayBatch}
}

// wake makes the relay look now: to be called after a commit that sent something.
func (r *relay) wake() {
	select {
	case r.bell <- struct{}{}:
	default:
	}
}

// run carries messages until ctx ends, then what is left once more. It also looks
// after the day partitions, first of all: a day whose first row went to the rest
// stays there.
func (r *relay) run(ctx context.Context) {
	carries := len(r.bus.spec.Sends)+len(r.bus.spec.Speaks) > 0
	if !carries && len(r.bus.spec.Queues) == 0 {
		return
	}
	telling, stop := context.WithCancel(context.WithoutCancel(ctx))
	var notifier sync.WaitGroup
	notifier.Go(func() { r.bus.notify(telling) })
	notifier.Go(func() { r.bus.forget(telling) })
	defer func() {
		stop()
		notifier.Wait()
	}()
	limit := r.bus.cfg.limits
	for {
		r.keepDays(ctx)
		asked, n := r.size, 0
		var err error
		if carries {
			n, err = r.move(context.WithoutCancel(ctx))
		}
		if err != nil {
			r.bus.log.Warn("relay will try again", "service", r.bus.spec.Name, "err", err)
			r.size = max(1, asked/4) // it may have been too much for the time that a statement has
		} else {
			r.size = min(limit.relayBatch, 2*asked)
		}
		if ctx.Err() != nil && (n == 0 || err != nil) {
			return
		}
		if n >= asked {
			continue
		}
		if n >= busyBatch {
			sleep(ctx, gather)
		}
		timer := time.NewTimer(limit.poll)
		select {
		case <-r.bell:
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// sleep returns after d, or when ctx ends.
func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// learn reads the routes and builds the statement that moves a batch by them. The
// statement names the version of the routes: when they have changed since, because
// another version of a service was deployed, nothing is moved and the relay learns
// anew.
func (r *relay) learn(ctx context.Context, db *sqlx.DB) error {
	fail := func(err error) error { return fmt.Errorf("routes of service %s: %w", r.bus.spec.Name, err) }
	var version int64
	if err := db.GetContext(ctx, &version, `SELECT version FROM messaging.routes_version`); err != nil {
		return fail(err)
	}
	var routes []struct {
		Kind, Queue   string
		Live, Allowed bool
	}
	err := db.SelectContext(ctx, &routes, `
		SELECT kind, queue, live, has_any_column_privilege(format('messaging.%I', 'queue_' || queue), 'INSERT') AS allowed
		FROM messaging.routes
		ORDER BY queue, kind`)
	if err != nil {
		return fail(err)
	}
	var events []string
	if err := db.SelectContext(ctx, &events, `SELECT kind FROM messaging.events ORDER BY kind`); err != nil {
		return fail(err)
	}
	var logged bool
	if err := db.GetContext(ctx, &logged, `SELECT to_regclass('messaging.log_' || $1) IS NOT NULL`, r.bus.spec.Name); err != nil {
		return fail(err)
	}
	known, forbidden, kinds := slices.Clone(events), []string(nil), map[string][]string{}
	for _, route := range routes {
		known = append(known, route.Kind)
		switch {
		case route.Live && route.Allowed:
			kinds[route.Queue] = append(kinds[route.Queue], route.Kind)
		case route.Live:
			forbidden = append(forbidden, route.Kind)
		}
	}
	outbox := "messaging." + quote("outbox_"+r.bus.spec.Name)
	var b strings.Builder
	fmt.Fprintf(&b, `
		WITH moved AS (
			DELETE FROM %[1]s WHERE id = ANY (ARRAY(SELECT id FROM %[1]s WHERE dead_reason IS NULL AND id >= $2 ORDER BY id LIMIT $1))
			RETURNING id, %[2]s, not_before)`, outbox, envelopeColumns)
	r.queues, r.channels = slices.Sorted(maps.Keys(kinds)), nil
	var counts []string
	for i, q := range r.queues {
		fmt.Fprintf(&b, `, q%[1]d AS (
			INSERT INTO messaging.%[2]s (%[3]s, due)
			SELECT %[4]s, coalesce(m.not_before, clock_timestamp())
			FROM moved m WHERE m.kind = ANY (%[5]s) ORDER BY m.id
			RETURNING 1)`, i, quote("queue_"+q), envelopeColumns, prefixed("m.", envelopeColumns), textArray(kinds[q]))
		r.channels = append(r.channels, wakeChannel(q))
		counts = append(counts, fmt.Sprintf("(SELECT count(*) FROM q%d)", i))
	}
	if logged {
		fmt.Fprintf(&b, `, logged AS (
			INSERT INTO messaging.%[1]s (%[2]s, not_before)
			SELECT %[3]s, m.not_before FROM moved m WHERE m.kind = ANY (%[4]s) ORDER BY m.id)`,
			quote("log_"+r.bus.spec.Name), envelopeColumns, prefixed("m.", envelopeColumns), textArray(events))
	}
	fmt.Fprintf(&b, `
		SELECT count(m.id), coalesce(max(m.id), 0), t.counts,
		       set_config('orderflow.told', (SELECT coalesce(string_agg(q, ','), '') FROM unnest(%[1]s, t.counts) AS u (q, n) WHERE n > 0), false),
		       messaging.all_carried(%[2]d, (SELECT version FROM messaging.routes_version WHERE only_row),
		           count(*) FILTER (WHERE m.kind = ANY (%[3]s)), count(*) FILTER (WHERE m.kind <> ALL (%[4]s)))
		FROM (SELECT ARRAY[%[5]s]::bigint[] AS counts) t LEFT JOIN moved m ON true
		WHERE `+noWait+`
		GROUP BY t.counts`,
		textArray(r.channels), version, textArray(forbidden), textArray(known), strings.Join(counts, ", "))
	r.moveSQL = b.String()
	return nil
}

// textArray is list as an array in SQL.
func textArray(list []string) string {
	quoted := make([]string, len(list))
	for i, s := range list {
		quoted[i] = literal(s)
	}
	return "ARRAY[" + strings.Join(quoted, ", ") + "]::text[]"
}

// moved is what the statement that moves a batch answers.
type moved struct {
	rows   int
	last   int64   // the highest id moved, 0 when none was
	counts []int64 // copies per queue
}

// hit lists the queues that got something.
func (m moved) hit(queues []string) (list []string) {
	for i, q := range queues {
		if m.counts[i] > 0 {
			list = append(list, q)
		}
	}
	return list
}

// refusal is err, or what it stands for when the batch was refused as a whole.
func refusal(err error) error {
	switch sqlState(err) {
	case stateUnroutable:
		return errUnroutable
	case stateNewRoutes:
		return errNewRoutes
	}
	return err
}

func prefixed(prefix, columns string) string {
	return prefix + strings.ReplaceAll(columns, ", ", ", "+prefix)
}

var (
	// errUnroutable is why a batch with a row of an unknown kind is done row by row.
	errUnroutable = errors.New("no queue and no log takes its kind")
	// errNewRoutes is why a batch is done again after learning the queues anew.
	errNewRoutes = errors.New("there are queues that this relay doesn't know or may not write")
)

// move carries one batch and wakes its receivers. It returns how many rows left
// the outbox or were marked dead there.
func (r *relay) move(ctx context.Context) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if r.moveSQL == "" {
		if err := r.learn(ctx, r.bus.db); err != nil {
			return 0, err
		}
	}
	var m moved
	var told bool
	move := func(c *pgx.Conn) (err error) {
		// With somebody at the point between COMMIT and NOTIFY this one goes by itself.
		told = r.bus.cfg.Crash == nil && r.bus.wakes.mayTell()
		m, err = r.moveBatch(ctx, c, told)
		return err
	}
	err := onConn(ctx, r.bus.db, move)
	if errors.Is(err, errNewRoutes) {
		if err := r.learn(ctx, r.bus.db); err != nil {
			return 0, err
		}
		err = onConn(ctx, r.bus.db, move)
	}
	if errors.Is(err, errUnroutable) || isDataError(err) {
		return r.moveOneByOne(ctx)
	}
	if err != nil {
		return 0, fmt.Errorf("relay the outbox of %s: %w", r.bus.spec.Name, err)
	}
	r.floor.carried(m.last, time.Now())
	if m.rows > 0 {
		r.bus.at(crashRelayAfterCommit)
	}
	if !told {
		r.bus.wakes.tell(m.hit(r.queues)...)
	}
	return m.rows, nil
}

// moveBatch moves a batch, all in one round trip. The lock is a statement of its
// own: the next one's snapshot then sees all that the relay before us has done.
// With tell the receivers are woken by a NOTIFY of its own after the COMMIT: inside
// a transaction that writes, it would make all commits of the server wait in line.
// With somebody at the point before it the COMMIT takes a round trip of its own.
func (r *relay) moveBatch(ctx context.Context, c *pgx.Conn, tell bool) (m moved, err error) {
	var b pgx.Batch
	b.Queue(`BEGIN`)
	b.Queue(lockRelaySQL, r.bus.spec.Name)
	b.Queue(r.moveSQL, r.size, r.floor.at(time.Now()))
	apart := r.bus.cfg.Crash != nil
	if !apart {
		b.Queue(`COMMIT`)
	}
	if tell {
		b.Queue(`SELECT pg_notify(c, '') FROM unnest(string_to_array(nullif(current_setting('orderflow.told', true), ''), ',')) c`)
	}
	res := c.SendBatch(ctx, &b)
	err = func() error {
		for range 2 {
			if _, err := res.Exec(); err != nil {
				return err
			}
		}
		return res.QueryRow().Scan(&m.rows, &m.last, &m.counts, nil, nil)
	}()
	if cerr := res.Close(); err == nil {
		err = cerr
	}
	if err == nil && apart {
		if m.rows > 0 {
			r.bus.at(crashRelayBeforeCommit)
		}
		_, err = c.Exec(ctx, `COMMIT`)
	}
	if err != nil {
		err = refusal(err)
		if !c.IsClosed() && c.PgConn().TxStatus() != 'I' {
			_, rerr := c.Exec(ctx, `ROLLBACK`)
			err = errors.Join(err, rerr)
		}
		return moved{}, err
	}
	return m, nil
}

// lockRelaySQL waits for the other relays of the service.
const lockRelaySQL = `SELECT pg_advisory_xact_lock(hashtext('messaging.relay'), hashtext($1))`

// moveOneByOne is for a batch with a row in it that can't be moved: that one is
// marked dead where it is, and stops nobody. All under the lock, so that the
// first living row is the one that has just failed.
func (r *relay) moveOneByOne(ctx context.Context) (total int, err error) {
	tx, err := r.bus.db.BeginTxx(ctx, nil)
	if err != nil {
		return 0, fmt.Errorf("relay the outbox of %s row by row: %w", r.bus.spec.Name, err)
	}
	hit := map[string]bool{}
	err = func() error {
		if _, err := tx.ExecContext(ctx, lockRelaySQL, r.bus.spec.Name); err != nil {
			return err
		}
		for total < r.size {
			n, err := r.moveOne(ctx, tx, hit)
			if err != nil {
				return err
			}
			if n == 0 {
				break
			}
			total += n
		}
		return tx.Commit()
	}()
	if err != nil {
		return 0, errors.Join(fmt.Errorf("relay the outbox of %s row by row: %w", r.bus.spec.Name, err), rollback(tx))
	}
	r.bus.wakes.tell(slices.Collect(maps.Keys(hit))...)
	return total, nil
}

// moveOne moves or buries the first living row of the outbox and returns how
// many there were: 1 or 0.
func (r *relay) moveOne(ctx context.Context, tx *sqlx.Tx, hit map[string]bool) (int, error) {
	if _, err := tx.ExecContext(ctx, `SAVEPOINT one`); err != nil {
		return 0, err
	}
	var m moved
	var told string
	var void any
	err := refusal(tx.QueryRowxContext(ctx, r.moveSQL, 1, 0).Scan(&m.rows, &m.last, pgtype.NewMap().SQLScanner(&m.counts), &told, &void))
	if err == nil {
		for _, q := range m.hit(r.queues) {
			hit[q] = true
		}
		_, err = tx.ExecContext(ctx, `RELEASE SAVEPOINT one`)
		return m.rows, err
	}
	if errors.Is(err, errNewRoutes) {
		r.moveSQL = ""
	}
	if !errors.Is(err, errUnroutable) && !isDataError(err) {
		return 0, err
	}
	if _, rerr := tx.ExecContext(ctx, `ROLLBACK TO SAVEPOINT one`); rerr != nil {
		return 0, errors.Join(err, rerr)
	}
	outbox := "messaging." + quote("outbox_"+r.bus.spec.Name)
	var id, kind string
	row := tx.QueryRowxContext(ctx, `
		UPDATE `+outbox+` SET dead_reason = $1
		WHERE id = (SELECT id FROM `+outbox+` WHERE dead_reason IS NULL ORDER BY id LIMIT 1)
		RETURNING message_id::text, kind`, shorten(err.Error()))
	if serr := row.Scan(&id, &kind); serr != nil {
		return 0, errors.Join(err, serr)
	}
	r.bus.log.Error("message can't leave the outbox", "service", r.bus.spec.Name, "message_id", id, "kind", kind, "err", err)
	return 1, nil
}

// isDataError reports whether the server refused the data itself. Class 54 is
// among it for a lane that is longer than an index entry may be.
func isDataError(err error) bool {
	state := sqlState(err)
	return strings.HasPrefix(state, "22") || strings.HasPrefix(state, "23") || strings.HasPrefix(state, "54")
}

// keepDays has the day partitions of the coming days made, once an hour.
func (r *relay) keepDays(ctx context.Context) {
	if time.Since(r.daysAt) < time.Hour || ctx.Err() != nil {
		return
	}
	r.daysAt = time.Now()
	var tables []string
	if len(r.bus.spec.Speaks) > 0 {
		tables = append(tables, "log_"+r.bus.spec.Name)
	}
	if len(r.bus.spec.Queues) > 0 {
		tables = append(tables, "inbox_"+r.bus.spec.Name)
	}
	for _, t := range tables {
		if _, err := r.bus.db.ExecContext(ctx, `SELECT messaging.ensure_days($1)`, t); err != nil {
			r.bus.log.Warn("day partitions will be made later", "service", r.bus.spec.Name, "topic", t, "err", err)
		}
	}
}
