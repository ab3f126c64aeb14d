package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/jmoiron/sqlx"

	"example.com/orderflow/messaging"
)

// item is a line of an order.
type item struct {
	SKU        string `json:"sku"`
	Quantity   int    `json:"qty"`
	PriceCents int64  `json:"price"`
}

// order is what all messages of the chain tell.
type order struct {
	ID         int64  `json:"order_id"`
	CustomerID int64  `json:"customer"`
	Items      []item `json:"items"`
	TotalCents int64  `json:"total"`
}

// newOrder is an order as the yardstick's scripts make it.
func newOrder() order {
	sku := func(n int) string { return fmt.Sprintf("SKU-%05d", n) }
	return order{
		ID: 1 + rand.Int64N(9223372036854775000), CustomerID: 42, TotalCents: 8997,
		Items: []item{{sku(1 + rand.IntN(500)), 2, 1999}, {sku(501 + rand.IntN(500)), 1, 4999}},
	}
}

// Order is the id as a UUID, the form that the messaging layer knows.
func (o order) Order() string {
	return fmt.Sprintf("%08x-%04x-7000-8000-%012x", o.ID>>32, o.ID>>16&0xffff, o.ID&0xffff)
}

// The messages: three commands and the three events of the status.
type (
	reserveStock     struct{ order }
	authorizePayment struct{ order }
	confirmOrder     struct{ order }
	orderPlaced      struct{ order }
	orderPaid        struct{ order }
	orderConfirmed   struct{ order }
)

const (
	kindReserveStock     = "inventory.reserve_stock"
	kindAuthorizePayment = "payment.authorize_payment"
	kindConfirmOrder     = "ordering.confirm_order"
	kindOrderPlaced      = "ordering.order_placed"
	kindOrderPaid        = "payment.order_paid"
	kindOrderConfirmed   = "ordering.order_confirmed"
)

func (reserveStock) Kind() string     { return kindReserveStock }
func (authorizePayment) Kind() string { return kindAuthorizePayment }
func (confirmOrder) Kind() string     { return kindConfirmOrder }
func (orderPlaced) Kind() string      { return kindOrderPlaced }
func (orderPaid) Kind() string        { return kindOrderPaid }
func (orderConfirmed) Kind() string   { return kindOrderConfirmed }

// chainSpecs declares the four services.
func chainSpecs() ([]messaging.Spec, error) {
	specs := []messaging.Spec{
		{Name: "ordering", Sends: []string{kindReserveStock}, Speaks: []string{kindOrderPlaced, kindOrderConfirmed},
			Queues: []messaging.Queue{{Name: "ordering", Kinds: []string{kindConfirmOrder}}}},
		{Name: "inventory", Sends: []string{kindAuthorizePayment},
			Queues: []messaging.Queue{{Name: "inventory", Kinds: []string{kindReserveStock}}}},
		{Name: "payment", Sends: []string{kindConfirmOrder}, Speaks: []string{kindOrderPaid},
			Queues: []messaging.Queue{{Name: "payment", Kinds: []string{kindAuthorizePayment}}}},
		{Name: "notification",
			Queues: []messaging.Queue{{Name: "notification", Kinds: []string{kindOrderPlaced, kindOrderPaid, kindOrderConfirmed}}}},
	}
	for i := range specs {
		var err error
		if specs[i].Migrations, err = migrations(specs[i].Name); err != nil {
			return nil, fmt.Errorf("migrations of %s: %w", specs[i].Name, err)
		}
	}
	return specs, nil
}

// register hangs the chain's handlers on the bus of each service. They do the
// yardstick's writes, the same statement of a batch's messages once for all their
// rows; Preload locks and reads what a batch needs.
func register(buses map[string]*messaging.Bus) {
	ordering, inventory := buses["ordering"], buses["inventory"]
	ordering.Preload("ordering", lockOrders)
	messaging.Handle(ordering, onConfirm)
	inventory.Preload("inventory", lockStock)
	messaging.Handle(inventory, onReserve)
	messaging.Handle(buses["payment"], onAuthorize)
	registerNotification(buses["notification"])
}

// registerNotification hangs the handlers of the notification service on its bus.
func registerNotification(bus *messaging.Bus) {
	messaging.Handle(bus, func(_ context.Context, tx *messaging.Tx, m orderPlaced) error {
		return insertNotification(tx, m.order, "placed", "Your order was placed")
	})
	messaging.Handle(bus, func(_ context.Context, tx *messaging.Tx, m orderPaid) error {
		return insertNotification(tx, m.order, "paid", "Your payment was authorized")
	})
	messaging.Handle(bus, func(_ context.Context, tx *messaging.Tx, m orderConfirmed) error {
		return insertNotification(tx, m.order, "confirmed", "Your order is confirmed")
	})
}

