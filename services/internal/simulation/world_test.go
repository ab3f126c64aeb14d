package simulation

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"example.com/orderflow/inventory"
	"example.com/orderflow/messaging/contracts"
	"example.com/orderflow/orders"
)

// world is a shop with a few orders, from the first to when all have ended.
type world struct {
	chance
	without guard // the guard that is switched off; "" = none
	tally   *tally
	story   *strings.Builder // nil = nobody reads it

	now      time.Time
	rules    orders.Rules
	decider  inventory.Decider
	orders   []*order
	shelf    warehouse
	desk     *desk
	provider *provider
	mails    map[int]int // rows of notifications, by the event's letter

	letters []*letter   // all that were ever sent
	post    []*delivery // the queues
	jobs    []*job      // leased messages in hand
	running *job        // that has the turn

	calm     bool // nothing goes wrong any more
	troubled bool // the provider does badly
	poor     bool // customers' banks refuse often
	slow     int  // from that step on messages are: deadlines pass before they are there
	ids      int
	steps    int
}

// noon is when every world begins.
var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// newWorld is a shop as chance makes it.
func newWorld(c chance, without guard, t *tally) *world {
	w := &world{chance: c, without: without, tally: t, now: noon, mails: map[int]int{}}
	w.rules = rules([]time.Duration{20 * time.Second, 4 * time.Minute, 30 * time.Minute}[w.below(3)])
	w.decider = inventory.Decider{Pick: 5 * time.Second, Dispatch: 5 * time.Second, Deliver: 10 * time.Minute, GiveBack: time.Hour}
	w.troubled, w.poor, w.slow = w.below(3) == 1, w.below(6) == 1, math.MaxInt
	if w.below(4) == 1 {
		w.slow = w.below(120)
	}
	w.shelf.stock = map[string]*counters{}
	for i, sku := range skus {
		n := int64(w.below(6) + 2 - i)
		w.shelf.stock[sku] = &counters{initial: n, available: n}
	}
	w.provider = &provider{w: w, kept: map[string]*answer{}, doubtful: map[string]bool{}}
	w.desk = newDesk(w, w.gateway())
	return w
}

// newID is a fresh id, in the form of a UUID.
func (w *world) newID() string {
	w.ids++
	return ids[w.ids%len(ids)]
}

var ids = func() (list [4096]string) {
	for i := range list {
		list[i] = fmt.Sprintf("00000000-0000-7000-8000-%012d", i)
	}
	return list
}()

// off reports whether g is switched off.
func (w *world) off(g guard) bool { return w.without == g }

// saw counts a situation.
func (w *world) saw(what string) { w.tally.seen[what]++ }

// note writes what happens into the story.
func (w *world) note(format string, args ...any) {
	if w.story != nil {
		fmt.Fprintf(w.story, "%s "+format+"\n", append([]any{w.now.Sub(noon)}, args...)...)
	}
}

// violation is the panic of a world in which something is wrong.
type violation string

func (w *world) broken(format string, args ...any) {
	panic(violation(fmt.Sprintf(format, args...)))
}

// run lets things happen, and go wrong, for a while; then all is well and
// everything must come to its end.
func (w *world) run() {
	defer w.close()
	most, steps := 1+w.below(3), 20+w.below(100)
	if w.below(2) == 1 {
		steps += 20 + w.below(120) // what comes late in an order's life, too
	}
	for range steps {
		w.step(most)
	}
	w.heal()
	w.tally.steps += w.steps
}

func (w *world) close() {
	for _, j := range w.jobs {
		j.stop()
	}
}

// doing is something that can happen now.
type doing struct {
	weight int
	do     func()
}

