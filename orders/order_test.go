package orders

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
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
	returnID      = "0198a000-0000-7000-8000-000000000005"
	refundID      = "0198a000-0000-7000-8000-000000000006"
	otherID       = "0198a000-0000-7000-8000-000000000009"
)

// noon is when everything happens in these tests; the orders were changed an
// hour before.
var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

var testRules = testConfig().rules()

// testConfig is the Config that an empty environment gives, in essence.
func testConfig() Config {
	const soon, later = 15 * time.Second, time.Minute
	return Config{
		Hold:           30 * time.Minute,
		PlacedDeadline: soon, AuthorizingDeadline: later, ConfirmedDeadline: soon, FulfillingDeadline: later, StoppingDeadline: soon,
		CapturingDeadline: later, DispatchingDeadline: time.Hour, ShippedDeadline: time.Hour,
		RefundingDeadline: later, CompensatingDeadline: later, ReturnDeadline: 7 * 24 * time.Hour,
		PaymentFailedDeadline: 15 * time.Minute, DecisionDeadline: 15 * time.Minute, ReturnWindow: 14 * 24 * time.Hour,
		AvailabilityDeadline: 2 * time.Second,
	}
}

// partial is an order whose customer may be asked whether a part will do.
func partial(o *Order) { o.AllowPartial = true }

// orderIn is an order that stands in status, on its first attempt to pay. What
// needs attention was compensating; what is refunding gives the money for one mug
// back that was returned.
func orderIn(status Status, changes ...func(*Order)) Order {
	o := Order{
		ID: orderID, ReservationID: reservationID, PaymentID: paymentID, CaptureID: captureID,
		CustomerID: "demo", CustomerName: "Ada", CustomerEmail: "ada@example.com", Class: messaging.Standard,
		Currency: "EUR", TotalMinor: 2500, Lines: theLines(),
		Status: status, Version: 3, ChangedAt: noon.Add(-time.Hour), CreatedAt: noon.Add(-time.Hour),
	}
	switch status {
	case Unplaced:
		o.Version, o.ChangedAt, o.CreatedAt = 0, time.Time{}, time.Time{}
	case Placed:
	case AwaitingCustomer:
		o.AllowPartial, o.ReasonCode, o.Lines[0].Missing = true, "partly_out_of_stock", 1
	default:
		o.Attempt = 1
	}
	if o.mayAuthorize() || status == Unplaced {
		o.PaymentToken = "tok_ok"
	}
	came := func(of ...Status) bool { return slices.Contains(of, status) }
	o.Packed = came(Capturing, Dispatching, Shipped, Delivered, Refunding, Completed, Refunded)
	o.Captured = o.Packed && status != Capturing
	o.Dispatched = o.Captured && status != Dispatching
	if d, ok := testRules.Deadlines[status]; ok {
		deadline := o.ChangedAt.Add(d)
		o.Deadline = &deadline
	}
	if came(Delivered, Refunding, Completed, Refunded) {
		until := o.ChangedAt.Add(testRules.ReturnWindow)
		o.ReturnUntil = &until
	}
	switch status {
	case Delivered:
		o.Deadline = o.ReturnUntil
	case Refunding:
		o.refund(refundID, "returned", []contracts.Line{{SKU: "MUG-01", Quantity: 1}}, o.ChangedAt)
		o.ReasonCode = "returned"
	case NeedsAttention:
		o.Resume, o.ResumeReason, o.ReasonCode = Compensating, "cancelled_by_customer", "void_refused"
		o.EndsAs, o.AwaitsRelease, o.AwaitsVoid = Cancelled, true, true
	case Compensating:
		o.EndsAs, o.AwaitsRelease, o.AwaitsVoid, o.ReasonCode = Cancelled, true, true, "cancelled_by_customer"
	case Stopping:
		o.ReasonCode = "cancelled_by_customer"
	}
	if status.Ended() {
		o.ReasonCode = "cancelled_by_customer"
	}
	for _, change := range changes {
		change(&o)
	}
	return o
}

func theLines() Lines {
	return Lines{
		{SKU: "MUG-01", Name: "Mug", Quantity: 2, UnitPriceMinor: 1000},
		{SKU: "TEA-01", Name: "Tea", Quantity: 1, UnitPriceMinor: 500},
	}
}

