package payments

import (
	"context"
	"encoding/json"
	"fmt"
)

// listPayments returns the customer's payments of the order, oldest first, with
// their attempts and refunds.
func (s store) listPayments(ctx context.Context, orderID, customerID string) ([]Payment, error) {
	var rows []struct {
		Payment
		Tried  []byte `db:"attempts"`
		Repaid []byte `db:"repayments"`
	}
	err := s.db.SelectContext(ctx, &rows, `
		SELECT p.id, p.order_id, p.customer_id, p.currency, p.voided_through, clock_timestamp() AS read_at,
			(SELECT COALESCE(json_agg(json_build_object(
				'Number', a.attempt, 'Status', a.status, 'AmountMinor', a.amount_minor,
				'ReasonCode', a.reason_code, 'CapturedMinor', a.captured_minor, 'At', a.at) ORDER BY a.attempt), '[]')
			FROM payments.attempts a
			WHERE a.payment_id = p.id) AS attempts,
			(SELECT COALESCE(json_agg(json_build_object(
				'ID', r.id, 'Status', r.status, 'AmountMinor', r.amount_minor, 'Reason', r.reason,
				'ReasonCode', r.reason_code, 'At', r.at) ORDER BY r.at, r.id), '[]')
			FROM payments.refunds r
			WHERE r.payment_id = p.id) AS repayments
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
		if err := json.Unmarshal(r.Repaid, &list[i].Repayments); err != nil {
			return nil, fmt.Errorf("read the refunds of payment %s: %w", r.ID, err)
		}
	}
	return list, nil
}
