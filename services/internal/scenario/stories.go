package scenario

import "slices"

// Stories are all stories, in the order of an order's life.
func Stories() []Story {
	return slices.Concat(buying(), paying(), outOfStock(), cancelling(), packing(), sendingBack(), troubles(), requests(), telling())
}

// The last steps of an order, for those that meet no obstacle.
var (
	toTheDoor  = []string{"confirmed", "fulfilling", "capturing", "dispatching", "shipped", "delivered"}
	fromTheBox = toTheDoor[2:]
)

const (
	byCard   = "tok_ok"
	declined = "tok_declined"
	// slowly takes the payment provider two seconds: time for others to do something.
	slowly = "tok_authorize_slow"
)

func buying() []Story {
	return []Story{
		{Name: "delivered", Title: "An order that meets no obstacle.", tell: delivered},
		{Name: "waited-for", Title: "A customer who waits for the outcome.", tell: waitedFor},
		{Name: "window-shopping", Title: "What there is, before anything is ordered.", tell: windowShopping},
	}
}

func delivered(s *scene) {
	ada, bob := s.customer("Ada"), s.customer("Bob")
	o := ada.buys(byCard, mug.times(2), tea.times(1))
	o.goes("placed", "authorizing")
	o.goes(toTheDoor...)
	s.does("Bob asks for Ada's order")
	bob.asks(notFound, "GET", o.path(), nil)
	o.ends(outcome{
		captured: 2*mug.price + tea.price,
		stock:    []change{sold(mug, 2), sold(tea, 1)},
		told:     "placed confirmed shipped delivered",
	})
}

func waitedFor(s *scene) {
	s.does("Ada orders 1 COFFEE-01 and waits for the outcome (Prefer: wait=10)")
	o := s.customer("Ada").places(created, wish{lines: lines(coffee.times(1)), token: byCard, wait: true})
	o.goes("placed", "authorizing")
	o.goes(toTheDoor...)
	o.ends(outcome{
		captured: coffee.price,
		stock:    []change{sold(coffee, 1)},
		told:     "placed confirmed shipped delivered",
	})
}

func windowShopping(s *scene) {
	ada := s.customer("Ada")
	s.does("Ada looks at what the shop sells")
	list := reads[struct{ Products []struct{ SKU string } }](s, ada.asks(ok, "GET", "/v1/products", nil))
	if len(list.Products) < 12 {
		s.fails("", "the 12 products of the catalogue, or more", number(len(list.Products)))
	}
	s.does("Ada asks how much of three is left")
	left := reads[struct {
		Products []struct{ SKU string }
		Unknown  []string
	}](s, ada.asks(ok, "GET", "/v1/availability?sku=MUG-01,NOPE-01,TEA-01", nil))
	if len(left.Products) != 2 || !slices.Equal(left.Unknown, []string{"NOPE-01"}) {
		s.fails("", "MUG-01 and TEA-01, and NOPE-01 unknown", words(left))
	}
	s.finds("unknown", "NOPE-01")
	s.does("Ada orders something that isn't sold here")
	ada.asks(unknownInLine, "POST", "/v1/orders", ada.placement(wish{lines: lines(product{sku: "NOPE-01"}.times(1)), token: byCard}), "Idempotency-Key", "nope-"+s.run)
	s.does("Ada wants to restock, as only the staff may")
	ada.asks(forbidden, "POST", "/v1/products/MUG-01/restock", map[string]int{"quantity": 1})
}

func paying() []Story {
	return []Story{
		{Name: "declined-then-paid", Title: "The bank declines; the customer pays in another way.", tell: declinedThenPaid},
		{Name: "declined-for-good", Title: "The third decline ends the order.", tell: declinedForGood},
		{Name: "never-paid", Title: "After a decline the customer is never heard of again.", Whole: true, tell: neverPaid},
		{Name: "hold-runs-out", Title: "The payment takes longer than the goods are held.", Whole: true, tell: holdRunsOut},
		{Name: "provider-slow", Title: "The payment provider takes its time.", tell: providerSlow},
		{Name: "charged-in-silence", Title: "The provider takes the money and never says so.", tell: chargedInSilence},
		{Name: "capture-refused", Title: "The money can't be taken when the parcel is packed.", tell: captureRefused},
	}
}

func declinedThenPaid(s *scene) {
	o := s.customer("Ada").buys(declined, tea.times(1))
	o.goes("placed", "authorizing", "payment_failed: card_declined")
	o.asksFor("payment_method", "pay", "cancel")
	o.pays(byCard)
	o.goes("authorizing")
	o.goes(toTheDoor...)
	o.ends(outcome{
		captured: tea.price,
		stock:    []change{sold(tea, 1)},
		told:     "placed action_required confirmed shipped delivered",
	})
}

func declinedForGood(s *scene) {
	o := s.customer("Ada").buys(declined, pot.times(1))
	o.goes("placed", "authorizing", "payment_failed: card_declined")
	o.pays("tok_insufficient_funds")
	o.goes("authorizing", "payment_failed: insufficient_funds")
	o.pays(declined)
	o.goes("authorizing", "compensating: payment_declined", "rejected: payment_declined")
	o.ends(outcome{told: "placed action_required action_required rejected"})
}

func neverPaid(s *scene) {
	o := s.customer("Ada").buys(declined, pot.times(1))
	o.goes("placed", "authorizing", "payment_failed: card_declined")
	s.advances(untilDecided, "Ada lets the time to decide pass")
	o.goes("compensating: payment_not_completed", "rejected: payment_not_completed")
	o.ends(outcome{told: "placed action_required rejected"})
}

func holdRunsOut(s *scene) {
	var o *order
	s.while("payments", func() {
		o = s.customer("Ada").buys(byCard, kettle.times(1))
		o.goes("placed", "authorizing")
		s.advances(untilReleased, "the time for which goods are held passes")
		o.goes("compensating: reservation_expired")
	})
	o.goes("expired: reservation_expired")
	o.ends(outcome{told: "placed expired"})
}

func providerSlow(s *scene) {
	o := s.customer("Ada").buys(slowly, scale.times(1))
	o.goes("placed", "authorizing")
	o.goes(toTheDoor...)
	o.ends(outcome{captured: scale.price, stock: []change{sold(scale, 1)}, told: "placed confirmed shipped delivered"})
}

func chargedInSilence(s *scene) {
	o := s.customer("Ada").buys("tok_capture_timeout_after", scale.times(1))
	o.goes("placed", "authorizing")
	o.goes(toTheDoor...)
	o.ends(outcome{captured: scale.price, stock: []change{sold(scale, 1)}, told: "placed confirmed shipped delivered"})
}

func captureRefused(s *scene) {
	o := s.customer("Ada").buys("tok_capture_refused", kettle.times(1))
	o.goes("placed", "authorizing", "confirmed", "fulfilling", "capturing", "payment_failed: capture_refused")
	o.asksFor("payment_method", "pay", "cancel")
	o.pays(byCard)
	o.goes("authorizing")
	o.goes(fromTheBox...)
	o.ends(outcome{
		captured: kettle.price,
		stock:    []change{sold(kettle, 1)},
		told:     "placed confirmed action_required shipped delivered",
	})
}
