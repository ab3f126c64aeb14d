package orders

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"example.com/orderflow/messaging/contracts"
)

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
