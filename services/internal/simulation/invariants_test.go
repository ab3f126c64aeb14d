package simulation

import (
	"slices"

	"example.com/orderflow/inventory"
	"example.com/orderflow/messaging"
	"example.com/orderflow/messaging/contracts"
	"example.com/orderflow/orders"
	"example.com/orderflow/payments"
)

// What must hold always, and what at rest: the last section of the order's document.

// legal are the moves of an order, from the document's table, by hand.
var legal = map[orders.Status][]orders.Status{
	orders.Unplaced:         {orders.Placed},
	orders.Placed:           {orders.Authorizing, orders.AwaitingCustomer, orders.Rejected, orders.Compensating, orders.NeedsAttention},
	orders.AwaitingCustomer: {orders.Authorizing, orders.Compensating},
	orders.Authorizing:      {orders.Confirmed, orders.Capturing, orders.PaymentFailed, orders.Compensating, orders.NeedsAttention},
	orders.PaymentFailed:    {orders.Authorizing, orders.Compensating},
	orders.Confirmed:        {orders.Fulfilling, orders.Capturing, orders.Compensating, orders.NeedsAttention},
	orders.Fulfilling:       {orders.Stopping, orders.Capturing, orders.Compensating, orders.NeedsAttention},
	orders.Stopping:         {orders.Capturing, orders.Compensating, orders.NeedsAttention},
	orders.Capturing:        {orders.Dispatching, orders.PaymentFailed, orders.NeedsAttention},
	orders.Dispatching:      {orders.Shipped, orders.Delivered, orders.Refunding, orders.NeedsAttention},
	orders.Shipped:          {orders.Delivered, orders.Refunding, orders.NeedsAttention},
	orders.Delivered:        {orders.Delivered, orders.Refunding, orders.Completed, orders.NeedsAttention},
	orders.Refunding:        {orders.Refunding, orders.Refunded, orders.Delivered, orders.NeedsAttention},
	orders.Compensating:     {orders.Cancelled, orders.Rejected, orders.Expired, orders.NeedsAttention},
	orders.NeedsAttention: {
		orders.Placed, orders.Authorizing, orders.Confirmed, orders.Fulfilling, orders.Stopping, orders.Capturing, orders.Dispatching,
		orders.Shipped, orders.Delivered, orders.Refunding, orders.Compensating,
	},
}

// checkMove checks what a commit has made of o, which was was.
func (w *world) checkMove(o *order, was orders.Order, step orders.Step) {
	last := orders.Entry{}
	if n := len(o.history); n > 0 {
		last = o.history[n-1]
	}
	switch {
	case o.Version != last.Version || o.Status != last.Status || o.Version != len(o.history):
		w.broken("order %s is %s in version %d, its history of %d rows ends as %s in version %d", o.ID, o.Status, o.Version, len(o.history), last.Status, last.Version)
	case step.Entry == nil:
		return
	case last.From != was.Status || last.Version != was.Version+1 || last.At.Before(was.ChangedAt):
		w.broken("order %s was %s in version %d, its next history row goes from %s in version %d", o.ID, was.Status, was.Version, last.From, last.Version)
	case was.Status.Ended():
		w.broken("order %s moves from its end %s to %s", o.ID, was.Status, o.Status)
	}
	for _, to := range legal[was.Status] {
		if to == o.Status {
			return
		}
	}
	w.broken("order %s moves from %s to %s", o.ID, was.Status, o.Status)
}

// told checks the status feed: it tells each version of an order once, in order.
func (w *world) told(b messaging.Body) {
	m, ok := b.(contracts.OrderStatusChanged)
	if !ok {
		return
	}
	o := w.find(m.OrderID)
	if o == nil || m.Version != o.told+1 {
		w.broken("version %d of order %s is told again, or before its time", m.Version, m.OrderID)
	}
	o.told = m.Version
}

// checkIntent checks that what the provider is asked for was recorded before.
func (w *world) checkIntent(r request) {
	if c := w.desk.calls[r.key]; c == nil || c.op != r.op {
		w.broken("the provider is asked to %s under %s without a recorded intent", r.op, r.key)
	}
}

// undone reports whether s is an end that leaves no money and no stock with us.
func undone(s orders.Status) bool {
	return s == orders.Cancelled || s == orders.Rejected || s == orders.Expired
}

// checkAlways checks what must hold after every step.
func (w *world) checkAlways() {
	for sku, c := range w.shelf.stock {
		reserved, sold, writtenOff := w.shelf.holds(sku)
		if c.initial != c.available+c.reserved+c.sold+c.writtenOff || c.available < 0 || c.reserved < 0 || c.sold < 0 || c.writtenOff < 0 {
			w.broken("the stock of %s doesn't add up: %+v", sku, *c)
		}
		if c.reserved != reserved || c.sold != sold || c.writtenOff != writtenOff {
			w.broken("the stock of %s is %+v, its reservations say %d reserved, %d sold, %d written off", sku, *c, reserved, sold, writtenOff)
		}
	}
	for _, o := range w.orders {
		w.checkMoney(o)
		r := w.shelf.find(o.ReservationID)
		if r == nil {
			continue
		}
		if left := r.Status == inventory.Shipped || r.Status == inventory.Delivered || r.Status == inventory.Lost; left && w.captured(o) == 0 {
			w.broken("order %s is %s in the warehouse and not paid", o.ID, r.Status)
		}
		if o.Status.Ended() && (r.Status == inventory.Held || r.Status == inventory.Picking || r.Status == inventory.Packed) {
			w.broken("order %s has ended as %s and its reservation is %s", o.ID, o.Status, r.Status)
		}
	}
	for _, b := range w.desk.ledger {
		w.checkBooking(b)
	}
}

