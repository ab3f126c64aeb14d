package messaging

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"
	"unicode/utf8"

	"github.com/jmoiron/sqlx"
)

// DeadEdit is a change of a dead letter's content. Only what is said can be
// changed, and the version in which it is said; never what the message is: its
// id, kind, lane, order, causes and producer are what others know it by.
type DeadEdit struct {
	MessageID     string
	Queue         string // may be left out when one queue alone has it
	Payload       []byte // valid JSON in UTF-8, at most MaxPayload bytes
	SchemaVersion int    // of Payload; 0 = the one that the letter has
	Reason        string // the operator's own, for the record
}

// ErrBadPayload is returned by EditDead for a payload that no queue would take
// or no handler could read.
var ErrBadPayload = errors.New("not a payload")

func (e DeadEdit) check() error {
	switch {
	case len(e.Payload) > MaxPayload:
		return fmt.Errorf("%w: %d bytes, at most %d", ErrBadPayload, len(e.Payload), MaxPayload)
	case !utf8.Valid(e.Payload):
		return fmt.Errorf("%w: not UTF-8", ErrBadPayload)
	case !json.Valid(e.Payload):
		return fmt.Errorf("%w: not JSON", ErrBadPayload)
	case e.SchemaVersion < 0 || e.SchemaVersion > math.MaxInt32:
		return fmt.Errorf("%w: schema version %d", ErrBadPayload, e.SchemaVersion)
	}
	return nil
}

