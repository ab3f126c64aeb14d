package simulation

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"example.com/orderflow/inventory"
	"example.com/orderflow/messaging"
	"example.com/orderflow/messaging/contracts"
	"example.com/orderflow/orders"
	"example.com/orderflow/payments"
)

// tally counts what worlds have been through.
type tally struct {
	worlds, steps int
	seen          map[string]int
}

func newTally() *tally { return &tally{seen: map[string]int{}} }

// String lists the counts, the rarest situations first.
func (t *tally) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d worlds, %d steps", t.worlds, t.steps)
	for _, what := range slices.SortedFunc(maps.Keys(t.seen), func(a, b string) int { return t.seen[a] - t.seen[b] }) {
		fmt.Fprintf(&b, "\n%9d  %s", t.seen[what], what)
	}
	return b.String()
}

// rare are the situations that the simulation is there for: a long run has seen
// each, or it proves nothing.
var rare = []string{
	"crash before the commit", "crash after the commit", "crash before the intent", "crash after the intent",
	"crash before the record", "crash after the record",
	"lease lost", "late consumer fenced", "message doubled", "message discarded", "message known from the inbox",

	"void before authorise", "authorise after its void", "release before reserve", "reserve after its release",
	"late authorisation on an ended order", "late capture on an order being undone", "undone under a key that isn't in use any more",
	"third decline", "paid at the third attempt", "capture failed and paid again", "packed while authorising",
	"cancel refused, it is packed", "cancel while being picked", "nothing found", "short pick", "short pick while stopping",
	"part accepted", "part accepted, then cancelled", "part refused", "part not decided in time",
	"hold expires while authorising", "hold expires before the warehouse starts", "fulfilment refused",
	"return during a refund", "return received in another return's refund", "return asked for too much", "refunds side by side",
	"refund refused", "refund tried anew after a refusal", "lost parcel", "lost before it was said to be dispatched",
	"delivered before it was said to be dispatched", "sent back in part", "refunded without sending back",
	"void refused", "void refused, it is captured", "operator cancels what is paid", "operator cancels what isn't",
	"needs attention while compensating", "needs attention while refunding", "needs attention while capturing",
	"needs attention while dispatching", "asked again", "asked again and answered again",

	"request lost", "answer lost", "key forgotten", "late request has its effect", "late request finds its key used",
	"error stored without effect", "error stored after the effect", "stored error ended by a look-up", "next key after a spent one",
	"stray hold: closed", "answer under a key that isn't in use any more", "provider too busy", "look-up lost", "authorization expired", "request repeated under its key",

	"ended as completed", "ended as cancelled", "ended as rejected", "ended as expired", "ended as refunded",
}

// missing are the rare situations that t has not seen.
func (t *tally) missing() []string {
	return slices.DeleteFunc(slices.Clone(rare), func(what string) bool { return t.seen[what] > 0 })
}

// sawIgnored counts what an order was told in vain.
func (w *world) sawIgnored(row orders.Order, in orders.Input, err error) {
	switch in.On {
	case contracts.KindPaymentAuthorized:
		if errors.Is(err, orders.ErrStale) {
			w.saw("authorisation of an earlier attempt")
		}
	case contracts.KindPaymentCaptured:
		if row.Status == orders.Compensating || row.Status == orders.NeedsAttention {
			w.saw("late capture on an order being undone")
		}
	case orders.AskReturn:
		if row.Status == orders.Delivered {
			w.saw("return asked for too much")
		}
	}
}

