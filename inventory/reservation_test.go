package inventory

import (
	"math"
	"reflect"
	"slices"
	"testing"
	"time"

	"example.com/orderflow/messaging"
	"example.com/orderflow/messaging/contracts"
)

const (
	rid = "0197f000-0000-7000-8000-00000000abcd"
	oid = "0197f000-0000-7000-8000-000000000001"
)

var twoMugs = []contracts.Line{{SKU: "A-1", Quantity: 2}}

// at is a reservation of two mugs that stands at status.
func at(status Status) Reservation {
	r := Reservation{ID: rid, OrderID: oid, Status: status}
	switch status {
	case unknown:
		return Reservation{}
	case Rejected:
		r.Reason, r.Short = reasonOutOfStock, []string{"A-1"}
		return r
	case Shipped, Delivered, Lost:
		r.Tracking = tracking(rid)
	}
	r.Lines = []Line{{SKU: "A-1", Quantity: 2}}
	return r
}

// asked is a packed reservation whose dispatch was asked for.
func asked() Reservation {
	r := at(Packed)
	r.Asked = true
	return r
}

// partial is a reservation of two of the three mugs that were asked for.
func partial(status Status) Reservation {
	r := at(status)
	r.Partial = true
	return r
}

// emptyHanded is a reservation of which the warehouse found nothing.
func emptyHanded() Reservation {
	r := at(Released)
	r.Amended, r.Lines[0].WrittenOff, r.Reason = true, 2, reasonNotFound
	return r
}

// oneShort is a reservation of which one mug of two was found.
func oneShort(status Status) Reservation {
	r := at(status)
	r.Amended, r.Lines[0].WrittenOff = true, 1
	return r
}

var testPace = pace{pick: 1 * time.Second, dispatch: 2 * time.Second, deliver: 3 * time.Second, giveBack: 4 * time.Second}

// The answers that there are.
var (
	stockReserved  = contracts.StockReserved{ReservationID: rid, OrderID: oid}
	stockRejected  = contracts.StockRejected{ReservationID: rid, OrderID: oid, ReasonCode: reasonOutOfStock, SKUs: []string{"A-1"}}
	rejectedAsGone = contracts.StockRejected{ReservationID: rid, OrderID: oid, ReasonCode: reasonReleased}
	stockReleased  = contracts.StockReleased{ReservationID: rid, OrderID: oid}
	holdExpired    = contracts.ReservationExpired{ReservationID: rid, OrderID: oid}
	started        = contracts.FulfilmentStarted{ReservationID: rid, OrderID: oid}
	packed         = contracts.ShipmentPacked{ReservationID: rid, OrderID: oid, Lines: twoMugs}
	dispatched     = contracts.ShipmentDispatched{ReservationID: rid, OrderID: oid, Tracking: "OF00000000ABCD"}
	delivered      = contracts.ShipmentDelivered{ReservationID: rid, OrderID: oid}
	lost           = contracts.ShipmentLost{ReservationID: rid, OrderID: oid}
	partReserved   = contracts.StockPartiallyReserved{ReservationID: rid, OrderID: oid, Lines: twoMugs}
	packedOne      = contracts.ShipmentPacked{ReservationID: rid, OrderID: oid, Lines: []contracts.Line{{SKU: "A-1", Quantity: 1}}}
	packedNone     = contracts.ShipmentPacked{ReservationID: rid, OrderID: oid, Lines: []contracts.Line{}}
)

func refusal(reason string) messaging.Body {
	return contracts.FulfilmentRefused{ReservationID: rid, OrderID: oid, ReasonCode: reason}
}

