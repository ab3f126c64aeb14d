package bench

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"time"

	"github.com/caarlos0/env/v11"
	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"example.com/orderflow/messaging"
	"example.com/orderflow/services/internal/boot"
	"example.com/orderflow/services/internal/client"
	"example.com/orderflow/services/internal/console"
	product "example.com/orderflow/services/internal/shop"
)

// productBooks are those of the product's own tables.
var productBooks = books{
	confirmed: `SELECT order_id::text AS id, pg_xact_commit_timestamp(xmin) AS at FROM orders.history WHERE status = 'confirmed'`,
	finished:  `SELECT count(*) >= $1 FROM orders.history WHERE status = 'confirmed'`,
	last:      `SELECT max(pg_xact_commit_timestamp(xmin)) FROM orders.history WHERE status = 'confirmed'`,
}

// shopCase is the product as it is.
func (r *run) shopCase() aCase {
	return aCase{
		name: partShop, title: "the shop over HTTP (shop)", settings: shopSettings, load: r.load(3000, 800), books: productBooks,
		newBase: func(ctx context.Context) (*base, error) { return r.stand.newBase(ctx, partShop) },
		start: func(ctx context.Context, b *base) (system, error) {
			s, err := startShop(ctx, b)
			if err != nil {
				return nil, err
			}
			return s, nil
		},
		check: func(ctx context.Context, b *base, placed int) error {
			return checkRules(ctx, b.db, productRules(placed))
		},
	}
}

const shopSettings = "four services, provider and console in one process, a consumer per queue, 16 connections per service, 1,000 products, two lines per order"

// shopEnvironment is what the services are told besides their defaults: nobody
// works in the warehouse, and nobody is asked every 15 s why not.
var shopEnvironment = map[string]string{
	"INVENTORY_WAREHOUSE":        "manual",
	"INVENTORY_SEED":             "false",
	"ORDERS_FULFILLING_DEADLINE": "1h",
}

// shop is the whole product at work in this process, as the demo runs it.
type shop struct {
	client  *client.Client
	db      *sqlx.DB // an administrator's pool
	cancel  context.CancelFunc
	ended   chan error
	running int
}

// startShop migrates b's database, stocks it and opens the shop.
func startShop(ctx context.Context, b *base) (_ *shop, err error) {
	if err := messaging.Migrate(ctx, b.db, b.stand.log, nil, product.Specs()...); err != nil {
		return nil, err
	}
	if err := stockShop(ctx, b.db); err != nil {
		return nil, err
	}
	if err := b.settle(ctx); err != nil {
		return nil, err
	}
	var cfg product.Config
	if err := env.ParseWithOptions(&cfg, env.Options{Environment: shopEnvironment}); err != nil {
		return nil, fmt.Errorf("settings of the shop: %w", err)
	}
	listeners := map[string]net.Listener{}
	urls := map[string]string{}
	for _, name := range []string{"orders", "payments", "inventory", "notifications", "paysim", "console"} {
		l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return nil, fmt.Errorf("serve %s: %w", name, err)
		}
		listeners[name], urls[name] = l, "http://"+l.Addr().String()
	}
	cfg.Payments.ProviderURL = urls["paysim"]
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s := &shop{client: client.New(urls["orders"], "bench"), db: b.db, cancel: cancel, ended: make(chan error, len(listeners))}
	for _, service := range product.Services(cfg) {
		name := service.Spec.Name
		settings := boot.Config{DatabaseURL: b.dsn(name), Pool: 16, Consumers: 1, Listener: listeners[name]}
		s.running++
		go func() { s.ended <- boot.Run(running, settings, service.Spec, b.stand.log, service.Build) }()
	}
	front, err := console.New(console.Config{
		OrdersURLs: []string{urls["orders"]}, PaymentsURLs: []string{urls["payments"]},
		InventoryURLs: []string{urls["inventory"]}, NotificationsURLs: []string{urls["notifications"]},
	}, b.stand.log)
	if err != nil {
		return nil, errors.Join(err, listeners["console"].Close(), s.end())
	}
	s.running++
	go func() {
		defer front.Close()
		s.ended <- boot.Serve(running, listeners["console"], front, 0)
	}()
	open := client.New(urls["console"], "")
	defer open.Close()
	waiting, done := context.WithTimeout(ctx, 30*time.Second)
	defer done()
	if err := open.WaitReady(waiting); err != nil {
		return nil, errors.Join(err, s.end())
	}
	return s, nil
}

// stockShop gives the shop as many products as the yardstick has.
func stockShop(ctx context.Context, db *sqlx.DB) error {
	_, err := db.ExecContext(ctx, `
		INSERT INTO inventory.products (sku, name, price_minor, currency)
		SELECT 'SKU-' || lpad(n::text, 5, '0'), 'Product ' || n, 1999, 'EUR' FROM generate_series(1, 1000) n;
		INSERT INTO inventory.stock (sku, initial, available)
		SELECT sku, 1000000000, 1000000000 FROM inventory.products;
		INSERT INTO inventory.stock_moves (sku, what, initial, available, at)
		SELECT sku, 'stocked', initial, available, now() FROM inventory.stock;
		INSERT INTO orders.products (sku, name, price_minor, currency, active, changed_at)
		SELECT sku, name, price_minor, currency, true, now() FROM inventory.products`)
	if err != nil {
		return fmt.Errorf("stock the shop: %w", err)
	}
	return nil
}

