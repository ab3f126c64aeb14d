// Package verify checks a shop's data: everything that must hold after any run,
// whatever was killed meanwhile. It reads the schemas of all services in one
// database, as an administrator, and writes nothing.
//
// All is read in one snapshot (REPEATABLE READ), so that a running shop is seen at
// one moment. Most checks hold then, too, because what they compare is committed
// together, or because one side is committed before the other is caused. Where a
// difference may be on its way, an order about which something is under way is
// passed over: a message that isn't handled, a dead letter that waits for an
// operator, a request to the provider whose outcome isn't known. Each Check says
// why it holds. The others are for a shop at rest.
//
// The provider's books are the schema paysim of the same database or, where that
// isn't there, are read over the provider's API, once before and once after the
// snapshot is taken: see readBooks.
//
// What can't be told: whether e-mail was on when an event was told by the inbox
// only; and, of a subscription that is not fed from the logs, what came before the
// first event of a kind that it got, because nothing says since when it is there.
// What logs and inboxes no longer hold, because their retention is over, is passed
// over.
package verify