// placeOrder stores o and sends it on its way.
func placeOrder(tx *messaging.Tx, o order) error {
	tx.Queue(`
		INSERT INTO ordering.orders (id, customer_id, status, total_cents)
		VALUES ($1, $2, 'placed', $3)`, o.ID, o.CustomerID, o.TotalCents)
	a, b := o.Items[0], o.Items[1]
	tx.Queue(`
		INSERT INTO ordering.order_items (order_id, sku, qty, price_cents)
		VALUES ($1, $2, $3, $4), ($1, $5, $6, $7)`, o.ID, a.SKU, a.Quantity, a.PriceCents, b.SKU, b.Quantity, b.PriceCents)
	return tx.Publish(reserveStock{o}, orderPlaced{o})
}

// lockStock locks the stock of every SKU of the batch, sorted, and leaves the
// pieces available in tx.Loaded.
func lockStock(ctx context.Context, tx *messaging.Tx, list []messaging.Message) error {
	orders, err := ordersOf(list)
	if err != nil {
		return err
	}
	skus := map[string]bool{}
	for _, o := range orders {
		for _, i := range o.Items {
			skus[i.SKU] = true
		}
	}
	var rows []struct {
		SKU       string `db:"sku"`
		Available int    `db:"available"`
	}
	err = tx.SelectContext(ctx, &rows, `
		SELECT sku, available FROM inventory.stock
		WHERE sku = ANY($1)
		ORDER BY sku
		FOR UPDATE`, slices.Sorted(maps.Keys(skus)))
	if err != nil {
		return fmt.Errorf("lock the stock of %d SKUs: %w", len(skus), err)
	}
	available := make(map[string]int, len(rows))
	for _, r := range rows {
		available[r.SKU] = r.Available
	}
	tx.Loaded = available
	return nil
}

// onReserve sets stock aside for an order.
func onReserve(_ context.Context, tx *messaging.Tx, m reserveStock) error {
	available := tx.Loaded.(map[string]int)
	for _, i := range m.Items {
		if available[i.SKU] < i.Quantity {
			return messaging.Permanent(fmt.Errorf("order %d wants %d of %s: %d there", m.ID, i.Quantity, i.SKU, available[i.SKU]))
		}
		available[i.SKU] -= i.Quantity
		tx.QueueRow(`
			UPDATE inventory.stock s SET available = available - taken.quantity, reserved = reserved + taken.quantity
			FROM (SELECT sku, sum(quantity) AS quantity FROM unnest($1::text[], $2::int[]) AS line (sku, quantity) GROUP BY sku) taken
			WHERE s.sku = taken.sku AND s.available >= taken.quantity`, i.SKU, i.Quantity)
	}
	for _, i := range m.Items {
		tx.QueueRow(`
			INSERT INTO inventory.reservations (order_id, sku, qty)
			SELECT * FROM unnest($1::bigint[], $2::text[], $3::int[])`, m.ID, i.SKU, i.Quantity)
	}
	return tx.Publish(authorizePayment(m))
}

// onAuthorize books the payment: there is no provider here.
func onAuthorize(_ context.Context, tx *messaging.Tx, m authorizePayment) error {
	tx.QueueRow(`
		INSERT INTO payment.payments (order_id, amount_cents, state, auth_code)
		SELECT id, amount, 'authorized', 'AUTH-1234567' FROM unnest($1::bigint[], $2::bigint[]) AS paid (id, amount)`, m.ID, m.TotalCents)
	return tx.Publish(confirmOrder(m), orderPaid(m))
}

// lockOrders locks the orders of the batch, sorted, and leaves their statuses in
// tx.Loaded.
func lockOrders(ctx context.Context, tx *messaging.Tx, list []messaging.Message) error {
	orders, err := ordersOf(list)
	if err != nil {
		return err
	}
	ids := make([]int64, len(orders))
	for i, o := range orders {
		ids[i] = o.ID
	}
	var rows []struct {
		ID     int64  `db:"id"`
		Status string `db:"status"`
	}
	err = tx.SelectContext(ctx, &rows, `
		SELECT id, status FROM ordering.orders
		WHERE id = ANY($1)
		ORDER BY id
		FOR UPDATE`, ids)
	if err != nil {
		return fmt.Errorf("lock %d orders: %w", len(ids), err)
	}
	statuses := make(map[int64]string, len(rows))
	for _, r := range rows {
		statuses[r.ID] = r.Status
	}
	tx.Loaded = statuses
	return nil
}

// onConfirm moves an order from placed to confirmed, step by step.
func onConfirm(_ context.Context, tx *messaging.Tx, m confirmOrder) error {
	if s := tx.Loaded.(map[int64]string)[m.ID]; s != "placed" {
		return messaging.Permanent(fmt.Errorf("order %d is %q, not placed", m.ID, s))
	}
	for _, move := range moves {
		tx.QueueRow(move.update, m.ID)
		tx.QueueRow(move.history, m.ID)
	}
	return tx.Publish(orderConfirmed(m))
}

