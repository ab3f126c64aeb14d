// Package contracts holds every command and every event that crosses a service
// border, one file per owner: a command's owner is its receiver, an event's its
// speaker. A command with a method Answer is a request, answered by that type.
//
// A kind ("inventory.reserve_stock") is written by hand once and never changes.
// Fields may be added to a payload (and its schema version raised when a reader
// should know); anything else is a new kind. Ids are UUIDs, money is minor units
// (int64, name ends in Minor) beside its currency (ISO 4217), times are UTC.
// testdata holds a golden payload per kind: what landed there stays readable.
//
// The package imports no service, and services import no other service: this is
// all that they share.
package contracts
