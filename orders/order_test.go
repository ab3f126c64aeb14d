package orders

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"example.com/orderflow/messaging"
	"example.com/orderflow/messaging/contracts"
)

const (
	orderID       = "0198a000-0000-7000-8000-000000000001"
	reservationID = "0198a000-0000-7000-8000-000000000002"
	paymentID     = "0198a000-0000-7000-8000-000000000003"
	captureID     = "0198a000-0000-7000-8000-000000000004"
	otherID       = "0198a000-0000-7000-8000-000000000009"
)

// noon is when everything happens in these tests; the orders were changed an
// hour before.
var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

var testRules = testConfig().rules()

// testConfig is the Config that an empty environment gives, in essence.
func testConfig() Config {
	const answer = 15 * time.Second
	return Config{
		Hold:           30 * time.Minute,
		PlacedDeadline: answer, AuthorizingDeadline: answer, ConfirmedDeadline: answer, FulfillingDeadline: answer,
		CapturingDeadline: answer, DispatchingDeadline: answer, ShippedDeadline: answer, CompensatingDeadline: answer,
		PaymentFailedDeadline: 15 * time.Minute,
		AvailabilityDeadline:  2 * time.Second,
	}
}

// orderIn is an order that stands in status, on its first attempt to pay.
func orderIn(status Status, changes ...func(*Order)) Order {
	o := Order{
		ID: orderID, ReservationID: reservationID, PaymentID: paymentID, CaptureID: captureID,
		CustomerID: "demo", CustomerName: "Ada", CustomerEmail: "ada@example.com", Class: messaging.Standard,
		Currency: "EUR", TotalMinor: 2500, Lines: Lines{{"MUG-01", "Mug", 2, 1000}, {"TEA-01", "Tea", 1, 500}},
		Status: status, Version: 3, ChangedAt: noon.Add(-time.Hour), CreatedAt: noon.Add(-time.Hour),
	}
	switch status {
	case Unplaced:
		o.Version, o.ChangedAt, o.CreatedAt = 0, time.Time{}, time.Time{}
	case Placed:
	default:
		o.Attempt = 1
	}
	if status == Unplaced || status == Placed || status == Authorizing {
		o.PaymentToken = "tok_ok"
	}
	if status == Compensating {
		o.EndsAs, o.AwaitsRelease, o.AwaitsVoid, o.ReasonCode = Cancelled, true, true, "cancelled_by_customer"
	}
	if status.Ended() {
		o.ReasonCode = "cancelled_by_customer"
	}
	if d, ok := testRules.Deadlines[status]; ok {
		deadline := o.ChangedAt.Add(d)
		o.Deadline = &deadline
	}
	for _, change := range changes {
		change(&o)
	}
	return o
}

// says is the Input of kind on about o as it is now, or of an action.
func says(on string, o Order) Input {
	bodies := []messaging.Body{
		contracts.StockReserved{ReservationID: o.ReservationID, OrderID: o.ID},
		contracts.StockRejected{ReservationID: o.ReservationID, OrderID: o.ID, ReasonCode: "out_of_stock"},
		contracts.StockReleased{ReservationID: o.ReservationID, OrderID: o.ID},
		contracts.ReservationExpired{ReservationID: o.ReservationID, OrderID: o.ID},
		contracts.FulfilmentStarted{ReservationID: o.ReservationID, OrderID: o.ID},
		contracts.FulfilmentRefused{ReservationID: o.ReservationID, OrderID: o.ID, ReasonCode: "not_reserved"},
		contracts.ShipmentPacked{ReservationID: o.ReservationID, OrderID: o.ID, Lines: []contracts.Line{{SKU: "TEA-01", Quantity: 1}, {SKU: "MUG-01", Quantity: 2}}},
		contracts.ShipmentDispatched{ReservationID: o.ReservationID, OrderID: o.ID, Tracking: "TRACK-1"},
		contracts.ShipmentDelivered{ReservationID: o.ReservationID, OrderID: o.ID},
		contracts.PaymentAuthorized{PaymentID: o.PaymentID, Attempt: o.Attempt, OrderID: o.ID, AmountMinor: o.TotalMinor, Currency: o.Currency},
		contracts.PaymentDeclined{PaymentID: o.PaymentID, Attempt: o.Attempt, OrderID: o.ID, ReasonCode: "card_declined"},
		contracts.PaymentCaptured{PaymentID: o.PaymentID, Attempt: o.Attempt, CaptureID: o.CaptureID, OrderID: o.ID, AmountMinor: o.TotalMinor},
		contracts.PaymentVoided{PaymentID: o.PaymentID, Attempt: o.Attempt, OrderID: o.ID},
	}
	for _, b := range bodies {
		if b.Kind() == on {
			return Input{On: on, Body: b, At: noon}
		}
	}
	in := Input{On: on, At: noon}
	if on == Pay {
		in.PaymentToken, in.CaptureID = "tok_other", otherID
	}
	return in
}

