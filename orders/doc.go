// Package orders owns orders and steers them: an orchestrated saga, one row per
// order, from placed to delivered, or undone and ended.
//
// What may happen to an order stands in one table (transitions.go), as data: it
// drives the code, the statuses that the API offers as next, the picture in the
// documents and the tests. Deciding is pure (order.go): an order and what
// happened to it in; the changed order, its history row and the messages to send
// out. The row, its history and these messages are committed together.
//
// Messages in, queue orders: StockReserved, StockRejected, StockReleased,
// ReservationExpired, FulfilmentStarted, FulfilmentRefused, ShipmentPacked,
// ShipmentDispatched, ShipmentDelivered, ProductChanged of inventory;
// PaymentAuthorized, PaymentDeclined, PaymentCaptured, PaymentVoided of payments.
//
// Messages out: the commands ReserveStock, ReleaseStock, FulfilOrder and
// DispatchShipment to inventory; AuthorizePayment, CapturePayment and VoidPayment
// to payments. Its own events are OrderStatusChanged, one for every version of an
// order, and OrderPlaced, OrderActionRequired, OrderConfirmed, OrderShipped,
// OrderDelivered, OrderCancelled, OrderRejected and OrderExpired.
// It asks inventory CheckAvailability and waits for the answer.
//
// Guarantees:
//   - The order's row is the only judge. A message that is late, repeated or not
//     legal now changes nothing and is noted as ignored in the trace.
//   - Each accepted transition raises the version by one and writes one history
//     row; history is contiguous and its last row is the order's status.
//   - A lost answer is asked for again: every status that waits for a service has
//     a deadline, at which its command is sent anew under the same business ids.
//   - One order per caller and Idempotency-Key, whatever is retried in parallel.
//   - An order that is cancelled, rejected or expired holds no stock and no money:
//     it ends only after both have answered.
//
// The package never calls another service, never reads another service's tables,
// never talks to the payment provider, and takes no price from a client: it keeps
// its own copy of the catalogue, fed by ProductChanged.
package orders
