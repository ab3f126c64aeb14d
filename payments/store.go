package payments

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/jmoiron/sqlx"

	"example.com/orderflow/messaging"
	"example.com/orderflow/messaging/contracts"
)

// store is payments' schema.
type store struct{ db *sqlx.DB }

// openPayment returns the payment of c, locked; it makes it when there is none.
func (s store) openPayment(ctx context.Context, tx *messaging.Tx, c contracts.AuthorizePayment) (Payment, error) {
	// DO UPDATE also when nothing changes: only an updated row is locked and returned.
	var p struct {
		Payment
		Inserted bool `db:"inserted"`
	}
	err := tx.GetContext(ctx, &p, `
		INSERT INTO payments.payments AS p (id, order_id, customer_id, currency)
		VALUES ($1, $2, $3, $4)
		ON CONFLICT (id) DO UPDATE
		SET customer_id = COALESCE(p.customer_id, EXCLUDED.customer_id),
			currency = COALESCE(p.currency, EXCLUDED.currency)
		RETURNING id, order_id, customer_id, currency, voided_through, xmax = 0 AS inserted`,
		c.PaymentID, c.OrderID, c.CustomerID, c.Currency)
	if err != nil {
		return p.Payment, fmt.Errorf("open payment %s: %w", c.PaymentID, err)
	}
	if p.Inserted { // as most are: it has no attempts yet
		return p.Payment, nil
	}
	return s.withAttempts(ctx, tx, p.Payment)
}

// closePayment returns the payment of c, locked, with c's attempt and those before
// it barred from being authorized; it makes it when there is none.
func (s store) closePayment(ctx context.Context, tx *messaging.Tx, c contracts.VoidPayment) (Payment, error) {
	var p Payment
	err := tx.GetContext(ctx, &p, `
		INSERT INTO payments.payments AS p (id, order_id, voided_through)
		VALUES ($1, $2, $3)
		ON CONFLICT (id) DO UPDATE
		SET voided_through = GREATEST(p.voided_through, EXCLUDED.voided_through)
		RETURNING id, order_id, COALESCE(customer_id, '') AS customer_id, COALESCE(currency, '') AS currency, voided_through`,
		c.PaymentID, c.OrderID, c.Attempt)
	if err != nil {
		return p, fmt.Errorf("close payment %s: %w", c.PaymentID, err)
	}
	return s.withAttempts(ctx, tx, p)
}

// lockPayment returns the payment id (UUID), locked; an error marked permanent
// when there is none.
func (s store) lockPayment(ctx context.Context, tx *messaging.Tx, id string) (Payment, error) {
	var p Payment
	err := tx.GetContext(ctx, &p, `
		SELECT id, order_id, COALESCE(customer_id, '') AS customer_id, COALESCE(currency, '') AS currency, voided_through
		FROM payments.payments
		WHERE id = $1
		FOR UPDATE`, id)
	if errors.Is(err, sql.ErrNoRows) {
		return p, hopeless("there is no payment %s", id)
	}
	if err != nil {
		return p, fmt.Errorf("lock payment %s: %w", id, err)
	}
	return s.withAttempts(ctx, tx, p)
}

// withAttempts adds the attempts of p, which is locked. It is a statement of its
// own because one that waits for a lock goes on with the snapshot from before.
func (s store) withAttempts(ctx context.Context, tx *messaging.Tx, p Payment) (Payment, error) {
	err := tx.SelectContext(ctx, &p.Attempts, `
		SELECT payment_id, attempt, status, amount_minor, method_token, COALESCE(provider_ref, '') AS provider_ref,
			COALESCE(reason_code, '') AS reason_code, COALESCE(capture_id::text, '') AS capture_id, captured_minor, at
		FROM payments.attempts
		WHERE payment_id = $1
		ORDER BY attempt`, p.ID)
	if err != nil {
		return p, fmt.Errorf("read the attempts of payment %s: %w", p.ID, err)
	}
	return p, nil
}

// lockAttempt returns an attempt that was begun, its payment and itself locked.
func (s store) lockAttempt(ctx context.Context, tx *messaging.Tx, paymentID string, attempt int) (Attempt, error) {
	var a Attempt
	err := tx.GetContext(ctx, &a, `
		SELECT a.payment_id, a.attempt, a.status, a.amount_minor, a.method_token, COALESCE(a.provider_ref, '') AS provider_ref,
			COALESCE(a.reason_code, '') AS reason_code, COALESCE(a.capture_id::text, '') AS capture_id, a.captured_minor, a.at
		FROM payments.payments p
		JOIN payments.attempts a ON a.payment_id = p.id
		WHERE p.id = $1 AND a.attempt = $2
		FOR UPDATE OF p, a`, paymentID, attempt)
	if err != nil {
		return a, fmt.Errorf("lock attempt %d of payment %s: %w", attempt, paymentID, err)
	}
	return a, nil
}

