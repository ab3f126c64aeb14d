package verify

// together is why most of what is about one service's rows holds at every moment.
const together = "all of it is written by one transaction"

var orderChecks = []Check{
	{
		Name: "orders/promised", When: Always, Holds: together,
		Says: "every order that a caller was promised (2xx) is there",
		query: `
		SELECT 'order ' || k.order_id,
		       CASE WHEN o.id IS NULL THEN format('is not there; it was promised to %s under key %s', k.caller, k.key)
		            ELSE format('key %s of %s was answered with order %s', k.key, k.caller, convert_from(k.body, 'UTF8')::jsonb ->> 'id') END
		FROM orders.idempotency_keys k
		LEFT JOIN orders.orders o ON o.id = k.order_id
		WHERE k.status BETWEEN 200 AND 299
		  AND (o.id IS NULL OR convert_from(k.body, 'UTF8')::jsonb ->> 'id' IS DISTINCT FROM k.order_id::text)`,
	},
	{
		Name: "orders/one-per-key", When: Always, Holds: together,
		Says: "there is one order for each key that a caller placed one under, and one key for each order",
		query: `
		SELECT 'order ' || o.id, format('was placed under %s keys', count(k.key))
		FROM orders.orders o
		LEFT JOIN orders.idempotency_keys k ON k.order_id = o.id AND k.caller = o.customer_id AND k.action = 'place'
		GROUP BY o.id
		HAVING count(k.key) <> 1
		UNION ALL
		SELECT 'key ' || key, format('of %s was answered %s times', caller, count(*))
		FROM orders.idempotency_keys
		GROUP BY caller, key
		HAVING count(*) > 1`,
	},
	{
		Name: "orders/history", When: Always, Holds: together,
		Says: "an order's history has no gaps, and each row follows the one before, in time, too",
		query: `
		SELECT 'order ' || order_id, format('history row %s, version %s: from %s at %s, after %s at %s', n, version, coalesce(nullif(from_status, ''), '-'), at, coalesce(nullif(before, ''), '-'), before_at)
		FROM (SELECT order_id, version, from_status, status, at,
		             row_number() OVER w AS n, lag(status, 1, '') OVER w AS before, lag(at) OVER w AS before_at
		      FROM orders.history
		      WINDOW w AS (PARTITION BY order_id ORDER BY version)) h
		WHERE version <> n OR from_status <> before OR at < before_at`,
	},
	{
		Name: "orders/legal", When: Always, Holds: together,
		Says: "each row of an order's history is a move that the transition table allows",
		query: `
		SELECT 'order ' || h.order_id, format('version %s: %s -> %s on %s', h.version, coalesce(nullif(h.from_status, ''), '-'), h.status, h.trigger)
		FROM orders.history h
		WHERE NOT EXISTS (
			SELECT
			FROM moves m
			WHERE m.from_status = h.from_status AND m.trigger = h.trigger AND m.status = h.status)`,
	},
	{
		Name: "orders/resumed", When: Always, Holds: together,
		Says: "an order that needed attention is taken up where it was, and one being undone ends as it was begun to",
		query: `
		WITH h AS (
			SELECT order_id, version, from_status, status, trigger, lag(from_status) OVER w AS was
			FROM orders.history
			WINDOW w AS (PARTITION BY order_id ORDER BY version)
		), begun AS (
			SELECT DISTINCT ON (h.order_id) h.order_id, m.ends_as
			FROM orders.history h
			JOIN moves m ON m.from_status = h.from_status AND m.trigger = h.trigger AND m.status = h.status
			WHERE m.ends_as <> ''
			ORDER BY h.order_id, h.version DESC
		)
		SELECT 'order ' || order_id, format('version %s: taken up as %s, it was %s', version, status, was)
		FROM h
		WHERE from_status = 'needs_attention' AND trigger = 'operator_retry' AND status IS DISTINCT FROM was
		UNION ALL
		SELECT 'order ' || h.order_id, format('version %s: ends as %s, it was to end as %s', h.version, h.status, coalesce(b.ends_as, 'nothing'))
		FROM h
		LEFT JOIN begun b ON b.order_id = h.order_id
		WHERE h.from_status = 'compensating' AND h.status IN ('cancelled', 'rejected', 'expired') AND h.status IS DISTINCT FROM b.ends_as`,
	},
	{
		Name: "orders/state", When: Always, Holds: together,
		Says: "an order is what the last row of its history says, and its version is how many rows there are",
		query: `
		SELECT 'order ' || o.id,
		       format('is %s (%s), version %s; its history has %s rows and ends with %s (%s)',
		              o.status, o.reason_code, o.version, count(h.version), coalesce((array_agg(h.status ORDER BY h.version DESC))[1], 'nothing'),
		              (array_agg(h.reason_code ORDER BY h.version DESC))[1])
		FROM orders.orders o
		LEFT JOIN orders.history h ON h.order_id = o.id
		GROUP BY o.id
		HAVING count(h.version) <> o.version
		    OR (array_agg(h.status ORDER BY h.version DESC))[1] IS DISTINCT FROM o.status
		    OR (array_agg(h.reason_code ORDER BY h.version DESC))[1] IS DISTINCT FROM o.reason_code`,
	},
	{
		Name: "orders/total", When: Always, Holds: together,
		Says: "an order's total is the price of its lines: of all, or of those accepted, or of those packed",
		query: `
		SELECT 'order ' || o.id, format('total %s; its lines cost %s, %s of that is there', o.total_minor, coalesce(l.ordered, 0), coalesce(l.due, 0))
		FROM orders.orders o
		LEFT JOIN (
			SELECT order_id, sum(unit_price_minor * quantity) AS ordered, sum(unit_price_minor * (quantity - missing - short)) AS due, sum(missing) AS missing
			FROM orders.lines
			GROUP BY order_id) l ON l.order_id = o.id
		LEFT JOIN (SELECT DISTINCT order_id FROM orders.history WHERE trigger = 'accept') a ON a.order_id = o.id
		WHERE o.total_minor IS DISTINCT FROM CASE WHEN l.missing > 0 AND a.order_id IS NULL THEN l.ordered ELSE l.due END`,
	},
	{
		Name: "orders/woken", When: Always, Holds: together,
		Says: "an order that waits for anybody has a deadline, so that nothing can be forgotten; one that an operator decides about, or that has ended, has none",
		query: `
		SELECT 'order ' || id, format('is %s, its deadline is %s', status, coalesce(deadline::text, 'not set'))
		FROM orders.orders
		WHERE (deadline IS NULL) <> (status IN ('needs_attention', 'completed', 'cancelled', 'rejected', 'expired', 'refunded'))`,
	},
	{
		Name: "orders/audited", When: Always, Holds: together,
		Says: "each move that an operator made is in the audit, and nothing else is",
		query: `
		SELECT 'order ' || coalesce(h.order_id, a.order_id), format('%s moves by operators, %s rows of audit: %s', coalesce(h.n, 0), coalesce(a.n, 0), coalesce(h.action, a.action))
		FROM (
			SELECT order_id, substr(trigger, 10) AS action, count(*) AS n
			FROM orders.history
			WHERE trigger LIKE 'operator\_%'
			GROUP BY order_id, trigger) h
		FULL JOIN (SELECT order_id, action, count(*) AS n FROM orders.audit GROUP BY order_id, action) a ON a.order_id = h.order_id AND a.action = h.action
		WHERE h.n IS DISTINCT FROM a.n`,
	},
	{
		Name: "orders/at-rest", When: AtRest,
		Says: "every order has ended, or waits for somebody: its customer, an operator, the warehouse's people",
		query: `
		SELECT 'order ' || o.id, format('is still %s (version %s)', o.status, o.version)
		FROM orders.orders o
		LEFT JOIN inventory.reservations r ON r.id = o.reservation_id
		WHERE o.status NOT IN ('delivered', 'awaiting_customer', 'payment_failed', 'needs_attention', 'completed', 'cancelled', 'rejected', 'expired', 'refunded')
		  AND NOT (o.status IN ('fulfilling', 'dispatching', 'shipped') AND r.next_at IS NOT DISTINCT FROM 'infinity')`,
	},
}

