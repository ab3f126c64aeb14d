package verify

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/jmoiron/sqlx"

	"example.com/orderflow/messaging/messagingtest"
)

// plant is something wrong, put into the data of a clean shop at rest. Words in
// braces stand for targets.
type plant struct {
	check   string   // that has to find it
	subject string   // that it has to name
	sql     []string // that makes it so, without foreign keys and triggers
	lax     string   // a table whose constraints and unique indexes would forbid it
	also    []string // checks that have to find it, too: the same fact is said elsewhere
}

// targets are queries for what plants are about: one id each.
var targets = map[string]string{
	"delivered":    `SELECT order_id::text FROM orders.lines WHERE sku = 'TOWEL-01'`, // two of three pieces came back
	"completed":    `SELECT order_id::text FROM orders.lines JOIN orders.orders o ON o.id = order_id WHERE sku = 'MUG-02' AND status = 'completed'`,
	"paid":         `SELECT order_id::text FROM orders.lines WHERE sku = 'COFFEE-01'`, // at the second attempt
	"cancelled":    `SELECT id::text FROM orders.orders WHERE status = 'cancelled'`,
	"rejected":     `SELECT order_id::text FROM orders.lines WHERE sku = 'SET-01'`,
	"unpaid":       `SELECT id::text FROM orders.orders WHERE status = 'payment_failed'`,
	"accepted":     `SELECT order_id::text FROM orders.history WHERE trigger = 'accept'`,
	"lost":         `SELECT id::text FROM orders.orders WHERE status = 'refunded'`,
	"attention":    `SELECT id::text FROM orders.orders WHERE status = 'needs_attention'`,
	"reservation":  `SELECT reservation_id::text FROM orders.orders WHERE id = '{delivered}'`,
	"payment":      `SELECT payment_id::text FROM orders.orders WHERE id = '{delivered}'`,
	"voided":       `SELECT payment_id::text FROM orders.orders WHERE id = '{cancelled}'`,
	"refused":      `SELECT payment_id::text FROM orders.orders WHERE id = '{unpaid}'`,
	"refund":       `SELECT id::text FROM orders.refunds WHERE order_id = '{delivered}'`,
	"capture":      `SELECT key FROM payments.provider_calls WHERE payment_id = '{payment}' AND operation = 'capture'`,
	"event":        `SELECT message_id::text FROM messaging.log_orders WHERE order_id = '{delivered}' AND kind = 'orders.order_delivered'`,
	"answer":       `SELECT message_id::text FROM messaging.log_payments WHERE order_id = '{delivered}' AND kind = 'payments.payment_captured'`,
	"command":      `SELECT message_id::text FROM messaging.inbox_inventory WHERE order_id = '{delivered}' AND kind = 'inventory.fulfil_order'`,
	"notification": `SELECT id::text FROM notifications.notifications WHERE order_id = '{delivered}' AND kind = 'orders.order_shipped' AND channel = 'email'`,
	"hook":         `SELECT id::text FROM notifications.notifications WHERE order_id = '{delivered}' AND kind = 'orders.order_shipped' AND channel = 'webhook'`,
	"mailed":       `SELECT message_id::text FROM messaging.inbox_notifications WHERE consumer = 'notifications_send' AND order_id = '{delivered}' ORDER BY message_id LIMIT 1`,
}

