package payments

import (
	"context"
	"fmt"
	"time"

	"example.com/orderflow/messaging"
	"example.com/orderflow/messaging/contracts"
)

// takeTurn reports whether a reconciliation is due, and puts the next one off. It is
// due, too, when it was put off for longer than is said now.
func (s store) takeTurn(ctx context.Context, tx *messaging.Tx, every time.Duration) (bool, error) {
	var took []bool
	err := tx.SelectContext(ctx, &took, `
		UPDATE payments.reconcile_next
		SET at = clock_timestamp() + make_interval(secs => $1)
		WHERE at <= clock_timestamp() OR at > clock_timestamp() + make_interval(secs => $1)
		RETURNING true`, every.Seconds())
	if err != nil {
		return false, fmt.Errorf("look whether a reconciliation is due: %w", err)
	}
	return len(took) > 0, nil
}

// insertReconciliation notes a reconciliation and returns its command. See
// askForReconciliation for zero times.
func (s store) insertReconciliation(ctx context.Context, tx *messaging.Tx, id string, from, until time.Time) (contracts.ReconcilePayments, error) {
	var row struct {
		From  time.Time `db:"from_at"`
		Until time.Time `db:"until_at"`
	}
	null := func(t time.Time) *time.Time {
		if t.IsZero() {
			return nil
		}
		return &t
	}
	err := tx.GetContext(ctx, &row, `
		INSERT INTO payments.reconciliations (id, from_at, until_at)
		SELECT $1, COALESCE($2, LEAST(
				(SELECT max(until_at) FROM payments.reconciliations WHERE ended_at IS NOT NULL) - make_interval(secs => $4),
				(SELECT min(moved_at) FROM payments.breaks WHERE resolved_at IS NULL)),
			'epoch'), COALESCE($3, clock_timestamp())
		RETURNING from_at, until_at`, id, null(from), null(until), overlap.Seconds())
	if err != nil {
		return contracts.ReconcilePayments{}, fmt.Errorf("ask for a reconciliation: %w", err)
	}
	return contracts.ReconcilePayments{ReconciliationID: id, From: row.From.UTC(), Until: row.Until.UTC()}, nil
}

// clearStatement drops what an earlier try of the reconciliation has read.
func (s store) clearStatement(ctx context.Context, id string) error {
	if _, err := s.db.ExecContext(ctx, `DELETE FROM payments.statements WHERE reconciliation_id = $1`, id); err != nil {
		return fmt.Errorf("begin reconciliation %s: %w", id, err)
	}
	return nil
}

// addToStatement keeps a page of the provider's books for compare.
func (s store) addToStatement(ctx context.Context, id string, page []Movement) error {
	if len(page) == 0 {
		return nil
	}
	var kinds, refs, auths, keys, currencies []string
	var amounts []int64
	var at []time.Time
	for _, m := range page {
		kinds, refs, auths, keys = append(kinds, string(m.Kind)), append(refs, m.Ref), append(auths, m.AuthRef), append(keys, m.Key)
		amounts, currencies, at = append(amounts, m.AmountMinor), append(currencies, m.Currency), append(at, m.At)
	}
	_, err := s.db.ExecContext(ctx, `
		INSERT INTO payments.statements (reconciliation_id, kind, ref, auth_ref, key, amount_minor, currency, at)
		SELECT $1, m.kind, m.ref, m.auth_ref, m.key, m.amount_minor, m.currency, m.at
		FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[], $7::text[], $8::timestamptz[])
			m (kind, ref, auth_ref, key, amount_minor, currency, at)
		ON CONFLICT DO NOTHING`, id, kinds, refs, auths, keys, amounts, currencies, at)
	if err != nil {
		return fmt.Errorf("keep a page of the provider's books for reconciliation %s: %w", id, err)
	}
	return nil
}

// comparison is what compare compares.
type comparison struct {
	id          string
	from, until time.Time
	settled     time.Time // what moved after that is left alone
	whole       bool      // the books were read to their end
	read        int       // movements
}