// triggers is all that can happen to an order.
func triggers() []string {
	list := []string{Place, Cancel, Pay, DeadlineUp}
	for _, kind := range Spec().Queues[0].Kinds {
		if kind != contracts.KindProductChanged {
			list = append(list, kind)
		}
	}
	return list
}

var statuses = []Status{
	Unplaced, Placed, Authorizing, PaymentFailed, Confirmed, Fulfilling, Capturing, Dispatching, Shipped, Delivered,
	Compensating, Cancelled, Rejected, Expired,
}

func kindsOf(bodies []messaging.Body) []string {
	var list []string
	for _, b := range bodies {
		list = append(list, b.Kind())
	}
	return list
}

func TestEveryRowIsWalkedAndNothingElseIsLegal(t *testing.T) {
	t.Parallel()
	walked := map[string]bool{}
	for _, m := range moves {
		i := slices.IndexFunc(transitions, func(row Transition) bool {
			return row.leaves(m.from) && slices.Contains(row.On, m.on) && (row.When == nil || row.When.Holds(m.from, says(m.on, m.from)))
		})
		walked[fmt.Sprint(i, m.from.Status, m.on)] = true
	}
	legal := map[string]bool{}
	for i, row := range transitions {
		for _, from := range row.From {
			for _, on := range row.On {
				legal[string(from)+" "+on] = true
				if !walked[fmt.Sprint(i, from, on)] {
					t.Errorf("row %d (line %d), %s from %q: no case of TestMoves goes through it", row.Row, i, on, from)
				}
			}
			if row.Stays && row.To != from {
				t.Errorf("row %d (line %d): stays, but goes from %s to %s", row.Row, i, from, row.To)
			}
		}
	}
	for _, status := range statuses {
		for _, on := range triggers() {
			if legal[string(status)+" "+on] {
				continue
			}
			o := orderIn(status)
			if step, err := testRules.Decide(o, says(on, o)); !errors.Is(err, ErrIllegal) {
				t.Errorf("%s while %q: got %s and error %v, want ErrIllegal", on, status, step.Order.Status, err)
			}
		}
	}
}

func TestWhatIsNotLegal(t *testing.T) {
	t.Parallel()
	expiring := orderIn(Compensating, undoing(Expired, true, true))
	voidOnly := orderIn(Compensating, undoing(Cancelled, false, true))
	short := says(contracts.KindShipmentPacked, orderIn(Fulfilling))
	short.Body = contracts.ShipmentPacked{ReservationID: reservationID, OrderID: orderID, Lines: []contracts.Line{{SKU: "TEA-01", Quantity: 1}}}
	fewer := short
	fewer.Body = contracts.ShipmentPacked{ReservationID: reservationID, OrderID: orderID, Lines: []contracts.Line{{SKU: "TEA-01", Quantity: 1}, {SKU: "MUG-01", Quantity: 1}}}
	otherReservation := says(contracts.KindStockReserved, orderIn(Placed, func(o *Order) { o.ReservationID = otherID }))
	otherCapture := says(contracts.KindPaymentCaptured, orderIn(Capturing, func(o *Order) { o.CaptureID = otherID }))
	earlier := orderIn(Authorizing)
	later := orderIn(Authorizing, declined(1))
	for _, tt := range []struct {
		name string
		from Order
		in   Input
		want error
	}{
		{"cancel of what expires", expiring, says(Cancel, expiring), ErrIllegal},
		{"released a second time", voidOnly, says(contracts.KindStockReleased, voidOnly), ErrIllegal},
		{"a line is not packed", orderIn(Fulfilling), short, ErrIllegal},
		{"a line is packed in part", orderIn(Fulfilling), fewer, ErrIllegal},
		{"another reservation", orderIn(Placed), otherReservation, ErrStale},
		{"another capture", orderIn(Capturing), otherCapture, ErrStale},
		{"an earlier attempt is authorised", later, says(contracts.KindPaymentAuthorized, earlier), ErrStale},
		{"an earlier attempt is declined again", later, says(contracts.KindPaymentDeclined, earlier), ErrStale},
		{"an event of another kind", later, Input{On: contracts.KindProductChanged, Body: contracts.ProductChanged{}, At: noon}, ErrStale},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if step, err := testRules.Decide(tt.from, tt.in); !errors.Is(err, tt.want) {
				t.Errorf("got %s and error %v, want error %v", step.Order.Status, err, tt.want)
			}
		})
	}
}

