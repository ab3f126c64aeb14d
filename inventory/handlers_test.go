package inventory

import (
	"encoding/json"
	"slices"
	"testing"

	"github.com/google/uuid"

	"example.com/orderflow/messaging"
	"example.com/orderflow/messaging/contracts"
	"example.com/orderflow/messaging/messagingtest"
)

func TestReserveStockHoldsAllLines(t *testing.T) {
	t.Parallel()
	f := running(t, byHand())
	o := newOrder()
	f.handled(t, "done", o.reserve("B-1", 1, "A-1", 2))
	msgs := f.said(t, contracts.KindStockReserved)
	if got, want := messagingtest.As[contracts.StockReserved](t, msgs[0]), (contracts.StockReserved{ReservationID: o.reservation, OrderID: o.id}); got != want {
		t.Errorf("said %+v, want %+v", got, want)
	}
	if got, want := f.stock(t, "A-1"), (levels{98, 2, 0}); got != want {
		t.Errorf("stock of A-1 %+v, want %+v", got, want)
	}
	if got, want := f.stock(t, "B-1"), (levels{99, 1, 0}); got != want {
		t.Errorf("stock of B-1 %+v, want %+v", got, want)
	}
	if got := f.status(t, o.reservation); got != Held {
		t.Errorf("status %q, want held", got)
	}
	f.addsUp(t)
}

func TestReserveStockRejects(t *testing.T) {
	t.Parallel()
	f := running(t, byHand())
	tests := []struct {
		name   string
		lines  []any
		reason string
		skus   []string
	}{
		{"sold out", []any{"D-1", 1}, "out_of_stock", []string{"D-1"}},
		{"one line short, nothing is held", []any{"A-1", 1, "C-1", 4}, "out_of_stock", []string{"C-1"}},
		{"never sold here", []any{"A-1", 1, "NOPE-1", 1}, "unknown_sku", []string{"NOPE-1"}},
		{"no SKU at all", []any{"A'; DROP TABLE inventory.stock;--", 1}, "unknown_sku", []string{"A'; DROP TABLE inventory.stock;--"}},
	}
	for _, tt := range tests {
		o := newOrder()
		f.handled(t, "done", o.reserve(tt.lines...))
		f.handled(t, "ignored", o.reserve(tt.lines...)) // the same answer again
		for _, m := range f.said(t, contracts.KindStockRejected, contracts.KindStockRejected) {
			got := messagingtest.As[contracts.StockRejected](t, m)
			if got.ReasonCode != tt.reason || !slices.Equal(got.SKUs, tt.skus) || got.ReservationID != o.reservation {
				t.Errorf("%s: said %+v, want %s for %v", tt.name, got, tt.reason, tt.skus)
			}
		}
		if got := f.status(t, o.reservation); got != Rejected {
			t.Errorf("%s: status %q, want rejected", tt.name, got)
		}
	}
	if got, want := f.stock(t, "A-1"), (levels{100, 0, 0}); got != want {
		t.Errorf("stock of A-1 %+v, want %+v", got, want)
	}
	f.addsUp(t)
}

func TestCommandsRepeatedAreAnsweredAgain(t *testing.T) {
	t.Parallel()
	f := running(t, byHand())
	o := newOrder()
	for _, want := range []string{"done", "ignored", "ignored"} {
		f.handled(t, want, o.reserve("A-1", 2))
		f.said(t, contracts.KindStockReserved)
	}
	for _, want := range []string{"done", "ignored"} {
		f.handled(t, want, o.fulfil())
		f.said(t, contracts.KindFulfilmentStarted)
	}
	for _, want := range []string{"done", "ignored"} {
		f.handled(t, want, o.release())
		f.said(t, contracts.KindStockReleased)
	}
	f.handled(t, "ignored", o.fulfil())
	msgs := f.said(t, contracts.KindFulfilmentRefused)
	if got := messagingtest.As[contracts.FulfilmentRefused](t, msgs[0]).ReasonCode; got != "released" {
		t.Errorf("refused as %q, want released", got)
	}
	if got, want := f.stock(t, "A-1"), (levels{100, 0, 0}); got != want {
		t.Errorf("stock of A-1 %+v, want %+v", got, want)
	}
	f.addsUp(t)
}

