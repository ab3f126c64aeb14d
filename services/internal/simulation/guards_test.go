package simulation

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"example.com/orderflow/messaging"
	"example.com/orderflow/messaging/contracts"
	"example.com/orderflow/orders"
	"example.com/orderflow/payments"
)

// guard is something that keeps money and stock right, and can be switched off.
type guard string

// The guards. Switched off they change what goes into the deciding code, what comes
// out of it, or the models around it; never that code.
const (
	nothing guard = ""

	inboxRead            guard = "the inbox is read before a message is handled"
	ackAfterCommit       guard = "a message is acked with its effect, not before"
	publishInTransaction guard = "messages are sent by the transaction that causes them, or not at all"

	rowLocked       guard = "an order's row is locked before anything is decided"
	attemptsDiffer  guard = "an answer about an earlier attempt to pay is stale"
	answersAwaited  guard = "an order being undone ends when all awaited answers are there"
	askedAgain      guard = "what isn't answered is asked for again"
	paidFirst       guard = "goods are dispatched when they are paid"
	packedIsCharged guard = "only what is packed is charged"
	refundsBounded  guard = "no piece is refunded twice"
	returnsOnce     guard = "a return is refunded once"

	stockLocked guard = "stock is locked before it is reserved"
	tombstones  guard = "a release of the unknown leaves a tombstone"

	voidTombstones  guard = "a void bars the attempt from being authorized later"
	intentFirst     guard = "the intent is recorded before the provider is asked"
	sameKey         guard = "what is unknown is asked for again under the same key"
	sameRefundKey   guard = "a refund is asked for again under the same key"
	neverDeclined   guard = "an unknown outcome is not taken for a refusal"
	neverApproved   guard = "an unknown outcome is not taken for a success"
	lookUpTrue      guard = "a look-up that fails is not taken for nothing there"
	ledgerKept      guard = "money that moved is written into the ledger"
	voidNotAssumed  guard = "a void without an answer is not taken for done"
	captureRecorded guard = "a capture without an answer is looked up"
)

// judge is orders.Rules.Decide, with a guard switched off.
func (w *world) judge(o *order, row orders.Order, in orders.Input) (orders.Step, error) {
	switch {
	case w.off(rowLocked) && o.before.Version > 0:
		row = o.before // as another transaction reads it that didn't wait
	case w.off(attemptsDiffer):
		in.Body = aboutNow(row, in.Body)
	case w.off(returnsOnce) || w.off(refundsBounded):
		row.Lines = append(orders.Lines(nil), row.Lines...)
		for i := range row.Lines {
			row.Lines[i].Refunded = row.Lines[i].Returned
		}
	}
	step, err := w.rules.Decide(row, in)
	if err != nil {
		return step, err
	}
	switch next := &step.Order; {
	case w.off(answersAwaited) && next.Status == orders.Compensating && next.AwaitsVoid && next.AwaitsRelease:
		next.AwaitsVoid = false
	case w.off(askedAgain) && (in.On == orders.DeadlineUp && step.Entry == nil || in.On == orders.OperatorRetry):
		step.Sends = nil
	case w.off(paidFirst) && in.On == contracts.KindShipmentPacked && next.Status == orders.Capturing:
		step.Sends = append(step.Sends, contracts.DispatchShipment{ReservationID: next.ReservationID, OrderID: next.ID})
	case w.off(packedIsCharged):
		for i, m := range step.Sends {
			if m, ok := m.(contracts.CapturePayment); ok {
				m.AmountMinor = row.TotalMinor
				step.Sends[i] = m
			}
		}
	}
	return step, nil
}

// aboutNow is body as if it were about o's current attempt.
func aboutNow(o orders.Order, body messaging.Body) messaging.Body {
	switch m := body.(type) {
	case contracts.PaymentAuthorized:
		m.Attempt = o.Attempt
		return m
	case contracts.PaymentDeclined:
		m.Attempt = o.Attempt
		return m
	case contracts.PaymentVoided:
		m.Attempt = o.Attempt
		return m
	case contracts.CaptureFailed:
		m.Attempt, m.CaptureID = o.Attempt, o.CaptureID
		return m
	}
	return body
}

// gateway is the provider, with a guard of the talk with it switched off.
func (w *world) gateway() payments.Gateway { return careless{w.provider, w} }

