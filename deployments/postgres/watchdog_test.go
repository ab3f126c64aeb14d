package postgres

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

func TestNothingOutlivesAKilledProgram(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		temp   bool
		frozen bool
		kill   func(pid, watchdog int) error
	}{
		"temporary, killed":                            {true, false, func(pid, _ int) error { return syscall.Kill(pid, syscall.SIGKILL) }},
		"kept, killed":                                 {false, false, func(pid, _ int) error { return syscall.Kill(pid, syscall.SIGKILL) }},
		"kept, whole group killed":                     {false, false, func(pid, _ int) error { return syscall.Kill(-pid, syscall.SIGKILL) }},
		"temporary, whole group terminated":            {true, false, func(pid, _ int) error { return syscall.Kill(-pid, syscall.SIGTERM) }},
		"temporary, killed while its server is frozen": {true, true, func(pid, _ int) error { return syscall.Kill(pid, syscall.SIGKILL) }},
		"temporary, watchdog told to end first": {true, false, func(pid, watchdog int) error {
			return errors.Join(syscall.Kill(watchdog, syscall.SIGTERM), syscall.Kill(pid, syscall.SIGKILL))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			data := filepath.Join(openDir(t), "kept")
			cmd, _, h := startHelper(t, helperConfig{Data: data, Temp: tt.temp, Frozen: tt.frozen, Cache: testCache}, os.Geteuid())
			servers, err := children(h.PID)
			check(t, err)
			if !tt.frozen {
				execute(t, h.URL, `CREATE TABLE note AS SELECT 'kept' AS text`)
			}
			check(t, tt.kill(cmd.Process.Pid, h.Watchdog))
			if err := cmd.Wait(); err == nil {
				t.Fatal("the helper ended well, want it killed")
			}
			if !tt.temp {
				// At once: waits for the watchdog instead of complaining.
				s := start(t, Config{Data: data})
				if got := query(t, s.URL(), `SELECT text FROM note`); got != "kept" {
					t.Errorf("got note %q, want kept", got)
				}
			}
			eventually(t, "server, watchdog and directory are gone", func() bool {
				return !slices.ContainsFunc(append(servers, h.PID), func(pid int) bool { return !gone(pid) }) && gone(h.Watchdog) && !exists(h.Run)
			})
		})
	}
}

// A server can be left only when the watchdog is killed with its program. Then
// the next one says which process it is.
func TestServerLeftAloneIsNamed(t *testing.T) {
	t.Parallel()
	data := filepath.Join(openDir(t), "kept")
	cmd, _, h := startHelper(t, helperConfig{Data: data, Cache: testCache}, os.Geteuid())
	t.Cleanup(func() { check(t, os.RemoveAll(h.Run)) })
	check(t, syscall.Kill(h.Watchdog, syscall.SIGKILL))
	check(t, cmd.Process.Kill())
	if err := cmd.Wait(); err == nil {
		t.Fatal("the helper ended well, want it killed")
	}
	for _, fresh := range []bool{false, true} {
		_, err := Start(t.Context(), Config{Data: data, Fresh: fresh, cache: testCache})
		wantError(t, err, "is in use by process "+strconv.Itoa(h.PID))
	}
	check(t, syscall.Kill(h.PID, syscall.SIGINT))
	eventually(t, "the server is gone", func() bool { return gone(h.PID) })
	start(t, Config{Data: data})
}

// After kill -9 of everything, above all in a container started again, the pid
// in postmaster.pid soon belongs to some other process of the same account.
func TestStalePostmasterPIDDoesNotMatter(t *testing.T) {
	t.Parallel()
	data := filepath.Join(openDir(t), "kept")
	s := start(t, Config{Data: data})
	pidFile := filepath.Join(data, "cluster", "postmaster.pid")
	stale, err := os.ReadFile(pidFile)
	check(t, err)
	check(t, s.Stop(t.Context()))

	other := clusterOf(s).as.command(t.Context(), "/bin/sleep", "60")
	check(t, other.Start())
	t.Cleanup(func() {
		if err := other.Wait(); err == nil {
			t.Error("the bystander ended by itself, want it killed by the test's end")
		}
	})
	lines := append([]byte(strconv.Itoa(other.Process.Pid)), stale[indexNewline(stale):]...)
	check(t, os.WriteFile(pidFile, lines, 0o600))
	check(t, clusterOf(s).as.own(pidFile))

	s = start(t, Config{Data: data})
	if got := query(t, s.URL(), `SELECT 'well'`); got != "well" {
		t.Errorf("got %q, want well", got)
	}
}

func indexNewline(b []byte) int {
	for i, c := range b {
		if c == '\n' {
			return i
		}
	}
	return len(b)
}

func TestOrdinaryUserNeedsNothingSpecial(t *testing.T) {
	t.Parallel()
	uid := os.Geteuid()
	home := openDir(t)
	if uid == 0 {
		uid = 65534 // nobody: initdb wants an account with a name
		check(t, os.Chown(home, uid, uid))
	}
	// The default places, in a home of its own.
	cmd, stdin, h := startHelper(t, helperConfig{}, uid, "HOME="+home, "XDG_CACHE_HOME="+filepath.Join(home, ".cache"))
	if got := query(t, h.URL, `SELECT 'well'`); got != "well" {
		t.Errorf("got %q, want well", got)
	}
	st, err := os.Stat(h.Run)
	check(t, err)
	if got := st.Sys().(*syscall.Stat_t).Uid; int(got) != uid {
		t.Errorf("socket's directory belongs to %d, want %d", got, uid)
	}
	var kept []string
	check(t, filepath.WalkDir(home, func(path string, _ fs.DirEntry, err error) error {
		if strings.HasSuffix(path, "/orderflow/postgres/cluster/PG_VERSION") {
			kept = append(kept, path)
		}
		return err
	}))
	if len(kept) != 1 {
		t.Errorf("got clusters %v, want one below its home", kept)
	}
	check(t, stdin.Close())
	check(t, cmd.Wait())
	if !gone(h.PID) || exists(h.Run) {
		t.Errorf("process gone %t, directory there %t; want true, false", gone(h.PID), exists(h.Run))
	}
}
