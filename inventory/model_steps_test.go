package inventory

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"pgregory.net/rapid"

	"example.com/orderflow/messaging"
	"example.com/orderflow/messaging/contracts"
	"example.com/orderflow/messaging/messagingtest"
)

// The steps of TestModel: each does the same to the service and to the model.

func (w *world) reserve(rt *rapid.T) {
	var b *booked
	if len(w.orders) > 0 && rapid.IntRange(0, 4).Draw(rt, "again") == 0 {
		b = rapid.SampledFrom(w.orders).Draw(rt, "order")
	} else {
		b = &booked{order: newOrder(), held: pieces{}, off: pieces{}, back: pieces{}}
	}
	m := b.order.reserve()
	m.AllowPartial = rapid.Bool().Draw(rt, "partial")
	asked, short, have := pieces{}, false, 0
	for range rapid.IntRange(1, 4).Draw(rt, "lines") {
		sku, n := rapid.SampledFrom(w.skus).Draw(rt, "sku"), rapid.IntRange(1, 4).Draw(rt, "quantity")
		m.Lines, asked[sku] = append(m.Lines, contracts.Line{SKU: sku, Quantity: n}), asked[sku]+n
	}
	unknown := rapid.IntRange(0, 9).Draw(rt, "with an unknown SKU") == 0
	if unknown {
		m.Lines = append(m.Lines, contracts.Line{SKU: "NOPE-1", Quantity: 1})
	}
	if b.status != "" {
		w.sends(rt, m, "ignored", reserveAnswers(b))
		return
	}
	for sku, n := range asked {
		there := int(w.stock[sku].Available)
		short = short || there < n
		have += min(there, n)
	}
	w.orders = append(w.orders, b)
	if unknown || have == 0 || short && !m.AllowPartial {
		b.status = Rejected
		w.seen["rejected"]++
		w.sends(rt, m, "done", contracts.KindStockRejected)
		return
	}
	b.status, b.partial = Held, short
	if short {
		w.seen["partly held"]++
	}
	says := []string{reserveAnswers(b)}
	for sku, n := range asked {
		if n = min(n, int(w.stock[sku].Available)); n > 0 {
			b.held[sku] = n
			w.moves(sku, -n, n, 0, 0)
			if w.stock[sku].Available == 0 {
				says = append(says, contracts.KindStockLevelChanged)
			}
		}
	}
	w.sends(rt, m, "done", says...)
}

// reserveAnswers is what a repeated ReserveStock hears.
func reserveAnswers(b *booked) string {
	switch {
	case b.status == Rejected || b.status == Released:
		return contracts.KindStockRejected
	case b.status == Expired:
		return contracts.KindReservationExpired
	case b.partial:
		return contracts.KindStockPartiallyReserved
	}
	return contracts.KindStockReserved
}

// ends has b let its stock go.
func (w *world) ends(b *booked, status Status) {
	for sku := range b.held {
		w.moves(sku, b.left(sku), -b.left(sku), 0, 0)
	}
	b.status, b.asked = status, false
}

// goOn takes an order that has not ended a step further.
func (w *world) goOn(rt *rapid.T) {
	live := slices.DeleteFunc(slices.Clone(w.orders), func(b *booked) bool {
		return !slices.Contains([]Status{Held, Picking, Packed, Shipped, Delivered}, b.status)
	})
	if len(live) == 0 {
		return
	}
	w.next = rapid.SampledFrom(live).Draw(rt, "order")
	defer func() { w.next = nil }()
	switch b := w.next; {
	case b.status == Held:
		w.fulfil(rt)
	case b.status == Picking:
		w.pack(rt)
	case b.status == Packed && !b.asked:
		w.dispatch(rt)
	case b.status == Packed:
		w.handOver(rt)
	case b.status == Shipped:
		w.deliver(rt)
	case slices.ContainsFunc(b.returns, func(r *returning) bool { return !r.received }):
		w.receive(rt)
	default:
		w.sendBack(rt)
	}
}

func (w *world) release(rt *rapid.T) {
	b := w.one(rt, Held, Packed)
	switch b.status {
	case "":
		w.seen["released before it was reserved"]++
		b.status, w.orders = Released, append(w.orders, b)
		w.sends(rt, b.order.release(), "done", contracts.KindStockReleased)
	case Held, Picking, Packed:
		if b.status == Packed {
			w.seen["unpacked"]++
		}
		w.ends(b, Released)
		w.sends(rt, b.order.release(), "done", contracts.KindStockReleased)
	case Shipped, Delivered, Lost:
		w.sends(rt, b.order.release(), "ignored", onItsWay[b.status])
	default:
		w.sends(rt, b.order.release(), "ignored", contracts.KindStockReleased)
	}
}

