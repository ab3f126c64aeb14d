package inventory

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/jmoiron/sqlx"

	"example.com/orderflow/messaging"
)

// anyProduct reports whether there is any product.
func anyProduct(ctx context.Context, q sqlx.QueryerContext) (bool, error) {
	var found bool
	err := sqlx.GetContext(ctx, q, &found, `SELECT EXISTS (SELECT FROM inventory.products)`)
	if err != nil {
		return false, fmt.Errorf("look for products: %w", err)
	}
	return found, nil
}

// insertProducts inserts those of products whose SKU is new, with their first
// stock, and returns the SKUs of these.
func insertProducts(ctx context.Context, tx *messaging.Tx, products []Product) (map[string]bool, error) {
	var skus, names, currencies []string
	var prices, pieces []int64
	for _, p := range products {
		skus, names, currencies = append(skus, p.SKU), append(names, p.Name), append(currencies, p.Currency)
		prices, pieces = append(prices, p.PriceMinor), append(pieces, p.Available)
	}
	var added []string
	err := tx.SelectContext(ctx, &added, `
		WITH given AS (
			SELECT *
			FROM unnest($1::text[], $2::text[], $3::bigint[], $4::text[], $5::bigint[])
				AS p (sku, name, price_minor, currency, pieces)
		), added AS (
			INSERT INTO inventory.products (sku, name, price_minor, currency)
			SELECT sku, name, price_minor, currency
			FROM given
			ORDER BY sku
			ON CONFLICT (sku) DO NOTHING
			RETURNING sku
		)
		INSERT INTO inventory.stock (sku, initial, available)
		SELECT sku, pieces, pieces
		FROM given
		JOIN added USING (sku)
		RETURNING sku`,
		skus, names, prices, currencies, pieces)
	if err != nil {
		return nil, fmt.Errorf("insert products: %w", err)
	}
	set := map[string]bool{}
	for _, sku := range added {
		set[sku] = true
	}
	return set, nil
}

// listProducts returns every product on sale, by SKU.
func listProducts(ctx context.Context, db *sqlx.DB) ([]Product, error) {
	list := []Product{}
	err := db.SelectContext(ctx, &list, `
		SELECT p.sku, p.name, p.price_minor, p.currency, s.available
		FROM inventory.products p
		JOIN inventory.stock s USING (sku)
		WHERE p.active
		ORDER BY p.sku`)
	if err != nil {
		return nil, fmt.Errorf("list products: %w", err)
	}
	return list, nil
}

// readOnSale returns the pieces that are available of those of skus that are on
// sale. It locks nothing.
func readOnSale(ctx context.Context, tx *messaging.Tx, skus []string) (map[string]int64, error) {
	available := map[string]int64{}
	if len(skus) == 0 {
		return available, nil
	}
	var rows []Product
	err := tx.SelectContext(ctx, &rows, `
		SELECT s.sku, s.available
		FROM inventory.stock s
		JOIN inventory.products p USING (sku)
		WHERE s.sku = ANY ($1::text[]) AND p.active`,
		skus)
	if err != nil {
		return nil, fmt.Errorf("read the stock of %d products: %w", len(skus), err)
	}
	for _, r := range rows {
		available[r.SKU] = r.Available
	}
	return available, nil
}

// addStock adds pieces that came in to a SKU and returns its product; false when
// there is none.
func addStock(ctx context.Context, tx *messaging.Tx, sku string, pieces int64) (Product, bool, error) {
	var p Product
	err := tx.GetContext(ctx, &p, `
		UPDATE inventory.stock s
		SET restocked = s.restocked + $2, available = s.available + $2
		FROM inventory.products p
		WHERE s.sku = $1 AND p.sku = s.sku
		RETURNING p.sku, p.name, p.price_minor, p.currency, s.available`,
		sku, pieces)
	if errors.Is(err, sql.ErrNoRows) {
		return Product{}, false, nil
	}
	if err != nil {
		return Product{}, false, fmt.Errorf("add stock of %s: %w", sku, err)
	}
	return p, true, nil
}

// lockStock locks the stock rows of skus (sorted) and returns the pieces that
// are available of each that exists.
func lockStock(ctx context.Context, tx *messaging.Tx, skus []string) (map[string]int64, error) {
	available := map[string]int64{}
	if len(skus) == 0 {
		return available, nil
	}
	var rows []struct {
		SKU       string `db:"sku"`
		Available int64  `db:"available"`
	}
	err := tx.SelectContext(ctx, &rows, `
		SELECT sku, available
		FROM inventory.stock
		WHERE sku = ANY ($1::text[])
		ORDER BY sku
		FOR UPDATE`,
		skus)
	if err != nil {
		return nil, fmt.Errorf("lock the stock of %d products: %w", len(skus), err)
	}
	for _, r := range rows {
		available[r.SKU] = r.Available
	}
	return available, nil
}

