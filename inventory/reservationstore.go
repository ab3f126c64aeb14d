package inventory

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/jmoiron/sqlx"

	"example.com/orderflow/messaging"
)

// reservationRow is a reservation with its lines, as selected by
// reservationColumns.
type reservationRow struct {
	ID       string `db:"id"`
	OrderID  string `db:"order_id"`
	Status   Status `db:"status"`
	Asked    bool   `db:"asked"`
	Partial  bool   `db:"partial"`
	Amended  bool   `db:"amended"`
	ByHand   bool   `db:"by_hand"`
	Tracking string `db:"tracking"`
	Reason   string `db:"reason"`
	Short    []byte `db:"short"`
	Lines    []byte `db:"lines"`
}

// reservationColumns is what reservationRow scans from "inventory.reservations r".
// A row that is locked after waiting for another transaction is the newer version,
// but its lines are those of before: withLines reads them again where that matters.
const reservationColumns = `
			r.id, r.order_id, r.status, r.status = 'packed' AND r.next_at IS NOT NULL AS asked, r.partial, r.amended, r.by_hand, r.tracking, r.reason,
			to_json(r.short_skus) AS short,
			(SELECT coalesce(json_agg(json_build_object(
				'sku', l.sku, 'quantity', l.quantity, 'written_off', l.written_off, 'returned', l.returned) ORDER BY l.sku COLLATE "C"), '[]')
			 FROM inventory.reservation_lines l
			 WHERE l.reservation_id = r.id) AS lines`

func (row reservationRow) reservation() (Reservation, error) {
	r := Reservation{
		ID: row.ID, OrderID: row.OrderID, Status: row.Status, Partial: row.Partial, Asked: row.Asked, Amended: row.Amended, ByHand: row.ByHand,
		Tracking: row.Tracking, Reason: row.Reason,
	}
	if err := errors.Join(json.Unmarshal(row.Lines, &r.Lines), json.Unmarshal(row.Short, &r.Short)); err != nil {
		return Reservation{}, fmt.Errorf("read reservation %s: %w", row.ID, err)
	}
	return r, nil
}

