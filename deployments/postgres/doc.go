// Package postgres finds or starts the PostgreSQL that the shop runs on.
//
// Start takes the first of these that can be had, and Server.Source says in one
// line which it was and why:
//
//  1. The server behind Config.URL, the DATABASE_URL: nothing is started.
//  2. A private cluster of the PostgreSQL binaries on the machine: those in PATH,
//     those of packages, newest version first, and those downloaded earlier.
//  3. A container of Docker, when Docker answers within 2 s and runs on this
//     machine. ORDERFLOW_POSTGRES_IMAGE or E2E_POSTGRES_IMAGE names the image; the
//     official one, of a pinned version, is pulled if it isn't there.
//  4. A private cluster of binaries downloaded once into the user's cache from a
//     Maven repository, Maven Central or the mirror that
//     ORDERFLOW_POSTGRES_DOWNLOAD names, their SHA-256 checked.
//
// If none can be had the error says why of each, and names the fixes. Data that
// are kept stay with the kind of server that made them, cluster or container:
// another kind would begin with empty ones.
//
// A private cluster works for an ordinary user and for root (PostgreSQL refuses
// to run as root, so the server then runs as user postgres, or nobody). It is
// reached over a unix socket in a directory that only its own user and root can
// enter, which is the quick way and needs no password, and over TCP on 127.0.0.1
// with a random password. It is copied from a template made once per PostgreSQL
// version with initdb, which makes a new one ready in a fraction of a second; a
// template that was damaged is made anew. The cluster is kept in Config.Data
// between runs, or, for tests, removed at the end.
//
// A container is reached over TCP on 127.0.0.1 alone, with a random password.
// Its data are kept in a volume of Docker, or in Config.Data if that is set.
//
// Guarantees:
//   - Settings are durable: fsync, synchronous_commit and full_page_writes are
//     on, of a server of ours and of one behind DATABASE_URL, or Start refuses.
//   - One program per data directory; the second one is told which process has it.
//   - No process, container, socket or temporary directory outlives the program,
//     however it ends: a watchdog shuts the server down even after SIGKILL. A
//     container whose watchdog was killed, too, goes with the next start of one.
//   - A start that fails says why, with the last lines of the server's log, and
//     leaves nothing running.
//
// It never makes roles, schemas or tables (that is the migrator's work), never
// touches a server that it didn't start, and never prints a password except in
// what Server.URL and Server.DSN return.
package postgres