func (s *shop) place(ctx context.Context) (string, error) {
	line := func(first, quantity int) client.Line {
		return client.Line{SKU: fmt.Sprintf("SKU-%05d", first+rand.IntN(500)), Quantity: quantity}
	}
	o, err := s.client.Place(ctx, client.Placement{
		Currency: "EUR", Lines: []client.Line{line(1, 2), line(501, 1)}, PaymentToken: "tok_ok",
		Customer: client.Customer{Name: "Ada", Email: "ada@example.com", Address: "1 Analytical Row"},
	}, uuid.NewString())
	return o.ID, err
}

func (s *shop) clients() int { return 8 }

func (s *shop) pids() []int { return []int{os.Getpid()} }

// stop waits for what confirmed orders still cause and closes the shop.
func (s *shop) stop(ctx context.Context) error {
	return errors.Join(s.quiet(ctx), s.end())
}

func (s *shop) end() error {
	s.client.Close()
	s.cancel()
	var err error
	for range s.running {
		err = errors.Join(err, <-s.ended)
	}
	return err
}

// shopMessages counts the messages that nobody has handled.
var shopMessages = func() string {
	var parts []string
	for _, s := range product.Specs() {
		if len(s.Sends)+len(s.Speaks) > 0 {
			parts = append(parts, `(SELECT count(*) FROM messaging.outbox_`+s.Name+`)`)
		}
		for _, q := range s.Queues {
			parts = append(parts, `(SELECT count(*) FROM messaging.queue_`+q.Name+`)`)
		}
	}
	return `SELECT ` + strings.Join(parts, ` + `)
}()

// quiet waits until all messages are handled.
func (s *shop) quiet(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		var left int
		if err := s.db.GetContext(ctx, &left, shopMessages); err != nil {
			return fmt.Errorf("wait until all messages are handled: %w", err)
		}
		if left == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d messages are not handled: %w", left, ctx.Err())
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// productRules are what must be true of the product's rows when n orders were
// placed and nobody works in the warehouse.
func productRules(n int) []rule {
	return []rule{
		{"orders more or fewer than placed", fmt.Sprintf(`SELECT abs(count(*) - %d) FROM orders.orders`, n)},
		{"orders that are not waiting for the warehouse", `
			SELECT count(*) FROM orders.orders WHERE status NOT IN ('confirmed', 'fulfilling')`},
		{"orders whose history is not contiguous or doesn't end in their status", `
			SELECT count(*) FROM orders.orders o
			WHERE (SELECT count(*) FROM orders.history h WHERE h.order_id = o.id) <> o.version
			   OR (SELECT h.status FROM orders.history h WHERE h.order_id = o.id AND h.version = o.version) IS DISTINCT FROM o.status`},
		{"orders without exactly one authorization of their total in our books", `
			SELECT count(*) FROM orders.orders o
			WHERE (SELECT array_agg(a.amount_minor) FROM payments.payments p JOIN payments.attempts a ON a.payment_id = p.id AND a.status = 'authorized'
			       WHERE p.order_id = o.id) IS DISTINCT FROM ARRAY[o.total_minor]`},
		{"authorizations in the provider's books more or fewer than orders", fmt.Sprintf(`
			SELECT abs(count(*) - %d) FROM paysim.authorizations WHERE status = 'authorized'`, n)},
		{"SKUs whose stock is not what the reservations say", `
			SELECT count(*) FROM inventory.stock s
			LEFT JOIN (SELECT l.sku, sum(l.quantity - l.written_off) AS pieces FROM inventory.reservation_lines l
			           JOIN inventory.reservations r ON r.id = l.reservation_id AND r.status IN ('held', 'picking', 'packed') GROUP BY l.sku) r ON r.sku = s.sku
			WHERE s.reserved <> coalesce(r.pieces, 0)`},
		{"SKUs whose stock is not the sum of its moves", `
			SELECT count(*) FROM inventory.stock s
			LEFT JOIN (SELECT sku, sum(available) AS available, sum(reserved) AS reserved FROM inventory.stock_moves GROUP BY sku) m ON m.sku = s.sku
			WHERE (s.available, s.reserved) IS DISTINCT FROM (m.available, m.reserved)`},
		{"orders whose customer was not told placed and confirmed, once each", `
			SELECT count(*) FROM orders.orders o
			WHERE (SELECT count(*) FROM notifications.notifications n WHERE n.order_id = o.id) <> 2`},
		{"messages left in queues and outboxes", shopMessages},
	}
}

// idle measures the CPU of the shop with nothing to do.
func (r *run) idle(ctx context.Context) (err error) {
	d := 10 * time.Second
	if r.cfg.Quick {
		d = 5 * time.Second
	}
	b, err := r.stand.newBase(ctx, partIdle)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.drop(ctx)) }()
	s, err := startShop(ctx, b)
	if err != nil {
		return fmt.Errorf("%s: %w", partIdle, err)
	}
	if err := s.pause(ctx, 3*time.Second); err != nil {
		return errors.Join(err, s.end())
	}
	before := readMeter(r.stand.server.PID(), s.pids()...)
	err = s.pause(ctx, d)
	u := readMeter(r.stand.server.PID(), s.pids()...).since(before)
	if err = errors.Join(err, s.end()); err != nil {
		return fmt.Errorf("%s: %w", partIdle, err)
	}
	r.report.Idle = &Idle{Seconds: d.Seconds(), Cores: u.goCores() + u.serverCores(), GoCores: u.goCores(), PostgresCores: u.serverCores()}
	r.tell("  idle shop: %.3f cores", r.report.Idle.Cores)
	return nil
}

// pause does nothing for d.
func (s *shop) pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
