package simulation

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"example.com/orderflow/inventory"
	"example.com/orderflow/messaging"
	"example.com/orderflow/messaging/contracts"
	"example.com/orderflow/messaging/httpapi"
	"example.com/orderflow/messaging/messagingtest"
)

// realInventory is the inventory service on its database, its warehouse manual.
type realInventory struct {
	t   *testing.T
	db  *messagingtest.DB
	mux *httpapi.Mux
}

func newRealInventory(t *testing.T) *realInventory {
	t.Helper()
	db := messagingtest.NewDB(t, inventory.Spec())
	bus := db.NewBus(t, inventory.Spec())
	s, err := inventory.New(inventory.Config{Warehouse: "manual"}, db.Service("inventory"), bus, messagingtest.Log(t))
	if err != nil {
		t.Fatal(err)
	}
	r := &realInventory{t: t, db: db, mux: httpapi.NewMux(messagingtest.Log(t))}
	s.Routes(r.mux)
	messagingtest.Run(t, bus)
	var products []inventory.Product
	for i, sku := range skus {
		products = append(products, inventory.Product{SKU: sku, Name: sku, PriceMinor: prices[i], Currency: "EUR", Available: 300})
	}
	if err := s.Seed(t.Context(), products); err != nil {
		t.Fatal(err)
	}
	db.Published(t, "inventory")
	return r
}

// do has an operator do something in the warehouse; it reports whether that is accepted.
func (r *realInventory) do(path string, body any) bool {
	r.t.Helper()
	payload := ""
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			r.t.Fatal(err)
		}
		payload = string(b)
	}
	req := httptest.NewRequestWithContext(r.t.Context(), http.MethodPost, path, strings.NewReader(payload))
	req.Header.Set("X-Customer-Id", "op")
	req.Header.Set("X-Role", "operator")
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	w := httptest.NewRecorder()
	r.mux.ServeHTTP(w, req)
	return w.Code < 300
}

// rows are all of inventory's rows as one text.
func (r *realInventory) rows() string {
	r.t.Helper()
	var text string
	err := r.db.Admin.Get(&text, `
		SELECT (SELECT string_agg(format(E'%s %s %s %s %s\n', sku, available, reserved, sold, written_off), '' ORDER BY sku) FROM inventory.stock) ||
		       coalesce((SELECT string_agg(format(E'%s %s %s %s\n', r.id, r.status, r.partial, r.next_at IS NOT NULL) ||
		           (SELECT coalesce(string_agg(format(E'  %s %s %s %s\n', l.sku, l.quantity, l.written_off, l.returned), '' ORDER BY l.sku), '')
		              FROM inventory.reservation_lines l WHERE l.reservation_id = r.id), '' ORDER BY r.id)
		          FROM inventory.reservations r), '') ||
		       coalesce((SELECT string_agg(format(E'return %s %s\n', id, status), '' ORDER BY id) FROM inventory.returns), '')`)
	if err != nil {
		r.t.Fatal(err)
	}
	return text
}

// rows are the same of the model.
func (s *warehouse) rows() string {
	flag := func(b bool) string { return map[bool]string{true: "t", false: "f"}[b] }
	var b strings.Builder
	for _, sku := range skus {
		c := s.stock[sku]
		fmt.Fprintf(&b, "%s %d %d %d %d\n", sku, c.available, c.reserved, c.sold, c.writtenOff)
	}
	sorted := slices.SortedFunc(slices.Values(s.reservations), func(a, b *reservation) int { return strings.Compare(a.ID, b.ID) })
	for _, r := range sorted {
		fmt.Fprintf(&b, "%s %s %s %s\n", r.ID, r.Status, flag(r.Partial), flag(r.due != nil))
		for _, l := range r.Lines {
			fmt.Fprintf(&b, "  %s %d %d %d\n", l.SKU, l.Quantity, l.WrittenOff, l.Returned)
		}
	}
	returns := slices.SortedFunc(slices.Values(s.returns), func(a, b *comeback) int { return strings.Compare(a.ID, b.ID) })
	for _, t := range returns {
		fmt.Fprintf(&b, "return %s %s\n", t.ID, map[bool]string{true: "received", false: "expected"}[t.Received])
	}
	return b.String()
}

