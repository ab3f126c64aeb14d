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
		ReserveStock{}, ReleaseStock{}, FulfilOrder{}, StopFulfilment{}, DispatchShipment{}, ExpectReturn{}, CheckAvailability{}, Availability{},
		ProductChanged{}, StockLevelChanged{}, StockReserved{}, StockPartiallyReserved{}, StockRejected{}, StockReleased{}, ReservationExpired{},
		FulfilmentStarted{}, FulfilmentRefused{}, ShipmentPacked{}, ShipmentDispatched{}, ShipmentDelivered{}, ShipmentLost{}, ReturnReceived{},

		AuthorizePayment{}, CapturePayment{}, VoidPayment{}, RefundPayment{}, LookUpPayment{}, ReconcilePayments{},
		PaymentAuthorized{}, PaymentDeclined{}, PaymentCaptured{}, CaptureFailed{}, PaymentVoided{}, PaymentVoidRefused{},
		RefundSucceeded{}, RefundFailed{},

		OrderPlaced{}, OrderStatusChanged{}, OrderActionRequired{}, OrderAmended{}, OrderConfirmed{}, OrderShipped{}, OrderDelivered{},
		OrderCompleted{}, OrderCancelled{}, CancelRefused{}, OrderRejected{}, OrderExpired{}, OrderRefunded{}, OrderNeedsAttention{},

		SendNotification{}, ResendNotification{}, NotificationSent{}, NotificationFailed{},
	}
}
