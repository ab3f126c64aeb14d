// Package orders owns orders and steers them: an orchestrated saga, one row per
// order, from placed to delivered, or undone and ended.
//
// What may happen to an order stands in one table (transitions.go), as data: it
// drives the code, the statuses that the API offers as next, the picture in the
// documents and the tests. Deciding is pure (order.go, with its conditions in
// guards.go and its changes in effects.go): an order and what happened to it in;
// the changed order, its history row and the messages to send (sends.go, tells.go)
// out. The row, its history and these messages are committed together.
//
// Messages in, queue orders: StockReserved, StockPartiallyReserved, StockRejected,
// StockReleased, ReservationExpired, FulfilmentStarted, FulfilmentRefused,
// ShipmentPacked, ShipmentDispatched, ShipmentDelivered, ShipmentLost,
// ReturnReceived, ProductChanged of inventory; PaymentAuthorized, PaymentDeclined,
// PaymentCaptured, CaptureFailed, PaymentVoided, PaymentVoidRefused,
// RefundSucceeded, RefundFailed of payments.
//
// Messages out: the commands ReserveStock, ReleaseStock, FulfilOrder,
// StopFulfilment, DispatchShipment and ExpectReturn to inventory;
// AuthorizePayment, CapturePayment, VoidPayment and RefundPayment to payments. Its
// own events are OrderStatusChanged, one for every version of an order, and
// OrderPlaced, OrderActionRequired, OrderAmended, OrderConfirmed, OrderShipped,
// OrderDelivered, OrderCompleted, OrderCancelled, CancelRefused, OrderRejected,
// OrderExpired, OrderRefunded and OrderNeedsAttention.
// It asks inventory CheckAvailability and waits for the answer.
//
// Guarantees:
//   - The order's row is the only judge. A message that is late, repeated or not
//     legal now changes nothing and is noted as ignored in the trace; what it says
//     is held or set aside for an order that came to nothing is given back.
//   - Each accepted transition raises the version by one and writes one history
//     row; history is contiguous and its last row is the order's status. An
//     announced return and a further refund are such transitions, though the
//     status stays.
//   - A lost answer is asked for again: every status that waits for a service has
//     a deadline, at which its command is sent anew under the same business ids,
//     four times, each after twice as long. Then an operator decides; what is said
//     meanwhile is ignored, and said again when the order is taken up again.
//   - One order per caller and Idempotency-Key, whatever is retried in parallel;
//     likewise one return, one refund.
//   - An order that is cancelled, rejected or expired holds no stock and no money:
//     it ends only after both have answered.
//   - No piece is refunded twice, and no more than was packed: amounts are always
//     the price of pieces. The money captured less that refunded is the price of
//     what the customer keeps, once no refund is open.
//   - What operators do is written down for good (orders.audit), in the same
//     transaction.
//
// The package never calls another service, never reads another service's tables,
// never talks to the payment provider, and takes no price from a client: it keeps
// its own copy of the catalogue, fed by ProductChanged.
package orders
