package messaging

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jmoiron/sqlx"
)

// Replay is a queue's events being copied to it once more from the logs of their
// speakers, as its own number of run.
type Replay struct {
	Queue string   `json:"queue"`
	Run   int      `json:"run"`   // counted from 1
	Actor string   `json:"actor"` // who began it
	Kinds []string `json:"kinds"`

	Since      *time.Time `json:"since,omitempty"` // nil = all that the logs hold
	StartedAt  time.Time  `json:"started_at"`
	FinishedAt *time.Time `json:"finished_at,omitempty"` // nil = it goes on, or waits to be continued

	Read   int64 `json:"read"`   // log entries behind it, of all kinds; numbers never used count along
	Total  int64 `json:"total"`  // that there are by now: it grows while events are sent
	Copied int64 `json:"copied"` // events put into the queue
}

// ReplayOptions say what Operator.Replay copies, and how fast.
type ReplayOptions struct {
	Since    time.Time    // events sent before it stay as they are; zero = all that the logs hold
	Kinds    []string     // none = all events that the queue subscribes to
	Rate     int          // events per second, at most, while an end is in sight that way; 0 = no limit
	Reason   string       // the operator's, for the record
	Progress func(Replay) // called after every page; nil = nobody asks

	page int // entries of each log that a transaction looks at; 0 = replayPage
}

var (
	// ErrNotReplayable is returned by Replay for a queue whose service didn't
	// declare it Replayable.
	ErrNotReplayable = errors.New("its service doesn't declare it replayable")
	// ErrReplaying is returned by Replay when the queue has an unfinished replay
	// and something else is asked for than to continue it.
	ErrReplaying = errors.New("another replay of it isn't finished: continue that one first, without a time and kinds")
)

// Replay has a queue's events handled again, in a new run, and returns when the
// last of them is in the queue and the queue gets its events live again. Until
// then new events reach it through the log. Commands in the same queue, and other
// queues, aren't touched.
//
// What the old run hasn't handled of these events, its dead letters too, is taken
// out of the queue first: whoever has one in hand loses it and can't commit. Then
// the logs are copied, page by page, and the last page under the locks of the
// speakers' relays: so every event is in the queue once, from the log or live.
// The events of one speaker come in the order of its log; those of different
// speakers in the order in which they were logged, which has a cause before what
// it caused unless the server's clock was set back.
//
// Of a queue whose replay was interrupted, by a crash or the end of ctx, the next
// call continues that replay where it stood; then opts.Since and opts.Kinds must
// be empty (ErrReplaying). Two at once share the work.
//
// It ends however fast events are sent. One that doesn't catch up with them by its
// Rate goes faster than that, step by step; one that can't catch up at all has the
// speakers' relays wait while it copies a page, each of which lets a batch of
// theirs pass: until it has ended their messages go slower, to everybody. The
// record of its end tells of either.
//
// It returns ErrNoQueue, and ErrNotReplayable unless the queue is new and
// was never fed. It needs no consumer to run.
func (o *Operator) Replay(ctx context.Context, queue string, opts ReplayOptions) (Replay, error) {
	r, err := o.beginReplay(ctx, queue, opts)
	if err == nil {
		err = o.feed(ctx, &r, opts)
	}
	if err != nil {
		return r, fmt.Errorf("replay queue %s: %w", queue, err)
	}
	return r, nil
}

// Replays lists the last limit replays, the newest first; the unfinished ones
// among them can be continued. Read and Total are those of an unfinished one only.
func (o *Operator) Replays(ctx context.Context, limit int) ([]Replay, error) {
	list, err := o.selectReplays(ctx, o.db, `ORDER BY started_at DESC LIMIT $1`, limit)
	if err != nil {
		return nil, fmt.Errorf("list the replays: %w", err)
	}
	for i := range list {
		if list[i].FinishedAt != nil {
			continue
		}
		if err := o.measure(ctx, &list[i]); err != nil {
			return nil, fmt.Errorf("list the replays: %w", err)
		}
	}
	return list, nil
}

func (o *Operator) selectReplays(ctx context.Context, q sqlx.QueryerContext, which string, args ...any) (list []Replay, err error) {
	rows, err := q.QueryxContext(ctx, `
		SELECT queue, run, actor, kinds, since, copied, started_at, finished_at
		FROM messaging.replays `+which, args...)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	types := pgtype.NewMap()
	list = []Replay{}
	for rows.Next() {
		var r Replay
		if err := rows.Scan(&r.Queue, &r.Run, &r.Actor, types.SQLScanner(&r.Kinds), &r.Since, &r.Copied, &r.StartedAt, &r.FinishedAt); err != nil {
			return nil, err
		}
		list = append(list, r)
	}
	return list, rows.Err()
}

