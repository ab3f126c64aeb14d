package messaging

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jmoiron/sqlx"
)

// claimed is a message in hand: nobody else's until its lease ends, and ours to
// acknowledge only while the row bears our token.
type claimed struct {
	Message
	row     int64 // id in the queue table: the order of sending
	token   int64
	at      time.Time // of the claim, by the database's clock
	until   time.Time // by this process's: after that there may not be lease enough to handle it
	suspect bool      // somebody had it in hand and didn't finish
	handled bool      // it is in the inbox: only its acknowledgement is left to do
	dead    bool      // it became a dead letter by this claim: too many crashes
}

// knownHandled notes the last run that handled the message, -1 = none.
func (c *claimed) knownHandled(run int) {
	c.handled, c.Replayed = run >= c.Run, run >= 0 && run < c.Run
}

// queueTable holds the SQL of one queue. Each is a statement of its own and
// commit-relaxed (noWait): losing a claim, a nack or a renewal to a crash of the
// server costs a repeat of work whose effects were lost with it. An
// acknowledgement never is: it commits with the effects. Nor is what puts messages
// back without counting an attempt: a connection that was lost may be the first sign
// of such a crash, after which the messages would wait for their leases and count one.
type queueTable struct {
	db     *sqlx.DB
	name   string
	limits limits

	claimSQL, suspectSQL, lookSQL, ackSQL, ackManySQL, nackSQL, renewSQL, giveBackSQL string
}

// noWait in a statement that is its own transaction has the commit not wait for
// the disk. It is true, and evaluated once.
const noWait = `(SELECT set_config('synchronous_commit', 'off', true)) IS NOT NULL`

const claimColumns = `q.id, q.message_id::text, q.kind, q.schema_version, coalesce(q.lane, ''), q.class, coalesce(q.order_id::text, ''),
	coalesce(q.correlation_id, ''), coalesce(q.causation_id::text, ''), q.occurred_at, q.producer, q.metadata, q.payload, q.attempts,
	q.token, clock_timestamp(), q.dead_reason IS NOT NULL, q.run, `

