package postgres

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// listen takes a port of 127.0.0.1 for the test. A server that was killed has it
// for a moment more when it was just starting a process.
func listen(t *testing.T, port int) net.Listener {
	t.Helper()
	var l net.Listener
	var err error
	eventually(t, "the port is free", func() bool {
		l, err = net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		return !errors.Is(err, syscall.EADDRINUSE)
	})
	check(t, err)
	t.Cleanup(func() {
		if err := l.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
	})
	return l
}

func TestPortTakenAtTheLastMomentIsNotInsistedOn(t *testing.T) {
	t.Parallel()
	taken := listen(t, 0).Addr().(*net.TCPAddr).Port
	cfg := Config{Temp: true, cache: testCache, Log: slog.New(slog.DiscardHandler)}
	p, err := newPlace(cfg)
	check(t, err)
	c, err := newCluster(t.Context(), cfg, p, searchPath())
	check(t, err)
	asked := 0
	c.ports = func() (int, error) {
		if asked++; asked == 1 {
			return taken, nil
		}
		return freePort()
	}
	t.Cleanup(func() { check(t, c.stop(context.Background())) })
	check(t, c.start(t.Context()))
	if c.port == taken || asked != 2 {
		t.Errorf("got port %d after %d questions, want another than %d after 2", c.port, asked, taken)
	}
	if got := query(t, c.socketDSN(superuser, superuser), `SELECT 'well'`); got != "well" {
		t.Errorf("got %q, want well", got)
	}
}

func TestRestartWaitsForItsPort(t *testing.T) {
	t.Parallel()
	s := start(t, Config{Temp: true})
	check(t, syscall.Kill(s.PID(), syscall.SIGKILL))
	c := clusterOf(s)
	<-c.proc.Load().done
	l := listen(t, c.port)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	wantError(t, s.Restart(ctx, Fast), "could not create any TCP/IP sockets", "Address already in use")

	back := make(chan error, 1)
	go func() { back <- s.Restart(t.Context(), Fast) }()
	check(t, l.Close())
	check(t, <-back)
	if got := query(t, s.URL(), `SELECT 'well'`); got != "well" {
		t.Errorf("got %q, want well", got)
	}
}

func TestDirectoryOfAnotherAccount(t *testing.T) {
	t.Parallel()
	data := filepath.Join(openDir(t), "kept")
	s := start(t, Config{Data: data})
	as := clusterOf(s).as
	check(t, s.Stop(t.Context()))
	if !as.drop { // only root can give a directory away: as good as another's is one that is closed
		check(t, os.Chmod(data, 0o500))
		_, err := Start(t.Context(), Config{Data: filepath.Join(data, "below"), cache: testCache})
		wantError(t, err, "permission denied", "--data DIR")
		check(t, os.Chmod(data, 0o700))
		return
	}
	check(t, os.Chown(filepath.Join(data, "cluster"), 12345, 12345))
	_, err := Start(t.Context(), Config{Data: data, cache: testCache})
	wantError(t, err, filepath.Join(data, "cluster")+" belong to uid 12345", "the server runs as user", "chown -R", "--data DIR")
	check(t, as.own(filepath.Join(data, "cluster")))
	start(t, Config{Data: data})

	closed := filepath.Join(openDir(t), "home") // as root's home is
	check(t, os.Mkdir(closed, 0o700))
	_, err = Start(t.Context(), Config{Data: filepath.Join(closed, "kept"), cache: filepath.Join(closed, "cache")})
	wantError(t, err, closed+" is closed to user", "--data DIR")
	// A cache there is just not used.
	start(t, Config{Temp: true, cache: filepath.Join(closed, "cache")})
}

func TestServerStartedByHandOnOurDataIsNamed(t *testing.T) {
	t.Parallel()
	data := filepath.Join(openDir(t), "kept")
	s := start(t, Config{Data: data})
	execute(t, s.URL(), `CREATE TABLE note AS SELECT 'kept' AS text`)
	check(t, s.Stop(t.Context()))
	c := clusterOf(s)
	sockets := openDir(t)
	check(t, c.as.own(sockets))
	byHand := c.as.command(t.Context(), filepath.Join(c.bin.dir, "postgres"), "-D", c.data, "-c", "listen_addresses=", "-c", "unix_socket_directories="+sockets)
	check(t, byHand.Start())
	ended := make(chan error, 1)
	go func() { ended <- byHand.Wait() }()
	eventually(t, "the server is up", func() bool {
		lines, err := c.postmasterPID()
		return err == nil && len(lines) >= 8 && lines[7] == "ready"
	})
	for _, fresh := range []bool{false, true} {
		_, err := Start(t.Context(), Config{Data: data, Fresh: fresh, cache: testCache})
		wantError(t, err, "is in use by process "+strconv.Itoa(byHand.Process.Pid), "stop that program or give --data DIR")
	}
	check(t, byHand.Process.Signal(syscall.SIGINT))
	check(t, <-ended)
	s = start(t, Config{Data: data})
	if got := query(t, s.URL(), `SELECT text FROM note`); got != "kept" {
		t.Errorf("got note %q, want kept", got)
	}
}

