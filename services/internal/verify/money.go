package verify

// What payments has written is committed before orders hears of it, and what it is
// asked to do is committed in orders before: so at every moment payments is ahead
// of orders in what has happened, and behind in what was asked for.
const ahead = "payments commits what happened before orders hears of it, and orders what it asks for before payments hears of that"

var moneyChecks = []Check{
	{
		Name: "money/order", When: Always, Holds: ahead,
		Says: "captured - refunded is the price of the lines neither returned, lost nor refunded, and of those whose refund is open; nothing where no money was taken",
		query: `
		WITH money AS (
			SELECT order_id, coalesce(sum(amount_minor) FILTER (WHERE kind = 'capture'), 0) AS captured, coalesce(sum(amount_minor) FILTER (WHERE kind = 'refund'), 0) AS refunded
			FROM ledger
			GROUP BY order_id
		), priced AS (
			SELECT order_id, sum(unit_price_minor * (quantity - missing - short)) AS due, sum(unit_price_minor * (quantity - missing - short - refunded)) AS kept
			FROM orders.lines
			GROUP BY order_id
		), asked AS (
			SELECT order_id, coalesce(sum(amount_minor) FILTER (WHERE status = 'succeeded'), 0) AS succeeded, sum(amount_minor) AS asked
			FROM orders.refunds
			GROUP BY order_id
		)
		SELECT 'order ' || o.id,
		       format('is %s%s; captured %s of %s, refunded %s; refunds asked for %s, of these succeeded %s; the price of what is kept is %s', o.status,
		              CASE WHEN o.captured THEN ', paid' ELSE '' END, coalesce(m.captured, 0), p.due, coalesce(m.refunded, 0), coalesce(a.asked, 0), coalesce(a.succeeded, 0), p.kept)
		FROM orders.orders o
		LEFT JOIN money m ON m.order_id = o.id
		LEFT JOIN priced p ON p.order_id = o.id
		LEFT JOIN asked a ON a.order_id = o.id
		WHERE CASE
		      WHEN o.captured AND o.status <> 'needs_attention'
		      THEN m.captured IS DISTINCT FROM p.due OR m.refunded NOT BETWEEN coalesce(a.succeeded, 0) AND coalesce(a.asked, 0) OR p.due - coalesce(a.asked, 0) IS DISTINCT FROM p.kept
		      WHEN o.status IN ('capturing', 'compensating', 'needs_attention')
		      THEN coalesce(m.captured, 0) NOT IN (0, p.due) OR coalesce(m.refunded, 0) > coalesce(a.asked, 0)
		      ELSE coalesce(m.captured, 0) <> 0 OR coalesce(m.refunded, 0) <> 0
		      END`,
	},
	{
		Name: "money/kept", When: AtRest,
		Says: "captured - refunded is just the price of the lines that the customer keeps, unless an operator decides",
		query: `
		WITH money AS (
			SELECT order_id, sum(CASE kind WHEN 'capture' THEN amount_minor ELSE -amount_minor END) AS ours
			FROM ledger
			GROUP BY order_id
		)
		SELECT 'order ' || o.id, format('is %s; we have %s, the customer keeps goods for %s', o.status, coalesce(max(m.ours), 0),
		              CASE WHEN o.captured THEN sum(l.unit_price_minor * (l.quantity - l.missing - l.short - l.refunded)) ELSE 0 END)
		FROM orders.orders o
		LEFT JOIN orders.lines l ON l.order_id = o.id
		LEFT JOIN money m ON m.order_id = o.id
		WHERE o.status <> 'needs_attention'
		GROUP BY o.id
		HAVING coalesce(max(m.ours), 0) <> CASE WHEN o.captured THEN sum(l.unit_price_minor * (l.quantity - l.missing - l.short - l.refunded)) ELSE 0 END`,
	},
	{
		Name: "money/one-capture", When: Always, Holds: "the second line behind the code is a unique index",
		Says: "of an order at most one capture has succeeded",
		query: `
		SELECT 'order ' || order_id, format('%s captures, of %s in all', count(*), sum(amount_minor))
		FROM ledger
		WHERE kind = 'capture'
		GROUP BY order_id
		HAVING count(*) > 1`,
	},
	{
		Name: "money/orders-own", When: Always, Holds: ahead,
		Says: "each payment is that of an order, in its currency and for its customer, with no attempt that the order hasn't made",
		query: `
		SELECT 'payment ' || p.id, format('of order %s: %s', p.order_id, CASE
		              WHEN o.id IS NULL THEN 'there is no such order'
		              WHEN o.payment_id <> p.id THEN 'the order has payment ' || o.payment_id
		              WHEN p.customer_id <> o.customer_id OR p.currency <> o.currency THEN 'the customer or the currency is another'
		              ELSE format('attempt %s, the order has made %s', a.attempt, o.attempt) END)
		FROM payments.payments p
		LEFT JOIN orders.orders o ON o.id = p.order_id
		LEFT JOIN (SELECT payment_id, max(attempt) AS attempt FROM payments.attempts GROUP BY payment_id) a ON a.payment_id = p.id
		WHERE o.id IS NULL OR o.payment_id <> p.id OR p.customer_id <> o.customer_id OR p.currency <> o.currency OR a.attempt > o.attempt`,
	},
	{
		Name: "money/attempts", When: Always, Holds: together,
		Says: "each attempt to pay stands as the provider's answers to its calls say, and what it took is in the ledger",
		// What a look-up has found of an attempt may be in no call's answer.
		query: `
		SELECT 'payment ' || a.payment_id, format('attempt %s of order %s is %s, captured %s, in the ledger %s; its calls: %s', a.attempt, p.order_id, a.status, a.captured_minor, coalesce(l.amount_minor, 0), coalesce(c.calls, 'none'))
		FROM payments.attempts a
		JOIN payments.payments p ON p.id = a.payment_id
		LEFT JOIN ledger l ON l.payment_id = a.payment_id AND l.attempt = a.attempt AND l.kind = 'capture'
		LEFT JOIN (
			SELECT payment_id, attempt,
			       string_agg(operation || ' ' || coalesce(outcome, 'not answered'), ', ' ORDER BY requested_at, key) AS calls,
			       bool_or(operation = 'authorize' AND outcome IN ('approved', 'taken')) AS approved,
			       bool_or(operation = 'authorize' AND outcome = 'refused') AS declined,
			       bool_or(operation = 'capture' AND outcome = 'refused') AS refused,
			       bool_or(operation = 'capture' AND outcome = 'taken') AS taken,
			       max(amount_minor) FILTER (WHERE operation = 'capture' AND outcome = 'taken') AS taken_minor
			FROM (SELECT payment_id, attempt, key, operation, coalesce(outcome, '') AS outcome, amount_minor, requested_at FROM payments.provider_calls) c
			GROUP BY payment_id, attempt) c ON c.payment_id = a.payment_id AND c.attempt = a.attempt
		WHERE c.payment_id IS NULL
		   OR a.captured_minor <> coalesce(l.amount_minor, 0) OR (a.status = 'captured') <> c.taken
		   OR NOT CASE a.status
		      WHEN 'authorizing' THEN NOT c.approved
		      WHEN 'unknown' THEN NOT c.approved
		      WHEN 'authorized' THEN c.approved
		      WHEN 'declined' THEN c.declined
		      WHEN 'captured' THEN c.approved AND c.taken_minor = a.captured_minor AND l.provider_ref = a.provider_ref
		      WHEN 'closed' THEN c.approved AND c.refused
		      ELSE true
		      END`,
	},
	{
		Name: "money/refunds", When: Always, Holds: ahead,
		Says: "each refund was asked for by its order, of that amount, and one that succeeded is in the ledger; together they are no more than was captured",
		query: `
		SELECT 'order ' || p.order_id, format('refund %s of %s is %s, in the ledger %s, asked for %s', f.id, f.amount_minor, f.status, coalesce(l.amount_minor, 0), coalesce(o.amount_minor, 0))
		FROM payments.refunds f
		JOIN payments.payments p ON p.id = f.payment_id
		LEFT JOIN orders.refunds o ON o.id = f.id AND o.order_id = p.order_id
		LEFT JOIN ledger l ON l.refund_id = f.id
		WHERE o.amount_minor IS DISTINCT FROM f.amount_minor
		   OR CASE f.status WHEN 'succeeded' THEN l.amount_minor IS DISTINCT FROM f.amount_minor OR l.provider_ref <> f.provider_ref ELSE l.amount_minor IS NOT NULL END
		UNION ALL
		SELECT 'order ' || o.order_id, format('refund %s of %s is succeeded, payments has it as %s', o.id, o.amount_minor, coalesce(f.status, 'unknown'))
		FROM orders.refunds o
		LEFT JOIN payments.refunds f ON f.id = o.id
		WHERE o.status = 'succeeded' AND f.status IS DISTINCT FROM 'succeeded'
		UNION ALL
		SELECT 'order ' || order_id, format('captured %s, refunded %s', coalesce(sum(amount_minor) FILTER (WHERE kind = 'capture'), 0), sum(amount_minor) FILTER (WHERE kind = 'refund'))
		FROM ledger
		GROUP BY order_id
		HAVING sum(amount_minor) FILTER (WHERE kind = 'refund') > coalesce(sum(amount_minor) FILTER (WHERE kind = 'capture'), 0)`,
	},
	{
		Name: "money/set-aside", When: Always, Holds: "an order about which something is under way is passed over",
		Says: "nothing is set aside for an order that has ended, is paid, or waits for another method of payment",
		query: `
		SELECT 'order ' || o.id, format('is %s; attempt %s is %s', o.status, a.attempt, a.status)
		FROM orders.orders o
		JOIN payments.attempts a ON a.payment_id = o.payment_id
		WHERE a.status IN ('authorizing', 'unknown', 'authorized')
		  AND o.status NOT IN ('authorizing', 'confirmed', 'fulfilling', 'stopping', 'capturing', 'compensating', 'needs_attention')
		  AND NOT EXISTS (SELECT FROM under_way u WHERE u.order_id = o.id)`,
	},
	{
		Name: "money/answered", When: AtRest,
		Says: "what became of each request to the provider is known, unless an operator decides about its order",
		query: `
		SELECT 'order ' || c.order_id, format('%s of attempt %s, asked for at %s: the outcome is not known', c.operation, c.attempt, c.requested_at)
		FROM open_calls c
		LEFT JOIN orders.orders o ON o.id = c.order_id
		WHERE o.status IS DISTINCT FROM 'needs_attention'
		  AND NOT EXISTS (SELECT FROM queued q WHERE q.order_id = c.order_id AND q.dead_reason IS NOT NULL)`,
	},
}