var plants = []plant{
	{check: "orders/promised", subject: "order {rejected}", sql: []string{`DELETE FROM orders.orders WHERE id = '{rejected}'`},
		also: []string{"messages/sent", "notifications/of-events", "stock/orders-own"}},
	{check: "orders/promised", subject: "order {rejected}", sql: []string{`UPDATE orders.idempotency_keys SET body = replace(convert_from(body, 'UTF8'), '{rejected}', '{delivered}')::bytea WHERE order_id = '{rejected}'`}},
	{check: "orders/one-per-key", subject: "order {delivered}", sql: []string{`DELETE FROM orders.idempotency_keys WHERE order_id = '{delivered}'`}},
	{check: "orders/one-per-key", subject: "order {delivered}", sql: []string{`UPDATE orders.idempotency_keys SET action = 'place' WHERE order_id = '{delivered}'`}},
	{check: "orders/one-per-key", subject: "order {rejected}", sql: []string{`UPDATE orders.idempotency_keys SET order_id = '{rejected}', body = replace(convert_from(body, 'UTF8'), '{unpaid}', '{rejected}')::bytea WHERE order_id = '{unpaid}'`}},
	{check: "orders/one-per-key", subject: "key twice", lax: "orders.idempotency_keys",
		sql: []string{`UPDATE orders.idempotency_keys SET key = 'twice' WHERE order_id IN ('{rejected}', '{unpaid}')`}},

	{check: "orders/history", subject: "order {delivered}", sql: []string{`DELETE FROM orders.history WHERE order_id = '{delivered}' AND version = 3`},
		also: []string{"orders/state"}},
	{check: "orders/history", subject: "order {delivered}", sql: []string{`UPDATE orders.history SET from_status = 'authorizing', trigger = 'payments.payment_authorized', status = 'confirmed' WHERE order_id = '{delivered}' AND version = 2`},
		also: []string{"messages/steps"}},
	{check: "orders/history", subject: "order {delivered}", sql: []string{`UPDATE orders.history SET at = at - interval '1 hour' WHERE order_id = '{delivered}' AND version = 4`}},
	{check: "orders/legal", subject: "order {delivered}", sql: []string{`UPDATE orders.history SET trigger = 'payments.payment_voided' WHERE order_id = '{delivered}' AND version = 3`}},
	{check: "orders/resumed", subject: "order {cancelled}", lax: "orders.orders", sql: []string{
		`UPDATE orders.orders SET status = 'expired' WHERE id = '{cancelled}'`,
		`UPDATE orders.history SET status = 'expired' WHERE order_id = '{cancelled}' AND status = 'cancelled'`},
		also: []string{"messages/steps"}},
	{check: "orders/state", subject: "order {unpaid}", sql: []string{`UPDATE orders.orders SET version = version + 1 WHERE id = '{unpaid}'`},
		also: []string{"messages/told-once"}},
	{check: "orders/state", subject: "order {unpaid}", sql: []string{`UPDATE orders.orders SET reason_code = 'other' WHERE id = '{unpaid}'`}},
	{check: "orders/state", subject: "order {unpaid}", lax: "orders.orders", sql: []string{`UPDATE orders.orders SET status = 'awaiting_customer' WHERE id = '{unpaid}'`}},
	{check: "orders/total", subject: "order {unpaid}", sql: []string{`UPDATE orders.orders SET total_minor = total_minor + 1 WHERE id = '{unpaid}'`}},
	{check: "orders/total", subject: "order {unpaid}", sql: []string{`DELETE FROM orders.lines WHERE order_id = '{unpaid}' AND sku = 'FILTER-01'`},
		also: []string{"stock/orders-own"}},
	{check: "orders/woken", subject: "order {unpaid}", sql: []string{`UPDATE orders.orders SET deadline = NULL WHERE id = '{unpaid}'`}},
	{check: "orders/woken", subject: "order {rejected}", lax: "orders.orders", sql: []string{`UPDATE orders.orders SET deadline = now() WHERE id = '{rejected}'`}},
	{check: "orders/audited", subject: "order {accepted}", sql: []string{`DELETE FROM orders.audit WHERE order_id = '{accepted}'`}},
	{check: "orders/audited", subject: "order {unpaid}", sql: []string{`INSERT INTO orders.audit (actor, role, action, order_id, reason, request_id) VALUES ('eve', 'operator', 'cancel', '{unpaid}', 'x', 'x')`}},
	{check: "orders/at-rest", subject: "order {unpaid}", sql: []string{
		`UPDATE orders.orders SET status = 'authorizing' WHERE id = '{unpaid}'`,
		`UPDATE orders.history SET status = 'authorizing', from_status = 'authorizing', trigger = 'pay' WHERE order_id = '{unpaid}' AND status = 'payment_failed'`},
		also: []string{"orders/legal"}},
	{check: "orders/refunds", subject: "order {delivered}", sql: []string{`UPDATE orders.refunds SET amount_minor = amount_minor - 1 WHERE order_id = '{delivered}'`},
		also: []string{"money/order", "money/refunds"}},
	{check: "orders/refunds", subject: "order {accepted}", sql: []string{`UPDATE orders.lines SET refunded = refunded + 1 WHERE order_id = '{accepted}' AND sku = 'BOWL-01'`},
		also: []string{"money/kept", "money/order"}},
	{check: "orders/returns", subject: "order {delivered}", sql: []string{`UPDATE orders.lines SET returned = 1 WHERE order_id = '{delivered}' AND sku = 'TOWEL-01'`}},
	{check: "orders/returns", subject: "order {delivered}", sql: []string{`UPDATE orders.refunds SET id = gen_random_uuid() WHERE order_id = '{delivered}'`},
		also: []string{"money/refunds"}},
	{check: "orders/refunds-told", subject: "order {delivered}", sql: []string{`UPDATE orders.refunds SET told_in = 0 WHERE order_id = '{delivered}'`}},

	{check: "money/order", subject: "order {delivered}", sql: []string{`UPDATE payments.ledger SET amount_minor = amount_minor + 1 WHERE order_id = '{delivered}' AND kind = 'capture'`},
		also: []string{"books/ours", "money/attempts", "money/kept"}},
	{check: "money/order", subject: "order {unpaid}", sql: []string{`UPDATE payments.ledger SET order_id = '{unpaid}' WHERE order_id = '{paid}'`},
		also: []string{"books/ours", "money/kept"}},
	{check: "money/kept", subject: "order {delivered}", sql: []string{
		`DELETE FROM payments.ledger WHERE refund_id = '{refund}'`},
		also: []string{"books/theirs", "money/order", "money/refunds"}},
	{check: "money/one-capture", subject: "order {delivered}", lax: "payments.ledger", sql: []string{
		`INSERT INTO payments.ledger (kind, provider_ref, payment_id, attempt, order_id, amount_minor, currency, requested_at) SELECT kind, provider_ref || 'x', payment_id, attempt + 1, order_id, amount_minor, currency, requested_at FROM payments.ledger WHERE order_id = '{delivered}' AND kind = 'capture'`},
		also: []string{"books/ours", "money/kept", "money/order"}},
	{check: "money/orders-own", subject: "payment {payment}", sql: []string{`UPDATE payments.payments SET customer_id = 'eve' WHERE id = '{payment}'`}},
	{check: "money/orders-own", subject: "payment {refused}", sql: []string{`UPDATE payments.attempts SET attempt = 2 WHERE payment_id = '{refused}'`, `UPDATE payments.provider_calls SET attempt = 2 WHERE payment_id = '{refused}'`}},
	{check: "money/attempts", subject: "payment {refused}", lax: "payments.attempts", sql: []string{`UPDATE payments.attempts SET status = 'authorized', provider_ref = 'x' WHERE payment_id = '{refused}'`},
		also: []string{"books/set-aside", "money/set-aside"}},
	{check: "money/attempts", subject: "payment {payment}", sql: []string{`UPDATE payments.attempts SET captured_minor = captured_minor - 1 WHERE payment_id = '{payment}'`}},
	{check: "money/refunds", subject: "order {delivered}", sql: []string{`UPDATE payments.refunds SET status = 'failed', reason_code = 'x' WHERE id = '{refund}'`}},
	{check: "money/refunds", subject: "order {delivered}", sql: []string{`UPDATE payments.refunds SET amount_minor = amount_minor + 1 WHERE id = '{refund}'`, `UPDATE payments.ledger SET amount_minor = amount_minor + 1 WHERE refund_id = '{refund}'`, `UPDATE payments.provider_calls SET amount_minor = amount_minor + 1 WHERE refund_id = '{refund}'`, `UPDATE paysim.operations SET amount_minor = amount_minor + 1 WHERE refund_id IS NOT NULL AND reference = '{delivered}'`},
		also: []string{"money/kept", "money/order"}},
	{check: "money/set-aside", subject: "order {cancelled}", lax: "payments.attempts", sql: []string{`UPDATE payments.attempts SET status = 'authorized' WHERE payment_id = '{voided}'`},
		also: []string{"books/set-aside"}},
	{check: "money/answered", subject: "order {unpaid}", lax: "payments.attempts", sql: []string{
		`UPDATE payments.provider_calls SET answered_at = NULL, outcome = NULL WHERE payment_id = '{refused}'`,
		`UPDATE payments.attempts SET status = 'unknown', reason_code = NULL WHERE payment_id = '{refused}'`}},

	{check: "books/intent", subject: "order {delivered}", sql: []string{`DELETE FROM payments.provider_calls WHERE payment_id = '{payment}' AND operation = 'authorize'`},
		also: []string{"money/attempts"}},
	{check: "books/intent", subject: "order {delivered}", sql: []string{`UPDATE payments.provider_calls SET amount_minor = 1 WHERE payment_id = '{payment}' AND operation = 'authorize'`}},
	{check: "books/one-capture", subject: "order {delivered}", lax: "paysim.operations", sql: []string{
		`INSERT INTO paysim.operations (key, kind, authorization_id, reference, amount_minor, currency, status) SELECT key || ':2', kind, gen_random_uuid(), reference, amount_minor, currency, status FROM paysim.operations WHERE key = '{capture}'`},
		also: []string{"books/intent", "books/theirs"}},
	{check: "books/one-capture", subject: "key {capture}", lax: "paysim.operations", sql: []string{
		`INSERT INTO paysim.operations (key, kind, authorization_id, reference, amount_minor, currency, status) SELECT key, kind, authorization_id, reference, amount_minor, currency, status FROM paysim.operations WHERE key = '{capture}'`}},
	{check: "books/ours", subject: "order {delivered}", sql: []string{`DELETE FROM paysim.operations WHERE key = '{capture}'`},
		also: []string{"books/open"}},
	{check: "books/ours", subject: "order {delivered}", sql: []string{`UPDATE paysim.operations SET amount_minor = amount_minor - 1 WHERE key = '{capture}'`},
		also: []string{"books/intent"}},
	{check: "books/theirs", subject: "order {delivered}", sql: []string{`DELETE FROM payments.ledger WHERE order_id = '{delivered}' AND kind = 'capture'`},
		also: []string{"money/attempts", "money/kept", "money/order", "money/refunds"}},
	{check: "books/open", subject: "order {cancelled}", sql: []string{`DELETE FROM paysim.operations WHERE reference = '{cancelled}' AND kind = 'void'`}},
	{check: "books/open", subject: "order {unpaid}", sql: []string{
		`UPDATE paysim.operations SET status = 'succeeded' WHERE reference = '{unpaid}'`}},
	{check: "books/set-aside", subject: "order {cancelled}", lax: "orders.orders", sql: []string{
		`UPDATE payments.attempts SET status = 'authorized' WHERE payment_id = '{voided}'`},
		also: []string{"money/set-aside"}},

	{check: "stock/adds-up", subject: "SKU MUG-01", lax: "inventory.stock", sql: []string{`UPDATE inventory.stock SET initial = initial + 1 WHERE sku = 'MUG-01'`},
		also: []string{"stock/ledger"}},
	{check: "stock/adds-up", subject: "SKU SET-01", lax: "inventory.stock", sql: []string{`UPDATE inventory.stock SET available = available - 1, sold = sold + 1 WHERE sku = 'SET-01'`},
		also: []string{"stock/ledger", "stock/reservations"}},
	{check: "stock/ledger", subject: "SKU MUG-01", sql: []string{`UPDATE inventory.stock SET restocked = restocked + 1, available = available + 1 WHERE sku = 'MUG-01'`}},
	{check: "stock/ledger", subject: "SKU GHOST-01", sql: []string{`INSERT INTO inventory.stock_moves (sku, what, initial, available, at) VALUES ('GHOST-01', 'stocked', 1, 1, now())`}},
	{check: "stock/reservations", subject: "SKU TOWEL-01", sql: []string{
		`UPDATE inventory.stock SET available = available - 1, sold = sold + 1 WHERE sku = 'TOWEL-01'`,
		`INSERT INTO inventory.stock_moves (sku, what, available, sold, at) VALUES ('TOWEL-01', 'shipped', -1, 1, now())`}},
	{check: "stock/moves", subject: "order {delivered}", sql: []string{`UPDATE inventory.stock_moves SET order_id = NULL WHERE order_id = '{delivered}' AND sku = 'TOWEL-01' AND what = 'shipped'`}},
	{check: "stock/moves", subject: "order {delivered}", sql: []string{`UPDATE inventory.stock_moves SET order_id = NULL WHERE order_id = '{delivered}' AND sku = 'TOWEL-01'`}},
	{check: "stock/orders-own", subject: "reservation {reservation}", sql: []string{`UPDATE inventory.reservations SET order_id = gen_random_uuid() WHERE id = '{reservation}'`},
		also: []string{"stock/moves"}},
	{check: "stock/orders-own", subject: "reservation {reservation}", sql: []string{`UPDATE orders.lines SET sku = 'MUG-01' WHERE order_id = '{delivered}' AND sku = 'FILTER-01'`},
		also: []string{"stock/lines"}},
	{check: "stock/lines", subject: "order {completed}", sql: []string{
		`UPDATE orders.lines SET short = 0, missing = 1 WHERE order_id = '{completed}' AND sku = 'MUG-02'`,
		`UPDATE orders.history SET trigger = 'accept', status = 'authorizing', from_status = 'awaiting_customer' WHERE order_id = '{completed}' AND version = 2`},
		also: []string{"orders/history"}},
	{check: "stock/ended", subject: "order {cancelled}", sql: []string{
		`UPDATE inventory.reservations SET status = 'held', next_at = 'infinity' WHERE order_id = '{cancelled}'`,
		`UPDATE inventory.stock SET available = available - 1, reserved = reserved + 1 WHERE sku IN ('POT-01', 'FILTER-01')`,
		`DELETE FROM inventory.stock_moves WHERE order_id = '{cancelled}' AND what = 'released'`}},
	{check: "stock/steps", subject: "order {delivered}", sql: []string{`UPDATE inventory.reservations SET status = 'shipped', next_at = 'infinity' WHERE id = '{reservation}'`}},
	{check: "stock/steps", subject: "order {rejected}", sql: []string{`UPDATE inventory.reservations SET status = 'shipped', tracking = 'x', next_at = 'infinity' WHERE order_id = '{rejected}'`}},
	{check: "stock/returns", subject: "order {delivered}", sql: []string{`UPDATE inventory.return_lines SET quantity = 1 WHERE return_id = '{refund}'`}},
	{check: "stock/returns", subject: "reservation {reservation}", sql: []string{`UPDATE inventory.reservation_lines SET returned = 1 WHERE reservation_id = '{reservation}' AND sku = 'FILTER-01'`},
		also: []string{"stock/moves", "stock/reservations"}},
	{check: "stock/catalogue", subject: "SKU MUG-01", sql: []string{`UPDATE orders.products SET price_minor = price_minor + 1 WHERE sku = 'MUG-01'`}},

	{check: "messages/events", subject: "message {answer}", sql: []string{`DELETE FROM messaging.inbox_orders WHERE message_id = '{answer}'`},
		also: []string{"messages/caused"}},
	{check: "messages/events", subject: "message {event}", sql: []string{
		`DELETE FROM messaging.inbox_notifications WHERE message_id = '{event}'`,
		`DELETE FROM notifications.notifications WHERE message_id = '{event}'`},
		also: []string{"messages/caused"}},
	{check: "messages/once", subject: "message {answer}", sql: []string{`UPDATE messaging.inbox_orders SET run = 7 WHERE message_id = '{answer}'`}},
	{check: "messages/sent", subject: "message {event}", sql: []string{`DELETE FROM messaging.log_orders WHERE message_id = '{event}'`},
		also: []string{"messages/steps"}},
	{check: "messages/sent", subject: "message {command}", sql: []string{
		`UPDATE messaging.inbox_inventory SET order_id = '00000000-0000-7000-8000-000000000001' WHERE message_id = '{command}'`},
		also: []string{"messages/steps"}},
	{check: "messages/caused", subject: "message {command}", sql: []string{`UPDATE messaging.inbox_inventory SET causation_id = gen_random_uuid() WHERE message_id = '{command}'`}},
	{check: "messages/steps", subject: "order {delivered}", sql: []string{`DELETE FROM messaging.inbox_inventory WHERE message_id = '{command}'`},
		also: []string{"messages/caused"}},
	{check: "messages/steps", subject: "order {delivered}", sql: []string{
		`DELETE FROM messaging.log_orders WHERE message_id = '{event}'`,
		`DELETE FROM messaging.inbox_notifications WHERE message_id = '{event}'`,
		`DELETE FROM notifications.notifications WHERE message_id = '{event}'`},
		also: []string{"messages/caused"}},
	{check: "messages/told-once", subject: "order {delivered}", sql: []string{
		`INSERT INTO messaging.log_orders (message_id, kind, schema_version, lane, class, order_id, occurred_at, payload) SELECT gen_random_uuid(), kind, schema_version, lane, class, order_id, occurred_at, payload FROM messaging.log_orders WHERE order_id = '{delivered}' AND kind = 'orders.order_status_changed' LIMIT 1`}},
	{check: "messages/dead", subject: "message 00000000-0000-7000-8000-000000000002", sql: []string{
		`INSERT INTO messaging.queue_payments (message_id, kind, payload, dead_reason) VALUES ('00000000-0000-7000-8000-000000000002', 'payments.void_payment', '', ' ')`}},
	{check: "messages/dead", subject: "message 00000000-0000-7000-8000-000000000002", sql: []string{
		`INSERT INTO messaging.outbox_orders (message_id, kind, payload, dead_reason) VALUES ('00000000-0000-7000-8000-000000000002', 'payments.void_payment', '', '')`}},
	{check: "messages/handled", subject: "message 00000000-0000-7000-8000-000000000002", sql: []string{
		`INSERT INTO messaging.queue_payments (message_id, kind, payload) VALUES ('00000000-0000-7000-8000-000000000002', 'payments.void_payment', '')`}},
	{check: "messages/handled", subject: "message 00000000-0000-7000-8000-000000000002", sql: []string{
		`INSERT INTO messaging.outbox_inventory (message_id, kind, payload) VALUES ('00000000-0000-7000-8000-000000000002', 'inventory.stock_released', '')`}},
	{check: "messages/live", subject: "queue orders", sql: []string{`UPDATE messaging.routes SET live = false WHERE kind = 'payments.payment_captured'`}},
	{check: "messages/live", subject: "queue payments", sql: []string{`UPDATE messaging.queues SET paused_at = now() WHERE name = 'payments'`}},

	{check: "notifications/one", subject: "order {delivered}", sql: []string{`DELETE FROM notifications.notifications WHERE message_id = '{event}' AND channel = 'inbox'`}},
	{check: "notifications/one", subject: "order {delivered}", lax: "notifications.notifications", sql: []string{
		`INSERT INTO notifications.notifications SELECT (jsonb_populate_record(n, '{"id": "00000000-0000-7000-8000-000000000003"}')).* FROM notifications.notifications n WHERE id = '{notification}'`,
		`INSERT INTO notifications.attempts (notification_id, outcome, duration_ms) VALUES ('00000000-0000-7000-8000-000000000003', 'sent', 1)`}},
	{check: "notifications/of-events", subject: "order {delivered}", sql: []string{`UPDATE notifications.notifications SET customer_id = 'eve' WHERE id = '{notification}'`}},
	{check: "notifications/of-events", subject: "order {delivered}", sql: []string{`UPDATE notifications.notifications SET message_id = gen_random_uuid() WHERE id = '{notification}'`}},
	{check: "notifications/settled", subject: "order {delivered}", sql: []string{`DELETE FROM notifications.attempts WHERE notification_id = '{notification}'`}},
	{check: "notifications/settled", subject: "order {delivered}", sql: []string{`INSERT INTO notifications.attempts (notification_id, outcome, duration_ms) SELECT notification_id, outcome, duration_ms FROM notifications.attempts WHERE notification_id = '{notification}'`}},
	{check: "notifications/settled", subject: "order {delivered}", sql: []string{`UPDATE notifications.notifications SET status = 'failed', reason_code = 'x' WHERE id = '{notification}'`}},
	{check: "notifications/webhooks", subject: "order {delivered}", sql: []string{`UPDATE notifications.notifications SET status = 'pending' WHERE id = '{hook}'`}},
	{check: "notifications/webhooks", subject: "order {delivered}", sql: []string{`DELETE FROM notifications.deliveries WHERE notification_id = '{hook}'`}},
	{check: "notifications/on-their-way", subject: "order {delivered}", sql: []string{
		`UPDATE notifications.notifications SET status = 'pending' WHERE id = '{notification}'`,
		`DELETE FROM notifications.attempts WHERE notification_id = '{notification}'`},
		also: []string{"notifications/sent"}},
	{check: "notifications/sent", subject: "order {delivered}", sql: []string{`UPDATE notifications.deliveries SET status = 'waiting', due = now() - interval '1 minute' WHERE notification_id = '{hook}'`}},
	{check: "notifications/sent", subject: "order {delivered}", sql: []string{
		`UPDATE notifications.notifications SET status = 'pending' WHERE id = '{notification}'`,
		`DELETE FROM notifications.attempts WHERE notification_id = '{notification}'`,
		`INSERT INTO messaging.queue_notifications_send (message_id, kind, order_id, payload) SELECT '00000000-0000-7000-8000-000000000002', kind, order_id, payload FROM messaging.inbox_notifications WHERE kind = 'notifications.send_notification' AND convert_from(payload, 'UTF8') LIKE '%{notification}%'`},
		also: []string{"messages/handled"}},
}

