package inventory

import (
	"slices"
	"testing"
	"time"

	"example.com/orderflow/messaging"
	"example.com/orderflow/messaging/contracts"
	"example.com/orderflow/messaging/messagingtest"
)

// collect waits until n messages were published and compares their kinds.
func (f fixture) collect(t *testing.T, want ...string) []messaging.Message {
	t.Helper()
	var msgs []messaging.Message
	messagingtest.Wait(t, "messages to be published", func() bool {
		msgs = append(msgs, f.Published(t, "inventory")...)
		return len(msgs) >= len(want)
	})
	if got := messagingtest.Kinds(msgs); !slices.Equal(got, want) {
		t.Errorf("published %v, want %v", got, want)
	}
	return msgs
}

// quick is a warehouse that takes next to no time.
func quick() Config {
	return Config{Warehouse: "auto", PickDelay: time.Millisecond, DispatchDelay: time.Millisecond, DeliveryDelay: time.Millisecond}
}

func TestWarehouseAndCarrierDoTheirStepsInTime(t *testing.T) {
	t.Parallel()
	f := running(t, quick())
	o := newOrder()
	f.handled(t, "done", o.reserve("A-1", 2, "B-1", 1))
	f.said(t, contracts.KindStockReserved)
	f.handled(t, "done", o.fulfil())
	msgs := f.collect(t, contracts.KindFulfilmentStarted, contracts.KindShipmentPacked)
	lines := messagingtest.As[contracts.ShipmentPacked](t, msgs[1]).Lines
	if want := []contracts.Line{{SKU: "A-1", Quantity: 2}, {SKU: "B-1", Quantity: 1}}; !slices.Equal(lines, want) {
		t.Errorf("packed %v, want %v", lines, want)
	}
	if got, want := f.stock(t, "A-1"), (levels{98, 2, 0}); got != want {
		t.Errorf("stock of A-1 when packed %+v, want %+v", got, want)
	}
	f.handled(t, "done", o.dispatch())
	msgs = f.collect(t, contracts.KindShipmentDispatched, contracts.KindShipmentDelivered)
	number := messagingtest.As[contracts.ShipmentDispatched](t, msgs[0]).Tracking
	if number != tracking(o.reservation) {
		t.Errorf("tracking %q, want %q", number, tracking(o.reservation))
	}
	if got := f.status(t, o.reservation); got != Delivered {
		t.Errorf("status %q, want delivered", got)
	}
	if got, want := f.stock(t, "A-1"), (levels{98, 0, 2}); got != want {
		t.Errorf("stock of A-1 when delivered %+v, want %+v", got, want)
	}
	f.addsUp(t)

	f.handled(t, "ignored", o.dispatch())
	f.said(t, contracts.KindShipmentDelivered)
	f.handled(t, "ignored", o.fulfil())
	f.said(t, contracts.KindShipmentPacked)
	f.handled(t, "ignored", o.release()) // too late
	f.said(t, contracts.KindShipmentDelivered)
}

func TestHoldExpiresByTheClockOfTheShop(t *testing.T) {
	t.Parallel()
	f := running(t, byHand())
	held, longer, picking := newOrder(), newOrder(), newOrder()
	f.handled(t, "done", held.reserve("A-1", 2))
	long := longer.reserve("B-1", 1)
	long.HoldSeconds = 7200
	f.handled(t, "done", long)
	f.handled(t, "done", picking.reserve("A-1", 1))
	f.handled(t, "done", picking.fulfil())
	f.said(t, contracts.KindStockReserved, contracts.KindStockReserved, contracts.KindStockReserved, contracts.KindFulfilmentStarted)

	f.later(t, 61*time.Minute)
	msgs := f.collect(t, contracts.KindReservationExpired)
	if got := messagingtest.As[contracts.ReservationExpired](t, msgs[0]).ReservationID; got != held.reservation {
		t.Errorf("reservation %s expired, want %s", got, held.reservation)
	}
	if got := f.status(t, longer.reservation); got != Held {
		t.Errorf("status %q before its time, want held", got)
	}
	if got := f.status(t, picking.reservation); got != Picking {
		t.Errorf("status of what is being picked %q, want picking", got)
	}
	if got, want := f.stock(t, "A-1"), (levels{99, 1, 0}); got != want {
		t.Errorf("stock of A-1 %+v, want %+v", got, want)
	}
	f.addsUp(t)

	f.handled(t, "ignored", held.reserve("A-1", 2))
	f.said(t, contracts.KindReservationExpired)
	f.handled(t, "ignored", held.fulfil())
	msgs = f.said(t, contracts.KindFulfilmentRefused)
	if got := messagingtest.As[contracts.FulfilmentRefused](t, msgs[0]).ReasonCode; got != "reservation_expired" {
		t.Errorf("refused as %q, want reservation_expired", got)
	}
}