// The provider is asked after the intent is committed, and its answer is written
// down after it is given.
const between = "an intent is committed before the provider is asked, its answer is written down after it was given"

var bookChecks = []Check{
	{
		Name: "books/intent", When: Always, Holds: between,
		Says: "the provider has done nothing but what was recorded as an intent before: under its key, of its amount, for its order",
		query: `
		SELECT 'order ' || b.reference, format('%s %s of %s %s under key %s: %s', b.kind, b.status, b.amount_minor, b.currency, b.key, CASE
		              WHEN c.key IS NULL THEN 'there is no intent of that key'
		              ELSE format('the intent is to %s %s %s for order %s', c.operation, c.amount_minor, p.currency, p.order_id) END)
		FROM books b
		LEFT JOIN payments.provider_calls c ON c.key = b.key
		LEFT JOIN payments.payments p ON p.id = c.payment_id
		WHERE b.early
		  AND (c.key IS NULL OR p.order_id::text <> b.reference
		       OR b.kind <> 'expire' AND c.operation <> b.kind
		       OR b.kind IN ('authorize', 'capture', 'refund') AND (c.amount_minor <> b.amount_minor OR p.currency::text <> b.currency))`,
	},
	{
		Name: "books/one-capture", When: Always, Holds: "a second one would be asked for under the same key",
		Says: "the provider has captured at most once for an order, and done nothing twice under a key",
		query: `
		SELECT 'order ' || reference, format('%s captures, of %s in all', count(*), sum(amount_minor))
		FROM books
		WHERE kind = 'capture' AND status = 'succeeded'
		GROUP BY reference
		HAVING count(*) > 1
		UNION ALL
		SELECT 'key ' || key, format('%s %s times, of %s in all', kind, count(*), sum(amount_minor))
		FROM books
		WHERE status = 'succeeded'
		GROUP BY key, kind
		HAVING count(*) > 1`,
	},
	{
		Name: "books/ours", When: Always, Holds: between,
		Says: "what our ledger has, the provider's books have: the same amount, for the same order",
		query: `
		SELECT 'order ' || l.order_id, format('our ledger has a %s of %s %s (%s), the books %s', l.kind, l.amount_minor, l.currency, l.provider_ref, CASE
		              WHEN b.kind IS NULL THEN 'have none'
		              ELSE format('one of %s %s for order %s', b.amount_minor, b.currency, b.reference) END)
		FROM ledger l
		LEFT JOIN books b ON b.kind = l.kind AND b.status = 'succeeded' AND CASE b.kind WHEN 'refund' THEN b.refund_ref ELSE b.auth_ref END = l.provider_ref
		WHERE b.kind IS NULL OR b.amount_minor <> l.amount_minor OR b.currency <> l.currency OR b.reference <> l.order_id::text`,
	},
	{
		Name: "books/theirs", When: Always, Holds: "a movement is passed over while what became of its request isn't written down",
		Says: "what the provider's books have taken or given back, our ledger has",
		query: `
		SELECT 'order ' || b.reference, format('the books have a %s of %s %s under key %s, our ledger none', b.kind, b.amount_minor, b.currency, b.key)
		FROM books b
		LEFT JOIN payments.provider_calls c ON c.key = b.key
		LEFT JOIN ledger l ON l.kind = b.kind AND l.provider_ref = CASE b.kind WHEN 'refund' THEN b.refund_ref ELSE b.auth_ref END
		WHERE b.kind IN ('capture', 'refund') AND b.status = 'succeeded' AND l.kind IS NULL
		  AND CASE WHEN c.key IS NULL THEN b.early ELSE NOT EXISTS (SELECT FROM open_calls x WHERE x.key = c.key) END`,
	},
	{
		Name: "books/open", When: Always, Holds: "an order about which something is under way is passed over",
		Says: "no authorization is left open at the provider for an order that has ended, is paid, or waits for another method of payment, nor two for any",
		query: `
		WITH open AS (
			SELECT reference, auth_ref
			FROM books
			WHERE status = 'succeeded'
			GROUP BY reference, auth_ref
			HAVING bool_or(kind = 'authorize') AND NOT bool_or(kind IN ('capture', 'void', 'expire'))
		)
		SELECT 'order ' || n.reference, format('is %s; %s authorizations are open: %s', coalesce(max(o.status), 'unknown'), count(*), string_agg(n.auth_ref, ', ' ORDER BY n.auth_ref))
		FROM open n
		LEFT JOIN orders.orders o ON o.id::text = n.reference
		WHERE NOT EXISTS (SELECT FROM under_way u WHERE u.order_id::text = n.reference)
		GROUP BY n.reference
		HAVING count(*) > 1 OR coalesce(max(o.status) NOT IN ('authorizing', 'confirmed', 'fulfilling', 'stopping', 'capturing', 'compensating', 'needs_attention'), true)`,
	},
	{
		Name: "books/set-aside", When: Always, Holds: "an order about which something is under way is passed over",
		Says: "what we take for set aside is open at the provider, or has expired there",
		query: `
		SELECT 'order ' || p.order_id, format('attempt %s is authorized as %s; the books: %s', a.attempt, a.provider_ref, coalesce(string_agg(b.kind || ' ' || b.status, ', ' ORDER BY b.kind), 'nothing'))
		FROM payments.attempts a
		JOIN payments.payments p ON p.id = a.payment_id
		LEFT JOIN books b ON b.auth_ref = a.provider_ref
		WHERE a.status = 'authorized' AND NOT EXISTS (SELECT FROM under_way u WHERE u.order_id = p.order_id)
		GROUP BY p.order_id, a.payment_id, a.attempt, a.provider_ref
		HAVING NOT coalesce(bool_or(b.kind = 'authorize' AND b.status = 'succeeded'), false) OR bool_or(b.kind IN ('capture', 'void') AND b.status = 'succeeded')`,
	},
}
