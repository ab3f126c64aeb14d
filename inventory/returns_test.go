package inventory

import (
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"example.com/orderflow/messaging"
	"example.com/orderflow/messaging/contracts"
	"example.com/orderflow/messaging/httpapi"
	"example.com/orderflow/messaging/messagingtest"
)

const tid = "0197f000-0000-7000-8000-0000000000aa"

func newReturn() string { return uuid.Must(uuid.NewV7()).String() }

func TestAnnounceDecides(t *testing.T) {
	t.Parallel()
	m := contracts.ExpectReturn{ReturnID: tid, ReservationID: rid, OrderID: oid, Lines: twoMugs}
	of := func(id string, received bool, quantity int) Return {
		return Return{ID: id, ReservationID: rid, OrderID: oid, Received: received, Lines: lines("A-1", quantity)}
	}
	sentBack := at(Delivered)
	sentBack.Amended, sentBack.Lines[0].Returned = true, 1
	foreign := of(tid, false, 2)
	foreign.ReservationID = oid
	answer := contracts.ReturnReceived{ReturnID: tid, ReservationID: rid, OrderID: oid, Lines: twoMugs}
	tests := []struct {
		name    string
		r       Reservation
		known   []Return
		due     time.Duration
		ignored string
		say     []messaging.Body
		refused string // part of the error
	}{
		{name: "all of what was delivered", r: at(Delivered), due: 4 * time.Second},
		{name: "again before it is there", r: at(Delivered), known: []Return{of(tid, false, 2)}, ignored: "repeated: expected"},
		{name: "again when it is there", r: at(Delivered), known: []Return{of(tid, true, 2)}, ignored: "repeated: received", say: []messaging.Body{answer}},
		{name: "of a reservation that nobody knows", r: at(unknown), refused: "unknown"},
		{name: "of what is held", r: at(Held), refused: "held"},
		{name: "of what is on its way", r: at(Shipped), refused: "shipped"},
		{name: "of what was lost", r: at(Lost), refused: "lost"},
		{name: "of what was released", r: at(Released), refused: "released"},
		{name: "more than was packed", r: oneShort(Delivered), refused: "2 of A-1 were to come back, the customer has 1"},
		{name: "more than is left", r: sentBack, refused: "the customer has 1"},
		{name: "more than is left besides what is expected", r: at(Delivered), known: []Return{of(rid, false, 1)}, refused: "the customer has 1"},
		{name: "what came back counts once", r: at(Delivered), known: []Return{of(rid, true, 1)}, due: 4 * time.Second},
		{name: "another reservation's return", r: at(Delivered), known: []Return{foreign}, refused: "another reservation"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := announce(tt.r, tt.known, m, testPace)
			if tt.refused != "" {
				if err == nil || !strings.Contains(err.Error(), tt.refused) {
					t.Fatalf("error %v, want one with %q", err, tt.refused)
				}
				return
			}
			if err != nil || got.Due != tt.due || got.Ignored != tt.ignored || !reflect.DeepEqual(got.Say, tt.say) {
				t.Errorf("got %+v, %v, want due in %s, ignored %q, said %v", got, err, tt.due, tt.ignored, tt.say)
			}
			if got.ID != tid || !slices.Equal(got.Lines, twoMugs) {
				t.Errorf("return %+v, want %s of %v", got.Return, tid, twoMugs)
			}
		})
	}
}

// delivered makes an order of lines that the customer has.
func (f fixture) delivered(t *testing.T, skusAndQuantities ...any) order {
	t.Helper()
	o := newOrder()
	f.handled(t, "done", o.reserve(skusAndQuantities...))
	f.handled(t, "done", o.fulfil())
	expect[shipment](t, f, http.StatusOK, "POST /v1/shipments/"+o.id+"/pack", "")
	f.handled(t, "done", o.dispatch())
	expect[shipment](t, f, http.StatusOK, "POST /v1/shipments/"+o.id+"/dispatch", "")
	expect[shipment](t, f, http.StatusOK, "POST /v1/shipments/"+o.id+"/deliver", "")
	f.Published(t, "inventory")
	return o
}

