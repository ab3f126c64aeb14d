package payments

import (
	"context"
	"errors"
	"fmt"

	"example.com/orderflow/messaging"
	"example.com/orderflow/messaging/contracts"
)

// authorizePayment asks the provider to set the money aside and tells what came
// of it. An attempt that has its answer is told again; one that a void overtook
// is declined, after what may be left of it at the provider was undone.
func (s *Service) authorizePayment(ctx context.Context, c contracts.AuthorizePayment) (messaging.Record, error) {
	p, a, todo, err := s.beginAuthorization(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("attempt %d of payment %s: %w", c.Attempt, c.PaymentID, err)
	}
	calls, cancel := context.WithTimeout(ctx, callsLimit)
	defer cancel()
	switch todo {
	case tell:
		return func(_ context.Context, tx *messaging.Tx) error {
			return tx.Publish(a.authorizationEvent(c))
		}, nil
	case undo:
		return s.undoAndTell(calls, p, a, func(a Attempt) (messaging.Body, error) { return a.authorizationEvent(c), nil })
	}
	got, err := s.authorize(calls, p, a, todo)
	if errors.Is(err, errSpent) {
		return nil, s.useNextKey(ctx, a, OpAuthorize, err)
	}
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, tx *messaging.Tx) error {
		tried := a
		a, err := s.store.lockAttempt(ctx, tx, c.PaymentID, c.Attempt)
		if err != nil {
			return err
		}
		if a.gaveUp(tried) {
			return errMeanwhile // what this came to, if to anything, is a stray
		}
		a, changed, err := a.authorizationAnswered(got)
		if err != nil {
			return fmt.Errorf("attempt %d of payment %s: %w", c.Attempt, c.PaymentID, err)
		}
		if changed {
			s.store.saveAnswer(tx, a, got)
		}
		return tx.Publish(a.authorizationEvent(c))
	}, nil
}

// beginAuthorization decides about c and commits the intent. For a payment that
// nobody has heard of, as nearly all are, that is one statement by itself.
func (s *Service) beginAuthorization(ctx context.Context, c contracts.AuthorizePayment) (p Payment, a Attempt, todo step, err error) {
	p = Payment{ID: c.PaymentID, OrderID: c.OrderID, CustomerID: c.CustomerID, Currency: c.Currency}
	if todo, a, err = p.authorize(c); err != nil {
		return p, a, todo, err
	}
	if a.AskedAt, err = s.store.insertFirstAttempt(ctx, p, a); err != nil || !a.AskedAt.IsZero() {
		return p, a, todo, err
	}
	err = s.bus.InTx(ctx, func(ctx context.Context, tx *messaging.Tx) error {
		if p, err = s.store.openPayment(ctx, tx, c); err != nil {
			return err
		}
		if todo, a, err = p.authorize(c); err != nil {
			return err
		}
		switch todo {
		case ask, find: // found missing it is asked for, perhaps under another key than at first
			s.store.insertAttempt(tx, a)
		case undo:
			s.store.insertVoids(tx, a)
		}
		return nil
	})
	return p, a, todo, err
}

