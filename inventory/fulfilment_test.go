package inventory

import (
	"net/http"
	"slices"
	"testing"

	"example.com/orderflow/messaging"
	"example.com/orderflow/messaging/contracts"
	"example.com/orderflow/messaging/messagingtest"
)

// written is how many pieces of a SKU were written off.
func (f fixture) written(t *testing.T, sku string) int64 {
	t.Helper()
	var n int64
	if err := f.Admin.Get(&n, `SELECT written_off FROM inventory.stock WHERE sku = $1`, sku); err != nil {
		t.Fatalf("read what was written off of %s: %v", sku, err)
	}
	return n
}

// packedLines are the lines of a ShipmentPacked.
func packedLines(t *testing.T, m messaging.Message) []contracts.Line {
	t.Helper()
	return messagingtest.As[contracts.ShipmentPacked](t, m).Lines
}

func TestPartOfAnOrderIsHeld(t *testing.T) {
	t.Parallel()
	f := running(t, byHand())
	o := newOrder()
	f.handled(t, "done", o.reservePart("A-1", 2, "C-1", 5, "D-1", 1))
	msgs := f.said(t, contracts.KindStockPartiallyReserved, contracts.KindStockLevelChanged)
	f.handled(t, "ignored", o.reservePart("A-1", 2, "C-1", 5, "D-1", 1))
	msgs = append(msgs[:1], f.said(t, contracts.KindStockPartiallyReserved)...)
	for _, m := range msgs {
		if got, want := messagingtest.As[contracts.StockPartiallyReserved](t, m).Lines, lines("A-1", 2, "C-1", 3); !slices.Equal(got, want) {
			t.Errorf("held %v, want %v", got, want)
		}
	}
	if got, want := f.stock(t, "C-1"), (levels{0, 3, 0}); got != want {
		t.Errorf("stock of C-1 %+v, want %+v", got, want)
	}
	f.addsUp(t)

	f.handled(t, "done", o.fulfil())
	f.said(t, contracts.KindFulfilmentStarted)
	f.handled(t, "done", o.release())
	f.said(t, contracts.KindStockReleased)
	if got, want := f.stock(t, "C-1"), (levels{3, 0, 0}); got != want {
		t.Errorf("stock of C-1 after the release %+v, want %+v", got, want)
	}
	f.addsUp(t)
}

func TestPartOfNothingIsRejected(t *testing.T) {
	t.Parallel()
	f := running(t, byHand())
	for _, tt := range []struct {
		lines  []any
		reason string
		skus   []string
	}{
		{[]any{"D-1", 1}, "out_of_stock", []string{"D-1"}},
		{[]any{"A-1", 1, "NOPE-1", 1}, "unknown_sku", []string{"NOPE-1"}},
	} {
		f.handled(t, "done", newOrder().reservePart(tt.lines...))
		got := messagingtest.As[contracts.StockRejected](t, f.said(t, contracts.KindStockRejected)[0])
		if got.ReasonCode != tt.reason || !slices.Equal(got.SKUs, tt.skus) {
			t.Errorf("said %+v, want %s for %v", got, tt.reason, tt.skus)
		}
	}
	f.addsUp(t)
}

func TestStopFulfilment(t *testing.T) {
	t.Parallel()
	f := running(t, byHand())
	picking, packed, early := newOrder(), newOrder(), newOrder()
	for _, o := range []order{picking, packed} {
		f.handled(t, "done", o.reserve("A-1", 2))
		f.handled(t, "done", o.fulfil())
	}
	f.said(t, contracts.KindStockReserved, contracts.KindFulfilmentStarted, contracts.KindStockReserved, contracts.KindFulfilmentStarted)
	expect[shipment](t, f, http.StatusOK, "POST /v1/shipments/"+packed.id+"/pack", "")
	f.said(t, contracts.KindShipmentPacked)

	for _, want := range []string{"done", "ignored"} {
		f.handled(t, want, picking.stop())
		f.said(t, contracts.KindStockReleased)
	}
	f.handled(t, "ignored", picking.fulfil())
	f.said(t, contracts.KindFulfilmentRefused)
	for range 2 { // too late: it is packed
		f.handled(t, "ignored", packed.stop())
		if got, want := packedLines(t, f.said(t, contracts.KindShipmentPacked)[0]), lines("A-1", 2); !slices.Equal(got, want) {
			t.Errorf("packed %v, want %v", got, want)
		}
	}
	f.handled(t, "done", early.stop()) // before anything else: a tombstone
	f.said(t, contracts.KindStockReleased)
	f.handled(t, "ignored", early.reserve("A-1", 1))
	f.said(t, contracts.KindStockRejected)
	if got, want := f.stock(t, "A-1"), (levels{98, 2, 0}); got != want {
		t.Errorf("stock of A-1 %+v, want %+v", got, want)
	}
	f.addsUp(t)

	f.handled(t, "done", packed.release()) // but what is packed can be unpacked
	f.said(t, contracts.KindStockReleased)
	f.handled(t, "ignored", packed.stop())
	f.said(t, contracts.KindStockReleased)
	f.addsUp(t)
}

