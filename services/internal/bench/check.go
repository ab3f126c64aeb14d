package bench

import (
	"context"
	"errors"
	"fmt"

	"github.com/jmoiron/sqlx"
)

// rule is something that must be true of the rows: the query counts what breaks it.
type rule struct{ name, query string }

// rowRules are what must be true of the yardstick's tables after any run: every
// step of every order happened, and happened once.
var rowRules = []rule{
	{"orders that are not confirmed", `
		SELECT count(*) FROM ordering.orders WHERE status <> 'confirmed'`},
	{"orders without exactly two lines", `
		SELECT count(*) FROM ordering.orders o WHERE (SELECT count(*) FROM ordering.order_items i WHERE i.order_id = o.id) <> 2`},
	{"orders whose history is not reserved, paid, confirmed", `
		SELECT count(*) FROM ordering.orders o
		LEFT JOIN (SELECT order_id, array_agg(status ORDER BY id) AS steps FROM ordering.order_history GROUP BY order_id) h ON h.order_id = o.id
		WHERE h.steps IS DISTINCT FROM '{reserved,paid,confirmed}'::text[]`},
	{"orders without exactly one payment of their total", `
		SELECT count(*) FROM ordering.orders o LEFT JOIN payment.payments p ON p.order_id = o.id AND p.state = 'authorized'
		WHERE p.amount_cents IS DISTINCT FROM o.total_cents`},
	{"orders whose lines are not reserved", `
		SELECT count(*) FROM ordering.order_items i LEFT JOIN inventory.reservations r ON r.order_id = i.order_id AND r.sku = i.sku
		WHERE r.qty IS DISTINCT FROM i.qty`},
	{"SKUs whose stock is not what the reservations say", `
		SELECT count(*) FROM inventory.stock s
		LEFT JOIN (SELECT sku, sum(qty) AS qty FROM inventory.reservations GROUP BY sku) r ON r.sku = s.sku
		WHERE s.reserved <> coalesce(r.qty, 0) OR s.available + s.reserved <> 1000000000`},
	{"orders whose customer was not told placed, paid, confirmed, once each", `
		SELECT count(*) FROM ordering.orders o
		LEFT JOIN (SELECT order_id, array_agg(kind ORDER BY kind) AS kinds FROM notification.notifications GROUP BY order_id) n ON n.order_id = o.id
		WHERE n.kinds IS DISTINCT FROM '{confirmed,paid,placed}'::text[]`},
	{"rows that belong to no order", `
		SELECT (SELECT count(*) FROM payment.payments p WHERE NOT EXISTS (SELECT FROM ordering.orders o WHERE o.id = p.order_id))
		     + (SELECT count(*) FROM inventory.reservations r WHERE NOT EXISTS (SELECT FROM ordering.orders o WHERE o.id = r.order_id))
		     + (SELECT count(*) FROM notification.notifications n WHERE NOT EXISTS (SELECT FROM ordering.orders o WHERE o.id = n.order_id))`},
}

// checkRows returns an error that names every rule broken by the rows of db, in
// which n orders were placed.
func checkRows(ctx context.Context, db *sqlx.DB, n int) error {
	var orders int
	if err := db.GetContext(ctx, &orders, `SELECT count(*) FROM ordering.orders`); err != nil {
		return fmt.Errorf("count the orders: %w", err)
	}
	var err error
	if orders != n {
		err = fmt.Errorf("%d orders of %d placed", orders, n)
	}
	return errors.Join(err, checkRules(ctx, db, rowRules))
}

func checkRules(ctx context.Context, db *sqlx.DB, rules []rule) error {
	var broken error
	for _, r := range rules {
		var n int
		if err := db.GetContext(ctx, &n, r.query); err != nil {
			return fmt.Errorf("look for %s: %w", r.name, err)
		}
		if n != 0 {
			broken = errors.Join(broken, fmt.Errorf("%d %s", n, r.name))
		}
	}
	return broken
}
