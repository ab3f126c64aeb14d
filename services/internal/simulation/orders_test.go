package simulation

import (
	"errors"
	"slices"
	"time"

	"example.com/orderflow/messaging"
	"example.com/orderflow/messaging/contracts"
	"example.com/orderflow/orders"
)

// order is an order's rows in the database of orders.
type order struct {
	orders.Order
	history []orders.Entry
	before  orders.Order // the row as it was before the last commit
	told    int          // the version that the status feed was told last
}

// find returns the order id; nil when there is none.
func (w *world) find(id string) *order {
	for _, o := range w.orders {
		if o.ID == id {
			return o
		}
	}
	return nil
}

// withLines are the kinds for which the lines are read, as in orders' handlers.
var withLines = []string{contracts.KindStockPartiallyReserved, contracts.KindShipmentPacked, contracts.KindShipmentLost}

// read is o's row as the service's statements read it: with lines, returns and
// refunds only where deciding needs them.
func (o *order) read(lines, all bool) orders.Order {
	row := o.Order
	if all {
		return row
	}
	if !lines {
		row.Lines = nil
	}
	row.Returns, row.Refunds = nil, nil
	return row
}

// ordersHear decides on an event that orders gets.
func (w *world) ordersHear(m messaging.Body) ([]messaging.Body, func()) {
	o := w.find(m.Order())
	if o == nil {
		w.broken("%T is about no order", m)
	}
	all := o.Status == orders.Delivered || o.Status == orders.Refunding
	in := orders.Input{On: m.Kind(), Body: m, At: w.now}
	if m.Kind() == contracts.KindShipmentLost {
		in.ID = w.newID()
	}
	return w.decide(o, o.read(slices.Contains(withLines, m.Kind()), all), in)
}

// decide has in happen to o, whose row was read as row. commit writes what follows
// as orders' store does.
func (w *world) decide(o *order, row orders.Order, in orders.Input) ([]messaging.Body, func()) {
	step, err := w.judge(o, row, in)
	if err != nil {
		w.note("  %v", err)
		w.sawIgnored(row, in, err)
		return nil, func() {}
	}
	return step.Sends, func() { w.write(o, row, step, in) }
}

// write commits step to o's rows, and checks them.
func (w *world) write(o *order, row orders.Order, step orders.Step, in orders.Input) {
	w.sawStep(o, row, step, in)
	o.before = o.Order
	was := o.Order
	if step.Dirty {
		o.Order = step.Order
		o.Lines, o.Returns, o.Refunds = was.Lines, was.Returns, was.Refunds
	}
	if step.Lines {
		o.Lines = step.Order.Lines
	}
	o.Returns = upsert(o.Returns, step.Returns, func(r orders.Return) string { return r.ID })
	o.Refunds = upsert(o.Refunds, step.Refunds, func(f orders.Refund) string { return f.ID })
	if step.Entry != nil {
		o.history = append(o.history, *step.Entry)
		w.note("  %s: %s -> %s (%s)", o.ID, step.Entry.From, step.Entry.Status, step.Entry.ReasonCode)
	}
	w.checkMove(o, was, step)
}

// upsert puts rows into list, by their keys, in a copy.
func upsert[T any](list, rows []T, key func(T) string) []T {
	if len(rows) == 0 {
		return list
	}
	list = slices.Clone(list)
	for _, r := range rows {
		if i := slices.IndexFunc(list, func(l T) bool { return key(l) == key(r) }); i >= 0 {
			list[i] = r
		} else {
			list = append(list, r)
		}
	}
	return list
}

// place stores a new order, for up to three pieces of each SKU.
func (w *world) place() {
	o := &order{Order: orders.Order{
		ID: w.newID(), ReservationID: w.newID(), PaymentID: w.newID(), CaptureID: w.newID(),
		CustomerID: "c", Class: messaging.Standard, Currency: "EUR", PaymentToken: "tok", AllowPartial: w.below(2) == 1,
	}}
	for i, sku := range skus {
		if n := w.below(3) + 1 - i; n > 0 { // of the second perhaps none
			o.Lines = append(o.Lines, orders.Line{SKU: sku, Name: sku, Quantity: n, UnitPriceMinor: prices[i]})
			o.TotalMinor += int64(n) * prices[i]
		}
	}
	w.note("a customer places order %s for %d", o.ID, o.TotalMinor)
	step, err := w.judge(o, o.Order, orders.Input{On: orders.Place, At: w.now})
	if err != nil {
		w.broken("place: %v", err)
	}
	if w.fate() == crashesBefore {
		w.saw("crash before the commit")
		return // the customer hears of nothing
	}
	w.orders = append(w.orders, o)
	w.write(o, orders.Order{}, step, orders.Input{On: orders.Place})
	o.Lines = step.Order.Lines
	w.send(step.Sends...)
}

