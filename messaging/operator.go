package messaging

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jmoiron/sqlx"
)

// Operator is an administrator's hand in the messaging layer. Whatever it changes
// is recorded under its name, in the transaction of the change, and stays so:
// the table messaging.actions only grows.
type Operator struct {
	db    *sqlx.DB
	actor string
}

// NewOperator returns the hand of actor, a person or a program, in the database
// of db, which must be an administrator's.
func NewOperator(db *sqlx.DB, actor string) *Operator { return &Operator{db: db, actor: actor} }

// Action is something that an operator did.
type Action struct {
	ID        int64           `db:"id" json:"id"`
	At        time.Time       `db:"at" json:"at"`
	Actor     string          `db:"actor" json:"actor"`
	Action    string          `db:"action" json:"action"`
	Queue     string          `db:"queue" json:"queue,omitempty"`
	MessageID string          `db:"message_id" json:"message_id,omitempty"`
	Reason    string          `db:"reason" json:"reason,omitempty"` // the operator's own
	Detail    json.RawMessage `db:"detail" json:"detail,omitempty"` // never a payload
}

// Actions returns the last limit actions, the newest first.
func (o *Operator) Actions(ctx context.Context, limit int) ([]Action, error) {
	list := []Action{}
	err := o.db.SelectContext(ctx, &list, `
		SELECT id, at, actor, action, coalesce(queue, '') AS queue, coalesce(message_id::text, '') AS message_id,
		       coalesce(reason, '') AS reason, coalesce(detail, 'null') AS detail
		FROM messaging.actions
		ORDER BY id DESC
		LIMIT $1`, limit)
	if err != nil {
		return nil, fmt.Errorf("list the operators' actions: %w", err)
	}
	return list, nil
}

// record notes a in the transaction that does it. Detail must be fit to be shown:
// counts and names, no payloads.
func (o *Operator) record(ctx context.Context, tx sqlx.ExecerContext, a Action) error {
	_, err := tx.ExecContext(ctx, `
		INSERT INTO messaging.actions (actor, action, queue, message_id, reason, detail)
		VALUES ($1, $2, $3, $4, $5, $6)`,
		o.actor, a.Action, nullable(a.Queue), nullable(a.MessageID), nullable(a.Reason), nullable(string(a.Detail)))
	if err != nil {
		return fmt.Errorf("record the action %s of %s: %w", a.Action, o.actor, err)
	}
	return nil
}

// inTx runs f in a transaction, which is committed unless f returns an error.
func (o *Operator) inTx(ctx context.Context, f func(*sqlx.Tx) error) (err error) {
	tx, err := o.db.BeginTxx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rollback(tx)) }() // after Commit it does nothing
	if err := f(tx); err != nil {
		return err
	}
	return tx.Commit()
}
