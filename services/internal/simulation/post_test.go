package simulation

import (
	"slices"

	"example.com/orderflow/inventory"
	"example.com/orderflow/messaging"
	"example.com/orderflow/notifications"
	"example.com/orderflow/orders"
	"example.com/orderflow/payments"
)

// routes is which services' queues get a kind, as the services declare it.
var routes = func() map[string][]string {
	m := map[string][]string{}
	for _, s := range []messaging.Spec{orders.Spec(), inventory.Spec(), payments.Spec(), notifications.Spec()} {
		for _, q := range s.Queues {
			for _, k := range q.Kinds {
				m[k] = append(m[k], s.Name)
			}
		}
	}
	return m
}()

// letter is a message to one service: committed, so never lost.
type letter struct {
	n      int // its id
	to     string
	body   messaging.Body
	done   int  // how often its effect was committed; the inbox has it after the first time
	buried bool // dead, and discarded by an operator
}

// delivery is a row of a queue: a letter, or one more copy of it.
type delivery struct {
	*letter
	lease int // counts the claims: a consumer whose lease is over is fenced by it
	jobs  int // consumers that have it in hand
}

// send puts bodies, which were committed, into the queues of those who get them.
func (w *world) send(bodies ...messaging.Body) {
	for _, b := range bodies {
		w.told(b)
		for _, to := range routes[b.Kind()] {
			l := &letter{n: len(w.letters), to: to, body: b}
			w.letters = append(w.letters, l)
			w.post = append(w.post, &delivery{letter: l})
			w.note("  sent #%d to %s: %T%+v", l.n, to, b, b)
		}
	}
}

// fate is what becomes of a transaction and of the consumer that runs it.
type fate int

const (
	goesWell       fate = iota
	crashesBefore       // the commit: nothing has happened
	crashesAfter        // the commit, or hears an error from it: the message comes again
	repeatedBefore      // all goes well, and the transport brings it once more
)

func (w *world) fate() fate {
	if w.calm {
		return goesWell
	}
	switch w.below(12) {
	case 1:
		return crashesBefore
	case 2:
		return crashesAfter
	case 3:
		return repeatedBefore
	}
	return goesWell
}

// ack takes d off its queue.
func (w *world) ack(d *delivery) {
	if i := slices.Index(w.post, d); i >= 0 {
		w.post = slices.Delete(w.post, i, i+1)
	}
}

// deliver has a message handled in one transaction: effect, inbox, what is sent and
// the ack are committed together, or nothing is.
func (w *world) deliver(d *delivery) {
	if d.to == "payments" {
		w.claim(d)
		return
	}
	f := w.fate()
	w.note("#%d %T to %s, %v", d.n, d.body, d.to, f)
	if f == repeatedBefore {
		w.post = append(w.post, &delivery{letter: d.letter})
		w.saw("message doubled")
	}
	if d.done > 0 && !w.off(inboxRead) {
		w.saw("message known from the inbox")
		w.ack(d)
		return
	}
	sends, commit := w.handle(d)
	if f == crashesBefore {
		w.saw("crash before the commit")
		if w.off(ackAfterCommit) {
			w.ack(d)
		}
		if w.off(publishInTransaction) {
			w.send(sends...)
		}
		return
	}
	commit()
	w.handled(d.letter)
	w.send(sends...)
	if f == crashesAfter {
		w.saw("crash after the commit")
		return
	}
	w.ack(d)
}

// handle decides on d for the service that gets it; commit writes what was decided.
func (w *world) handle(d *delivery) (sends []messaging.Body, commit func()) {
	switch d.to {
	case "orders":
		return w.ordersHear(d.body)
	case "inventory":
		return w.warehouseHears(d)
	}
	return nil, func() { w.mails[d.n]++ } // notifications
}

// handled notes that the effect of l is committed.
func (w *world) handled(l *letter) {
	l.done++
	if l.done > 1 {
		w.broken("message #%d (%T) to %s has had its effect %d times", l.n, l.body, l.to, l.done)
	}
}

// bury has d, which can't be handled, end as a dead letter that is discarded.
func (w *world) bury(d *delivery, why string) {
	w.note("#%d is dead: %s", d.n, why)
	d.buried = true
	w.ack(d)
}
