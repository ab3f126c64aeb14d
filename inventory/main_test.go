package inventory

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"example.com/orderflow/messaging"
	"example.com/orderflow/messaging/contracts"
	"example.com/orderflow/messaging/messagingtest"
)

func TestMain(m *testing.M) { messagingtest.Main(m) }

// fixture is a service with a database of its own, two products with 100 pieces
// each (A-1, B-1), one with 3 (C-1) and one sold out (D-1).
type fixture struct {
	*messagingtest.DB
	bus     *messaging.Bus
	service *Service
}

// byHand is a warehouse whose steps wait for the operator.
func byHand() Config { return Config{Warehouse: "manual"} }

// newFixture makes a fixture whose bus isn't running yet.
func newFixture(t *testing.T, cfg Config) fixture {
	t.Helper()
	db := messagingtest.NewDB(t, Spec())
	bus := db.NewBus(t, Spec())
	s, err := New(cfg, db.Service("inventory"), bus, messagingtest.Log(t))
	if err != nil {
		t.Fatalf("new service: %v", err)
	}
	f := fixture{DB: db, bus: bus, service: s}
	if cfg.Seed {
		return f
	}
	err = s.Seed(t.Context(), []Product{
		{SKU: "A-1", Name: "Mug", PriceMinor: 1000, Currency: "EUR", Available: 100},
		{SKU: "B-1", Name: "Pot", PriceMinor: 2000, Currency: "EUR", Available: 100},
		{SKU: "C-1", Name: "Bowl", PriceMinor: 3000, Currency: "EUR", Available: 3},
		{SKU: "D-1", Name: "Set", PriceMinor: 4000, Currency: "EUR", Available: 0},
	})
	if err != nil {
		t.Fatalf("seed: %v", err)
	}
	f.Published(t, "inventory")
	return f
}

// running makes a fixture and runs its bus.
func running(t *testing.T, cfg Config) fixture {
	t.Helper()
	f := newFixture(t, cfg)
	messagingtest.Run(t, f.bus)
	return f
}

// levels are where the pieces of a SKU are, besides those written off.
type levels struct {
	Available int64 `db:"available"`
	Reserved  int64 `db:"reserved"`
	Sold      int64 `db:"sold"`
}

func (f fixture) stock(t *testing.T, sku string) levels {
	t.Helper()
	var l levels
	if err := f.Admin.Get(&l, `SELECT available, reserved, sold FROM inventory.stock WHERE sku = $1`, sku); err != nil {
		t.Fatalf("read the stock of %s: %v", sku, err)
	}
	return l
}

func (f fixture) status(t *testing.T, id string) Status {
	t.Helper()
	var s Status
	if err := f.Admin.Get(&s, `SELECT coalesce((SELECT status FROM inventory.reservations WHERE id = $1), '')`, id); err != nil {
		t.Fatalf("read the status of reservation %s: %v", id, err)
	}
	return s
}

// addsUp fails t unless the counters of every SKU are what the reservations say,
// and what the ledger says, besides the equation that the table checks itself; and
// unless what lines have returned is what their returns brought.
func (f fixture) addsUp(t testing.TB) {
	t.Helper()
	for _, rule := range []struct{ about, query string }{
		{"stock and reservations disagree about SKUs", `
			SELECT s.sku
			FROM inventory.stock s
			LEFT JOIN inventory.reservation_lines l ON l.sku = s.sku
			LEFT JOIN inventory.reservations r ON r.id = l.reservation_id
			GROUP BY s.sku
			HAVING s.reserved <> coalesce(sum(l.quantity - l.written_off) FILTER (WHERE r.status IN ('held', 'picking', 'packed')), 0)
				OR s.sold <> coalesce(sum(l.quantity - l.written_off - l.returned) FILTER (WHERE r.status IN ('shipped', 'delivered', 'lost')), 0)
				OR s.written_off <> coalesce(sum(l.written_off), 0)
				OR s.initial + s.restocked <> s.available + s.reserved + s.sold + s.written_off`},
		{"stock and ledger disagree about SKUs", `
			SELECT s.sku
			FROM inventory.stock s
			LEFT JOIN inventory.stock_moves m ON m.sku = s.sku
			GROUP BY s.sku
			HAVING (s.initial, s.restocked, s.available, s.reserved, s.sold, s.written_off) IS DISTINCT FROM
				(coalesce(sum(m.initial), 0), coalesce(sum(m.restocked), 0), coalesce(sum(m.available), 0),
				 coalesce(sum(m.reserved), 0), coalesce(sum(m.sold), 0), coalesce(sum(m.written_off), 0))`},
		{"ledger and lines disagree about reservations", `
			SELECT r.id::text
			FROM inventory.reservations r
			JOIN inventory.reservation_lines l ON l.reservation_id = r.id
			LEFT JOIN inventory.stock_moves m ON m.order_id = r.order_id AND m.sku = l.sku
			GROUP BY r.id, l.sku, l.quantity, l.written_off, l.returned
			HAVING coalesce(sum(m.reserved), 0) <> CASE WHEN r.status IN ('held', 'picking', 'packed') THEN l.quantity - l.written_off ELSE 0 END
				OR coalesce(sum(m.sold), 0) <> CASE WHEN r.status IN ('shipped', 'delivered', 'lost') THEN l.quantity - l.written_off - l.returned ELSE 0 END
				OR coalesce(sum(m.written_off), 0) <> l.written_off`},
		{"lines and returns disagree about reservations", `
			SELECT l.reservation_id::text
			FROM inventory.reservation_lines l
			LEFT JOIN (SELECT t.reservation_id, tl.sku, sum(tl.quantity) AS quantity
			           FROM inventory.returns t
			           JOIN inventory.return_lines tl ON tl.return_id = t.id
			           WHERE t.status = 'received'
			           GROUP BY t.reservation_id, tl.sku) t ON t.reservation_id = l.reservation_id AND t.sku = l.sku
			WHERE l.returned <> coalesce(t.quantity, 0)`},
	} {
		var wrong []string
		if err := f.Admin.Select(&wrong, rule.query); err != nil {
			t.Fatalf("%s: %v", rule.about, err)
		}
		if len(wrong) > 0 {
			t.Errorf("%s %v", rule.about, wrong)
		}
	}
}