func TestReleaseBeforeReserveRefusesTheReservation(t *testing.T) {
	t.Parallel()
	f := running(t, byHand())
	o := newOrder()
	f.handled(t, "done", o.release())
	f.said(t, contracts.KindStockReleased)
	f.handled(t, "ignored", o.reserve("A-1", 2))
	msgs := f.said(t, contracts.KindStockRejected)
	if got := messagingtest.As[contracts.StockRejected](t, msgs[0]).ReasonCode; got != "released" {
		t.Errorf("rejected as %q, want released", got)
	}
	if got, want := f.stock(t, "A-1"), (levels{100, 0, 0}); got != want {
		t.Errorf("stock of A-1 %+v, want %+v", got, want)
	}
}

func TestSellingOutIsAnnounced(t *testing.T) {
	t.Parallel()
	f := running(t, byHand())
	f.handled(t, "done", newOrder().reserve("C-1", 2))
	f.said(t, contracts.KindStockReserved)
	f.handled(t, "done", newOrder().reserve("C-1", 1))
	msgs := f.said(t, contracts.KindStockReserved, contracts.KindStockLevelChanged)
	if got, want := messagingtest.As[contracts.StockLevelChanged](t, msgs[1]), (contracts.StockLevelChanged{SKU: "C-1"}); got != want {
		t.Errorf("said %+v, want %+v", got, want)
	}
	if got := msgs[1].Lane; got != "C-1" {
		t.Errorf("lane %q, want C-1", got)
	}
}

// TestHotProduct has 200 orders reach for 50 pieces at once, through two buses
// of two consumers each, with a second product in either order of lines, and
// half of the orders taken back.
func TestHotProduct(t *testing.T) {
	t.Parallel()
	f := newFixture(t, byHand())
	err := f.service.Seed(t.Context(), []Product{
		{SKU: "HOT-1", Name: "Hot", PriceMinor: 1, Currency: "EUR", Available: 50},
		{SKU: "WARM-1", Name: "Warm", PriceMinor: 1, Currency: "EUR", Available: 1000},
	})
	if err != nil {
		t.Fatalf("seed: %v", err)
	}
	f.Published(t, "inventory")
	second := f.NewBus(t, Spec())
	if _, err := New(byHand(), f.Service("inventory"), second, messagingtest.Log(t)); err != nil {
		t.Fatalf("new service: %v", err)
	}
	var bodies []messaging.Body
	for i := range 200 {
		o := newOrder()
		if i%2 == 0 {
			bodies = append(bodies, o.reserve("HOT-1", 1, "WARM-1", 1))
		} else {
			bodies = append(bodies, o.reserve("WARM-1", 1, "HOT-1", 1))
		}
	}
	for _, b := range bodies {
		f.Send(t, b)
	}
	messagingtest.Run(t, f.bus)
	messagingtest.Run(t, second)
	var msgs []messaging.Message
	messagingtest.Wait(t, "200 answers", func() bool {
		msgs = append(msgs, f.Published(t, "inventory")...)
		return len(msgs) >= 201
	})
	count := map[string]int{}
	for _, k := range messagingtest.Kinds(msgs) {
		count[k]++
	}
	if count[contracts.KindStockReserved] != 50 || count[contracts.KindStockRejected] != 150 || count[contracts.KindStockLevelChanged] != 1 {
		t.Errorf("published %v, want 50 reserved, 150 rejected, sold out once", count)
	}
	if got, want := f.stock(t, "HOT-1"), (levels{0, 50, 0}); got != want {
		t.Errorf("stock of HOT-1 %+v, want %+v", got, want)
	}
	if got, want := f.stock(t, "WARM-1"), (levels{950, 50, 0}); got != want {
		t.Errorf("stock of WARM-1 %+v, want %+v", got, want)
	}
	f.addsUp(t)

	// Every order is taken back at once: those that hold, and those that don't.
	for _, b := range bodies {
		m := b.(contracts.ReserveStock)
		f.Send(t, contracts.ReleaseStock{ReservationID: m.ReservationID, OrderID: m.OrderID, Reason: "cancelled"})
	}
	released := 0
	messagingtest.Wait(t, "200 releases", func() bool {
		released += len(f.Published(t, "inventory"))
		return released >= 200
	})
	if got, want := f.stock(t, "HOT-1"), (levels{50, 0, 0}); got != want {
		t.Errorf("stock of HOT-1 after the releases %+v, want %+v", got, want)
	}
	f.addsUp(t)
	var deadlocks int
	if err := f.Admin.Get(&deadlocks, `SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()`); err != nil {
		t.Fatalf("count deadlocks: %v", err)
	}
	if deadlocks > 0 {
		t.Errorf("%d deadlocks, want none: rows were not locked in order", deadlocks)
	}
}

