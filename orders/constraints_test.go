package orders

import (
	"errors"
	"testing"
	"testing/fstest"

	"github.com/jackc/pgx/v5/pgconn"

	"example.com/orderflow/messaging"
	"example.com/orderflow/messaging/messagingtest"
)

// The database itself refuses what must never be true of an order.
func TestImpossibleOrders(t *testing.T) {
	t.Parallel()
	s := stocked(t)
	id := s.place("k")
	s.bring(id, Delivered)
	for _, tt := range []struct{ name, set, constraint string }{
		{"unknown status", `status = 'lost'`, "orders_status_check"},
		{"cancelled with the money taken", `status = 'cancelled', reason_code = 'x', deadline = NULL`, "undone_keeps_no_money"},
		{"ended with a deadline", `status = 'completed', reason_code = 'x'`, "ended_waits_for_nobody"},
		{"ended without a reason", `status = 'completed', deadline = NULL`, "ended_has_a_reason"},
		{"delivered without a time for returns", `return_until = NULL`, "delivered_may_come_back"},
		{"delivered without having been dispatched", `dispatched = false`, "dispatched_before_delivered"},
		{"dispatched without the money", `captured = false`, "paid_before_dispatched"},
		{"delivered without having been packed", `packed = false`, "packed_before_paid"},
		{"refunded without the money", `status = 'refunding', captured = false, dispatched = false`, "paid_before_dispatched"},
		{"compensating without an end", `status = 'compensating', awaits_void = true`, "compensating_has_an_end"},
		{"an end without compensating", `ends_as = 'cancelled'`, "compensating_has_an_end"},
		{"compensating and waiting for nothing", `status = 'compensating', ends_as = 'cancelled'`, "who_awaits_what"},
		{"delivered and waiting for a void", `awaits_void = true`, "who_awaits_what"},
		{"refunding and waiting for a void", `status = 'refunding', awaits_void = true`, "who_awaits_what"},
		{"needs attention and can't resume", `status = 'needs_attention', reason_code = 'x', deadline = NULL`, "needs_attention_can_resume"},
		{"needs attention and resumes what waits for the customer", `status = 'needs_attention', resume = 'payment_failed', reason_code = 'x', deadline = NULL`, "needs_attention_can_resume"},
		{"needs attention with a deadline", `status = 'needs_attention', resume = 'shipped', reason_code = 'x'`, "needs_attention_can_resume"},
		{"resumes without needing attention", `resume = 'shipped'`, "needs_attention_can_resume"},
		{"asked a customer who didn't allow it", `status = 'awaiting_customer'`, "only_who_allowed_it_is_asked"},
		{"repeated a command five times", `resends = 5`, "orders_resends_check"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := s.db.Admin.Exec(`UPDATE orders.orders SET `+tt.set+` WHERE id = $1`, id)
			wantConstraint(t, err, tt.constraint)
		})
	}
	for _, tt := range []struct{ name, query, constraint string }{
		{"more refunded than was ordered", `UPDATE orders.lines SET refunded = 3 WHERE order_id = $1`, "no_more_than_ordered"},
		{"more refunded than was packed", `UPDATE orders.lines SET missing = 1, refunded = quantity WHERE order_id = $1`, "no_more_than_ordered"},
		{"returned and not refunded", `UPDATE orders.lines SET returned = 1 WHERE order_id = $1`, "lines_check"},
		{"less than nothing missing", `UPDATE orders.lines SET missing = -1 WHERE order_id = $1`, "lines_missing_check"},
		{"less than nothing short", `UPDATE orders.lines SET short = -1 WHERE order_id = $1`, "lines_short_check"},
		{"a refund of nothing", `INSERT INTO orders.refunds (order_id, id, status, reason_code, amount_minor, lines, asked_at, told_in)
			VALUES ($1, gen_random_uuid(), 'open', 'x', 0, '[{}]', now(), 0)`, "refunds_amount_minor_check"},
		{"a refund of no lines", `INSERT INTO orders.refunds (order_id, id, status, reason_code, amount_minor, lines, asked_at, told_in)
			VALUES ($1, gen_random_uuid(), 'open', 'x', 1, '[]', now(), 0)`, "refunds_lines_check"},
		{"told of a refund that is open", `INSERT INTO orders.refunds (order_id, id, status, reason_code, amount_minor, lines, asked_at, told_in)
			VALUES ($1, gen_random_uuid(), 'open', 'x', 1, '[{}]', now(), 7)`, "refunds_check"},
		{"a deed of a customer", `INSERT INTO orders.audit (actor, role, action, order_id, reason, request_id) VALUES ('x', 'customer', 'refund', $1, 'x', 'x')`, "audit_role_check"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := s.db.Admin.Exec(tt.query, id)
			wantConstraint(t, err, tt.constraint)
		})
	}
}

