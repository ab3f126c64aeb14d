// Package inventory owns products, prices, stock, reservations, and what happens
// in the warehouse: picking, packing, handing over to the carrier.
//
// Messages in (queue "inventory", transactional): ReserveStock, ReleaseStock,
// FulfilOrder, DispatchShipment, and the request CheckAvailability, answered by
// Availability. Messages out: ProductChanged, StockLevelChanged, StockReserved,
// StockRejected, StockReleased, ReservationExpired, FulfilmentStarted,
// FulfilmentRefused, ShipmentPacked, ShipmentDispatched, ShipmentDelivered.
//
// Guarantees. For every SKU, after every commit, initial + restocked = available
// + reserved + sold + written off, none of them negative: the table checks it. A
// command is known by its reservation id: repeated, it changes nothing and the
// latest answer is sent again. A release that overtakes its reservation leaves a
// tombstone, and the reservation is refused. Any number of orders for the same
// SKU may arrive at once: a batch locks its reservations and then its stock rows,
// sorted, before anything is decided.
//
// Warehouse and carrier are simulated: each step (pack, dispatch, deliver) falls
// due after a delay, or waits for an operator's request.
//
// It never talks to another service but by messages, never knows who the customer
// is or what was paid, and reserves all lines of an order or none.
package inventory
