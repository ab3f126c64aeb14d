package inventory

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/jmoiron/sqlx"

	"example.com/orderflow/messaging"
)

// returnRow is a return with its lines, as selected by returnColumns.
type returnRow struct {
	ID            string `db:"id"`
	ReservationID string `db:"reservation_id"`
	OrderID       string `db:"order_id"`
	Received      bool   `db:"received"`
	Lines         []byte `db:"lines"`
}

// returnColumns is what returnRow scans from "inventory.returns t". Lines are
// written with their return and never change.
const returnColumns = `
			t.id, t.reservation_id, t.order_id, t.status = 'received' AS received,
			(SELECT json_agg(json_build_object('sku', l.sku, 'quantity', l.quantity) ORDER BY l.sku COLLATE "C")
			 FROM inventory.return_lines l
			 WHERE l.return_id = t.id) AS lines`

func returnsOf(rows []returnRow) ([]Return, error) {
	list := make([]Return, len(rows))
	for i, row := range rows {
		list[i] = Return{ID: row.ID, ReservationID: row.ReservationID, OrderID: row.OrderID, Received: row.Received}
		if err := json.Unmarshal(row.Lines, &list[i].Lines); err != nil {
			return nil, fmt.Errorf("read return %s: %w", row.ID, err)
		}
	}
	return list, nil
}

// readReturns returns all returns of the reservations, and those with the ids,
// wherever they belong. Who has locked a reservation has locked its returns.
func readReturns(ctx context.Context, tx *messaging.Tx, reservations, ids []string) ([]Return, error) {
	if len(reservations)+len(ids) == 0 {
		return nil, nil
	}
	var rows []returnRow
	err := tx.SelectContext(ctx, &rows, `
		SELECT`+returnColumns+`
		FROM inventory.returns t
		WHERE t.reservation_id = ANY ($1::uuid[]) OR t.id = ANY ($2::uuid[])
		ORDER BY t.id`,
		reservations, ids)
	if err != nil {
		return nil, fmt.Errorf("read the returns of %d reservations: %w", len(reservations), err)
	}
	return returnsOf(rows)
}

// listReturns returns the returns of a reservation, oldest first.
func listReturns(ctx context.Context, db *sqlx.DB, reservationID string) ([]Return, error) {
	var rows []returnRow
	err := db.SelectContext(ctx, &rows, `
		SELECT`+returnColumns+`
		FROM inventory.returns t
		WHERE t.reservation_id = $1
		ORDER BY t.id`,
		reservationID)
	if err != nil {
		return nil, fmt.Errorf("list the returns of reservation %s: %w", reservationID, err)
	}
	return returnsOf(rows)
}

// untilArrival is untilDue for returns.
func untilArrival(ctx context.Context, tx *messaging.Tx) (time.Duration, error) {
	var seconds float64
	err := tx.GetContext(ctx, &seconds, `
		SELECT extract(epoch FROM least(
			(SELECT min(next_at) FROM inventory.returns WHERE next_at IS NOT NULL),
			c.now + interval '1 second') - c.now)::float8
		FROM (SELECT messaging.shop_now() AS now) c`)
	if err != nil {
		return 0, fmt.Errorf("look for due returns: %w", err)
	}
	return time.Duration(seconds * float64(time.Second)), nil
}

// lockDueReturns locks the reservations of up to limit returns that are due,
// oldest first, passing over those that somebody else has locked, and returns
// both, the reservations by id. more reports whether there may be others.
func lockDueReturns(ctx context.Context, tx *messaging.Tx, limit int) (due []Return, reservations map[string]Reservation, more bool, err error) {
	var found []struct {
		ID            string `db:"id"`
		ReservationID string `db:"reservation_id"`
	}
	err = tx.SelectContext(ctx, &found, `
		SELECT t.id, t.reservation_id
		FROM inventory.returns t
		JOIN inventory.reservations r ON r.id = t.reservation_id
		WHERE t.next_at <= (SELECT messaging.shop_now())
		ORDER BY t.next_at
		LIMIT $1
		FOR UPDATE OF r SKIP LOCKED`,
		limit)
	if err != nil {
		return nil, nil, false, fmt.Errorf("lock the reservations of due returns: %w", err)
	}
	if len(found) == 0 {
		return nil, nil, false, nil
	}
	var ids, owners []string
	for _, f := range found {
		ids, owners = append(ids, f.ID), append(owners, f.ReservationID)
	}
	if reservations, err = lockReservations(ctx, tx, owners); err != nil {
		return nil, nil, false, err
	}
	// What was seen before the lock may have arrived meanwhile.
	due, err = readReturns(ctx, tx, nil, ids)
	due = slices.DeleteFunc(due, func(t Return) bool { return t.Received })
	return due, reservations, len(found) == limit, err
}

// insertReturn queues a new return. The commit fails on the key when there is one
// of that id.
func insertReturn(tx *messaging.Tx, a announcement) {
	tx.QueueRow(`
		INSERT INTO inventory.returns (id, reservation_id, order_id, status, next_at)
		SELECT t.id, t.reservation_id, t.order_id, 'expected',
			CASE WHEN t.next = 'infinity' THEN 'infinity' ELSE messaging.shop_now() + make_interval(secs => t.next) END
		FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::float8[]) AS t (id, reservation_id, order_id, next)`,
		a.ID, a.ReservationID, a.OrderID, seconds(a.Due))
	for _, l := range a.Lines {
		tx.QueueRow(`
		INSERT INTO inventory.return_lines (return_id, sku, quantity)
		SELECT * FROM unnest($1::uuid[], $2::text[], $3::bigint[])`,
			a.ID, l.SKU, int64(l.Quantity))
	}
}

// markReceived queues that t, whose reservation tx has locked, is there.
func markReceived(tx *messaging.Tx, t Return) {
	tx.QueueRow(`
		UPDATE inventory.returns t
		SET status = 'received', next_at = NULL
		FROM unnest($1::uuid[]) AS c (id)
		WHERE t.id = c.id`,
		t.ID)
}