// act has a customer, an operator or the clock do in to o, in a transaction of its
// own, which reads all that there is.
func (w *world) act(o *order, in orders.Input) {
	w.note("%s happens to %s while %s", in.On, o.ID, o.Status)
	in.At = w.now
	sends, commit := w.decide(o, o.read(true, true), in)
	w.transact(sends, commit)
}

func (w *world) transact(sends []messaging.Body, commit func()) {
	if w.fate() == crashesBefore {
		w.saw("crash before the commit")
		return
	}
	commit()
	w.send(sends...)
}

// deadline lets o's deadline be up.
func (w *world) deadline(o *order) {
	w.note("the deadline of %s is up while %s", o.ID, o.Status)
	all := o.Status == orders.Placed || o.Status == orders.Delivered || o.Status == orders.Refunding
	in := orders.Input{On: orders.DeadlineUp, At: w.now}
	row := o.read(false, all)
	if step, err := w.judge(o, row, in); err != nil {
		if errors.Is(err, orders.ErrIllegal) {
			w.broken("deadline of %s: %v", o.ID, err)
		}
	} else {
		w.transact(step.Sends, func() { w.write(o, row, step, in) })
	}
}

// customerActs has the customer of o do something that customers do, at any moment.
func (w *world) customerActs(o *order) {
	in := orders.Input{}
	switch o.Status {
	case orders.AwaitingCustomer:
		in.On = []string{orders.Accept, orders.Accept, orders.Refuse, orders.Cancel}[w.below(4)]
	case orders.PaymentFailed:
		in.On = []string{orders.Pay, orders.Pay, orders.Pay, orders.Cancel}[w.below(4)]
	case orders.Delivered, orders.Refunding:
		in.On = orders.AskReturn
	default:
		in.On = orders.Cancel
		if w.below(4) == 0 {
			in.On = []string{orders.Accept, orders.Pay, orders.AskReturn, orders.Refuse}[w.below(4)]
		}
	}
	switch in.On {
	case orders.Pay:
		in.PaymentToken, in.CaptureID = "tok", w.newID()
	case orders.AskReturn:
		in.ID, in.Lines = w.newID(), w.someOf(o)
	}
	w.act(o, in)
}

// operatorActs has an operator do something to o: resolve it when it needs
// attention, else refund goods that the customer keeps.
func (w *world) operatorActs(o *order) {
	in := orders.Input{On: orders.OperatorRefund, ID: w.newID()}
	if o.Status == orders.NeedsAttention {
		in.On = []string{orders.OperatorRetry, orders.OperatorCancel}[w.below(2)]
	} else {
		in.Lines = w.someOf(o)
	}
	w.act(o, in)
}

// someOf are some pieces of o, perhaps more than the customer has.
func (w *world) someOf(o *order) []contracts.Line {
	var list []contracts.Line
	for _, l := range o.Lines {
		if n := w.below(l.Quantity + 1); n > 0 {
			list = append(list, contracts.Line{SKU: l.SKU, Quantity: n})
		}
	}
	return list
}

// rules are the durations of orders with holds of that length.
func rules(hold time.Duration) orders.Rules {
	return orders.Rules{
		Hold: hold, ReturnWindow: 14 * 24 * time.Hour,
		Deadlines: map[orders.Status]time.Duration{
			orders.Placed: 15 * time.Second, orders.AwaitingCustomer: 15 * time.Minute, orders.Authorizing: time.Minute,
			orders.PaymentFailed: 15 * time.Minute, orders.Confirmed: 15 * time.Second, orders.Fulfilling: time.Minute,
			orders.Stopping: 15 * time.Second, orders.Capturing: time.Minute, orders.Dispatching: time.Hour,
			orders.Shipped: time.Hour, orders.Delivered: 7 * 24 * time.Hour, orders.Refunding: time.Minute,
			orders.Compensating: time.Minute,
		},
	}
}