// TestDecisions goes through every command in every status.
func TestDecisions(t *testing.T) {
	t.Parallel()
	reserving := func(r Reservation) decision {
		return reserve(r, contracts.ReserveStock{ReservationID: rid, OrderID: oid, Lines: twoMugs, HoldSeconds: 60}, map[string]int64{"A-1": 5})
	}
	releasing := func(r Reservation) decision {
		return release(r, contracts.ReleaseStock{ReservationID: rid, OrderID: oid, Reason: "cancelled"})
	}
	fulfilling := func(r Reservation) decision {
		return fulfil(r, contracts.FulfilOrder{ReservationID: rid, OrderID: oid}, testPace)
	}
	dispatching := func(r Reservation) decision { return dispatch(r, testPace) }
	stopping := func(r Reservation) decision {
		return stop(r, contracts.StopFulfilment{ReservationID: rid, OrderID: oid})
	}
	stepping := func(r Reservation) decision { return step(r, testPace, habits{}) }
	badly := func(r Reservation) decision {
		return step(r, testPace, habits{short: map[string]int{"A-1": 1}, loses: []string{"A-1"}})
	}
	blindly := func(r Reservation) decision { return step(r, testPace, habits{short: map[string]int{"A-1": 3}}) }
	mugs := func(what what, n int64) []move {
		return []move{{What: what, SKU: "A-1", Pieces: n, CauseID: rid, OrderID: oid}}
	}

	tests := []struct {
		name   string
		decide func(Reservation) decision
		from   Reservation
		to     Status // "" when nothing is to be written
		moves  []move
		due    time.Duration
		say    messaging.Body
	}{
		{"first reserve holds", reserving, at(unknown), Held, mugs(reserved, 2), time.Minute, stockReserved},
		{"reserve again while held", reserving, at(Held), "", nil, 0, stockReserved},
		{"reserve again while picking", reserving, at(Picking), "", nil, 0, stockReserved},
		{"reserve again when packed", reserving, at(Packed), "", nil, 0, stockReserved},
		{"reserve again when shipped", reserving, at(Shipped), "", nil, 0, stockReserved},
		{"reserve again when delivered", reserving, at(Delivered), "", nil, 0, stockReserved},
		{"reserve again when lost", reserving, at(Lost), "", nil, 0, stockReserved},
		{"reserve again of a part", reserving, partial(Packed), "", nil, 0, partReserved},
		{"reserve after release is refused", reserving, at(Released), "", nil, 0, rejectedAsGone},
		{"reserve again after expiry", reserving, at(Expired), "", nil, 0, holdExpired},
		{"reserve again when rejected", reserving, at(Rejected), "", nil, 0, stockRejected},

		{"release of the unknown leaves a tombstone", releasing, at(unknown), Released, nil, noStep, stockReleased},
		{"release ends a hold", releasing, at(Held), Released, mugs(released, 2), noStep, stockReleased},
		{"release stops picking", releasing, at(Picking), Released, mugs(released, 2), noStep, stockReleased},
		{"release unpacks", releasing, at(Packed), Released, mugs(released, 2), noStep, stockReleased},
		{"release unpacks what the carrier was to fetch", releasing, asked(), Released, mugs(released, 2), noStep, stockReleased},
		{"release after shipping is too late", releasing, at(Shipped), "", nil, 0, dispatched},
		{"release after delivery is too late", releasing, at(Delivered), "", nil, 0, delivered},
		{"release after a loss is too late", releasing, at(Lost), "", nil, 0, lost},
		{"release unpacks what was found", releasing, oneShort(Packed), Released, mugs(released, 1), noStep, stockReleased},
		{"release when nothing was found", releasing, emptyHanded(), "", nil, 0, stockReleased},
		{"release again", releasing, at(Released), "", nil, 0, stockReleased},
		{"release of the expired", releasing, at(Expired), "", nil, 0, stockReleased},
		{"release of the rejected", releasing, at(Rejected), "", nil, 0, stockReleased},

		{"fulfil of the unknown is refused", fulfilling, at(unknown), "", nil, 0, refusal("not_reserved")},
		{"fulfil starts picking", fulfilling, at(Held), Picking, nil, time.Second, started},
		{"fulfil again while picking", fulfilling, at(Picking), "", nil, 0, started},
		{"fulfil again when packed", fulfilling, at(Packed), "", nil, 0, packed},
		{"fulfil again when shipped", fulfilling, at(Shipped), "", nil, 0, packed},
		{"fulfil again when delivered", fulfilling, at(Delivered), "", nil, 0, packed},
		{"fulfil again when lost", fulfilling, at(Lost), "", nil, 0, packed},
		{"fulfil again after a short pick", fulfilling, oneShort(Packed), "", nil, 0, packedOne},
		{"fulfil again when nothing was found", fulfilling, emptyHanded(), "", nil, 0, packedNone},
		{"fulfil of the released is refused", fulfilling, at(Released), "", nil, 0, refusal("released")},
		{"fulfil of the expired is refused", fulfilling, at(Expired), "", nil, 0, refusal("reservation_expired")},
		{"fulfil of the rejected is refused", fulfilling, at(Rejected), "", nil, 0, refusal("not_reserved")},

		{"stop of the unknown leaves a tombstone", stopping, at(unknown), Released, nil, noStep, stockReleased},
		{"stop before the start", stopping, at(Held), Released, mugs(released, 2), noStep, stockReleased},
		{"stop of the picking", stopping, at(Picking), Released, mugs(released, 2), noStep, stockReleased},
		{"stop when packed is too late", stopping, at(Packed), "", nil, 0, packed},
		{"stop when the carrier was called is too late", stopping, asked(), "", nil, 0, packed},
		{"stop after a short pick is too late", stopping, oneShort(Packed), "", nil, 0, packedOne},
		{"stop when shipped is too late", stopping, at(Shipped), "", nil, 0, packed},
		{"stop when delivered is too late", stopping, at(Delivered), "", nil, 0, packed},
		{"stop when lost is too late", stopping, at(Lost), "", nil, 0, packed},
		{"stop again", stopping, at(Released), "", nil, 0, stockReleased},
		{"stop when nothing was found", stopping, emptyHanded(), "", nil, 0, stockReleased},
		{"stop of the expired", stopping, at(Expired), "", nil, 0, stockReleased},
		{"stop of the rejected", stopping, at(Rejected), "", nil, 0, stockReleased},

		{"dispatch of the unknown", dispatching, at(unknown), "", nil, 0, nil},
		{"dispatch of a hold", dispatching, at(Held), "", nil, 0, nil},
		{"dispatch while picking", dispatching, at(Picking), "", nil, 0, nil},
		{"dispatch of what is packed", dispatching, at(Packed), Packed, nil, 2 * time.Second, nil},
		{"dispatch again before it happened", dispatching, asked(), "", nil, 0, nil},
		{"dispatch again when shipped", dispatching, at(Shipped), "", nil, 0, dispatched},
		{"dispatch again when delivered", dispatching, at(Delivered), "", nil, 0, delivered},
		{"dispatch again when lost", dispatching, at(Lost), "", nil, 0, lost},
		{"dispatch when nothing was found", dispatching, emptyHanded(), "", nil, 0, nil},
		{"dispatch of the released", dispatching, at(Released), "", nil, 0, nil},
		{"dispatch of the expired", dispatching, at(Expired), "", nil, 0, nil},
		{"dispatch of the rejected", dispatching, at(Rejected), "", nil, 0, nil},

		{"a hold expires", stepping, at(Held), Expired, mugs(expired, 2), noStep, holdExpired},
		{"picking ends packed", stepping, at(Picking), Packed, nil, noStep, packed},
		{"packed waits for its dispatch", stepping, at(Packed), "", nil, 0, nil},
		{"the carrier fetches", stepping, asked(), Shipped, mugs(shipped, 2), 3 * time.Second, dispatched},
		{"the carrier delivers", stepping, at(Shipped), Delivered, nil, noStep, delivered},
		{"picking finds less", badly, at(Picking), Packed, mugs(writtenOff, 1), noStep, packedOne},
		{"picking finds nothing", blindly, at(Picking), Released, mugs(writtenOff, 2), noStep, packedNone},
		{"the carrier fetches what was found", stepping, func() Reservation { r := oneShort(Packed); r.Asked = true; return r }(), Shipped, mugs(shipped, 1), 3 * time.Second, dispatched},
		{"the carrier loses", badly, at(Shipped), Lost, nil, noStep, lost},
		{"the carrier loses nothing else", blindly, at(Shipped), Delivered, nil, noStep, delivered},
		{"lost is the end", stepping, at(Lost), "", nil, 0, nil},
		{"delivered is the end", stepping, at(Delivered), "", nil, 0, nil},
		{"released is an end", stepping, at(Released), "", nil, 0, nil},
		{"expired is an end", stepping, at(Expired), "", nil, 0, nil},
		{"rejected is an end", stepping, at(Rejected), "", nil, 0, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := tt.decide(tt.from)
			if tt.to == "" {
				if got.Ignored == "" || got.Status != tt.from.Status {
					t.Errorf("from %q to %q, ignored %q: want nothing to be written", tt.from.Status, got.Status, got.Ignored)
				}
			} else if got.Ignored != "" || got.Status != tt.to || got.Due != tt.due {
				t.Errorf("from %q to %q, due in %s, ignored %q: want %q, due in %s", tt.from.Status, got.Status, got.Due, got.Ignored, tt.to, tt.due)
			}
			if !slices.Equal(got.Moves, tt.moves) {
				t.Errorf("moves %+v, want %+v", got.Moves, tt.moves)
			}
			var want []messaging.Body
			if tt.say != nil {
				want = []messaging.Body{tt.say}
			}
			if !reflect.DeepEqual(got.Say, want) {
				t.Errorf("said %+v, want %+v", got.Say, want)
			}
		})
	}
}

