package contracts

// message is what every contract is: the shape of messaging.Body.
type message interface {
	Kind() string
	Order() string
}

// All returns a zero value of every command and event, owner by owner. A fifth
// service adds its own here.
func All() []message {
	return []message{
		ReserveStock{}, ReleaseStock{}, FulfilOrder{}, DispatchShipment{}, CheckAvailability{}, Availability{},
		ProductChanged{}, StockLevelChanged{}, StockReserved{}, StockRejected{}, StockReleased{}, ReservationExpired{},
		FulfilmentStarted{}, FulfilmentRefused{}, ShipmentPacked{}, ShipmentDispatched{}, ShipmentDelivered{},

		AuthorizePayment{}, CapturePayment{}, VoidPayment{},
		PaymentAuthorized{}, PaymentDeclined{}, PaymentCaptured{}, PaymentVoided{},

		OrderPlaced{}, OrderStatusChanged{}, OrderActionRequired{}, OrderConfirmed{}, OrderShipped{}, OrderDelivered{},
		OrderCancelled{}, OrderRejected{}, OrderExpired{},
	}
}
