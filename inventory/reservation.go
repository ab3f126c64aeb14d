package inventory

import (
	"cmp"
	"math"
	"slices"
	"time"

	"example.com/orderflow/messaging"
	"example.com/orderflow/messaging/contracts"
)

// Status is where a reservation stands.
type Status string

// The statuses: held -> picking -> packed -> shipped -> delivered or lost; held,
// picking and packed -> released; held -> expired. Rejected and, as a tombstone,
// released are also firsts.
const (
	unknown   Status = "" // no such reservation
	Held      Status = "held"
	Picking   Status = "picking"
	Packed    Status = "packed"
	Shipped   Status = "shipped"
	Delivered Status = "delivered"
	Lost      Status = "lost"
	Released  Status = "released"
	Expired   Status = "expired"
	Rejected  Status = "rejected"
)

// holdsStock reports whether the lines of such a reservation count as reserved.
func (s Status) holdsStock() bool { return s == Held || s == Picking || s == Packed }

// hasLeft reports whether the goods of such a reservation are out of the house.
func (s Status) hasLeft() bool { return s == Shipped || s == Delivered || s == Lost }

// Reasons why nothing is held or picked: the first five as the contracts name
// them, the others for who looks into the table.
const (
	reasonOutOfStock  = "out_of_stock"
	reasonUnknownSKU  = "unknown_sku"
	reasonReleased    = "released"
	reasonNotReserved = "not_reserved"
	reasonExpired     = "reservation_expired"
	reasonStopped     = "stopped"
	reasonNotFound    = "nothing_found"
)

// Reservation is stock set aside for an order, until it is shipped or let go.
type Reservation struct {
	ID       string // UUID, from orders
	OrderID  string // UUID
	Status   Status
	Partial  bool     // less is held than was asked for
	Asked    bool     // of a packed one: its dispatch was asked for
	Amended  bool     // its lines have changed since it was made
	ByHand   bool     // an operator has taken it in hand: none of its steps happens by itself
	Lines    []Line   // each SKU once, sorted; none when nothing was ever held
	Tracking string   // the carrier's number, from shipped on
	Reason   string   // why it was rejected or released
	Short    []string // SKUs that it was rejected for
}

// Line is what a reservation has of one SKU, in pieces.
type Line struct {
	SKU        string `json:"sku"`
	Quantity   int    `json:"quantity"`              // that were reserved, > 0
	WrittenOff int    `json:"written_off,omitempty"` // of these, not found when they were picked
	Returned   int    `json:"returned,omitempty"`    // of these, sent back by the customer
}

// found is how many pieces there were to pack.
func (l Line) found() int { return l.Quantity - l.WrittenOff }

// reservedLines are the lines as they were reserved.
func (r Reservation) reservedLines() []contracts.Line {
	lines := []contracts.Line{}
	for _, l := range r.Lines {
		lines = append(lines, contracts.Line{SKU: l.SKU, Quantity: l.Quantity})
	}
	return lines
}

// foundLines are the lines as the warehouse found them; until it has looked, as
// they were reserved.
func (r Reservation) foundLines() []contracts.Line {
	lines := []contracts.Line{}
	for _, l := range r.Lines {
		if n := l.found(); n > 0 {
			lines = append(lines, contracts.Line{SKU: l.SKU, Quantity: n})
		}
	}
	return lines
}

// nothingFound reports whether r ended because none of its pieces was found.
func (r Reservation) nothingFound() bool {
	return r.Status == Released && len(r.Lines) > 0 && len(r.foundLines()) == 0
}

// moves are those that what makes of the pieces that were found.
func (r Reservation) moves(what what) []move {
	var list []move
	for _, l := range r.foundLines() {
		list = append(list, r.move(what, l.SKU, l.Quantity))
	}
	return list
}

func (r Reservation) move(what what, sku string, pieces int) move {
	return move{What: what, SKU: sku, Pieces: int64(pieces), CauseID: r.ID, OrderID: r.OrderID}
}

// When the next step of a reservation falls due, besides a plain duration.
const (
	noStep     time.Duration = -1
	byOperator time.Duration = math.MaxInt64
)

// maxHoldSeconds bounds a hold: longer ones are a sender's mistake.
const maxHoldSeconds = 365 * 24 * 60 * 60

// decision is what becomes of a reservation: how it stands afterwards, what
// happens to the stock, and what is said about it.
type decision struct {
	Reservation
	Moves   []move
	Due     time.Duration // until its next step
	Say     []messaging.Body
	Ignored string // why nothing is to be written; "" when something is
}

// ignored is the decision to leave r as it is and only say something.
func ignored(r Reservation, why string, say ...messaging.Body) decision {
	return decision{Reservation: r, Ignored: why, Say: say}
}

