// Package bench measures how fast orders go through the messaging layer, beside
// what other teams would take instead, on a PostgreSQL of its own with durable
// settings.
//
// The yardstick is the least SQL that one order needs (sql/): order, two lines,
// an outbox row; two guarded stock updates and two reservations; a payment;
// three moves of the status with history; three notifications. pgbench does it
// in six transactions, what four services can't do without, and in one.
//
//   - chain is exactly this SQL in the handlers of four services on the messaging
//     layer, with outbox, inbox and log.
//   - stock, river and dbos are the same SQL on watermill-sql with its forwarder,
//     on River and on DBOS: a Go module and a process of their own (contenders/).
//   - shop is the product as it is: HTTP, all of its states and checks, the
//     payment provider's simulator; the warehouse waits for its operator.
//
// Each is measured in two ways, with the same settings for both: at 50 orders/s,
// how long it takes from the moment a client begins to place an order until it
// is confirmed; and in a burst of orders placed by a few clients, how many orders
// a second until all are confirmed and, shop apart, all customers notified.
// Everything is quoted as a ratio to the six transactions of the same round,
// contenders take turns, three rounds, min, median and max.
//
// When an order was confirmed is read from the rows: the server notes the time
// of every commit (track_commit_timestamp, for the yardstick as for all others).
// It notes it just before the commit is flushed to the disk, so the time that a
// flush takes here, measured in the same run, is added to every latency.
//
// After every run the rows are checked: each order confirmed once, each piece of
// stock, payment, step of history and notification there exactly once, queues
// and outboxes empty, no dead letters. A run that fails the check is an error
// and not a figure.
package bench