// beginReplay returns the unfinished replay of queue, or a new one: from its
// commit on no event of its kinds reaches the queue but through the log.
func (o *Operator) beginReplay(ctx context.Context, queue string, opts ReplayOptions) (r Replay, err error) {
	err = o.inTx(ctx, func(tx *sqlx.Tx) error {
		replayable, err := lockQueue(ctx, tx, queue)
		if err != nil {
			return err
		}
		unfinished, err := o.selectReplays(ctx, tx, `WHERE queue = $1 AND finished_at IS NULL`, queue)
		if err != nil {
			return err
		}
		if len(unfinished) > 0 {
			r = unfinished[0]
			if !opts.Since.IsZero() || len(opts.Kinds) > 0 {
				return fmt.Errorf("run %d, begun by %s at %s: %w", r.Run, r.Actor, r.StartedAt.UTC().Format(time.RFC3339), ErrReplaying)
			}
			return nil
		}
		kinds, speakers, fed, err := events(ctx, tx, queue, opts.Kinds)
		if err != nil {
			return err
		}
		if fed && !replayable { // one that was never fed isn't replayed but fed
			return ErrNotReplayable
		}
		r = Replay{Queue: queue, Actor: o.actor, Kinds: kinds}
		if !opts.Since.IsZero() {
			r.Since = &opts.Since
		}
		if err := insertReplay(ctx, tx, &r); err != nil {
			return err
		}
		for _, s := range speakers {
			if err := insertPosition(ctx, tx, r, s); err != nil {
				return err
			}
		}
		// A relay before us has left its events in the queue, one after us finds
		// that the routes aren't live.
		if err := lockRelays(ctx, tx, speakers); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `UPDATE messaging.routes SET live = false WHERE queue = $1 AND kind = ANY ($2)`, queue, kinds); err != nil {
			return err
		}
		detail, err := json.Marshal(map[string]any{"run": r.Run, "kinds": r.Kinds, "since": r.Since})
		if err != nil {
			return err
		}
		return o.record(ctx, tx, Action{Action: "replay", Queue: queue, Reason: opts.Reason, Detail: detail})
	})
	return r, err
}

// lockQueue keeps others who replay queue waiting, for the transaction.
func lockQueue(ctx context.Context, tx *sqlx.Tx, queue string) (replayable bool, err error) {
	err = tx.GetContext(ctx, &replayable, `SELECT replayable FROM messaging.queues WHERE name = $1 FOR NO KEY UPDATE`, queue)
	if errors.Is(err, sql.ErrNoRows) {
		err = ErrNoQueue
	}
	return replayable, err
}

// events returns the events that queue subscribes to, of those in only unless
// that is empty, with their speakers, sorted. Fed reports whether one of them was
// live: a new queue's aren't.
func events(ctx context.Context, tx *sqlx.Tx, queue string, only []string) (kinds, speakers []string, fed bool, err error) {
	var rows []struct {
		Kind, Speaker string
		Live          bool
	}
	err = tx.SelectContext(ctx, &rows, `
		SELECT r.kind, e.speaker, r.live
		FROM messaging.routes r JOIN messaging.events e ON e.kind = r.kind
		WHERE r.queue = $1
		ORDER BY r.kind`, queue)
	if err != nil {
		return nil, nil, false, err
	}
	for _, r := range rows {
		if len(only) > 0 && !slices.Contains(only, r.Kind) {
			continue
		}
		kinds, speakers, fed = append(kinds, r.Kind), append(speakers, r.Speaker), fed || r.Live
	}
	for _, k := range only {
		if !slices.Contains(kinds, k) {
			return nil, nil, false, fmt.Errorf("it doesn't subscribe to an event %s", k)
		}
	}
	if len(kinds) == 0 {
		return nil, nil, false, errors.New("it subscribes to no event: there is nothing to replay")
	}
	slices.Sort(speakers)
	return kinds, slices.Compact(speakers), fed, nil
}

// insertReplay stores r as the next run of its queue.
func insertReplay(ctx context.Context, tx *sqlx.Tx, r *Replay) error {
	return tx.QueryRowxContext(ctx, `
		WITH next AS (UPDATE messaging.queues SET run = run + 1 WHERE name = $1 RETURNING run)
		INSERT INTO messaging.replays (queue, run, actor, kinds, since)
		SELECT $1, run, $2, $3, $4 FROM next
		RETURNING run, started_at`, r.Queue, r.Actor, r.Kinds, r.Since).Scan(&r.Run, &r.StartedAt)
}

