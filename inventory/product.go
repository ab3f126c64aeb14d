package inventory

import (
	"cmp"
	"math"
	"regexp"
	"slices"
	"time"

	"example.com/orderflow/messaging"
	"example.com/orderflow/messaging/contracts"
)

// Product is what the shop sells.
type Product struct {
	SKU        string `json:"sku" db:"sku"` // skuForm
	Name       string `json:"name" db:"name"`
	PriceMinor int64  `json:"price_minor" db:"price_minor"` // minor units, > 0
	Currency   string `json:"currency" db:"currency"`       // ISO 4217
	Available  int64  `json:"available" db:"available"`     // pieces that can be reserved now
}

// skuForm is what a SKU looks like; the products table checks the same.
var skuForm = regexp.MustCompile(`^[A-Z0-9]+(-[A-Z0-9]+)*$`)

// Status is where a reservation stands.
type Status string

// The statuses: held -> picking -> packed -> shipped -> delivered; held,
// picking and packed -> released; held -> expired. Rejected and, as a tombstone,
// released are also firsts.
const (
	unknown   Status = "" // no such reservation
	Held      Status = "held"
	Picking   Status = "picking"
	Packed    Status = "packed"
	Shipped   Status = "shipped"
	Delivered Status = "delivered"
	Released  Status = "released"
	Expired   Status = "expired"
	Rejected  Status = "rejected"
)

// holdsStock reports whether the lines of such a reservation count as reserved.
func (s Status) holdsStock() bool { return s == Held || s == Picking || s == Packed }

// Reasons why nothing is held or picked, as the contracts name them.
const (
	reasonOutOfStock  = "out_of_stock"
	reasonUnknownSKU  = "unknown_sku"
	reasonReleased    = "released"
	reasonNotReserved = "not_reserved"
	reasonExpired     = "reservation_expired"
)

// Reservation is stock set aside for an order, until it is shipped or let go.
type Reservation struct {
	ID       string // UUID, from orders
	OrderID  string // UUID
	Status   Status
	Asked    bool             // of a packed one: its dispatch was asked for
	Lines    []contracts.Line // each SKU once, sorted; none when nothing was ever held
	Tracking string           // the carrier's number, from shipped on
	Reason   string           // why it was rejected or released
	Short    []string         // SKUs that it was rejected for
}

// When the next step of a reservation falls due, besides a plain duration.
const (
	noStep     time.Duration = -1
	byOperator time.Duration = math.MaxInt64
)

// maxHoldSeconds bounds a hold: longer ones are a sender's mistake.
const maxHoldSeconds = 365 * 24 * 60 * 60

// flow is what happens to the stock of a reservation's lines.
type flow int

const (
	stays    flow = iota
	taken         // available -> reserved
	returned      // reserved -> available
	sold          // reserved -> sold
)

// decision is what becomes of a reservation: how it stands afterwards, what
// happens to its stock, and what is said about it.
type decision struct {
	Reservation
	Flow    flow
	Due     time.Duration // until its next step
	Say     []messaging.Body
	Ignored string // why nothing is to be written; "" when something is
}

// ignored is the decision to leave r as it is and only say something.
func ignored(r Reservation, why string, say ...messaging.Body) decision {
	return decision{Reservation: r, Ignored: why, Say: say}
}

// reserve decides on m for r (unknown the first time), with the pieces available
// of every SKU that m names; a SKU that is missing there is not sold here.
func reserve(r Reservation, m contracts.ReserveStock, available map[string]int64) decision {
	if r.Status != unknown {
		return ignored(r, "repeated: "+string(r.Status), r.reserveAnswer())
	}
	r = Reservation{ID: m.ReservationID, OrderID: m.OrderID, Lines: merge(m.Lines)}
	var missing, short, soldOut []string
	for _, l := range r.Lines {
		have, ok := available[l.SKU]
		switch {
		case !ok:
			missing = append(missing, l.SKU)
		case have < int64(l.Quantity):
			short = append(short, l.SKU)
		case have == int64(l.Quantity):
			soldOut = append(soldOut, l.SKU)
		}
	}
	if len(missing)+len(short) > 0 {
		r.Status, r.Reason, r.Short = Rejected, reasonOutOfStock, short
		if len(missing) > 0 {
			r.Reason, r.Short = reasonUnknownSKU, missing
		}
		r.Lines = nil
		return decision{Reservation: r, Due: noStep, Say: []messaging.Body{r.reserveAnswer()}}
	}
	r.Status = Held
	d := decision{Reservation: r, Flow: taken, Due: time.Duration(min(m.HoldSeconds, maxHoldSeconds)) * time.Second}
	d.Say = append(d.Say, r.reserveAnswer())
	for _, sku := range soldOut {
		d.Say = append(d.Say, contracts.StockLevelChanged{SKU: sku, Available: 0})
	}
	return d
}

// reserveAnswer is the latest answer to ReserveStock.
func (r Reservation) reserveAnswer() messaging.Body {
	switch r.Status {
	case Rejected:
		return contracts.StockRejected{ReservationID: r.ID, OrderID: r.OrderID, ReasonCode: r.Reason, SKUs: r.Short}
	case Released:
		return contracts.StockRejected{ReservationID: r.ID, OrderID: r.OrderID, ReasonCode: reasonReleased}
	case Expired:
		return contracts.ReservationExpired{ReservationID: r.ID, OrderID: r.OrderID}
	}
	return contracts.StockReserved{ReservationID: r.ID, OrderID: r.OrderID}
}

// release decides on m for r. It undoes everything before shipping; nothing to
// undo is a success too, and of an unknown reservation a tombstone stays.
func release(r Reservation, m contracts.ReleaseStock) decision {
	answer := contracts.StockReleased{ReservationID: m.ReservationID, OrderID: m.OrderID}
	switch {
	case r.Status == unknown:
		r = Reservation{ID: m.ReservationID, OrderID: m.OrderID, Status: Released, Reason: m.Reason}
		return decision{Reservation: r, Due: noStep, Say: []messaging.Body{answer}}
	case r.Status.holdsStock():
		r.Status, r.Reason, r.Asked = Released, m.Reason, false
		return decision{Reservation: r, Flow: returned, Due: noStep, Say: []messaging.Body{answer}}
	case r.Status == Shipped || r.Status == Delivered:
		return ignored(r, "too late: "+string(r.Status))
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