// captured is what the provider has taken for o.
func (w *world) captured(o *order) (minor int64) {
	for _, a := range w.provider.auths {
		if a.reference == o.ID {
			minor += a.CapturedMinor
		}
	}
	return minor
}

// refunded is what the provider has given back for o.
func (w *world) refunded(o *order) (minor int64) {
	for _, a := range w.provider.auths {
		if a.reference == o.ID {
			minor += a.RefundedMinor
		}
	}
	return minor
}

// checkMoney checks what the provider has of o.
func (w *world) checkMoney(o *order) {
	captures := 0
	for _, a := range w.provider.auths {
		if a.reference != o.ID {
			continue
		}
		switch a.Status {
		case payments.Taken:
			captures++
			if a.CapturedMinor != due(o) {
				w.broken("order %s is for %d, %d was taken", o.ID, due(o), a.CapturedMinor)
			}
		case payments.Approved:
			if o.Status.Ended() && !w.awaitsReconciliation(a) {
				w.broken("order %s has ended as %s and %d is set aside for it", o.ID, o.Status, a.AmountMinor)
			}
		}
		if a.RefundedMinor > a.CapturedMinor {
			w.broken("order %s: %d was given back of %d", o.ID, a.RefundedMinor, a.CapturedMinor)
		}
	}
	if captures > 1 {
		w.broken("order %s is charged %d times", o.ID, captures)
	}
	if undone(o.Status) && captures > 0 {
		w.broken("order %s has ended as %s and is charged", o.ID, o.Status)
	}
	if back := w.refunded(o); back > repaid(o) {
		w.broken("order %s: %d was given back, %d is owed", o.ID, back, repaid(o))
	}
}

// due is what the customer of o pays for what is packed.
func due(o *order) (minor int64) {
	for _, l := range o.Lines {
		minor += int64(l.Quantity-l.Missing-l.Short) * l.UnitPriceMinor
	}
	return minor
}

// repaid is what the customer gets back for what was returned, lost or refunded.
func repaid(o *order) (minor int64) {
	for _, l := range o.Lines {
		minor += int64(l.Refunded) * l.UnitPriceMinor
	}
	return minor
}

// checkBooking checks that a row of our ledger is in the provider's books.
func (w *world) checkBooking(b booking) {
	for _, a := range w.provider.auths {
		if b.kind == "capture" && a.Ref == b.ref && a.CapturedMinor == b.amount {
			return
		}
	}
	for _, f := range w.provider.refunds {
		if b.kind == "refund" && f.Ref == b.ref && f.Status == payments.Refunded && f.AmountMinor == b.amount {
			return
		}
	}
	w.broken("our ledger has a %s of %d that the provider doesn't know", b.kind, b.amount)
}

// checkAtRest checks what must hold when nothing is under way.
func (w *world) checkAtRest() {
	moved := 0
	for _, a := range w.provider.auths {
		if a.Status == payments.Taken {
			moved++
		}
		if _, is := w.desk.stray(a); is {
			w.broken("%d is set aside for order %s that no attempt to pay came to", a.AmountMinor, a.reference)
		}
	}
	for _, f := range w.provider.refunds {
		if f.Status == payments.Refunded {
			moved++
		}
	}
	if moved != len(w.desk.ledger) {
		w.broken("the provider has %d captures and refunds in its books, our ledger %d", moved, len(w.desk.ledger))
	}
	for _, o := range w.orders {
		owed := due(o) - repaid(o)
		if undone(o.Status) || !o.Captured {
			owed = 0
		}
		if kept := w.captured(o) - w.refunded(o); kept != owed {
			w.broken("order %s is %s and for %d, we keep %d", o.ID, o.Status, owed, kept)
		}
		w.checkGoods(o)
	}
	for _, l := range w.letters {
		if l.done != 1 && !l.buried {
			w.broken("message #%d (%T) to %s has had its effect %d times", l.n, l.body, l.to, l.done)
		}
		if l.to == "notifications" && w.mails[l.n] != 1 {
			w.broken("the customer is told %d times of message #%d (%T)", w.mails[l.n], l.n, l.body)
		}
	}
}

// checkGoods compares o's lines with what has left the house.
func (w *world) checkGoods(o *order) {
	if !o.Dispatched {
		return
	}
	r := w.shelf.find(o.ReservationID)
	left := soldOf(r.Reservation)
	for _, l := range o.Lines {
		want := l.Quantity - l.Missing - l.Short - l.Returned
		for _, t := range w.shelf.returns { // what was refunded without waiting for it may come back all the same
			if t.Received && slices.ContainsFunc(o.Returns, func(r orders.Return) bool { return r.ID == t.ID && r.Status == "dropped" }) {
				want -= quantity(t.Lines, l.SKU)
			}
		}
		if left[l.SKU] != want {
			w.broken("order %s: %d pieces of %s are out of the house, the order says %d", o.ID, left[l.SKU], l.SKU, want)
		}
	}
}

// checkEnd checks that everything has ended.
func (w *world) checkEnd() {
	for _, o := range w.orders {
		if !o.Status.Ended() {
			w.broken("order %s ends as %s", o.ID, o.Status)
		}
		for _, f := range o.Refunds {
			if f.Status != "succeeded" {
				w.broken("refund %s of order %s ends as %s", f.ID, o.ID, f.Status)
			}
		}
		w.saw("ended as " + string(o.Status))
	}
}
