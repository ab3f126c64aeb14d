package main

import (
	"context"
	"fmt"
)

// order is an order of the benchmark: two pieces of the first SKU, one of the
// second.
type order struct {
	ID     int64  `json:"order_id"`
	First  string `json:"first"`
	Second string `json:"second"`
}

// totalCents is the price of every order: 2 × 1999 + 4999.
const totalCents = 8997

// execer runs a statement in a transaction, of database/sql or pgx, and returns
// how many rows it touched.
type execer func(ctx context.Context, query string, args ...any) (int64, error)

// one runs a statement that must touch exactly one row.
func (x execer) one(ctx context.Context, query string, args ...any) error {
	n, err := x(ctx, query, args...)
	if err == nil && n != 1 {
		err = fmt.Errorf("%d rows instead of one", n)
	}
	return err
}

// insertOrder stores o as placed, with its lines.
func insertOrder(ctx context.Context, x execer, o order) error {
	err := x.one(ctx, `
		INSERT INTO ordering.orders (id, customer_id, status, total_cents)
		VALUES ($1, 42, 'placed', $2)`, o.ID, totalCents)
	if err != nil {
		return fmt.Errorf("insert order %d: %w", o.ID, err)
	}
	_, err = x(ctx, `
		INSERT INTO ordering.order_items (order_id, sku, qty, price_cents)
		VALUES ($1, $2, 2, 1999), ($1, $3, 1, 4999)`, o.ID, o.First, o.Second)
	if err != nil {
		return fmt.Errorf("insert the lines of order %d: %w", o.ID, err)
	}
	return nil
}

// reserve sets stock aside for o: the SKUs are in sorted order, so that no two
// orders wait for each other.
func reserve(ctx context.Context, x execer, o order) error {
	for _, line := range []struct {
		sku      string
		quantity int
	}{{o.First, 2}, {o.Second, 1}} {
		err := x.one(ctx, `
			UPDATE inventory.stock SET available = available - $2, reserved = reserved + $2
			WHERE sku = $1 AND available >= $2`, line.sku, line.quantity)
		if err != nil {
			return fmt.Errorf("take %s for order %d: %w", line.sku, o.ID, err)
		}
	}
	_, err := x(ctx, `
		INSERT INTO inventory.reservations (order_id, sku, qty)
		VALUES ($1, $2, 2), ($1, $3, 1)`, o.ID, o.First, o.Second)
	if err != nil {
		return fmt.Errorf("reserve for order %d: %w", o.ID, err)
	}
	return nil
}

// authorize books the payment of o.
func authorize(ctx context.Context, x execer, o order) error {
	err := x.one(ctx, `
		INSERT INTO payment.payments (order_id, amount_cents, state, auth_code)
		VALUES ($1, $2, 'authorized', 'AUTH-1234567')`, o.ID, totalCents)
	if err != nil {
		return fmt.Errorf("insert the payment of order %d: %w", o.ID, err)
	}
	return nil
}

// confirm moves o from placed to confirmed, step by step.
func confirm(ctx context.Context, x execer, o order) error {
	from := "placed"
	for _, to := range []string{"reserved", "paid", "confirmed"} {
		err := x.one(ctx, `
			UPDATE ordering.orders SET status = $2, updated_at = now()
			WHERE id = $1 AND status = $3`, o.ID, to, from)
		if err == nil {
			err = x.one(ctx, `INSERT INTO ordering.order_history (order_id, status) VALUES ($1, $2)`, o.ID, to)
		}
		if err != nil {
			return fmt.Errorf("move order %d to %s: %w", o.ID, to, err)
		}
		from = to
	}
	return nil
}

// notify tells the customer of o what happened: placed, paid or confirmed.
func notify(ctx context.Context, x execer, o order, kind string) error {
	text := map[string]string{"placed": "Your order was placed", "paid": "Your payment was authorized", "confirmed": "Your order is confirmed"}
	err := x.one(ctx, `
		INSERT INTO notification.notifications (order_id, kind, body)
		VALUES ($1, $2, $3)`, o.ID, kind, text[kind])
	if err != nil {
		return fmt.Errorf("notify of order %d: %w", o.ID, err)
	}
	return nil
}
