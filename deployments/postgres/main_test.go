package postgres

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"
)

// helperEnv holds the helperConfig of a test binary that is run again as a
// program of its own: one that can be killed.
const helperEnv = "ORDERFLOW_POSTGRES_TEST_HELPER"

type helperConfig struct {
	Data, Cache string
	Temp        bool
	Frozen      bool   // freeze the server before it is told of
	Container   bool   // there are no binaries, so that it takes Docker
	Serves      int    // tell whether this process is a server, and end
	Full        string // look at what happens when this directory is full, and end
}

// helperStarted is what the helper prints when its server runs.
type helperStarted struct {
	PID       int // of the server
	Watchdog  int
	Run       string
	Container string // its name
	URL       string
}

// testCache is the tests' cache instead of the user's.
var testCache string

// tests is where the tests' directories are: in memory, except at full length.
var tests = func() string {
	dir := "/tmp"
	if os.Getenv("ORDERFLOW_LONG") == "" {
		dir = cmp.Or(MemoryDir(), dir)
	}
	return dir
}()

func TestMain(m *testing.M) {
	if conf := os.Getenv(helperEnv); conf != "" {
		if err := helper(conf); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	dir, err := os.MkdirTemp(tests, "orderflow-test-")
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	testCache = dir
	if err := moreAtOnce(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		if err := os.RemoveAll(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
		os.Exit(code)
	}))
}

// moreAtOnce lets more tests run side by side than there are cores, unless -parallel
// says how many: most of the time they wait for Docker.
func moreAtOnce() error {
	flag.Parse()
	said := false
	flag.Visit(func(f *flag.Flag) { said = said || f.Name == "test.parallel" })
	if said {
		return nil
	}
	return flag.Set("test.parallel", strconv.Itoa(2*runtime.GOMAXPROCS(0)))
}

// helperFull is there where a test can mount a file system.
var helperFull func(dir, cache string) error

// helper starts a server, says so, and runs until its input ends.
func helper(conf string) error {
	var hc helperConfig
	if err := json.Unmarshal([]byte(conf), &hc); err != nil {
		return err
	}
	ctx := context.Background()
	if hc.Serves != 0 {
		_, err := fmt.Println((&cluster{data: "/no/such/data"}).serves(hc.Serves))
		return err
	}
	if hc.Full != "" {
		return helperFull(hc.Full, hc.Cache)
	}
	cfg := Config{Data: hc.Data, Temp: hc.Temp, cache: hc.Cache}
	if hc.Container {
		cfg = inContainer(cfg)
	}
	s, err := Start(ctx, cfg)
	if err != nil {
		return err
	}
	started := helperStarted{PID: s.PID(), URL: s.URL()}
	switch o := s.own.(type) {
	case *cluster:
		started.Watchdog, started.Run = o.guard.cmd.Process.Pid, o.run
	case *container:
		started.Watchdog, started.Run, started.Container = o.guard.cmd.Process.Pid, o.run, o.name
	}
	if hc.Frozen {
		if err := s.Freeze(ctx); err != nil {
			return errors.Join(err, s.Stop(ctx))
		}
	}
	if err := json.NewEncoder(os.Stdout).Encode(started); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		return err
	}
	return s.Stop(ctx)
}

// startHelper runs the helper in a process group of its own, as uid when that
// is not ours, and returns when its server runs. Closing stdin ends it.
func startHelper(t *testing.T, hc helperConfig, uid int, env ...string) (cmd *exec.Cmd, stdin io.Closer, started helperStarted) {
	t.Helper()
	cmd = helperCommand(t, hc, uid, env...)
	in, err := cmd.StdinPipe()
	check(t, err)
	out, err := cmd.StdoutPipe()
	check(t, err)
	check(t, cmd.Start())
	t.Cleanup(func() { // of a test that failed
		if err := cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
			t.Error(err)
		}
	})
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err != nil {
		t.Fatalf("helper said %q and ended: %v, %v", line, err, cmd.Wait())
	}
	check(t, json.Unmarshal(line, &started))
	return cmd, in, started
}

// helperCommand prepares the helper.
func helperCommand(t *testing.T, hc helperConfig, uid int, env ...string) *exec.Cmd {
	t.Helper()
	conf, err := json.Marshal(hc)
	check(t, err)
	binary, err := os.Executable()
	check(t, err)
	if uid != os.Geteuid() { // the go tool's directory is closed to others
		binary = filepath.Join(openDir(t), "helper")
		check(t, copyProgram(binary))
	}
	cmd := exec.Command(binary)
	cmd.Dir = "/"
	cmd.Env = append(append(os.Environ(), env...), helperEnv+"="+string(conf))
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if uid != os.Geteuid() {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}
	}
	return cmd
}

func copyProgram(to string) error {
	from, err := os.Executable()
	if err != nil {
		return err
	}
	b, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	// Nothing may fork meanwhile: a child that has the file open for writing makes it one
	// that can't be run.
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	return os.WriteFile(to, b, 0o755)
}

// openDir is a temporary directory that every account can enter.
func openDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp(tests, "orderflow-test-")
	check(t, err)
	t.Cleanup(func() { check(t, os.RemoveAll(dir)) })
	check(t, os.Chmod(dir, 0o755))
	return dir
}

// start starts a server with the tests' template, and stops it with the test.
func start(t *testing.T, cfg Config) *Server {
	t.Helper()
	if cfg.cache == "" {
		cfg.cache = testCache
	}
	cfg.TempDir = cmp.Or(cfg.TempDir, tests)
	s, err := Start(t.Context(), cfg)
	check(t, err)
	t.Cleanup(func() { check(t, s.Stop(context.Background())) })
	return s
}

// clusterOf is the server as it is when it was started from binaries.
func clusterOf(s *Server) *cluster { return s.own.(*cluster) }

// query returns the one text that a query yields.
func query(t *testing.T, dsn, sql string) string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	check(t, err)
	var got string
	check(t, conn.QueryRow(t.Context(), sql).Scan(&got))
	check(t, conn.Close(t.Context()))
	return got
}

func execute(t *testing.T, dsn, sql string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	check(t, err)
	_, err = conn.Exec(t.Context(), sql)
	check(t, err)
	check(t, conn.Close(t.Context()))
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// wantError checks that err says all the words.
func wantError(t *testing.T, err error, words ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("got no error, want one with %q", words)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("got error %q, want it to say %q", err, w)
		}
	}
}

// eventually waits up to 30 s for a condition.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("still not so after 30 s: %s", what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// gone tells whether no process with the id runs; a zombie, whose parent hasn't
// asked for its end yet, runs no more.
func gone(pid int) bool {
	if !alive(pid) {
		return true
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false // no /proc here
	}
	_, state, _ := strings.Cut(string(stat), ") ")
	return strings.HasPrefix(state, "Z")
}
