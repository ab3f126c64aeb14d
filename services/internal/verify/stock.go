package verify

// The counters of a SKU are changed by the statement that writes the move, in the
// transaction that changes the reservation.
const oneStatement = "counters, moves and reservations are written by one transaction"

// first says who is ahead of whom.
const first = "inventory commits what happened before orders hears of it"

var stockChecks = []Check{
	{
		Name: "stock/adds-up", When: Always, Holds: oneStatement,
		Says: "initial + restocked = available + reserved + sold + written off, and none is negative",
		query: `
		SELECT 'SKU ' || sku, format('initial %s + restocked %s; available %s + reserved %s + sold %s + written off %s', initial, restocked, available, reserved, sold, written_off)
		FROM inventory.stock
		WHERE initial + restocked <> available + reserved + sold + written_off
		   OR least(initial, restocked, available, reserved, sold, written_off) < 0`,
	},
	{
		Name: "stock/ledger", When: Always, Holds: oneStatement,
		Says: "each counter of a SKU is the sum of its moves",
		query: `
		SELECT 'SKU ' || coalesce(s.sku, m.sku), format('initial %s, restocked %s, available %s, reserved %s, sold %s, written off %s; its moves say %s, %s, %s, %s, %s, %s',
		              s.initial, s.restocked, s.available, s.reserved, s.sold, s.written_off,
		              coalesce(m.initial, 0), coalesce(m.restocked, 0), coalesce(m.available, 0), coalesce(m.reserved, 0), coalesce(m.sold, 0), coalesce(m.written_off, 0))
		FROM inventory.stock s
		FULL JOIN (
			SELECT sku, sum(initial) AS initial, sum(restocked) AS restocked, sum(available) AS available, sum(reserved) AS reserved, sum(sold) AS sold, sum(written_off) AS written_off
			FROM inventory.stock_moves
			GROUP BY sku) m ON m.sku = s.sku
		WHERE (s.initial, s.restocked, s.available, s.reserved, s.sold, s.written_off) IS DISTINCT FROM
		      (coalesce(m.initial, 0), coalesce(m.restocked, 0), coalesce(m.available, 0), coalesce(m.reserved, 0), coalesce(m.sold, 0), coalesce(m.written_off, 0))`,
	},
	{
		Name: "stock/reservations", When: Always, Holds: oneStatement,
		Says: "what is reserved, sold and written off of a SKU is what its reservations hold, have sent and haven't found",
		query: `
		SELECT 'SKU ' || s.sku, format('reserved %s, sold %s, written off %s; its reservations say %s, %s, %s', s.reserved, s.sold, s.written_off, coalesce(r.reserved, 0), coalesce(r.sold, 0), coalesce(r.written_off, 0))
		FROM inventory.stock s
		LEFT JOIN (
			SELECT l.sku,
			       sum(CASE WHEN r.status IN ('held', 'picking', 'packed') THEN l.quantity - l.written_off ELSE 0 END) AS reserved,
			       sum(CASE WHEN r.status IN ('shipped', 'delivered', 'lost') THEN l.quantity - l.written_off - l.returned ELSE 0 END) AS sold,
			       sum(l.written_off) AS written_off
			FROM inventory.reservation_lines l
			JOIN inventory.reservations r ON r.id = l.reservation_id
			GROUP BY l.sku) r ON r.sku = s.sku
		WHERE (s.reserved, s.sold, s.written_off) IS DISTINCT FROM (coalesce(r.reserved, 0), coalesce(r.sold, 0), coalesce(r.written_off, 0))`,
	},
	{
		Name: "stock/moves", When: Always, Holds: oneStatement,
		Says: "the moves about an order leave its pieces where its reservation has them",
		// What was reserved before there was a ledger has no moves of its own.
		query: `
		WITH moved AS (
			SELECT order_id, sku, sum(reserved) AS reserved, sum(sold) AS sold, sum(written_off) AS written_off
			FROM inventory.stock_moves
			WHERE order_id IS NOT NULL
			GROUP BY order_id, sku
		), held AS (
			SELECT r.order_id, l.sku,
			       sum(CASE WHEN r.status IN ('held', 'picking', 'packed') THEN l.quantity - l.written_off ELSE 0 END) AS reserved,
			       sum(CASE WHEN r.status IN ('shipped', 'delivered', 'lost') THEN l.quantity - l.written_off - l.returned ELSE 0 END) AS sold,
			       sum(l.written_off) AS written_off
			FROM inventory.reservation_lines l
			JOIN inventory.reservations r ON r.id = l.reservation_id
			GROUP BY r.order_id, l.sku
		)
		SELECT 'order ' || coalesce(h.order_id, m.order_id), format('%s: reserved %s, sold %s, written off %s; its moves say %s, %s, %s', coalesce(h.sku, m.sku),
		              coalesce(h.reserved, 0), coalesce(h.sold, 0), coalesce(h.written_off, 0), coalesce(m.reserved, 0), coalesce(m.sold, 0), coalesce(m.written_off, 0))
		FROM held h
		FULL JOIN moved m ON m.order_id = h.order_id AND m.sku = h.sku
		WHERE (coalesce(h.reserved, 0), coalesce(h.sold, 0), coalesce(h.written_off, 0)) IS DISTINCT FROM (coalesce(m.reserved, 0), coalesce(m.sold, 0), coalesce(m.written_off, 0))
		  AND (m.order_id IS NOT NULL OR NOT EXISTS (SELECT FROM inventory.stock_moves WHERE what = 'opening'))`,
	},
	{
		Name: "stock/orders-own", When: Always, Holds: "an order is committed before inventory hears of it, and has one reservation",
		Says: "each reservation is that of an order, and holds no more than was ordered",
		query: `
		SELECT 'reservation ' || r.id, format('of order %s: %s', r.order_id, CASE
		              WHEN o.id IS NULL THEN 'there is no such order'
		              WHEN o.reservation_id <> r.id THEN 'the order has reservation ' || o.reservation_id
		              ELSE format('%s pieces of %s, ordered were %s', l.quantity, l.sku, coalesce(ol.quantity, 0)) END)
		FROM inventory.reservations r
		LEFT JOIN orders.orders o ON o.id = r.order_id
		LEFT JOIN inventory.reservation_lines l ON l.reservation_id = r.id
		LEFT JOIN orders.lines ol ON ol.order_id = o.id AND ol.sku = l.sku
		WHERE o.id IS NULL OR o.reservation_id <> r.id OR l.quantity > coalesce(ol.quantity, 0)`,
	},
	{
		Name: "stock/lines", When: Always, Holds: first,
		Says: "an order that was paid for, or is about to be, has reserved just what isn't missing, and what was short when it was packed was written off",
		query: `
		SELECT 'order ' || o.id, format('%s: ordered %s, missing %s, short %s; reserved %s, written off %s', l.sku, l.quantity, l.missing, l.short, coalesce(r.quantity, 0), coalesce(r.written_off, 0))
		FROM orders.orders o
		JOIN orders.lines l ON l.order_id = o.id
		LEFT JOIN inventory.reservation_lines r ON r.reservation_id = o.reservation_id AND r.sku = l.sku
		WHERE o.attempt > 0
		  AND (coalesce(r.quantity, 0) <> l.quantity - l.missing OR o.packed AND coalesce(r.written_off, 0) <> l.short OR l.returned > coalesce(r.returned, 0))`,
	},
	{
		Name: "stock/ended", When: Always, Holds: "an order about which something is under way is passed over",
		Says: "an order that has ended holds no stock",
		query: `
		SELECT 'order ' || o.id, format('is %s; its reservation is %s, with %s', o.status, r.status, string_agg(format('%s pieces of %s', l.quantity - l.written_off, l.sku), ', ' ORDER BY l.sku))
		FROM orders.orders o
		JOIN inventory.reservations r ON r.order_id = o.id
		JOIN inventory.reservation_lines l ON l.reservation_id = r.id
		WHERE o.status IN ('completed', 'cancelled', 'rejected', 'expired', 'refunded') AND r.status IN ('held', 'picking', 'packed')
		  AND NOT EXISTS (SELECT FROM under_way u WHERE u.order_id = o.id)
		GROUP BY o.id, r.id`,
	},
	{
		Name: "stock/steps", When: Always, Holds: first,
		Says: "an order isn't further than its goods: what is shipped for customers has left, what is delivered is there, what is cancelled hasn't left",
		query: `
		SELECT 'order ' || o.id, format('is %s; its reservation is %s', o.status, coalesce(r.status, 'not there'))
		FROM orders.orders o
		LEFT JOIN inventory.reservations r ON r.id = o.reservation_id
		WHERE NOT coalesce(CASE
		      WHEN o.status IN ('delivered', 'completed') THEN r.status = 'delivered'
		      WHEN o.status = 'shipped' THEN r.status IN ('shipped', 'delivered', 'lost')
		      WHEN o.status IN ('capturing', 'dispatching') THEN r.status IN ('packed', 'shipped', 'delivered', 'lost')
		      WHEN o.status IN ('cancelled', 'rejected', 'expired') THEN r.status NOT IN ('shipped', 'delivered', 'lost') OR r.status IS NULL
		      ELSE true END, false)`,
	},
	{
		Name: "stock/returns", When: Always, Holds: first,
		Says: "a return that orders knows to be there is there, with the same goods, and a reservation's returned pieces are those of its returns",
		query: `
		WITH there AS (
			SELECT t.id, t.reservation_id, t.order_id, l.sku, l.quantity
			FROM inventory.returns t
			JOIN inventory.return_lines l ON l.return_id = t.id
			WHERE t.status = 'received'
		)
		SELECT 'order ' || r.order_id, format('return %s has %s pieces of %s here, %s in the warehouse', r.id, x.quantity, x.sku, coalesce(t.quantity, 0))
		FROM orders.returns r
		CROSS JOIN LATERAL jsonb_to_recordset(r.lines) AS x (sku text, quantity bigint)
		LEFT JOIN there t ON t.id = r.id AND t.sku = x.sku
		WHERE r.status = 'received' AND t.quantity IS DISTINCT FROM x.quantity
		UNION ALL
		SELECT 'reservation ' || coalesce(l.reservation_id, t.reservation_id), format('%s pieces of %s returned, its returns brought %s', coalesce(l.returned, 0), coalesce(l.sku, t.sku), coalesce(t.quantity, 0))
		FROM inventory.reservation_lines l
		FULL JOIN (SELECT reservation_id, sku, sum(quantity) AS quantity FROM there GROUP BY reservation_id, sku) t ON t.reservation_id = l.reservation_id AND t.sku = l.sku
		WHERE coalesce(l.returned, 0) <> coalesce(t.quantity, 0)`,
	},
	{
		Name: "stock/catalogue", When: Always, Holds: "a product about which a message is under way is passed over",
		Says: "orders' copy of the catalogue is the catalogue",
		query: `
		SELECT 'SKU ' || coalesce(p.sku, c.sku), format('costs %s %s (on sale: %s), orders'' copy says %s %s (on sale: %s)', p.price_minor, p.currency, p.active, c.price_minor, c.currency, c.active)
		FROM inventory.products p
		FULL JOIN orders.products c ON c.sku = p.sku
		WHERE (p.name, p.price_minor, p.currency, p.active) IS DISTINCT FROM (c.name, c.price_minor, c.currency, c.active)
		  AND NOT EXISTS (SELECT FROM queued q WHERE q.lane = coalesce(p.sku, c.sku))
		  AND NOT EXISTS (SELECT FROM outgoing q WHERE q.lane = coalesce(p.sku, c.sku))`,
	},
}