// reservationRow is a reservation with its lines, as selected by
// reservationColumns.
type reservationRow struct {
	ID       string `db:"id"`
	OrderID  string `db:"order_id"`
	Status   Status `db:"status"`
	Asked    bool   `db:"asked"`
	Tracking string `db:"tracking"`
	Reason   string `db:"reason"`
	Short    []byte `db:"short"`
	Lines    []byte `db:"lines"`
}

// reservationColumns is what reservationRow scans from "inventory.reservations r".
// Lines are written with their reservation and never change: a locked row whose
// newer version is returned has still the same.
const reservationColumns = `
			r.id, r.order_id, r.status, r.status = 'packed' AND r.next_at IS NOT NULL AS asked, r.tracking, r.reason,
			to_json(r.short_skus) AS short,
			(SELECT coalesce(json_agg(json_build_object('sku', l.sku, 'quantity', l.quantity) ORDER BY l.sku COLLATE "C"), '[]')
			 FROM inventory.reservation_lines l
			 WHERE l.reservation_id = r.id) AS lines`

func (row reservationRow) reservation() (Reservation, error) {
	r := Reservation{ID: row.ID, OrderID: row.OrderID, Status: row.Status, Asked: row.Asked, Tracking: row.Tracking, Reason: row.Reason}
	if err := errors.Join(json.Unmarshal(row.Lines, &r.Lines), json.Unmarshal(row.Short, &r.Short)); err != nil {
		return Reservation{}, fmt.Errorf("read reservation %s: %w", row.ID, err)
	}
	return r, nil
}

// lockReservations locks those of the reservations ids (sorted) that exist, and
// returns them by id.
func lockReservations(ctx context.Context, tx *messaging.Tx, ids []string) (map[string]Reservation, error) {
	if len(ids) == 0 {
		return map[string]Reservation{}, nil
	}
	var rows []reservationRow
	err := tx.SelectContext(ctx, &rows, `
		SELECT`+reservationColumns+`
		FROM inventory.reservations r
		WHERE r.id = ANY ($1::uuid[])
		ORDER BY r.id
		FOR UPDATE OF r`,
		ids)
	if err != nil {
		return nil, fmt.Errorf("lock %d reservations: %w", len(ids), err)
	}
	found := map[string]Reservation{}
	for _, row := range rows {
		r, err := row.reservation()
		if err != nil {
			return nil, err
		}
		found[r.ID] = r
	}
	return found, nil
}

// untilDue returns how long until the next step of any reservation: at most a
// second, 0 or less when one is due.
func untilDue(ctx context.Context, tx *messaging.Tx) (time.Duration, error) {
	var seconds float64
	err := tx.GetContext(ctx, &seconds, `
		SELECT extract(epoch FROM least(
			(SELECT min(next_at) FROM inventory.reservations WHERE next_at IS NOT NULL),
			c.now + interval '1 second') - c.now)::float8
		FROM (SELECT messaging.shop_now() AS now) c`)
	if err != nil {
		return 0, fmt.Errorf("look for due reservations: %w", err)
	}
	return time.Duration(seconds * float64(time.Second)), nil
}

// lockDue locks up to limit reservations whose next step is due, oldest first,
// passing over those that somebody else has locked.
func lockDue(ctx context.Context, tx *messaging.Tx, limit int) ([]Reservation, error) {
	var rows []reservationRow
	// The clock is volatile: only as a subquery can it bound an index scan.
	err := tx.SelectContext(ctx, &rows, `
		SELECT`+reservationColumns+`
		FROM inventory.reservations r
		WHERE r.next_at <= (SELECT messaging.shop_now())
		ORDER BY r.next_at
		LIMIT $1
		FOR UPDATE OF r SKIP LOCKED`,
		limit)
	if err != nil {
		return nil, fmt.Errorf("lock due reservations: %w", err)
	}
	due := make([]Reservation, 0, len(rows))
	for _, row := range rows {
		r, err := row.reservation()
		if err != nil {
			return nil, err
		}
		due = append(due, r)
	}
	return due, nil
}