// EditDead replaces the payload of a dead letter, which stays dead until it is
// redriven. What is kept of the old payload is its hash and size. A message that
// isn't dead (any more) is never touched: that is ErrNoDeadLetter. It returns
// ErrBadPayload for a payload that can't be one, and ErrSeveralDead.
func (o *Operator) EditDead(ctx context.Context, e DeadEdit) error {
	if err := e.check(); err != nil {
		return fmt.Errorf("edit message %s: %w", e.MessageID, err)
	}
	t, rows, err := o.findDead(ctx, e.MessageID, e.Queue)
	if err != nil {
		return fmt.Errorf("edit message %s: %w", e.MessageID, err)
	}
	err = o.inTx(ctx, func(tx *sqlx.Tx) error {
		var edited []editDetail
		err := tx.SelectContext(ctx, &edited, `
			SELECT id, kind, coalesce(order_id::text, '') AS order_id, encode(sha256(payload), 'hex') AS old_sha256, octet_length(payload) AS old_bytes, schema_version AS old_version,
			       encode(sha256($2), 'hex') AS new_sha256, octet_length($2) AS new_bytes, coalesce(nullif($3::int, 0), schema_version) AS new_version
			FROM `+t.table+`
			WHERE id = ANY ($1) AND dead_reason IS NOT NULL
			ORDER BY id
			FOR UPDATE`, rows, e.Payload, e.SchemaVersion)
		if err != nil {
			return err
		}
		if len(edited) == 0 {
			return ErrNoDeadLetter // redriven or discarded since it was found
		}
		for _, d := range edited {
			_, err := tx.ExecContext(ctx, `
				UPDATE `+t.table+` SET payload = $2, schema_version = $3
				WHERE id = $1 AND dead_reason IS NOT NULL`, d.Row, e.Payload, d.NewVersion)
			if err != nil {
				return err
			}
			if err := o.recordOf(ctx, tx, Action{Action: actionEdit, Queue: t.queue, MessageID: e.MessageID, Reason: e.Reason}, d); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("edit message %s in %s: %w", e.MessageID, t.queue, err)
	}
	return nil
}

// editDetail is what is kept of an edit.
type editDetail struct {
	Row        int64  `db:"id" json:"row"`
	Kind       string `db:"kind" json:"kind"`
	OrderID    string `db:"order_id" json:"order_id,omitempty"`
	OldSHA256  string `db:"old_sha256" json:"old_sha256"`
	OldBytes   int    `db:"old_bytes" json:"old_bytes"`
	OldVersion int    `db:"old_version" json:"old_schema_version"`
	NewSHA256  string `db:"new_sha256" json:"new_sha256"`
	NewBytes   int    `db:"new_bytes" json:"new_bytes"`
	NewVersion int    `db:"new_version" json:"new_schema_version"`
}

// DiscardDead removes a dead letter for good: it will never be handled. Why must
// be said. What remains of it is the record, with what a trace would tell of it
// and the hash of its payload. No inbox knows of it: should the message be sent
// again, it is handled. It returns ErrNoDeadLetter and ErrSeveralDead.
func (o *Operator) DiscardDead(ctx context.Context, messageID, queue, why string) error {
	if why == "" {
		return fmt.Errorf("discard message %s: say why", messageID)
	}
	t, rows, err := o.findDead(ctx, messageID, queue)
	if err != nil {
		return fmt.Errorf("discard message %s: %w", messageID, err)
	}
	err = o.inTx(ctx, func(tx *sqlx.Tx) error {
		var gone []discardDetail
		err := tx.SelectContext(ctx, &gone, `
			DELETE FROM `+t.table+`
			WHERE id = ANY ($1) AND dead_reason IS NOT NULL
			RETURNING id, kind, schema_version, coalesce(lane, '') AS lane, coalesce(order_id::text, '') AS order_id, coalesce(correlation_id, '') AS correlation_id,
			          coalesce(causation_id::text, '') AS causation_id, `+t.producer+` AS producer, occurred_at, `+t.died+` AS died_at, `+t.attempts+` AS attempts, dead_reason,
			          encode(sha256(payload), 'hex') AS sha256, octet_length(payload) AS bytes`, rows)
		if err != nil {
			return err
		}
		if len(gone) == 0 {
			return ErrNoDeadLetter
		}
		for _, d := range gone {
			if err := o.recordOf(ctx, tx, Action{Action: actionDiscard, Queue: t.queue, MessageID: messageID, Reason: why}, d); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("discard message %s in %s: %w", messageID, t.queue, err)
	}
	return nil
}

// discardDetail is what is kept of a discarded letter: enough for the journey of
// its order to show it.
type discardDetail struct {
	Row           int64     `db:"id" json:"row"`
	Kind          string    `db:"kind" json:"kind"`
	SchemaVersion int       `db:"schema_version" json:"schema_version"`
	Lane          string    `db:"lane" json:"lane,omitempty"`
	OrderID       string    `db:"order_id" json:"order_id,omitempty"`
	CorrelationID string    `db:"correlation_id" json:"correlation_id,omitempty"`
	CausationID   string    `db:"causation_id" json:"causation_id,omitempty"`
	Producer      string    `db:"producer" json:"producer"`
	SentAt        time.Time `db:"occurred_at" json:"sent_at"`
	DiedAt        time.Time `db:"died_at" json:"died_at"`
	Attempts      int       `db:"attempts" json:"attempts"`
	Reason        string    `db:"dead_reason" json:"dead_reason"`
	SHA256        string    `db:"sha256" json:"sha256"`
	Bytes         int       `db:"bytes" json:"bytes"`
}

// findDead returns the table and the rows of the dead letter with that message id.
// There is more than one row when a sender gave two messages one id.
func (o *Operator) findDead(ctx context.Context, messageID, queue string) (t deadTable, rows []int64, err error) {
	f := DeadFilter{Queue: queue, MessageIDs: []string{messageID}}
	if err := f.check(); err != nil {
		return t, nil, err
	}
	tables, err := o.deadTables(ctx, queue)
	if err != nil {
		return t, nil, err
	}
	for _, x := range tables {
		var found []int64
		for l, err := range o.dead(ctx, x, `id, dead_reason`, f, 0, math.MaxInt64, deadWindow) {
			if err != nil {
				return t, nil, err
			}
			found = append(found, l.Row)
		}
		if len(found) == 0 {
			continue
		}
		if rows != nil {
			return t, nil, fmt.Errorf("%w (%s, %s)", ErrSeveralDead, t.queue, x.queue)
		}
		t, rows = x, found
	}
	if rows == nil {
		return t, nil, ErrNoDeadLetter
	}
	return t, rows, nil
}

// recordOf records a with detail made JSON.
func (o *Operator) recordOf(ctx context.Context, tx sqlx.ExecerContext, a Action, detail any) error {
	var err error
	if a.Detail, err = json.Marshal(detail); err != nil {
		return fmt.Errorf("describe the action %s: %w", a.Action, err)
	}
	return o.record(ctx, tx, a)
}
