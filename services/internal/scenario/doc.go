// Package scenario tells the paths of an order that a customer can cause, as
// stories: each is a function that orders, pays, cancels, sends back, and says at
// every step what must come of it. They run against any shop, at an address, over
// HTTP only. What a few of them need besides, the shop's clock and its queues, is
// handed in, and where it isn't they say so.
//
// A story makes what it needs: customers of its own, goods that it brings into
// stock, an order whose shipment it takes in hand. It looks at its own orders only,
// so that others may go on beside it; what an order did to the stock is read from
// the ledger of its pieces, whoever else buys the same. The stories that set the
// clock forward or halt a queue do so to the whole shop: they run one at a time.
//
// A story asserts the statuses in order with their reasons, the answers to its
// requests, money, stock, and what the customer was told. A step that fails says
// what was wanted, what came, and of which order.
//
// What a story prints is its page in the documentation (pages), ids and times apart.
package scenario
