// Package paysim is a payment provider for a shop that has none: a program of
// its own with its own schema and its own books, reached over HTTP only. It
// moves no money. What happens to a payment is chosen by its method token:
//
//	tok_ok                  authorized
//	tok_declined            refused: card_declined
//	tok_insufficient_funds  refused: insufficient_funds
//	tok_slow                authorized after Config.Slow
//	tok_error_once          500 before any effect at the first call, then authorized
//	tok_<operation>_<misdeed>
//
// where the operation is authorize, capture, void or refund, and goes wrong the
// first time that it is asked for:
//
//	slow                    takes Config.Slow
//	timeout_before, _after  no answer until the client gives up; before, or after, the effect
//	error_before, _after    500
//	error_stored            500 before the effect, and again under the same key until it is looked up
//	error_stored_after      the same, but the effect is there
//	error_stuck             500 before the effect, and for ever under the same key
//	reset                   the connection is reset in mid-answer, after the effect
//	too_many                429 with Retry-After, no effect
//	down                    hangs up at once, no effect
//	late                    hangs up; the effect comes when the client has gone
//	forgotten               the effect is there, the answer isn't, and the key is forgotten
//	refused                 409, kept under the key (an authorization is declined: 402)
//	expired                 of a capture only: 409, the authorization has expired
//
// Any other token is answered 422 invalid_method. PUT /provider/v1/admin/conduct
// makes the requests of everybody go wrong in these ways, look-ups and the books
// too where there is no effect to speak of, for a number of requests or some time;
// and the delivery of webhooks: doubled, delayed, shuffled, lost.
//
// Every POST needs an Idempotency-Key. The answer to what had an effect (also a
// refusal of the customer's bank, 402) is stored under it in the transaction of
// the effect: the same request under the same key gets the same answer, byte for
// byte, with Idempotency-Replayed: true; another request under it gets 422.
// Requests with one key at the same time have one effect.
//
// An authorization is authorized, then captured once (the amount or less), voided
// or expired; what was captured is refunded in parts or whole. Each of these steps,
// and each refusal of a bank, is a row of the books, which are only ever added to;
// GET /provider/v1/books shows them to whoever compares. GET
// /provider/v1/authorizations?key= and /refunds?key= say what was done under a key.
//
// With Config.WebhookURL every step is told to it, signed as Standard Webhooks
// says, again and again until it answers 2xx.
//
// Requests carry "Authorization: Bearer <PAYSIM_API_KEY>". The provider knows
// neither the shop's messages nor its clock.
package paysim
