package scenario

func packing() []Story {
	return []Story{
		{Name: "picked-short", Title: "The warehouse finds fewer than were set aside.", tell: pickedShort},
		{Name: "nothing-found", Title: "The warehouse finds nothing.", tell: nothingFound},
		{Name: "lost", Title: "The carrier loses the parcel.", tell: lostParcel},
	}
}

// inHand is an order of lines that is being picked by Ines of the warehouse.
func inHand(s *scene, lines ...line) (*order, *person) {
	o := s.customer("Ada").buys(slowly, lines...)
	o.goes("placed", "authorizing")
	ines := s.staff("Ines")
	ines.takesInHand(o)
	o.goes("confirmed", "fulfilling")
	return o, ines
}

func pickedShort(s *scene) {
	o, ines := inHand(s, mug.times(3), tea.times(1))
	ines.packs(o, mug.times(2), tea.times(1))
	o.goes("capturing", "dispatching")
	ines.moves(o, "dispatch")
	o.goes("shipped")
	ines.moves(o, "deliver")
	o.goes("delivered")
	o.ends(outcome{
		captured: 2*mug.price + tea.price,
		stock:    []change{{SKU: mug.sku, Available: -3, Sold: 2, WrittenOff: 1}, sold(tea, 1)},
		told:     "placed confirmed amended shipped delivered",
	})
}

func nothingFound(s *scene) {
	o, ines := inHand(s, coffee.times(2))
	ines.packs(o)
	o.goes("compensating: nothing_found", "rejected: nothing_found")
	o.ends(outcome{
		stock: []change{{SKU: coffee.sku, Available: -2, WrittenOff: 2}},
		told:  "placed confirmed rejected",
	})
}

func lostParcel(s *scene) {
	o, ines := inHand(s, pot.times(1))
	ines.packs(o, pot.times(1))
	o.goes("capturing", "dispatching")
	ines.moves(o, "dispatch")
	o.goes("shipped")
	ines.moves(o, "lose")
	o.goes("refunding: lost", "refunded: lost")
	o.ends(outcome{
		captured: pot.price, refunded: pot.price,
		stock: []change{sold(pot, 1)},
		told:  "placed confirmed shipped refunded",
	})
}

func sendingBack() []Story {
	return []Story{
		{Name: "sent-back-in-part", Title: "One of three mugs comes back.", tell: sentBackInPart},
		{Name: "sent-back", Title: "All of it comes back.", tell: sentBack},
		{Name: "return-window-over", Title: "The time to send something back passes.", Whole: true, tell: returnWindowOver},
		{Name: "paid-back", Title: "The shop pays for what isn't sent back.", tell: paidBack},
	}
}

// atTheDoor is an order of lines, paid by token, that was delivered.
func atTheDoor(s *scene, token string, lines ...line) *order {
	o := s.customer("Ada").buys(token, lines...)
	o.goes("placed", "authorizing")
	o.goes(toTheDoor...)
	return o
}

func sentBackInPart(s *scene) {
	o := atTheDoor(s, byCard, mug.times(3), tea.times(1))
	o.sendsBack(accepted, mug.times(1))
	o.goes("delivered: return_announced", "refunding: returned", "delivered")
	o.sendsBack(notNow, mug.times(3)) // two are left
	o.ends(outcome{
		captured: 3*mug.price + tea.price, refunded: mug.price,
		stock: []change{sold(mug, 2), sold(tea, 1)},
		told:  "placed confirmed shipped delivered refunded",
	})
}

func sentBack(s *scene) {
	o := atTheDoor(s, byCard, coffee.times(1), filter.times(2))
	o.sendsBack(accepted, coffee.times(1), filter.times(2))
	o.goes("delivered: return_announced", "refunding: returned", "refunded: returned")
	all := coffee.price + 2*filter.price
	o.ends(outcome{captured: all, refunded: all, told: "placed confirmed shipped delivered refunded"})
}

func returnWindowOver(s *scene) {
	o := atTheDoor(s, byCard, filter.times(1))
	s.advances(untilKept, "two weeks pass")
	o.goes("completed: return_time_over")
	o.sendsBack(notNow, filter.times(1))
	o.ends(outcome{captured: filter.price, stock: []change{sold(filter, 1)}, told: "placed confirmed shipped delivered completed"})
}

func paidBack(s *scene) {
	o := atTheDoor(s, byCard, coffee.times(2))
	s.staff("Ines").paysBack(o, "one bag was torn", coffee.times(1))
	o.goes("refunding: not_sent_back", "delivered")
	o.ends(outcome{
		captured: 2 * coffee.price, refunded: coffee.price,
		stock: []change{sold(coffee, 2)},
		told:  "placed confirmed shipped delivered refunded",
	})
}

func troubles() []Story {
	return []Story{
		{Name: "refund-tried-again", Title: "The provider refuses a refund; an operator has it tried again.", tell: refundTriedAgain},
		{Name: "refund-of-all", Title: "The provider refuses a refund; an operator cancels the order.", tell: refundOfAll},
		{Name: "void-tried-again", Title: "The provider won't let go of the money; an operator tries again.", tell: voidTriedAgain},
	}
}

// refundRefused is an order of coffee and filters, of which the coffee came back,
// and the provider refuses to pay for it.
func refundRefused(s *scene) *order {
	o := atTheDoor(s, "tok_refund_refused", coffee.times(1), filter.times(1))
	o.sendsBack(accepted, coffee.times(1))
	o.goes("delivered: return_announced", "refunding: returned", "needs_attention: refund_failed")
	return o
}

func refundTriedAgain(s *scene) {
	o := refundRefused(s)
	s.staff("Ines").resolves(o, "retry")
	o.goes("refunding: returned", "delivered")
	o.ends(outcome{
		captured: coffee.price + filter.price, refunded: coffee.price,
		stock: []change{sold(filter, 1)},
		told:  "placed confirmed shipped delivered refunded",
	})
}

func refundOfAll(s *scene) {
	o := refundRefused(s)
	s.staff("Ines").resolves(o, "cancel")
	o.goes("refunding: cancelled_by_operator", "refunded: cancelled_by_operator")
	all := coffee.price + filter.price
	o.ends(outcome{captured: all, refunded: all, stock: []change{sold(filter, 1)}, told: "placed confirmed shipped delivered refunded"})
}

func voidTriedAgain(s *scene) {
	o := s.customer("Ada").buys(declined, scale.times(1))
	o.goes("placed", "authorizing", "payment_failed: card_declined")
	s.staff("Ines").takesInHand(o)
	o.pays("tok_void_refused")
	o.goes("authorizing", "confirmed", "fulfilling")
	o.cancels(accepted)
	o.goes("stopping: cancelled_by_customer", "compensating: cancelled_by_customer", "needs_attention: void_refused")
	s.staff("Ines").resolves(o, "retry")
	o.goes(undone...)
	o.ends(outcome{told: "placed action_required confirmed cancelled"})
}
