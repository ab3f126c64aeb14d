// Package payments owns the talk with the payment provider: what was asked of
// it, under which key, and what came of it; and the ledger of the money that moved.
//
// In, from orders: AuthorizePayment, CapturePayment, VoidPayment, RefundPayment. Out:
// PaymentAuthorized, PaymentDeclined, PaymentCaptured, CaptureFailed, PaymentVoided,
// PaymentVoidRefused, RefundSucceeded, RefundFailed. To itself: LookUpPayment,
// ReconcilePayments.
//
// A payment (one per order) has attempts, one for each method that was tried:
//
//	authorizing -> authorized -> captured -> refunded in parts or whole
//	                          -> voided
//	                          -> expired (the provider let the money go)
//	                          -> closed  (the provider refused the capture)
//	            -> unknown    -> any of what authorizing becomes
//	            -> declined
//	            -> voided
//
// # The protocol
//
// Every command is handled in three steps. A short transaction locks the payment,
// decides (payment.go, refund.go: pure) and commits the intent: the row of
// provider_calls whose key is a pure function of payment, attempt, operation and
// try. Then the provider is asked, outside any transaction, with that key as its
// Idempotency-Key (protocol.go). Then the answer is applied (answers.go: pure),
// written and told in the transaction that acknowledges the command, after the state
// was looked at again under lock: somebody else may have been faster. So a command
// that is repeated, doubled or tried again after a crash moves money once.
//
// A call has one of three ends. It is known: approved, or refused, which is an event
// and no error. Nothing happened (never connected, 429): it is made again when the
// provider wants it. Or nobody knows (time-out, reset, 5xx): then it is looked up, at
// once, and again before the request is repeated, under the same key. An attempt that
// stays unknown is shown so. Nothing is guessed, and no other key is used, unless
// the provider keeps an error under the key and a look-up finds nothing done: only
// then, or after a refusal, is there a next try.
//
// A look-up that finds nothing doesn't say that nothing will come: the request may
// be on its way. Where that matters, before a void, the key is used up: the request is
// made once more under it, and what comes of it is voided. Whatever arrives later
// gets the stored answer.
//
// This fences our own consumers, also two at once of one command, as after a lost
// lease: an answer under a key that was given up doesn't count, and which hold is an
// attempt's never changes once it is answered. It can't fence a request on its way to a
// provider that breaks its word: that forgets a key, or ends a stored error, while
// another request under the key is about. Then there may be two holds for one attempt
// for a while. Only the attempt's own is ever captured; the stray one is found in the
// provider's books by the next reconciliation that reads them to their end, and voided
// under a key that is a pure function of it (strays.go). The same fault can give a
// refund twice, up to what was captured: that is money gone, a break and an
// operator's.
//
// A void is for an attempt and all before it. It is remembered in the payment
// (voided_through), so that an AuthorizePayment which it overtook is declined
// with the reason voided. What turns out to be captured is told as
// PaymentVoidRefused: it can only be refunded. A capture that the provider refuses
// closes its authorization, which is voided.
//
// A provider that doesn't answer is left alone for some seconds (breaker.go), so that
// the commands that need no call go on; one that says Retry-After is left alone as
// long. All of them are tried again, uncounted, until it is back.
//
// # The books
//
// payments.ledger has a row for every capture and refund and is only added to. On a
// schedule, or when an operator asks (POST /v1/payments/reconciliations), it is
// compared with the provider's books, both ways, holds included; what they don't agree
// about is a row of payments.breaks (GET /v1/payments/breaks) until it is gone. Nothing
// is mended by it but stray holds, which are voided.
//
// The provider's webhooks come to POST /v1/provider-webhooks: signed, each once. What
// they say is not believed; it has the attempt looked up.
//
// payments keeps no card data (tokens are the provider's names of methods) and never
// logs a token.
package payments