// step lets one thing happen and looks whether all is right.
func (w *world) step(most int) {
	w.steps++
	var list [12]doing
	can := list[:0]
	add := func(weight int, do func()) { can = append(can, doing{weight, do}) }
	if len(w.orders) < most {
		add(4, w.place)
	}
	if n := len(w.post); n > 0 {
		weight := 16
		if w.steps > w.slow {
			weight = 3
		}
		add(weight, func() { w.deliverOne(w.post[w.below(min(n, 100))]) })
		add(1, func() { w.double(w.post[w.below(min(n, 100))]) })
		add(1, func() { w.lose(w.post[w.below(min(n, 100))]) })
	}
	if n := len(w.jobs); n > 0 {
		add(20, func() { w.carryOn(w.jobs[w.below(n)]) })
		add(1, func() { w.kill(w.jobs[w.below(n)]) })
	}
	if n := len(w.provider.late); n > 0 {
		add(2, func() { w.provider.arrive(w.below(n)) })
	}
	if due := w.due(); due > 0 {
		add(10, func() { w.happenDue(w.below(due)) })
	}
	if n := len(w.orders); n > 0 {
		add(2, func() { w.customerActs(w.orders[w.below(n)]) })
		add(1, func() { w.operator(w.orders[w.below(n)]) })
	}
	if len(w.desk.strays()) > 0 {
		add(1, w.reconcile)
	}
	if len(w.post)+len(w.jobs) > 0 && w.steps <= w.slow {
		add(2, w.timePasses)
	} else {
		add(8, w.timePasses)
	}
	total := 0
	for _, d := range can {
		total += d.weight
	}
	at := w.below(total)
	for _, d := range can {
		if at -= d.weight; at < 0 {
			d.do()
			break
		}
	}
	w.checkAlways()
}

// deliverOne delivers d, unless a consumer has it: then its lease may be over.
func (w *world) deliverOne(d *delivery) {
	if d.jobs > 0 && w.below(4) > 0 {
		return
	}
	w.deliver(d)
}

// double has a transport bring d once more.
func (w *world) double(d *delivery) {
	w.note("#%d is doubled", d.n)
	w.saw("message doubled")
	w.post = append(w.post, &delivery{letter: d.letter})
}

// lose has d, between services, discarded by a mistaken operator: what waits for it
// must ask again.
func (w *world) lose(d *delivery) {
	if d.to == "notifications" || d.jobs > 0 || w.below(2) == 0 {
		return
	}
	w.saw("message discarded")
	w.bury(d, "discarded")
}

// operator has an operator look at o, which is needed more often when it needs
// attention.
func (w *world) operator(o *order) {
	if o.Status == orders.NeedsAttention || w.below(4) == 0 {
		w.operatorActs(o)
	}
}

// dueOrders, dueSteps and dueReturns are what the schedules of the services find.
func (w *world) isDue(at *time.Time) bool { return at != nil && !at.After(w.now) }

// due counts what is due by the clock.
func (w *world) due() int {
	n := 0
	for _, o := range w.orders {
		if w.isDue(o.Deadline) {
			n++
		}
	}
	for _, r := range w.shelf.reservations {
		if w.isDue(r.due) {
			n++
		}
	}
	for _, t := range w.shelf.returns {
		if w.isDue(t.due) {
			n++
		}
	}
	return n
}

// happenDue lets the nth thing happen that is due.
func (w *world) happenDue(n int) {
	for _, o := range w.orders {
		if w.isDue(o.Deadline) {
			if n == 0 {
				w.deadline(o)
				return
			}
			n--
		}
	}
	for _, r := range w.shelf.reservations {
		if w.isDue(r.due) {
			if n == 0 {
				w.warehouseSteps(r)
				return
			}
			n--
		}
	}
	for _, t := range w.shelf.returns {
		if w.isDue(t.due) {
			if n == 0 {
				w.receive(t)
				return
			}
			n--
		}
	}
}

// next is when the next thing falls due; nil when nothing does.
func (w *world) next(within func(*order) bool) *time.Time {
	var first *time.Time
	look := func(at *time.Time) {
		if at != nil && (first == nil || at.Before(*first)) {
			first = at
		}
	}
	for _, o := range w.orders {
		if within(o) {
			look(o.Deadline)
		}
	}
	for _, r := range w.shelf.reservations {
		look(r.due)
	}
	for _, t := range w.shelf.returns {
		look(t.due)
	}
	return first
}