// newQueueTable returns the SQL of queue name. inbox is the service whose inbox
// tells what was handled before, "" when none does or nobody needs to know when
// claiming: a row that was handled is gone with the same commit, so only another
// copy of the message can be there, and the inbox's key keeps that from having an
// effect. A consumer who is about to talk to the outside wants to know before.
//
// A plan is made once, most often while the queue is empty, and has to serve a
// million rows: so rows are found by id = ANY (…) or by a scalar subquery, which
// are index conditions whatever the planner believes of the table's size. A join,
// or EXISTS in a list of columns, can turn into a scan of it all.
func newQueueTable(db *sqlx.DB, name, inbox string, l limits) *queueTable {
	t := "messaging." + quote("queue_"+name)
	handled := "-1" // the last run that handled the message
	if inbox != "" {
		handled = "coalesce((SELECT i.run FROM messaging." + quote("inbox_"+inbox) + " i WHERE i.message_id = q.message_id AND i.consumer = '" + name + "' ORDER BY i.run DESC LIMIT 1), -1)"
	}
	next := `(SELECT min(o.due) FROM (VALUES (0), (1), (2)) k (class)
		CROSS JOIN LATERAL (SELECT due FROM ` + t + ` WHERE class = k.class AND dead_reason IS NULL AND due > statement_timestamp() AND due <= statement_timestamp() + interval '1 second' ORDER BY class, due LIMIT 1) o) - clock_timestamp()`
	// A row is claimable when it has no lane or is the first living one of its lane.
	head := `(c.lane IS NULL OR c.id = (SELECT h.id FROM ` + t + ` h WHERE h.lane = c.lane AND h.dead_reason IS NULL ORDER BY h.lane, h.id LIMIT 1))`
	// statement_timestamp is stable and can be an index condition; clock_timestamp can't.
	pick := func(class, limit string) string {
		return `SELECT c.id FROM ` + t + ` c
			WHERE c.class = ` + class + ` AND c.dead_reason IS NULL AND c.due <= statement_timestamp()
			  AND c.due >= least($3::timestamptz, statement_timestamp() - interval '5 seconds')
			  AND c.token IS NULL AND c.crashes = 0 AND ` + head + `
			ORDER BY c.class, c.due, c.id LIMIT ` + limit + ` FOR UPDATE SKIP LOCKED`
	}
	return &queueTable{
		db: db, name: name, limits: l,
		// $1 limit, $2 token, $3 floor, $4 lease, $5..$7 the classes in the order asked
		claimSQL: `
			WITH known AS MATERIALIZED (SELECT coalesce(max(run), 0) AS run, CASE WHEN bool_or(paused_at IS NOT NULL) THEN 0 ELSE $1 END AS wanted FROM messaging.queues WHERE name = '` + name + `'),
			     a AS (` + pick("$5", "(SELECT wanted FROM known)") + `),
			     b AS (` + pick("$6", "(SELECT wanted FROM known) - (SELECT count(*) FROM a)") + `),
			     c AS (` + pick("$7", "(SELECT wanted FROM known) - (SELECT count(*) FROM a) - (SELECT count(*) FROM b)") + `),
			     taken AS (
			UPDATE ` + t + ` q SET due = clock_timestamp() + $4::interval, attempts = q.attempts + 1, token = $2
			WHERE q.id = ANY (ARRAY(SELECT id FROM a UNION ALL SELECT id FROM b UNION ALL SELECT id FROM c)) AND ` + noWait + `
			RETURNING ` + claimColumns + handled + `)
			SELECT taken.*, known.run, ` + next + ` FROM known LEFT JOIN taken ON true`,
		// A token left on a row that is due again belongs to a process that is gone:
		// that counts as a crash, and after too many the message is dead.
		suspectSQL: `
			UPDATE ` + t + ` q SET due = clock_timestamp() + CASE WHEN q.token IS NOT NULL AND q.crashes + 1 >= $3 THEN interval '0' ELSE $2 END,
			       attempts = q.attempts + 1, token = $1,
			       crashes = q.crashes + (q.token IS NOT NULL)::int,
			       dead_reason = CASE WHEN q.token IS NOT NULL AND q.crashes + 1 >= $3 THEN
			           format('its consumer was gone %s times while it had the message in hand', q.crashes + 1) END
			WHERE q.id = (SELECT c.id FROM ` + t + ` c
			      WHERE c.dead_reason IS NULL AND (c.token IS NOT NULL OR c.crashes > 0) AND c.due <= statement_timestamp() AND ` + head + ` AND ` + notPaused(name) + `
			      ORDER BY c.due LIMIT 1 FOR UPDATE SKIP LOCKED) AND ` + noWait + `
			RETURNING ` + claimColumns + handled,
		// The oldest row that may be claimed (the floor of later claims) and whether
		// there is a suspect.
		lookSQL: `
			SELECT (SELECT min(o.due) FROM (VALUES (0), (1), (2)) k (class)
			        CROSS JOIN LATERAL (SELECT due FROM ` + t + ` WHERE class = k.class AND dead_reason IS NULL ORDER BY class, due LIMIT 1) o),
			       EXISTS (SELECT FROM ` + t + ` WHERE dead_reason IS NULL AND (token IS NOT NULL OR crashes > 0) AND due <= statement_timestamp())`,
		// $1 ids, $2 tokens, $3 how many. It tells whether more waits in their lanes.
		ackSQL: `
			WITH gone AS (DELETE FROM ` + t + ` WHERE id = ANY ($1) AND token = ANY ($2) RETURNING id, lane)
			SELECT coalesce(bool_or((SELECT h.id FROM ` + t + ` h WHERE h.lane = gone.lane AND h.id > gone.id AND h.dead_reason IS NULL ORDER BY h.lane, h.id LIMIT 1) IS NOT NULL), false),
			       messaging.all_acknowledged(count(*), $3)
			FROM gone`,
		// The same of a busy queue, where looking would cost more than it saves: more
		// is taken to wait.
		ackManySQL: `
			WITH gone AS (DELETE FROM ` + t + ` WHERE id = ANY ($1) AND token = ANY ($2) RETURNING id)
			SELECT true, messaging.all_acknowledged(count(*), $3)
			FROM gone`,
		// $1 id, $2 token, $3 wait, $4 attempts not counted, $5 error, $6 why it is dead or null
		nackSQL: `
			WITH n AS (
				UPDATE ` + t + ` SET due = clock_timestamp() + $3::interval, token = NULL, attempts = attempts - $4, last_error = $5, dead_reason = $6
				WHERE id = $1 AND token = $2 AND CASE WHEN $4 > 0 THEN true ELSE ` + noWait + ` END
				RETURNING lane, due, dead_reason)
			UPDATE ` + t + ` q SET due = greatest(q.due, (SELECT due FROM n))
			WHERE q.lane = (SELECT lane FROM n WHERE n.dead_reason IS NULL) AND q.id > $1 AND q.dead_reason IS NULL AND q.token IS NULL`,
		renewSQL:    `UPDATE ` + t + ` SET due = clock_timestamp() + $3::interval WHERE id = $1 AND token = $2 AND ` + noWait + ` RETURNING true`,
		giveBackSQL: `UPDATE ` + t + ` SET due = clock_timestamp() + $3::interval, token = NULL, attempts = attempts - 1 WHERE id = ANY($1) AND token = $2`,
	}
}

