package messaging

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// countBound is how far messages are counted: to look at 10,000 index entries
// takes some milliseconds, whatever lies behind them.
const countBound = 10_000

// tailPages is how much of an inbox is read to learn its rates: its newest rows
// lie at its end, as rows are only deleted from what isn't a day's (_rest).
const tailPages = 256

// Precision says how a Count was found.
type Precision string

// The precisions. More than 10,000 messages are not counted.
const (
	Exact   Precision = "exact"
	AtLeast Precision = "at least"
	About   Precision = "about" // by the server's statistics, which may be a minute old
)

// Count is a number of messages.
type Count struct {
	N   int64     `json:"n"`
	How Precision `json:"how"`
}

// String is "12", "≥10000" or "≈1000000".
func (c Count) String() string {
	return map[Precision]string{AtLeast: "≥", About: "≈"}[c.How] + fmt.Sprint(c.N)
}

// upTo is n, which was counted up to one more than countBound.
func upTo(n int64) Count {
	if n > countBound {
		return Count{countBound, AtLeast}
	}
	return Count{n, Exact}
}

// Millis is a duration that JSON shows in milliseconds.
type Millis time.Duration

// MarshalJSON writes milliseconds with their fraction.
func (m Millis) MarshalJSON() ([]byte, error) {
	return json.Marshal(float64(m) / float64(time.Millisecond))
}

// UnmarshalJSON reads what MarshalJSON writes.
func (m *Millis) UnmarshalJSON(b []byte) error {
	var f float64
	err := json.Unmarshal(b, &f)
	*m = Millis(f * float64(time.Millisecond))
	return err
}

