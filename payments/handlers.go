package payments

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"example.com/orderflow/messaging"
	"example.com/orderflow/messaging/contracts"
)

// authorizePayment asks the provider to set the money aside and tells what came
// of it. An attempt that has its answer is told again; one that a void overtook
// is declined, after what may be left of it at the provider was undone.
func (s *Service) authorizePayment(ctx context.Context, c contracts.AuthorizePayment) (messaging.Record, error) {
	var todo step
	var a Attempt
	err := s.bus.InTx(ctx, func(ctx context.Context, tx *messaging.Tx) error {
		p, err := s.store.openPayment(ctx, tx, c)
		if err != nil {
			return err
		}
		if todo, a, err = p.authorize(c); err != nil {
			return err
		}
		switch todo {
		case ask:
			s.store.insertAttempt(tx, a)
			return nil
		case undo:
			s.store.insertCalls(tx, OpVoid, a)
			return nil
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("attempt %d of payment %s: %w", c.Attempt, c.PaymentID, err)
	}
	switch todo {
	case tell:
		return func(_ context.Context, tx *messaging.Tx) error {
			return tx.Publish(a.authorizationEvent(c))
		}, nil
	case undo:
		found, err := s.undo(ctx, a)
		if err != nil {
			return nil, err
		}
		return func(ctx context.Context, tx *messaging.Tx) error {
			a, err := s.recordUndone(ctx, tx, a, found)
			if err != nil {
				return err
			}
			return tx.Publish(a.authorizationEvent(c))
		}, nil
	}
	got, err := s.gateway.Authorize(ctx, AuthorizeRequest{
		Key: Key(c.PaymentID, c.Attempt, OpAuthorize), Reference: c.OrderID,
		AmountMinor: a.AmountMinor, Currency: c.Currency, MethodToken: a.MethodToken,
	})
	if err != nil {
		return nil, again(err)
	}
	return func(ctx context.Context, tx *messaging.Tx) error {
		a, err := s.store.lockAttempt(ctx, tx, c.PaymentID, c.Attempt)
		if err != nil {
			return err
		}
		a, changed, err := a.authorizationAnswered(got)
		if err != nil {
			return fmt.Errorf("attempt %d of payment %s: %w", c.Attempt, c.PaymentID, err)
		}
		if changed {
			s.store.saveAnswer(tx, a, OpAuthorize, string(got.Status))
		}
		return tx.Publish(a.authorizationEvent(c))
	}, nil
}

// capturePayment takes the money that the attempt set aside, once, and tells so.
// It is refused as hopeless unless the attempt is authorized.
func (s *Service) capturePayment(ctx context.Context, c contracts.CapturePayment) (messaging.Record, error) {
	var todo step
	var a Attempt
	err := s.bus.InTx(ctx, func(ctx context.Context, tx *messaging.Tx) error {
		p, err := s.store.lockPayment(ctx, tx, c.PaymentID)
		if err != nil {
			return err
		}
		if todo, a, err = p.capture(c); err != nil || todo == tell {
			return err
		}
		s.store.beginCapture(tx, a, c.AmountMinor)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("capture %s: %w", c.CaptureID, err)
	}
	if todo == tell {
		return func(_ context.Context, tx *messaging.Tx) error {
			return tx.Publish(a.captureEvent(c))
		}, nil
	}
	if _, err := s.gateway.Capture(ctx, CaptureRequest{
		Key: Key(c.PaymentID, c.Attempt, OpCapture), Ref: a.ProviderRef, AmountMinor: c.AmountMinor,
	}); err != nil {
		return nil, again(err)
	}
	return func(ctx context.Context, tx *messaging.Tx) error {
		a, err := s.store.lockAttempt(ctx, tx, c.PaymentID, c.Attempt)
		if err != nil {
			return err
		}
		a, changed, err := a.captured(c.AmountMinor)
		if err != nil {
			return err
		}
		if changed {
			s.store.saveAnswer(tx, a, OpCapture, string(Taken))
		}
		return tx.Publish(a.captureEvent(c))
	}, nil
}

// voidPayment sees to it that nothing is set aside for the attempt and those
// before it, nor ever will be, and tells so.
func (s *Service) voidPayment(ctx context.Context, c contracts.VoidPayment) (messaging.Record, error) {
	var open []Attempt
	err := s.bus.InTx(ctx, func(ctx context.Context, tx *messaging.Tx) error {
		p, err := s.store.closePayment(ctx, tx, c)
		if err != nil {
			return err
		}
		if open, err = p.void(c); err != nil {
			return err
		}
		s.store.insertCalls(tx, OpVoid, open...)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("void attempt %d of payment %s: %w", c.Attempt, c.PaymentID, err)
	}
	found := make([]Authorization, len(open))
	for i, a := range open {
		if found[i], err = s.undo(ctx, a); err != nil {
			return nil, err
		}
	}
	return func(ctx context.Context, tx *messaging.Tx) error {
		for i, a := range open {
			if _, err := s.recordUndone(ctx, tx, a, found[i]); err != nil {
				return err
			}
		}
		return tx.Publish(contracts.PaymentVoided(c)) // it says of what, as the command did
	}, nil
}

// undo leaves nothing set aside for a at the provider and returns what is there
// then: an authorization that is Closed or was Refused, or Missing. An attempt
// whose authorization was never answered is looked up first.
func (s *Service) undo(ctx context.Context, a Attempt) (Authorization, error) {
	there := Authorization{Ref: a.ProviderRef, Status: Approved}
	if there.Ref == "" {
		var err error
		if there, err = s.gateway.FindAuthorization(ctx, AuthorizationQuery{Key: Key(a.PaymentID, a.Number, OpAuthorize)}); err != nil {
			return there, again(err)
		}
	}
	switch there.Status {
	case Approved:
		if _, err := s.gateway.Void(ctx, VoidRequest{Key: Key(a.PaymentID, a.Number, OpVoid), Ref: there.Ref}); err != nil {
			return there, again(err)
		}
		there.Status = Closed
	case Taken:
		return there, hopeless("attempt %d of payment %s can't be voided: it is captured at the provider", a.Number, a.PaymentID)
	}
	return there, nil
}

// recordUndone writes what undo found of an attempt and returns the attempt as
// it is then.
func (s *Service) recordUndone(ctx context.Context, tx *messaging.Tx, a Attempt, found Authorization) (Attempt, error) {
	a, err := s.store.lockAttempt(ctx, tx, a.PaymentID, a.Number)
	if err != nil {
		return a, err
	}
	a, changed, err := a.undone(found)
	if err != nil {
		return a, fmt.Errorf("void attempt %d of payment %s: %w", a.Number, a.PaymentID, err)
	}
	if !changed {
		return a, nil
	}
	s.store.saveUndone(tx, a, found)
	return a, nil
}

// again says when a command whose call ended in err is tried again: not at all
// when the provider refused it.
func again(err error) error {
	var refused *RefusedError
	if errors.As(err, &refused) {
		return messaging.Permanent(err)
	}
	wait := 500*time.Millisecond + rand.N(500*time.Millisecond)
	var away *AwayError
	if errors.As(err, &away) {
		wait = max(wait, away.RetryAfter)
	}
	return messaging.Later(wait, err)
}