// says is the Input of kind on about o as it is now, or of an action.
func says(on string, o Order) Input {
	back := Return{ID: returnID, Lines: []contracts.Line{{SKU: "MUG-01", Quantity: 1}}}
	if i := slices.IndexFunc(o.Returns, func(r Return) bool { return r.Status == returnExpected }); i >= 0 {
		back = o.Returns[i]
	}
	repay := Refund{ID: refundID, AmountMinor: 1000}
	if i := slices.IndexFunc(o.Refunds, func(f Refund) bool { return f.Status == refundOpen }); i >= 0 {
		repay = o.Refunds[i]
	}
	var due []contracts.Line
	for _, l := range slices.Backward(o.Lines) {
		due = append(due, contracts.Line{SKU: l.SKU, Quantity: l.due()})
	}
	bodies := []messaging.Body{
		contracts.StockReserved{ReservationID: o.ReservationID, OrderID: o.ID},
		contracts.StockPartiallyReserved{ReservationID: o.ReservationID, OrderID: o.ID, Lines: []contracts.Line{{SKU: "MUG-01", Quantity: 1}, {SKU: "TEA-01", Quantity: 1}}},
		contracts.StockRejected{ReservationID: o.ReservationID, OrderID: o.ID, ReasonCode: "out_of_stock"},
		contracts.StockReleased{ReservationID: o.ReservationID, OrderID: o.ID},
		contracts.ReservationExpired{ReservationID: o.ReservationID, OrderID: o.ID},
		contracts.FulfilmentStarted{ReservationID: o.ReservationID, OrderID: o.ID},
		contracts.FulfilmentRefused{ReservationID: o.ReservationID, OrderID: o.ID, ReasonCode: "not_reserved"},
		contracts.ShipmentPacked{ReservationID: o.ReservationID, OrderID: o.ID, Lines: due},
		contracts.ShipmentDispatched{ReservationID: o.ReservationID, OrderID: o.ID, Tracking: "TRACK-1"},
		contracts.ShipmentDelivered{ReservationID: o.ReservationID, OrderID: o.ID},
		contracts.ShipmentLost{ReservationID: o.ReservationID, OrderID: o.ID},
		contracts.ReturnReceived{ReturnID: back.ID, ReservationID: o.ReservationID, OrderID: o.ID, Lines: back.Lines},
		contracts.PaymentAuthorized{PaymentID: o.PaymentID, Attempt: o.Attempt, OrderID: o.ID, AmountMinor: o.TotalMinor, Currency: o.Currency},
		contracts.PaymentDeclined{PaymentID: o.PaymentID, Attempt: o.Attempt, OrderID: o.ID, ReasonCode: "card_declined"},
		contracts.PaymentCaptured{PaymentID: o.PaymentID, Attempt: o.Attempt, CaptureID: o.CaptureID, OrderID: o.ID, AmountMinor: o.TotalMinor},
		contracts.CaptureFailed{PaymentID: o.PaymentID, Attempt: o.Attempt, CaptureID: o.CaptureID, OrderID: o.ID, ReasonCode: "authorization_expired"},
		contracts.PaymentVoided{PaymentID: o.PaymentID, Attempt: o.Attempt, OrderID: o.ID},
		contracts.PaymentVoidRefused{PaymentID: o.PaymentID, Attempt: o.Attempt, OrderID: o.ID, ReasonCode: contracts.ReasonCaptured},
		contracts.RefundSucceeded{RefundID: repay.ID, PaymentID: o.PaymentID, OrderID: o.ID, AmountMinor: repay.AmountMinor},
		contracts.RefundFailed{RefundID: repay.ID, PaymentID: o.PaymentID, OrderID: o.ID, ReasonCode: "account_closed"},
	}
	in := Input{On: on, At: noon}
	for _, b := range bodies {
		if b.Kind() == on {
			in.Body = b
		}
	}
	switch on {
	case Pay:
		in.PaymentToken, in.CaptureID = "tok_other", otherID
	case AskReturn, OperatorRefund, OperatorCancel, contracts.KindShipmentLost:
		// Another for each return and refund that the order gets.
		in.ID = fmt.Sprintf("0198a000-0000-7000-8000-0000000001%02d", len(o.Returns)+len(o.Refunds))
		in.Lines = []contracts.Line{{SKU: "MUG-01", Quantity: 1}}
		for _, l := range o.Lines {
			if o.free(l) > 0 {
				in.Lines[0].SKU = l.SKU
			}
		}
	}
	return in
}

// triggers is all that can happen to an order.
func triggers() []string {
	list := []string{Place, Accept, Refuse, Cancel, Pay, AskReturn, DeadlineUp, OperatorRefund, OperatorRetry, OperatorCancel}
	for _, kind := range Spec().Queues[0].Kinds {
		if kind != contracts.KindProductChanged {
			list = append(list, kind)
		}
	}
	return list
}

func kindsOf(bodies []messaging.Body) []string {
	var list []string
	for _, b := range bodies {
		list = append(list, b.Kind())
	}
	return list
}

// documentedRows is how many rows the table in the documents has.
const documentedRows = 26

