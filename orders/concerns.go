package orders

import (
	"example.com/orderflow/messaging"
	"example.com/orderflow/messaging/contracts"
)

// concerns reports whether body is about the reservation and the attempt to pay
// that o has now. An order that came to nothing is concerned by any attempt: what
// an earlier one has set aside is given back, too.
func concerns(o Order, body messaging.Body) bool {
	switch m := body.(type) {
	case contracts.StockReserved:
		return m.ReservationID == o.ReservationID
	case contracts.StockPartiallyReserved:
		return m.ReservationID == o.ReservationID
	case contracts.StockRejected:
		return m.ReservationID == o.ReservationID
	case contracts.StockReleased:
		return m.ReservationID == o.ReservationID
	case contracts.ReservationExpired:
		return m.ReservationID == o.ReservationID
	case contracts.FulfilmentStarted:
		return m.ReservationID == o.ReservationID
	case contracts.FulfilmentRefused:
		return m.ReservationID == o.ReservationID
	case contracts.ShipmentPacked:
		return m.ReservationID == o.ReservationID
	case contracts.ShipmentDispatched:
		return m.ReservationID == o.ReservationID
	case contracts.ShipmentDelivered:
		return m.ReservationID == o.ReservationID
	case contracts.ShipmentLost:
		return m.ReservationID == o.ReservationID
	case contracts.ReturnReceived:
		return m.ReservationID == o.ReservationID
	case contracts.PaymentAuthorized:
		return m.PaymentID == o.PaymentID && (m.Attempt == o.Attempt || m.Attempt < o.Attempt && o.Status.undone())
	case contracts.PaymentDeclined:
		return m.PaymentID == o.PaymentID && m.Attempt == o.Attempt
	case contracts.PaymentCaptured:
		return m.PaymentID == o.PaymentID && m.Attempt == o.Attempt && m.CaptureID == o.CaptureID
	case contracts.CaptureFailed:
		return m.PaymentID == o.PaymentID && m.Attempt == o.Attempt && m.CaptureID == o.CaptureID
	case contracts.PaymentVoided:
		return m.PaymentID == o.PaymentID && m.Attempt == o.Attempt
	case contracts.PaymentVoidRefused:
		return m.PaymentID == o.PaymentID && m.Attempt == o.Attempt
	case contracts.RefundSucceeded:
		return m.PaymentID == o.PaymentID
	case contracts.RefundFailed:
		return m.PaymentID == o.PaymentID
	}
	return false
}

// refusal is the provider's code in a refusal that needs attention, "" in any
// other message.
func refusal(body messaging.Body) string {
	switch m := body.(type) {
	case contracts.PaymentVoidRefused:
		return m.ReasonCode
	case contracts.RefundFailed:
		return m.ReasonCode
	}
	return ""
}
