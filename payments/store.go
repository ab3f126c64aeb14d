package payments

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/jmoiron/sqlx"

	"example.com/orderflow/messaging"
	"example.com/orderflow/messaging/contracts"
)

// store is payments' schema.
type store struct{ db *sqlx.DB }

// insertFirstAttempt writes the payment, its attempt a and the intent to have it
// authorized, if there is no such payment yet, and returns when (real time); the zero
// time, and nothing is written, when there is one.
func (s store) insertFirstAttempt(ctx context.Context, p Payment, a Attempt) (at time.Time, err error) {
	err = s.db.GetContext(ctx, &at, `
		WITH payment AS (
			INSERT INTO payments.payments (id, order_id, customer_id, currency)
			VALUES ($1, $2, $3, $4)
			ON CONFLICT (id) DO NOTHING
			RETURNING id
		), attempt AS (
			INSERT INTO payments.attempts (payment_id, attempt, status, amount_minor, method_token)
			SELECT id, $5, $6, $7, $8 FROM payment
		)
		INSERT INTO payments.provider_calls (key, payment_id, attempt, operation, amount_minor)
		SELECT $9, id, $5, 'authorize', $7 FROM payment
		RETURNING requested_at`,
		p.ID, p.OrderID, p.CustomerID, p.Currency, a.Number, a.Status, a.AmountMinor, a.MethodToken, a.key(OpAuthorize))
	if errors.Is(err, sql.ErrNoRows) {
		return time.Time{}, nil
	}
	if err != nil {
		return time.Time{}, fmt.Errorf("begin payment %s: %w", p.ID, err)
	}
	return at, nil
}

// openPayment returns the payment of c, locked; it makes it when there is none.
func (s store) openPayment(ctx context.Context, tx *messaging.Tx, c contracts.AuthorizePayment) (Payment, error) {
	// DO UPDATE also when nothing changes: only an updated row is locked and returned.
	var p Payment
	err := tx.GetContext(ctx, &p, `
		INSERT INTO payments.payments AS p (id, order_id, customer_id, currency)
		VALUES ($1, $2, $3, $4)
		ON CONFLICT (id) DO UPDATE
		SET customer_id = COALESCE(p.customer_id, EXCLUDED.customer_id),
			currency = COALESCE(p.currency, EXCLUDED.currency)
		RETURNING id, order_id, customer_id, currency, voided_through, clock_timestamp() AS read_at`,
		c.PaymentID, c.OrderID, c.CustomerID, c.Currency)
	if err != nil {
		return p, fmt.Errorf("open payment %s: %w", c.PaymentID, err)
	}
	return s.withAttempts(ctx, tx, p)
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
		RETURNING id, order_id, COALESCE(customer_id, '') AS customer_id, COALESCE(currency, '') AS currency, voided_through, clock_timestamp() AS read_at`,
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
		SELECT id, order_id, COALESCE(customer_id, '') AS customer_id, COALESCE(currency, '') AS currency, voided_through,
			clock_timestamp() AS read_at
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
		SELECT a.payment_id, a.attempt, a.status, a.amount_minor, a.method_token, COALESCE(a.provider_ref, '') AS provider_ref,
			COALESCE(a.reason_code, '') AS reason_code, COALESCE(a.capture_id::text, '') AS capture_id, a.captured_minor,
			a.authorize_try, a.capture_try, a.void_try, COALESCE(c.at, clock_timestamp()) AS asked_at, a.at
		FROM payments.attempts a
		LEFT JOIN LATERAL (
			SELECT min(requested_at) AS at FROM payments.provider_calls WHERE payment_id = a.payment_id AND attempt = a.attempt
		) c ON true
		WHERE a.payment_id = $1
		ORDER BY a.attempt`, p.ID)
	if err != nil {
		return p, fmt.Errorf("read the attempts of payment %s: %w", p.ID, err)
	}
	return p, nil
}

