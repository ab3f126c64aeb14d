package simulation

import (
	"slices"
	"time"

	"example.com/orderflow/inventory"
	"example.com/orderflow/messaging"
	"example.com/orderflow/messaging/contracts"
)

// What the shop sells, and for how much.
var (
	skus   = []string{"A-1", "B-1"}
	prices = []int64{700, 300}
)

// counters is a row of inventory's stock.
type counters struct{ initial, available, reserved, sold, writtenOff int64 }

// reservation is a row of inventory's reservations with its lines.
type reservation struct {
	inventory.Reservation
	due *time.Time // of its next step
}

// comeback is a row of inventory's returns with its lines.
type comeback struct {
	inventory.Return
	due *time.Time // nil once it is there
}

// warehouse is the database of inventory.
type warehouse struct {
	stock        map[string]*counters
	reservations []*reservation
	returns      []*comeback
}

func (s *warehouse) find(id string) *reservation {
	for _, r := range s.reservations {
		if r.ID == id {
			return r
		}
	}
	return nil
}

// available are the pieces that can be reserved.
func (s *warehouse) available() map[string]int64 {
	list := make(map[string]int64, len(s.stock))
	for sku, c := range s.stock {
		list[sku] = c.available
	}
	return list
}

// known are the returns of reservation id.
func (s *warehouse) known(id string) []inventory.Return {
	var list []inventory.Return
	for _, t := range s.returns {
		if t.ReservationID == id {
			list = append(list, t.Return)
		}
	}
	return list
}

// reservationID is that of a command to inventory.
func reservationID(m messaging.Body) string {
	switch m := m.(type) {
	case contracts.ReserveStock:
		return m.ReservationID
	case contracts.ReleaseStock:
		return m.ReservationID
	case contracts.FulfilOrder:
		return m.ReservationID
	case contracts.StopFulfilment:
		return m.ReservationID
	case contracts.DispatchShipment:
		return m.ReservationID
	case contracts.ExpectReturn:
		return m.ReservationID
	}
	return ""
}

// warehouseHears decides on a command that inventory gets.
func (w *world) warehouseHears(d *delivery) ([]messaging.Body, func()) {
	var r inventory.Reservation
	row := w.shelf.find(reservationID(d.body))
	if row != nil {
		r = row.Reservation
	}
	var known []inventory.Return
	var available map[string]int64
	switch d.body.(type) {
	case contracts.ExpectReturn:
		known = w.shelf.known(r.ID)
	case contracts.ReserveStock:
		available = w.shelf.available()
	}
	if w.off(stockLocked) && available != nil {
		for sku, c := range w.shelf.stock {
			available[sku] += c.reserved // as if those before had not committed yet
		}
	}
	dec, err := w.decider.Command(r, known, available, d.body)
	if err != nil {
		return nil, func() { w.bury(d, err.Error()) }
	}
	w.sawCommand(r, d.body, dec)
	return dec.Say, func() { w.carryOut(row, dec) }
}

// carryOut writes dec: r is the row that it is about, nil when there is none yet.
func (w *world) carryOut(r *reservation, dec inventory.Decision) {
	if dec.Ignored != "" {
		w.note("  %s", dec.Ignored)
		return
	}
	if t := dec.Return; t != nil {
		w.shelf.returns = append(w.shelf.returns, &comeback{*t, w.in(dec.Due)})
		return
	}
	if r == nil {
		if dec.Reservation.Status == inventory.Released && w.off(tombstones) {
			return
		}
		r = &reservation{}
		w.shelf.reservations = append(w.shelf.reservations, r)
	}
	r.Reservation, r.due = dec.Reservation, w.in(dec.Due)
	w.move(dec.Changes)
	w.note("  reservation %s is %s", r.ID, r.Status)
}

func (w *world) move(changes []inventory.Change) {
	for _, c := range changes {
		s := w.shelf.stock[c.SKU]
		s.available += c.Available
		s.reserved += c.Reserved
		s.sold += c.Sold
		s.writtenOff += c.WrittenOff
	}
}

// in is when what takes d is due; nil when there is nothing to come.
func (w *world) in(d time.Duration) *time.Time {
	if d < 0 {
		return nil
	}
	at := w.now.Add(d)
	return &at
}

// warehouseSteps lets the next thing happen to r, whose time has come.
func (w *world) warehouseSteps(r *reservation) {
	dec := w.decider.Step(r.Reservation)
	if !w.calm {
		switch {
		case r.Status == inventory.Picking && w.below(4) == 0:
			found := map[string]int{}
			for _, l := range r.Lines {
				found[l.SKU] = w.below(l.Quantity + 1)
			}
			dec = w.decider.Pack(r.Reservation, found)
		case r.Status == inventory.Shipped && w.below(6) == 0:
			dec = w.decider.Lose(r.Reservation)
		}
	}
	w.note("the warehouse: reservation %s is %s now", r.ID, dec.Reservation.Status)
	w.transact(dec.Say, func() { w.carryOut(r, dec) })
}

// receive takes in the return t, which has arrived.
func (w *world) receive(t *comeback) {
	r := w.shelf.find(t.ReservationID)
	dec := w.decider.Receive(r.Reservation, t.Return, w.shelf.available())
	w.note("return %s of %s arrives", t.ID, t.OrderID)
	w.transact(dec.Say, func() {
		t.Received, t.due = true, nil
		w.carryOut(r, dec)
	})
}

// holds are the pieces of sku that reservations keep from others.
func (s *warehouse) holds(sku string) (reserved, sold, writtenOff int64) {
	for _, r := range s.reservations {
		for _, l := range r.Lines {
			if l.SKU != sku {
				continue
			}
			writtenOff += int64(l.WrittenOff)
			switch r.Status {
			case inventory.Held, inventory.Picking, inventory.Packed:
				reserved += int64(l.Quantity - l.WrittenOff)
			case inventory.Shipped, inventory.Delivered, inventory.Lost:
				sold += int64(l.Quantity - l.WrittenOff - l.Returned)
			}
		}
	}
	return reserved, sold, writtenOff
}

// soldOf is how many pieces of each line of r have left the house and not come back.
func soldOf(r inventory.Reservation) map[string]int {
	list := map[string]int{}
	if slices.Contains([]inventory.Status{inventory.Shipped, inventory.Delivered, inventory.Lost}, r.Status) {
		for _, l := range r.Lines {
			list[l.SKU] = l.Quantity - l.WrittenOff - l.Returned
		}
	}
	return list
}