func (w *world) stop(rt *rapid.T) {
	b := w.one(rt, Picking)
	switch b.status {
	case "":
		b.status, w.orders = Released, append(w.orders, b)
		w.sends(rt, b.order.stop(), "done", contracts.KindStockReleased)
	case Held, Picking:
		w.seen["stopped"]++
		w.ends(b, Released)
		w.sends(rt, b.order.stop(), "done", contracts.KindStockReleased)
	case Packed, Shipped, Delivered, Lost:
		w.seen["too late to stop"]++
		w.sends(rt, b.order.stop(), "ignored", contracts.KindShipmentPacked)
	default:
		w.sends(rt, b.order.stop(), "ignored", contracts.KindStockReleased)
	}
}

func (w *world) fulfil(rt *rapid.T) {
	b := w.one(rt, Held)
	found := 0
	for sku := range b.held {
		found += b.held[sku] - b.off[sku]
	}
	switch b.status {
	case Held:
		b.status = Picking
		w.sends(rt, b.order.fulfil(), "done", contracts.KindFulfilmentStarted)
	case Picking:
		w.sends(rt, b.order.fulfil(), "ignored", contracts.KindFulfilmentStarted)
	case Packed, Shipped, Delivered, Lost:
		w.sends(rt, b.order.fulfil(), "ignored", contracts.KindShipmentPacked)
	case Released:
		if len(b.held) > 0 && found == 0 {
			w.sends(rt, b.order.fulfil(), "ignored", contracts.KindShipmentPacked)
			return
		}
		fallthrough
	default:
		w.sends(rt, b.order.fulfil(), "ignored", contracts.KindFulfilmentRefused)
	}
}

func (w *world) dispatch(rt *rapid.T) {
	b := w.one(rt, Packed)
	outcome := "ignored"
	if b.status == Packed && !b.asked {
		outcome, b.asked = "done", true
	}
	if kind, left := onItsWay[b.status]; left {
		w.sends(rt, b.order.dispatch(), outcome, kind)
	} else {
		w.sends(rt, b.order.dispatch(), outcome)
	}
}

// onItsWay is what is said of goods that have left the house.
var onItsWay = map[Status]string{
	Shipped: contracts.KindShipmentDispatched, Delivered: contracts.KindShipmentDelivered, Lost: contracts.KindShipmentLost,
}

// at is the path of a request about one of the model's orders; false when there is none.
func (w *world) at(rt *rapid.T, step string, status Status) (*booked, string, bool) {
	b := w.one(rt, status)
	return b, "POST /v1/shipments/" + b.id + "/" + step, b.status != ""
}

func (w *world) pack(rt *rapid.T) {
	b, request, ok := w.at(rt, "pack", Picking)
	if !ok {
		return
	}
	body, found := "", maps.Clone(b.held)
	if rapid.Bool().Draw(rt, "count") {
		lines := []contracts.Line{}
		for _, sku := range slices.Sorted(maps.Keys(b.held)) {
			found[sku] = rapid.IntRange(0, b.held[sku]).Draw(rt, "found")
			lines = append(lines, contracts.Line{SKU: sku, Quantity: found[sku]})
		}
		text, err := json.Marshal(map[string]any{"lines": lines})
		if err != nil {
			rt.Fatal(err)
		}
		body = string(text)
	}
	legal := b.status == Picking
	if legal {
		all, missing := 0, 0
		for sku, n := range b.held {
			b.off[sku] = n - found[sku]
			all, missing = all+found[sku], missing+b.off[sku]
			w.moves(sku, 0, -b.off[sku], 0, b.off[sku])
		}
		b.status = Packed
		if missing > 0 {
			w.seen["picked short"]++
		}
		if all == 0 {
			w.seen["found nothing"]++
			b.status = Released
		}
	}
	w.asks(rt, request, body, legal, contracts.KindShipmentPacked)
}

func (w *world) handOver(rt *rapid.T) {
	b, request, ok := w.at(rt, "dispatch", Packed)
	if !ok {
		return
	}
	legal := b.status == Packed && b.asked
	if legal {
		for sku := range b.held {
			w.moves(sku, 0, -b.left(sku), b.left(sku), 0)
		}
		b.status, b.asked = Shipped, false
	}
	w.asks(rt, request, "", legal, contracts.KindShipmentDispatched)
}

// arrives is what a shipped order comes to.
func (w *world) arrives(rt *rapid.T, step string, status Status, kind string) {
	b, request, ok := w.at(rt, step, Shipped)
	if !ok {
		return
	}
	legal := b.status == Shipped
	if legal {
		b.status = status
		w.seen[string(status)]++
	}
	w.asks(rt, request, "", legal, kind)
}