// plantAll puts each of the plants into db, a clean shop's, in a transaction that
// is rolled back: the checks named, and no others, have to find it.
func plantAll(t *testing.T, db *messagingtest.DB) {
	t.Helper()
	// One connection, so that each check is planned once.
	conn, err := db.Admin.Connx(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	}()
	fill := fillIn(t, conn)
	planted := map[string]int{}
	for _, p := range plants {
		if !slices.ContainsFunc(Checks(), func(c Check) bool { return c.Name == p.check }) {
			t.Errorf("there is no check %s", p.check)
		}
		planted[p.check]++
		found := p.findings(t, conn, fill)
		want := append([]string{p.check}, p.also...)
		slices.Sort(want)
		if got := slices.Sorted(maps.Keys(found)); !slices.Equal(got, want) {
			t.Errorf("%s\nfound by %v, want %v", strings.Join(p.sql, ";\n"), got, want)
			for _, c := range got {
				t.Logf("%s: %v", c, found[c])
			}
		}
		subject := fill(p.subject)
		if !slices.ContainsFunc(found[p.check], func(f Finding) bool { return f.Subject == subject && f.What != "" }) {
			t.Errorf("%s\n%s names %v, want %s", strings.Join(p.sql, ";\n"), p.check, found[p.check], subject)
		}
	}
	for _, c := range Checks() {
		if planted[c.Name] == 0 {
			t.Errorf("nothing was planted for %s", c.Name)
		}
	}
	t.Logf("%d checks, %d plants, each found", len(Checks()), len(plants))
}

