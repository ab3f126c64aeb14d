package messaging

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// traced is a message with what the inbox keeps of its handling.
type traced struct {
	claimed
	ran     time.Duration
	ignored string // why it changed nothing, "" when it did
}

// preload has the Preload of queue, if there is one, lock and read what the
// messages of list will touch that were not handled before.
func (b *Bus) preload(ctx context.Context, tx *Tx, queue string, list []claimed) error {
	f := b.preloads[queue]
	var fresh []Message
	for _, m := range list {
		if !m.handled {
			fresh = append(fresh, m.Message)
		}
	}
	if f == nil || len(fresh) == 0 {
		return nil
	}
	started := time.Now()
	err := runPreload(ctx, tx, f, fresh)
	if err == nil {
		err = tx.healthy()
	}
	// The server ends what idles for so long, and then it looks like a lost connection.
	if err != nil && time.Since(started) > b.cfg.limits.alone {
		err = errors.Join(errHandlerTimeout, err)
	}
	if err != nil {
		return fmt.Errorf("preload for queue %s: %w", queue, err)
	}
	return nil
}

func runPreload(ctx context.Context, tx *Tx, f preload, list []Message) (err error) {
	defer catch(&err)
	return f(ctx, tx, list)
}

// errHandled is why a batch is rolled back in which a message was handled again:
// the inbox has it already.
var errHandled = errors.New("handled before")

// handled returns those of ids that the inbox of the service has for queue.
func (b *Bus) handled(ctx context.Context, queue string, ids []string) (map[string]bool, error) {
	var found []string
	err := b.db.SelectContext(ctx, &found, `
		SELECT message_id::text FROM messaging.`+quote("inbox_"+b.spec.Name)+`
		WHERE message_id = ANY($1::uuid[]) AND consumer = $2 AND run = 0`, ids, queue)
	if err != nil {
		return nil, fmt.Errorf("ask the inbox of %s for %d messages: %w", b.spec.Name, len(ids), err)
	}
	set := make(map[string]bool, len(found))
	for _, id := range found {
		set[id] = true
	}
	return set, nil
}

// writeTrace queues the notes that the messages are handled. When one of them is
// there already the unique key has the commit fail with errHandled.
func (b *Bus) writeTrace(tx *Tx, queue string, list []traced) {
	if len(list) == 0 {
		return
	}
	n := len(list)
	var (
		ids, kinds, correlations, producers, outcomes = make([]string, n), make([]string, n), make([]string, n), make([]string, n), make([]string, n)
		lanes, orders, causations, notes              = make([]*string, n), make([]*string, n), make([]*string, n), make([]*string, n)
		payloads                                      = make([][]byte, n)
		sent, started                                 = make([]time.Time, n), make([]time.Time, n)
		ran                                           = make([]time.Duration, n)
		attempts                                      = make([]int32, n)
	)
	for i, t := range list {
		ids[i], kinds[i], correlations[i], producers[i], payloads[i] = t.ID, t.Kind, t.CorrelationID, t.Producer, t.Payload
		lanes[i], orders[i], causations[i] = nullable(t.Lane), nullable(t.OrderID), nullable(t.CausationID)
		sent[i], started[i], attempts[i] = t.OccurredAt, t.at, int32(t.Attempt)
		ran[i] = t.ran
		outcomes[i] = "done"
		if t.ignored != "" {
			outcomes[i], notes[i] = "ignored", nullable(shorten(t.ignored))
		}
	}
	written := func(row pgx.Row) error {
		err := row.Scan()
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			return nil
		case sqlState(err) == "23505":
			return fmt.Errorf("inbox of %s: %w: %w", b.spec.Name, errHandled, err)
		}
		return err
	}
	tx.last(written, `
		INSERT INTO messaging.`+quote("inbox_"+b.spec.Name)+`
		       (consumer, message_id, kind, lane, order_id, correlation_id, causation_id, producer, payload, sent_at, started_at, ran, attempts, outcome, note)
		SELECT $1, m.* FROM unnest($2::uuid[], $3::text[], $4::text[], $5::uuid[], $6::text[], $7::uuid[], $8::text[], $9::bytea[],
		       $10::timestamptz[], $11::timestamptz[], $12::interval[], $13::int[], $14::text[], $15::text[]) m`,
		queue, ids, kinds, lanes, orders, correlations, causations, producers, payloads, sent, started, ran, attempts, outcomes, notes)
}

// nullable is nil for "".
func nullable(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
