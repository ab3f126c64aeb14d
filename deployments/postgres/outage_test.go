package postgres

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

func TestOutagesOfACluster(t *testing.T) {
	t.Parallel()
	outages(t, start(t, Config{Temp: true}))
}

func TestOutagesOfAContainer(t *testing.T) {
	t.Parallel()
	if _, ok := theDocker(t); ok {
		outages(t, startIn(t, Config{Temp: true}))
	}
}

// A kernel can fail to freeze processes; then they run on, and it is asked again.
func TestFreezeIsTriedAgain(t *testing.T) {
	t.Parallel()
	asked := filepath.Join(t.TempDir(), "asked")
	script := filepath.Join(t.TempDir(), "docker")
	check(t, os.WriteFile(script, []byte(`#!/bin/sh
echo "$@" >>'`+asked+`'
[ $(wc -l <'`+asked+`') = 3 ] && exit
echo "Error response from daemon: Cannot pause container $2: OCI runtime pause failed: unable to freeze: unknown" >&2
exit 1
`), 0o755))
	c := &container{docker: docker{path: script, env: os.Environ()}, name: "name"}
	c.life.Store(&life{done: make(chan struct{})})
	check(t, c.freeze(t.Context()))
	got, err := os.ReadFile(asked)
	check(t, err)
	if want := strings.Repeat("pause name\n", 3); string(got) != want {
		t.Errorf("asked of docker: got\n%swant\n%s", got, want)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	wantError(t, c.freeze(ctx), "unable to freeze")
}

// outages takes the server down in every way, frozen or not, and brings it back:
// at the same address, with all that was committed.
func outages(t *testing.T, s *Server) {
	wantDown := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, ErrDown) {
			t.Errorf("%s: got error %v, want ErrDown", what, err)
		}
	}
	wantNotes := func(n, when string) {
		t.Helper()
		if got := query(t, s.URL(), `SELECT count(*)::text FROM note`); got != n {
			t.Errorf("%s: got %s notes, want %s", when, got, n)
		}
	}
	execute(t, s.URL(), `CREATE TABLE note (text text)`)
	notes := 0
	for _, mode := range []string{Fast, Immediate, Killed} {
		for _, frozen := range []bool{false, true} {
			notes++
			execute(t, s.URL(), `INSERT INTO note VALUES ('kept')`)
			if frozen {
				check(t, s.Freeze(t.Context()))
			}
			check(t, s.Halt(t.Context(), mode))
			if conn, err := pgx.Connect(t.Context(), s.URL()); err == nil {
				t.Errorf("%s: it takes connections after its halt: %v", mode, conn.Close(t.Context()))
			}
			wantDown("halt", s.Halt(t.Context(), mode))
			wantDown("freeze", s.Freeze(t.Context()))
			wantDown("kill a session", s.KillSession(t.Context(), 1))
			check(t, s.Relaunch(t.Context()))
			wantNotes(strconv.Itoa(notes), mode)
			wantError(t, s.Relaunch(t.Context()), "it runs already")
		}
	}
	wantError(t, s.Halt(t.Context(), "smart"), `no mode "smart"`)

	check(t, s.Freeze(t.Context()))
	hanging, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if conn, err := pgx.Connect(hanging, s.URL()); err == nil {
		t.Errorf("it answers while it is frozen: %v", conn.Close(t.Context()))
	}
	check(t, s.Thaw(t.Context()))
	check(t, s.Thaw(t.Context()))
	wantNotes(strconv.Itoa(notes), "thawed")

	victim, err := pgx.Connect(t.Context(), s.URL())
	check(t, err)
	check(t, s.KillSession(t.Context(), int(victim.PgConn().PID())))
	if _, err := victim.Exec(t.Context(), `SELECT`); err == nil {
		t.Errorf("the session that was killed goes on: %v", victim.Close(t.Context()))
	}
	// The session ends before the server hears of it, and until then it takes others.
	eventually(t, "it has noticed the session's death", func() bool {
		said, err := s.Log(t.Context())
		return err == nil && strings.Contains(said, "terminated by signal 9")
	})
	eventually(t, "it has recovered by itself", func() bool {
		conn, err := pgx.Connect(t.Context(), s.URL())
		return err == nil && conn.Close(t.Context()) == nil
	})
	wantNotes(strconv.Itoa(notes), "after a session was killed")
	said, err := s.Log(t.Context())
	check(t, err)
	if want := "database system was not properly shut down"; !strings.Contains(said, want) {
		t.Errorf("the log doesn't say %q:\n%s", want, said)
	}
}

// Sessions of a killed server that are at work live on: the next server waits for
// their end.
func TestRelaunchWaitsForOrphans(t *testing.T) {
	t.Parallel()
	s := start(t, Config{Temp: true})
	execute(t, s.URL(), `CREATE TABLE note AS SELECT 'kept' AS text`)
	conn, err := pgx.Connect(t.Context(), s.URL())
	check(t, err)
	orphan := int(conn.PgConn().PID())
	busy := make(chan error, 1)
	go func() {
		_, err := conn.Exec(context.Background(), `SELECT sum(n) FROM generate_series(1, 3000000) n`)
		busy <- err
	}()
	eventually(t, "the session is at work", func() bool {
		return query(t, s.URL(), `SELECT count(*)::text FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%generate_series(1%' AND pid <> pg_backend_pid()`) == "1"
	})
	check(t, s.Halt(t.Context(), Killed))
	if gone(orphan) {
		t.Error("the session ended with its server: there is no orphan to wait for")
	}
	check(t, s.Relaunch(t.Context()))
	if !gone(orphan) {
		t.Error("two servers are at work on the data")
	}
	if got := query(t, s.URL(), `SELECT text FROM note`); got != "kept" {
		t.Errorf("got note %q, want kept", got)
	}
	t.Logf("the orphan's statement: %v", <-busy)
}
