package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// errAgain marks a failure to start that a later attempt may not meet.
var errAgain = errors.New("may work in a moment")

// process is one run of the server program.
type process struct {
	cmd      *exec.Cmd
	done     chan struct{} // closed when it is gone and noted so
	expected atomic.Bool   // to end: nothing to report then
}

// guarded prepares a program that the watchdog ends when we die. A shell notes
// its own pid for the watchdog before it becomes the program: there is no
// moment in which the program runs unknown. Should we die before the note, the
// watchdog removes the directory it would stand in and the shell gives up.
func (c *cluster) guarded(ctx context.Context, name string, args ...string) *exec.Cmd {
	return c.as.command(ctx, "/bin/sh", noted(c.pidFile(), name, args...)...)
}

func (c *cluster) serverArgs() []string {
	return append([]string{"-D", c.data}, serverArgs(c.settings, map[string]string{
		"listen_addresses":        "127.0.0.1",
		"port":                    strconv.Itoa(c.port),
		"unix_socket_directories": `"` + c.run + `"`,
		"unix_socket_permissions": "0700",
	})...)
}

// noted makes a shell note its pid in file and become the program.
func noted(file, name string, args ...string) []string {
	return append([]string{"-c", `echo $$ >"$0" && exec "$@"`, file, name}, args...)
}

func (c *cluster) pidFile() string { return filepath.Join(c.run, "pid") }

