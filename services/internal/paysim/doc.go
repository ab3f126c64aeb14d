// Package paysim is a payment provider for a shop that has none: a program of
// its own with its own schema and its own books, reached over HTTP only. It
// moves no money. What happens to a payment is chosen by its method token:
//
//	tok_ok                  authorized
//	tok_declined            refused: card_declined
//	tok_insufficient_funds  refused: insufficient_funds
//	tok_slow                authorized after Config.Slow
//	tok_error_once          500 before any effect at the first call, then authorized
//
// Any other token is answered 422 invalid_method.
//
// Every POST needs an Idempotency-Key. The answer to what had an effect (also a
// refusal of the customer's bank, 402) is stored under it in the transaction of
// the effect: the same request under the same key gets the same answer, byte for
// byte, with Idempotency-Replayed: true; another request under it gets 422.
// Requests with one key at the same time have one effect.
//
// An authorization is authorized, then captured once (the amount or less) or
// voided. Each of these steps, and each refusal, is a row of the books, which are
// only ever added to; GET /provider/v1/books shows them to whoever compares.
//
// Requests carry "Authorization: Bearer <PAYSIM_API_KEY>". The provider knows
// neither the shop's messages nor its clock.
package paysim
