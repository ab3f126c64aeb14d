package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// crew is the processes that a test starts, and a directory for their files.
// They share a process group led by a small shell, which waits on a pipe whose
// only write end we hold: however we end, by SIGKILL too, the kernel closes it,
// and the shell unmounts the small disk, if there is one (smalldisk.go), removes
// the directory and kills the group, itself included. A group's id can't become
// another's while its leader lives, so that nobody else is ever hit.
type crew struct {
	dir   string
	shell *exec.Cmd
	pipe  *os.File
}

const crewScript = `
trap '' HUP INT QUIT TERM
while read -r _; do :; done
for again in 1 2 3; do
	[ ! -d "$1/disk" ] || umount -l "$1/disk"
	rm -rf "$1" && break
	sleep 1 # a mount was on its way
done 2>/dev/null
kill -s KILL 0
`

// newCrew makes the directory, whose name has the given word in it, and starts
// the shell. End it with end.
func newCrew(word string) (*crew, error) {
	dir, err := os.MkdirTemp("", "orderflow-e2e-"+word+"-")
	if err != nil {
		return nil, err
	}
	// A private PostgreSQL in it may have to run as another user, who must get through.
	if err := os.Chmod(dir, 0o755); err != nil {
		return nil, errors.Join(err, os.Remove(dir))
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(err, os.Remove(dir))
	}
	shell := exec.Command("/bin/sh", "-c", crewScript, "orderflow-e2e-watchdog", dir)
	shell.Stdin = r
	shell.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := shell.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("start the watchdog: %w", err), r.Close(), w.Close(), os.Remove(dir))
	}
	c := &crew{dir: dir, shell: shell, pipe: w}
	if err := r.Close(); err != nil {
		return nil, errors.Join(err, c.end())
	}
	return c, nil
}

// command prepares a program that belongs to the crew and is killed when ctx
// ends.
func (c *crew) command(ctx context.Context, path string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.WaitDelay = time.Second // for output pipes that its children hold
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pgid: c.shell.Process.Pid}
	return cmd
}

// end kills all of the crew and removes its directory. Whoever started one of
// them still has to wait for it.
func (c *crew) end() error {
	err := c.pipe.Close()
	waitErr := c.shell.Wait()
	if s, ok := c.shell.ProcessState.Sys().(syscall.WaitStatus); ok && s.Signaled() && s.Signal() == syscall.SIGKILL {
		waitErr = nil // by its own last command
	}
	return errors.Join(err, waitErr, os.RemoveAll(c.dir))
}
