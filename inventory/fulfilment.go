package inventory

import (
	"slices"
	"strings"
	"time"

	"example.com/orderflow/messaging"
	"example.com/orderflow/messaging/contracts"
)

// pace is how long the simulated warehouse and carrier take for each step;
// byOperator when a person does it.
type pace struct {
	pick     time.Duration // picking -> packed
	dispatch time.Duration // packed and asked for -> shipped
	deliver  time.Duration // shipped -> delivered, or lost
	giveBack time.Duration // a return was announced -> it is there
}

// manual is the pace of a warehouse and a carrier that are people.
var manual = pace{pick: byOperator, dispatch: byOperator, deliver: byOperator, giveBack: byOperator}

// of is the pace at which r goes on.
func (p pace) of(r Reservation) pace {
	if r.ByHand {
		return manual
	}
	return p
}

// habits are what goes wrong in the simulated warehouse and with its carrier.
type habits struct {
	short map[string]int // pieces of a SKU that picking doesn't find, each time
	loses []string       // SKUs: a shipment with one of them is lost
}

// fulfil decides on FulfilOrder for r.
func fulfil(r Reservation, m contracts.FulfilOrder, p pace) decision {
	refused := contracts.FulfilmentRefused{ReservationID: m.ReservationID, OrderID: m.OrderID, ReasonCode: reasonNotReserved}
	switch {
	case r.Status == Held:
		r.Status = Picking
		return decision{Reservation: r, Due: p.of(r).pick, Say: []messaging.Body{r.started()}}
	case r.Status == Picking:
		return ignored(r, "repeated: picking", r.started())
	case r.Status == Packed, r.Status.hasLeft(), r.nothingFound():
		return ignored(r, "repeated: "+string(r.Status), r.packed())
	case r.Status == Released:
		refused.ReasonCode = reasonReleased
	case r.Status == Expired:
		refused.ReasonCode = reasonExpired
	}
	return ignored(r, "nothing to fulfil: "+refused.ReasonCode, refused)
}

// stop decides on StopFulfilment for r: what is packed stays packed.
func stop(r Reservation, m contracts.StopFulfilment) decision {
	if r.Status == Packed || r.Status.hasLeft() {
		return ignored(r, "too late: "+string(r.Status), r.packed())
	}
	return letGo(r, m.ReservationID, m.OrderID, reasonStopped)
}

// dispatch decides on DispatchShipment for r. A command that comes before the
// packing, or about nothing that could be sent, is ignored: no contract has an
// answer for it.
func dispatch(r Reservation, p pace) decision {
	switch {
	case r.Status == Packed && !r.Asked:
		r.Asked = true
		return decision{Reservation: r, Due: p.of(r).dispatch}
	case r.Status == Packed:
		return ignored(r, "repeated: under way")
	case r.Status.hasLeft():
		return ignored(r, "repeated: "+string(r.Status), r.onItsWay())
	case r.Status == unknown:
		return ignored(r, "nothing to dispatch: no such reservation")
	}
	return ignored(r, "nothing to dispatch: "+string(r.Status))
}

// step is what happens to r once its time has come.
func step(r Reservation, p pace, h habits) decision {
	switch {
	case r.Status == Held:
		return expire(r)
	case r.Status == Picking:
		return pack(r, h.find(r.Lines))
	case r.Status == Packed && r.Asked:
		return ship(r, p)
	case r.Status == Shipped && slices.ContainsFunc(r.foundLines(), func(l contracts.Line) bool { return slices.Contains(h.loses, l.SKU) }):
		return lose(r)
	case r.Status == Shipped:
		return deliver(r)
	}
	return ignored(r, "no step awaited: "+string(r.Status))
}

// find is how many pieces of lines the warehouse finds, by SKU.
func (h habits) find(lines []Line) map[string]int {
	found := map[string]int{}
	for _, l := range lines {
		found[l.SKU] = max(0, l.Quantity-h.short[l.SKU])
	}
	return found
}

// expire ends a hold that nobody wanted in time.
func expire(r Reservation) decision {
	r.Status = Expired
	return decision{Reservation: r, Moves: r.moves(expired), Due: noStep, Say: []messaging.Body{r.reserveAnswer()}}
}

// pack ends the picking of r with the pieces found of each SKU, at most what is
// reserved. What is missing is written off; when nothing was found r has ended.
func pack(r Reservation, found map[string]int) decision {
	d := decision{Due: noStep}
	r.Status, r.Lines = Packed, slices.Clone(r.Lines)
	for i, l := range r.Lines {
		if missing := l.Quantity - found[l.SKU]; missing > 0 {
			r.Lines[i].WrittenOff, r.Amended = missing, true
			d.Moves = append(d.Moves, r.move(writtenOff, l.SKU, missing))
		}
	}
	if len(r.foundLines()) == 0 {
		r.Status, r.Reason = Released, reasonNotFound
	}
	d.Reservation, d.Say = r, []messaging.Body{r.packed()}
	return d
}

// ship hands r to the carrier.
func ship(r Reservation, p pace) decision {
	r.Status, r.Asked, r.Tracking = Shipped, false, tracking(r.ID)
	return decision{Reservation: r, Moves: r.moves(shipped), Due: p.of(r).deliver, Say: []messaging.Body{r.dispatched()}}
}

// deliver hands r to the customer.
func deliver(r Reservation) decision {
	r.Status = Delivered
	return decision{Reservation: r, Due: noStep, Say: []messaging.Body{r.delivered()}}
}

// lose gives r up: the carrier will not deliver it. Its pieces stay sold.
func lose(r Reservation) decision {
	r.Status = Lost
	return decision{Reservation: r, Due: noStep, Say: []messaging.Body{r.lost()}}
}

// awaits are the steps of the operator that r waits for, any of them: "pack",
// "dispatch", "deliver" or "lose".
func (r Reservation) awaits() []string {
	switch {
	case r.Status == Picking:
		return []string{"pack"}
	case r.Status == Packed && r.Asked:
		return []string{"dispatch"}
	case r.Status == Shipped:
		return []string{"deliver", "lose"}
	}
	return nil
}

// inReach reports whether r has a step before it that an operator may do, or
// goods that may come back.
func (r Reservation) inReach() bool {
	return r.Status.holdsStock() || r.Status == Shipped || r.Status == Delivered
}

func (r Reservation) started() messaging.Body {
	return contracts.FulfilmentStarted{ReservationID: r.ID, OrderID: r.OrderID}
}

func (r Reservation) packed() messaging.Body {
	return contracts.ShipmentPacked{ReservationID: r.ID, OrderID: r.OrderID, Lines: r.foundLines()}
}

func (r Reservation) dispatched() messaging.Body {
	return contracts.ShipmentDispatched{ReservationID: r.ID, OrderID: r.OrderID, Tracking: r.Tracking}
}

// onItsWay is where the goods of r are, which have left the house.
func (r Reservation) onItsWay() messaging.Body {
	switch r.Status {
	case Delivered:
		return r.delivered()
	case Lost:
		return r.lost()
	}
	return r.dispatched()
}

func (r Reservation) delivered() messaging.Body {
	return contracts.ShipmentDelivered{ReservationID: r.ID, OrderID: r.OrderID}
}

func (r Reservation) lost() messaging.Body {
	return contracts.ShipmentLost{ReservationID: r.ID, OrderID: r.OrderID}
}

// tracking is the carrier's number for a reservation (a UUID): the same however
// often it is asked for.
func tracking(id string) string {
	return "OF" + strings.ToUpper(id[len(id)-12:])
}
