// Package httpapi is the edge: how requests come in and answers go out, the same
// way in every service.
//
// It owns no data and sends no messages. A Mux gives each request an id, which
// becomes the correlation id of every message that the request causes. Decode
// reads a body strictly and reports everything that is wrong with it at once.
// Every error leaves as an RFC 9457 problem with a code that stays the same.
//
// What it guarantees: no bad input is answered with a 5xx, reaches a handler as
// a text that PostgreSQL can't store, or comes back in an answer or a log line;
// nothing internal is shown to a client. What it never does: decide anything of
// the business, keep state, or touch the database.
package httpapi