// unguard forgets a guarded program that ended, before its pid is another's.
func (c *cluster) unguard() error {
	if err := os.Remove(c.pidFile()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// launch runs the server until it is ready. Without a port it looks for a free
// one, else it waits for its own to be free, as long as ctx lasts.
func (c *cluster) launch(ctx context.Context) error {
	anyPort := c.port == 0
	var passing error
	for {
		if anyPort {
			port, err := c.ports()
			if err != nil {
				return err
			}
			c.port = port
		}
		err := c.launchOnce(ctx)
		if !errors.Is(err, errAgain) {
			if err != nil && ctx.Err() != nil && passing != nil {
				return passing // tells more than that time was up in the midst of a further attempt
			}
			return err
		}
		passing = err
		select {
		case <-ctx.Done():
			return err
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (c *cluster) launchOnce(ctx context.Context) error {
	stale, err := c.stalePID()
	if err != nil {
		return err
	}
	logFile, err := os.OpenFile(c.logPath(), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("open the server's log: %w", err)
	}
	st, err := logFile.Stat()
	if err != nil {
		return errors.Join(err, logFile.Close())
	}
	cmd := c.guarded(context.WithoutCancel(ctx), filepath.Join(c.bin.dir, "postgres"), c.serverArgs()...)
	cmd.Stderr = logFile
	if stale != 0 {
		// pg_ctl's way to tell the server that the process with the id in its
		// old postmaster.pid is not another server: a process id is soon
		// another's, in containers above all.
		cmd.Env = append(cmd.Env, "PG_GRANDPARENT_PID="+strconv.Itoa(stale))
	}
	if err := cmd.Start(); err != nil {
		return errors.Join(fmt.Errorf("start PostgreSQL: %w", err), logFile.Close())
	}
	if err := logFile.Close(); err != nil {
		c.log.WarnContext(ctx, "close our copy of the server's log", "err", err)
	}
	p := &process{cmd: cmd, done: make(chan struct{})}
	p.expected.Store(true) // until it is ready, whoever waits for it reports
	go c.wait(p)
	c.proc.Store(p)
	if err := c.ready(ctx, p); err != nil {
		return c.explain(err, st.Size())
	}
	p.expected.Store(false)
	return nil
}

// wait reaps the server.
func (c *cluster) wait(p *process) {
	defer close(p.done)
	err := p.cmd.Wait()
	if rmErr := c.unguard(); rmErr != nil {
		c.log.Warn("forget the server's pid", "err", rmErr)
	}
	if !p.expected.Load() {
		c.log.Error("PostgreSQL ended by itself", "pid", p.cmd.Process.Pid, "err", err, "log", c.logPath())
	}
}

// ready returns when the server says so in line 8 of postmaster.pid, whose line
// 1 tells it from a dead server's.
func (c *cluster) ready(ctx context.Context, p *process) error {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		lines, err := c.postmasterPID()
		if err != nil {
			return err
		}
		if len(lines) >= 8 && lines[0] == strconv.Itoa(p.cmd.Process.Pid) && lines[7] == "ready" {
			return nil
		}
		select {
		case <-p.done:
			return errors.New("the server ended at once")
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}

// postmasterPID returns the lines of the server's lock file; none when absent.
func (c *cluster) postmasterPID() ([]string, error) {
	b, err := os.ReadFile(filepath.Join(c.data, "postmaster.pid"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	lines := strings.Split(string(b), "\n")
	for i := range lines {
		lines[i] = strings.TrimSpace(lines[i])
	}
	return lines, nil
}

// stalePID returns the process id in a postmaster.pid that a killed server left
// behind, 0 without one. A server that runs on the data is an inUseError.
func (c *cluster) stalePID() (int, error) {
	lines, err := c.postmasterPID()
	if err != nil || len(lines) == 0 {
		return 0, err
	}
	pid, err := strconv.Atoi(lines[0])
	if err != nil {
		return 0, nil // cut off when it was written: the server will say so
	}
	if alive(pid) && c.serves(pid) {
		return 0, &inUseError{dir: c.home, pid: pid}
	}
	return pid, nil
}

// serves tells whether a living process is a server on our data: a server's
// working directory is its data directory. Where /proc can't tell, the name has
// to do.
func (c *cluster) serves(pid int) bool {
	if _, err := os.Stat("/proc/self/cwd"); err == nil {
		proc := filepath.Join("/proc", strconv.Itoa(pid))
		cwd, err := os.Readlink(filepath.Join(proc, "cwd"))
		if errors.Is(err, fs.ErrPermission) {
			// Root in a container may not look into other accounts' processes.
			comm, err := os.ReadFile(filepath.Join(proc, "comm"))
			return err == nil && strings.TrimSpace(string(comm)) == "postgres"
		}
		if err != nil {
			return false // gone
		}
		data, err := filepath.EvalSymlinks(c.data)
		return err == nil && cwd == data
	}
	out, err := exec.Command("ps", "-o", "comm=", "-p", strconv.Itoa(pid)).Output()
	return err == nil && filepath.Base(strings.TrimSpace(string(out))) == "postgres"
}

// signal sends sig to the server and waits for its end. When ctx ends first it
// gets SIGQUIT (immediate shutdown), 6 s later SIGKILL: the server itself gives
// its children 5 s.
func (p *process) signal(ctx context.Context, sig syscall.Signal) error {
	p.expected.Store(true)
	if err := p.send(sig); err != nil {
		return err
	}
	select {
	case <-p.done:
		return nil
	case <-ctx.Done():
	}
	if err := p.send(syscall.SIGQUIT); err != nil {
		return err
	}
	select {
	case <-p.done:
		return nil
	case <-time.After(6 * time.Second):
	}
	if err := p.send(syscall.SIGKILL); err != nil {
		return err
	}
	<-p.done
	return nil
}

func (p *process) send(sig syscall.Signal) error {
	if err := p.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("send %s to PostgreSQL: %w", sig, err)
	}
	return nil
}

// explain adds what the server logged since the offset to err.
func (c *cluster) explain(err error, offset int64) error {
	const most = 10
	tail, readErr := readFrom(c.logPath(), offset)
	if readErr != nil {
		return errors.Join(fmt.Errorf("start PostgreSQL %s: %w", c.bin.version, err), readErr)
	}
	lines := strings.Split(strings.TrimSpace(string(tail)), "\n")
	if len(lines) > most {
		lines = lines[len(lines)-most:]
	}
	err = fmt.Errorf("start PostgreSQL %s: %w; its log ends with:\n%s", c.bin.version, err, strings.Join(lines, "\n"))
	if full := c.probe(); full != nil {
		err = fmt.Errorf("%w\nand nothing can be written there: %w", err, full)
	}
	for _, passing := range []string{
		"could not create any TCP/IP sockets", // the port was taken in the meantime
		"pre-existing shared memory block",    // children of a killed server are about to end
	} {
		if bytes.Contains(tail, []byte(passing)) {
			err = fmt.Errorf("%w (%w)", err, errAgain)
		}
	}
	return err
}

// probe tries to write beside the data: on a full disk the server can't even
// log that it is full.
func (c *cluster) probe() error {
	path := filepath.Join(c.home, "probe")
	return errors.Join(os.WriteFile(path, make([]byte, 1<<16), 0o600), os.Remove(path))
}

func readFrom(path string, offset int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	if _, err := f.Seek(offset, io.SeekStart); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	b, err := io.ReadAll(f)
	return b, errors.Join(err, f.Close())
}

// freePort returns a port that nobody listens on. It comes from below the range
// that systems take outgoing connections' ports from, or one of those could
// have it when the server comes back from a restart.
func freePort() (int, error) {
	var last error
	for range 100 {
		port := 15432 + rand.IntN(32768-15432)
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			last = err
			continue
		}
		return port, l.Close()
	}
	return 0, fmt.Errorf("find a free port on 127.0.0.1: %w", last)
}
