package inventory

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"example.com/orderflow/messaging"
	"example.com/orderflow/messaging/contracts"
)

// Return is what a customer sends back of an order.
type Return struct {
	ID            string // UUID, from orders
	ReservationID string // UUID
	OrderID       string // UUID
	Received      bool
	Lines         []contracts.Line // each SKU once, sorted
}

// received is the answer to ExpectReturn once t is there.
func (t Return) received() messaging.Body {
	return contracts.ReturnReceived{ReturnID: t.ID, ReservationID: t.ReservationID, OrderID: t.OrderID, Lines: t.Lines}
}

// announcement is what becomes of an ExpectReturn: a new return, or nothing new.
type announcement struct {
	Return
	Due     time.Duration // until it arrives
	Say     []messaging.Body
	Ignored string // why nothing is to be written; "" when something is
}

// announce decides on m for r and the returns that are known of it. The error says
// why m can never be carried out: r was not delivered, or the customer does not
// have what m names; no contract has an answer for that.
func announce(r Reservation, known []Return, m contracts.ExpectReturn, p pace) (announcement, error) {
	for _, t := range known {
		switch {
		case t.ID != m.ReturnID:
			continue
		case t.ReservationID != m.ReservationID:
			return announcement{}, errors.New("the return belongs to another reservation")
		case t.Received:
			return announcement{Return: t, Ignored: "repeated: received", Say: []messaging.Body{t.received()}}, nil
		}
		return announcement{Return: t, Ignored: "repeated: expected"}, nil
	}
	if r.Status != Delivered {
		return announcement{}, fmt.Errorf("nothing can come back of a reservation that is %s", named(r.Status))
	}
	have := map[string]int{}
	for _, l := range r.Lines {
		have[l.SKU] = l.found() - l.Returned
	}
	for _, t := range known {
		if t.ReservationID != r.ID || t.Received {
			continue
		}
		for _, l := range t.Lines {
			have[l.SKU] -= l.Quantity
		}
	}
	t := Return{ID: m.ReturnID, ReservationID: r.ID, OrderID: r.OrderID, Lines: merge(m.Lines)}
	for _, l := range t.Lines {
		if l.Quantity > have[l.SKU] {
			return announcement{}, fmt.Errorf("%d of %s were to come back, the customer has %d", l.Quantity, l.SKU, have[l.SKU])
		}
	}
	return announcement{Return: t, Due: p.of(r).giveBack}, nil
}

// named is s in a sentence.
func named(s Status) string {
	if s == unknown {
		return "unknown"
	}
	return string(s)
}

// receive is what becomes of r when its return t arrives, with the pieces
// available of every SKU of t: they are for sale again.
func receive(r Reservation, t Return, available map[string]int64) decision {
	r.Lines, r.Amended = slices.Clone(r.Lines), true
	d := decision{Due: noStep}
	for _, back := range t.Lines {
		for i, l := range r.Lines {
			if l.SKU == back.SKU {
				r.Lines[i].Returned += back.Quantity
			}
		}
		d.Moves = append(d.Moves, move{What: returned, SKU: back.SKU, Pieces: int64(back.Quantity), CauseID: t.ID, OrderID: r.OrderID})
	}
	d.Reservation, d.Say = r, []messaging.Body{t.received()}
	for _, back := range t.Lines {
		d.Say = append(d.Say, contracts.StockLevelChanged{SKU: back.SKU, Available: available[back.SKU] + int64(back.Quantity)})
	}
	return d
}
