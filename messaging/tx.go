package messaging

import (
	"context"
	"fmt"

	"github.com/jmoiron/sqlx"
)

// Tx is a transaction in which rows change and messages are sent together, or
// not at all. It belongs to the goroutine that got it and ends with the
// function that it was handed to.
type Tx struct {
	*sqlx.Tx

	// Loaded is what Preload left for the handlers of its batch; nil outside one.
	Loaded any

	spec    Spec
	cause   Message   // the message in hand; of an InTx: only its correlation
	out     []Message // to be written last, in one ordered INSERT
	ignored string    // why the message in hand was ignored, "" when it was not
}

// Publish sends commands and events with the transaction's commit. They are
// written by one INSERT just before it, so that the ids of a service's outbox
// follow the order of commits for every order that was locked first. It returns
// an error, marked Permanent, for a kind that the service didn't declare.
func (t *Tx) Publish(bodies ...Body) error {
	for _, b := range bodies {
		if !t.spec.sends(b.Kind()) {
			return Permanent(fmt.Errorf("publish %s: not among what service %s sends or speaks", b.Kind(), t.spec.Name))
		}
		m, err := newMessage(b, t.cause)
		if err != nil {
			return Permanent(err)
		}
		t.out = append(t.out, m)
	}
	return nil
}

// Queue executes a write whose result nobody reads. Its error may come as late
// as the commit; a handler returns what Queue returns and relies on no order
// among queued writes and reads of the same transaction.
func (t *Tx) Queue(ctx context.Context, query string, args ...any) error {
	_, err := t.ExecContext(ctx, query, args...)
	return err
}

// Ignore notes that the message in hand changed nothing because it is late,
// repeated or illegal now. It is acknowledged all the same, with the outcome
// "ignored" and the reason in the trace.
func (t *Tx) Ignore(reason string) { t.ignored = reason }

// Message is the message being handled; in an InTx its zero value.
func (t *Tx) Message() Message { return t.cause }
