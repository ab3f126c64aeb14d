// Package payments owns the talk with the payment provider: what was asked of
// it, under which key, and what came of it.
//
// In: AuthorizePayment, CapturePayment, VoidPayment, all of orders. Out:
// PaymentAuthorized, PaymentDeclined, PaymentCaptured, PaymentVoided.
//
// A payment (one per order) has attempts, one for each method that was tried:
//
//	authorizing -> authorized -> captured
//	                          -> voided
//	            -> declined
//	            -> voided
//
// Every command is handled in three steps. A short transaction locks the payment,
// decides (payment.go) and commits the intent: the row of provider_calls whose key
// is a pure function of payment, attempt and operation. Then the provider is
// asked, outside any transaction, with that key as its Idempotency-Key. Then the
// answer is written and told in the transaction that acknowledges the command,
// after the state was looked at again under lock: somebody else may have
// been faster. So a command that is repeated, doubled or tried again after a
// crash asks the provider under the same key and moves money once.
//
// A provider that can't be reached, takes too long or answers 5xx is an error:
// the command is tried again. A refusal of the customer's bank is an event. What
// the provider will never take makes the command a dead letter.
//
// A void is for an attempt and all before it. It is remembered in the payment
// (voided_through), so that an AuthorizePayment which it overtook is declined
// with the reason voided, and one that was at the provider at that moment is
// undone by whichever of the two commands ends last.
//
// payments never guesses what the provider did, keeps no card data (tokens are
// the provider's names of methods) and never logs a token.
package payments
