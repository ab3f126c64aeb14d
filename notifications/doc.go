// Package notifications owns what customers were told about their orders.
//
// Messages in, queue "notifications" (transactional): OrderPlaced,
// OrderConfirmed, OrderActionRequired, OrderAmended, OrderShipped,
// OrderDelivered, OrderCompleted, OrderCancelled, CancelRefused, OrderRejected,
// OrderExpired, OrderRefunded. Queue "notifications_send" (leased):
// SendNotification and ResendNotification, its own. Messages out: those two,
// NotificationSent, NotificationFailed.
//
// # Channels
//
// Each of the events becomes exactly one notification per channel that is on: the
// table's key is the event's message id with the channel. The rows of a batch of
// events are one statement, the commands for their mails part of its one outbox
// INSERT.
//
//	inbox    the customer's message box in the shop: writing the row is delivering it
//	email    when a mail server is configured (MailConfig)
//	webhook  when the customer has an endpoint that is open, with a delivery for each
//
// # Sending
//
// Mail servers and endpoints are talked to by leased handlers, outside any
// transaction (sending.go). The row is the intent; what came of it is written down
// with NotificationSent or NotificationFailed in the transaction that acknowledges.
// Whoever dies in between leaves a notification that is delivered again, under the
// same id: a mail's Message-ID is made of nothing but the notification's id (and
// of the wish's, when an operator asked for it once more), a webhook's id is it.
//
// A mail that the server can't take now (4xx, away, too slow, settings that are
// wrong) is tried again by the queue with growing pauses, no attempt counted, for
// three days; a 5xx to sender, recipient or content is the last word. A mail takes
// one of a few connections or comes back in a moment, so that a mail server which
// hangs keeps neither webhooks nor orders waiting.
//
// An endpoint's retries are its own, not the queue's (webhook.go): a pause of the
// schedule is a due time in the delivery's row, and sendDue (deadlines.go) sends the
// command when it has come. After the last attempt the delivery has failed; its
// customer may have it replayed. An endpoint that fails too often in a row, or says
// 410 Gone, is disabled until its customer enables it again; meanwhile nothing is
// written for it. Every attempt that had an outcome is a row for good.
//
// # Safety
//
// A customer names an endpoint's URL and we call it. So it must be https and lead
// to a public address, when it is registered and again when it is dialled (guard.go);
// redirects are not followed, proxies not used, answers not read, and time is short.
// What is sent there is signed (Standard Webhooks) with a secret that is shown once,
// and says only that something happened to which order.
//
// Names, addresses and what a mail server says about them never get into a log, an
// error's text or a reason code. What a customer or the catalogue says is text in
// mails and pages, whatever it looks like.
//
// The package never talks to another service but by messages, never asks for more
// about an order than the event says, shows a notification to its customer and to
// operators only, and is not replayable: customers are told once.
package notifications
