// Package postgres finds or starts the PostgreSQL that the shop runs on.
//
// With a DATABASE_URL it uses that server and starts nothing. Otherwise it
// starts a private cluster from the PostgreSQL binaries found on the machine,
// as an ordinary user or as root (PostgreSQL refuses to run as root, so the
// server then runs as user postgres, or nobody). The cluster is reached over a
// unix socket in a directory that only its own user and root can enter, which
// is the quick way and needs no password, and over TCP on 127.0.0.1 with a
// random password.
//
// The cluster is copied from a template made once per PostgreSQL version with
// initdb, which makes a new one ready in a fraction of a second. It is kept in
// Config.Data between runs, or, for tests, removed at the end.
//
// Guarantees:
//   - Settings are durable: fsync, synchronous_commit and full_page_writes are
//     on, of a private server and of one behind DATABASE_URL, or Start refuses.
//   - One program per data directory; the second one is told which process has it.
//   - No process, socket or temporary directory outlives the program, however it
//     ends: a watchdog shuts the server down even after SIGKILL.
//   - A start that fails says why, with the last lines of the server's log, and
//     leaves nothing running.
//
// It never makes roles, schemas or tables (that is the migrator's work), never
// touches a server that it didn't start, and never prints a password except in
// what Server.URL and Server.DSN return.
package postgres
