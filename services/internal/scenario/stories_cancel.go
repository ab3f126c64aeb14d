package scenario

import "fmt"

func cancelling() []Story {
	return []Story{
		{Name: "cancelled-at-once", Title: "The customer cancels before the stock has been looked at.", Whole: true, tell: cancelledAtOnce},
		{Name: "cancelled-while-deciding", Title: "Only a part is there; the customer cancels.", tell: cancelledWhileDeciding},
		{Name: "cancelled-while-paying", Title: "The customer cancels while the payment is under way.", tell: cancelledWhilePaying},
		{Name: "cancelled-after-a-decline", Title: "The bank declines, and the customer cancels.", tell: cancelledAfterADecline},
		{Name: "cancelled-before-picking", Title: "The customer cancels a confirmed order.", Whole: true, tell: cancelledBeforePicking},
		{Name: "cancelled-while-picked", Title: "The customer cancels while the goods are being picked.", tell: cancelledWhilePicked},
		{Name: "cancel-overtaken", Title: "The warehouse has packed before it hears of the cancel.", Whole: true, tell: cancelOvertaken},
		{Name: "cancelled-too-late", Title: "What has left the house can't be cancelled, but sent back.", tell: cancelledTooLate},
	}
}

// undone is the end of an order that its customer has cancelled.
var undone = []string{"compensating: cancelled_by_customer", "cancelled: cancelled_by_customer"}

func cancelledAtOnce(s *scene) {
	var o *order
	s.while("inventory", func() {
		o = s.customer("Ada").buys(byCard, towel.times(4))
		o.goes("placed")
		o.cancels(accepted)
		o.goes(undone[0])
	})
	o.goes(undone[1])
	o.ends(outcome{told: "placed cancelled"})
}

func cancelledWhileDeciding(s *scene) {
	o := partly(s)
	o.cancels(accepted)
	o.goes(undone...)
	o.ends(outcome{told: "placed action_required cancelled"})
}

func cancelledWhilePaying(s *scene) {
	o := s.customer("Ada").buys(slowly, pot.times(1))
	o.goes("placed", "authorizing")
	o.cancels(accepted)
	o.goes(undone...)
	o.cancels(ok) // asked again, it is the same
	o.ends(outcome{told: "placed cancelled"})
}

func cancelledAfterADecline(s *scene) {
	o := s.customer("Ada").buys(declined, pot.times(1))
	o.goes("placed", "authorizing", "payment_failed: card_declined")
	o.cancels(accepted)
	o.goes(undone...)
	o.ends(outcome{told: "placed action_required cancelled"})
}

func cancelledBeforePicking(s *scene) {
	o := s.customer("Ada").buys(slowly, towel.times(2))
	o.goes("placed", "authorizing")
	s.while("inventory", func() {
		o.goes("confirmed")
		o.cancels(accepted)
		o.goes(undone[0])
	})
	o.goes(undone[1])
	o.ends(outcome{told: "placed confirmed cancelled"})
}

func cancelledWhilePicked(s *scene) {
	o := s.customer("Ada").buys(slowly, towel.times(2))
	o.goes("placed", "authorizing")
	s.staff("Ines").takesInHand(o)
	o.goes("confirmed", "fulfilling")
	o.cancels(accepted)
	o.goes("stopping: cancelled_by_customer")
	o.goes(undone...)
	o.ends(outcome{told: "placed confirmed cancelled"})
}

func cancelOvertaken(s *scene) {
	o := s.customer("Ada").buys(slowly, towel.times(2))
	o.goes("placed", "authorizing")
	ines := s.staff("Ines")
	ines.takesInHand(o)
	o.goes("confirmed", "fulfilling")
	s.while("inventory", func() {
		o.cancels(accepted)
		o.goes("stopping: cancelled_by_customer")
		ines.packs(o, towel.times(2))
		o.goes("capturing", "dispatching")
		o.cancels(tooLate)
	})
	ines.moves(o, "dispatch")
	ines.moves(o, "deliver")
	o.goes("shipped", "delivered")
	o.ends(outcome{
		captured: 2 * towel.price,
		stock:    []change{sold(towel, 2)},
		told:     "placed confirmed cancel_refused shipped delivered",
	})
}

func cancelledTooLate(s *scene) {
	o := s.customer("Ada").buys(byCard, towel.times(1))
	o.goes("placed", "authorizing")
	o.goes(toTheDoor...)
	if a := o.cancels(tooLate); s.err == nil && a.Header.Get("Link") != "<"+o.path()+`/returns>; rel="related"` {
		s.fails(o.id, "a link to its returns", fmt.Sprintf("%q", a.Header.Get("Link")))
	}
	s.staff("Ines").takesInHand(o)
	back := o.sendsBack(accepted, towel.times(1))
	o.goes("delivered: return_announced")
	s.staff("Ines").receives(o, back)
	o.goes("refunding: returned", "refunded: returned")
	o.cancels(tooLate)
	o.ends(outcome{captured: towel.price, refunded: towel.price, told: "placed confirmed shipped delivered refunded"})
}
