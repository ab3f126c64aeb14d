package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
)

// healLimit is how long after the last fault everything must have come to rest.
const healLimit = 60 * time.Second

// atRest are the statuses in which an order waits for nobody but its customer.
const atRest = `('delivered', 'cancelled', 'rejected', 'expired', 'payment_failed')`

// rule is something that must hold in a shop at rest. Its query returns a line
// of text for everything that breaks it.
type rule struct{ name, query string }

// ordersRest and messagesRest are waited for; the other rules hold then.
var ordersRest = rule{"every order has ended or waits for its customer", `
	SELECT format('order %s is still %s (version %s)', id, status, version)
	FROM orders.orders
	WHERE status NOT IN ` + atRest}

// rules are those whose tables have fixed names.
var rules = []rule{
	ordersRest,
	{"an order's history is without gaps, each entry follows the one before", `
		SELECT format('order %s: entry %s (%s) comes from %s after %s', order_id, version, status, from_status, before)
		FROM (SELECT *, row_number() OVER w AS n, lag(status, 1, '') OVER w AS before
		      FROM orders.history WINDOW w AS (PARTITION BY order_id ORDER BY version)) h
		WHERE version <> n OR from_status <> before`},
	{"an order is what its last entry says", `
		SELECT format('order %s is %s (version %s), its last entry is %s (version %s)', o.id, o.status, o.version, h.status, h.version)
		FROM orders.orders o
		LEFT JOIN LATERAL (SELECT status, version FROM orders.history WHERE order_id = o.id ORDER BY version DESC LIMIT 1) h ON true
		WHERE h.version IS DISTINCT FROM o.version OR h.status IS DISTINCT FROM o.status`},
	{"there is one order for each key of each caller", `
		SELECT format('order %s has %s keys', o.id, count(k.key))
		FROM orders.orders o
		LEFT JOIN orders.idempotency_keys k ON k.order_id = o.id AND k.caller = o.customer_id AND k.action = 'place'
		GROUP BY o.id HAVING count(k.key) <> 1`},
	{"the provider has taken the price of every delivered order once, and nothing for others", `
		SELECT format('order %s is %s, costs %s; captured: %s, in all %s', o.id, o.status, o.total_minor, coalesce(c.n, 0), coalesce(c.taken, 0))
		FROM orders.orders o
		LEFT JOIN (SELECT reference, count(*) AS n, sum(amount_minor) AS taken
		           FROM paysim.operations WHERE kind = 'capture' AND status = 'succeeded' GROUP BY reference) c ON c.reference = o.id::text
		WHERE o.status IN ` + atRest + `
		  AND CASE WHEN o.status = 'delivered' THEN (c.n, c.taken) IS DISTINCT FROM (1::bigint, o.total_minor::numeric) ELSE c.n > 0 END`},
	{"nothing is left authorized at the provider", `
		SELECT format('authorization %s of order %s is open', id, reference)
		FROM paysim.authorizations
		WHERE status = 'authorized'`},
	{"the provider was asked for nothing but orders' money, each time with the intent recorded", `
		SELECT format('%s %s of %s under key %s: order %s, intent %s', p.kind, p.status, p.reference, p.key,
		              CASE WHEN o.id IS NULL THEN 'unknown' ELSE 'known' END, coalesce(c.outcome, 'unrecorded or unanswered'))
		FROM paysim.operations p
		LEFT JOIN orders.orders o ON o.id::text = p.reference
		LEFT JOIN payments.provider_calls c ON c.key = p.key
		WHERE o.id IS NULL OR c.answered_at IS NULL`},
	{"our ledger is the provider's books", `
		SELECT format('authorization %s: our ledger has %s, the books %s', coalesce(a.provider_ref, b.ref), coalesce(a.captured_minor, 0), coalesce(b.taken, 0))
		FROM (SELECT provider_ref, captured_minor FROM payments.attempts WHERE status = 'captured') a
		FULL JOIN (SELECT authorization_id::text AS ref, sum(amount_minor) AS taken
		           FROM paysim.operations WHERE kind = 'capture' AND status = 'succeeded' GROUP BY 1) b ON b.ref = a.provider_ref
		WHERE a.captured_minor::numeric IS DISTINCT FROM b.taken`},
	{"stock adds up", `
		SELECT format('%s: initial %s + restocked %s, available %s + reserved %s + sold %s + written off %s', sku, initial, restocked, available, reserved, sold, written_off)
		FROM inventory.stock
		WHERE initial + restocked <> available + reserved + sold + written_off
		   OR least(available, reserved, sold, written_off) < 0`},
	{"every counter of the stock is the sum of its moves", `
		SELECT format('%s: available %s, moves say %s; reserved %s, moves %s; sold %s, moves %s; written off %s, moves %s',
		              s.sku, s.available, sum(m.available), s.reserved, sum(m.reserved), s.sold, sum(m.sold), s.written_off, sum(m.written_off))
		FROM inventory.stock s
		LEFT JOIN inventory.stock_moves m ON m.sku = s.sku
		GROUP BY s.sku
		HAVING (s.initial, s.restocked, s.available, s.reserved, s.sold, s.written_off) IS DISTINCT FROM
			(coalesce(sum(m.initial), 0), coalesce(sum(m.restocked), 0), coalesce(sum(m.available), 0),
			 coalesce(sum(m.reserved), 0), coalesce(sum(m.sold), 0), coalesce(sum(m.written_off), 0))`},
	{"what is reserved is held for orders that wait for their customer", `
		SELECT format('%s: reserved %s, waiting orders hold %s', s.sku, s.reserved, coalesce(h.held, 0))
		FROM inventory.stock s
		LEFT JOIN (SELECT l.sku, sum(l.quantity - l.written_off) AS held
		           FROM orders.orders o
		           JOIN inventory.reservations r ON r.id = o.reservation_id AND r.status IN ('held', 'picking', 'packed')
		           JOIN inventory.reservation_lines l ON l.reservation_id = r.id
		           WHERE o.status = 'payment_failed' GROUP BY l.sku) h ON h.sku = s.sku
		WHERE s.reserved <> coalesce(h.held, 0)`},
	{"what is sold is in delivered orders", `
		SELECT format('%s: sold %s, delivered %s', s.sku, s.sold, coalesce(d.delivered, 0))
		FROM inventory.stock s
		LEFT JOIN (SELECT l.sku, sum(l.quantity) AS delivered
		           FROM orders.orders o JOIN orders.lines l ON l.order_id = o.id
		           WHERE o.status = 'delivered' GROUP BY l.sku) d ON d.sku = s.sku
		WHERE s.sold <> coalesce(d.delivered, 0)`},
	{"customers are told of every event by each channel once", `
		SELECT format('%s of order %s (message %s): %s notifications', e.kind, e.order_id, e.message_id, count(n.id))
		FROM messaging.log_orders e
		JOIN messaging.routes r ON r.kind = e.kind AND r.queue = 'notifications'
		LEFT JOIN notifications.notifications n ON n.message_id = e.message_id AND n.channel = 'inbox'
		GROUP BY e.kind, e.order_id, e.message_id HAVING count(n.id) <> 1
		UNION ALL
		SELECT format('notification %s of order %s is of no event', n.id, n.order_id)
		FROM notifications.notifications n
		WHERE NOT EXISTS (SELECT FROM messaging.log_orders e WHERE e.message_id = n.message_id)`},
}

