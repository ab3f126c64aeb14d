package messaging

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jmoiron/sqlx"
)

// feed brings r to its end from where it stands.
func (o *Operator) feed(ctx context.Context, r *Replay, opts ReplayOptions) error {
	if err := o.persist(ctx, func(int) error { return o.fence(ctx, *r) }); err != nil {
		return fmt.Errorf("take the old run out of it: %w", err)
	}
	p := newPace(opts, *r)
	last := false
	for r.FinishedAt == nil {
		had := r.Copied
		more := false
		err := o.persist(ctx, func(try int) (err error) {
			more, err = o.copyPage(ctx, r, max(1, p.entries()>>(2*try)), last, p.told())
			return err
		})
		if err != nil {
			return fmt.Errorf("copy the log, %d events so far (another call continues): %w", r.Copied, err)
		}
		if r.Copied > had {
			if err := wakeConsumers(ctx, o.db, r.Queue); err != nil {
				return err
			}
		}
		if err := o.measure(ctx, r); err != nil {
			return err
		}
		if opts.Progress != nil {
			opts.Progress(*r)
		}
		p.look(*r)
		last = !more || p.hold
		if r.FinishedAt == nil {
			if err := p.wait(ctx, *r); err != nil {
				return err
			}
		}
	}
	return nil
}

