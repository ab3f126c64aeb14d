package postgres

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// Modes of Halt and Restart.
const (
	Fast      = "fast"      // open transactions are rolled back, a checkpoint is written
	Immediate = "immediate" // no checkpoint: the next start recovers as after a crash
	Killed    = "killed"    // SIGKILL to the server's first process, the others end when they notice
)

var (
	// ErrNotPrivate comes from what would stop or freeze a server that this package
	// didn't start.
	ErrNotPrivate = errors.New("the server behind DATABASE_URL is not ours to stop or freeze")

	// ErrDown comes from Halt, Freeze and KillSession for a server that doesn't run.
	ErrDown = errors.New("PostgreSQL is down")
)

// Halt takes a server of ours down in the given mode and returns when it is;
// Relaunch brings it back. In mode Killed its other processes may live on for a
// moment, as they do after such an end. When ctx ends first it is made to quit. A
// frozen server is halted, too. Halt returns ErrDown for one that is down, and
// ErrNotPrivate for one that isn't ours.
func (s *Server) Halt(ctx context.Context, mode string) error {
	if s.own == nil {
		return ErrNotPrivate
	}
	sig, ok := map[string]syscall.Signal{Fast: syscall.SIGINT, Immediate: syscall.SIGQUIT, Killed: syscall.SIGKILL}[mode]
	if !ok {
		return fmt.Errorf("halt PostgreSQL: no mode %q, only %q, %q and %q", mode, Fast, Immediate, Killed)
	}
	return s.own.halt(ctx, sig)
}

// Relaunch starts a server of ours again that Halt took down or that ended by
// itself, with the same data, port and socket, and returns when connections are
// taken again, after a minute at most. It waits for what a killed server has left. When
// it fails the server is down. It returns ErrNotPrivate for a server that isn't ours.
func (s *Server) Relaunch(ctx context.Context) error {
	if s.own == nil {
		return ErrNotPrivate
	}
	ctx, cancel := context.WithTimeoutCause(ctx, startLimit, fmt.Errorf("PostgreSQL not back after %s", startLimit))
	defer cancel()
	return s.own.relaunch(ctx)
}

// Restart halts a server of ours in the given mode and starts it again, as Halt
// and Relaunch do. A server that died by itself is just started.
func (s *Server) Restart(ctx context.Context, mode string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, startLimit, fmt.Errorf("PostgreSQL not back after %s", startLimit))
	defer cancel()
	if err := s.Halt(ctx, mode); err != nil && !errors.Is(err, ErrDown) {
		return err
	}
	return s.Relaunch(ctx)
}

// Freeze stops all processes of a server of ours where they are (SIGSTOP) until
// Thaw: connections are taken by the kernel, and nothing answers. It returns ErrDown
// for a server that doesn't run, ErrNotPrivate for one that isn't ours.
func (s *Server) Freeze(ctx context.Context) error {
	if s.own == nil {
		return ErrNotPrivate
	}
	return s.own.freeze(ctx)
}

// Thaw ends what Freeze has begun; it does nothing to a server that isn't frozen.
func (s *Server) Thaw(ctx context.Context) error {
	if s.own == nil {
		return ErrNotPrivate
	}
	return s.own.thaw(ctx)
}

// KillSession ends the process of a session by SIGKILL, whose id is that of
// pg_stat_activity. The server takes that for a crash: it ends all other sessions
// and recovers by itself.
func (s *Server) KillSession(ctx context.Context, pid int) error {
	if s.own == nil {
		return ErrNotPrivate
	}
	return s.own.killSession(ctx, pid)
}

// Log is what a server of ours has logged since Start, over all its launches.
func (s *Server) Log(ctx context.Context) (string, error) {
	if s.own == nil {
		return "", ErrNotPrivate
	}
	return s.own.logged(ctx)
}

// down tells whether the server has ended, by itself or not.
func (c *cluster) down() bool {
	select {
	case <-c.proc.Load().done:
		return true
	default:
		return false
	}
}

func (c *cluster) halt(ctx context.Context, sig syscall.Signal) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended || c.down() {
		return fmt.Errorf("halt: %w", ErrDown)
	}
	if sig != syscall.SIGKILL { // which reaches what is frozen
		if err := c.melt(); err != nil {
			return err
		}
	}
	// What it leaves frozen would never notice its end.
	return errors.Join(c.proc.Load().signal(ctx, sig), c.melt())
}