// A stop in one batch with the picking's start finds it picking.
func TestStopRightAfterTheStart(t *testing.T) {
	t.Parallel()
	f := newFixture(t, byHand())
	o := newOrder()
	for _, m := range []messaging.Body{o.reserve("A-1", 2), o.fulfil(), o.stop(), o.fulfil()} {
		f.Send(t, m)
	}
	messagingtest.Run(t, f.bus)
	f.collect(t, contracts.KindStockReserved, contracts.KindFulfilmentStarted, contracts.KindStockReleased, contracts.KindFulfilmentRefused)
	if got, want := f.stock(t, "A-1"), (levels{100, 0, 0}); got != want {
		t.Errorf("stock of A-1 %+v, want %+v", got, want)
	}
	f.addsUp(t)
}

func TestShortPickByTheOperator(t *testing.T) {
	t.Parallel()
	f := running(t, byHand())
	o := newOrder()
	f.handled(t, "done", o.reserve("A-1", 3, "B-1", 2))
	f.handled(t, "done", o.fulfil())
	f.said(t, contracts.KindStockReserved, contracts.KindFulfilmentStarted)
	got := expect[shipment](t, f, http.StatusOK, "POST /v1/shipments/"+o.id+"/pack", `{"lines":[{"sku":"A-1","quantity":1}]}`)
	if want := []Line{{"A-1", 3, 2, 0}, {"B-1", 2, 2, 0}}; got.Status != Packed || !slices.Equal(got.Lines, want) {
		t.Errorf("shipment %+v, want packed with %v", got, want)
	}
	if got, want := packedLines(t, f.said(t, contracts.KindShipmentPacked)[0]), lines("A-1", 1); !slices.Equal(got, want) {
		t.Errorf("packed %v, want %v", got, want)
	}
	if got, want := f.stock(t, "A-1"), (levels{97, 1, 0}); got != want || f.written(t, "A-1") != 2 {
		t.Errorf("stock of A-1 %+v, written off %d, want %+v and 2", got, f.written(t, "A-1"), want)
	}
	f.addsUp(t)

	f.handled(t, "ignored", o.fulfil())
	if got, want := packedLines(t, f.said(t, contracts.KindShipmentPacked)[0]), lines("A-1", 1); !slices.Equal(got, want) {
		t.Errorf("packed, told again: %v, want %v", got, want)
	}
	f.handled(t, "done", o.dispatch())
	expect[shipment](t, f, http.StatusOK, "POST /v1/shipments/"+o.id+"/dispatch", "")
	f.said(t, contracts.KindShipmentDispatched)
	if got, want := f.stock(t, "B-1"), (levels{98, 0, 0}); got != want {
		t.Errorf("stock of B-1 %+v, want %+v", got, want)
	}
	if got, want := f.stock(t, "A-1"), (levels{97, 0, 1}); got != want {
		t.Errorf("stock of A-1 %+v, want %+v", got, want)
	}
	f.addsUp(t)
}

func TestReleaseAfterAShortPickGivesBackWhatWasFound(t *testing.T) {
	t.Parallel()
	f := running(t, byHand())
	o := newOrder()
	f.handled(t, "done", o.reserve("A-1", 3))
	f.handled(t, "done", o.fulfil())
	expect[shipment](t, f, http.StatusOK, "POST /v1/shipments/"+o.id+"/pack", `{"lines":[{"sku":"A-1","quantity":2}]}`)
	f.handled(t, "done", o.release())
	f.said(t, contracts.KindStockReserved, contracts.KindFulfilmentStarted, contracts.KindShipmentPacked, contracts.KindStockReleased)
	if got, want := f.stock(t, "A-1"), (levels{99, 0, 0}); got != want || f.written(t, "A-1") != 1 {
		t.Errorf("stock of A-1 %+v, written off %d, want %+v and 1", got, f.written(t, "A-1"), want)
	}
	f.addsUp(t)
}