// careless is a Gateway whose user isn't careful.
type careless struct {
	*provider
	w *world
}

// unknown reports whether err leaves open what happened.
func unknown(err error) bool {
	var refused *payments.RefusedError
	return err != nil && !errors.As(err, &refused)
}

// fresh is key, or another one each time.
func (c careless) fresh(g guard, op payments.Operation, key string) string {
	if c.w.off(g) {
		key = fmt.Sprintf("%s:%d", key, c.w.steps)
		c.w.desk.intendUnder(op, key)
	}
	return key
}

// Authorize asks for an authorization.
func (c careless) Authorize(ctx context.Context, r payments.AuthorizeRequest) (payments.Authorization, error) {
	if c.w.off(intentFirst) {
		delete(c.w.desk.calls, r.Key)
	}
	r.Key = c.fresh(sameKey, payments.OpAuthorize, r.Key)
	a, err := c.provider.Authorize(ctx, r)
	switch {
	case unknown(err) && c.w.off(neverDeclined):
		return payments.Authorization{Status: payments.Refused, ReasonCode: "no_answer"}, nil
	case unknown(err) && c.w.off(neverApproved):
		return payments.Authorization{Status: payments.Approved, Ref: c.w.newID(), AmountMinor: r.AmountMinor}, nil
	}
	return a, err
}

// Capture asks for a capture.
func (c careless) Capture(ctx context.Context, r payments.CaptureRequest) (payments.Authorization, error) {
	a, err := c.provider.Capture(ctx, r)
	if unknown(err) && c.w.off(captureRecorded) {
		return payments.Authorization{Status: payments.Taken, Ref: r.Ref, AmountMinor: r.AmountMinor, CapturedMinor: r.AmountMinor}, nil
	}
	return a, err
}

// Void asks for a void.
func (c careless) Void(ctx context.Context, r payments.VoidRequest) (payments.Authorization, error) {
	a, err := c.provider.Void(ctx, r)
	if unknown(err) && c.w.off(voidNotAssumed) {
		return payments.Authorization{Status: payments.Closed, Ref: r.Ref}, nil
	}
	return a, err
}

// Refund asks for a refund.
func (c careless) Refund(ctx context.Context, r payments.RefundRequest) (payments.Refund, error) {
	r.Key = c.fresh(sameRefundKey, payments.OpRefund, r.Key)
	return c.provider.Refund(ctx, r)
}

// FindAuthorization looks an authorization up.
func (c careless) FindAuthorization(ctx context.Context, q payments.AuthorizationQuery) (payments.Authorization, error) {
	a, err := c.provider.FindAuthorization(ctx, q)
	if err != nil && c.w.off(lookUpTrue) {
		return payments.Authorization{Status: payments.Closed}, nil
	}
	return a, err
}

// guards are all of them, each with how many seeds it may take to be missed.
var guards = []struct {
	off   guard
	seeds uint64
}{
	{inboxRead, 200}, {ackAfterCommit, 200}, {publishInTransaction, 500},
	{rowLocked, 200}, {attemptsDiffer, 10_000}, {answersAwaited, 2000}, {askedAgain, 5000}, {paidFirst, 500},
	{packedIsCharged, 500}, {refundsBounded, 5000},
	{stockLocked, 500}, {tombstones, 2000},
	{voidTombstones, 2000}, {intentFirst, 200}, {sameKey, 2000}, {sameRefundKey, 10_000}, {neverDeclined, 2000},
	{neverApproved, 2000}, {lookUpTrue, 2000}, {ledgerKept, 200}, {voidNotAssumed, 2000}, {captureRecorded, 2000},
}

// TestEachGuardIsMissed switches one guard off at a time: within some seeds the
// simulation notices that money or stock are wrong, or that something never ends.
func TestEachGuardIsMissed(t *testing.T) {
	t.Parallel()
	for _, g := range guards {
		t.Run(string(g.off), func(t *testing.T) {
			t.Parallel()
			for seed := range g.seeds {
				if wrong := live(newDice(seed), g.off, newTally(), nil); wrong != "" {
					t.Logf("seed %d: %s", seed, wrong)
					return
				}
			}
			t.Errorf("%d worlds are right without it", g.seeds)
		})
	}
}