func TestReserveDecidesByWhatIsAvailable(t *testing.T) {
	t.Parallel()
	available := map[string]int64{"A-1": 5, "B-1": 2, "C-1": 0}
	rejected := func(reason string, skus ...string) []messaging.Body {
		return []messaging.Body{contracts.StockRejected{ReservationID: rid, OrderID: oid, ReasonCode: reason, SKUs: skus}}
	}
	tests := []struct {
		name  string
		lines []contracts.Line
		want  []messaging.Body
	}{
		{"enough of all", []contracts.Line{{SKU: "A-1", Quantity: 4}, {SKU: "B-1", Quantity: 1}}, []messaging.Body{stockReserved}},
		{"the last pieces sell it out", []contracts.Line{{SKU: "A-1", Quantity: 1}, {SKU: "B-1", Quantity: 2}},
			[]messaging.Body{stockReserved, contracts.StockLevelChanged{SKU: "B-1", Available: 0}}},
		{"one line short rejects all", []contracts.Line{{SKU: "A-1", Quantity: 1}, {SKU: "B-1", Quantity: 3}}, rejected("out_of_stock", "B-1")},
		{"every short line is named, sorted", []contracts.Line{{SKU: "C-1", Quantity: 1}, {SKU: "A-1", Quantity: 6}}, rejected("out_of_stock", "A-1", "C-1")},
		{"an unknown SKU comes before a short one", []contracts.Line{{SKU: "Z-9", Quantity: 1}, {SKU: "C-1", Quantity: 1}}, rejected("unknown_sku", "Z-9")},
		{"the same SKU twice counts together", []contracts.Line{{SKU: "A-1", Quantity: 3}, {SKU: "A-1", Quantity: 3}}, rejected("out_of_stock", "A-1")},
		{"quantities too large to add up", []contracts.Line{{SKU: "A-1", Quantity: math.MaxInt}, {SKU: "A-1", Quantity: 3}}, rejected("out_of_stock", "A-1")},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := reserve(Reservation{}, contracts.ReserveStock{ReservationID: rid, OrderID: oid, Lines: tt.lines, HoldSeconds: 60}, available)
			if !reflect.DeepEqual(got.Say, tt.want) {
				t.Errorf("said %+v, want %+v", got.Say, tt.want)
			}
			if holds := got.Status == Held; holds != (len(got.Lines) > 0) || len(got.Moves) != len(got.Lines) {
				t.Errorf("status %q with lines %v and moves %v", got.Status, got.Lines, got.Moves)
			}
		})
	}
}

