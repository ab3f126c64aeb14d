package e2e

import (
	"slices"
	"testing"

	"github.com/jmoiron/sqlx"
)

// rulesNotice breaks a shop at rest, in transactions that are rolled back, in
// every way that the rules are there for: each must notice.
func rulesNotice(t *testing.T, db *sqlx.DB) {
	t.Helper()
	all, err := allRules(t.Context(), db)
	if err != nil {
		t.Fatal(err)
	}
	const one = `(SELECT id FROM orders.orders WHERE status = 'delivered' ORDER BY id LIMIT 1)`
	breaks := map[string][]string{
		"queues and outboxes are empty, without dead letters": {
			`INSERT INTO messaging.queue_payments (message_id, kind, payload, dead_reason) VALUES (gen_random_uuid(), 'k', '', 'broken')`,
			`INSERT INTO messaging.outbox_orders (message_id, kind, payload) VALUES (gen_random_uuid(), 'k', '')`,
		},
		"every subscriber has handled every event once": {
			`DELETE FROM messaging.inbox_orders WHERE kind = 'payments.payment_captured'`,
		},
		"every order has ended or waits for its customer": {`UPDATE orders.orders SET status = 'shipped' WHERE id = ` + one},
		"an order's history is without gaps, each entry follows the one before": {
			`DELETE FROM orders.history WHERE version = 2 AND order_id = ` + one,
			`UPDATE orders.history SET status = 'shipped' WHERE version = 2 AND order_id = ` + one,
		},
		"an order is what its last entry says": {
			`UPDATE orders.orders SET version = 99 WHERE id = ` + one,
			`DELETE FROM orders.history WHERE order_id = ` + one,
		},
		"there is one order for each key of each caller": {`DELETE FROM orders.idempotency_keys WHERE order_id = ` + one},
		"the provider has taken the price of every delivered order once, and nothing for others": {
			`UPDATE orders.orders SET total_minor = total_minor + 1 WHERE id = ` + one,
			`UPDATE orders.orders SET status = 'cancelled', reason_code = 'x', deadline = NULL, captured = false, dispatched = false WHERE id = ` + one,
			`INSERT INTO paysim.operations (key, kind, authorization_id, reference, amount_minor, currency, status)
			 SELECT 'twice', 'capture', a.id, ` + one + `, 1, 'EUR', 'succeeded' FROM paysim.authorizations a WHERE a.status = 'declined' LIMIT 1`,
		},
		"nothing is left authorized at the provider": {`UPDATE paysim.authorizations SET status = 'authorized' WHERE status = 'voided'`,
			`UPDATE paysim.authorizations SET status = 'authorized', captured_minor = 0 WHERE status = 'captured'`},
		"the provider was asked for nothing but orders' money, each time with the intent recorded": {
			`DELETE FROM payments.provider_calls WHERE operation = 'capture'`,
			`UPDATE payments.provider_calls SET answered_at = NULL, outcome = NULL WHERE operation = 'authorize'`,
		},
		"our ledger is the provider's books": {
			`UPDATE payments.attempts SET captured_minor = captured_minor - 1 WHERE status = 'captured'`,
			`UPDATE payments.attempts SET status = 'authorized', captured_minor = 0 WHERE status = 'captured'`,
		},
		"stock adds up": {
			`ALTER TABLE inventory.stock DROP CONSTRAINT stock_adds_up; UPDATE inventory.stock SET available = available + 1 WHERE sku = 'MUG-01'`,
		},
		"every counter of the stock is the sum of its moves": {
			`UPDATE inventory.stock SET available = available - 1, written_off = written_off + 1 WHERE sku = 'MUG-01'`,
			`INSERT INTO inventory.stock_moves (sku, what, available, reserved, at) VALUES ('MUG-01', 'reserved', -1, 1, now())`,
		},
		"what is reserved is held for orders that wait for their customer": {
			`UPDATE inventory.stock SET available = available - 1, reserved = reserved + 1 WHERE sku = 'MUG-01'`,
		},
		"what is sold is in delivered orders": {
			`UPDATE inventory.stock SET available = available - 1, sold = sold + 1 WHERE sku = 'MUG-01'`,
		},
		"customers are told of every event by each channel once": {
			`DELETE FROM notifications.notifications WHERE order_id = ` + one,
			`UPDATE notifications.notifications SET message_id = gen_random_uuid()`,
		},
	}
	for _, r := range all {
		if len(breaks[r.name]) == 0 {
			t.Errorf("nothing tries whether this is noticed: %s", r.name)
		}
		for _, sql := range breaks[r.name] {
			if got := brokenBy(t, db, r, sql); len(got) == 0 {
				t.Errorf("%s: not noticed: %s", r.name, sql)
			}
		}
	}
	for name := range breaks {
		if !slices.ContainsFunc(all, func(r rule) bool { return r.name == name }) {
			t.Errorf("there is no rule %q", name)
		}
	}
}

// brokenBy is what r finds after sql, which is undone.
func brokenBy(t *testing.T, db *sqlx.DB, r rule, sql string) []string {
	t.Helper()
	tx, err := db.BeginTxx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := tx.Exec(sql)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	if n, err := res.RowsAffected(); err != nil || n == 0 {
		t.Errorf("%s: %d rows, %v: it breaks nothing", sql, n, err)
	}
	list, err := r.broken(t.Context(), tx)
	if err != nil {
		t.Fatal(err)
	}
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	return list
}