// capturePayment takes the money that the attempt set aside, once, and tells so; or
// tells that the provider will not have it, when the authorization is closed.
func (s *Service) capturePayment(ctx context.Context, c contracts.CapturePayment) (messaging.Record, error) {
	var todo step
	var p Payment
	var a Attempt
	err := s.bus.InTx(ctx, func(ctx context.Context, tx *messaging.Tx) (err error) {
		if p, err = s.store.lockPayment(ctx, tx, c.PaymentID); err != nil {
			return err
		}
		if todo, a, err = p.capture(c); err != nil {
			return err
		}
		switch todo {
		case ask, find:
			s.store.beginCapture(tx, a, c.AmountMinor)
		case undo:
			s.store.insertVoids(tx, a)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("capture %s: %w", c.CaptureID, err)
	}
	calls, cancel := context.WithTimeout(ctx, callsLimit)
	defer cancel()
	switch todo {
	case tell:
		return func(_ context.Context, tx *messaging.Tx) error {
			return tx.Publish(a.captureEvent(c))
		}, nil
	case undo:
		return s.undoAndTell(calls, p, a, func(a Attempt) (messaging.Body, error) {
			if a.Status == Authorized {
				return nil, hopeless("capture %s: attempt %d of payment %s is to be voided, which the provider refuses", c.CaptureID, c.Attempt, c.PaymentID)
			}
			return a.captureEvent(c), nil
		})
	}
	got, refused, err := s.capture(calls, p, a, c.AmountMinor, todo)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, tx *messaging.Tx) error {
		a, err := s.store.lockAttempt(ctx, tx, c.PaymentID, c.Attempt)
		if err != nil {
			return err
		}
		a, changed, err := a.captureAnswered(got, refused)
		if err != nil {
			return err
		}
		if changed {
			s.store.saveCapture(tx, a, got)
		}
		return tx.Publish(a.captureEvent(c))
	}, nil
}

// voidPayment sees to it that nothing is set aside for the attempt and those
// before it, nor ever will be, and tells so; or tells why the provider keeps it.
func (s *Service) voidPayment(ctx context.Context, c contracts.VoidPayment) (messaging.Record, error) {
	var p Payment
	var open []Attempt
	var kept string
	err := s.bus.InTx(ctx, func(ctx context.Context, tx *messaging.Tx) (err error) {
		if p, err = s.store.closePayment(ctx, tx, c); err != nil {
			return err
		}
		if open, kept, err = p.void(c); err != nil {
			return err
		}
		s.store.insertVoids(tx, open...)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("void attempt %d of payment %s: %w", c.Attempt, c.PaymentID, err)
	}
	calls, cancel := context.WithTimeout(ctx, callsLimit)
	defer cancel()
	found := make([]Authorization, len(open))
	refused := make([]string, len(open))
	for i, a := range open {
		if found[i], refused[i], err = s.undo(calls, p, a); err != nil {
			return nil, err
		}
	}
	return func(ctx context.Context, tx *messaging.Tx) error {
		for i, a := range open {
			a, err := s.recordUndone(ctx, tx, a, found[i], refused[i])
			if err != nil {
				return err
			}
			if why := a.left(refused[i]); why != "" && kept != contracts.ReasonCaptured {
				kept = why
			}
		}
		return tx.Publish(voidEvent(c, kept))
	}, nil
}

// undoAndTell undoes a, whose void overtook the command in hand, and tells what event
// makes of it.
func (s *Service) undoAndTell(calls context.Context, p Payment, a Attempt, event func(Attempt) (messaging.Body, error)) (messaging.Record, error) {
	found, refused, err := s.undo(calls, p, a)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, tx *messaging.Tx) error {
		a, err := s.recordUndone(ctx, tx, a, found, refused)
		if err != nil {
			return err
		}
		told, err := event(a)
		if err != nil {
			return err
		}
		return tx.Publish(told)
	}, nil
}

// recordUndone writes what undo found of an attempt and returns the attempt as
// it is then.
func (s *Service) recordUndone(ctx context.Context, tx *messaging.Tx, a Attempt, found Authorization, refused string) (Attempt, error) {
	tried := a
	a, err := s.store.lockAttempt(ctx, tx, a.PaymentID, a.Number)
	switch {
	case err != nil:
		return a, err
	case a.gaveUp(tried):
		return a, errMeanwhile // somebody may be asking under the next key: that one has to be undone
	case found.Status == Approved && a.VoidTry != tried.VoidTry:
		return a, nil // this refusal is on record
	}
	key := a.key(OpVoid)
	a, changed, err := a.undone(found, refused)
	if err != nil {
		return a, fmt.Errorf("void attempt %d of payment %s: %w", a.Number, a.PaymentID, err)
	}
	if changed {
		s.store.saveUndone(tx, a, key, found)
	}
	return a, nil
}

// refundPayment gives back money that was captured, once for each refund, and tells
// so; or tells why the provider, or what is left of the capture, doesn't allow it.
func (s *Service) refundPayment(ctx context.Context, c contracts.RefundPayment) (messaging.Record, error) {
	var todo step
	var p Payment
	var r Repayment
	err := s.bus.InTx(ctx, func(ctx context.Context, tx *messaging.Tx) (err error) {
		if p, err = s.store.lockPayment(ctx, tx, c.PaymentID); err != nil {
			return err
		}
		if p.Repayments, err = s.store.readRepayments(ctx, tx, c); err != nil {
			return err
		}
		if todo, r, err = p.refund(c); err != nil || todo == tell {
			return err
		}
		s.store.beginRefund(tx, r)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("refund %s: %w", c.RefundID, err)
	}
	if todo == tell {
		return func(_ context.Context, tx *messaging.Tx) error {
			return tx.Publish(r.event(c))
		}, nil
	}
	calls, cancel := context.WithTimeout(ctx, callsLimit)
	defer cancel()
	a, _ := p.Attempt(r.Attempt)
	got, err := s.refund(calls, p, r, a, todo)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, tx *messaging.Tx) error {
		key := r.key()
		r, err := s.store.lockRepayment(ctx, tx, c)
		if err != nil {
			return err
		}
		r, changed := r.answered(key, got)
		if changed {
			s.store.saveRefund(tx, r, got)
		}
		if r.Status != Succeeded && r.Status != Failed {
			return errMeanwhile // it is being tried under another key
		}
		return tx.Publish(r.event(c))
	}, nil
}

// lookUpPayment asks the provider how an attempt stands, because a webhook of its
// said that something happened, and records what it finds. What is final is left
// alone, as is what a void is about to end.
func (s *Service) lookUpPayment(ctx context.Context, c contracts.LookUpPayment) (messaging.Record, error) {
	var p Payment
	err := s.bus.InTx(ctx, func(ctx context.Context, tx *messaging.Tx) (err error) {
		p, err = s.store.lockPayment(ctx, tx, c.PaymentID)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("look up attempt %d of payment %s: %w", c.Attempt, c.PaymentID, err)
	}
	a, begun := p.Attempt(c.Attempt)
	if !begun || !a.unanswered() && a.Status != Authorized || c.Attempt <= p.VoidedThrough {
		return func(_ context.Context, tx *messaging.Tx) error {
			tx.Ignore("nothing about the attempt is open")
			return nil
		}, nil
	}
	got, err := s.gateway.FindAuthorization(ctx, a.query(p))
	if err != nil {
		return nil, again(err)
	}
	return func(ctx context.Context, tx *messaging.Tx) error {
		before, err := s.store.lockAttempt(ctx, tx, c.PaymentID, c.Attempt)
		if err != nil {
			return err
		}
		if before.gaveUp(a) {
			return errMeanwhile
		}
		a, changed, err := before.lookedUp(got)
		if err != nil {
			return fmt.Errorf("look up attempt %d of payment %s: %w", c.Attempt, c.PaymentID, err)
		}
		if !changed {
			tx.Ignore("the provider says what is on record")
			return nil
		}
		if !before.unanswered() {
			s.store.saveUndone(tx, a, "", got)
			return nil // the command that is waiting for it tells
		}
		s.store.saveAnswer(tx, a, got)
		return tx.Publish(a.authorizationEvent(contracts.AuthorizePayment{
			PaymentID: c.PaymentID, Attempt: c.Attempt, OrderID: c.OrderID, Currency: p.Currency,
		}))
	}, nil
}