// sawStep counts what step makes of an order.
func (w *world) sawStep(o *order, row orders.Order, step orders.Step, in orders.Input) {
	next := step.Order
	switch {
	case in.On == contracts.KindPaymentAuthorized && row.Status.Ended():
		w.saw("late authorisation on an ended order")
	case in.On == contracts.KindPaymentAuthorized && next.Status == orders.Capturing:
		w.saw("packed while authorising")
	case in.On == contracts.KindPaymentAuthorized && next.Status == orders.Confirmed && row.Attempt == 3:
		w.saw("paid at the third attempt")
	case in.On == contracts.KindPaymentDeclined && next.Status == orders.Compensating:
		w.saw("third decline")
	case in.On == contracts.KindPaymentCaptured && row.Attempt > 1 && slices.ContainsFunc(o.history, func(e orders.Entry) bool {
		return e.From == orders.Capturing && e.Status == orders.PaymentFailed
	}):
		w.saw("capture failed and paid again")
	case in.On == contracts.KindShipmentPacked && row.Status == orders.Stopping && next.Status == orders.Capturing:
		w.saw("cancel refused, it is packed")
		if next.TotalMinor < row.TotalMinor {
			w.saw("short pick while stopping")
		}
	case in.On == contracts.KindShipmentPacked && next.Status == orders.Compensating:
		w.saw("nothing found")
	case in.On == contracts.KindShipmentPacked && next.TotalMinor < row.TotalMinor:
		w.saw("short pick")
	case in.On == orders.Cancel && row.Status == orders.Fulfilling:
		w.saw("cancel while being picked")
	case in.On == orders.Accept:
		w.saw("part accepted")
	case in.On == orders.Cancel && row.Status != orders.AwaitingCustomer && slices.ContainsFunc(o.Lines, func(l orders.Line) bool { return l.Missing > 0 }):
		w.saw("part accepted, then cancelled")
	case in.On == orders.Refuse:
		w.saw("part refused")
	case in.On == orders.DeadlineUp && row.Status == orders.AwaitingCustomer:
		w.saw("part not decided in time")
	case in.On == contracts.KindReservationExpired && row.Status == orders.Authorizing:
		w.saw("hold expires while authorising")
	case in.On == contracts.KindReservationExpired && row.Status == orders.Confirmed:
		w.saw("hold expires before the warehouse starts")
	case in.On == contracts.KindFulfilmentRefused:
		w.saw("fulfilment refused")
	case in.On == contracts.KindReturnReceived && row.Status == orders.Refunding:
		w.saw("return during a refund")
		if slices.ContainsFunc(row.Refunds, func(f orders.Refund) bool { return f.Status == "open" && f.ReasonCode == "returned" }) {
			w.saw("return received in another return's refund")
		}
	case in.On == contracts.KindReturnReceived:
		w.saw("sent back in part")
	case in.On == contracts.KindRefundFailed:
		w.saw("refund refused")
	case in.On == contracts.KindShipmentLost:
		w.saw("lost parcel")
		if row.Status == orders.Dispatching {
			w.saw("lost before it was said to be dispatched")
		}
	case in.On == contracts.KindShipmentDelivered && row.Status == orders.Dispatching:
		w.saw("delivered before it was said to be dispatched")
	case in.On == orders.OperatorRefund:
		w.saw("refunded without sending back")
	case in.On == contracts.KindPaymentVoidRefused && next.Captured:
		w.saw("void refused, it is captured")
	case in.On == contracts.KindPaymentVoidRefused:
		w.saw("void refused")
	case in.On == orders.OperatorCancel && next.Status == orders.Refunding:
		w.saw("operator cancels what is paid")
	case in.On == orders.OperatorCancel:
		w.saw("operator cancels what isn't")
	case in.On == orders.DeadlineUp && step.Entry == nil:
		w.saw("asked again")
	}
	if next.Status == orders.NeedsAttention && step.Entry != nil {
		w.saw("needs attention while " + string(row.Status))
	}
	open := 0
	for _, f := range next.Refunds {
		if f.Status == "open" {
			open++
		}
	}
	if open > 1 {
		w.saw("refunds side by side")
	}
}

// sawCommand counts what inventory was asked for.
func (w *world) sawCommand(r inventory.Reservation, m messaging.Body, dec inventory.Decision) {
	switch m.(type) {
	case contracts.ReleaseStock:
		if r.Status == "" {
			w.saw("release before reserve")
		}
	case contracts.ReserveStock:
		if r.Status == inventory.Released {
			w.saw("reserve after its release")
		}
	}
	if dec.Ignored != "" && len(dec.Say) > 0 {
		w.saw("asked again and answered again")
	}
}

// sawAuthorize counts what payments was asked for.
func (w *world) sawAuthorize(p payments.Payment, a payments.Attempt, todo payments.Todo) {
	if a.Number <= p.VoidedThrough && (todo == payments.Tell && a.Status == payments.Voided || todo == payments.Undo) {
		w.saw("authorise after its void")
	}
}

func (w *world) sawVoid(p payments.Payment, c contracts.VoidPayment) {
	if _, begun := p.Attempt(c.Attempt); !begun {
		w.saw("void before authorise")
	}
}
