package e2e

import (
	"context"
	"fmt"

	"github.com/jmoiron/sqlx"
)

// bookCheck is what must hold of the promises that customers were made, beyond
// what shopctl verify knows: it doesn't know the promises.
type bookCheck struct {
	says  string
	query string // selects what breaks it, in words
	args  []any
}

// checkPromises looks for promises that were broken, for what happened twice, and
// for what was sold that wasn't there. Everything must have come to rest.
func checkPromises(ctx context.Context, db *sqlx.DB, c *market) ([]string, error) {
	var ids, callers, keys []string
	for _, p := range c.placed {
		ids, callers, keys = append(ids, p.ID), append(callers, p.Customer), append(keys, p.Key)
	}
	var found []string
	for _, check := range []bookCheck{
		{"lost: a promised order is not there", `
			SELECT 'order ' || id FROM unnest($1::uuid[]) AS p (id) WHERE NOT EXISTS (SELECT FROM orders.orders o WHERE o.id = p.id)`, []any{ids}},
		{"doubled: under a key there is another order than was promised", `
			SELECT format('order %s under key %s of %s: %s', p.id, p.key, p.caller, k.order_id)
			FROM unnest($1::uuid[], $2::text[], $3::text[]) AS p (id, key, caller)
			LEFT JOIN orders.idempotency_keys k ON k.caller = p.caller AND k.key = p.key
			WHERE k.order_id IS DISTINCT FROM p.id`, []any{ids, keys, callers}},
		{"doubled: a customer has an order that nobody was promised", `
			SELECT format('order %s of %s', o.id, o.customer_id)
			FROM orders.orders o
			WHERE o.id <> ALL ($1::uuid[])`, []any{ids}},
		{"doubled: an order is set aside or charged twice at the provider", `
			SELECT format('order %s: %s', reference, string_agg(status || ' ' || amount_minor, ', '))
			FROM paysim.authorizations
			WHERE status IN ('authorized', 'captured')
			GROUP BY reference
			HAVING count(*) > 1`, nil},
		{"an order that was delivered was not charged just once", `
			SELECT format('order %s is %s, charged %s times', o.id, o.status, count(p.id))
			FROM orders.orders o
			LEFT JOIN paysim.operations p ON p.reference = o.id::text AND p.kind = 'capture' AND p.status = 'succeeded'
			WHERE o.status IN ('delivered', 'completed', 'refunding', 'refunded')
			GROUP BY o.id
			HAVING count(p.id) <> 1`, nil},
		{"oversold: more was sold than there was", `
			SELECT format('%s of %s: sold %s', s.initial + s.restocked, s.sku, sum(l.quantity - l.missing - l.short - l.returned))
			FROM inventory.stock s
			JOIN orders.lines l ON l.sku = s.sku
			JOIN orders.orders o ON o.id = l.order_id AND o.status IN ('confirmed', 'fulfilling', 'capturing', 'dispatching', 'shipped', 'delivered', 'completed', 'refunding', 'refunded')
			GROUP BY s.sku
			HAVING sum(l.quantity - l.missing - l.short - l.returned) > s.initial + s.restocked`, nil},
		{"an order whose undoing was promised was not undone", `
			SELECT format('order %s is %s', id, status) FROM orders.orders WHERE id = ANY ($1::uuid[]) AND status NOT IN ('cancelled', 'rejected', 'expired')`, []any{c.undone}},
		{"a promised return is not there", `
			SELECT 'return ' || id FROM unnest($1::uuid[]) AS p (id) WHERE NOT EXISTS (SELECT FROM orders.returns r WHERE r.id = p.id)`, []any{c.returns}},
		{"an order waits for an operator", `
			SELECT format('order %s: %s', o.id, string_agg(format('%s by %s (%s)', h.status, h.trigger, h.reason_code), ', ' ORDER BY h.version))
			FROM orders.orders o
			JOIN orders.history h ON h.order_id = o.id
			WHERE o.status = 'needs_attention'
			GROUP BY o.id`, nil},
	} {
		var list []string
		if err := db.SelectContext(ctx, &list, check.query, check.args...); err != nil {
			return nil, fmt.Errorf("look whether it holds (%s): %w", check.says, err)
		}
		for i, s := range list {
			if i == 5 {
				found = append(found, fmt.Sprintf("%s: %d in all", check.says, len(list)))
				break
			}
			found = append(found, check.says+": "+s)
		}
	}
	return found, nil
}