// TestManyHoldsExpireAtOnce needs more than one batch, from two processes.
func TestManyHoldsExpireAtOnce(t *testing.T) {
	t.Parallel()
	f := newFixture(t, byHand())
	if err := f.service.Seed(t.Context(), []Product{{SKU: "HOT-1", Name: "Hot", PriceMinor: 1, Currency: "EUR", Available: 1000}}); err != nil {
		t.Fatalf("seed: %v", err)
	}
	f.Published(t, "inventory")
	_, err := f.Admin.Exec(`
		WITH r AS (
			INSERT INTO inventory.reservations (id, order_id, status, next_at)
			SELECT gen_random_uuid(), gen_random_uuid(), 'held', messaging.shop_now()
			FROM generate_series(1, 250)
			RETURNING id, order_id
		), l AS (
			INSERT INTO inventory.reservation_lines (reservation_id, sku, quantity)
			SELECT id, 'HOT-1', 2
			FROM r
		), m AS (
			INSERT INTO inventory.stock_moves (sku, what, cause_id, order_id, available, reserved, at)
			SELECT 'HOT-1', 'reserved', id, order_id, -2, 2, messaging.shop_now()
			FROM r
		)
		UPDATE inventory.stock SET available = 500, reserved = 500
		WHERE sku = 'HOT-1'`)
	if err != nil {
		t.Fatalf("make holds: %v", err)
	}
	second := f.NewBus(t, Spec())
	if _, err := New(byHand(), f.Service("inventory"), second, messagingtest.Log(t)); err != nil {
		t.Fatalf("new service: %v", err)
	}
	messagingtest.Run(t, f.bus)
	messagingtest.Run(t, second)
	expired := 0
	messagingtest.Wait(t, "250 holds to expire", func() bool {
		expired += len(f.Published(t, "inventory"))
		return expired >= 250
	})
	if expired != 250 {
		t.Errorf("%d announced, want 250", expired)
	}
	if got, want := f.stock(t, "HOT-1"), (levels{1000, 0, 0}); got != want {
		t.Errorf("stock of HOT-1 %+v, want %+v", got, want)
	}
	f.addsUp(t)
}

func TestSeedingFillsAnEmptyCatalogueOnce(t *testing.T) {
	t.Parallel()
	cfg := byHand()
	cfg.Seed = true
	f := newFixture(t, cfg)
	if err := f.service.Ready(t.Context()); err == nil {
		t.Error("ready before there are products")
	}
	messagingtest.Run(t, f.bus)
	var msgs []messaging.Message
	messagingtest.Wait(t, "twelve products", func() bool {
		msgs = append(msgs, f.Published(t, "inventory")...)
		return len(msgs) >= 12
	})
	for i, p := range SeedProducts() {
		want := contracts.ProductChanged{SKU: p.SKU, Name: p.Name, PriceMinor: p.PriceMinor, Currency: p.Currency, Active: true}
		if got := messagingtest.As[contracts.ProductChanged](t, msgs[i]); got != want {
			t.Errorf("announced %+v, want %+v", got, want)
		}
		if got := f.stock(t, p.SKU); got != (levels{p.Available, 0, 0}) {
			t.Errorf("stock of %s %+v, want %d available", p.SKU, got, p.Available)
		}
	}
	if err := f.service.Ready(t.Context()); err != nil {
		t.Errorf("not ready with products: %v", err)
	}
	if err := f.service.Seed(t.Context(), SeedProducts()); err != nil {
		t.Errorf("seed again: %v", err)
	}
	f.said(t)
}

func TestLooksAreAsOftenAsTheShortestDelay(t *testing.T) {
	t.Parallel()
	tests := []struct {
		delays []time.Duration
		want   time.Duration
	}{
		{[]time.Duration{300 * time.Millisecond, 200 * time.Millisecond, 500 * time.Millisecond}, 200 * time.Millisecond},
		{[]time.Duration{0, time.Second}, minLook},
		{[]time.Duration{byOperator, byOperator}, maxLook},
	}
	for _, tt := range tests {
		if got := lookEvery(tt.delays...); got != tt.want {
			t.Errorf("after one of %v a look every %s, want %s", tt.delays, got, tt.want)
		}
	}
}
