package orders

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"example.com/orderflow/messaging"
)

// ErrNotFound says that there is no such order, or that it is another customer's.
var ErrNotFound = errors.New("no such order")

// lockedOrder is an order's row, locked, with the shop's time.
type lockedOrder struct {
	Order
	Now time.Time `db:"now"`
}

// decidingColumns are the columns of orders.orders o that deciding needs.
const decidingColumns = `
	o.id, o.customer_id, o.customer_name, o.customer_email, o.class, o.currency, o.total_minor, o.allow_partial,
	o.status, o.reason_code, o.version, o.ends_as, o.resume, o.resume_reason, o.resends,
	o.reservation_id, o.payment_id, o.attempt, o.capture_id, o.payment_token, o.declines, o.awaits_release, o.awaits_void,
	o.packed, o.captured, o.dispatched, o.tracking, o.return_until, o.deadline, o.created_at, o.changed_at,
	(SELECT messaging.shop_now()) AS now`

// The lines, returns and refunds of orders.orders o as one JSON value each.
const (
	lineList = `
	(SELECT json_agg(json_build_object(
	            'sku', l.sku, 'name', l.name, 'quantity', l.quantity, 'unit_price_minor', l.unit_price_minor,
	            'missing', l.missing, 'short', l.short, 'refunded', l.refunded, 'returned', l.returned) ORDER BY l.position)
	   FROM orders.lines l
	  WHERE l.order_id = o.id)`
	returnList = `
	(SELECT json_agg(json_build_object(
	            'id', r.id, 'status', r.status, 'lines', r.lines, 'asked_at', r.asked_at) ORDER BY r.asked_at, r.id)
	   FROM orders.returns r
	  WHERE r.order_id = o.id)`
	refundList = `
	(SELECT json_agg(json_build_object(
	            'id', f.id, 'status', f.status, 'reason_code', f.reason_code, 'amount_minor', f.amount_minor,
	            'lines', f.lines, 'asked_at', f.asked_at, 'told_in', f.told_in) ORDER BY f.asked_at, f.id)
	   FROM orders.refunds f
	  WHERE f.order_id = o.id)`
)

// lockOrders locks the orders ids, sorted, and reads the lines of those that are
// in withLines, in one statement. Of orders that may be sent back or refunded all
// is read, in a second one. Unknown ids are left out.
func lockOrders(ctx context.Context, tx *messaging.Tx, ids, withLines []string) ([]lockedOrder, error) {
	var list []lockedOrder
	err := tx.SelectContext(ctx, &list, `
		SELECT `+decidingColumns+`,
		       CASE WHEN o.id = ANY($2::uuid[]) THEN `+lineList+` END AS lines
		  FROM orders.orders o
		 WHERE o.id = ANY($1::uuid[])
		 ORDER BY o.id
		   FOR UPDATE`, ids, withLines)
	if err != nil {
		return nil, fmt.Errorf("lock %d orders: %w", len(ids), err)
	}
	return list, readDetails(ctx, tx, list, Delivered, Refunding)
}