func TestReturnIsReceivedByTheOperator(t *testing.T) {
	t.Parallel()
	f := running(t, byHand())
	o, id, second := f.delivered(t, "A-1", 3, "B-1", 1), newReturn(), newReturn()
	path := "/v1/shipments/" + o.id
	for _, want := range []string{"done", "ignored"} {
		f.handled(t, want, o.sendBack(id, "B-1", 1, "A-1", 2))
		f.said(t)
	}
	if got, want := expect[shipment](t, f, http.StatusOK, "GET "+path, "").Returns, (returnInfo{id, "expected", lines("A-1", 2, "B-1", 1)}); len(got) != 1 || !reflect.DeepEqual(got[0], want) {
		t.Errorf("returns %+v, want %+v", got, want)
	}
	f.handled(t, "done", o.sendBack(second, "A-1", 1))
	got := expect[shipment](t, f, http.StatusOK, "POST "+path+"/returns/"+id+"/receive", "")
	if want := []Line{{"A-1", 3, 0, 2}, {"B-1", 1, 0, 1}}; got.Status != Delivered || !slices.Equal(got.Lines, want) {
		t.Errorf("shipment %+v, want delivered with %v", got, want)
	}
	if len(got.Returns) != 2 || got.Returns[0].Status != "received" || got.Returns[1].Status != "expected" {
		t.Errorf("returns %+v, want one received, one expected", got.Returns)
	}
	msgs := f.said(t, contracts.KindReturnReceived, contracts.KindStockLevelChanged, contracts.KindStockLevelChanged)
	if got, want := messagingtest.As[contracts.StockLevelChanged](t, msgs[1]), (contracts.StockLevelChanged{SKU: "A-1", Available: 99}); got != want {
		t.Errorf("said %+v, want %+v", got, want)
	}
	f.handled(t, "ignored", o.sendBack(id, "B-1", 1, "A-1", 2))
	msgs = append(msgs[:1], f.said(t, contracts.KindReturnReceived)...)
	for _, m := range msgs {
		want := contracts.ReturnReceived{ReturnID: id, ReservationID: o.reservation, OrderID: o.id, Lines: lines("A-1", 2, "B-1", 1)}
		if got := messagingtest.As[contracts.ReturnReceived](t, m); !reflect.DeepEqual(got, want) {
			t.Errorf("said %+v, want %+v", got, want)
		}
	}
	if p := expect[httpapi.Problem](t, f, http.StatusConflict, "POST "+path+"/returns/"+id+"/receive", ""); p.Code() != "illegal-state" {
		t.Errorf("received twice: problem %s, want illegal-state", p.Code())
	}
	expect[httpapi.Problem](t, f, http.StatusNotFound, "POST "+path+"/returns/"+newReturn()+"/receive", "")
	f.said(t)
	if got, want := f.stock(t, "A-1"), (levels{99, 0, 1}); got != want {
		t.Errorf("stock of A-1 %+v, want %+v", got, want)
	}
	f.addsUp(t)
}

func TestReturnsOfWhatTheCustomerDoesNotHaveAreDeadLetters(t *testing.T) {
	t.Parallel()
	f := running(t, byHand())
	o, held := f.delivered(t, "A-1", 2), newOrder()
	f.handled(t, "done", held.reserve("A-1", 1))
	f.handled(t, "done", o.sendBack(newReturn(), "A-1", 1))
	f.Published(t, "inventory")
	for name, m := range map[string]contracts.ExpectReturn{
		"too many":        o.sendBack(newReturn(), "A-1", 2),
		"never ordered":   o.sendBack(newReturn(), "B-1", 1),
		"not delivered":   held.sendBack(newReturn(), "A-1", 1),
		"no such order":   newOrder().sendBack(newReturn(), "A-1", 1),
		"no return id":    o.sendBack("", "A-1", 1),
		"an odd SKU":      o.sendBack(newReturn(), "A'; DROP TABLE inventory.stock;--", 1),
		"nothing of it":   o.sendBack(newReturn(), "A-1", 0),
		"less than none":  o.sendBack(newReturn(), "A-1", -1),
		"no lines at all": o.sendBack(newReturn()),
	} {
		if got := f.Deliver(t, m)[0]; !strings.HasPrefix(got, "dead: ") {
			t.Errorf("%s: outcome %q, want a dead letter", name, got)
		}
	}
	f.said(t)
	var n int
	if err := f.Admin.Get(&n, `SELECT count(*) FROM inventory.returns`); err != nil || n != 1 {
		t.Errorf("%d returns, %v, want 1", n, err)
	}
	f.addsUp(t)
}

