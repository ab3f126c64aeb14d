package inventory

import (
	"net/http"
	"testing"
	"time"

	"example.com/orderflow/messaging/contracts"
	"example.com/orderflow/messaging/httpapi"
	"example.com/orderflow/messaging/messagingtest"
)

// TestOneShipmentIsTakenInHand takes one in hand in a warehouse that runs by itself:
// the time for its steps comes and goes, and those of others go on.
func TestOneShipmentIsTakenInHand(t *testing.T) {
	t.Parallel()
	cfg := quick()
	cfg.ReturnDelay = time.Millisecond
	f := running(t, cfg)
	held := newOrder()
	path := "/v1/shipments/" + held.id

	f.handled(t, "done", held.reserve("A-1", 2))
	for range 2 { // taken again, it stays so
		expect[shipment](t, f, http.StatusOK, "POST "+path+"/take", "")
	}
	f.handled(t, "done", held.fulfil())
	f.said(t, contracts.KindStockReserved, contracts.KindFulfilmentStarted)
	f.goesItsWay(t, newOrder())
	expect[shipment](t, f, http.StatusOK, "POST "+path+"/pack", `{"lines":[{"sku":"A-1","quantity":1}]}`)
	f.handled(t, "done", held.dispatch())
	f.said(t, contracts.KindShipmentPacked)
	f.goesItsWay(t, newOrder())
	for _, step := range []string{"dispatch", "deliver"} {
		expect[shipment](t, f, http.StatusOK, "POST "+path+"/"+step, "")
		f.goesItsWay(t, newOrder())
	}
	back := newReturn()
	f.handled(t, "done", held.sendBack(back, "A-1", 1))
	f.goesItsWay(t, newOrder())
	if got := expect[shipment](t, f, http.StatusOK, "GET "+path, "").Returns[0].Status; got != "expected" {
		t.Errorf("the return is %s, want expected", got)
	}
	expect[shipment](t, f, http.StatusOK, "POST "+path+"/returns/"+back+"/receive", "")
	f.addsUp(t)
}

// TestShipmentIsTakenInHandOnItsWay takes one that the carrier has already.
func TestShipmentIsTakenInHandOnItsWay(t *testing.T) {
	t.Parallel()
	cfg := quick()
	cfg.DeliveryDelay = time.Hour
	f := running(t, cfg)
	o := newOrder()
	path := "POST /v1/shipments/" + o.id
	expect[httpapi.Problem](t, f, http.StatusNotFound, path+"/take", "")
	f.handled(t, "done", o.reserve("B-1", 1))
	f.handled(t, "done", o.fulfil())
	f.awaitStatus(t, o, Packed)
	f.handled(t, "done", o.dispatch())
	f.awaitStatus(t, o, Shipped)
	expect[shipment](t, f, http.StatusOK, path+"/take", "")
	var waits bool
	if err := f.Admin.Get(&waits, `SELECT next_at = 'infinity' FROM inventory.reservations WHERE id = $1`, o.reservation); err != nil || !waits {
		t.Errorf("what was taken in hand waits for the operator: %v, %v; want true", waits, err)
	}
	expect[shipment](t, f, http.StatusOK, path+"/lose", "")
	expect[httpapi.Problem](t, f, http.StatusConflict, path+"/take", "") // it has no step left
	if got := f.acts(t); len(got) != 2 || got[0].Action != "take" || got[0].SubjectID != o.reservation || got[0].OrderID != o.id {
		t.Errorf("audit %+v, want a take of reservation %s, and what was done then", got, o.reservation)
	}
	f.addsUp(t)
}

// goesItsWay has o delivered by the warehouse itself: what was due before it has
// been done by then.
func (f fixture) goesItsWay(t *testing.T, o order) {
	t.Helper()
	f.handled(t, "done", o.reserve("B-1", 1))
	f.handled(t, "done", o.fulfil())
	f.awaitStatus(t, o, Packed)
	f.handled(t, "done", o.dispatch())
	f.awaitStatus(t, o, Delivered)
	f.Published(t, "inventory")
}

func (f fixture) awaitStatus(t *testing.T, o order, want Status) {
	t.Helper()
	messagingtest.Wait(t, "the reservation to be "+string(want), func() bool { return f.status(t, o.reservation) == want })
}