func TestReserveTakesAPartWhereAllowed(t *testing.T) {
	t.Parallel()
	available := map[string]int64{"A-1": 5, "B-1": 2, "C-1": 0}
	said := func(bodies ...messaging.Body) []messaging.Body { return bodies }
	part := func(skusAndQuantities ...any) messaging.Body {
		return contracts.StockPartiallyReserved{ReservationID: rid, OrderID: oid, Lines: lines(skusAndQuantities...)}
	}
	rejected := func(reason string, skus ...string) messaging.Body {
		return contracts.StockRejected{ReservationID: rid, OrderID: oid, ReasonCode: reason, SKUs: skus}
	}
	soldOut := func(sku string) messaging.Body { return contracts.StockLevelChanged{SKU: sku} }
	tests := []struct {
		name  string
		lines []contracts.Line
		want  []messaging.Body
	}{
		{"enough of all is no part", lines("A-1", 4, "B-1", 1), said(stockReserved)},
		{"the rest of a line", lines("A-1", 1, "B-1", 3), said(part("A-1", 1, "B-1", 2), soldOut("B-1"))},
		{"a line that is sold out is left out", lines("C-1", 1, "A-1", 1), said(part("A-1", 1))},
		{"nothing at all is a rejection", lines("C-1", 2), said(rejected("out_of_stock", "C-1"))},
		{"an unknown SKU rejects all", lines("A-1", 1, "Z-9", 1), said(rejected("unknown_sku", "Z-9"))},
		{"the same SKU twice counts together", lines("B-1", 2, "B-1", 2), said(part("B-1", 2), soldOut("B-1"))},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m := contracts.ReserveStock{ReservationID: rid, OrderID: oid, Lines: tt.lines, HoldSeconds: 60, AllowPartial: true}
			got := reserve(Reservation{}, m, available)
			if !reflect.DeepEqual(got.Say, tt.want) {
				t.Errorf("said %+v, want %+v", got.Say, tt.want)
			}
			if again := reserve(got.Reservation, m, nil); !reflect.DeepEqual(again.Say, tt.want[:1]) || again.Ignored == "" {
				t.Errorf("said again %+v, ignored %q, want %+v", again.Say, again.Ignored, tt.want[:1])
			}
			if holds := got.Status == Held; holds != (len(got.Lines) > 0) || len(got.Moves) != len(got.Lines) {
				t.Errorf("status %q with lines %v and moves %v", got.Status, got.Lines, got.Moves)
			}
		})
	}
}

func TestHoldOfAbsurdLengthIsCutToAYear(t *testing.T) {
	t.Parallel()
	got := reserve(Reservation{}, contracts.ReserveStock{ReservationID: rid, OrderID: oid, Lines: twoMugs, HoldSeconds: math.MaxInt}, map[string]int64{"A-1": 5})
	if want := 365 * 24 * time.Hour; got.Due != want {
		t.Errorf("due in %s, want %s", got.Due, want)
	}
}