func (c *cluster) relaunch(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return errors.New("start PostgreSQL again: it was stopped")
	}
	if !c.down() {
		return errors.New("start PostgreSQL again: it runs already")
	}
	err := c.launch(ctx)
	if err == nil {
		err = c.admit(ctx)
	}
	if err != nil && !c.down() {
		err = errors.Join(err, c.proc.Load().signal(ctx, syscall.SIGQUIT))
	}
	return err
}

// frozenFile lists the processes that are frozen, for the watchdog.
func (c *cluster) frozenFile() string { return filepath.Join(c.run, "frozen") }

// freeze stops the server's first process first, which alone can make others.
func (c *cluster) freeze(context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended || c.down() {
		return fmt.Errorf("freeze: %w", ErrDown)
	}
	pid := c.pid()
	frozen := map[int]bool{}
	for more := []int{pid}; len(more) > 0; {
		var note strings.Builder
		for _, p := range more {
			frozen[p] = true
		}
		for p := range frozen {
			fmt.Fprintln(&note, p)
		}
		if err := os.WriteFile(c.frozenFile(), []byte(note.String()), 0o644); err != nil {
			return fmt.Errorf("freeze PostgreSQL: %w", err)
		}
		for _, p := range more {
			if err := syscall.Kill(p, syscall.SIGSTOP); err != nil && !errors.Is(err, syscall.ESRCH) {
				return fmt.Errorf("freeze PostgreSQL's process %d: %w", p, err)
			}
		}
		// The first process may have been in the midst of making one.
		list, err := children(pid)
		if err != nil {
			return fmt.Errorf("freeze PostgreSQL: %w", err)
		}
		more = slices.DeleteFunc(list, func(p int) bool { return frozen[p] })
	}
	return nil
}

func (c *cluster) thaw(context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.melt()
}

// melt is thaw, for those who have the lock.
func (c *cluster) melt() error {
	list, err := os.ReadFile(c.frozenFile())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("thaw PostgreSQL: %w", err)
	}
	for word := range strings.FieldsSeq(string(list)) {
		pid, err := strconv.Atoi(word)
		if err == nil {
			err = syscall.Kill(pid, syscall.SIGCONT)
		}
		if err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("thaw PostgreSQL's process %s: %w", word, err)
		}
	}
	return os.Remove(c.frozenFile())
}

func (c *cluster) killSession(_ context.Context, pid int) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended || c.down() {
		return fmt.Errorf("kill session %d: %w", pid, ErrDown)
	}
	list, err := children(c.pid())
	if err == nil && !slices.Contains(list, pid) {
		err = errors.New("no process of the server")
	}
	if err == nil {
		err = syscall.Kill(pid, syscall.SIGKILL)
	}
	if err != nil {
		return fmt.Errorf("kill session %d: %w", pid, err)
	}
	return nil
}

func (c *cluster) logged(context.Context) (string, error) {
	b, err := os.ReadFile(c.logPath())
	return string(b), err
}

// children lists the processes that parent has made and that are there.
func children(parent int) ([]int, error) {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, err
	}
	var table strings.Builder
	for _, path := range stats {
		b, err := os.ReadFile(path)
		if err != nil {
			continue // gone in the meantime
		}
		// "pid (name) state parent …": the name may hold anything.
		stat := string(b)
		if fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:]); len(fields) > 1 {
			fmt.Fprintln(&table, filepath.Base(filepath.Dir(path)), fields[1])
		}
	}
	if len(stats) == 0 { // no Linux
		out, err := exec.Command("ps", "-A", "-o", "pid=", "-o", "ppid=").Output()
		if err != nil {
			return nil, fmt.Errorf("list processes: %w", err)
		}
		table.Write(out)
	}
	var list []int
	for line := range strings.Lines(table.String()) {
		var pid, ppid int
		if _, err := fmt.Sscan(line, &pid, &ppid); err != nil {
			return nil, fmt.Errorf("list processes: %q: %w", line, err)
		}
		if ppid == parent {
			list = append(list, pid)
		}
	}
	return list, nil
}