func TestEveryRowIsWalkedAndNothingElseIsLegal(t *testing.T) {
	t.Parallel()
	walked := map[string]bool{}
	for _, m := range moves {
		i := slices.IndexFunc(transitions, func(row Transition) bool { return row.fits(m.from, m.in()) })
		walked[fmt.Sprint(i, m.from.Status, m.on)] = true
		if i >= 0 && transitions[i].Row != m.row {
			t.Errorf("%s: got row %d, want %d", m.name, transitions[i].Row, m.row)
		}
	}
	legal := map[string]bool{}
	rows := map[int]bool{}
	for i, row := range transitions {
		rows[row.Row] = true
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
	for row := 1; row <= documentedRows; row++ {
		if !rows[row] {
			t.Errorf("row %d of the documents stands nowhere in the table", row)
		}
	}
	illegal := 0
	for _, status := range append([]Status{Unplaced}, statuses...) {
		for _, on := range triggers() {
			if legal[string(status)+" "+on] {
				continue
			}
			illegal++
			o := orderIn(status)
			if step, err := testRules.Decide(o, says(on, o)); !errors.Is(err, ErrIllegal) {
				t.Errorf("%s while %q: got %s and error %v, want ErrIllegal", on, status, step.Order.Status, err)
			}
		}
	}
	t.Logf("%d rows of the table walked by %d moves; %d pairs of status and trigger refused", len(transitions), len(moves), illegal)
}

func TestWhatIsNotLegal(t *testing.T) {
	t.Parallel()
	expiring := orderIn(Compensating, undoing(Expired, true, true))
	voidOnly := orderIn(Compensating, undoing(Cancelled, false, true))
	line := func(sku string, quantity int) []contracts.Line {
		return []contracts.Line{{SKU: sku, Quantity: quantity}}
	}
	packs := func(lines []contracts.Line) Input {
		return Input{On: contracts.KindShipmentPacked, Body: packing(lines...), At: noon}
	}
	part := func(lines []contracts.Line) Input {
		return Input{On: contracts.KindStockPartiallyReserved, Body: contracts.StockPartiallyReserved{ReservationID: reservationID, OrderID: orderID, Lines: lines}, At: noon}
	}
	comes := func(id string, lines []contracts.Line) Input {
		return Input{On: contracts.KindReturnReceived, Body: contracts.ReturnReceived{ReturnID: id, ReservationID: reservationID, OrderID: orderID, Lines: lines}, At: noon}
	}
	takes := func(on string, lines []contracts.Line) Input {
		return Input{On: on, ID: otherID, Lines: lines, At: noon}
	}
	repays := func(id string, amount int64) Input {
		return Input{On: contracts.KindRefundSucceeded, Body: contracts.RefundSucceeded{RefundID: id, PaymentID: paymentID, OrderID: orderID, AmountMinor: amount}, At: noon}
	}
	tooLate := takes(AskReturn, line("MUG-01", 1))
	tooLate.At = *orderIn(Delivered).ReturnUntil
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
		{"more is packed than was reserved", orderIn(Fulfilling), packs(line("MUG-01", 3)), ErrIllegal},
		{"something else is packed", orderIn(Fulfilling), packs(line("PEN-01", 1)), ErrIllegal},
		{"a product is packed twice", orderIn(Fulfilling), packs(append(line("MUG-01", 1), line("MUG-01", 1)...)), ErrIllegal},
		{"a part is reserved that nobody allowed", orderIn(Placed), part(line("MUG-01", 1)), ErrIllegal},
		{"a part that is all of it", orderIn(Placed, partial), part(append(line("MUG-01", 2), line("TEA-01", 1)...)), ErrIllegal},
		{"a part that is nothing", orderIn(Placed, partial), part(nil), ErrIllegal},
		{"a part with more than was ordered", orderIn(Placed, partial), part(line("TEA-01", 2)), ErrIllegal},
		{"a return of more than was delivered", orderIn(Delivered), takes(AskReturn, line("MUG-01", 3)), ErrIllegal},
		{"a return of what is on its way back", orderIn(Delivered, returning), takes(AskReturn, line("MUG-01", 2)), ErrIllegal},
		{"a return of nothing", orderIn(Delivered), takes(AskReturn, nil), ErrIllegal},
		{"a return of something else", orderIn(Delivered), takes(AskReturn, line("PEN-01", 1)), ErrIllegal},
		{"a return at the last moment", orderIn(Delivered), tooLate, ErrIllegal},
		{"a refund of what is refunded", orderIn(Refunding), takes(OperatorRefund, line("MUG-01", 2)), ErrIllegal},
		{"a refund of what is on its way back", orderIn(Delivered, returning), takes(OperatorRefund, line("MUG-01", 2)), ErrIllegal},
		{"a return that nobody announced", orderIn(Delivered, returning), comes(otherID, line("MUG-01", 1)), ErrIllegal},
		{"a return that was received", orderIn(Refunding, returning, func(o *Order) { o.Returns[0].Status = returnReceived }), comes(returnID, line("MUG-01", 1)), ErrIllegal},
		{"a return with more than was announced", orderIn(Delivered, returning), comes(returnID, line("MUG-01", 2)), ErrIllegal},
		{"a refund that nobody asked for", orderIn(Refunding), repays(otherID, 1000), ErrIllegal},
		{"a refund of another amount", orderIn(Refunding), repays(refundID, 999), ErrIllegal},
		{"picking goes on, which nobody asked", orderIn(Fulfilling), says(contracts.KindFulfilmentStarted, orderIn(Fulfilling)), ErrIllegal},
		{"a void refused that isn't awaited", orderIn(Compensating, undoing(Cancelled, true, false)), says(contracts.KindPaymentVoidRefused, orderIn(Compensating)), ErrIllegal},
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
// answers what is asked until nothing is open: every order ends.
func TestRandomWalks(t *testing.T) {
	t.Parallel()
	all := triggers()
	ends := map[Status]int{}
	seen := map[Status]int{}
	seeds := uint64(1000)
	if os.Getenv("ORDERFLOW_LONG") != "" {
		seeds = 20_000
	}
	for seed := range seeds {
		random := rand.New(rand.NewPCG(seed, 1))
		o := orderIn(Unplaced)
		o.AllowPartial = seed%3 == 0
		for i := range 80 {
			on := all[random.IntN(len(all))]
			if i == 0 {
				on = Place
			} else if random.IntN(3) == 0 { // or it would come far too seldom
				on = forward[o.Status]
			}
			before := o
			step, err := testRules.Decide(o, says(on, o))
			if err != nil {
				continue
			}
			o = step.Order
			seen[o.Status]++
			checkOrder(t, o)
			checkStep(t, before, step, on)
			if t.Failed() {
				t.Fatalf("seed %d, step %d: %s", seed, i, on)
			}
		}
		for round := 0; round < 60 && !o.Status.Ended(); round++ {
			for _, on := range all {
				if step, err := testRules.Decide(o, says(on, o)); err == nil {
					o = step.Order
				}
			}
		}
		if !o.Status.Ended() {
			t.Fatalf("seed %d: ends as %s, want at an end: %+v", seed, o.Status, o)
		}
		ends[o.Status]++
	}
	for _, s := range statuses {
		if seen[s] == 0 {
			t.Errorf("no walk comes to %s: %v", s, seen)
		}
		if s.Ended() && ends[s] == 0 {
			t.Errorf("no walk ends as %s: %v", s, ends)
		}
	}
}

// forward is what brings an order nearer to its delivery, and back.
var forward = map[Status]string{
	Placed: contracts.KindStockReserved, AwaitingCustomer: Accept, Authorizing: contracts.KindPaymentAuthorized, PaymentFailed: Pay,
	Confirmed: contracts.KindFulfilmentStarted, Fulfilling: contracts.KindShipmentPacked, Capturing: contracts.KindPaymentCaptured,
	Dispatching: contracts.KindShipmentDispatched, Shipped: contracts.KindShipmentDelivered, Delivered: AskReturn,
	Refunding: contracts.KindRefundSucceeded, Compensating: contracts.KindPaymentVoidRefused, NeedsAttention: OperatorRetry,
}

// checkStep checks what must be true of every step.
func checkStep(t *testing.T, before Order, step Step, on string) {
	t.Helper()
	o := step.Order
	if (step.Entry != nil) != (o.Version == before.Version+1) || step.Entry == nil && o.Version != before.Version {
		t.Errorf("%s while %s: version %d to %d with history row %v", on, before.Status, before.Version, o.Version, step.Entry)
	}
	if before.Status.Ended() && o.Status != before.Status {
		t.Errorf("%s moves an ended order from %s to %s", on, before.Status, o.Status)
	}
	if o.Status != before.Status && before.Status != Unplaced && !slices.Contains(Next(before), o.Status) {
		t.Errorf("%s: next of %s is %v, without %s", on, before.Status, Next(before), o.Status)
	}
	if !step.Dirty && fmt.Sprintf("%+v", o) != fmt.Sprintf("%+v", before) {
		t.Errorf("%s while %s: the order is said not to differ:\n got %+v\n was %+v", on, before.Status, o, before)
	}
	if step.Lines != !slices.Equal(before.Lines, o.Lines) {
		t.Errorf("%s while %s: lines are said to differ: %v; got %v, were %v", on, before.Status, step.Lines, o.Lines, before.Lines)
	}
}
