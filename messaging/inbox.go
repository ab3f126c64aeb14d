package messaging

import (
	"context"
	"fmt"
	"time"
)

// traced is a message with what the inbox keeps of its handling.
type traced struct {
	claimed
	ran     time.Duration
	ignored string // why it changed nothing, "" when it did
}

// begin opens a batch for the consumers of queue: it returns the ids of the
// messages that were handled before, and has the queue's Preload lock and read
// what the others will touch.
func (b *Bus) begin(ctx context.Context, tx *Tx, queue string, list []claimed) (handled map[string]bool, err error) {
	ids := make([]string, len(list))
	for i, m := range list {
		ids[i] = m.ID
	}
	var before []string
	err = tx.SelectContext(ctx, &before, b.seenSQL(), queue, ids)
	if err != nil {
		return nil, fmt.Errorf("read the inbox of %s: %w", b.spec.Name, err)
	}
	if len(before) > 0 {
		handled = map[string]bool{}
		for _, id := range before {
			handled[id] = true
		}
	}
	f := b.preloads[queue]
	if f == nil {
		return handled, nil
	}
	var fresh []Message
	for _, m := range list {
		if !handled[m.ID] {
			fresh = append(fresh, m.Message)
		}
	}
	if len(fresh) == 0 {
		return handled, nil
	}
	if err := f(ctx, tx, fresh); err != nil {
		return nil, fmt.Errorf("preload for queue %s: %w", queue, err)
	}
	return handled, nil
}

// handledBefore reports whether m is in the inbox.
func (b *Bus) handledBefore(ctx context.Context, queue string, m claimed) (bool, error) {
	var before []string
	if err := b.db.SelectContext(ctx, &before, b.seenSQL(), queue, []string{m.ID}); err != nil {
		return false, fmt.Errorf("read the inbox of %s: %w", b.spec.Name, err)
	}
	return len(before) > 0, nil
}

// seenSQL looks each id up by itself, so that each touches its day only.
func (b *Bus) seenSQL() string {
	return `
		SELECT m.id::text FROM unnest($2::uuid[]) m (id)
		CROSS JOIN LATERAL (SELECT FROM messaging.` + quote("inbox_"+b.spec.Name) + ` i
		                    WHERE i.message_id = m.id AND i.consumer = $1 AND i.run = 0) i`
}

// writeTrace notes the messages as handled. That one of them is there already
// means that it was handled twice at once: the unique key rolls that back.
func (b *Bus) writeTrace(ctx context.Context, tx *Tx, queue string, list []traced) error {
	if len(list) == 0 {
		return nil
	}
	n := len(list)
	var (
		ids, kinds, correlations, producers, outcomes, ran = make([]string, n), make([]string, n), make([]string, n), make([]string, n), make([]string, n), make([]string, n)
		lanes, orders, causations, notes                   = make([]*string, n), make([]*string, n), make([]*string, n), make([]*string, n)
		payloads                                           = make([][]byte, n)
		sent, started                                      = make([]time.Time, n), make([]time.Time, n)
		attempts                                           = make([]int32, n)
	)
	for i, t := range list {
		ids[i], kinds[i], correlations[i], producers[i], payloads[i] = t.ID, t.Kind, t.CorrelationID, t.Producer, t.Payload
		lanes[i], orders[i], causations[i] = nullable(t.Lane), nullable(t.OrderID), nullable(t.CausationID)
		sent[i], started[i], attempts[i] = t.OccurredAt, t.at, int32(t.Attempt)
		ran[i] = fmt.Sprintf("%d microseconds", t.ran.Microseconds())
		outcomes[i] = "done"
		if t.ignored != "" {
			outcomes[i], notes[i] = "ignored", nullable(t.ignored)
		}
	}
	_, err := tx.ExecContext(ctx, `
		INSERT INTO messaging.`+quote("inbox_"+b.spec.Name)+`
		       (consumer, message_id, kind, lane, order_id, correlation_id, causation_id, producer, payload, sent_at, started_at, ran, attempts, outcome, note)
		SELECT $1, m.* FROM unnest($2::uuid[], $3::text[], $4::text[], $5::uuid[], $6::text[], $7::uuid[], $8::text[], $9::bytea[],
		       $10::timestamptz[], $11::timestamptz[], $12::interval[], $13::int[], $14::text[], $15::text[]) m`,
		queue, ids, kinds, lanes, orders, correlations, causations, producers, payloads, sent, started, ran, attempts, outcomes, notes)
	if err != nil {
		return fmt.Errorf("write the inbox of %s: %w", b.spec.Name, err)
	}
	return nil
}

// nullable is nil for "".
func nullable(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
