// Package notifications owns what customers were told about their orders.
//
// Messages in (queue "notifications", transactional): OrderPlaced,
// OrderConfirmed, OrderActionRequired, OrderShipped, OrderDelivered,
// OrderCancelled, OrderRejected, OrderExpired. Messages out: none.
//
// Guarantees. Each of these events becomes exactly one notification per channel:
// the table's key is the event's message id with the channel. The one channel
// "inbox" is the customer's message box in the shop, so that writing the row is
// delivering it.
//
// It never talks to another service but by messages, never asks for more about
// an order than the event says, and shows a notification to its customer only.
package notifications
