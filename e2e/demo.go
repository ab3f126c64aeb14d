package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// Demo is a running services/demo, as somebody started it in a terminal.
type Demo struct {
	URL  string // of the shop, as it was printed
	PSQL string // the administrator's way into its database, as it was printed

	cmd    *exec.Cmd
	out    lockedBuffer
	done   chan struct{} // closed when it is gone
	server postmaster
}

// postmaster is the demo's PostgreSQL, as its own lock file tells.
type postmaster struct {
	pid    int
	socket string // the directory
}

// DemoHome is a directory for demos to keep their data in, and the crew that
// they belong to: what still runs when t ends is killed and the directory removed.
type DemoHome struct {
	crew *crew
}

// NewDemoHome makes the directory and builds the programs.
func NewDemoHome(t testing.TB) *DemoHome {
	t.Helper()
	if _, err := built(); err != nil {
		t.Fatal(err)
	}
	c, err := newCrew("demo")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.end(); err != nil {
			t.Errorf("end the demos: %v", err)
		}
	})
	return &DemoHome{crew: c}
}

// openAt and psqlAt find what the demo prints when the shop is open.
var (
	openAt      = regexp.MustCompile(`The shop is open after ([0-9.]+) s: (http://\S+)`)
	psqlAt      = regexp.MustCompile(`psql "(postgres://[^"]+)"`)
	confirmedAt = regexp.MustCompile(`first order confirmed ([0-9.]+) s after the start`)
)

// Start runs the demo with args on the home's data, at a free port unless args
// have an "--addr", and returns when it says that the shop is open, which may
// take a minute.
func (h *DemoHome) Start(t testing.TB, args ...string) *Demo {
	t.Helper()
	path, err := program("demo")
	if err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(h.crew.dir, "data")
	args = append([]string{"--data", data}, args...)
	if !slices.Contains(args, "--addr") {
		addr, err := freeAddr()
		if err != nil {
			t.Fatal(err)
		}
		args = append(args, "--addr", addr)
	}
	cmd := h.crew.command(context.Background(), path, args...)
	cmd.Env = environment(nil)
	d := &Demo{cmd: cmd, done: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = &d.out, &d.out
	if err := cmd.Start(); err != nil {
		t.Fatalf("start the demo: %v", err)
	}
	go func() {
		defer close(d.done)
		// How it ended is in ProcessState; an error says the same.
		if err := cmd.Wait(); cmd.ProcessState == nil {
			panic(fmt.Sprintf("wait for the demo: %v", err))
		}
	}()
	t.Cleanup(func() {
		if err := d.kill(); err != nil {
			t.Errorf("kill the demo: %v", err)
		}
		if t.Failed() {
			t.Logf("the demo said:\n%s", tail(d.Output(), 60))
		}
	})
	d.URL = d.await(t, openAt)[2]
	d.PSQL = d.await(t, psqlAt)[1]
	if d.server, err = findPostmaster(data); err != nil {
		t.Fatalf("find the demo's PostgreSQL: %v", err)
	}
	return d
}

// Output is all that the demo has printed.
func (d *Demo) Output() string { return d.out.String() }

// await returns the match of form in what the demo prints, and its groups.
func (d *Demo) await(t testing.TB, form *regexp.Regexp) []string {
	t.Helper()
	var found []string
	eventually(t, time.Minute, func() error {
		if found = form.FindStringSubmatch(d.Output()); found != nil {
			return nil
		}
		select {
		case <-d.done:
			t.Fatalf("the demo has ended: %s\n%s", d.cmd.ProcessState, tail(d.Output(), 20))
		default:
		}
		return fmt.Errorf("the demo has not said %q", form)
	})
	return found
}

// seconds is the figure that the demo prints in the first group of form.
func (d *Demo) seconds(t testing.TB, form *regexp.Regexp) time.Duration {
	t.Helper()
	s, err := strconv.ParseFloat(d.await(t, form)[1], 64)
	if err != nil {
		t.Fatalf("what the demo says: %v", err)
	}
	return time.Duration(s * float64(time.Second))
}

// Interrupt presses Ctrl-C and returns how long the demo took to end, with code
// 0, at most limit.
func (d *Demo) Interrupt(t testing.TB, limit time.Duration) time.Duration {
	t.Helper()
	started := time.Now()
	if err := d.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatalf("interrupt the demo: %v", err)
	}
	select {
	case <-d.done:
	case <-time.After(limit):
		t.Fatalf("the demo still runs %s after Ctrl-C", limit)
	}
	took := time.Since(started)
	if code := d.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("the demo ended with %s, want exit code 0", d.cmd.ProcessState)
	}
	return took
}

// kill ends the demo with SIGKILL, if it still runs.
func (d *Demo) kill() error {
	if err := d.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	<-d.done
	return nil
}

// findPostmaster reads the lock file of the one server below data.
func findPostmaster(data string) (postmaster, error) {
	var files []string
	for _, pattern := range []string{"postmaster.pid", "*/postmaster.pid"} {
		list, err := filepath.Glob(filepath.Join(data, pattern))
		if err != nil {
			return postmaster{}, err
		}
		files = append(files, list...)
	}
	if len(files) != 1 {
		return postmaster{}, fmt.Errorf("%d servers run below %s, want 1", len(files), data)
	}
	b, err := os.ReadFile(files[0])
	if err != nil {
		return postmaster{}, err
	}
	lines := strings.Split(string(b), "\n")
	if len(lines) < 5 {
		return postmaster{}, fmt.Errorf("%s has %d lines", files[0], len(lines))
	}
	pid, err := strconv.Atoi(strings.TrimSpace(lines[0]))
	return postmaster{pid: pid, socket: strings.TrimSpace(lines[4])}, err
}

// left says what is left of the server; nil when nothing is.
func (p postmaster) left() error {
	if alive(p.pid) {
		return fmt.Errorf("PostgreSQL (process %d) still runs", p.pid)
	}
	if _, err := os.Stat(p.socket); !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("PostgreSQL's socket directory %s is still there", p.socket)
	}
	return nil
}

// freeAddr is a loopback address with a port that nobody has now.
func freeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// lockedBuffer is a bytes.Buffer that is read while it is written.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