func wantConstraint(t *testing.T, err error, name string) {
	t.Helper()
	var refused *pgconn.PgError
	if !errors.As(err, &refused) || refused.Code != "23514" || refused.ConstraintName != name {
		t.Errorf("got %v, want it to break %s", err, name)
	}
}

func TestAuditIsOnlyAddedTo(t *testing.T) {
	t.Parallel()
	s := stocked(t)
	id := s.place("k")
	s.bring(id, Delivered)
	s.must(202, "POST", "/v1/orders/"+id+"/refunds", asGrace, keyed("f", operator...)...)
	for _, query := range []string{
		`UPDATE orders.audit SET actor = 'nobody'`, `DELETE FROM orders.audit`, `DELETE FROM orders.audit WHERE false`, `TRUNCATE orders.audit`,
	} {
		if _, err := s.db.Admin.Exec(query); err == nil {
			t.Errorf("%s: got no error, want it refused", query)
		}
	}
	if n := s.count(`SELECT count(*) FROM orders.audit`); n != 1 {
		t.Errorf("audit rows: got %d, want 1", n)
	}
}

// TestOrdersOfTheFirstVersionGoOn migrates a database with orders in every status
// that the first version had.
func TestOrdersOfTheFirstVersionGoOn(t *testing.T) {
	t.Parallel()
	first := Spec()
	body, err := migrations.ReadFile("migrations/0001_orders.sql")
	if err != nil {
		t.Fatal(err)
	}
	first.Migrations = fstest.MapFS{"migrations/0001_orders.sql": {Data: body}}
	first.Speaks = first.Speaks[:1] // another template than the other tests'
	db := messagingtest.NewDB(t, first)
	_, err = db.Admin.Exec(`
		INSERT INTO orders.orders (id, customer_id, customer_name, customer_email, customer_address, note, class, currency, total_minor,
		       status, reason_code, version, ends_as, reservation_id, payment_id, attempt, capture_id, payment_token, declines,
		       awaits_release, awaits_void, tracking, deadline, created_at, changed_at)
		SELECT gen_random_uuid(), 'demo', 'Ada', 'ada@example.com', '1 Main Street', '', 1, 'EUR', 1000,
		       s, 'x', 1, CASE s WHEN 'compensating' THEN 'cancelled' ELSE '' END, gen_random_uuid(), gen_random_uuid(), 1, gen_random_uuid(), '', 0,
		       s = 'compensating', s = 'compensating', '', CASE WHEN s NOT IN ('delivered', 'cancelled', 'rejected', 'expired') THEN now() END, now(), now()
		  FROM unnest('{placed,authorizing,payment_failed,confirmed,fulfilling,capturing,dispatching,shipped,delivered,compensating,cancelled,rejected,expired}'::text[]) s;
		INSERT INTO orders.lines (order_id, position, sku, name, quantity, unit_price_minor)
		SELECT id, 1, 'MUG-01', 'Mug', 1, 1000 FROM orders.orders`)
	if err != nil {
		t.Fatalf("orders of the first version: %v", err)
	}
	if err := messaging.Migrate(t.Context(), db.Admin, messagingtest.Log(t), nil, Spec()); err != nil {
		t.Fatalf("migrate: %v", err)
	}
	s := &shop{t: t, db: db}
	var ids []string
	if err := db.Admin.Select(&ids, `SELECT id FROM orders.orders`); err != nil {
		t.Fatal(err)
	}
	if len(ids) != 13 {
		t.Errorf("orders: got %d, want 13", len(ids))
	}
	for _, id := range ids {
		o := s.row(id)
		want := orderIn(o.Status)
		if o.Packed != want.Packed || o.Captured != want.Captured || o.Dispatched != want.Dispatched || (o.ReturnUntil != nil) != (o.Status == Delivered) {
			t.Errorf("%s: got packed %v, captured %v, dispatched %v, to be returned until %v", o.Status, o.Packed, o.Captured, o.Dispatched, o.ReturnUntil)
		}
		if _, waits := testRules.Deadlines[o.Status]; waits != (o.Deadline != nil) {
			t.Errorf("%s: got deadline %v, want one: %v", o.Status, o.Deadline, waits)
		}
	}
}
