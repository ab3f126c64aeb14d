package payments

import (
	"context"
	"fmt"

	"example.com/orderflow/messaging"
	"example.com/orderflow/messaging/contracts"
)

const repaymentColumns = `r.id, r.payment_id, r.attempt, r.amount_minor, r.reason, r.status, r.try, COALESCE(r.provider_ref, '') AS provider_ref,
			COALESCE(r.reason_code, '') AS reason_code, r.at,
			(SELECT min(requested_at) FROM payments.provider_calls WHERE payment_id = r.payment_id AND attempt = r.attempt AND refund_id = r.id) AS asked_at`

// readRepayments returns the refunds of c's payment, which is locked, and c's own,
// whatever payment it is of.
func (s store) readRepayments(ctx context.Context, tx *messaging.Tx, c contracts.RefundPayment) ([]Repayment, error) {
	var list []Repayment
	err := tx.SelectContext(ctx, &list, `
		SELECT `+repaymentColumns+`
		FROM payments.refunds r
		WHERE r.payment_id = $1 OR r.id = $2`, c.PaymentID, c.RefundID)
	if err != nil {
		return nil, fmt.Errorf("read the refunds of payment %s: %w", c.PaymentID, err)
	}
	return list, nil
}

// lockRepayment returns the refund of c, which was begun, its payment and itself
// locked.
func (s store) lockRepayment(ctx context.Context, tx *messaging.Tx, c contracts.RefundPayment) (Repayment, error) {
	var r Repayment
	err := tx.GetContext(ctx, &r, `
		SELECT `+repaymentColumns+`
		FROM payments.payments p
		JOIN payments.refunds r ON r.payment_id = p.id
		WHERE p.id = $1 AND r.id = $2
		FOR UPDATE OF p, r`, c.PaymentID, c.RefundID)
	if err != nil {
		return r, fmt.Errorf("lock refund %s: %w", c.RefundID, err)
	}
	return r, nil
}

// beginRefund writes the refund and the intent to give it back. One that is there
// stays as it is, unless it had failed.
func (s store) beginRefund(tx *messaging.Tx, r Repayment) {
	tx.Queue(`
		WITH refund AS (
			INSERT INTO payments.refunds AS r (id, payment_id, attempt, amount_minor, reason, status, try)
			VALUES ($1, $2, $3, $4, $5, $6, $7)
			ON CONFLICT (id) DO UPDATE
			SET status = EXCLUDED.status, try = EXCLUDED.try, reason_code = NULL, at = messaging.shop_now()
			WHERE r.status = 'failed'
		)
		INSERT INTO payments.provider_calls (key, payment_id, attempt, operation, refund_id, amount_minor, try)
		VALUES ($8, $2, $3, 'refund', $1, $4, $7)
		ON CONFLICT (key) DO NOTHING`,
		r.ID, r.PaymentID, r.Attempt, r.AmountMinor, r.Reason, r.Status, r.Try, r.key())
}

// saveRefundUnknown writes that nobody knows what came of asking for r.
func (s store) saveRefundUnknown(tx *messaging.Tx, r Repayment) {
	tx.Queue(`
		UPDATE payments.refunds
		SET status = 'unknown', at = messaging.shop_now()
		WHERE id = $1 AND status = 'refunding' AND try = $2`, r.ID, r.Try)
}

// saveRefund writes the refund as the provider's answer made it, and, when the
// money went back, the ledger's row.
func (s store) saveRefund(tx *messaging.Tx, r Repayment, got Refund) {
	tx.Queue(`
		WITH call AS (
			UPDATE payments.provider_calls
			SET answered_at = messaging.shop_now(), outcome = $3, provider_ref = NULLIF($4, '')
			WHERE key = $5
			RETURNING requested_at
		), booked AS (
			INSERT INTO payments.ledger (kind, provider_ref, payment_id, attempt, order_id, refund_id, amount_minor, currency, requested_at)
			SELECT 'refund', $4, p.id, $7, p.order_id, $2, $8, p.currency, call.requested_at
			FROM payments.payments p, call
			WHERE p.id = $1 AND $6 = 'succeeded'
		)
		UPDATE payments.refunds
		SET status = $6, provider_ref = NULLIF($4, ''), reason_code = NULLIF($9, ''), at = messaging.shop_now()
		WHERE id = $2`,
		r.PaymentID, r.ID, got.Status, r.ProviderRef, r.key(), r.Status, r.Attempt, r.AmountMinor, r.ReasonCode)
}