// insertAttempt writes the attempt and the intent to have it authorized; those
// that are there stay as they are.
func (s store) insertAttempt(tx *messaging.Tx, a Attempt) {
	tx.Queue(`
		WITH attempt AS (
			INSERT INTO payments.attempts (payment_id, attempt, status, amount_minor, method_token)
			VALUES ($1, $2, $3, $4, $5)
			ON CONFLICT (payment_id, attempt) DO NOTHING
		)
		INSERT INTO payments.provider_calls (key, payment_id, attempt, operation, amount_minor)
		VALUES ($6, $1, $2, $7, $4)
		ON CONFLICT (key) DO NOTHING`,
		a.PaymentID, a.Number, a.Status, a.AmountMinor, a.MethodToken,
		Key(a.PaymentID, a.Number, OpAuthorize), OpAuthorize)
}

// beginCapture writes which capture the attempt has and the intent to take
// amountMinor.
func (s store) beginCapture(tx *messaging.Tx, a Attempt, amountMinor int64) {
	tx.Queue(`
		WITH attempt AS (
			UPDATE payments.attempts
			SET capture_id = $3
			WHERE payment_id = $1 AND attempt = $2 AND capture_id IS NULL
		)
		INSERT INTO payments.provider_calls (key, payment_id, attempt, operation, amount_minor)
		VALUES ($4, $1, $2, $5, $6)
		ON CONFLICT (key) DO NOTHING`,
		a.PaymentID, a.Number, a.CaptureID, Key(a.PaymentID, a.Number, OpCapture), OpCapture, amountMinor)
}

// insertCalls writes the intent to do op to each attempt.
func (s store) insertCalls(tx *messaging.Tx, op Operation, attempts ...Attempt) {
	for _, a := range attempts {
		tx.Queue(`
			INSERT INTO payments.provider_calls (key, payment_id, attempt, operation, amount_minor)
			VALUES ($1, $2, $3, $4, $5)
			ON CONFLICT (key) DO NOTHING`,
			Key(a.PaymentID, a.Number, op), a.PaymentID, a.Number, op, a.AmountMinor)
	}
}

// saveAnswer writes the attempt as the provider's answer to op made it.
func (s store) saveAnswer(tx *messaging.Tx, a Attempt, op Operation, outcome string) {
	tx.Queue(`
		WITH call AS (
			UPDATE payments.provider_calls
			SET answered_at = messaging.shop_now(), outcome = $3, provider_ref = $4
			WHERE key = $5
		)
		UPDATE payments.attempts
		SET status = $6, provider_ref = $4, reason_code = NULLIF($7, ''), captured_minor = $8, at = messaging.shop_now()
		WHERE payment_id = $1 AND attempt = $2`,
		a.PaymentID, a.Number, outcome, a.ProviderRef, Key(a.PaymentID, a.Number, op), a.Status, a.ReasonCode, a.CapturedMinor)
}

// saveUndone writes the attempt as undoing made it, and both of its calls: what
// the authorization had come to, and that nothing is left of it.
func (s store) saveUndone(tx *messaging.Tx, a Attempt, found Authorization) {
	authorized := found.Status
	if authorized == Closed {
		authorized = Approved
	}
	tx.Queue(`
		WITH calls AS (
			UPDATE payments.provider_calls
			SET answered_at = messaging.shop_now(),
				outcome = CASE operation WHEN 'authorize' THEN $3 ELSE $4 END,
				provider_ref = NULLIF($5, '')
			WHERE key = $7 OR key = $6 AND COALESCE(outcome, 'not_found') = 'not_found'
		)
		UPDATE payments.attempts
		SET status = $8, provider_ref = NULLIF($5, ''), reason_code = NULLIF($9, ''), at = messaging.shop_now()
		WHERE payment_id = $1 AND attempt = $2`,
		a.PaymentID, a.Number, authorized, found.Status, a.ProviderRef,
		Key(a.PaymentID, a.Number, OpAuthorize), Key(a.PaymentID, a.Number, OpVoid), a.Status, a.ReasonCode)
}

// listPayments returns the customer's payments of the order, oldest first, with
// their attempts.
func (s store) listPayments(ctx context.Context, orderID, customerID string) ([]Payment, error) {
	var rows []struct {
		Payment
		Tried []byte `db:"attempts"`
	}
	err := s.db.SelectContext(ctx, &rows, `
		SELECT p.id, p.order_id, p.customer_id, p.currency, p.voided_through,
			(SELECT COALESCE(json_agg(json_build_object(
				'Number', a.attempt, 'Status', a.status, 'AmountMinor', a.amount_minor,
				'ReasonCode', a.reason_code, 'CapturedMinor', a.captured_minor, 'At', a.at) ORDER BY a.attempt), '[]')
			FROM payments.attempts a
			WHERE a.payment_id = p.id) AS attempts
		FROM payments.payments p
		WHERE p.order_id = $1 AND p.customer_id = $2
		ORDER BY p.created_at, p.id`, orderID, customerID)
	if err != nil {
		return nil, fmt.Errorf("list the payments of order %s: %w", orderID, err)
	}
	list := make([]Payment, len(rows))
	for i, r := range rows {
		list[i] = r.Payment
		if err := json.Unmarshal(r.Tried, &list[i].Attempts); err != nil {
			return nil, fmt.Errorf("read the attempts of payment %s: %w", r.ID, err)
		}
	}
	return list, nil
}
