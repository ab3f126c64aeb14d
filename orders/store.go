package orders

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jmoiron/sqlx"

	"example.com/orderflow/messaging"
	"example.com/orderflow/messaging/contracts"
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
	o.id, o.customer_id, o.customer_name, o.customer_email, o.class, o.currency, o.total_minor,
	o.status, o.reason_code, o.version, o.ends_as, o.reservation_id, o.payment_id, o.attempt, o.capture_id,
	o.payment_token, o.declines, o.awaits_release, o.awaits_void, o.tracking, o.deadline, o.created_at, o.changed_at,
	(SELECT messaging.shop_now()) AS now`

// lineList is the lines of orders.orders o as one JSON value.
const lineList = `
	(SELECT json_agg(json_build_object(
	            'sku', l.sku, 'name', l.name, 'quantity', l.quantity, 'unit_price_minor', l.unit_price_minor) ORDER BY l.position)
	   FROM orders.lines l
	  WHERE l.order_id = o.id)`

// lockOrders locks the orders ids in one statement, sorted, and reads the lines
// of those that are in withLines. Unknown ids are left out.
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
	return list, nil
}

// lockOrder locks the customer's order id. It returns ErrNotFound when the
// customer has no such order.
func lockOrder(ctx context.Context, tx *messaging.Tx, id, customerID string) (lockedOrder, error) {
	var o lockedOrder
	err := tx.GetContext(ctx, &o, `
		SELECT `+decidingColumns+`
		  FROM orders.orders o
		 WHERE o.id = $1
		   AND o.customer_id = $2
		   FOR UPDATE`, id, customerID)
	if errors.Is(err, sql.ErrNoRows) {
		return lockedOrder{}, ErrNotFound
	}
	if err != nil {
		return lockedOrder{}, fmt.Errorf("lock order %s: %w", id, err)
	}
	return o, nil
}

// lockDueOrders locks, the longest due first, at most limit orders whose deadline
// is up and that nobody else has in hand. The time is a sub-select because a
// volatile function can't be an index condition.
func lockDueOrders(ctx context.Context, tx *messaging.Tx, limit int) ([]lockedOrder, error) {
	var list []lockedOrder
	err := tx.SelectContext(ctx, &list, `
		SELECT `+decidingColumns+`,
		       CASE WHEN o.status = 'placed' THEN `+lineList+` END AS lines
		  FROM orders.orders o
		 WHERE o.deadline <= (SELECT messaging.shop_now())
		 ORDER BY o.deadline
		 LIMIT $1
		   FOR UPDATE SKIP LOCKED`, limit)
	if err != nil {
		return nil, fmt.Errorf("lock due orders: %w", err)
	}
	return list, nil
}

// updateOrder queues what step changes in the order's row, and its history row.
// The row is locked. Of several steps in one statement the last is how it stands.
func updateOrder(tx *messaging.Tx, step Step) {
	o := step.Order
	tx.QueueRow(`
		UPDATE orders.orders o
		   SET status = c.status, reason_code = c.reason_code, version = c.version, ends_as = c.ends_as, attempt = c.attempt,
		       capture_id = c.capture_id, payment_token = c.payment_token, declines = c.declines, awaits_release = c.awaits_release,
		       awaits_void = c.awaits_void, tracking = c.tracking, deadline = c.deadline, changed_at = c.changed_at
		  FROM (SELECT DISTINCT ON (id) *
		          FROM unnest($1::uuid[], $2::text[], $3::text[], $4::integer[], $5::text[], $6::integer[], $7::uuid[], $8::text[],
		                      $9::integer[], $10::boolean[], $11::boolean[], $12::text[], $13::timestamptz[], $14::timestamptz[])
		               WITH ORDINALITY AS c (id, status, reason_code, version, ends_as, attempt, capture_id, payment_token,
		                      declines, awaits_release, awaits_void, tracking, deadline, changed_at, n)
		         ORDER BY id, n DESC) c
		 WHERE o.id = c.id`,
		o.ID, string(o.Status), o.ReasonCode, o.Version, string(o.EndsAs), o.Attempt, o.CaptureID, o.PaymentToken,
		o.Declines, o.AwaitsRelease, o.AwaitsVoid, o.Tracking, o.Deadline, o.ChangedAt)
	if e := step.Entry; e != nil {
		tx.QueueRow(`
		INSERT INTO orders.history (order_id, version, from_status, status, trigger, reason_code, note, at)
		SELECT *
		  FROM unnest($1::uuid[], $2::integer[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::timestamptz[])`,
			o.ID, o.Version, string(e.From), string(o.Status), e.Trigger, o.ReasonCode, e.Note, o.ChangedAt)
	}
}

// product is what orders knows of a product.
type product struct {
	SKU        string `json:"sku"`
	Name       string `json:"name"`
	PriceMinor int64  `json:"price_minor"`
	Currency   string `json:"currency"`
	Active     bool   `json:"active"`
}

// opening is all that placing an order has to read.
type opening struct {
	Now         time.Time      `db:"now"`
	Locked      bool           `db:"locked"`      // the key is ours until the transaction ends
	Fingerprint sql.NullString `db:"fingerprint"` // of the request that used the key before
	Status      sql.NullInt64  `db:"status"`      // of its answer
	Body        []byte         `db:"body"`
	OrderID     sql.NullString `db:"order_id"`
	Products    []byte         `db:"products"` // JSON
}

// openOrder locks the caller's key without waiting, reads what was answered to
// it before, and looks up skus, in one statement. Its view may be older than the
// lock: insertOrder finds out.
func openOrder(ctx context.Context, tx *messaging.Tx, caller, key string, skus []string) (opening, error) {
	var op opening
	err := tx.GetContext(ctx, &op, `
		SELECT messaging.shop_now() AS now,
		       pg_try_advisory_xact_lock(hashtextextended($1::text || chr(31) || $2::text, 0)) AS locked,
		       k.fingerprint, k.status, k.body, k.order_id,
		       (SELECT json_agg(json_build_object(
		                   'sku', p.sku, 'name', p.name, 'price_minor', p.price_minor, 'currency', p.currency, 'active', p.active))
		          FROM orders.products p
		         WHERE p.sku = ANY($3::text[])) AS products
		  FROM (SELECT) AS once
		  LEFT JOIN orders.idempotency_keys k ON k.caller = $1 AND k.key = $2`, caller, key, skus)
	if err != nil {
		return opening{}, fmt.Errorf("look up key and %d products: %w", len(skus), err)
	}
	return op, nil
}

// insertOrder queues a new order with its lines, its first history row and the
// answer to its Idempotency-Key, in one statement. The commit's error is keyTaken
// when the key has an answer already.
func insertOrder(tx *messaging.Tx, o Order, e Entry, a answer) {
	n := len(o.Lines)
	skus, names, quantities, prices := make([]string, n), make([]string, n), make([]int32, n), make([]int64, n)
	for i, l := range o.Lines {
		skus[i], names[i], quantities[i], prices[i] = l.SKU, l.Name, int32(l.Quantity), l.UnitPriceMinor
	}
	tx.Queue(`
		WITH inserted AS (
			INSERT INTO orders.orders (id, customer_id, customer_name, customer_email, customer_address, note, class, currency, total_minor,
			       status, reason_code, version, ends_as, reservation_id, payment_id, attempt, capture_id, payment_token, declines,
			       awaits_release, awaits_void, tracking, deadline, created_at, changed_at)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, '', $13, $14, 0, $15, $16, 0, false, false, '', $17, $18, $18)
		), listed AS (
			INSERT INTO orders.lines (order_id, position, sku, name, quantity, unit_price_minor)
			SELECT $1, l.position, l.sku, l.name, l.quantity, l.price
			  FROM unnest($19::text[], $20::text[], $21::integer[], $22::bigint[]) WITH ORDINALITY AS l(sku, name, quantity, price, position)
		), entered AS (
			INSERT INTO orders.history (order_id, version, from_status, status, trigger, reason_code, note, at)
			VALUES ($1, $12, '', $10, $23, $11, '', $18)
		)
		INSERT INTO orders.idempotency_keys (caller, key, fingerprint, status, body, order_id, created_at)
		VALUES ($2, $24, $25, $26, $27, $1, $18)`,
		o.ID, o.CustomerID, o.CustomerName, o.CustomerEmail, o.CustomerAddress, o.Note, o.Class, o.Currency, o.TotalMinor,
		o.Status, o.ReasonCode, o.Version, o.ReservationID, o.PaymentID, o.CaptureID, o.PaymentToken, o.Deadline, o.CreatedAt,
		skus, names, quantities, prices, e.Trigger, a.Key, a.Fingerprint, a.Status, a.Body)
}

// keyTaken reports whether err is insertOrder's: another request with the same
// Idempotency-Key has committed since we looked.
func keyTaken(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == "23505" && pg.ConstraintName == "idempotency_keys_pkey"
}

// updateAnswer queues that the caller's key is answered otherwise from now on.
func updateAnswer(tx *messaging.Tx, caller string, a answer) {
	tx.Queue(`
		UPDATE orders.idempotency_keys
		   SET status = $3, body = $4
		 WHERE caller = $1
		   AND key = $2`, caller, a.Key, a.Status, a.Body)
}

// upsertProduct queues what m says of a product, unless something newer is known.
func upsertProduct(tx *messaging.Tx, m contracts.ProductChanged, at time.Time) {
	tx.Queue(`
		INSERT INTO orders.products AS p (sku, name, price_minor, currency, active, changed_at)
		VALUES ($1, $2, $3, $4, $5, $6)
		ON CONFLICT (sku) DO UPDATE
		   SET name = excluded.name, price_minor = excluded.price_minor, currency = excluded.currency,
		       active = excluded.active, changed_at = excluded.changed_at
		 WHERE p.changed_at <= excluded.changed_at`, m.SKU, m.Name, m.PriceMinor, m.Currency, m.Active, at)
}

// hasProducts reports whether any product is known.
func hasProducts(ctx context.Context, db *sqlx.DB) (bool, error) {
	var known bool
	if err := db.GetContext(ctx, &known, `SELECT EXISTS (SELECT FROM orders.products)`); err != nil {
		return false, fmt.Errorf("look for products: %w", err)
	}
	return known, nil
}

// findOrder reads the customer's order id as it is shown. It returns ErrNotFound
// when the customer has no such order.
func findOrder(ctx context.Context, db *sqlx.DB, id, customerID string) (document, error) {
	var row struct {
		summary
		EndsAs  Status  `db:"ends_as"`
		Lines   Lines   `db:"lines"`
		History History `db:"history"`
	}
	err := db.GetContext(ctx, &row, `
		SELECT o.id, o.status, o.reason_code, o.total_minor, o.currency, o.version, o.tracking, o.created_at, o.ends_as,
		       `+lineList+` AS lines,
		       (SELECT json_agg(json_build_object(
		                   'version', h.version, 'status', h.status, 'from', h.from_status, 'reason_code', h.reason_code, 'at', h.at) ORDER BY h.version)
		          FROM orders.history h
		         WHERE h.order_id = o.id) AS history
		  FROM orders.orders o
		 WHERE o.id = $1
		   AND o.customer_id = $2`, id, customerID)
	if errors.Is(err, sql.ErrNoRows) {
		return document{}, ErrNotFound
	}
	if err != nil {
		return document{}, fmt.Errorf("find order %s: %w", id, err)
	}
	return newDocument(row.summary, row.EndsAs, row.Lines, row.History), nil
}

// findStatus reads the status of order id. It returns ErrNotFound when there is
// no such order.
func findStatus(ctx context.Context, db *sqlx.DB, id string) (Status, error) {
	var status Status
	err := db.GetContext(ctx, &status, `SELECT status FROM orders.orders WHERE id = $1`, id)
	if errors.Is(err, sql.ErrNoRows) {
		return Unplaced, ErrNotFound
	}
	if err != nil {
		return Unplaced, fmt.Errorf("find the status of order %s: %w", id, err)
	}
	return status, nil
}

// listOrders reads at most limit of the customer's orders, newest first, older
// than the order before unless that is "", in status unless that is "".
func listOrders(ctx context.Context, db *sqlx.DB, customerID string, status Status, before string, limit int) ([]summary, error) {
	list := []summary{}
	err := db.SelectContext(ctx, &list, `
		SELECT o.id, o.status, o.reason_code, o.total_minor, o.currency, o.version, o.tracking, o.created_at
		  FROM orders.orders o
		 WHERE o.customer_id = $1
		   AND ($2 = '' OR o.status = $2)
		   AND o.id < COALESCE(NULLIF($3, ''), 'ffffffff-ffff-ffff-ffff-ffffffffffff')::uuid
		 ORDER BY o.id DESC
		 LIMIT $4`, customerID, status, before, limit)
	if err != nil {
		return nil, fmt.Errorf("list orders: %w", err)
	}
	for i := range list {
		list[i].CreatedAt = list[i].CreatedAt.UTC()
	}
	return list, nil
}

// Lines are an order's lines, read from one JSON value.
type Lines []Line

// Scan reads what the database aggregated.
func (l *Lines) Scan(src any) error { return scanJSON(src, l) }

// History is an order's history, read from one JSON value.
type History []Entry

// Scan reads what the database aggregated.
func (h *History) Scan(src any) error { return scanJSON(src, h) }

func scanJSON(src, target any) error {
	switch v := src.(type) {
	case nil:
		return nil
	case []byte:
		return json.Unmarshal(v, target)
	case string:
		return json.Unmarshal([]byte(v), target)
	}
	return fmt.Errorf("scan %T as JSON", src)
}
