package orders

import (
	"slices"

	"example.com/orderflow/messaging/contracts"
)

// Move is what a history row can say: from where, why and to where an order went.
// Who reads the history of orders, to check or to draw it, compares with Moves.
type Move struct {
	From   Status
	On     string // kind of a message, or an action
	To     Status
	EndsAs Status   // of one that begins to undo an order: how it will end; Unplaced of any other
	Sends  []string // kinds of which at least one message is sent with it, whatever the order is like, sorted
}

// Moves lists the moves that the transition table allows, each once. What stays
// where it is without a history row is none.
func Moves() []Move {
	var list []Move
	for _, t := range transitions {
		if t.Stays {
			continue
		}
		for _, f := range t.From {
			for _, trigger := range t.On {
				m := Move{From: f, On: trigger, To: t.To, Sends: t.alwaysSends()}
				if t.To == Compensating {
					m.EndsAs = t.EndsAs
				}
				i := slices.IndexFunc(list, func(o Move) bool { return o.From == m.From && o.On == m.On && o.To == m.To })
				if i < 0 {
					list = append(list, m)
					continue
				}
				// The same move for another reason: only what both send is sent always.
				list[i].Sends = slices.DeleteFunc(list[i].Sends, func(k string) bool { return !slices.Contains(m.Sends, k) })
			}
		}
	}
	return list
}

// alwaysSends are the kinds that t sends whatever the order is like, sorted. What
// is undone may have nothing to release or to void, and what an operator takes up
// again may have nothing to ask for again.
func (t Transition) alwaysSends() []string {
	kinds := []string{contracts.KindOrderStatusChanged}
	again := slices.Contains(t.From, NeedsAttention)
	for _, s := range t.Sends {
		if s.Kind != contracts.KindReleaseStock && s.Kind != contracts.KindVoidPayment && !again {
			kinds = append(kinds, s.Kind)
		}
	}
	slices.Sort(kinds)
	return slices.Compact(kinds)
}

// Legal reports whether a history row may say that an order went from from to to
// because of trigger.
func Legal(from Status, trigger string, to Status) bool {
	return slices.ContainsFunc(Moves(), func(m Move) bool { return m.From == from && m.On == trigger && m.To == to })
}
