package inventory

import (
	"math"
	"reflect"
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
	case Shipped, Delivered:
		r.Tracking = tracking(rid)
	}
	r.Lines = twoMugs
	return r
}

// asked is a packed reservation whose dispatch was asked for.
func asked() Reservation {
	r := at(Packed)
	r.Asked = true
	return r
}

var testPace = pace{pick: 1 * time.Second, dispatch: 2 * time.Second, deliver: 3 * time.Second}

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
	stepping := func(r Reservation) decision { return step(r, testPace) }

	tests := []struct {
		name   string
		decide func(Reservation) decision
		from   Reservation
		to     Status // "" when nothing is to be written
		flow   flow
		due    time.Duration
		say    messaging.Body
	}{
		{"first reserve holds", reserving, at(unknown), Held, taken, time.Minute, stockReserved},
		{"reserve again while held", reserving, at(Held), "", stays, 0, stockReserved},
		{"reserve again while picking", reserving, at(Picking), "", stays, 0, stockReserved},
		{"reserve again when packed", reserving, at(Packed), "", stays, 0, stockReserved},
		{"reserve again when shipped", reserving, at(Shipped), "", stays, 0, stockReserved},
		{"reserve again when delivered", reserving, at(Delivered), "", stays, 0, stockReserved},
		{"reserve after release is refused", reserving, at(Released), "", stays, 0, rejectedAsGone},
		{"reserve again after expiry", reserving, at(Expired), "", stays, 0, holdExpired},
		{"reserve again when rejected", reserving, at(Rejected), "", stays, 0, stockRejected},

		{"release of the unknown leaves a tombstone", releasing, at(unknown), Released, stays, noStep, stockReleased},
		{"release ends a hold", releasing, at(Held), Released, returned, noStep, stockReleased},
		{"release stops picking", releasing, at(Picking), Released, returned, noStep, stockReleased},
		{"release unpacks", releasing, at(Packed), Released, returned, noStep, stockReleased},
		{"release unpacks what the carrier was to fetch", releasing, asked(), Released, returned, noStep, stockReleased},
		{"release after shipping is too late", releasing, at(Shipped), "", stays, 0, nil},
		{"release after delivery is too late", releasing, at(Delivered), "", stays, 0, nil},
		{"release again", releasing, at(Released), "", stays, 0, stockReleased},
		{"release of the expired", releasing, at(Expired), "", stays, 0, stockReleased},
		{"release of the rejected", releasing, at(Rejected), "", stays, 0, stockReleased},

		{"fulfil of the unknown is refused", fulfilling, at(unknown), "", stays, 0, refusal("not_reserved")},
		{"fulfil starts picking", fulfilling, at(Held), Picking, stays, time.Second, started},
		{"fulfil again while picking", fulfilling, at(Picking), "", stays, 0, started},
		{"fulfil again when packed", fulfilling, at(Packed), "", stays, 0, packed},
		{"fulfil again when shipped", fulfilling, at(Shipped), "", stays, 0, packed},
		{"fulfil again when delivered", fulfilling, at(Delivered), "", stays, 0, packed},
		{"fulfil of the released is refused", fulfilling, at(Released), "", stays, 0, refusal("released")},
		{"fulfil of the expired is refused", fulfilling, at(Expired), "", stays, 0, refusal("reservation_expired")},
		{"fulfil of the rejected is refused", fulfilling, at(Rejected), "", stays, 0, refusal("not_reserved")},

		{"dispatch of the unknown", dispatching, at(unknown), "", stays, 0, nil},
		{"dispatch of a hold", dispatching, at(Held), "", stays, 0, nil},
		{"dispatch while picking", dispatching, at(Picking), "", stays, 0, nil},
		{"dispatch of what is packed", dispatching, at(Packed), Packed, stays, 2 * time.Second, nil},
		{"dispatch again before it happened", dispatching, asked(), "", stays, 0, nil},
		{"dispatch again when shipped", dispatching, at(Shipped), "", stays, 0, dispatched},
		{"dispatch again when delivered", dispatching, at(Delivered), "", stays, 0, delivered},
		{"dispatch of the released", dispatching, at(Released), "", stays, 0, nil},
		{"dispatch of the expired", dispatching, at(Expired), "", stays, 0, nil},
		{"dispatch of the rejected", dispatching, at(Rejected), "", stays, 0, nil},

		{"a hold expires", stepping, at(Held), Expired, returned, noStep, holdExpired},
		{"picking ends packed", stepping, at(Picking), Packed, stays, noStep, packed},
		{"packed waits for its dispatch", stepping, at(Packed), "", stays, 0, nil},
		{"the carrier fetches", stepping, asked(), Shipped, sold, 3 * time.Second, dispatched},
		{"the carrier delivers", stepping, at(Shipped), Delivered, stays, noStep, delivered},
		{"delivered is the end", stepping, at(Delivered), "", stays, 0, nil},
		{"released is an end", stepping, at(Released), "", stays, 0, nil},
		{"expired is an end", stepping, at(Expired), "", stays, 0, nil},
		{"rejected is an end", stepping, at(Rejected), "", stays, 0, nil},
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
			if got.Flow != tt.flow {
				t.Errorf("flow %d, want %d", got.Flow, tt.flow)
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
			if holds := got.Status == Held; holds != (len(got.Lines) > 0) || holds != (got.Flow == taken) {
				t.Errorf("status %q with lines %v and flow %d", got.Status, got.Lines, got.Flow)
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

func TestFlowsKeepTheSum(t *testing.T) {
	t.Parallel()
	for _, f := range []flow{stays, taken, returned, sold} {
		if a, r, s := f.moves(7); a+r+s != 0 {
			t.Errorf("flow %d moves %d, %d, %d: want a sum of 0", f, a, r, s)
		}
	}
}

func TestLooksAreAsOftenAsTheShortestDelay(t *testing.T) {
	t.Parallel()
	tests := []struct {
		pace pace
		want time.Duration
	}{
		{pace{300 * time.Millisecond, 200 * time.Millisecond, 500 * time.Millisecond}, 200 * time.Millisecond},
		{pace{0, 0, 0}, minLook},
		{pace{byOperator, byOperator, byOperator}, maxLook},
	}
	for _, tt := range tests {
		if got := tt.pace.shortest(); got != tt.want {
			t.Errorf("shortest of %v is %s, want %s", tt.pace, got, tt.want)
		}
	}
}

func TestSeedProductsAreInForm(t *testing.T) {
	t.Parallel()
	products := SeedProducts()
	if len(products) != 12 {
		t.Errorf("%d products, want 12", len(products))
	}
	seen := map[string]bool{}
	for _, p := range products {
		if seen[p.SKU] || !skuForm.MatchString(p.SKU) || p.Name == "" || p.PriceMinor <= 0 || p.Currency != "EUR" || p.Available < 0 {
			t.Errorf("product %+v is out of form or there twice", p)
		}
		seen[p.SKU] = true
	}
}
