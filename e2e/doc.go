// Package e2e tests the shop as its customers and its operators meet it: real
// programs as separate processes, a real PostgreSQL, HTTP through the console,
// and faults from outside: kill -9 and SIGTERM of one copy or all (kill_test.go,
// shutdown_test.go, replicas_test.go), a database that is away, hangs or is used up,
// or hangs up in a COMMIT (database_test.go, commit_test.go), or whose disk is full
// (diskfull_test.go), a slow or failing handler, a foreign transaction, messages that
// nobody can read (poison_test.go), that come several times and in any order
// (disturb_test.go) or whose wake-up is lost (wakeup_test.go), a provider that
// misbehaves (misdeeds_test.go); and from inside, a process that dies between two
// steps (crash_test.go, FAULT_CRASH). It imports no service and looks into the
// database only to put such a fault there, and to check what must hold afterwards
// (check.go). The paths that customers can cause are told as stories, by shopctl:
// services/internal/scenario has them, and TestScenarios runs all.
//
// A Backend is what the programs run on; a Stack is one whole shop on a backend
// of its own. E2E_BACKEND names it, or says auto, as it does unset: then it is
// the first that can be had, which is decided within 3 s and told (decide.go).
//
//   - docker: each program and PostgreSQL in containers of their own, by
//     testcontainers-go. E2E_POSTGRES_IMAGE names PostgreSQL's image, E2E_PULL=1
//     pulls it; the programs' image is built here, without a registry.
//   - local: plain processes beside a private PostgreSQL.
//   - external: plain processes on the server of DATABASE_URL, an administrator's,
//     where each stack makes a database and drops it. The services' roles stay.
//
// A Stack may have several replicas of each service. The console shares requests
// out among them; before several consoles, and several of the provider, stands a
// Link that does so for connections.
//
// A backend that was named is taken or the tests fail. A Link is a proxy of the
// test's between a program and its database or the provider. PostgreSQL itself is a
// Process, Database, that docker and local can take down, freeze and start again.
//
// TestChaos draws faults of all kinds from a seed, under customers who order, cancel
// and retry, and leaves a report, a plot and the programs' logs:
// -chaos DURATION, -seed N, -chaos-out DIR.
//
// Tests are scaled down; ORDERFLOW_LONG=1 runs them at full length. Nothing is
// skipped: what can't run fails and says what to do. Nothing stays behind, not
// even when the test binary is killed: processes end with it, and what Docker
// still has is swept by the next run.
package e2e
