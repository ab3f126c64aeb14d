// Package e2e tests the shop as its customers and its operators meet it: real
// programs as separate processes, a real PostgreSQL, HTTP through the console,
// and faults from outside: kill -9, SIGTERM, a slow handler, a foreign
// transaction. It imports no service and looks into the database only to check
// what must hold afterwards (check.go).
//
// A Backend is what the programs run on; a Stack is one whole shop on a backend
// of its own. Tests are scaled down; ORDERFLOW_LONG=1 runs them at full length.
// Nothing is skipped: what can't run fails and says what to do. Nothing stays
// behind, not even when the test binary is killed.
package e2e
