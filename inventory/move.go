package inventory

// what is why pieces change from one counter of their SKU to another: the name of
// a row in the ledger.
type what string

// The moves. A piece that comes back leaves what is sold and is available again:
// restocked counts new pieces only.
const (
	stocked    what = "stocked"     // came with its product: initial, available
	restocked  what = "restocked"   // came in: restocked, available
	reserved   what = "reserved"    // available -> reserved
	released   what = "released"    // reserved -> available
	expired    what = "expired"     // reserved -> available
	writtenOff what = "written_off" // reserved -> written_off: not found when it was picked
	shipped    what = "shipped"     // reserved -> sold
	returned   what = "returned"    // sold -> available
)

// move is pieces of one SKU that change from one counter to another: a row of the
// ledger. What is reserved, shipped or sent back is about an order.
type move struct {
	What    what
	SKU     string
	Pieces  int64  // > 0
	CauseID string // UUID of the reservation, return or restock
	OrderID string // UUID; "" for what is about no order
}

// counters are the pieces of one SKU by where they are, or by how much a move
// changes that: initial + restocked = available + reserved + sold + written off.
type counters struct {
	Initial    int64 `json:"initial" db:"initial"`
	Restocked  int64 `json:"restocked" db:"restocked"`
	Available  int64 `json:"available" db:"available"`
	Reserved   int64 `json:"reserved" db:"reserved"`
	Sold       int64 `json:"sold" db:"sold"`
	WrittenOff int64 `json:"written_off" db:"written_off"`
}

// changes is by how much m changes the counters of its SKU.
func (m move) changes() counters {
	n := m.Pieces
	switch m.What {
	case stocked:
		return counters{Initial: n, Available: n}
	case restocked:
		return counters{Restocked: n, Available: n}
	case reserved:
		return counters{Available: -n, Reserved: n}
	case released, expired:
		return counters{Available: n, Reserved: -n}
	case writtenOff:
		return counters{Reserved: -n, WrittenOff: n}
	case shipped:
		return counters{Reserved: -n, Sold: n}
	case returned:
		return counters{Available: n, Sold: -n}
	}
	return counters{}
}