func (w *world) deliver(rt *rapid.T) {
	w.arrives(rt, "deliver", Delivered, contracts.KindShipmentDelivered)
}

func (w *world) lose(rt *rapid.T) {
	if rapid.IntRange(0, 2).Draw(rt, "careless") > 0 {
		return
	}
	w.arrives(rt, "lose", Lost, contracts.KindShipmentLost)
}

func (w *world) sendBack(rt *rapid.T) {
	b := w.one(rt, Delivered)
	if len(b.returns) > 0 && rapid.IntRange(0, 2).Draw(rt, "again") == 0 {
		r := rapid.SampledFrom(b.returns).Draw(rt, "return")
		var says []string
		if r.received {
			w.seen["returned again"]++
			says = []string{contracts.KindReturnReceived}
		}
		w.sends(rt, b.order.sendBack(r.id, "A-1", 1), "ignored", says...)
		return
	}
	if len(b.held) == 0 {
		return
	}
	r := &returning{id: newReturn(), lines: pieces{}}
	m := b.order.sendBack(r.id)
	legal, why := b.status == Delivered, ""
	for _, sku := range slices.Sorted(maps.Keys(b.held)) {
		left := b.left(sku)
		for _, other := range b.returns {
			if !other.received {
				left -= other.lines[sku]
			}
		}
		n := rapid.IntRange(0, left+1).Draw(rt, "back")
		if n == 0 || len(m.Lines) > 0 && n > left && !legal {
			continue
		}
		if n > left && legal {
			legal, why = false, fmt.Sprintf("%d of %s were to come back, the customer has %d", n, sku, left)
		}
		r.lines[sku], m.Lines = n, append(m.Lines, contracts.Line{SKU: sku, Quantity: n})
	}
	if len(m.Lines) == 0 {
		return
	}
	if legal {
		b.returns = append(b.returns, r)
		w.sends(rt, m, "done")
		return
	}
	w.seen["returned too much"]++
	if why == "" {
		why = "nothing can come back of a reservation that is " + named(b.status)
	}
	w.sends(rt, m, "dead: expect return "+r.id+": "+why)
}

func (w *world) receive(rt *rapid.T) {
	b := w.one(rt, Delivered)
	if len(b.returns) == 0 {
		return
	}
	r := rapid.SampledFrom(b.returns).Draw(rt, "return")
	legal := !r.received
	says := []string{contracts.KindReturnReceived}
	if legal {
		r.received = true
		w.seen["returned"]++
		for sku, n := range r.lines {
			b.back[sku] += n
			w.moves(sku, n, 0, -n, 0)
			says = append(says, contracts.KindStockLevelChanged)
		}
	}
	w.asks(rt, "POST /v1/shipments/"+b.id+"/returns/"+r.id+"/receive", "", legal, says...)
}

func (w *world) restock(rt *rapid.T) {
	sku, n := rapid.SampledFrom(w.skus).Draw(rt, "sku"), rapid.IntRange(1, 5).Draw(rt, "quantity")
	w.stock[sku].Restocked += int64(n)
	w.stock[sku].Available += int64(n)
	w.asks(rt, "POST /v1/products/"+sku+"/restock", fmt.Sprintf(`{"quantity":%d}`, n), true, contracts.KindStockLevelChanged)
}

// wait lets the shop's clock go on until all holds have run out.
func (w *world) wait(rt *rapid.T) {
	if rapid.IntRange(0, 2).Draw(rt, "patient") > 0 {
		return
	}
	var says []string
	for _, b := range w.orders {
		if b.status == Held {
			says = append(says, contracts.KindReservationExpired)
			w.seen["expired"]++
			w.ends(b, Expired)
		}
	}
	w.runOut(rt)
	w.hears(rt, says...)
}

// runOut moves the clock past the end of all holds that there are.
func (w *world) runOut(rt *rapid.T) {
	held := func() (n int) {
		if err := w.f.Admin.Get(&n, `SELECT count(*) FROM inventory.reservations WHERE status = 'held'`); err != nil {
			rt.Fatalf("count holds: %v", err)
		}
		return n
	}
	if held() == 0 {
		return
	}
	w.f.later(w.t, 2*time.Hour)
	messagingtest.Wait(w.t, "holds to run out", func() bool {
		// The service looks by itself, too: whoever comes first.
		err := w.f.bus.InTx(w.t.Context(), func(ctx context.Context, tx *messaging.Tx) error {
			_, err := w.f.service.onTime(ctx, tx)
			return err
		})
		if err != nil {
			rt.Fatalf("look for what is due: %v", err)
		}
		return held() == 0
	})
}
