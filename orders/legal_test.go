package orders

import (
	"slices"
	"testing"

	"example.com/orderflow/messaging/contracts"
)

func TestMovesAreTheTables(t *testing.T) {
	t.Parallel()
	list := Moves()
	for i, m := range list {
		if slices.ContainsFunc(list[:i], func(o Move) bool { return o.From == m.From && o.On == m.On && o.To == m.To }) {
			t.Errorf("%q -> %s on %s: listed twice", m.From, m.To, m.On)
		}
		if !slices.Contains(m.Sends, contracts.KindOrderStatusChanged) {
			t.Errorf("%q -> %s on %s: got %v sent always, want OrderStatusChanged among them", m.From, m.To, m.On, m.Sends)
		}
		if (m.EndsAs != Unplaced) != (m.To == Compensating && m.On != OperatorRetry) {
			t.Errorf("%q -> %s on %s: ends as %q", m.From, m.To, m.On, m.EndsAs)
		}
	}
	for _, r := range transitions {
		for _, from := range r.From {
			for _, trigger := range r.On {
				if !r.Stays && !Legal(from, trigger, r.To) {
					t.Errorf("row %d, %q -> %s on %s: got not legal, want legal", r.Row, from, r.To, trigger)
				}
			}
		}
	}
}

func TestWhatTheTableHasNotIsNotLegal(t *testing.T) {
	t.Parallel()
	for _, m := range []Move{
		{From: Placed, On: contracts.KindPaymentCaptured, To: Dispatching},
		{From: Cancelled, On: Cancel, To: Cancelled}, // answered, but no move
		{From: Delivered, On: contracts.KindReturnReceived, To: Refunded},
		{From: Unplaced, On: Place, To: Authorizing},
	} {
		if Legal(m.From, m.On, m.To) {
			t.Errorf("%q -> %s on %s: got legal, want not", m.From, m.To, m.On)
		}
	}
}

func TestAMoveThatMayTellSaysOnlyWhatItTellsAlways(t *testing.T) {
	t.Parallel()
	want := map[string][]string{ // by what happens
		contracts.KindShipmentPacked:    {contracts.KindOrderStatusChanged, contracts.KindCapturePayment}, // short picks tell OrderAmended, too
		contracts.KindPaymentAuthorized: {contracts.KindOrderStatusChanged, contracts.KindOrderConfirmed, contracts.KindFulfilOrder},
	}
	for _, m := range Moves() {
		if m.From == Fulfilling && m.To == Capturing || m.From == Authorizing && m.To == Confirmed {
			slices.Sort(want[m.On])
			if !slices.Equal(m.Sends, want[m.On]) {
				t.Errorf("%s -> %s on %s: got %v sent always, want %v", m.From, m.To, m.On, m.Sends, want[m.On])
			}
		}
	}
}