// Every SKU whose stock a batch may change is locked before, and no other.
func TestBatchLocksWhatItMayMove(t *testing.T) {
	t.Parallel()
	fresh, held, picking, packed, shipped := newOrder(), newOrder(), newOrder(), newOrder(), newOrder()
	found := map[string]Reservation{
		held.reservation:    {Status: Held, Lines: []Line{{SKU: "H-2", Quantity: 1}, {SKU: "H-1", Quantity: 1}}},
		picking.reservation: {Status: Picking, Lines: []Line{{SKU: "P-1", Quantity: 1}}},
		packed.reservation:  {Status: Packed, Lines: []Line{{SKU: "Q-1", Quantity: 1}}},
		shipped.reservation: {Status: Shipped, Lines: []Line{{SKU: "S-1", Quantity: 1}}},
	}
	tests := []struct {
		name string
		m    messaging.Body
		want []string
	}{
		{"a new reservation", fresh.reserve("B-1", 1, "A-1", 1, "no SKU", 1), []string{"A-1", "B-1"}},
		{"a repeated one", held.reserve("H-1", 1), nil},
		{"a release", held.release(), []string{"H-1", "H-2"}},
		{"a release of what is packed", packed.release(), []string{"Q-1"}},
		{"a release too late", shipped.release(), nil},
		{"a stop", picking.stop(), []string{"P-1"}},
		{"a stop of nothing", fresh.stop(), nil},
		{"a start", held.fulfil(), nil},
		{"a return", shipped.sendBack(tid, "S-1", 1), nil},
	}
	for _, tt := range tests {
		payload, err := json.Marshal(tt.m)
		if err != nil {
			t.Fatal(err)
		}
		if got := wantsOf([]messaging.Message{{Kind: tt.m.Kind(), Payload: payload}}).skus(found); !slices.Equal(got, tt.want) {
			t.Errorf("%s: locks %v, want %v", tt.name, got, tt.want)
		}
	}
}

// TestSameReservationTwiceAtOnce has messages without a lane, which nothing
// keeps apart, make the same reservations at the same time.
func TestSameReservationTwiceAtOnce(t *testing.T) {
	t.Parallel()
	f := newFixture(t, byHand())
	var orders []order
	for range 20 {
		o := newOrder()
		orders = append(orders, o)
		for range 3 {
			f.Send(t, o.reserve("A-1", 1))
		}
	}
	if _, err := f.Admin.Exec(`UPDATE messaging.queue_inventory SET lane = NULL`); err != nil {
		t.Fatalf("drop the lanes: %v", err)
	}
	messagingtest.Run(t, f.bus)
	answers := 0
	messagingtest.Wait(t, "60 answers", func() bool {
		answers += len(f.Published(t, "inventory"))
		return answers >= 60
	})
	for _, o := range orders {
		if got := f.status(t, o.reservation); got != Held {
			t.Errorf("status %q, want held", got)
		}
	}
	if got, want := f.stock(t, "A-1"), (levels{80, 20, 0}); got != want {
		t.Errorf("stock of A-1 %+v, want %+v", got, want)
	}
	f.addsUp(t)
}

// TestPoisonHarmsNoNeighbour has a message of the wrong form handled together
// with good ones.
func TestPoisonHarmsNoNeighbour(t *testing.T) {
	t.Parallel()
	f := newFixture(t, byHand())
	good := newOrder()
	f.Send(t, good.reserve("A-1", 1))
	f.Send(t, contracts.ReserveStock{ReservationID: "no uuid", OrderID: uuid.NewString(), Lines: twoMugs, HoldSeconds: 1})
	f.Send(t, contracts.ReserveStock{ReservationID: "urn:uuid:" + rid, OrderID: uuid.NewString(), Lines: twoMugs, HoldSeconds: 1})
	last := newOrder()
	f.Send(t, last.reserve("A-1", 1))
	messagingtest.Run(t, f.bus)
	messagingtest.Wait(t, "two dead letters and two holds", func() bool {
		var dead int
		if err := f.Admin.Get(&dead, `SELECT count(*) FROM messaging.queue_inventory WHERE dead_reason IS NOT NULL`); err != nil {
			t.Fatalf("count dead letters: %v", err)
		}
		return dead == 2 && f.status(t, good.reservation) == Held && f.status(t, last.reservation) == Held
	})
	f.said(t, contracts.KindStockReserved, contracts.KindStockReserved)
	f.addsUp(t)
}
