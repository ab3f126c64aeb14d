package verify

import (
	"cmp"
	"slices"
	"testing"
	"time"
)

// 20,000 orders with all that services have written about them are verified in 10 s.
func TestTwentyThousandOrders(t *testing.T) {
	t.Parallel()
	n := 1000
	if long() {
		n = 20_000
	}
	settings, _ := channels(t)
	s := openShop(t, settings)
	id := s.place("TEA-01", 2, "tok_ok")
	s.reach("delivered", id)
	s.rest()
	s.close()
	s.multiply(id, n-1)
	begun := time.Now()
	r := s.verify(Options{Rest: true})
	took := time.Since(begun)
	clean(t, r)
	if r.Orders != n {
		t.Errorf("got %d orders, want %d", r.Orders, n)
	}
	t.Logf("%d orders: %d checks in %s; to reach: 20,000 in 10 s", n, len(r.Results), took.Round(10*time.Millisecond))
	slices.SortFunc(r.Results, func(a, b Result) int { return cmp.Compare(b.Millis, a.Millis) })
	for _, c := range r.Results[:8] {
		t.Logf("%6d ms %s", c.Millis, c.Name)
	}
	if took > 100*time.Second { // ten times the figure: machines may be busy
		t.Errorf("%d orders took %s, want at most 100s", n, took)
	}
}

// multiply adds n orders like the order id, which is paid and delivered: all rows
// about it in all schemas, with other ids.
func (s *shop) multiply(id string, n int) {
	s.t.Helper()
	conn, err := s.db.Admin.Connx(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() {
		if err := conn.Close(); err != nil {
			s.t.Error(err)
		}
	}()
	exec := func(sql string, args ...any) {
		s.t.Helper()
		if _, err := conn.ExecContext(s.t.Context(), sql, args...); err != nil {
			s.t.Fatalf("multiply order %s: %v: %s", id, err, sql)
		}
	}
	exec(`SET statement_timeout = 0`)
	exec(`SET session_replication_role = replica`)
	exec(multiplying)
	for _, rows := range []struct{ table, where string }{
		{"orders.orders", `id = '%s'`}, {"orders.lines", `order_id = '%s'`}, {"orders.history", `order_id = '%s'`}, {"orders.idempotency_keys", `order_id = '%s'`},
		{"inventory.reservations", `order_id = '%s'`}, {"inventory.stock_moves", `order_id = '%s'`},
		{"inventory.reservation_lines", `reservation_id = (SELECT reservation_id FROM orders.orders WHERE id = '%s')`},
		{"payments.payments", `order_id = '%s'`}, {"payments.ledger", `order_id = '%s'`},
		{"payments.attempts", `payment_id = (SELECT payment_id FROM orders.orders WHERE id = '%s')`},
		{"payments.provider_calls", `payment_id = (SELECT payment_id FROM orders.orders WHERE id = '%s')`},
		{"paysim.operations", `reference = '%s'`},
		{"messaging.inbox_orders", `order_id = '%s'`}, {"messaging.inbox_payments", `order_id = '%s'`}, {"messaging.inbox_inventory", `order_id = '%s'`}, {"messaging.inbox_notifications", `order_id = '%s'`},
		{"messaging.log_orders", `order_id = '%s'`}, {"messaging.log_payments", `order_id = '%s'`}, {"messaging.log_inventory", `order_id = '%s'`}, {"messaging.log_notifications", `order_id = '%s'`},
		{"notifications.attempts", `notification_id IN (SELECT id FROM notifications.notifications WHERE order_id = '%s')`},
		{"notifications.notifications", `order_id = '%s'`},
	} {
		exec(`SELECT pg_temp.multiply($1, $2, $3, $4)`, rows.table, rows.where, id, n)
	}
	exec(`
		WITH sold AS (
			SELECT sku, sum(sold) AS all_sold, sum(sold) / ($2 + 1) * $2 AS added
			FROM inventory.stock_moves
			WHERE sku IN (SELECT sku FROM orders.lines WHERE order_id = $1)
			GROUP BY sku
		), came AS (
			INSERT INTO inventory.stock_moves (sku, what, restocked, available, at)
			SELECT sku, 'restocked', added, added, now() FROM sold
		)
		UPDATE inventory.stock s
		SET sold = s.sold + sold.added, restocked = s.restocked + sold.added
		FROM sold
		WHERE s.sku = sold.sku`, id, n)
	exec(`ANALYZE`) // as autovacuum does, sooner or later
}

// multiplying makes the function that adds n copies of the rows of a table about an
// order. Of each UUID in it, and of those that a text begins with, the last digits
// are counted up.
const multiplying = `
	CREATE FUNCTION pg_temp.other(id uuid, n integer) RETURNS uuid LANGUAGE sql IMMUTABLE AS $fn$
		SELECT (left(id::text, 24) || lpad(to_hex((('x' || right(id::text, 12))::bit(48)::bigint + n) & 281474976710655), 12, '0'))::uuid
	$fn$;
	CREATE FUNCTION pg_temp.other(t text, n integer) RETURNS text LANGUAGE sql IMMUTABLE AS $fn$
		SELECT CASE WHEN t ~ '^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}' THEN pg_temp.other(left(t, 36)::uuid, n) || substr(t, 37) ELSE t END
	$fn$;
	CREATE FUNCTION pg_temp.multiply(target text, condition text, id text, n integer) RETURNS void LANGUAGE plpgsql AS $fn$
	DECLARE
		columns text;
		others  text;
	BEGIN
		SELECT string_agg(quote_ident(column_name), ', ' ORDER BY ordinal_position),
		       string_agg(CASE WHEN data_type IN ('uuid', 'text') THEN format('pg_temp.other(%I, g.n)', column_name)
		                       WHEN target || '.' || column_name = 'orders.idempotency_keys.body'
		                       THEN format('convert_to(replace(convert_from(body, ''UTF8''), %L, pg_temp.other(%L::uuid, g.n)::text), ''UTF8'')', id, id)
		                       ELSE quote_ident(column_name) END, ', ' ORDER BY ordinal_position)
		INTO columns, others
		FROM information_schema.columns
		WHERE format('%I.%I', table_schema, table_name) = target AND is_identity = 'NO' AND coalesce(column_default, '') NOT LIKE 'nextval%';
		EXECUTE format('INSERT INTO %s (%s) SELECT %s FROM %s, generate_series(1, %s) AS g (n) WHERE %s', target, columns, others, target, n, format(condition, id));
	END
	$fn$`
