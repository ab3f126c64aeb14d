package inventory

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

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
	var prices, initial, available []int64
	for _, p := range products {
		skus, names, currencies = append(skus, p.SKU), append(names, p.Name), append(currencies, p.Currency)
		c := move{What: stocked, SKU: p.SKU, Pieces: p.Available}.changes()
		prices, initial, available = append(prices, p.PriceMinor), append(initial, c.Initial), append(available, c.Available)
	}
	var added []string
	err := tx.SelectContext(ctx, &added, `
		WITH given AS (
			SELECT *
			FROM unnest($1::text[], $2::text[], $3::bigint[], $4::text[], $5::bigint[], $6::bigint[])
				AS p (sku, name, price_minor, currency, initial, available)
		), added AS (
			INSERT INTO inventory.products (sku, name, price_minor, currency)
			SELECT sku, name, price_minor, currency
			FROM given
			ORDER BY sku
			ON CONFLICT (sku) DO NOTHING
			RETURNING sku
		), stocked AS (
			INSERT INTO inventory.stock (sku, initial, available)
			SELECT sku, initial, available
			FROM given
			JOIN added USING (sku)
			RETURNING sku, initial, available
		), noted AS (
			INSERT INTO inventory.stock_moves (sku, what, initial, available, at)
			SELECT sku, $7, initial, available, (SELECT messaging.shop_now())
			FROM stocked
			WHERE initial > 0
			ORDER BY sku
		)
		SELECT sku
		FROM stocked`,
		skus, names, prices, currencies, initial, available, string(stocked))
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

// addStock adds the pieces of m, which came in, to its SKU and returns the
// product; false when there is none.
func addStock(ctx context.Context, tx *messaging.Tx, m move) (Product, bool, error) {
	var p Product
	c := m.changes()
	err := tx.GetContext(ctx, &p, `
		WITH added AS (
			UPDATE inventory.stock s
			SET restocked = s.restocked + $2, available = s.available + $3
			FROM inventory.products p
			WHERE s.sku = $1 AND p.sku = s.sku
			RETURNING p.sku, p.name, p.price_minor, p.currency, s.available
		), noted AS (
			INSERT INTO inventory.stock_moves (sku, what, cause_id, restocked, available, at)
			SELECT sku, $4, $5::uuid, $2, $3, messaging.shop_now()
			FROM added
		)
		SELECT sku, name, price_minor, currency, available
		FROM added`,
		m.SKU, c.Restocked, c.Available, string(m.What), m.CauseID)
	if errors.Is(err, sql.ErrNoRows) {
		return Product{}, false, nil
	}
	if err != nil {
		return Product{}, false, fmt.Errorf("add stock of %s: %w", m.SKU, err)
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

// moveStock queues moves of stock rows that tx has locked: one statement changes
// the counters and writes the ledger.
func moveStock(tx *messaging.Tx, moves []move) {
	for _, m := range moves {
		c := m.changes()
		tx.QueueRow(`
		WITH m AS (
			SELECT *
			FROM unnest($1::text[], $2::text[], $3::uuid[], $4::uuid[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[])
				WITH ORDINALITY AS m (sku, what, cause_id, order_id, available, reserved, sold, written_off, n)
		), counted AS (
			UPDATE inventory.stock s
			SET available = s.available + c.available, reserved = s.reserved + c.reserved,
				sold = s.sold + c.sold, written_off = s.written_off + c.written_off
			FROM (SELECT sku, sum(available)::bigint AS available, sum(reserved)::bigint AS reserved,
			             sum(sold)::bigint AS sold, sum(written_off)::bigint AS written_off
			      FROM m
			      GROUP BY sku) c
			WHERE s.sku = c.sku
		)
		INSERT INTO inventory.stock_moves (sku, what, cause_id, order_id, available, reserved, sold, written_off, at)
		SELECT sku, what, cause_id, order_id, available, reserved, sold, written_off, (SELECT messaging.shop_now())
		FROM m
		ORDER BY n`,
			m.SKU, string(m.What), m.CauseID, m.OrderID, c.Available, c.Reserved, c.Sold, c.WrittenOff)
	}
}

// listMoves returns the moves of an order, of a SKU, or of both or all when these
// are "", newest first: up to limit of those before the move with the given id, 0
// for the newest.
func listMoves(ctx context.Context, db *sqlx.DB, orderID, sku string, before int64, limit int) ([]moveDocument, error) {
	list := []moveDocument{}
	if err := db.SelectContext(ctx, &list, movesQuery(orderID, sku), orderID, sku, before, limit); err != nil {
		return nil, fmt.Errorf("list stock moves: %w", err)
	}
	for i := range list {
		list[i].At = list[i].At.UTC()
	}
	return list, nil
}

// movesQuery is the statement of listMoves. A statement is planned once, whatever
// its parameters are: only one that always names the order, or the SKU, is read
// from the index of those.
func movesQuery(orderID, sku string) string {
	ofOrder, ofSKU := `$1 = ''`, `$2 = ''`
	if orderID != "" {
		ofOrder = `order_id = $1`
	}
	if sku != "" {
		ofSKU = `sku = $2`
	}
	return `
		SELECT id, sku, what, cause_id, order_id, initial, restocked, available, reserved, sold, written_off, at
		FROM inventory.stock_moves
		WHERE ` + ofOrder + `
			AND ` + ofSKU + `
			AND ($3::bigint = 0 OR id < $3)
		ORDER BY id DESC
		LIMIT $4`
}

// insertAudit queues a row about what an operator did in tx.
func insertAudit(tx *messaging.Tx, a act) {
	tx.Queue(`
		INSERT INTO inventory.audit (who, role, action, subject_id, order_id, sku, request_id)
		VALUES ($1, $2, $3, $4, NULLIF($5, '')::uuid, NULLIF($6, ''), $7)`,
		a.Who, a.Role, a.Action, a.SubjectID, a.OrderID, a.SKU, a.RequestID)
}