// readDetails reads the lines, returns and refunds of those orders of list, which
// are locked, that are in one of these statuses; of all without one. It is a
// statement of its own because one that waits for a row's lock sees that row anew,
// but everything else as it was when the waiting began.
func readDetails(ctx context.Context, tx *messaging.Tx, list []lockedOrder, of ...Status) error {
	places := map[string]int{}
	var ids []string
	for i, o := range list {
		if len(of) == 0 || slices.Contains(of, o.Status) {
			places[o.ID] = i
			ids = append(ids, o.ID)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	var details []struct {
		ID      string  `db:"id"`
		Lines   Lines   `db:"lines"`
		Returns Returns `db:"returns"`
		Refunds Refunds `db:"refunds"`
	}
	err := tx.SelectContext(ctx, &details, `
		SELECT o.id, `+lineList+` AS lines, `+returnList+` AS returns, `+refundList+` AS refunds
		  FROM orders.orders o
		 WHERE o.id = ANY($1::uuid[])`, ids)
	if err != nil {
		return fmt.Errorf("read the details of %d orders: %w", len(ids), err)
	}
	for _, d := range details {
		o := &list[places[d.ID]]
		o.Lines, o.Returns, o.Refunds = d.Lines, d.Returns, d.Refunds
	}
	return nil
}

// lockOrder locks the customer's order id, or anybody's for the customer "", and
// reads all of it. It returns ErrNotFound when the customer has no such order.
func lockOrder(ctx context.Context, tx *messaging.Tx, id, customerID string) (lockedOrder, error) {
	list := make([]lockedOrder, 1)
	err := tx.GetContext(ctx, &list[0], `
		SELECT `+decidingColumns+`
		  FROM orders.orders o
		 WHERE o.id = $1
		   AND ($2 = '' OR o.customer_id = $2)
		   FOR UPDATE`, id, customerID)
	if errors.Is(err, sql.ErrNoRows) {
		return lockedOrder{}, ErrNotFound
	}
	if err != nil {
		return lockedOrder{}, fmt.Errorf("lock order %s: %w", id, err)
	}
	if err := readDetails(ctx, tx, list); err != nil {
		return lockedOrder{}, err
	}
	return list[0], nil
}

// lockDueOrders locks, the longest due first, at most limit orders whose deadline
// is up and that nobody else has in hand. The time is a sub-select because a
// volatile function can't be an index condition.
func lockDueOrders(ctx context.Context, tx *messaging.Tx, limit int) ([]lockedOrder, error) {
	var list []lockedOrder
	err := tx.SelectContext(ctx, &list, `
		SELECT `+decidingColumns+`
		  FROM orders.orders o
		 WHERE o.deadline <= (SELECT messaging.shop_now())
		 ORDER BY o.deadline
		 LIMIT $1
		   FOR UPDATE SKIP LOCKED`, limit)
	if err != nil {
		return nil, fmt.Errorf("lock due orders: %w", err)
	}
	return list, readDetails(ctx, tx, list, Placed, Delivered, Refunding)
}

// updateOrder queues what step changes in the order's row, and its history row.
// The row is locked. Of several steps in one statement the last is how it stands.
func updateOrder(tx *messaging.Tx, step Step) {
	o := step.Order
	tx.QueueRow(`
		UPDATE orders.orders o
		   SET total_minor = c.total_minor, status = c.status, reason_code = c.reason_code, version = c.version, ends_as = c.ends_as,
		       resume = c.resume, resume_reason = c.resume_reason, resends = c.resends, attempt = c.attempt, capture_id = c.capture_id,
		       payment_token = c.payment_token, declines = c.declines, awaits_release = c.awaits_release, awaits_void = c.awaits_void,
		       packed = c.packed, captured = c.captured, dispatched = c.dispatched, tracking = c.tracking,
		       return_until = c.return_until, deadline = c.deadline, changed_at = c.changed_at
		  FROM (SELECT DISTINCT ON (id) *
		          FROM unnest($1::uuid[], $2::bigint[], $3::text[], $4::text[], $5::integer[], $6::text[], $7::text[], $8::text[],
		                      $9::integer[], $10::integer[], $11::uuid[], $12::text[], $13::integer[], $14::boolean[], $15::boolean[],
		                      $16::boolean[], $17::boolean[], $18::boolean[], $19::text[], $20::timestamptz[], $21::timestamptz[],
		                      $22::timestamptz[])
		               WITH ORDINALITY AS c (id, total_minor, status, reason_code, version, ends_as, resume, resume_reason,
		                      resends, attempt, capture_id, payment_token, declines, awaits_release, awaits_void,
		                      packed, captured, dispatched, tracking, return_until, deadline,
		                      changed_at, n)
		         ORDER BY id, n DESC) c
		 WHERE o.id = c.id`,
		o.ID, o.TotalMinor, string(o.Status), o.ReasonCode, o.Version, string(o.EndsAs), string(o.Resume), o.ResumeReason,
		o.Resends, o.Attempt, o.CaptureID, o.PaymentToken, o.Declines, o.AwaitsRelease, o.AwaitsVoid,
		o.Packed, o.Captured, o.Dispatched, o.Tracking, o.ReturnUntil, o.Deadline,
		o.ChangedAt)
	if e := step.Entry; e != nil {
		tx.QueueRow(`
		INSERT INTO orders.history (order_id, version, from_status, status, trigger, reason_code, note, at)
		SELECT *
		  FROM unnest($1::uuid[], $2::integer[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::timestamptz[])`,
			o.ID, o.Version, string(e.From), string(o.Status), e.Trigger, o.ReasonCode, e.Note, o.ChangedAt)
	}
}

// updateLines queues the quantities of o's lines, which are read.
func updateLines(tx *messaging.Tx, o Order) {
	n := len(o.Lines)
	skus, missing, short, refunded, returned := make([]string, n), make([]int32, n), make([]int32, n), make([]int32, n), make([]int32, n)
	for i, l := range o.Lines {
		skus[i], missing[i], short[i], refunded[i], returned[i] = l.SKU, int32(l.Missing), int32(l.Short), int32(l.Refunded), int32(l.Returned)
	}
	tx.Queue(`
		UPDATE orders.lines l
		   SET missing = c.missing, short = c.short, refunded = c.refunded, returned = c.returned
		  FROM unnest($2::text[], $3::integer[], $4::integer[], $5::integer[], $6::integer[]) AS c (sku, missing, short, refunded, returned)
		 WHERE l.order_id = $1
		   AND l.sku = c.sku`, o.ID, skus, missing, short, refunded, returned)
}

// upsertReturn queues a return of order id, new or changed.
func upsertReturn(tx *messaging.Tx, id string, r Return) error {
	lines, err := json.Marshal(r.Lines)
	if err != nil {
		return fmt.Errorf("encode return %s of order %s: %w", r.ID, id, err)
	}
	tx.Queue(`
		INSERT INTO orders.returns (order_id, id, status, lines, asked_at)
		VALUES ($1, $2, $3, $4::jsonb, $5)
		ON CONFLICT (order_id, id) DO UPDATE
		   SET status = excluded.status, lines = excluded.lines`, id, r.ID, string(r.Status), string(lines), r.AskedAt)
	return nil
}

// upsertRefund queues a refund of order id, new or changed.
func upsertRefund(tx *messaging.Tx, id string, f Refund) error {
	lines, err := json.Marshal(f.Lines)
	if err != nil {
		return fmt.Errorf("encode refund %s of order %s: %w", f.ID, id, err)
	}
	tx.Queue(`
		INSERT INTO orders.refunds (order_id, id, status, reason_code, amount_minor, lines, asked_at, told_in)
		VALUES ($1, $2, $3, $4, $5, $6::jsonb, $7, $8)
		ON CONFLICT (order_id, id) DO UPDATE
		   SET status = excluded.status, told_in = excluded.told_in`,
		id, f.ID, string(f.Status), f.ReasonCode, f.AmountMinor, string(lines), f.AskedAt, f.ToldIn)
	return nil
}

// insertDeed queues what an operator did.
func insertDeed(tx *messaging.Tx, d deed) {
	tx.Queue(`
		INSERT INTO orders.audit (actor, role, action, order_id, reason, request_id)
		VALUES ($1, $2, $3, $4, $5, $6)`, d.Actor, string(d.Role), d.Action, d.OrderID, d.Reason, d.RequestID)
}