func TestNothingFoundEndsTheReservation(t *testing.T) {
	t.Parallel()
	f := running(t, byHand())
	o := newOrder()
	f.handled(t, "done", o.reserve("A-1", 3))
	f.handled(t, "done", o.fulfil())
	f.said(t, contracts.KindStockReserved, contracts.KindFulfilmentStarted)
	got := expect[shipment](t, f, http.StatusOK, "POST /v1/shipments/"+o.id+"/pack", `{"lines":[]}`)
	if got.Status != Released || got.Awaits != nil {
		t.Errorf("shipment %+v, want released", got)
	}
	msgs := f.said(t, contracts.KindShipmentPacked)
	f.handled(t, "ignored", o.fulfil())
	for _, m := range append(msgs, f.said(t, contracts.KindShipmentPacked)...) {
		if got := packedLines(t, m); len(got) != 0 || got == nil {
			t.Errorf("packed %v, want an empty list", got)
		}
	}
	for _, m := range []messaging.Body{o.release(), o.stop()} {
		f.handled(t, "ignored", m)
		f.said(t, contracts.KindStockReleased)
	}
	f.handled(t, "ignored", o.dispatch())
	f.said(t)
	if got, want := f.stock(t, "A-1"), (levels{97, 0, 0}); got != want || f.written(t, "A-1") != 3 {
		t.Errorf("stock of A-1 %+v, written off %d, want %+v and 3", got, f.written(t, "A-1"), want)
	}
	f.addsUp(t)
}

// TestBadHabits has the automatic warehouse miss pieces, and its carrier lose a parcel.
func TestBadHabits(t *testing.T) {
	t.Parallel()
	cfg := quick()
	cfg.Short, cfg.Loses = map[string]int{"A-1": 1, "C-1": 100}, []string{"B-1"}
	f := running(t, cfg)
	short, nothing, gone := newOrder(), newOrder(), newOrder()
	f.handled(t, "done", short.reserve("A-1", 3))
	f.handled(t, "done", short.fulfil())
	msgs := f.collect(t, contracts.KindStockReserved, contracts.KindFulfilmentStarted, contracts.KindShipmentPacked)
	if got, want := packedLines(t, msgs[2]), lines("A-1", 2); !slices.Equal(got, want) {
		t.Errorf("packed %v, want %v", got, want)
	}
	f.handled(t, "done", short.dispatch())
	f.collect(t, contracts.KindShipmentDispatched, contracts.KindShipmentDelivered)

	f.handled(t, "done", nothing.reserve("C-1", 2))
	f.handled(t, "done", nothing.fulfil())
	msgs = f.collect(t, contracts.KindStockReserved, contracts.KindFulfilmentStarted, contracts.KindShipmentPacked)
	if got := packedLines(t, msgs[2]); len(got) > 0 {
		t.Errorf("packed %v, want nothing", got)
	}

	f.handled(t, "done", gone.reserve("B-1", 1, "A-1", 2))
	f.handled(t, "done", gone.fulfil())
	f.collect(t, contracts.KindStockReserved, contracts.KindFulfilmentStarted, contracts.KindShipmentPacked)
	f.handled(t, "done", gone.dispatch())
	f.collect(t, contracts.KindShipmentDispatched, contracts.KindShipmentLost)
	f.handled(t, "ignored", gone.dispatch())
	f.said(t, contracts.KindShipmentLost)
	f.handled(t, "ignored", gone.release()) // too late
	f.said(t, contracts.KindShipmentLost)
	if got := f.status(t, gone.reservation); got != Lost {
		t.Errorf("status %q, want lost", got)
	}
	if got, want := f.stock(t, "A-1"), (levels{95, 0, 3}); got != want {
		t.Errorf("stock of A-1 %+v, want %+v", got, want)
	}
	f.addsUp(t)
}

func TestOperatorLosesAShipment(t *testing.T) {
	t.Parallel()
	f := running(t, byHand())
	o := newOrder()
	path := "POST /v1/shipments/" + o.id
	f.handled(t, "done", o.reserve("A-1", 2))
	f.handled(t, "done", o.fulfil())
	expect[shipment](t, f, http.StatusOK, path+"/pack", "")
	expect[any](t, f, http.StatusConflict, path+"/lose", "") // not shipped yet
	f.handled(t, "done", o.dispatch())
	expect[any](t, f, http.StatusConflict, path+"/lose", "")
	expect[shipment](t, f, http.StatusOK, path+"/dispatch", "")
	f.said(t, contracts.KindStockReserved, contracts.KindFulfilmentStarted, contracts.KindShipmentPacked, contracts.KindShipmentDispatched)
	if got := expect[shipment](t, f, http.StatusOK, path+"/lose", ""); got.Status != Lost || got.Awaits != nil {
		t.Errorf("shipment %+v, want lost", got)
	}
	f.said(t, contracts.KindShipmentLost)
	expect[any](t, f, http.StatusConflict, path+"/deliver", "")
	expect[any](t, f, http.StatusConflict, path+"/lose", "")
	f.handled(t, "ignored", o.dispatch())
	f.said(t, contracts.KindShipmentLost)
	if got, want := f.stock(t, "A-1"), (levels{98, 0, 2}); got != want {
		t.Errorf("stock of A-1 %+v, want %+v", got, want)
	}
	f.addsUp(t)
}