// Returns and refunds are written by the transaction that changes the lines.
var afterSaleChecks = []Check{
	{
		Name: "orders/refunds", When: Always, Holds: together,
		Says: "what a line has refunded is what its refunds are about, and a refund is the price of its lines",
		query: `
		WITH f AS (
			SELECT f.order_id, f.id, f.amount_minor, x.sku, x.quantity
			FROM orders.refunds f
			CROSS JOIN LATERAL jsonb_to_recordset(f.lines) AS x (sku text, quantity bigint)
		)
		SELECT 'order ' || coalesce(l.order_id, f.order_id), format('%s: %s pieces refunded, its refunds are about %s', coalesce(l.sku, f.sku), coalesce(l.refunded, 0), coalesce(f.quantity, 0))
		FROM orders.lines l
		FULL JOIN (SELECT order_id, sku, sum(quantity) AS quantity FROM f GROUP BY order_id, sku) f ON f.order_id = l.order_id AND f.sku = l.sku
		WHERE coalesce(l.refunded, 0) <> coalesce(f.quantity, 0)
		UNION ALL
		SELECT 'order ' || f.order_id, format('refund %s is of %s, its lines cost %s', f.id, f.amount_minor, coalesce(sum(f.quantity * l.unit_price_minor), 0))
		FROM f
		LEFT JOIN orders.lines l ON l.order_id = f.order_id AND l.sku = f.sku
		GROUP BY f.order_id, f.id, f.amount_minor
		HAVING f.amount_minor <> coalesce(sum(f.quantity * l.unit_price_minor), 0)`,
	},
	{
		Name: "orders/returns", When: Always, Holds: together,
		Says: "what a line has returned is what its returns have brought, and each of these is refunded",
		query: `
		WITH r AS (
			SELECT r.order_id, r.id, x.sku, x.quantity
			FROM orders.returns r
			CROSS JOIN LATERAL jsonb_to_recordset(r.lines) AS x (sku text, quantity bigint)
			WHERE r.status = 'received'
		)
		SELECT 'order ' || coalesce(l.order_id, r.order_id), format('%s: %s pieces returned, its returns brought %s', coalesce(l.sku, r.sku), coalesce(l.returned, 0), coalesce(r.quantity, 0))
		FROM orders.lines l
		FULL JOIN (SELECT order_id, sku, sum(quantity) AS quantity FROM r GROUP BY order_id, sku) r ON r.order_id = l.order_id AND r.sku = l.sku
		WHERE coalesce(l.returned, 0) <> coalesce(r.quantity, 0)
		UNION ALL
		SELECT 'order ' || r.order_id, format('return %s is received and has no refund', r.id)
		FROM orders.returns r
		LEFT JOIN orders.refunds f ON f.order_id = r.order_id AND f.id = r.id
		WHERE r.status = 'received' AND f.id IS NULL`,
	},
	{
		Name: "orders/refunds-told", When: Always, Holds: together,
		Says: "a customer is told of each refund that succeeded, once the last one has, by that version of the order",
		query: `
		SELECT 'order ' || f.order_id, format('refund %s is %s, told in version %s; the order is %s (version %s)', f.id, f.status, f.told_in, o.status, o.version)
		FROM orders.refunds f
		JOIN orders.orders o ON o.id = f.order_id
		LEFT JOIN orders.history h ON h.order_id = f.order_id AND h.version = f.told_in AND h.from_status = 'refunding'
		WHERE CASE WHEN f.told_in = 0 THEN f.status = 'succeeded' AND o.status IN ('delivered', 'completed', 'refunded') ELSE h.version IS NULL END
		   OR f.status <> 'succeeded' AND o.status IN ('delivered', 'completed', 'refunded')`,
	},
}