// lockAttempt returns an attempt that was begun, its payment and itself locked. It
// doesn't say when the provider was asked.
func (s store) lockAttempt(ctx context.Context, tx *messaging.Tx, paymentID string, attempt int) (Attempt, error) {
	var a Attempt
	err := tx.GetContext(ctx, &a, `
		SELECT a.payment_id, a.attempt, a.status, a.amount_minor, a.method_token, COALESCE(a.provider_ref, '') AS provider_ref,
			COALESCE(a.reason_code, '') AS reason_code, COALESCE(a.capture_id::text, '') AS capture_id, a.captured_minor,
			a.authorize_try, a.capture_try, a.void_try, a.at
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
		INSERT INTO payments.provider_calls (key, payment_id, attempt, operation, amount_minor, try)
		VALUES ($6, $1, $2, 'authorize', $4, $7)
		ON CONFLICT (key) DO NOTHING`,
		a.PaymentID, a.Number, a.Status, a.AmountMinor, a.MethodToken, a.key(OpAuthorize), a.AuthorizeTry)
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
		INSERT INTO payments.provider_calls (key, payment_id, attempt, operation, amount_minor, try)
		VALUES ($4, $1, $2, 'capture', $5, $6)
		ON CONFLICT (key) DO NOTHING`,
		a.PaymentID, a.Number, a.CaptureID, a.key(OpCapture), amountMinor, a.CaptureTry)
}

// insertVoids writes the intent to void each attempt, and the one to ask for it under
// its key once more: that is how a request that may yet arrive is undone.
func (s store) insertVoids(tx *messaging.Tx, attempts ...Attempt) {
	for _, a := range attempts {
		tx.Queue(`
			INSERT INTO payments.provider_calls (key, payment_id, attempt, operation, amount_minor, try)
			VALUES ($1, $2, $3, 'void', $4, $5), ($6, $2, $3, 'authorize', $4, $7)
			ON CONFLICT (key) DO NOTHING`,
			a.key(OpVoid), a.PaymentID, a.Number, a.AmountMinor, a.VoidTry, a.key(OpAuthorize), a.AuthorizeTry)
	}
}

// saveUnknown writes that nobody knows what came of asking for a.
func (s store) saveUnknown(tx *messaging.Tx, a Attempt) {
	tx.Queue(`
		UPDATE payments.attempts
		SET status = 'unknown', at = messaging.shop_now()
		WHERE payment_id = $1 AND attempt = $2 AND status = 'authorizing'`, a.PaymentID, a.Number)
}

// saveSpent writes that the key of op on a came to nothing for good, and that the
// next one is in use. Who was faster has done so already.
func (s store) saveSpent(tx *messaging.Tx, a Attempt, op Operation) {
	tx.Queue(`
		WITH call AS (
			UPDATE payments.provider_calls
			SET answered_at = messaging.shop_now(), outcome = 'not_found'
			WHERE key = $3 AND outcome IS NULL
			RETURNING payment_id
		)
		UPDATE payments.attempts
		SET authorize_try = authorize_try + CASE $4 WHEN 'authorize' THEN 1 ELSE 0 END,
			capture_try = capture_try + CASE $4 WHEN 'capture' THEN 1 ELSE 0 END,
			void_try = void_try + CASE $4 WHEN 'void' THEN 1 ELSE 0 END
		WHERE payment_id = $1 AND attempt = $2 AND EXISTS (SELECT FROM call)`,
		a.PaymentID, a.Number, a.key(op), string(op))
}

// saveAnswer writes the attempt as the provider's answer to its authorization made it.
func (s store) saveAnswer(tx *messaging.Tx, a Attempt, got Authorization) {
	tx.Queue(`
		WITH call AS (
			UPDATE payments.provider_calls
			SET answered_at = messaging.shop_now(), outcome = $3, provider_ref = NULLIF($4, '')
			WHERE key = $5
		)
		UPDATE payments.attempts
		SET status = $6, provider_ref = NULLIF($4, ''), reason_code = NULLIF($7, ''), at = messaging.shop_now()
		WHERE payment_id = $1 AND attempt = $2`,
		a.PaymentID, a.Number, got.Status, a.ProviderRef, a.key(OpAuthorize), a.Status, a.ReasonCode)
}

// saveCapture writes the attempt as the provider's answer to its capture made it,
// and, when the money is ours, the ledger's row. A void that followed a refusal is
// answered with it.
func (s store) saveCapture(tx *messaging.Tx, a Attempt, got Authorization) {
	outcome := Refused
	if a.Status == Captured {
		outcome = Taken
	}
	tx.Queue(`
		WITH call AS (
			UPDATE payments.provider_calls
			SET answered_at = messaging.shop_now(), outcome = $3, provider_ref = $4
			WHERE key = $5
			RETURNING requested_at
		), released AS (
			UPDATE payments.provider_calls
			SET answered_at = messaging.shop_now(), outcome = CASE $10 WHEN 'approved' THEN 'refused' ELSE $10 END, provider_ref = $4
			WHERE key = $6 AND outcome IS NULL
		), booked AS (
			INSERT INTO payments.ledger (kind, provider_ref, payment_id, attempt, order_id, amount_minor, currency, requested_at)
			SELECT 'capture', $4, p.id, $2, p.order_id, $9, p.currency, call.requested_at
			FROM payments.payments p, call
			WHERE p.id = $1 AND $7 = 'captured'
		)
		UPDATE payments.attempts
		SET status = $7, reason_code = NULLIF($8, ''), captured_minor = $9, at = messaging.shop_now()
		WHERE payment_id = $1 AND attempt = $2`,
		a.PaymentID, a.Number, outcome, a.ProviderRef, a.key(OpCapture), a.key(OpVoid), a.Status, a.ReasonCode, a.CapturedMinor, got.Status)
}

// saveUndone writes the attempt as undoing made it, under the key voidKey ("" = by a
// look-up), and its calls: what the authorization had come to, and the capture, if one
// was under way, and what is left. What turned out to be captured is booked.
func (s store) saveUndone(tx *messaging.Tx, a Attempt, voidKey string, found Authorization) {
	authorized, captured, voided := Approved, Refused, found.Status
	switch found.Status {
	case Refused, Missing:
		authorized = found.Status
	case Taken:
		captured = Taken
	case Approved:
		voided = Refused
	}
	tx.Queue(`
		WITH calls AS (
			UPDATE payments.provider_calls
			SET answered_at = messaging.shop_now(),
				outcome = CASE operation WHEN 'authorize' THEN $3 WHEN 'capture' THEN $4 ELSE $5 END,
				provider_ref = NULLIF($6, '')
			WHERE key = $7 OR key IN ($8, $9) AND outcome IS NULL
			RETURNING operation, requested_at
		), booked AS (
			INSERT INTO payments.ledger (kind, provider_ref, payment_id, attempt, order_id, amount_minor, currency, requested_at)
			SELECT 'capture', $6, p.id, $2, p.order_id, $12, p.currency, calls.requested_at
			FROM payments.payments p, calls
			WHERE p.id = $1 AND $10 = 'captured' AND calls.operation = 'capture'
		)
		UPDATE payments.attempts
		SET status = $10, provider_ref = NULLIF($6, ''), reason_code = NULLIF($11, ''), captured_minor = $12, void_try = $13,
			at = messaging.shop_now()
		WHERE payment_id = $1 AND attempt = $2`,
		a.PaymentID, a.Number, authorized, captured, voided, a.ProviderRef,
		voidKey, a.key(OpAuthorize), a.key(OpCapture), a.Status, a.ReasonCode, a.CapturedMinor, a.VoidTry)
}