// moves are the three moves of an order's status, a statement each, as the
// yardstick has them.
var moves = func() (list []struct{ update, history string }) {
	from := "placed"
	for _, to := range []string{"reserved", "paid", "confirmed"} {
		list = append(list, struct{ update, history string }{
			`UPDATE ordering.orders SET status = '` + to + `', updated_at = now()
			WHERE id = ANY ($1::bigint[]) AND status = '` + from + `'`,
			`INSERT INTO ordering.order_history (order_id, status) SELECT id, '` + to + `' FROM unnest($1::bigint[]) AS moved (id)`,
		})
		from = to
	}
	return list
}()

func insertNotification(tx *messaging.Tx, o order, kind, body string) error {
	tx.QueueRow(`
		INSERT INTO notification.notifications (order_id, kind, body)
		SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[])`, o.ID, kind, body)
	return nil
}

// ordersOf reads the orders that a batch is about.
func ordersOf(list []messaging.Message) ([]order, error) {
	orders := make([]order, len(list))
	for i, m := range list {
		if err := json.Unmarshal(m.Payload, &orders[i]); err != nil {
			return nil, fmt.Errorf("payload of message %s: %w", m.ID, err)
		}
	}
	return orders, nil
}

// chain is the four services at work in this process, each with its own role,
// connections, consumers and relay.
type chain struct {
	ordering *messaging.Bus
	pools    []*sqlx.DB
	cancel   context.CancelFunc
	ended    chan error
	running  int
}

// chainSettings are the same for burst and latency.
const chainSettings = "a consumer per queue, 16 connections per service"

// startChain migrates b's database and starts the services on it.
func startChain(ctx context.Context, b *base) (_ *chain, err error) {
	specs, err := chainSpecs()
	if err != nil {
		return nil, err
	}
	if err := messaging.Migrate(ctx, b.db, b.stand.log, nil, specs...); err != nil {
		return nil, err
	}
	if err := b.settle(ctx); err != nil {
		return nil, err
	}
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	c := &chain{cancel: cancel, ended: make(chan error, len(specs))}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.stop(ctx))
		}
	}()
	buses := map[string]*messaging.Bus{}
	for _, s := range specs {
		pool, err := messaging.OpenDB(b.dsn(s.Name), s.Name, 16)
		if err != nil {
			return nil, err
		}
		c.pools = append(c.pools, pool)
		buses[s.Name], err = messaging.New(messaging.Config{Spec: s, DB: pool, DSN: b.dsn(s.Name), Log: b.stand.log, Consumers: 1})
		if err != nil {
			return nil, err
		}
	}
	register(buses)
	c.ordering = buses["ordering"]
	for _, bus := range buses {
		c.running++
		go func() { c.ended <- bus.Run(running) }()
	}
	for _, bus := range buses {
		if err := waitReady(ctx, bus); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func waitReady(ctx context.Context, bus *messaging.Bus) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for {
		err := bus.Ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(err, ctx.Err())
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func (c *chain) place(ctx context.Context) (string, error) {
	o := newOrder()
	err := c.ordering.InTx(ctx, func(_ context.Context, tx *messaging.Tx) error { return placeOrder(tx, o) })
	return strconv.FormatInt(o.ID, 10), err
}

func (c *chain) clients() int { return 8 }

func (c *chain) pids() []int { return []int{os.Getpid()} }

func (c *chain) stop(context.Context) error {
	c.cancel()
	var err error
	for range c.running {
		err = errors.Join(err, <-c.ended)
	}
	for _, p := range c.pools {
		err = errors.Join(err, p.Close())
	}
	return err
}

// chainRules are what must be true of the messaging layer after a run: each
// message handled once by each receiver, nothing left, nothing dead.
func chainRules(n int) []rule {
	var rules []rule
	for _, service := range services {
		rules = append(rules, rule{"messages left in the queue of " + service, `SELECT count(*) FROM messaging.queue_` + service})
		if service != "notification" {
			rules = append(rules, rule{"messages left in the outbox of " + service, `SELECT count(*) FROM messaging.outbox_` + service})
		}
	}
	for _, k := range []struct{ service, kind string }{
		{"inventory", kindReserveStock}, {"payment", kindAuthorizePayment}, {"ordering", kindConfirmOrder},
		{"notification", kindOrderPlaced}, {"notification", kindOrderPaid}, {"notification", kindOrderConfirmed},
	} {
		rules = append(rules, rule{
			"messages " + k.kind + " more or fewer than orders in the inbox of " + k.service,
			fmt.Sprintf(`SELECT abs(count(DISTINCT order_id) - %[3]d) + abs(count(*) - %[3]d) FROM messaging.inbox_%[1]s WHERE kind = '%[2]s' AND outcome = 'done'`, k.service, k.kind, n),
		})
	}
	return rules
}
