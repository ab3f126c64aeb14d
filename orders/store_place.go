package orders

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jmoiron/sqlx"

	"example.com/orderflow/messaging"
	"example.com/orderflow/messaging/contracts"
)

// product is what orders knows of a product.
type product struct {
	SKU        string `json:"sku"`
	Name       string `json:"name"`
	PriceMinor int64  `json:"price_minor"`
	Currency   string `json:"currency"`
	Active     bool   `json:"active"`
}

// opening is all that a request with an Idempotency-Key has to read before it acts.
type opening struct {
	Now         time.Time      `db:"now"`
	Locked      bool           `db:"locked"`      // the key is ours until the transaction ends
	Fingerprint sql.NullString `db:"fingerprint"` // of the request that used the key before
	Status      sql.NullInt64  `db:"status"`      // of its answer
	Body        []byte         `db:"body"`
	OrderID     sql.NullString `db:"order_id"`
	Products    []byte         `db:"products"` // JSON
}

// openKey locks the caller's key without waiting, reads what was answered to it
// before, and looks up skus, in one statement. Its view may be older than the
// lock: insertOrder and insertAnswer find out.
func openKey(ctx context.Context, tx *messaging.Tx, caller, key string, skus []string) (opening, error) {
	var op opening
	err := tx.GetContext(ctx, &op, `
		SELECT messaging.shop_now() AS now,
		       pg_try_advisory_xact_lock(hashtextextended($1::text || chr(31) || $2::text, 0)) AS locked,
		       k.fingerprint, k.status, k.body, k.order_id,
		       (SELECT coalesce(json_agg(json_build_object(
		                   'sku', p.sku, 'name', p.name, 'price_minor', p.price_minor, 'currency', p.currency, 'active', p.active)), '[]')
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
			       awaits_release, awaits_void, tracking, deadline, created_at, changed_at, allow_partial)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, '', $13, $14, 0, $15, $16, 0, false, false, '', $17, $18, $18, $28)
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
		skus, names, quantities, prices, e.Trigger, a.Key, a.Fingerprint, a.Status, a.Body, o.AllowPartial)
}

// insertAnswer queues the answer to the caller's key, used for action on an order
// that there is. The commit's error is keyTaken when the key has an answer already.
func insertAnswer(tx *messaging.Tx, caller, action string, a answer) {
	tx.Queue(`
		INSERT INTO orders.idempotency_keys (caller, key, fingerprint, status, body, order_id, created_at, action)
		VALUES ($1, $2, $3, $4, $5, $6, messaging.shop_now(), $7)`, caller, a.Key, a.Fingerprint, a.Status, a.Body, a.OrderID, action)
}

// keyTaken reports whether err is that of insertOrder or insertAnswer: another
// request with the same Idempotency-Key has committed since we looked.
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
