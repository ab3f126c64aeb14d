package orders

import (
	"slices"

	"example.com/orderflow/messaging/contracts"
)

// What transitions change in an order besides its status. Lines, returns and
// refunds are changed in copies: the order that was decided on stays as it was.

func firstAttempt(o *Order, _ Input) { o.Attempt = 1 }

func countDecline(o *Order, _ Input) { o.Declines++ }

func nextAttempt(o *Order, in Input) {
	o.Attempt++
	o.PaymentToken, o.CaptureID = in.PaymentToken, in.CaptureID
}

func countResend(o *Order, _ Input) { o.Resends++ }

func forgetResends(o *Order, _ Input) { o.Resends = 0 }

// noteMissing notes what wasn't there. The total stays what was ordered until the
// customer accepts.
func noteMissing(o *Order, in Input) {
	if m, ok := in.Body.(contracts.StockPartiallyReserved); ok {
		o.editLines(func(l *Line) { l.Missing = l.Quantity - quantityOf(m.Lines, l.SKU) })
	}
}

func acceptPart(o *Order, _ Input) {
	o.Attempt = 1
	o.TotalMinor = o.price()
}

// notePacked notes what wasn't found, and that the customer pays for the rest.
func notePacked(o *Order, in Input) {
	m, ok := in.Body.(contracts.ShipmentPacked)
	if !ok {
		return
	}
	o.Packed = true
	o.editLines(func(l *Line) { l.Short = l.reserved() - quantityOf(m.Lines, l.SKU) })
	o.TotalMinor = o.price()
}

func noteCaptured(o *Order, _ Input) { o.Captured = true }

func noteDispatched(o *Order, in Input) {
	o.Dispatched = true
	if m, ok := in.Body.(contracts.ShipmentDispatched); ok {
		o.Tracking = m.Tracking
	}
}

func refundLost(o *Order, in Input) {
	o.Dispatched = true
	o.refundRest(in.ID, "lost", in.At)
}

func noteReturn(o *Order, in Input) {
	o.Returns = append(slices.Clone(o.Returns), Return{ID: in.ID, Status: returnExpected, Lines: in.Lines, AskedAt: in.At})
}

// refundReturned pays back what came. Of what was expected and didn't come the
// customer may announce a return again.
func refundReturned(o *Order, in Input) {
	m, ok := in.Body.(contracts.ReturnReceived)
	if !ok {
		return
	}
	o.Returns = slices.Clone(o.Returns)
	r := &o.Returns[o.expected(m.ReturnID)]
	r.Status, r.Lines = returnReceived, m.Lines
	o.refund(m.ReturnID, "returned", m.Lines, in.At)
	o.editLines(func(l *Line) { l.Returned += quantityOf(m.Lines, l.SKU) })
}

func refundUnreturned(o *Order, in Input) { o.refund(in.ID, "not_sent_back", in.Lines, in.At) }

// refundCancelled pays back all that the customer has paid, and tries again what
// failed.
func refundCancelled(o *Order, in Input) {
	reopenRefunds(o, in)
	o.refundRest(in.ID, byOperator, in.At)
}

func reopenRefunds(o *Order, _ Input) { o.setRefunds(refundFailed, refundOpen) }

// noteRefund notes what became of a refund.
func noteRefund(o *Order, in Input) {
	switch m := in.Body.(type) {
	case contracts.RefundSucceeded:
		o.closeRefund(m.RefundID, refundSucceeded)
	case contracts.RefundFailed:
		o.closeRefund(m.RefundID, refundFailed)
	}
}

// closeRefund gives the open refund id another status.
func (o *Order) closeRefund(id string, status RefundStatus) {
	o.Refunds = slices.Clone(o.Refunds)
	o.Refunds[o.openRefund(id)].Status = status
}

// noteLastRefund notes what the OrderRefunded of the version to come tells of.
func noteLastRefund(o *Order, in Input) {
	noteRefund(o, in)
	o.Refunds = slices.Clone(o.Refunds)
	for i := range o.Refunds {
		if f := &o.Refunds[i]; f.Status == refundSucceeded && f.ToldIn == 0 {
			f.ToldIn = o.Version + 1
		}
	}
}

func noteAnswer(o *Order, in Input) {
	switch in.On {
	case contracts.KindStockReleased:
		o.AwaitsRelease = false
	case contracts.KindPaymentVoided:
		o.AwaitsVoid = false
		o.Captured = false // whatever a refusal before it said
	}
}

// noteLeft notes that what was to be released has left the house. When all is
// refunded already, that is told.
func noteLeft(o *Order, in Input) {
	noteDispatched(o, in)
	o.AwaitsRelease = false
	if allRefunded.Holds(*o) {
		noteLastRefund(o, in)
	}
}

// noteVoidRefused notes whether the money is ours: then it can only be refunded.
func noteVoidRefused(o *Order, in Input) {
	if m, ok := in.Body.(contracts.PaymentVoidRefused); ok && m.ReasonCode == contracts.ReasonCaptured {
		o.Captured = true
	}
}