// run runs one statement by itself and hands its rows to scan, which may be nil.
func run(ctx context.Context, db *sqlx.DB, scan func(pgx.Rows) error, query string, args ...any) error {
	return onConn(ctx, db, func(c *pgx.Conn) error {
		rows, err := c.Query(ctx, query, args...)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			if scan == nil {
				continue
			}
			if err := scan(rows); err != nil {
				return err
			}
		}
		return rows.Err()
	})
}

// onConn runs f on a connection of db by itself. A connection that f leaves
// inside a transaction is closed instead of going back to the pool.
func onConn(ctx context.Context, db *sqlx.DB, f func(*pgx.Conn) error) error {
	conn, err := db.Connx(ctx)
	if err != nil {
		return err
	}
	var ferr error
	err = conn.Raw(func(driver any) error {
		c, _ := raw(driver)
		ferr = f(c)
		if ferr != nil && c.IsClosed() {
			ferr = errors.Join(ferr, errConnectionGone)
		} else if ferr != nil && c.PgConn().TxStatus() != 'I' {
			ferr = errors.Join(ferr, c.Close(ctx))
		}
		return nil
	})
	return errors.Join(ferr, err, conn.Close())
}

// scanClaimed reads the columns of a claim, and into more those that follow.
func scanClaimed(rows pgx.Rows, more ...any) (claimed, error) {
	var c claimed
	var metadata []byte
	var handled int
	err := rows.Scan(append([]any{&c.row, &c.ID, &c.Kind, &c.SchemaVersion, &c.Lane, &c.Class, &c.OrderID,
		&c.CorrelationID, &c.CausationID, &c.OccurredAt, &c.Producer, &metadata, &c.Payload, &c.Attempt,
		&c.token, &c.at, &c.dead, &c.Run, &handled}, more...)...)
	if err != nil {
		return c, err
	}
	c.knownHandled(handled)
	c.metadata = readMetadata(metadata)
	c.Traceparent = c.metadata[keyTraceparent]
	c.sentAgo, c.takenAt = c.at.Sub(c.OccurredAt), time.Now()
	return c, nil
}

// readMetadata makes a map of what the column metadata holds. Values that are no
// strings, which no Publisher of ours writes, become text: one odd row must not
// keep a whole batch from being read.
func readMetadata(column []byte) map[string]string {
	var values map[string]any
	if len(column) == 0 || json.Unmarshal(column, &values) != nil {
		return nil
	}
	m := make(map[string]string, len(values))
	for k, v := range values {
		s, ok := v.(string)
		if !ok {
			s = fmt.Sprint(v)
		}
		m[k] = s
	}
	return m
}

// classOrders are the orders in which the classes are asked, for a tenth each:
// express comes first in six of ten claims, standard in three, bulk in one.
var classOrders = [10][3]Class{
	{Express, Standard, Bulk}, {Standard, Express, Bulk}, {Express, Standard, Bulk}, {Express, Standard, Bulk}, {Bulk, Express, Standard},
	{Express, Standard, Bulk}, {Standard, Express, Bulk}, {Express, Standard, Bulk}, {Standard, Express, Bulk}, {Express, Standard, Bulk},
}

// taken is what a claim got.
type taken struct {
	list []claimed
	wait time.Duration // until another message falls due, at most the poll interval
	run  int           // the last replay of the queue, 0 = there was none
}

// claim takes up to n messages that nobody has in hand. Turn counts the claims of
// the consumer, floor is a moment before which nothing is due.
func (t *queueTable) claim(ctx context.Context, n int, turn uint, floor time.Time) (taken, error) {
	var got taken
	var next *time.Duration
	o := classOrders[turn%10]
	until := time.Now().Add(t.limits.lease / 2)
	err := run(ctx, t.db, func(rows pgx.Rows) error {
		if raw := rows.RawValues(); raw[0] == nil { // none, only what is known of the queue
			only := make([]any, len(raw))
			only[len(raw)-2], only[len(raw)-1] = &got.run, &next
			return rows.Scan(only...)
		}
		c, err := scanClaimed(rows, &got.run, &next)
		c.until = until
		got.list = append(got.list, c)
		return err
	}, t.claimSQL, n, rand.Int64(), floor, t.limits.lease, o[0], o[1], o[2])
	if err != nil {
		return taken{}, fmt.Errorf("claim from queue %s: %w", t.name, err)
	}
	slices.SortFunc(got.list, func(a, b claimed) int { return int(a.row - b.row) })
	got.wait = t.limits.poll
	if next != nil {
		got.wait = min(got.wait, max(*next, time.Millisecond))
	}
	return got, nil
}

