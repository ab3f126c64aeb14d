package inventory

import (
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
	deliver  time.Duration // shipped -> delivered
}

// fulfil decides on FulfilOrder for r.
func fulfil(r Reservation, m contracts.FulfilOrder, p pace) decision {
	refused := contracts.FulfilmentRefused{ReservationID: m.ReservationID, OrderID: m.OrderID, ReasonCode: reasonNotReserved}
	switch r.Status {
	case Held:
		r.Status = Picking
		return decision{Reservation: r, Due: p.pick, Say: []messaging.Body{r.started()}}
	case Picking:
		return ignored(r, "repeated: picking", r.started())
	case Packed, Shipped, Delivered:
		return ignored(r, "repeated: "+string(r.Status), r.packed())
	case Released:
		refused.ReasonCode = reasonReleased
	case Expired:
		refused.ReasonCode = reasonExpired
	}
	return ignored(r, "nothing to fulfil: "+refused.ReasonCode, refused)
}

// dispatch decides on DispatchShipment for r. A command that comes before the
// packing, or about nothing that could be sent, is ignored: no contract has an
// answer for it.
func dispatch(r Reservation, p pace) decision {
	switch {
	case r.Status == Packed && !r.Asked:
		r.Asked = true
		return decision{Reservation: r, Due: p.dispatch}
	case r.Status == Packed:
		return ignored(r, "repeated: under way")
	case r.Status == Shipped:
		return ignored(r, "repeated: shipped", r.dispatched())
	case r.Status == Delivered:
		return ignored(r, "repeated: delivered", r.delivered())
	case r.Status == unknown:
		return ignored(r, "nothing to dispatch: no such reservation")
	}
	return ignored(r, "nothing to dispatch: "+string(r.Status))
}

// step is what happens to r once its time has come, or the operator says so.
func step(r Reservation, p pace) decision {
	switch {
	case r.Status == Held:
		r.Status = Expired
		return decision{Reservation: r, Flow: returned, Due: noStep, Say: []messaging.Body{r.reserveAnswer()}}
	case r.Status == Picking:
		r.Status = Packed
		return decision{Reservation: r, Due: noStep, Say: []messaging.Body{r.packed()}}
	case r.Status == Packed && r.Asked:
		r.Status, r.Asked, r.Tracking = Shipped, false, tracking(r.ID)
		return decision{Reservation: r, Flow: sold, Due: p.deliver, Say: []messaging.Body{r.dispatched()}}
	case r.Status == Shipped:
		r.Status = Delivered
		return decision{Reservation: r, Due: noStep, Say: []messaging.Body{r.delivered()}}
	}
	return ignored(r, "no step awaited: "+string(r.Status))
}

// awaits is the step of the operator that r waits for: "pack", "dispatch",
// "deliver", or "" for none.
func (r Reservation) awaits() string {
	switch {
	case r.Status == Picking:
		return "pack"
	case r.Status == Packed && r.Asked:
		return "dispatch"
	case r.Status == Shipped:
		return "deliver"
	}
	return ""
}

func (r Reservation) started() messaging.Body {
	return contracts.FulfilmentStarted{ReservationID: r.ID, OrderID: r.OrderID}
}

func (r Reservation) packed() messaging.Body {
	return contracts.ShipmentPacked{ReservationID: r.ID, OrderID: r.OrderID, Lines: r.Lines}
}

func (r Reservation) dispatched() messaging.Body {
	return contracts.ShipmentDispatched{ReservationID: r.ID, OrderID: r.OrderID, Tracking: r.Tracking}
}

func (r Reservation) delivered() messaging.Body {
	return contracts.ShipmentDelivered{ReservationID: r.ID, OrderID: r.OrderID}
}

// tracking is the carrier's number for a reservation (a UUID): the same however
// often it is asked for.
func tracking(id string) string {
	return "OF" + strings.ToUpper(id[len(id)-12:])
}