// messagesRest says that nothing is under way. Its query is put together from
// the tables that there are.
func messagesRest(queues, outboxes []string) rule {
	var parts []string
	for _, q := range queues {
		parts = append(parts, `
			SELECT format('queue `+q+`: %s of order %s, sent by %s, attempts %s, crashes %s, dead: %s, last error: %s',
			              kind, order_id, producer, attempts, crashes, coalesce(dead_reason, 'no'), coalesce(last_error, 'none'))
			FROM messaging.`+q)
	}
	for _, o := range outboxes {
		parts = append(parts, `
			SELECT format('outbox `+o+`: %s of order %s, dead: %s', kind, order_id, coalesce(dead_reason, 'no'))
			FROM messaging.`+o)
	}
	return rule{"queues and outboxes are empty, without dead letters", strings.Join(parts, " UNION ALL ")}
}

// eventsHandled says that each event was handled by each of its subscribers.
func eventsHandled(logs, inboxes []string) rule {
	all := func(columns string, tables []string) string {
		var parts []string
		for _, t := range tables {
			parts = append(parts, `SELECT `+columns+` FROM messaging.`+t)
		}
		return strings.Join(parts, ` UNION ALL `)
	}
	return rule{"every subscriber has handled every event once", `
		SELECT format('%s of order %s (message %s) was handled %s times from queue %s', e.kind, e.order_id, e.message_id, count(i.message_id), r.queue)
		FROM (` + all(`message_id, kind, order_id`, logs) + `) e
		JOIN messaging.routes r ON r.kind = e.kind AND r.live
		LEFT JOIN (` + all(`message_id, consumer`, inboxes) + `) i ON i.message_id = e.message_id AND i.consumer = r.queue
		GROUP BY e.kind, e.order_id, e.message_id, r.queue HAVING count(i.message_id) <> 1`}
}