// said takes what was published since the last call and compares its kinds.
func (f fixture) said(t *testing.T, want ...string) []messaging.Message {
	t.Helper()
	msgs := f.Published(t, "inventory")
	if got := messagingtest.Kinds(msgs); !slices.Equal(got, want) {
		t.Errorf("published %v, want %v", got, want)
	}
	return msgs
}

// handled delivers body and compares the outcome.
func (f fixture) handled(t *testing.T, want string, body messaging.Body) {
	t.Helper()
	if got := f.Deliver(t, body)[0]; got != want {
		t.Errorf("%s: outcome %q, want %q", body.Kind(), got, want)
	}
}

// order is a reservation's ids and the commands about it.
type order struct{ id, reservation string }

func newOrder() order {
	return order{id: uuid.Must(uuid.NewV7()).String(), reservation: uuid.Must(uuid.NewV7()).String()}
}

// reserve asks for quantities of SKUs, "A-1", 2, "B-1", 1, for an hour.
func (o order) reserve(skusAndQuantities ...any) contracts.ReserveStock {
	return contracts.ReserveStock{ReservationID: o.reservation, OrderID: o.id, HoldSeconds: 3600, Lines: lines(skusAndQuantities...)}
}

// reservePart is reserve, of what is there.
func (o order) reservePart(skusAndQuantities ...any) contracts.ReserveStock {
	m := o.reserve(skusAndQuantities...)
	m.AllowPartial = true
	return m
}

// lines are SKUs and quantities: "A-1", 2, "B-1", 1.
func lines(skusAndQuantities ...any) []contracts.Line {
	var list []contracts.Line
	for i := 0; i < len(skusAndQuantities); i += 2 {
		list = append(list, contracts.Line{SKU: fmt.Sprint(skusAndQuantities[i]), Quantity: skusAndQuantities[i+1].(int)})
	}
	return list
}

func (o order) release() contracts.ReleaseStock {
	return contracts.ReleaseStock{ReservationID: o.reservation, OrderID: o.id, Reason: "cancelled"}
}

func (o order) fulfil() contracts.FulfilOrder {
	return contracts.FulfilOrder{ReservationID: o.reservation, OrderID: o.id}
}

func (o order) stop() contracts.StopFulfilment {
	return contracts.StopFulfilment{ReservationID: o.reservation, OrderID: o.id}
}

// sendBack announces a return of quantities of SKUs.
func (o order) sendBack(id string, skusAndQuantities ...any) contracts.ExpectReturn {
	return contracts.ExpectReturn{ReturnID: id, ReservationID: o.reservation, OrderID: o.id, Lines: lines(skusAndQuantities...)}
}

func (o order) dispatch() contracts.DispatchShipment {
	return contracts.DispatchShipment{ReservationID: o.reservation, OrderID: o.id}
}

// later moves the clock of the business ahead.
func (f fixture) later(t *testing.T, d time.Duration) {
	t.Helper()
	if _, err := f.Admin.Exec(`UPDATE messaging.clock SET offset_by = offset_by + make_interval(secs => $1)`, d.Seconds()); err != nil {
		t.Fatalf("move the clock: %v", err)
	}
}