func TestReturnsArriveInTime(t *testing.T) {
	t.Parallel()
	cfg := quick()
	cfg.ReturnDelay = time.Millisecond
	f := running(t, cfg)
	o := newOrder()
	f.handled(t, "done", o.reserve("A-1", 3))
	f.handled(t, "done", o.fulfil())
	f.collect(t, contracts.KindStockReserved, contracts.KindFulfilmentStarted, contracts.KindShipmentPacked)
	f.handled(t, "done", o.dispatch())
	f.collect(t, contracts.KindShipmentDispatched, contracts.KindShipmentDelivered)
	f.Deliver(t, o.sendBack(newReturn(), "A-1", 1), o.sendBack(newReturn(), "A-1", 2))
	var msgs []messaging.Message
	messagingtest.Wait(t, "two returns", func() bool {
		msgs = append(msgs, f.Published(t, "inventory")...)
		return len(msgs) >= 4
	})
	kinds := messagingtest.Kinds(msgs)
	slices.Sort(kinds)
	if want := []string{contracts.KindReturnReceived, contracts.KindReturnReceived, contracts.KindStockLevelChanged, contracts.KindStockLevelChanged}; !slices.Equal(kinds, want) {
		t.Errorf("published %v, want %v", kinds, want)
	}
	if got, want := f.stock(t, "A-1"), (levels{100, 0, 0}); got != want {
		t.Errorf("stock of A-1 %+v, want %+v", got, want)
	}
	f.addsUp(t)
}

// TestReturnsOfOneOrderAtOnce has the operator, the clock and another process take
// the same returns in.
func TestReturnsOfOneOrderAtOnce(t *testing.T) {
	t.Parallel()
	f := running(t, byHand())
	o := f.delivered(t, "A-1", 10)
	var ids []string
	for range 10 {
		ids = append(ids, newReturn())
		f.handled(t, "done", o.sendBack(ids[len(ids)-1], "A-1", 1))
	}
	second := f.NewBus(t, Spec())
	if _, err := New(byHand(), f.Service("inventory"), second, messagingtest.Log(t)); err != nil {
		t.Fatalf("new service: %v", err)
	}
	messagingtest.Run(t, second)
	if _, err := f.Admin.Exec(`UPDATE inventory.returns SET next_at = messaging.shop_now()`); err != nil {
		t.Fatalf("let the returns be due: %v", err)
	}
	for _, id := range ids {
		if status, body := f.call(t, "POST /v1/shipments/"+o.id+"/returns/"+id+"/receive", ""); status != http.StatusOK && status != http.StatusConflict {
			t.Errorf("receive: status %d: %s", status, body)
		}
	}
	received := 0
	messagingtest.Wait(t, "ten returns", func() bool {
		for _, kind := range messagingtest.Kinds(f.Published(t, "inventory")) {
			if kind == contracts.KindReturnReceived {
				received++
			}
		}
		return received >= 10
	})
	if got, want := f.stock(t, "A-1"), (levels{100, 0, 0}); got != want || received != 10 {
		t.Errorf("%d received, stock of A-1 %+v, want 10 and %+v", received, got, want)
	}
	f.addsUp(t)
}
