// Package contracts holds every command and every event that crosses a service
// border, one file per owner: a command's owner is its receiver, an event's its
// speaker. A command with a method Answer is a request, answered by that type.
//
// A kind ("inventory.reserve_stock") is written by hand once and never changes.
// Ids are UUIDs, money is minor units (int64, name ends in Minor) beside its
// currency (ISO 4217), times are UTC.
//
// # Changing a contract
//
// Fields may be added, which makes the next schema version of the kind: a method
// SchemaVersion of its type. Anything else (a field removed, renamed or retyped,
// one that must be there and wasn't, a stricter rule) is a new kind. testdata
// holds golden payloads of every version: what landed there stays readable, and
// the tests tell which file a change asks for.
//
// Receivers are upgraded before senders: once all replicas of all receivers know
// a version or a kind, a sender may send it. A service that sends to itself, or
// two that send to each other, take two steps: one release that reads it, one that
// writes it. Where that was missed nothing is lost: a receiver makes a dead letter
// of what is newer than itself, which is redriven after its upgrade.
//
// The package imports no service, and services import no other service: this is
// all that they share.
package contracts