// tablesLike lists the messaging layer's tables with the prefix, partitions apart.
func tablesLike(ctx context.Context, db sqlx.QueryerContext, prefix string) ([]string, error) {
	var list []string
	err := sqlx.SelectContext(ctx, db, &list, `
		SELECT c.relname
		FROM pg_class c
		WHERE c.relnamespace = 'messaging'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition AND starts_with(c.relname, $1)
		ORDER BY 1`, prefix)
	if err != nil {
		return nil, fmt.Errorf("list the tables %s…: %w", prefix, err)
	}
	return list, nil
}

// allRules are the rules for the database db.
func allRules(ctx context.Context, db sqlx.QueryerContext) ([]rule, error) {
	tables := map[string][]string{}
	for _, prefix := range []string{"queue_", "outbox_", "log_", "inbox_"} {
		list, err := tablesLike(ctx, db, prefix)
		if err != nil {
			return nil, err
		}
		if len(list) == 0 {
			return nil, fmt.Errorf("there are no tables messaging.%s…", prefix)
		}
		tables[prefix] = list
	}
	return append([]rule{
		messagesRest(tables["queue_"], tables["outbox_"]),
		eventsHandled(tables["log_"], tables["inbox_"]),
	}, rules...), nil
}

// broken returns what breaks r in db: the first few lines, and how many there
// are in all.
func (r rule) broken(ctx context.Context, db sqlx.QueryerContext) ([]string, error) {
	const shown = 10
	var list []string
	if err := sqlx.SelectContext(ctx, db, &list, r.query); err != nil {
		return nil, fmt.Errorf("%s: %w", r.name, err)
	}
	if n := len(list); n > shown {
		list = append(list[:shown], fmt.Sprintf("… %d in all", n))
	}
	return list, nil
}

// CheckShop waits until the shop on db has come to rest, for up to a minute, and
// checks what must hold then, whatever was done to it. placed are the ids of
// orders that customers were promised (2xx): each of them must be there.
func CheckShop(t testing.TB, db *sqlx.DB, placed ...string) {
	t.Helper()
	ctx, started := t.Context(), time.Now()
	all, err := allRules(ctx, db)
	if err != nil {
		t.Fatal(err)
	}
	for {
		var under []string
		for _, r := range []rule{ordersRest, all[0]} {
			list, err := r.broken(ctx, db)
			if err != nil {
				t.Fatal(err)
			}
			under = append(under, list...)
		}
		if len(under) == 0 {
			break
		}
		if time.Since(started) > healLimit {
			t.Errorf("after %s the shop is not at rest:\n    %s", healLimit, strings.Join(under, "\n    "))
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Logf("at rest after %s", since(started))
	for _, r := range all {
		list, err := r.broken(ctx, db)
		if err != nil {
			t.Fatal(err)
		}
		if len(list) > 0 {
			t.Errorf("broken: %s:\n    %s", r.name, strings.Join(list, "\n    "))
		}
	}
	var lost []string
	err = db.SelectContext(ctx, &lost, `
		SELECT id::text
		FROM unnest($1::uuid[]) AS promised (id)
		WHERE NOT EXISTS (SELECT FROM orders.orders o WHERE o.id = promised.id)`, placed)
	if err != nil {
		t.Fatalf("look for the promised orders: %v", err)
	}
	if len(lost) > 0 {
		t.Errorf("%d of %d promised orders don't exist: %v", len(lost), len(placed), lost)
	}
	tellOrders(t, db)
}

// CheckLoad checks that there are just as many orders as a load was promised.
func CheckLoad(t testing.TB, db *sqlx.DB, r LoadResult) {
	t.Helper()
	var n int
	if err := db.GetContext(t.Context(), &n, `SELECT count(*) FROM orders.orders WHERE customer_id = $1`, r.Customer); err != nil {
		t.Fatalf("count the load's orders: %v", err)
	}
	if n != r.Placed {
		t.Errorf("%d orders were promised to the load, %d exist", r.Placed, n)
	}
}

// tellOrders logs how the shop's orders stand.
func tellOrders(t testing.TB, db *sqlx.DB) {
	t.Helper()
	var list []string
	err := db.SelectContext(t.Context(), &list, `SELECT format('%s %s', count(*), status) FROM orders.orders GROUP BY status ORDER BY status`)
	if err != nil {
		t.Fatalf("count the orders: %v", err)
	}
	t.Logf("orders: %s", strings.Join(list, ", "))
}
