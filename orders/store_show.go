package orders

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/jmoiron/sqlx"

	"example.com/orderflow/messaging"
)

// findOrder reads the customer's order id, or anybody's for the customer "", as it
// is shown. It returns ErrNotFound when the customer has no such order.
func findOrder(ctx context.Context, db *sqlx.DB, id, customerID string) (document, error) {
	var row struct {
		lockedOrder
		History History `db:"history"`
	}
	err := db.GetContext(ctx, &row, `
		SELECT `+decidingColumns+`,
		       `+lineList+` AS lines, `+returnList+` AS returns, `+refundList+` AS refunds, `+historyList+` AS history
		  FROM orders.orders o
		 WHERE o.id = $1
		   AND ($2 = '' OR o.customer_id = $2)`, id, customerID)
	if errors.Is(err, sql.ErrNoRows) {
		return document{}, ErrNotFound
	}
	if err != nil {
		return document{}, fmt.Errorf("find order %s: %w", id, err)
	}
	return newDocument(row.Order, row.History), nil
}

// readHistory reads the history of order id, oldest first, as it was before the
// transaction's own writes, which wait for its commit.
func readHistory(ctx context.Context, tx *messaging.Tx, id string) (History, error) {
	var history History
	err := tx.GetContext(ctx, &history, `
		SELECT `+historyList+`
		  FROM orders.orders o
		 WHERE o.id = $1`, id)
	if err != nil {
		return nil, fmt.Errorf("read the history of order %s: %w", id, err)
	}
	return history, nil
}

// historyList is the history of orders.orders o as one JSON value.
const historyList = `
	(SELECT json_agg(json_build_object(
	            'version', h.version, 'status', h.status, 'from', h.from_status, 'reason_code', h.reason_code, 'at', h.at) ORDER BY h.version)
	   FROM orders.history h
	  WHERE h.order_id = o.id)`

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

// listOrders reads at most limit of the customer's orders, or of everybody's for
// the customer "", newest first, older than the order before unless that is "",
// in status unless that is "".
func listOrders(ctx context.Context, db *sqlx.DB, customerID string, status Status, before string, limit int) ([]summary, error) {
	list := []summary{}
	if err := db.SelectContext(ctx, &list, listQuery(customerID, status), customerID, status, before, limit); err != nil {
		return nil, fmt.Errorf("list orders: %w", err)
	}
	for i := range list {
		list[i].CreatedAt = list[i].CreatedAt.UTC()
	}
	return list, nil
}

// listQuery is the statement of listOrders. A statement is planned once, whatever
// its parameters are: only one that always names the customer, or the status that
// operators look for, is read from the index of those.
func listQuery(customerID string, status Status) string {
	whose := `$1 = ''`
	if customerID != "" {
		whose = `o.customer_id = $1`
	}
	where := `($2 = '' OR o.status = $2)`
	if status == NeedsAttention {
		where = `o.status = 'needs_attention' AND $2 <> ''`
	}
	return `
		SELECT o.id, o.status, o.reason_code, o.total_minor, o.currency, o.version, o.tracking, o.created_at
		  FROM orders.orders o
		 WHERE ` + whose + `
		   AND ` + where + `
		   AND o.id < COALESCE(NULLIF($3, ''), 'ffffffff-ffff-ffff-ffff-ffffffffffff')::uuid
		 ORDER BY o.id DESC
		 LIMIT $4`
}

// Lines are an order's lines, read from one JSON value.
type Lines []Line

// Scan reads what the database aggregated.
func (l *Lines) Scan(src any) error { return scanJSON(src, l) }

// Returns are an order's returns, read from one JSON value.
type Returns []Return

// Scan reads what the database aggregated.
func (r *Returns) Scan(src any) error { return scanJSON(src, r) }

// Refunds are an order's refunds, read from one JSON value.
type Refunds []Refund

// Scan reads what the database aggregated.
func (f *Refunds) Scan(src any) error { return scanJSON(src, f) }

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
