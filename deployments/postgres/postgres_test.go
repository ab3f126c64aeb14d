package postgres

import (
	"context"
	"errors"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

func TestTemporaryClusterIsReachedBothWaysAndLeavesNothing(t *testing.T) {
	t.Parallel()
	dir := openDir(t)
	check(t, os.Chmod(dir, 0o777))
	s := start(t, Config{Temp: true, TempDir: dir, Settings: map[string]string{"max_connections": "33"}})
	run, pid := clusterOf(s).run, s.PID()
	if filepath.Dir(run) != dir || filepath.Dir(query(t, s.URL(), `SELECT current_setting('data_directory')`)) != run {
		t.Errorf("got the data below %s, want them in %s", run, dir)
	}

	for name, dsn := range map[string]string{"TCP": s.URL(), "socket": s.DSN("", "", "")} {
		if got, want := query(t, dsn, `SELECT session_user`), "postgres"; got != want {
			t.Errorf("over %s: got user %q, want %q", name, got, want)
		}
	}
	if got := query(t, s.URL(), `SELECT coalesce(host(inet_client_addr()), '')`); got != "127.0.0.1" {
		t.Errorf("URL: got a connection from %q, want one from 127.0.0.1", got)
	}
	if got := query(t, s.DSN("", "", "template1"), `SELECT current_database() || coalesce(host(inet_client_addr()), '')`); got != "template1" {
		t.Errorf("DSN: got %q, want template1 over a socket", got)
	}
	execute(t, s.URL(), `CREATE ROLE clerk LOGIN`)
	if got := query(t, s.DSN("clerk", "any", ""), `SELECT session_user`); got != "clerk" {
		t.Errorf("DSN of a role: got user %q, want clerk", got)
	}
	for name, want := range map[string]string{
		"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on", "TimeZone": "UTC", "server_encoding": "UTF8",
		"lc_collate": "C", "listen_addresses": "127.0.0.1", "shared_buffers": "64MB", "jit": "off", "max_connections": "33",
		"password_encryption": "scram-sha-256", "unix_socket_permissions": "0700", "autovacuum_naptime": "5s",
	} {
		if name == "lc_collate" && clusterOf(s).bin.version.major >= 16 {
			continue // no setting any more
		}
		if got := query(t, s.URL(), `SELECT current_setting('`+name+`')`); got != want {
			t.Errorf("setting %s: got %q, want %q", name, got, want)
		}
	}

	st, err := os.Stat(run)
	check(t, err)
	if got := st.Mode().Perm(); got != 0o700 {
		t.Errorf("socket's directory: got mode %o, want 700", got)
	}
	if len(filepath.Join(run, ".s.PGSQL.65535")) >= 100 {
		t.Errorf("socket's path below %s is 100 bytes or longer", run)
	}
	if want := "private PostgreSQL " + s.Version(); !strings.HasPrefix(s.Source(), want) {
		t.Errorf("got source %q, want it to begin with %q", s.Source(), want)
	}

	check(t, s.Stop(t.Context()))
	check(t, s.Stop(t.Context()))
	if !gone(pid) || exists(run) {
		t.Errorf("after Stop: process gone %t, directory there %t; want true, false", gone(pid), exists(run))
	}
}

func TestTCPAsksForThePassword(t *testing.T) {
	t.Parallel()
	s := start(t, Config{Temp: true})
	u, err := url.Parse(s.URL())
	check(t, err)
	if pw, _ := u.User.Password(); strings.Contains(s.Source(), pw) {
		t.Errorf("source %q gives the password away", s.Source())
	}
	u.User = url.UserPassword("postgres", "wrong")
	_, err = Start(t.Context(), Config{URL: u.String()})
	wantError(t, err, "DATABASE_URL", "password authentication failed")
}

func TestKeptDataSurviveUntilFresh(t *testing.T) {
	t.Parallel()
	data := filepath.Join(openDir(t), "kept")
	first := start(t, Config{Data: data})
	if want := "data in " + data; !strings.Contains(first.Source(), want) {
		t.Errorf("got source %q, want it to say %q", first.Source(), want)
	}
	execute(t, first.URL(), `CREATE TABLE note AS SELECT 'kept' AS text`)
	check(t, first.Stop(t.Context()))

	second := start(t, Config{Data: data})
	if got := query(t, second.URL(), `SELECT text FROM note`); got != "kept" {
		t.Errorf("got note %q, want kept", got)
	}
	if clusterOf(second).password != clusterOf(first).password {
		t.Error("got a new password for kept data, want the old one")
	}
	st, err := os.Stat(filepath.Join(data, "password"))
	check(t, err)
	if got := st.Mode().Perm(); got != 0o600 {
		t.Errorf("password: got mode %o, want 600", got)
	}
	check(t, second.Stop(t.Context()))

	third := start(t, Config{Data: data, Fresh: true})
	if got := query(t, third.URL(), `SELECT coalesce(to_regclass('note')::text, 'none')`); got != "none" {
		t.Errorf("got table %q in fresh data, want none", got)
	}
}

func TestDataInUse(t *testing.T) {
	t.Parallel()
	data := filepath.Join(openDir(t), "kept")
	cmd, stdin, first := startHelper(t, helperConfig{Data: data, Cache: testCache}, os.Geteuid())
	for _, fresh := range []bool{false, true} {
		_, err := Start(t.Context(), Config{Data: data, Fresh: fresh, cache: testCache})
		used, ok := errors.AsType[*inUseError](err)
		if !ok || used.pid != cmd.Process.Pid {
			t.Errorf("fresh %t: got error %v, want one naming process %d", fresh, err, cmd.Process.Pid)
		}
		wantError(t, err, "data directory "+data+" is in use by process", "stop that program or give --data DIR")
	}
	if got := query(t, first.URL, `SELECT 'well'`); got != "well" {
		t.Errorf("first server: got %q, want well", got)
	}
	check(t, stdin.Close())
	check(t, cmd.Wait())
	start(t, Config{Data: data})
}

func TestRestartKeepsPortSocketAndCommits(t *testing.T) {
	t.Parallel()
	s := start(t, Config{Temp: true})
	execute(t, s.URL(), `CREATE TABLE count AS SELECT 0 AS n`)
	sockets := s.DSN("", "", "")
	for i, mode := range []string{Fast, Immediate, Immediate} {
		execute(t, s.URL(), `UPDATE count SET n = n + 1`)
		before := s.PID()
		check(t, s.Restart(t.Context(), mode))
		if s.PID() == before || !gone(before) {
			t.Errorf("%s: got process %d after %d, gone %t; want another, and the old one gone", mode, s.PID(), before, gone(before))
		}
		want := string(rune('1' + i))
		for _, dsn := range []string{s.URL(), sockets} {
			if got := query(t, dsn, `SELECT n::text FROM count`); got != want {
				t.Errorf("%s: got count %s, want %s", mode, got, want)
			}
		}
	}
	wantError(t, s.Restart(t.Context(), "smart"), `no mode "smart"`)
	check(t, s.Stop(t.Context()))
	wantError(t, s.Restart(t.Context(), Fast), "it was stopped")
}

// logLines collects what is logged.
type logLines struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *logLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logLines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func TestServerThatDiedIsReportedAndStartsAgain(t *testing.T) {
	t.Parallel()
	var lines logLines
	s := start(t, Config{Temp: true, Log: slog.New(slog.NewTextHandler(&lines, nil))})
	execute(t, s.URL(), `CREATE TABLE note AS SELECT 'kept' AS text`)
	check(t, syscall.Kill(s.PID(), syscall.SIGKILL))
	eventually(t, "the death is logged", func() bool { return strings.Contains(lines.String(), "PostgreSQL ended by itself") })
	check(t, s.Restart(t.Context(), Fast))
	if got := query(t, s.URL(), `SELECT text FROM note`); got != "kept" {
		t.Errorf("got note %q, want kept", got)
	}
}

// A backend that can't end holds a fast shutdown up for ever.
func TestStopInsistsWhenItsContextEnds(t *testing.T) {
	t.Parallel()
	s := start(t, Config{Temp: true})
	conn, err := pgx.Connect(t.Context(), s.DSN("", "", ""))
	check(t, err)
	pid, backend := s.PID(), int(conn.PgConn().PID())
	check(t, syscall.Kill(backend, syscall.SIGSTOP))
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	check(t, s.Stop(ctx))
	if !gone(pid) || !gone(backend) {
		t.Errorf("server gone %t, backend gone %t; want both", gone(pid), gone(backend))
	}
	if err := conn.Close(t.Context()); err != nil {
		t.Logf("close the connection that was cut: %v", err)
	}
}

func TestParallelFirstStartsShareOneTemplate(t *testing.T) {
	t.Parallel()
	cache := openDir(t)
	var wg sync.WaitGroup
	servers, errs := make([]*Server, 4), make([]error, 4)
	for i := range servers {
		wg.Go(func() { servers[i], errs[i] = Start(t.Context(), Config{Temp: true, cache: cache}) })
	}
	wg.Wait()
	identifiers := map[string]bool{}
	for i, s := range servers {
		check(t, errs[i])
		identifiers[query(t, s.URL(), `SELECT system_identifier::text FROM pg_control_system()`)] = true
		check(t, s.Stop(t.Context()))
	}
	if len(identifiers) != 1 {
		t.Errorf("got clusters of %d templates, want of 1", len(identifiers))
	}
	entries, err := os.ReadDir(filepath.Join(cache, "templates"))
	check(t, err)
	if len(entries) != 3 {
		t.Errorf("cache: got %v, want the template, its sum and its lock", entries)
	}
}

func TestNoPlaceForATemplateIsNoHindrance(t *testing.T) {
	t.Parallel()
	file := filepath.Join(openDir(t), "file")
	check(t, os.WriteFile(file, nil, 0o600))
	s := start(t, Config{Temp: true, cache: filepath.Join(file, "cache")})
	if got := query(t, s.URL(), `SELECT 'well'`); got != "well" {
		t.Errorf("got %q, want well", got)
	}
}

func TestFailedStartQuotesTheLogAndLeavesNothing(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		set  map[string]string
		want []string
	}{
		"a setting that is no setting": {map[string]string{"shared_buffers": "many"}, []string{"its log ends with", "shared_buffers"}},
		"nothing durable": {
			map[string]string{"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"},
			[]string{"setting fsync is off", "setting synchronous_commit is off", "setting full_page_writes is off"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			data := filepath.Join(openDir(t), "kept")
			_, err := Start(t.Context(), Config{Data: data, Settings: tt.set, cache: testCache})
			wantError(t, err, tt.want...)
			if exists(filepath.Join(data, "cluster", "postmaster.pid")) {
				t.Error("a server runs on")
			}
			start(t, Config{Data: data}) // neither locked nor spoilt
		})
	}
	t.Run("no time left", func(t *testing.T) {
		t.Parallel()
		cfg := Config{Temp: true, cache: testCache, Log: slog.New(slog.DiscardHandler)}
		p, err := newPlace(cfg)
		check(t, err)
		c, err := newCluster(t.Context(), cfg, p, searchPath())
		check(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := c.start(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("got error %v, want context canceled", err)
		}
		check(t, c.stop(t.Context()))
		if exists(c.run) {
			t.Errorf("%s is left", c.run)
		}
	})
}