// fillIn returns what puts the targets in conn's shop in place of their words.
func fillIn(t *testing.T, conn *sqlx.Conn) func(string) string {
	t.Helper()
	known := map[string]string{}
	fill := func(s string) string {
		for name, id := range known {
			s = strings.ReplaceAll(s, "{"+name+"}", id)
		}
		return s
	}
	for len(known) < len(targets) {
		before := len(known)
		for name, query := range targets {
			query = fill(query)
			if known[name] != "" || strings.Contains(query, "'{") {
				continue
			}
			var id string
			if err := conn.GetContext(t.Context(), &id, query); err != nil {
				t.Fatalf("find the %s one: %v", name, err)
			}
			known[name] = id
		}
		if len(known) == before {
			t.Fatal("targets go round in circles")
		}
	}
	return fill
}

// findings are what all checks find once p is planted, by check.
func (p plant) findings(t *testing.T, conn *sqlx.Conn, fill func(string) string) map[string][]Finding {
	t.Helper()
	tx, err := conn.BeginTxx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := tx.Rollback(); err != nil {
			t.Error(err)
		}
	}()
	if _, err := tx.Exec(`SET LOCAL session_replication_role = replica`); err != nil {
		t.Fatal(err)
	}
	if p.lax != "" {
		if _, err := tx.Exec(fmt.Sprintf(laxly, p.lax)); err != nil {
			t.Fatalf("let everything into %s: %v", p.lax, err)
		}
	}
	for _, sql := range p.sql {
		res, err := tx.Exec(fill(sql))
		if err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
		if n, err := res.RowsAffected(); n == 0 || err != nil {
			t.Errorf("%s: %d rows, %v: nothing is planted", fill(sql), n, err)
		}
	}
	report, err := check(t.Context(), tx, &books{here: true}, Options{Rest: true})
	if err != nil {
		t.Errorf("%s: %v", strings.Join(p.sql, ";\n"), err)
	}
	found := map[string][]Finding{}
	for _, r := range report.Results {
		if r.Found > 0 {
			found[r.Name] = r.First
		}
	}
	return found
}

// laxly drops the constraints and unique indexes of a table, and its key if that has
// more than one column.
const laxly = `
	DO $do$
	DECLARE
		thing record;
	BEGIN
		FOR thing IN SELECT conname FROM pg_constraint WHERE conrelid = '%[1]s'::regclass AND (contype IN ('c', 'u') OR contype = 'p' AND array_length(conkey, 1) > 1) LOOP
			EXECUTE format('ALTER TABLE %[1]s DROP CONSTRAINT %%I CASCADE', thing.conname);
		END LOOP;
		FOR thing IN SELECT indexrelid::regclass AS name FROM pg_index WHERE indrelid = '%[1]s'::regclass AND indisunique AND NOT indisprimary LOOP
			EXECUTE format('DROP INDEX %%s', thing.name);
		END LOOP;
	END
	$do$`
