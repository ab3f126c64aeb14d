package messaging

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
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
	bus     *Bus
	bell    chan struct{}
	queues  []string // that the service may send to
	moveSQL string
	daysAt  time.Time // when the day partitions were last looked after
}

func newRelay(b *Bus) *relay { return &relay{bus: b, bell: make(chan struct{}, 1)} }

// wake makes the relay look now: to be called after a commit that sent something.
func (r *relay) wake() {
	select {
	case r.bell <- struct{}{}:
	default:
	}
}

// run carries messages until ctx ends, then what is left once more.
func (r *relay) run(ctx context.Context) {
	if len(r.bus.spec.Sends)+len(r.bus.spec.Speaks) == 0 {
		return
	}
	limit := r.bus.cfg.limits
	for {
		n, err := r.move(context.WithoutCancel(ctx))
		if err != nil {
			r.bus.log.Warn("relay will try again", "service", r.bus.spec.Name, "err", err)
		}
		if ctx.Err() != nil && (n == 0 || err != nil) {
			return
		}
		if n >= limit.relayBatch {
			continue
		}
		r.keepDays(ctx)
		timer := time.NewTimer(limit.poll)
		select {
		case <-r.bell:
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// sql builds the statement that moves a batch. The queues a service may send to
// are fixed by its rights, so they are read once; which of them gets a copy of a
// kind is read in the statement itself, under the lock.
func (r *relay) sql(ctx context.Context, db sqlx.QueryerContext) error {
	queues, err := targets(ctx, db, r.bus.spec)
	if err != nil {
		return err
	}
	outbox := "messaging." + quote("outbox_"+r.bus.spec.Name)
	var b strings.Builder
	fmt.Fprintf(&b, `
		WITH moved AS (
			DELETE FROM %[1]s WHERE id IN (SELECT id FROM %[1]s WHERE dead_reason IS NULL ORDER BY id LIMIT $1)
			RETURNING id, %[2]s, not_before)`, outbox, envelopeColumns)
	counts := "0"
	for i, q := range queues {
		fmt.Fprintf(&b, `, q%[1]d AS (
			INSERT INTO messaging.%[2]s (%[3]s, due)
			SELECT %[4]s, coalesce(m.not_before, clock_timestamp())
			FROM moved m JOIN messaging.routes r ON r.kind = m.kind AND r.queue = '%[5]s' AND r.live
			ORDER BY m.id RETURNING 1)`, i, quote("queue_"+q), envelopeColumns, prefixed("m.", envelopeColumns), q)
		counts += fmt.Sprintf(", (SELECT count(*) FROM q%d)", i)
	}
	if len(r.bus.spec.Speaks) > 0 {
		fmt.Fprintf(&b, `, logged AS (
			INSERT INTO messaging.%[1]s (%[2]s)
			SELECT %[3]s FROM moved m JOIN messaging.events e ON e.kind = m.kind ORDER BY m.id)`,
			quote("log_"+r.bus.spec.Name), envelopeColumns, prefixed("m.", envelopeColumns))
	}
	fmt.Fprintf(&b, `
		SELECT (SELECT count(*) FROM moved),
		       (SELECT count(*) FROM moved m WHERE NOT EXISTS (SELECT FROM messaging.routes r WHERE r.kind = m.kind)
		                                       AND NOT EXISTS (SELECT FROM messaging.events e WHERE e.kind = m.kind)),
		       ARRAY[%s]::bigint[]`, counts)
	r.queues, r.moveSQL = queues, b.String()
	return nil
}

func prefixed(prefix, columns string) string {
	return prefix + strings.ReplaceAll(columns, ", ", ", "+prefix)
}

// errUnroutable is why a batch with a row of an unknown kind is done row by row.
var errUnroutable = errors.New("no queue and no log takes its kind")

// move carries one batch and wakes its receivers. It returns how many rows left
// the outbox or were marked dead there.
func (r *relay) move(ctx context.Context) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if r.moveSQL == "" {
		if err := r.sql(ctx, r.bus.db); err != nil {
			return 0, err
		}
	}
	var n int
	var hit []string
	err := onConn(ctx, r.bus.db, func(c *pgx.Conn) error {
		var err error
		n, hit, err = r.moveBatch(ctx, c, r.bus.cfg.limits.relayBatch)
		return err
	})
	if err != nil && (errors.Is(err, errUnroutable) || isDataError(err)) {
		return r.moveOneByOne(ctx)
	}
	if err != nil {
		return 0, fmt.Errorf("relay the outbox of %s: %w", r.bus.spec.Name, err)
	}
	return n, r.notify(ctx, hit)
}

// moveBatch moves up to limit rows and returns how many, and which queues they
// reached. The lock is a statement of its own: the next one's snapshot then
// sees all that the relay before us has done.
func (r *relay) moveBatch(ctx context.Context, c *pgx.Conn, limit int) (n int, hit []string, err error) {
	var b pgx.Batch
	b.Queue(`BEGIN`)
	b.Queue(`SET LOCAL synchronous_commit = off`)
	b.Queue(`SELECT pg_advisory_xact_lock(hashtext('messaging.relay'), hashtext($1))`, r.bus.spec.Name)
	b.Queue(r.moveSQL, limit)
	var unroutable int
	var counts []int64
	res := c.SendBatch(ctx, &b)
	err = func() error {
		for range 3 {
			if _, err := res.Exec(); err != nil {
				return err
			}
		}
		return res.QueryRow().Scan(&n, &unroutable, &counts)
	}()
	err = errors.Join(err, res.Close())
	if err == nil && unroutable > 0 {
		err = errUnroutable
	}
	if err != nil {
		if c.PgConn().TxStatus() != 'I' {
			_, rerr := c.Exec(ctx, `ROLLBACK`)
			err = errors.Join(err, rerr)
		}
		return 0, nil, err
	}
	if _, err := c.Exec(ctx, `COMMIT`); err != nil {
		return 0, nil, err
	}
	for i, q := range r.queues {
		if counts[i+1] > 0 {
			hit = append(hit, q)
		}
	}
	return n, hit, nil
}

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
		if _, err := tx.ExecContext(ctx, `SELECT pg_advisory_xact_lock(hashtext('messaging.relay'), hashtext($1))`, r.bus.spec.Name); err != nil {
			return err
		}
		for total < r.bus.cfg.limits.relayBatch {
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
	return total, r.notify(ctx, slices.Sorted(maps.Keys(hit)))
}

// moveOne moves or buries the first living row of the outbox and returns how
// many there were: 1 or 0.
func (r *relay) moveOne(ctx context.Context, tx *sqlx.Tx, hit map[string]bool) (int, error) {
	if _, err := tx.ExecContext(ctx, `SAVEPOINT one`); err != nil {
		return 0, err
	}
	var n, unroutable int
	var counts []int64
	err := tx.QueryRowxContext(ctx, r.moveSQL, 1).Scan(&n, &unroutable, pgtype.NewMap().SQLScanner(&counts))
	if err == nil && unroutable == 0 {
		for i, q := range r.queues {
			if counts[i+1] > 0 {
				hit[q] = true
			}
		}
		_, err = tx.ExecContext(ctx, `RELEASE SAVEPOINT one`)
		return n, err
	}
	if err == nil {
		err = errUnroutable
	} else if !isDataError(err) {
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

// isDataError reports whether the server refused the data itself.
func isDataError(err error) bool {
	state := sqlState(err)
	return strings.HasPrefix(state, "22") || strings.HasPrefix(state, "23")
}

// notify wakes the consumers of queues, by a statement of its own: inside a
// transaction that writes, NOTIFY makes all commits of the server wait in line.
func (r *relay) notify(ctx context.Context, queues []string) error {
	if len(queues) == 0 {
		return nil
	}
	channels := make([]string, len(queues))
	for i, q := range queues {
		channels[i] = wakeChannel(q)
	}
	err := relaxed(ctx, r.bus.db, nil, `SELECT pg_notify(c, '') FROM unnest($1::text[]) c`, channels)
	if err != nil {
		return fmt.Errorf("wake the consumers of %s: %w", strings.Join(queues, ", "), err)
	}
	return nil
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