func TestSocketsPathStaysShort(t *testing.T) {
	t.Parallel()
	long := filepath.Join(openDir(t), strings.Repeat("long", 25))
	check(t, os.Mkdir(long, 0o777))
	cmd, stdin, h := startHelper(t, helperConfig{Temp: true, Cache: testCache}, os.Geteuid(), "TMPDIR="+long)
	if strings.HasPrefix(h.Run, long) || len(filepath.Join(h.Run, ".s.PGSQL.65535")) >= 100 {
		t.Errorf("got the socket in %s, want a path under 100 bytes", h.Run)
	}
	if got := query(t, h.URL, `SELECT 'well'`); got != "well" {
		t.Errorf("got %q, want well", got)
	}
	check(t, stdin.Close())
	check(t, cmd.Wait())
}

// killHelperWhen starts a helper that is killed with its whole group as soon as
// a file is there.
func killHelperWhen(t *testing.T, hc helperConfig, file string) {
	t.Helper()
	cmd := helperCommand(t, hc, os.Geteuid())
	check(t, cmd.Start())
	eventually(t, file+" is there", func() bool { return exists(file) })
	check(t, syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL))
	exit, ok := errors.AsType[*exec.ExitError](cmd.Wait())
	if !ok || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("the helper ended with %v before it was killed", exit)
	}
}

func TestKilledInTheMiddleOfInitdb(t *testing.T) {
	t.Parallel()
	cache, data := openDir(t), filepath.Join(openDir(t), "kept")
	p, err := newPlace(Config{Data: data, cache: cache})
	check(t, err)
	c, err := newCluster(t.Context(), Config{Data: data}, p, searchPath())
	check(t, err)
	template := c.templatePath()
	killHelperWhen(t, helperConfig{Data: data, Cache: cache}, filepath.Join(template+".new", "base", "1"))
	if exists(template) {
		t.Fatal("initdb was done already")
	}
	// A copy of the template that was cut short is no cluster either.
	check(t, os.MkdirAll(filepath.Join(data, "cluster.new", "base"), 0o700))
	check(t, os.WriteFile(filepath.Join(data, "cluster.new", "PG_VERSION"), []byte("15\n"), 0o600))

	s := start(t, Config{Data: data, cache: cache})
	if got := query(t, s.URL(), `SELECT 'well'`); got != "well" {
		t.Errorf("got %q, want well", got)
	}
	if exists(template+".new") || exists(filepath.Join(data, "cluster.new")) {
		t.Error("what was cut short is left")
	}
}

func TestDamagedTemplateIsMadeAnew(t *testing.T) {
	t.Parallel()
	var lines logLines
	cfg := Config{Temp: true, cache: openDir(t), Log: slog.New(slog.NewTextHandler(&lines, nil))}
	identifier := func() string {
		s, err := Start(t.Context(), cfg)
		check(t, err)
		defer func() { check(t, s.Stop(t.Context())) }()
		return query(t, s.URL(), `SELECT system_identifier::text FROM pg_control_system()`)
	}
	before := identifier()
	p, err := newPlace(cfg)
	check(t, err)
	c, err := newCluster(t.Context(), cfg, p, searchPath())
	check(t, err)

	template := c.templatePath()
	table := filepath.Join("base", "1", "1259")
	for name, damage := range map[string]func(template string) error{
		"a file is missing":  func(template string) error { return os.Remove(filepath.Join(template, "global", "pg_control")) },
		"a file is cut off":  func(template string) error { return os.Truncate(filepath.Join(template, table), 8192) },
		"a byte has changed": func(template string) error { return changeByte(filepath.Join(template, table)) },
		"its sum is missing": func(template string) error { return os.Remove(template + ".sum") },
	} {
		copied := filepath.Join(filepath.Dir(template), strings.ReplaceAll(name, " ", "-"))
		check(t, c.copyTree(t.Context(), template, copied))
		check(t, c.copyFile(template+".sum", copied+".sum"))
		if !c.whole(t.Context(), copied) {
			t.Errorf("%s: the copy is damaged before it is", name)
		}
		check(t, damage(copied))
		if c.whole(t.Context(), copied) {
			t.Errorf("%s: got a whole template, want a damaged one", name)
		}
	}
	if !strings.Contains(lines.String(), "the template of clusters is damaged") {
		t.Errorf("got log %q, want the damage in it", lines.String())
	}

	check(t, changeByte(filepath.Join(template, table)))
	after := identifier()
	if again := identifier(); after == before || again != after {
		t.Errorf("got clusters of templates %s, %s and %s, want a new one after the damage, made once", before, after, again)
	}
}

// changeByte turns a byte in the middle of a file's second page.
func changeByte(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	b := make([]byte, 1)
	_, err = f.ReadAt(b, 12000)
	if err == nil {
		_, err = f.WriteAt([]byte{^b[0]}, 12000)
	}
	return errors.Join(err, f.Close())
}

// Where no account but root and the process's own may look at where it works, as
// in a container, a server counts by its name.
func TestServerOfAnotherAccountIsRecognised(t *testing.T) {
	t.Parallel()
	s := start(t, Config{Temp: true})
	if os.Geteuid() != 0 {
		if !clusterOf(s).serves(s.PID()) || clusterOf(s).serves(os.Getpid()) {
			t.Error("the server, and it alone, serves its data")
		}
		return
	}
	for pid, want := range map[int]string{s.PID(): "true", os.Getpid(): "false"} {
		cmd := helperCommand(t, helperConfig{Serves: pid}, 65534)
		out, err := cmd.Output()
		check(t, err)
		if got := strings.TrimSpace(string(out)); got != want {
			t.Errorf("another account about process %d: got %s, want %s", pid, got, want)
		}
	}
}