func waitUntil(ctx context.Context, due time.Time) error {
	timer := time.NewTimer(time.Until(due))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// persist repeats f, which says how often it was tried before, while the database
// refuses it for a reason that passes: up to five times.
func (o *Operator) persist(ctx context.Context, f func(try int) error) error {
	for try := 0; ; try++ {
		err := f(try)
		if err == nil || try == 4 || ctx.Err() != nil || !connectionLost(err) && !slices.Contains([]string{"40001", "40P01", "55P03", "57014"}, sqlState(err)) {
			return err
		}
		if err := waitUntil(ctx, time.Now().Add(pause())); err != nil {
			return err
		}
	}
}

// fence deletes from the queue what r will bring again: from then on nothing of
// an older run can be claimed or, since an ack is a DELETE, committed. Rows that
// somebody is just acknowledging or claiming are passed over and looked at again.
func (o *Operator) fence(ctx context.Context, r Replay) error {
	var done bool
	if err := o.db.GetContext(ctx, &done, `SELECT fenced_at IS NOT NULL FROM messaging.replays WHERE queue = $1 AND run = $2`, r.Queue, r.Run); err != nil || done {
		return err
	}
	table := "messaging." + quote("queue_"+r.Queue)
	var at int64
	for {
		var first *int64
		if err := o.db.GetContext(ctx, &first, `SELECT min(id) FROM `+table+` WHERE id >= $1`, at); err != nil {
			return err
		}
		if first == nil {
			break
		}
		var found, deleted int
		err := o.db.QueryRowxContext(ctx, `
			WITH old AS MATERIALIZED (
				SELECT q.id
				FROM `+table+` q
				JOIN messaging.events e ON e.kind = q.kind
				JOIN messaging.replay_positions p ON p.queue = $1 AND p.run = $2 AND p.speaker = e.speaker
				WHERE q.id >= $3 AND q.id < $3 + $4 AND q.run < $2 AND q.kind = ANY ($5) AND q.occurred_at >= p.since
			), idle AS MATERIALIZED (
				SELECT id FROM `+table+` WHERE id = ANY (ARRAY(SELECT id FROM old)) FOR UPDATE SKIP LOCKED
			), gone AS (
				DELETE FROM `+table+` WHERE id = ANY (ARRAY(SELECT id FROM idle)) RETURNING 1
			)
			SELECT (SELECT count(*) FROM old), (SELECT count(*) FROM gone)`,
			r.Queue, r.Run, *first, replayPage, r.Kinds).Scan(&found, &deleted)
		if err != nil {
			return err
		}
		at = *first
		if found == deleted {
			at += replayPage
		} else if err := waitUntil(ctx, time.Now().Add(10*time.Millisecond)); err != nil {
			return err
		}
	}
	_, err := o.db.ExecContext(ctx, `UPDATE messaging.replays SET fenced_at = clock_timestamp() WHERE queue = $1 AND run = $2 AND fenced_at IS NULL`, r.Queue, r.Run)
	return err
}

// piece is a page of one log.
type piece struct {
	speaker  string
	position int64 // before the page
	entries  []logged
	more     bool // the log goes on after the page
}

// logged is an entry of a log.
type logged struct {
	ID int64     `db:"id"`
	At time.Time `db:"logged_at"`
}

// copyPage copies the next entries of every log, up to size of each, with the new
// positions, and reports whether there are more. When last is set it keeps the
// relays waiting meanwhile and, should there be no more, has the queue go live and
// records that with detail.
func (o *Operator) copyPage(ctx context.Context, r *Replay, size int, last bool, detail map[string]any) (more bool, err error) {
	now := *r
	err = o.inTx(ctx, func(tx *sqlx.Tx) error {
		if _, err := lockQueue(ctx, tx, r.Queue); err != nil {
			return err
		}
		err := tx.QueryRowxContext(ctx, `
			SELECT copied, finished_at FROM messaging.replays WHERE queue = $1 AND run = $2`, r.Queue, r.Run).Scan(&now.Copied, &now.FinishedAt)
		if err != nil || now.FinishedAt != nil { // by somebody who continued it, too
			return err
		}
		pieces, err := readPieces(ctx, tx, *r, size, last)
		if err != nil {
			return err
		}
		ends := horizon(pieces)
		for i, p := range pieces {
			more = more || p.more || ends[i] < lastOf(p)
		}
		n, err := copyPieces(ctx, tx, *r, pieces, ends)
		if err != nil {
			return err
		}
		now.Copied += n
		if last && !more {
			return o.finishReplay(ctx, tx, &now, detail)
		}
		_, err = tx.ExecContext(ctx, `UPDATE messaging.replays SET copied = $3 WHERE queue = $1 AND run = $2`, r.Queue, r.Run, now.Copied)
		return err
	})
	if err != nil {
		return false, err
	}
	*r = now
	return more, nil
}

// readPieces reads the next page of every log, the relays kept waiting first when
// lock is set. A page is a range of ids, which no plan can turn into more.
func readPieces(ctx context.Context, tx *sqlx.Tx, r Replay, size int, lock bool) ([]piece, error) {
	var at []struct {
		Speaker  string
		Position int64
	}
	err := tx.SelectContext(ctx, &at, `
		SELECT speaker, position FROM messaging.replay_positions WHERE queue = $1 AND run = $2 ORDER BY speaker`, r.Queue, r.Run)
	if err != nil {
		return nil, err
	}
	if lock {
		speakers := make([]string, len(at))
		for i, a := range at {
			speakers[i] = a.Speaker
		}
		if err := lockRelays(ctx, tx, speakers); err != nil {
			return nil, err
		}
	}
	pieces := make([]piece, len(at))
	for i, a := range at {
		p := piece{speaker: a.Speaker, position: a.Position}
		log := "messaging." + quote("log_"+a.Speaker)
		err := tx.SelectContext(ctx, &p.entries, `
			SELECT id, logged_at
			FROM `+log+`
			WHERE id >= (SELECT min(id) FROM `+log+` WHERE id > $1) AND id < (SELECT min(id) FROM `+log+` WHERE id > $1) + $2
			ORDER BY id`, a.Position, size)
		if err != nil {
			return nil, fmt.Errorf("read the log of %s: %w", a.Speaker, err)
		}
		err = tx.GetContext(ctx, &p.more, `SELECT coalesce((SELECT max(id) FROM `+log+`) > $1, false)`, lastOf(p))
		if err != nil {
			return nil, fmt.Errorf("read the log of %s: %w", a.Speaker, err)
		}
		pieces[i] = p
	}
	return pieces, nil
}

// lastOf is the last id of p.
func lastOf(p piece) int64 {
	if n := len(p.entries); n > 0 {
		return p.entries[n-1].ID
	}
	return p.position
}

// horizon returns up to which id each piece may be copied: no entry of one log is
// to be copied before an earlier one of another that isn't read yet.
func horizon(pieces []piece) []int64 {
	var limit *time.Time
	for _, p := range pieces {
		if !p.more || len(p.entries) == 0 {
			continue
		}
		end := p.entries[0].At // the latest of the page, should its clock have gone back
		for _, e := range p.entries {
			if e.At.After(end) {
				end = e.At
			}
		}
		if limit == nil || end.Before(*limit) {
			limit = &end
		}
	}
	ends := make([]int64, len(pieces))
	for i, p := range pieces {
		ends[i] = p.position
		for _, e := range p.entries {
			if limit != nil && e.At.After(*limit) {
				break
			}
			ends[i] = e.ID
		}
	}
	return ends
}

// copyPieces puts the events of pieces, up to ends, into the queue of r, notes the
// new positions and returns how many events it were.
func copyPieces(ctx context.Context, tx *sqlx.Tx, r Replay, pieces []piece, ends []int64) (int64, error) {
	args := []any{r.Queue, r.Run, r.Kinds}
	var logs []string
	for i, p := range pieces {
		n := len(args)
		logs = append(logs, fmt.Sprintf(`
			SELECT '%[1]s'::text AS speaker, max(logged_at) OVER (ORDER BY id) AS at, id, not_before, %[2]s
			FROM messaging.%[3]s
			WHERE id > $%[4]d AND id <= $%[5]d`, p.speaker, envelopeColumns, quote("log_"+p.speaker), n+1, n+2))
		args = append(args, p.position, ends[i])
	}
	res, err := tx.ExecContext(ctx, `
		INSERT INTO messaging.`+quote("queue_"+r.Queue)+` (`+envelopeColumns+`, producer, run, due)
		SELECT `+prefixed("l.", envelopeColumns)+`, l.speaker, $2, greatest(l.not_before, clock_timestamp())
		FROM (`+strings.Join(logs, ` UNION ALL `)+`) l
		JOIN messaging.replay_positions p ON p.queue = $1 AND p.run = $2 AND p.speaker = l.speaker
		WHERE l.kind = ANY ($3) AND l.occurred_at >= p.since
		ORDER BY l.at, l.speaker, l.id`, args...)
	if err != nil {
		return 0, fmt.Errorf("copy from the log: %w", err)
	}
	for i, p := range pieces {
		_, err := tx.ExecContext(ctx, `
			UPDATE messaging.replay_positions SET position = $4
			WHERE queue = $1 AND run = $2 AND speaker = $3 AND position < $4`, r.Queue, r.Run, p.speaker, ends[i])
		if err != nil {
			return 0, fmt.Errorf("note the position in the log of %s: %w", p.speaker, err)
		}
	}
	return res.RowsAffected()
}

// finishReplay has the queue of r get its events live, and adds to the record's
// detail what it was.
func (o *Operator) finishReplay(ctx context.Context, tx *sqlx.Tx, r *Replay, detail map[string]any) error {
	if _, err := tx.ExecContext(ctx, `UPDATE messaging.routes SET live = true WHERE queue = $1 AND kind = ANY ($2)`, r.Queue, r.Kinds); err != nil {
		return err
	}
	err := tx.GetContext(ctx, &r.FinishedAt, `
		UPDATE messaging.replays SET copied = $3, finished_at = clock_timestamp()
		WHERE queue = $1 AND run = $2
		RETURNING finished_at`, r.Queue, r.Run, r.Copied)
	if err != nil {
		return err
	}
	detail["run"], detail["copied"] = r.Run, r.Copied
	return o.recordOf(ctx, tx, Action{Action: "replay finished", Queue: r.Queue}, detail)
}

// measure sets how far r is.
func (o *Operator) measure(ctx context.Context, r *Replay) error {
	var speakers []string
	err := o.db.SelectContext(ctx, &speakers, `SELECT speaker FROM messaging.replay_positions WHERE queue = $1 AND run = $2`, r.Queue, r.Run)
	if err != nil {
		return err
	}
	r.Read, r.Total = 0, 0
	for _, s := range speakers {
		var read, total int64
		err := o.db.QueryRowxContext(ctx, `
			SELECT position - first, greatest((SELECT max(id) FROM messaging.`+quote("log_"+s)+`), position) - first
			FROM messaging.replay_positions WHERE queue = $1 AND run = $2 AND speaker = $3`, r.Queue, r.Run, s).Scan(&read, &total)
		if err != nil {
			return err
		}
		r.Read, r.Total = r.Read+read, r.Total+total
	}
	return nil
}