func anyOrder(*order) bool { return true }

// timePasses moves the clock to when the next thing is due, or by some time.
func (w *world) timePasses() {
	switch n := w.below(6); n {
	case 1:
		w.now = w.now.Add(time.Second)
	case 2:
		w.now = w.now.Add(time.Minute)
	default:
		if at := w.next(anyOrder); at != nil && at.After(w.now) {
			w.now = *at
		}
	}
	w.note("time passes")
}

// most is how many steps a healed world may take to its end.
const most = 4000

// heal lets nothing go wrong any more, and everything come to rest, then to its end.
func (w *world) heal() {
	w.calm = true
	w.note("from now on all is well")
	w.settle(orders.Status.Ended, func(o *order) bool { return !w.waitsForCustomer(o) })
	w.reconcileAll()
	w.checkAtRest()
	w.settle(orders.Status.Ended, anyOrder)
	w.reconcileAll()
	w.checkAtRest()
	w.checkEnd()
}

// waitsForCustomer reports whether o is at rest although it hasn't ended.
func (w *world) waitsForCustomer(o *order) bool {
	switch o.Status {
	case orders.AwaitingCustomer, orders.PaymentFailed:
		return true
	case orders.Delivered:
		return !slices.ContainsFunc(o.Returns, func(r orders.Return) bool { return r.Status == "expected" })
	}
	return false
}

// settle delivers, works and lets time pass until nothing is to be done and the
// orders of which within holds have ended.
func (w *world) settle(ended func(orders.Status) bool, within func(*order) bool) {
	for tries := 0; ; {
		if w.steps++; w.steps > most {
			w.broken("it doesn't come to an end: %s", w.standing())
		}
		switch {
		case len(w.jobs) > 0:
			w.carryOn(w.jobs[0])
		case len(w.post) > 0:
			w.deliver(w.post[0])
		case len(w.provider.late) > 0:
			w.provider.arrive(0)
		case w.due() > 0:
			w.happenDue(0)
		default:
			open := slices.IndexFunc(w.orders, func(o *order) bool { return !ended(o.Status) && within(o) })
			if open < 0 {
				return
			}
			if o := w.orders[open]; o.Status == orders.NeedsAttention {
				tries++
				w.resolve(o, tries)
				break
			}
			at := w.next(within)
			if at == nil {
				w.broken("nothing will ever happen to %s, which is %s", w.orders[open].ID, w.orders[open].Status)
			}
			w.now = maxTime(w.now, *at)
		}
		w.checkAlways()
	}
}

// resolve has an operator try again, and cancel what still needs attention.
func (w *world) resolve(o *order, tries int) {
	if tries%2 == 1 {
		w.act(o, orders.Input{On: orders.OperatorRetry})
	} else {
		w.act(o, orders.Input{On: orders.OperatorCancel, ID: w.newID()})
	}
}

func maxTime(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// standing is where everything stands, for the reader of a violation.
func (w *world) standing() string {
	var b strings.Builder
	for _, o := range w.orders {
		fmt.Fprintf(&b, "order %s is %s (%s)", o.ID, o.Status, o.ReasonCode)
		if r := w.shelf.find(o.ReservationID); r != nil {
			fmt.Fprintf(&b, ", its reservation %s", r.Status)
		}
		b.WriteString("; ")
	}
	fmt.Fprintf(&b, "%d messages and %d jobs are left", len(w.post), len(w.jobs))
	return b.String()
}

// quantity is how many pieces of sku are among lines.
func quantity(lines []contracts.Line, sku string) int {
	n := 0
	for _, l := range lines {
		if l.SKU == sku {
			n += l.Quantity
		}
	}
	return n
}