// reserve decides on m for r (unknown the first time), with the pieces available
// of every SKU that m names; a SKU that is missing there is not sold here. It
// holds all lines or, if m allows it, what is there of them.
func reserve(r Reservation, m contracts.ReserveStock, available map[string]int64) decision {
	if r.Status != unknown {
		return ignored(r, "repeated: "+string(r.Status), r.reserveAnswer())
	}
	r = Reservation{ID: m.ReservationID, OrderID: m.OrderID}
	var missing, short []string
	for _, l := range merge(m.Lines) {
		have, ok := available[l.SKU]
		if !ok {
			missing = append(missing, l.SKU)
		} else if have < int64(l.Quantity) {
			short = append(short, l.SKU)
		}
		if n := int(min(have, int64(l.Quantity))); n > 0 {
			r.Lines = append(r.Lines, Line{SKU: l.SKU, Quantity: n})
		}
	}
	switch {
	case len(missing) > 0:
		return rejected(r, reasonUnknownSKU, missing)
	case len(short) > 0 && !m.AllowPartial, len(r.Lines) == 0:
		return rejected(r, reasonOutOfStock, short)
	}
	r.Status, r.Partial = Held, len(short) > 0
	d := decision{Reservation: r, Moves: r.moves(reserved), Due: time.Duration(min(m.HoldSeconds, maxHoldSeconds)) * time.Second}
	d.Say = append(d.Say, r.reserveAnswer())
	for _, l := range r.Lines {
		if available[l.SKU] == int64(l.Quantity) {
			d.Say = append(d.Say, contracts.StockLevelChanged{SKU: l.SKU, Available: 0})
		}
	}
	return d
}

// rejected is the decision to hold nothing, because of skus.
func rejected(r Reservation, reason string, skus []string) decision {
	r.Status, r.Reason, r.Short, r.Lines = Rejected, reason, skus, nil
	return decision{Reservation: r, Due: noStep, Say: []messaging.Body{r.reserveAnswer()}}
}

// reserveAnswer is the latest answer to ReserveStock.
func (r Reservation) reserveAnswer() messaging.Body {
	switch {
	case r.Status == Rejected:
		return contracts.StockRejected{ReservationID: r.ID, OrderID: r.OrderID, ReasonCode: r.Reason, SKUs: r.Short}
	case r.Status == Released:
		return contracts.StockRejected{ReservationID: r.ID, OrderID: r.OrderID, ReasonCode: reasonReleased}
	case r.Status == Expired:
		return contracts.ReservationExpired{ReservationID: r.ID, OrderID: r.OrderID}
	case r.Partial:
		return contracts.StockPartiallyReserved{ReservationID: r.ID, OrderID: r.OrderID, Lines: r.reservedLines()}
	}
	return contracts.StockReserved{ReservationID: r.ID, OrderID: r.OrderID}
}

// release decides on m for r. It undoes everything before shipping; nothing to
// undo is a success too, and of an unknown reservation a tombstone stays. What has
// left the house is answered by where it is.
func release(r Reservation, m contracts.ReleaseStock) decision {
	return letGo(r, m.ReservationID, m.OrderID, m.Reason)
}

// letGo ends r, unless its goods have left the house.
func letGo(r Reservation, id, orderID, reason string) decision {
	answer := contracts.StockReleased{ReservationID: id, OrderID: orderID}
	switch {
	case r.Status == unknown:
		r = Reservation{ID: id, OrderID: orderID, Status: Released, Reason: reason}
		return decision{Reservation: r, Due: noStep, Say: []messaging.Body{answer}}
	case r.Status.holdsStock():
		moves := r.moves(released)
		r.Status, r.Reason, r.Asked = Released, reason, false
		return decision{Reservation: r, Moves: moves, Due: noStep, Say: []messaging.Body{answer}}
	case r.Status.hasLeft():
		return ignored(r, "too late: "+string(r.Status), r.onItsWay())
	}
	return ignored(r, "nothing to release: "+string(r.Status), answer)
}

// merge sorts lines by SKU and adds up those of the same SKU.
func merge(lines []contracts.Line) []contracts.Line {
	sorted := slices.SortedStableFunc(slices.Values(lines), func(a, b contracts.Line) int { return cmp.Compare(a.SKU, b.SKU) })
	var merged []contracts.Line
	for _, l := range sorted {
		last := len(merged) - 1
		if last < 0 || merged[last].SKU != l.SKU {
			merged = append(merged, l)
			continue
		}
		// More than an int can count is more than there is of anything.
		merged[last].Quantity += min(l.Quantity, math.MaxInt-merged[last].Quantity)
	}
	return merged
}