// compare writes what the two books don't agree about, resolves what they agree
// about again, and returns how many breaks are new.
func (s store) compare(ctx context.Context, tx *messaging.Tx, c comparison) (found int, err error) {
	var fresh []bool
	err = tx.SelectContext(ctx, &fresh, `
		WITH theirs AS (
			SELECT * FROM payments.statements WHERE reconciliation_id = $1
		), found AS (
			SELECT CASE WHEN l.id IS NULL THEN 'missing_ours' ELSE 'amount' END AS what, t.kind || ' ' || t.ref AS key,
				COALESCE(l.order_id, p.order_id) AS order_id, l.amount_minor AS ours, t.amount_minor AS theirs, t.at
			FROM theirs t
			LEFT JOIN payments.ledger l ON l.kind = t.kind AND l.provider_ref = t.ref
			LEFT JOIN payments.provider_calls c ON c.key = t.key
			LEFT JOIN payments.payments p ON p.id = c.payment_id
			WHERE t.kind IN ('capture', 'refund') AND t.at < $4
				AND (l.id IS NULL OR l.amount_minor <> t.amount_minor OR l.currency <> t.currency)
			UNION ALL
			SELECT 'missing_theirs', l.kind || ' ' || l.provider_ref, l.order_id, l.amount_minor, NULL, l.requested_at
			FROM payments.ledger l
			WHERE l.requested_at >= $2 AND l.at >= $2 AND l.at < $3 -- what is written down was asked for before: the index has at
				AND NOT EXISTS (SELECT FROM theirs t WHERE t.kind = l.kind AND t.ref = l.provider_ref)
			UNION ALL
			SELECT CASE WHEN c.key IS NULL THEN 'unknown_hold' WHEN c.answered_at IS NULL THEN 'unresolved_hold' ELSE 'second_hold' END,
				t.kind || ' ' || t.ref, p.order_id, a.amount_minor, t.amount_minor, t.at
			FROM theirs t
			LEFT JOIN payments.provider_calls c ON c.key = t.key
			LEFT JOIN payments.payments p ON p.id = c.payment_id
			LEFT JOIN payments.attempts a ON a.payment_id = c.payment_id AND a.attempt = c.attempt
			WHERE t.kind = 'authorize' AND t.at < $4 AND c.provider_ref IS DISTINCT FROM t.ref
				AND NOT EXISTS (SELECT FROM theirs e WHERE e.kind IN ('void', 'expire') AND e.auth_ref = t.ref)
			UNION ALL
			SELECT 'open_hold', t.kind || ' ' || t.ref, p.order_id, NULL, t.amount_minor, t.at
			FROM theirs t
			JOIN payments.provider_calls c ON c.key = t.key AND c.provider_ref = t.ref
			JOIN payments.payments p ON p.id = c.payment_id
			JOIN payments.attempts a ON a.payment_id = c.payment_id AND a.attempt = c.attempt
			WHERE $5 AND t.kind = 'authorize' AND t.at < $4 AND a.status IN ('declined', 'voided', 'expired', 'closed')
				AND NOT EXISTS (SELECT FROM theirs e WHERE e.kind IN ('capture', 'void', 'expire') AND e.auth_ref = t.ref)
			UNION ALL
			SELECT 'ended_hold', t.kind || ' ' || t.ref, p.order_id, a.amount_minor, NULL, t.at
			FROM theirs t
			JOIN payments.provider_calls c ON c.key = t.key
			JOIN payments.payments p ON p.id = c.payment_id
			JOIN payments.attempts a ON a.payment_id = c.payment_id AND a.attempt = c.attempt
			WHERE t.kind IN ('void', 'expire') AND t.at < $4 AND a.status = 'authorized' AND a.provider_ref = t.auth_ref
		)
		INSERT INTO payments.breaks (what, key, order_id, ours_minor, theirs_minor, moved_at)
		SELECT what, key, order_id, ours, theirs, at FROM found
		ON CONFLICT (what, key) WHERE resolved_at IS NULL DO UPDATE
		SET last_seen = clock_timestamp(), ours_minor = EXCLUDED.ours_minor, theirs_minor = EXCLUDED.theirs_minor
		RETURNING xmax = 0`, c.id, c.from, c.settled, c.settled, c.whole)
	if err != nil {
		return 0, fmt.Errorf("compare the books in reconciliation %s: %w", c.id, err)
	}
	for _, f := range fresh {
		if f {
			found++
		}
	}
	tx.Queue(`
		UPDATE payments.breaks
		SET resolved_at = clock_timestamp()
		WHERE resolved_at IS NULL AND moved_at >= $1 AND moved_at < $2 AND last_seen < now()`, c.from.Add(-skew), c.settled)
	tx.Queue(`DELETE FROM payments.statements WHERE reconciliation_id = $1`, c.id)
	tx.Queue(`
		UPDATE payments.reconciliations
		SET ended_at = clock_timestamp(), until_at = $2, movements = $3, found = $4
		WHERE id = $1`, c.id, c.until, c.read, found)
	return found, nil
}

// forgetWebhooks drops the ids of webhooks that nobody sends again.
func (s store) forgetWebhooks(tx *messaging.Tx) {
	tx.Queue(`
		DELETE FROM payments.webhooks
		WHERE received_at < clock_timestamp() - interval '35 days'`)
}