// TestModelOfInventoryIsTrue has the same random commands and steps of the warehouse
// come to the model of inventory and to the service on PostgreSQL: rows and messages
// are the same.
func TestModelOfInventoryIsTrue(t *testing.T) {
	t.Parallel()
	steps := 400
	if long() {
		steps = 4000
	}
	r := newRealInventory(t)
	w := newWorld(newDice(1), nothing, newTally())
	w.calm = true
	for _, sku := range skus {
		w.shelf.stock[sku] = &counters{initial: 300, available: 300}
	}
	seen := map[string]int{}
	var booked []contracts.ReserveStock
	for range steps {
		w.now = w.now.Add(time.Second)
		if len(booked) == 0 || w.below(12) == 0 {
			m := contracts.ReserveStock{ReservationID: w.newID(), OrderID: w.newID(), HoldSeconds: 3600, AllowPartial: w.below(3) == 1}
			for _, sku := range skus {
				n := 1 + w.below(8)
				if w.below(6) == 0 {
					n += 300 // more than there is
				}
				m.Lines = append(m.Lines, contracts.Line{SKU: sku, Quantity: n})
			}
			booked = append(booked, m)
		}
		m := booked[max(0, len(booked)-1-w.below(4))]
		var sends []messaging.Body
		what := ""
		if row := w.shelf.find(m.ReservationID); row != nil && w.below(2) == 0 {
			what, sends = r.step(w, row)
		} else {
			what, sends = r.command(w, m)
		}
		seen[what]++
		if got, want := r.rows(), w.shelf.rows(); got != want {
			t.Errorf("after %s the database has\n%s\nthe model\n%s", what, got, want)
		}
		var got []string
		for _, p := range r.db.Published(t, "inventory") {
			got = append(got, timeless(t, p.Kind, p.Payload))
			seen[p.Kind]++
		}
		if want := said(t, sends); !slices.Equal(got, want) {
			t.Errorf("after %s: published %s, the model says %s", what, got, want)
		}
		if t.Failed() {
			t.FailNow()
		}
	}
	for _, kind := range []string{
		contracts.KindStockReserved, contracts.KindStockPartiallyReserved, contracts.KindStockRejected, contracts.KindStockReleased,
		contracts.KindShipmentPacked, contracts.KindShipmentDelivered, contracts.KindShipmentLost, contracts.KindReturnReceived,
	} {
		if seen[kind] == 0 {
			t.Errorf("%s was never said: %v", kind, seen)
		}
	}
}

// command lets a command about what m reserves come to both.
func (r *realInventory) command(w *world, m contracts.ReserveStock) (string, []messaging.Body) {
	r.t.Helper()
	back := contracts.ExpectReturn{ReturnID: w.newID(), ReservationID: m.ReservationID, OrderID: m.OrderID}
	back.Lines = []contracts.Line{{SKU: skus[0], Quantity: 1 + w.below(2)}}
	fulfil := contracts.FulfilOrder{ReservationID: m.ReservationID, OrderID: m.OrderID}
	dispatch := contracts.DispatchShipment{ReservationID: m.ReservationID, OrderID: m.OrderID}
	body := []messaging.Body{
		m, m, m, m, fulfil, fulfil, fulfil, fulfil, dispatch, dispatch, dispatch, dispatch, back, back, back,
		contracts.ReleaseStock{ReservationID: m.ReservationID, OrderID: m.OrderID, Reason: "cancelled"},
		contracts.StopFulfilment{ReservationID: m.ReservationID, OrderID: m.OrderID},
	}[w.below(17)]
	if w.below(3) > 0 { // most of the time what brings it further
		switch row := w.shelf.find(m.ReservationID); {
		case row == nil:
			body = m
		case row.Status == inventory.Held:
			body = fulfil
		case row.Status == inventory.Packed:
			body = dispatch
		case row.Status == inventory.Delivered:
			body = back
		}
	}
	outcome := r.db.Deliver(r.t, body)[0]
	d := &delivery{letter: &letter{to: "inventory", body: body}}
	sends, commit := w.warehouseHears(d)
	commit()
	if d.buried != strings.HasPrefix(outcome, "dead") {
		r.t.Errorf("%T: outcome %q, dead in the model: %v", body, outcome, d.buried)
	}
	return body.Kind(), sends
}

// step lets the next thing happen to a reservation in both, if anything can.
func (r *realInventory) step(w *world, row *reservation) (string, []messaging.Body) {
	r.t.Helper()
	path := "/v1/shipments/" + row.OrderID
	var dec inventory.Decision
	switch {
	case row.Status == inventory.Picking:
		found := map[string]int{}
		lines := []map[string]any{}
		for _, l := range row.Lines {
			found[l.SKU] = w.below(l.Quantity + 1)
			if w.below(3) > 0 {
				found[l.SKU] = l.Quantity
			}
			lines = append(lines, map[string]any{"sku": l.SKU, "quantity": found[l.SKU]})
		}
		path, dec = path+"/pack", w.decider.Pack(row.Reservation, found)
		if !r.do(path, map[string]any{"lines": lines}) {
			r.t.Errorf("%s is refused", path)
		}
	case row.Status == inventory.Packed && row.Asked:
		path, dec = path+"/dispatch", w.decider.Step(row.Reservation)
		if !r.do(path, nil) {
			r.t.Errorf("%s is refused", path)
		}
	case row.Status == inventory.Shipped && w.below(3) == 0:
		path, dec = path+"/lose", w.decider.Lose(row.Reservation)
		if !r.do(path, nil) {
			r.t.Errorf("%s is refused", path)
		}
	case row.Status == inventory.Shipped:
		path, dec = path+"/deliver", w.decider.Step(row.Reservation)
		if !r.do(path, nil) {
			r.t.Errorf("%s is refused", path)
		}
	default:
		for _, t := range w.shelf.returns {
			if t.ReservationID == row.ID && !t.Received {
				path += "/returns/" + t.ID + "/receive"
				dec = w.decider.Receive(row.Reservation, t.Return, w.shelf.available())
				if !r.do(path, nil) {
					r.t.Errorf("%s is refused", path)
				}
				t.Received, t.due = true, nil
				w.carryOut(row, dec)
				return "receive", dec.Say
			}
		}
		if r.do(path+"/dispatch", nil) {
			r.t.Errorf("a reservation that is %s is dispatched", row.Status)
		}
		return "nothing", nil
	}
	w.carryOut(row, dec)
	return string(dec.Reservation.Status), dec.Say
}
