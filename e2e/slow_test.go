package e2e

import (
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
)

// TestSlowNeighbours measures how long orders take from placed to confirmed
// while somebody else is slow who has nothing to do with it: it must make no
// difference. To reach is a p99 within twice that of a run without; the test
// fails at ten times and a second.
//
// It measures, so nothing else runs beside it.
func TestSlowNeighbours(t *testing.T) {
	s := NewStack(t)
	rate, duration := scaled(10, 15), scaled(3*time.Second, 30*time.Second)
	s.Load(t, rate, time.Second).Wait(t) // caches and pools fill
	base := s.Load(t, rate, duration).Wait(t)
	t.Logf("%-34s p50 %3.0f ms, p99 %3.0f ms", "alone:", base.P50, base.P99)

	// One handler of notifications takes 3 s.
	s.Terminate(t, "notifications")
	s.Launch(t, "notifications", "FAULT_SLOW=orders.order_placed=3s")
	s.WaitReady(t, "notifications")
	slow := s.Load(t, rate, duration).Wait(t)
	var waiting int
	if err := s.Admin.GetContext(t.Context(), &waiting, `SELECT count(*) FROM messaging.queue_notifications`); err != nil {
		t.Fatal(err)
	}
	if waiting == 0 {
		t.Error("no notification is waiting behind the slow handler: it slowed nothing")
	}
	compare(t, "with a handler of 3 s:", base, slow)
	t.Logf("%d notifications wait", waiting)
	s.Terminate(t, "notifications")
	s.Launch(t, "notifications")
	CheckShop(t, s.DSN("", "")) // catching up isn't part of the next measurement

	// Others have writing transactions open: in another database of the server, and in
	// the shop's own.
	release := holdForeignTransactions(t, s)
	held := s.Load(t, rate, scaled(4*time.Second, time.Minute)).Wait(t)
	release()
	compare(t, "with foreign transactions open:", base, held)

	CheckShop(t, s.DSN("", ""))
}

// compare logs the ratio of the p99s and fails when it is far from one.
func compare(t *testing.T, what string, base, got LoadResult) {
	t.Helper()
	t.Logf("%-34s p50 %3.0f ms, p99 %3.0f ms: %.2f times the p99 alone (to reach: 2)", what, got.P50, got.P99, got.P99/base.P99)
	if got.P99 > 10*base.P99+1000 {
		t.Errorf("%s p99 %.0f ms, alone %.0f ms", what, got.P99, base.P99)
	}
}

// holdForeignTransactions leaves two transactions open that have written, until
// release is called: one in another database on the stack's server, which it makes,
// and one in the shop's.
func holdForeignTransactions(t *testing.T, s *Stack) (release func()) {
	t.Helper()
	const name = externalPrefix + "other"
	if _, err := s.Admin.ExecContext(t.Context(), `CREATE DATABASE `+name); err != nil {
		t.Fatal(err)
	}
	opened := time.Now()
	var held []*sqlx.Tx
	for _, database := range []string{name, ""} { // the same login; "" is the shop's
		db, err := openDatabase(s.DSN("", ""), database)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := db.Close(); err != nil {
				t.Errorf("close a foreign session: %v", err)
			}
		})
		tx, err := begin(t, db)
		if err != nil {
			t.Fatalf("begin a foreign transaction: %v", err)
		}
		held = append(held, tx)
	}
	return func() {
		t.Helper()
		for _, tx := range held {
			// The transaction must have been there to the end.
			if _, err := tx.Exec(`INSERT INTO things VALUES (2)`); err != nil {
				t.Errorf("a foreign transaction was cut: %v", err)
			}
			if err := tx.Rollback(); err != nil {
				t.Errorf("end a foreign transaction: %v", err)
			}
		}
		t.Logf("foreign transactions held for %s", since(opened))
	}
}

func begin(t *testing.T, db *sqlx.DB) (*sqlx.Tx, error) {
	tx, err := db.BeginTxx(t.Context(), nil)
	if err != nil {
		return nil, err
	}
	_, err = tx.Exec(`CREATE TABLE things (id integer); INSERT INTO things VALUES (1)`)
	return tx, err
}