// findReservation returns the latest reservation of an order; false when there
// is none.
func findReservation(ctx context.Context, db *sqlx.DB, orderID string) (Reservation, bool, error) {
	var row reservationRow
	err := db.GetContext(ctx, &row, `
		SELECT`+reservationColumns+`
		FROM inventory.reservations r
		WHERE r.order_id = $1
		ORDER BY r.id DESC
		LIMIT 1`,
		orderID)
	return oneReservation(row, orderID, err)
}

// lockOrder locks the latest reservation of an order; false when there is none.
func lockOrder(ctx context.Context, tx *messaging.Tx, orderID string) (Reservation, bool, error) {
	var row reservationRow
	err := tx.GetContext(ctx, &row, `
		SELECT`+reservationColumns+`
		FROM inventory.reservations r
		WHERE r.order_id = $1
		ORDER BY r.id DESC
		LIMIT 1
		FOR UPDATE OF r`,
		orderID)
	return oneReservation(row, orderID, err)
}

func oneReservation(row reservationRow, orderID string, err error) (Reservation, bool, error) {
	if errors.Is(err, sql.ErrNoRows) {
		return Reservation{}, false, nil
	}
	if err != nil {
		return Reservation{}, false, fmt.Errorf("find the reservation of order %s: %w", orderID, err)
	}
	r, err := row.reservation()
	return r, err == nil, err
}

// moves is by how much quantity pieces change the counters of their SKU.
func (f flow) moves(quantity int) (available, reserved, soldPieces int64) {
	n := int64(quantity)
	switch f {
	case taken:
		return -n, n, 0
	case returned:
		return n, -n, 0
	case sold:
		return 0, -n, n
	}
	return 0, 0, 0
}

// seconds is d for next_at in SQL: nil for no step, infinite for one that waits
// for the operator.
func seconds(d time.Duration) *float64 {
	if d == noStep {
		return nil
	}
	s := d.Seconds()
	if d == byOperator {
		s = math.Inf(1)
	}
	return &s
}

// insertReservation queues a new reservation, its lines and what it takes from
// stock. The commit fails on the key when there is one of that id.
func insertReservation(tx *messaging.Tx, d decision) {
	tx.QueueRow(`
		INSERT INTO inventory.reservations (id, order_id, status, next_at, reason, short_skus)
		SELECT r.id, r.order_id, r.status, messaging.shop_now() + make_interval(secs => r.next), r.reason, string_to_array(r.short, ',')
		FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::float8[], $5::text[], $6::text[]) AS r (id, order_id, status, next, reason, short)`,
		d.ID, d.OrderID, string(d.Status), seconds(d.Due), d.Reason, strings.Join(d.Short, ","))
	for _, l := range d.Lines {
		tx.QueueRow(`
		INSERT INTO inventory.reservation_lines (reservation_id, sku, quantity)
		SELECT * FROM unnest($1::uuid[], $2::text[], $3::bigint[])`,
			d.ID, l.SKU, int64(l.Quantity))
	}
	moveStock(tx, d)
}

// updateReservation queues how a reservation, which tx has locked, stands now. Of
// several decisions in one statement the last is how it stands.
func updateReservation(tx *messaging.Tx, d decision) {
	tx.QueueRow(`
		UPDATE inventory.reservations r
		SET status = c.status,
			next_at = CASE WHEN c.next = 'infinity' THEN 'infinity' ELSE messaging.shop_now() + make_interval(secs => c.next) END,
			tracking = c.tracking,
			reason = c.reason
		FROM (SELECT DISTINCT ON (id) *
		      FROM unnest($1::uuid[], $2::text[], $3::float8[], $4::text[], $5::text[]) WITH ORDINALITY AS c (id, status, next, tracking, reason, n)
		      ORDER BY id, n DESC) c
		WHERE r.id = c.id`,
		d.ID, string(d.Status), seconds(d.Due), d.Tracking, d.Reason)
}

// moveStock queues what d does to the stock of its lines, whose rows tx has locked.
func moveStock(tx *messaging.Tx, d decision) {
	if d.Flow == stays {
		return
	}
	for _, l := range d.Lines {
		available, reserved, soldPieces := d.Flow.moves(l.Quantity)
		tx.QueueRow(`
		UPDATE inventory.stock s
		SET available = s.available + m.available, reserved = s.reserved + m.reserved, sold = s.sold + m.sold
		FROM (SELECT sku, sum(available)::bigint AS available, sum(reserved)::bigint AS reserved, sum(sold)::bigint AS sold
		      FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[]) AS m (sku, available, reserved, sold)
		      GROUP BY sku) m
		WHERE s.sku = m.sku`,
			l.SKU, available, reserved, soldPieces)
	}
}