// withLines returns the reservations of rows, which tx has locked, with their
// lines as they are now: those of most were written with them and never changed.
func withLines(ctx context.Context, tx *messaging.Tx, rows []reservationRow) ([]Reservation, error) {
	list := make([]Reservation, len(rows))
	amended := map[string]*Reservation{}
	for i, row := range rows {
		r, err := row.reservation()
		if err != nil {
			return nil, err
		}
		list[i] = r
		if r.Amended {
			list[i].Lines = nil
			amended[r.ID] = &list[i]
		}
	}
	if len(amended) == 0 {
		return list, nil
	}
	var lines []struct {
		ReservationID string `db:"reservation_id"`
		SKU           string `db:"sku"`
		Quantity      int    `db:"quantity"`
		WrittenOff    int    `db:"written_off"`
		Returned      int    `db:"returned"`
	}
	err := tx.SelectContext(ctx, &lines, `
		SELECT reservation_id, sku, quantity, written_off, returned
		FROM inventory.reservation_lines
		WHERE reservation_id = ANY ($1::uuid[])
		ORDER BY reservation_id, sku COLLATE "C"`,
		slices.Collect(maps.Keys(amended)))
	if err != nil {
		return nil, fmt.Errorf("read the lines of %d reservations: %w", len(amended), err)
	}
	for _, l := range lines {
		r := amended[l.ReservationID]
		r.Lines = append(r.Lines, Line{SKU: l.SKU, Quantity: l.Quantity, WrittenOff: l.WrittenOff, Returned: l.Returned})
	}
	return list, nil
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
	list, err := withLines(ctx, tx, rows)
	if err != nil {
		return nil, err
	}
	found := map[string]Reservation{}
	for _, r := range list {
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
	return withLines(ctx, tx, rows)
}

// findReservation returns the latest reservation of an order; false when there
// is none.
func findReservation(ctx context.Context, db *sqlx.DB, orderID string) (Reservation, bool, error) {
	var rows []reservationRow
	err := db.SelectContext(ctx, &rows, `
		SELECT`+reservationColumns+`
		FROM inventory.reservations r
		WHERE r.order_id = $1
		ORDER BY r.id DESC
		LIMIT 1`,
		orderID)
	if err != nil {
		return Reservation{}, false, fmt.Errorf("find the reservation of order %s: %w", orderID, err)
	}
	if len(rows) == 0 {
		return Reservation{}, false, nil
	}
	r, err := rows[0].reservation()
	return r, err == nil, err
}

// lockOrder locks the latest reservation of an order; false when there is none.
func lockOrder(ctx context.Context, tx *messaging.Tx, orderID string) (Reservation, bool, error) {
	var rows []reservationRow
	err := tx.SelectContext(ctx, &rows, `
		SELECT`+reservationColumns+`
		FROM inventory.reservations r
		WHERE r.order_id = $1
		ORDER BY r.id DESC
		LIMIT 1
		FOR UPDATE OF r`,
		orderID)
	if err != nil {
		return Reservation{}, false, fmt.Errorf("lock the reservation of order %s: %w", orderID, err)
	}
	list, err := withLines(ctx, tx, rows)
	if err != nil || len(list) == 0 {
		return Reservation{}, false, err
	}
	return list[0], true, nil
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

// insertReservation queues a new reservation and its lines. The commit fails on
// the key when there is one of that id.
func insertReservation(tx *messaging.Tx, d decision) {
	tx.QueueRow(`
		INSERT INTO inventory.reservations (id, order_id, status, partial, next_at, reason, short_skus)
		SELECT r.id, r.order_id, r.status, r.partial, messaging.shop_now() + make_interval(secs => r.next), r.reason, string_to_array(r.short, ',')
		FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::boolean[], $5::float8[], $6::text[], $7::text[])
			AS r (id, order_id, status, partial, next, reason, short)`,
		d.ID, d.OrderID, string(d.Status), d.Partial, seconds(d.Due), d.Reason, strings.Join(d.Short, ","))
	for _, l := range d.Lines {
		tx.QueueRow(`
		INSERT INTO inventory.reservation_lines (reservation_id, sku, quantity)
		SELECT * FROM unnest($1::uuid[], $2::text[], $3::bigint[])`,
			d.ID, l.SKU, int64(l.Quantity))
	}
}

// updateReservation queues how a reservation, which tx has locked, stands now. Of
// several decisions in one statement the last is how it stands.
func updateReservation(tx *messaging.Tx, d decision) {
	tx.QueueRow(`
		UPDATE inventory.reservations r
		SET status = c.status,
			next_at = CASE WHEN c.next = 'infinity' THEN 'infinity' ELSE messaging.shop_now() + make_interval(secs => c.next) END,
			tracking = c.tracking,
			reason = c.reason,
			amended = c.amended
		FROM (SELECT DISTINCT ON (id) *
		      FROM unnest($1::uuid[], $2::text[], $3::float8[], $4::text[], $5::text[], $6::boolean[])
		      	WITH ORDINALITY AS c (id, status, next, tracking, reason, amended, n)
		      ORDER BY id, n DESC) c
		WHERE r.id = c.id`,
		d.ID, string(d.Status), seconds(d.Due), d.Tracking, d.Reason, d.Amended)
}

// takeInHand queues that no step of a reservation, which tx has locked, happens by
// itself any more. A hold still expires: nobody has asked for its goods yet.
func takeInHand(tx *messaging.Tx, id string) {
	tx.Queue(`
		UPDATE inventory.reservations
		SET by_hand = true,
			next_at = CASE WHEN status = 'held' OR next_at IS NULL THEN next_at ELSE 'infinity' END
		WHERE id = $1`,
		id)
}

// amendLines queues how the lines of a reservation stand now, if any of them has
// changed since they were written. Of several in one statement the last counts.
func amendLines(tx *messaging.Tx, r Reservation) {
	if !r.Amended {
		return
	}
	for _, l := range r.Lines {
		tx.QueueRow(`
		UPDATE inventory.reservation_lines l
		SET written_off = c.written_off, returned = c.returned
		FROM (SELECT DISTINCT ON (reservation_id, sku) *
		      FROM unnest($1::uuid[], $2::text[], $3::bigint[], $4::bigint[])
		      	WITH ORDINALITY AS c (reservation_id, sku, written_off, returned, n)
		      ORDER BY reservation_id, sku, n DESC) c
		WHERE l.reservation_id = c.reservation_id AND l.sku = c.sku`,
			r.ID, l.SKU, int64(l.WrittenOff), int64(l.Returned))
	}
}
