package inventory

import (
	"fmt"
	"time"

	"example.com/orderflow/messaging"
	"example.com/orderflow/messaging/contracts"
)

// Decider decides what the service's handlers and schedules decide, by the same
// functions, for simulations: they keep reservations, returns and stock in a model
// and hand them in. The service itself doesn't use it.
type Decider struct {
	Pick, Dispatch, Deliver, GiveBack time.Duration // as in Config, each > 0
}

// Decision is what becomes of a reservation.
type Decision struct {
	Reservation Reservation
	Return      *Return // that is announced with it; nil = none
	Changes     []Change
	Due         time.Duration // until the next step of Reservation or, announced, of Return; < 0 = there is none
	Say         []messaging.Body
	Ignored     string // why nothing is to be written; "" = something is
}

// Change is by how much a decision changes the counters of a SKU.
type Change struct {
	SKU        string
	Available  int64
	Reserved   int64
	Sold       int64
	WrittenOff int64
}

// Command decides on m, one of the service's commands, for the reservation r (the
// zero Reservation when there is none), the returns that are known of r or bear m's
// id, and, for ReserveStock, the pieces available of each SKU that is sold. The error
// says that m can never be carried out.
func (d Decider) Command(r Reservation, known []Return, available map[string]int64, m messaging.Body) (Decision, error) {
	switch m := m.(type) {
	case contracts.ReserveStock:
		return reserve(r, m, available).exported(), nil
	case contracts.ReleaseStock:
		return release(r, m).exported(), nil
	case contracts.FulfilOrder:
		return fulfil(r, m, d.pace()).exported(), nil
	case contracts.StopFulfilment:
		return stop(r, m).exported(), nil
	case contracts.DispatchShipment:
		return dispatch(r, d.pace()).exported(), nil
	case contracts.ExpectReturn:
		a, err := announce(r, known, m, d.pace())
		return Decision{Reservation: r, Return: &a.Return, Due: a.Due, Say: a.Say, Ignored: a.Ignored}, err
	}
	return Decision{}, fmt.Errorf("%s is no command to inventory", m.Kind())
}

// Step decides what happens to r once its time has come: it expires, is packed with
// all that is reserved, shipped or delivered.
func (d Decider) Step(r Reservation) Decision { return step(r, d.pace(), habits{}).exported() }

// Pack ends the picking of r with the pieces found of each SKU, at most what is
// reserved.
func (Decider) Pack(r Reservation, found map[string]int) Decision { return pack(r, found).exported() }

// Lose gives r, which is shipped, up.
func (Decider) Lose(r Reservation) Decision { return lose(r).exported() }

// Receive decides what becomes of r when its return t arrives, with the pieces
// available of every SKU of t.
func (Decider) Receive(r Reservation, t Return, available map[string]int64) Decision {
	return receive(r, t, available).exported()
}

func (d Decider) pace() pace {
	return pace{pick: d.Pick, dispatch: d.Dispatch, deliver: d.Deliver, giveBack: d.GiveBack}
}

func (d decision) exported() Decision {
	e := Decision{Reservation: d.Reservation, Due: d.Due, Say: d.Say, Ignored: d.Ignored}
	for _, m := range d.Moves {
		c := m.changes()
		e.Changes = append(e.Changes, Change{SKU: m.SKU, Available: c.Available, Reserved: c.Reserved, Sold: c.Sold, WrittenOff: c.WrittenOff})
	}
	return e
}
