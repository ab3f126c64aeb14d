// Package inventory owns products, prices, stock, reservations, and what happens
// in the warehouse: picking, packing, handing over to the carrier, and what comes
// back.
//
// Messages in (queue "inventory", transactional): ReserveStock, ReleaseStock,
// FulfilOrder, StopFulfilment, DispatchShipment, ExpectReturn, and the request
// CheckAvailability, answered by Availability. Messages out: ProductChanged,
// StockLevelChanged, StockReserved, StockPartiallyReserved, StockRejected,
// StockReleased, ReservationExpired, FulfilmentStarted, FulfilmentRefused,
// ShipmentPacked, ShipmentDispatched, ShipmentDelivered, ShipmentLost,
// ReturnReceived.
//
// # Stock
//
// For every SKU, after every commit, initial + restocked = available + reserved +
// sold + written off, none of them negative: the table checks it. Restocked are
// new pieces only. A piece is reserved while its order holds it, until it is
// picked, packed and handed over; then it is sold. What picking doesn't find goes
// from reserved to written off. What a customer sends back goes from sold to
// available, so that sold is what customers have, or the carrier lost: restocked
// has no part in it.
//
// Each of these changes is a row of the ledger (stock_moves), written by the
// statement that changes the counters and never changed after: a counter is the
// sum of its moves. A line's quantity is what was reserved; beside it stands how
// much of that was written off and how much was returned, so that
//
//	reserved    = quantity - written off               of held, picking and packed,
//	sold        = quantity - written off - returned    of shipped, delivered and lost,
//	written off = written off                          of all.
//
// # Reservations
//
// A reservation holds all lines of an order or none; where the order allows it,
// what is there of them. A command is known by its reservation id (a return by its
// own): repeated, it changes nothing and the latest answer is sent again. A release
// that overtakes its reservation leaves a tombstone, and the reservation is
// refused. A release undoes everything until the carrier has it, and is answered
// after that by where the goods are; a stop undoes only what isn't packed. An
// ExpectReturn of what the customer does not have, or of what was
// never delivered, has no answer: it becomes a dead letter.
//
// Any number of orders for the same SKU may arrive at once: every transaction locks
// its reservations and then its stock rows, each sorted, before anything is
// decided. Returns have no lock of their own: their reservation's is theirs.
//
// What is decided is pure: reserve, release, fulfil, stop, dispatch, step, announce
// and receive take a reservation and a command, and return how it stands then, what
// moves, and what is said.
//
// # People
//
// Warehouse and carrier are simulated: each step (pack, dispatch, deliver, a
// return's arrival) falls due after a delay, or waits for an operator's request:
// everybody's in a manual warehouse, one order's where an operator took it in hand.
// Config.Short and Config.Loses make the simulated ones miss and lose things; an
// operator says what was found or lost. Operators' requests demand the role, and
// each that changed something is a row of the audit, which is only added to.
//
// It never talks to another service but by messages, and never knows who the
// customer is or what was paid.
package inventory
