package scenario

import (
	"fmt"
	"time"
)

// The shop's deadlines, as they are unless it is told otherwise, and a little more.
const (
	untilDecided  = 15*time.Minute + time.Second
	untilReleased = 30*time.Minute + time.Second
	untilKept     = 14*24*time.Hour + time.Second
)

func outOfStock() []Story {
	return []Story{
		{Name: "sold-out", Title: "There aren't enough; later there are.", tell: soldOut},
		{Name: "part-accepted", Title: "Only a part is there, and the customer takes it.", tell: partAccepted},
		{Name: "part-refused", Title: "Only a part is there, and the customer doesn't want it.", tell: partRefused},
		{Name: "part-undecided", Title: "Only a part is there, and the customer doesn't say.", Whole: true, tell: partUndecided},
	}
}

func soldOut(s *scene) {
	ada := s.customer("Ada")
	o := ada.buys(byCard, bowl.times(1000))
	o.goes("placed", "rejected: out_of_stock")
	o.ends(outcome{told: "placed rejected"})
	s.staff("Ines").restocks(bowl, 1)
	o = ada.buys(byCard, bowl.times(1))
	o.goes("placed", "authorizing")
	o.goes(toTheDoor...)
	o.ends(outcome{captured: bowl.price, stock: []change{sold(bowl, 1)}, told: "placed confirmed shipped delivered"})
}

// partly orders two mugs, and a set of which there is none.
func partly(s *scene) *order {
	s.empties(set)
	o := s.customer("Ada").orders(wish{lines: lines(mug.times(2), set.times(1)), token: byCard, partial: true})
	o.goes("placed", "awaiting_customer: partly_out_of_stock")
	o.asksFor("stock_decision", "accept", "cancel")
	return o
}

func partAccepted(s *scene) {
	o := partly(s)
	o.decides("accept")
	o.goes("authorizing")
	o.goes(toTheDoor...)
	o.ends(outcome{
		captured: 2 * mug.price,
		stock:    []change{sold(mug, 2)},
		told:     "placed action_required amended confirmed shipped delivered",
	})
}

func partRefused(s *scene) {
	o := partly(s)
	o.decides("cancel")
	o.goes("compensating: cancelled_by_customer", "cancelled: cancelled_by_customer")
	o.ends(outcome{told: "placed action_required cancelled"})
}

func partUndecided(s *scene) {
	o := partly(s)
	s.advances(untilDecided, "Ada lets the time to decide pass")
	o.goes("compensating: not_decided", "expired: not_decided")
	o.ends(outcome{told: "placed action_required expired"})
}

// empties sees to it that none of p is left: somebody buys what there is, without
// being told of, as there are none to begin with.
func (s *scene) empties(p product) {
	bob := s.customer("Bob")
	s.awaits("", "no "+p.sku+" left", func() (string, error) {
		a, err := bob.client.Availability(s.ctx, p.sku)
		if err != nil || len(a.Products) == 1 && a.Products[0].Available == 0 {
			return "", err
		}
		if len(a.Products) == 0 {
			return "no such product", nil
		}
		left := min(a.Products[0].Available, 1000)
		_, err = bob.client.PlaceSurely(s.ctx, bob.placement(wish{lines: lines(p.times(int(left))), token: byCard}))
		return fmt.Sprintf("%d left", left), err
	})
}

func lines(list ...line) []line { return list }

func number(n int) string { return fmt.Sprint(n) }

func words(v any) string { return fmt.Sprintf("%+v", v) }