// String is the duration, rounded to be read.
func (m Millis) String() string {
	d := time.Duration(m)
	switch {
	case d < 10*time.Millisecond:
		return d.Round(10 * time.Microsecond).String()
	case d < 10*time.Second:
		return d.Round(time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}

// QueueState is how a queue, and with it the group that it belongs to, stands.
// Ready, Delayed and InFlight are its Depth; a message that is Retried or has
// Crashed is in one of them, too.
type QueueState struct {
	Name     string     `json:"name"`
	Service  string     `json:"service"` // its receiver
	Leased   bool       `json:"leased"`
	Run      int        `json:"run"`
	PausedAt *time.Time `json:"paused_at,omitempty"`

	Depth    Count `json:"depth"`     // all but the dead; About when one of its parts isn't Exact
	Ready    Count `json:"ready"`     // may be claimed, or waits only for others of its lane
	Delayed  Count `json:"delayed"`   // waits for its time: sent so, or until it is tried again
	InFlight Count `json:"in_flight"` // in a consumer's hand
	Retried  Count `json:"retried"`   // waits for its second attempt, or a later one
	Crashed  Count `json:"crashed"`   // had a consumer die with it in hand
	Dead     Count `json:"dead"`

	// Oldest is the age of the oldest message in Depth, 0 without any. Of more than
	// 10,000 it is that of the one which has waited longest to be claimed.
	Oldest Millis `json:"oldest_ms"`
	// In and Out are messages per second, sent here and handled, in the last minute;
	// where that was much, in as many of its last seconds as were looked at.
	In  float64 `json:"in_per_second"`
	Out float64 `json:"out_per_second"`
}

// OutboxState is how a service's outbox stands.
type OutboxState struct {
	Service string `json:"service"`
	Depth   Count  `json:"depth"`     // what the relay hasn't carried, without the dead
	Oldest  Millis `json:"oldest_ms"` // age of the first that it will carry, 0 without any
	Dead    Count  `json:"dead"`
}

// Overview is all queues and outboxes, each by its name, each at a moment of its own.
type Overview struct {
	At       time.Time     `json:"at"`
	Queues   []QueueState  `json:"queues"`
	Outboxes []OutboxState `json:"outboxes"`
}

// Queues tells how every queue and every outbox stands. It takes no locks that
// anybody would wait for, reads each table by a short statement of its own, and
// never counts further than 10,000: so it costs the same whatever has piled up.
func (o *Operator) Queues(ctx context.Context) (Overview, error) {
	v := Overview{Queues: []QueueState{}, Outboxes: []OutboxState{}}
	if err := o.db.GetContext(ctx, &v.At, `SELECT clock_timestamp()`); err != nil {
		return v, fmt.Errorf("look at the queues: %w", err)
	}
	rates, err := o.rates(ctx)
	if err != nil {
		return v, err
	}
	rows := []struct {
		Name     string     `db:"name"`
		Service  string     `db:"service"`
		Leased   bool       `db:"leased"`
		Run      int        `db:"run"`
		PausedAt *time.Time `db:"paused_at"`
	}{}
	err = o.db.SelectContext(ctx, &rows, `SELECT name, service, leased, run, paused_at FROM messaging.queues ORDER BY name`)
	if err != nil {
		return v, fmt.Errorf("list the queues: %w", err)
	}
	for _, r := range rows {
		q := QueueState{Name: r.Name, Service: r.Service, Leased: r.Leased, Run: r.Run, PausedAt: r.PausedAt}
		if err := o.lookAtQueue(ctx, &q, rates[q.Name]); err != nil {
			return v, err
		}
		v.Queues = append(v.Queues, q)
	}
	outboxes, err := tables(ctx, o.db, "outbox_")
	if err != nil {
		return v, err
	}
	for _, s := range outboxes {
		b := OutboxState{Service: s}
		if err := o.lookAtOutbox(ctx, &b); err != nil {
			return v, err
		}
		v.Outboxes = append(v.Outboxes, b)
	}
	return v, nil
}

// afresh has a statement planned when it runs, for its table as it is then: what
// was planned for an empty one could read a million rows.
const afresh = pgx.QueryExecModeExec

// lookAtQueue fills in what stands in the table of q, and the rates.
func (o *Operator) lookAtQueue(ctx context.Context, q *QueueState, r rate) error {
	var row struct {
		Ready     int64   `db:"ready"`
		Held      int64   `db:"held"`
		Ahead     int64   `db:"ahead"`
		Again     int64   `db:"again"`
		Crashed   int64   `db:"crashed"`
		Troubled  int64   `db:"troubled"`
		Dead      int64   `db:"dead"`
		Came      int64   `db:"came"`
		CameIn    float64 `db:"came_in"`
		Oldest    float64 `db:"oldest"`
		Estimated int64   `db:"estimated"`
	}
	// Every part is an index's own range, in its order; the classes one by one, as
	// they are its first column.
	err := o.db.GetContext(ctx, &row, strings.ReplaceAll(`
		WITH ready AS MATERIALIZED (
			SELECT r.occurred_at
			FROM (VALUES (0), (1), (2)) k (class)
			CROSS JOIN LATERAL (SELECT occurred_at FROM $queue WHERE class = k.class AND dead_reason IS NULL AND due <= statement_timestamp() ORDER BY class, due LIMIT $1) r
			LIMIT $1
		), ahead AS MATERIALIZED (
			SELECT a.occurred_at, a.held
			FROM (VALUES (0), (1), (2)) k (class)
			CROSS JOIN LATERAL (SELECT occurred_at, token IS NOT NULL AS held FROM $queue WHERE class = k.class AND dead_reason IS NULL AND due > statement_timestamp() ORDER BY class, due LIMIT $1) a
			LIMIT $1
		), troubled AS MATERIALIZED (
			SELECT attempts > 0 AND token IS NULL AS again, crashes > 0 AS crashed
			FROM $queue
			WHERE dead_reason IS NULL AND (crashes > 0 OR attempts > 0 AND token IS NULL)
			ORDER BY attempts
			LIMIT $1
		), dead AS MATERIALIZED (
			SELECT FROM $queue WHERE dead_reason IS NOT NULL LIMIT $1
		), newest AS MATERIALIZED (
			SELECT occurred_at FROM $queue ORDER BY id DESC LIMIT $1
		)
		SELECT (SELECT count(*) FROM ready) AS ready,
		       (SELECT count(*) FROM ahead WHERE held) AS held,
		       (SELECT count(*) FROM ahead) AS ahead,
		       (SELECT count(*) FROM troubled WHERE again) AS again,
		       (SELECT count(*) FROM troubled WHERE crashed) AS crashed,
		       (SELECT count(*) FROM troubled) AS troubled,
		       (SELECT count(*) FROM dead) AS dead,
		       (SELECT count(*) FROM newest WHERE occurred_at > statement_timestamp() - make_interval(secs => $2)) AS came,
		       coalesce(extract(epoch FROM statement_timestamp() - (SELECT min(occurred_at) FROM newest)), 0)::float8 AS came_in,
		       coalesce(extract(epoch FROM statement_timestamp() - least((SELECT min(occurred_at) FROM ready), (SELECT min(occurred_at) FROM ahead))), 0)::float8 AS oldest,
		       (SELECT greatest(CASE WHEN pg_stat_get_live_tuples(oid) > 0 THEN pg_stat_get_live_tuples(oid) ELSE reltuples::bigint END, 0)
		        FROM pg_class WHERE oid = '$queue'::regclass) AS estimated`, "$queue", "messaging."+quote("queue_"+q.Name)),
		afresh, countBound+1, r.window())
	if err != nil {
		return fmt.Errorf("look at queue %s: %w", q.Name, err)
	}
	q.Ready, q.Dead, q.Oldest = upTo(row.Ready), upTo(row.Dead), seconds(row.Oldest)
	q.InFlight, q.Delayed = part(row.Held, row.Ahead), part(row.Ahead-row.Held, row.Ahead)
	q.Retried, q.Crashed = part(row.Again, row.Troubled), part(row.Crashed, row.Troubled)
	q.Depth = Count{q.Ready.N + q.Delayed.N + q.InFlight.N, Exact}
	if q.Ready.How != Exact || q.Delayed.How != Exact {
		q.Depth = Count{max(q.Depth.N, row.Estimated-q.Dead.N), About}
	}
	q.Out, q.In = r.handled, r.sent+float64(row.Came)/r.window()
	if row.Came > countBound { // they came in less than the window
		q.In = r.sent + float64(row.Came)/max(row.CameIn, 0.001)
	}
	return nil
}

// seconds is a database's seconds as a duration. A row may be younger than the
// statement that finds it.
func seconds(s float64) Millis { return max(0, Millis(s*float64(time.Second))) }

// part is n of all that were looked at, of which more may be there.
func part(n, all int64) Count {
	if all > countBound {
		return Count{n, AtLeast}
	}
	return Count{n, Exact}
}

// lookAtOutbox fills in what stands in the outbox of b.
func (o *Operator) lookAtOutbox(ctx context.Context, b *OutboxState) error {
	var row struct {
		Depth     int64   `db:"depth"`
		Dead      int64   `db:"dead"`
		Oldest    float64 `db:"oldest"`
		Estimated int64   `db:"estimated"`
	}
	err := o.db.GetContext(ctx, &row, strings.ReplaceAll(`
		WITH living AS MATERIALIZED (
			SELECT occurred_at FROM $outbox WHERE dead_reason IS NULL ORDER BY id LIMIT $1
		), dead AS MATERIALIZED (
			SELECT FROM $outbox WHERE dead_reason IS NOT NULL LIMIT $1
		)
		SELECT (SELECT count(*) FROM living) AS depth,
		       (SELECT count(*) FROM dead) AS dead,
		       coalesce(extract(epoch FROM statement_timestamp() - (SELECT min(occurred_at) FROM living)), 0)::float8 AS oldest,
		       (SELECT greatest(CASE WHEN pg_stat_get_live_tuples(oid) > 0 THEN pg_stat_get_live_tuples(oid) ELSE reltuples::bigint END, 0)
		        FROM pg_class WHERE oid = '$outbox'::regclass) AS estimated`, "$outbox", "messaging."+quote("outbox_"+b.Service)),
		afresh, countBound+1)
	if err != nil {
		return fmt.Errorf("look at the outbox of %s: %w", b.Service, err)
	}
	b.Depth, b.Dead, b.Oldest = upTo(row.Depth), upTo(row.Dead), seconds(row.Oldest)
	if b.Depth.How != Exact {
		b.Depth = Count{max(b.Depth.N, row.Estimated-b.Dead.N), About}
	}
	return nil
}

// rate is what the traces of a queue's consumers say of the last minute.
type rate struct {
	handled, sent float64 // per second; sent only of what was handled, too
	seconds       float64 // the shortest time that it was counted over; 0 = nothing was handled
}

// window is the time over which rates are counted, in seconds.
func (r rate) window() float64 {
	if r.seconds == 0 {
		return time.Minute.Seconds()
	}
	return r.seconds
}

// rates counts, by queue, what was handled in the last minute. It reads the ends
// of the inboxes' partitions of today and yesterday (a message lies in that of
// the day on which it was sent) and of the rest: so it needs no index that every
// message would pay for.
func (o *Operator) rates(ctx context.Context) (map[string]rate, error) {
	var partitions []string
	err := o.db.SelectContext(ctx, &partitions, `
		SELECT c.relname
		FROM pg_inherits i
		JOIN pg_class c ON c.oid = i.inhrelid
		JOIN pg_class p ON p.oid = i.inhparent
		WHERE p.relnamespace = 'messaging'::regnamespace AND p.relname LIKE 'inbox\_%' AND p.relkind = 'p' AND pg_relation_size(c.oid) > 0
		  AND (c.relname = p.relname || '_rest' OR right(c.relname, 8) >= to_char(clock_timestamp() AT TIME ZONE 'UTC' - interval '1 day', 'YYYYMMDD'))
		ORDER BY c.relname`)
	if err != nil {
		return nil, fmt.Errorf("list the inboxes' days: %w", err)
	}
	rates := map[string]rate{}
	for _, p := range partitions {
		var rows []struct {
			Queue   string  `db:"consumer"`
			Handled int64   `db:"handled"`
			Sent    int64   `db:"sent"`
			Seconds float64 `db:"seconds"`
		}
		err := o.db.SelectContext(ctx, &rows, strings.ReplaceAll(`
			WITH size AS MATERIALIZED (
				SELECT pg_relation_size('$inbox') / current_setting('block_size')::bigint AS pages
			), tail AS MATERIALIZED (
				SELECT consumer, sent_at, handled_at
				FROM $inbox
				WHERE ctid >= (SELECT format('(%s,0)', greatest(0, pages - $1))::tid FROM size)
			), span AS MATERIALIZED (
				SELECT greatest(statement_timestamp() - interval '1 minute', CASE WHEN (SELECT pages > $1 FROM size) THEN min(handled_at) END) AS since
				FROM tail
			)
			SELECT consumer,
			       count(*) FILTER (WHERE handled_at > since) AS handled,
			       count(*) FILTER (WHERE sent_at > since) AS sent,
			       greatest(extract(epoch FROM statement_timestamp() - since), 0.001)::float8 AS seconds
			FROM tail, span
			GROUP BY consumer, since`, "$inbox", "messaging."+quote(p)),
			afresh, tailPages)
		if err != nil {
			return nil, fmt.Errorf("look at inbox %s: %w", p, err)
		}
		for _, row := range rows {
			r := rates[row.Queue]
			r.handled += float64(row.Handled) / row.Seconds
			r.sent += float64(row.Sent) / row.Seconds
			if r.seconds == 0 || row.Seconds < r.seconds {
				r.seconds = row.Seconds
			}
			rates[row.Queue] = r
		}
	}
	return rates, nil
}
