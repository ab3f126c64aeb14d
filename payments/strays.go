package payments

import (
	"context"
	"errors"
	"fmt"

	"example.com/orderflow/messaging"
)

// Stray is a hold that the provider has for an attempt which has its answer already,
// and the answer is another hold, or none: what a request came to under a key that was
// given up, or that the provider had forgotten and heard of once more. Which hold is
// an attempt's never changes once it is answered, so a stray stays one.
type Stray struct {
	Attempt             // that asked for it
	Ref          string `db:"ref"`           // the provider's name of the hold
	AuthorizeKey string `db:"authorize_key"` // under which it was asked for
	OrderID      string `db:"order_id"`
	Try          int    `db:"try"` // of voiding it, from 1: the keys before were answered in vain
}

// hasStray reports whether ref, which the provider holds for a request of a's, is not
// what a came to.
func (a Attempt) hasStray(ref string) bool { return !a.unanswered() && a.ProviderRef != ref }

// gaveUp reports whether the key is not in use any more under which a, as it was
// then, was asked for: what came of it doesn't count.
func (a Attempt) gaveUp(then Attempt) bool {
	return a.unanswered() && a.AuthorizeTry != then.AuthorizeTry
}

// key is that under which the hold is voided: a pure function of it and the try.
func (s Stray) key() string {
	key := fmt.Sprintf("%s:%d:%s:%s", s.PaymentID, s.Number, OpVoid, s.Ref)
	if s.Try > 1 {
		key = fmt.Sprintf("%s:%d", key, s.Try)
	}
	return key
}

// letGo has the provider give back a stray hold. It returns how the hold stands then:
// Approved means that the provider refused, Missing that the key came to nothing;
// after both the next try's may be used.
func (t talk) letGo(ctx context.Context, s Stray) (Authorization, error) {
	got, _, err := t.voidUnder(ctx, s.key(), AuthorizationQuery{Ref: s.Ref, Key: s.AuthorizeKey, Reference: s.OrderID, AskedAt: s.AskedAt})
	if errors.Is(err, errSpent) {
		return Authorization{Ref: s.Ref, Status: Missing}, nil
	}
	return got, err
}

// voidStrays voids the stray holds among what the provider's books said in the
// reconciliation, each with its intent noted first and its answer at once.
func (s *Service) voidStrays(ctx context.Context, reconciliationID string) error {
	var strays []Stray
	err := s.bus.InTx(ctx, func(ctx context.Context, tx *messaging.Tx) (err error) {
		if strays, err = s.store.listStrays(ctx, tx, reconciliationID); err != nil {
			return err
		}
		s.store.insertStrayVoids(tx, strays)
		return nil
	})
	if err != nil {
		return err
	}
	calls, cancel := context.WithTimeout(ctx, callsLimit)
	defer cancel()
	for _, y := range strays {
		got, err := s.letGo(calls, y)
		if err != nil {
			return err
		}
		s.log.ErrorContext(ctx, "voided a second hold of an attempt", "service", "payments",
			"order_id", y.OrderID, "authorization", y.Ref, "outcome", string(got.Status))
		err = s.bus.InTx(ctx, func(_ context.Context, tx *messaging.Tx) error {
			s.store.saveStray(tx, y, got)
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// listStrays returns the stray holds among what was read for the reconciliation.
func (s store) listStrays(ctx context.Context, tx *messaging.Tx, reconciliationID string) ([]Stray, error) {
	var open []Stray
	err := tx.SelectContext(ctx, &open, `
		SELECT a.payment_id, a.attempt, a.status, a.amount_minor, COALESCE(a.provider_ref, '') AS provider_ref,
			c.requested_at AS asked_at, t.ref, c.key AS authorize_key, p.order_id,
			1 + (
				SELECT count(*)
				FROM payments.provider_calls v
				WHERE v.payment_id = a.payment_id AND v.attempt = a.attempt AND v.operation = 'void'
					AND v.provider_ref = t.ref AND v.outcome IS NOT NULL
			) AS try
		FROM payments.statements t
		JOIN payments.provider_calls c ON c.key = t.key AND c.operation = 'authorize'
		JOIN payments.payments p ON p.id = c.payment_id
		JOIN payments.attempts a ON a.payment_id = c.payment_id AND a.attempt = c.attempt
		WHERE t.reconciliation_id = $1 AND t.kind = 'authorize' AND a.provider_ref IS DISTINCT FROM t.ref
			AND NOT EXISTS (
				SELECT FROM payments.statements e
				WHERE e.reconciliation_id = $1 AND e.kind IN ('capture', 'void', 'expire') AND e.auth_ref = t.ref
			)
		ORDER BY t.at, t.ref`, reconciliationID)
	if err != nil {
		return nil, fmt.Errorf("list stray holds in reconciliation %s: %w", reconciliationID, err)
	}
	strays := open[:0]
	for _, y := range open {
		if y.hasStray(y.Ref) {
			strays = append(strays, y)
		}
	}
	return strays, nil
}

// insertStrayVoids writes the intent to void each hold.
func (s store) insertStrayVoids(tx *messaging.Tx, strays []Stray) {
	for _, y := range strays {
		tx.Queue(`
			INSERT INTO payments.provider_calls (key, payment_id, attempt, operation, amount_minor, try, provider_ref)
			VALUES ($1, $2, $3, 'void', $4, $5, $6)
			ON CONFLICT (key) DO NOTHING`,
			y.key(), y.PaymentID, y.Number, y.AmountMinor, y.Try, y.Ref)
	}
}

// saveStray writes what came of voiding the hold.
func (s store) saveStray(tx *messaging.Tx, y Stray, got Authorization) {
	outcome := got.Status
	if outcome == Approved {
		outcome = Refused
	}
	tx.Queue(`
		UPDATE payments.provider_calls
		SET answered_at = messaging.shop_now(), outcome = $2
		WHERE key = $1 AND outcome IS NULL`, y.key(), outcome)
}