// claimSuspect takes one message that somebody had in hand and didn't finish.
// It returns nil when there is none.
func (t *queueTable) claimSuspect(ctx context.Context) (*claimed, error) {
	var got *claimed
	until := time.Now().Add(t.limits.lease / 2)
	err := run(ctx, t.db, func(rows pgx.Rows) error {
		c, err := scanClaimed(rows)
		c.until, c.suspect = until, true
		got = &c
		return err
	}, t.suspectSQL, rand.Int64(), t.limits.lease, t.limits.maxCrashes)
	if err != nil {
		return nil, fmt.Errorf("claim a suspect from queue %s: %w", t.name, err)
	}
	return got, nil
}

// look reports the oldest living row's due time (far ahead when there is none) and
// whether a suspect waits.
func (t *queueTable) look(ctx context.Context) (oldest time.Time, suspect bool, err error) {
	var first *time.Time
	err = run(ctx, t.db, func(rows pgx.Rows) error { return rows.Scan(&first, &suspect) }, t.lookSQL)
	if err != nil {
		return time.Time{}, false, fmt.Errorf("look at queue %s: %w", t.name, err)
	}
	oldest = time.Now().Add(24 * time.Hour)
	if first != nil {
		oldest = *first
	}
	return oldest, suspect, nil
}

// busyBatch is how many messages at once show that a queue is busy: more is on its
// way, and what comes within gather is done together with it.
const (
	busyBatch = 8
	gather    = 5 * time.Millisecond
)

// ack queues the deletion of messages in tx, whose commit then tells in more
// whether there is more in their lanes. When one of them isn't ours any more the
// commit fails with ErrLost.
func (t *queueTable) ack(tx *Tx, list []claimed) (more *bool) {
	more = new(bool)
	query := t.ackSQL
	if len(list) >= busyBatch {
		query = t.ackManySQL
	}
	ids, tokens := make([]int64, len(list)), make([]int64, len(list))
	for i, c := range list {
		ids[i], tokens[i] = c.row, c.token
	}
	tx.last(func(row pgx.Row) error {
		err := row.Scan(more, nil)
		if sqlState(err) == stateNotAcknowledged {
			err = fmt.Errorf("acknowledge in queue %s: %w: %w", t.name, ErrLost, err)
		}
		return err
	}, query, ids, tokens, len(list))
	return more
}

// nack puts c back after wait, or among the dead letters when reason says why.
func (t *queueTable) nack(ctx context.Context, c claimed, wait time.Duration, counts bool, cause error, reason *string) error {
	uncounted := 0
	if !counts {
		uncounted = 1
	}
	if reason != nil {
		wait = 0 // the due time of a dead letter is when it died
	}
	text := shorten(cause.Error())
	err := run(ctx, t.db, nil, t.nackSQL, c.row, c.token, wait, uncounted, text, reason)
	if err != nil {
		return fmt.Errorf("put message %s back into queue %s: %w", c.ID, t.name, err)
	}
	return nil
}

// renew prolongs the lease of c; ErrLost when it isn't ours any more.
func (t *queueTable) renew(ctx context.Context, c claimed) error {
	ours := false
	err := run(ctx, t.db, func(rows pgx.Rows) error { return rows.Scan(&ours) }, t.renewSQL, c.row, c.token, t.limits.lease)
	if err == nil && !ours {
		err = ErrLost
	}
	if err != nil {
		return fmt.Errorf("renew the lease of message %s: %w", c.ID, err)
	}
	return nil
}

// giveBack returns messages untouched: to be claimed again, no attempt counted.
func (t *queueTable) giveBack(ctx context.Context, list []claimed, wait time.Duration) error {
	byToken := map[int64][]int64{}
	for _, c := range list {
		byToken[c.token] = append(byToken[c.token], c.row)
	}
	for token, ids := range byToken {
		if err := run(ctx, t.db, nil, t.giveBackSQL, ids, token, wait); err != nil {
			return fmt.Errorf("give %d messages back to queue %s: %w", len(ids), t.name, err)
		}
	}
	return nil
}

// shorten keeps an error's text fit to be stored and shown.
func shorten(s string) string {
	s = strings.ToValidUTF8(strings.ReplaceAll(s, "\x00", ""), "�")
	if r := []rune(s); len(r) > 500 {
		return string(r[:500]) + "…"
	}
	return s
}