// insertPosition stores where r begins in the log of speaker: at the asked time,
// or where the log has no gaps yet. It is stored under the lock under which days
// are dropped.
func insertPosition(ctx context.Context, tx *sqlx.Tx, r Replay, speaker string) error {
	log := "log_" + speaker
	if _, err := tx.ExecContext(ctx, `SELECT pg_advisory_xact_lock(hashtext('messaging.ensure_days'), hashtext($1))`, log); err != nil {
		return err
	}
	var since *time.Time
	err := tx.GetContext(ctx, &since, `
		SELECT greatest($2::timestamptz, (SELECT gone_before FROM messaging.retention WHERE base = $1))`, log, r.Since)
	if err != nil {
		return err
	}
	first, err := positionBefore(ctx, tx, log, since)
	if err != nil {
		return fmt.Errorf("find the place in messaging.%s: %w", log, err)
	}
	_, err = tx.ExecContext(ctx, `
		INSERT INTO messaging.replay_positions (queue, run, speaker, since, first, position)
		VALUES ($1, $2, $3, coalesce($4::timestamptz, '-infinity'), $5, $5)`, r.Queue, r.Run, speaker, since, first)
	return err
}

// clockSlack is by how much a log may be out of its clock's order.
const clockSlack = time.Hour

// positionBefore returns a log id at or before which nothing was sent at since
// or later. Ids follow the clock: it halves the log until it is found.
func positionBefore(ctx context.Context, tx *sqlx.Tx, log string, since *time.Time) (int64, error) {
	var lo, hi int64 // what is sought is at or after lo, and before hi
	err := tx.QueryRowxContext(ctx, `
		SELECT coalesce((SELECT min(id) FROM messaging.`+quote(log)+`) - 1, last_value - (NOT is_called)::int),
		       coalesce((SELECT max(id) FROM messaging.`+quote(log)+`), last_value - (NOT is_called)::int)
		FROM messaging.`+quote(log+"_id")).Scan(&lo, &hi)
	if err != nil || since == nil {
		return lo, err
	}
	for lo < hi {
		mid := lo + (hi-lo+1)/2
		var early bool // the last entry up to mid is too old
		err := tx.GetContext(ctx, &early, `
			SELECT coalesce((SELECT logged_at FROM messaging.`+quote(log)+`
			                 WHERE id = (SELECT max(id) FROM messaging.`+quote(log)+` WHERE id <= $1)) < $2, true)`,
			mid, since.Add(-clockSlack))
		if err != nil {
			return 0, err
		}
		if early {
			lo = mid
		} else {
			hi = mid - 1
		}
	}
	return lo, nil
}

// lockRelays keeps the relays of services, which are sorted, waiting for the
// transaction. The statements after it see all that they have done.
func lockRelays(ctx context.Context, tx *sqlx.Tx, services []string) error {
	for _, s := range services {
		if _, err := tx.ExecContext(ctx, lockRelaySQL, s); err != nil {
			return fmt.Errorf("wait for the relay of %s: %w", s, err)
		}
	}
	return nil
}

// liveAtOnceSQL says whether queue $1 gets kind k from now on, $3 being whether
// it is replayable: unless it is new and events of that kind may be in a log
// already. Then it is fed from the log first.
const liveAtOnceSQL = `NOT ($3 AND NOT EXISTS (SELECT FROM messaging.routes WHERE queue = $1)
	AND EXISTS (SELECT FROM messaging.events e JOIN messaging.services s ON s.name = e.speaker WHERE e.kind = k))`

// migrator is the actor of what a migration does by itself.
const migrator = "migrate"

// feedNewQueues feeds the queues that aren't live yet from the logs. It leaves
// those alone that an operator replays.
func feedNewQueues(ctx context.Context, db *sqlx.DB, log *slog.Logger) error {
	var queues []string
	err := db.SelectContext(ctx, &queues, `
		SELECT DISTINCT t.queue
		FROM messaging.routes t
		WHERE NOT t.live
		  AND NOT EXISTS (SELECT FROM messaging.replays r WHERE r.queue = t.queue AND r.finished_at IS NULL AND r.actor <> $1)
		ORDER BY t.queue`, migrator)
	if err != nil {
		return fmt.Errorf("look for new queues: %w", err)
	}
	for _, q := range queues {
		r, err := NewOperator(db, migrator).Replay(ctx, q, ReplayOptions{Reason: "the queue is new"})
		if err != nil {
			return fmt.Errorf("feed a new queue: %w", err)
		}
		log.Info("new queue fed from the logs", "topic", q, "events", r.Copied)
	}
	return nil
}
