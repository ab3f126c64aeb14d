package e2e

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// TestDatabaseVerbs does to PostgreSQL what can be done to it: each time it is back
// at its address with all that was committed.
func TestDatabaseVerbs(t *testing.T) {
	t.Parallel()
	b := openBackend(t)
	connect := func() (*pgx.Conn, error) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		return pgx.Connect(ctx, b.DSN("", ""))
	}
	// note makes one more note and returns how many there are.
	note := func() int {
		t.Helper()
		conn, err := connect()
		if err != nil {
			t.Fatal(err)
		}
		var n int
		_, err = conn.Exec(t.Context(), `CREATE TABLE IF NOT EXISTS note (); INSERT INTO note DEFAULT VALUES`)
		err = errors.Join(err, conn.QueryRow(t.Context(), `SELECT count(*) FROM note`).Scan(&n), conn.Close(t.Context()))
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	wantSilent := func(when string) {
		t.Helper()
		if conn, err := connect(); err == nil {
			t.Errorf("%s: it takes connections: %v", when, conn.Close(t.Context()))
		}
	}
	notes := note()
	for _, way := range []struct {
		name string
		down func() error
	}{
		{"stopped", func() error {
			exit, err := b.Stop(t.Context(), Database)
			if exit != 0 {
				t.Errorf("it was stopped with exit code %d, want 0", exit)
			}
			return err
		}},
		{"quit", func() error { return b.QuitDatabase(t.Context()) }},
		{"killed", func() error { return b.Kill(Database) }},
		{"paused and killed", func() error { return errors.Join(b.Pause(Database), b.Kill(Database)) }},
	} {
		if err := way.down(); err != nil {
			t.Fatalf("%s: %v", way.name, err)
		}
		wantSilent(way.name)
		if err := b.Kill(Database); err == nil {
			t.Errorf("%s: it was killed again", way.name)
		}
		started := time.Now()
		url, err := b.Start(t.Context(), Database, nil)
		if err != nil || url != b.DSN("", "") {
			t.Fatalf("%s: started at %s, %v; want %s", way.name, url, err, b.DSN("", ""))
		}
		t.Logf("%s, it took connections again after %s", way.name, since(started))
		if _, err := b.Start(t.Context(), Database, nil); err == nil {
			t.Errorf("%s: it was started twice", way.name)
		}
		if notes++; note() != notes {
			t.Fatalf("%s: it lost what was committed", way.name)
		}
	}

	if _, err := b.FillDisk(t.Context()); !errors.Is(err, errNoSmallDisk) {
		t.Errorf("the disk of others was filled: %v, want %v", err, errNoSmallDisk)
	}

	if err := b.Pause(Database); err != nil {
		t.Fatal(err)
	}
	wantSilent("paused")
	if err := b.Resume(Database); err != nil {
		t.Fatal(err)
	}
	if notes++; note() != notes {
		t.Error("it lost what was committed before it was paused")
	}

	victim, err := connect()
	if err != nil {
		t.Fatal(err)
	}
	if err := b.KillSession(int(victim.PgConn().PID())); err != nil {
		t.Fatal(err)
	}
	if _, err := victim.Exec(t.Context(), `SELECT`); err == nil {
		t.Errorf("the session that was killed goes on: %v", victim.Close(t.Context()))
	}
	// Until the server has noticed it takes connections, and then cuts them all.
	eventually(t, 10*time.Second, func() error {
		said := b.Logs(Database)
		for _, want := range []string{"received fast shutdown request", "received immediate shutdown request", "terminated by signal 9"} {
			if !strings.Contains(said, want) {
				return errors.New("its log doesn't say: " + want + "\n" + tail(said, 40))
			}
		}
		return nil
	})
	eventually(t, 10*time.Second, func() error {
		conn, err := connect()
		if err == nil {
			err = conn.Close(t.Context())
		}
		return err
	})
	if notes++; note() != notes {
		t.Error("it lost what was committed when a session was killed")
	}
}