func TestWhatTransitionsSay(t *testing.T) {
	t.Parallel()
	decide := func(rules Rules, o Order, in Input) Step {
		step, err := rules.Decide(o, in)
		if err != nil {
			t.Fatalf("%s while %s: %v", in.On, o.Status, err)
		}
		return step
	}
	step := decide(testRules, orderIn(Placed), says(DeadlineUp, orderIn(Placed)))
	reserve := contracts.ReserveStock{ReservationID: reservationID, OrderID: orderID, Lines: []contracts.Line{{SKU: "MUG-01", Quantity: 2}, {SKU: "TEA-01", Quantity: 1}}, HoldSeconds: 1800}
	if got := fmt.Sprint(step.Sends[0]); got != fmt.Sprint(reserve) {
		t.Errorf("stock asked for again:\n got %v\nwant %v", got, reserve)
	}
	graceful := testRules
	graceful.Grace = time.Minute
	step = decide(graceful, orderIn(Unplaced), says(Place, Order{}))
	if got, want := step.Sends[0], messaging.After(reserve, time.Minute); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("stock asked for after the grace:\n got %v\nwant %v", got, want)
	}
	step = decide(testRules, orderIn(PaymentFailed), says(Pay, orderIn(PaymentFailed)))
	pay := contracts.AuthorizePayment{PaymentID: paymentID, Attempt: 2, OrderID: orderID, CustomerID: "demo", AmountMinor: 2500, Currency: "EUR", MethodToken: "tok_other"}
	if got := step.Sends[0]; got != pay {
		t.Errorf("another method:\n got %+v\nwant %+v", got, pay)
	}
	if got := step.Order.CaptureID; got != otherID {
		t.Errorf("capture id of the second attempt: got %s, want %s", got, otherID)
	}
	step = decide(testRules, orderIn(Authorizing), says(contracts.KindPaymentDeclined, orderIn(Authorizing)))
	if got, want := step.Sends[0].(contracts.OrderActionRequired).DecideUntil, noon.Add(15*time.Minute); !got.Equal(want) {
		t.Errorf("decide until: got %v, want %v", got, want)
	}
	step = decide(testRules, orderIn(Fulfilling), says(contracts.KindShipmentPacked, orderIn(Fulfilling)))
	capture := contracts.CapturePayment{PaymentID: paymentID, Attempt: 1, CaptureID: captureID, OrderID: orderID, AmountMinor: 2500}
	if got := step.Sends[0]; got != capture {
		t.Errorf("capture:\n got %+v\nwant %+v", got, capture)
	}
	step = decide(testRules, orderIn(Dispatching), says(contracts.KindShipmentDispatched, orderIn(Dispatching)))
	if got := step.Order.Tracking; got != "TRACK-1" {
		t.Errorf("tracking: got %q, want TRACK-1", got)
	}
}

func TestHistoryNeverRunsBackwards(t *testing.T) {
	t.Parallel()
	o := orderIn(Placed)
	in := says(contracts.KindStockReserved, o)
	in.At = o.ChangedAt.Add(-time.Second)
	step, err := testRules.Decide(o, in)
	if err != nil {
		t.Fatal(err)
	}
	if !step.Entry.At.Equal(o.ChangedAt) {
		t.Errorf("history row at a clock that went back: got %v, want %v", step.Entry.At, o.ChangedAt)
	}
}

// TestRandomWalks lets anything happen in any order and checks each step; then it
// answers what is asked until nothing is open: every order comes to rest.
func TestRandomWalks(t *testing.T) {
	t.Parallel()
	all := triggers()
	ends := map[Status]int{}
	for seed := range uint64(500) {
		random := rand.New(rand.NewPCG(seed, 1))
		o := orderIn(Unplaced)
		for i := range 60 {
			on := all[random.IntN(len(all))]
			if i == 0 {
				on = Place
			}
			before := o
			step, err := testRules.Decide(o, says(on, o))
			if err != nil {
				continue
			}
			o = step.Order
			checkOrder(t, o)
			if (step.Entry != nil) != (o.Version == before.Version+1) || step.Entry == nil && o.Version != before.Version {
				t.Errorf("%s while %s: version %d to %d with history row %v", on, before.Status, before.Version, o.Version, step.Entry)
			}
			if before.Status.Ended() && o.Status != before.Status {
				t.Errorf("%s moves an ended order from %s to %s", on, before.Status, o.Status)
			}
			if step.Entry != nil && !slices.Contains(Next(before), o.Status) {
				t.Errorf("%s: next of %s is %v, without %s", on, before.Status, Next(before), o.Status)
			}
			if t.Failed() {
				t.Fatalf("seed %d, step %d: %s", seed, i, on)
			}
		}
		for range 20 {
			for _, on := range all {
				if step, err := testRules.Decide(o, says(on, o)); err == nil {
					o = step.Order
				}
			}
		}
		if !o.Status.Ended() && o.Status != Delivered {
			t.Fatalf("seed %d: ends as %s, want at rest", seed, o.Status)
		}
		ends[o.Status]++
	}
	for _, s := range []Status{Delivered, Cancelled, Rejected, Expired} {
		if ends[s] == 0 {
			t.Errorf("no walk of 500 ends as %s: %v", s, ends)
		}
	}
}
