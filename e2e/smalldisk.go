package e2e

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// smallDiskSize is the size of a small disk in MiB. A migrated shop takes 50, and its
// write-ahead log grows by some 60 more.
const smallDiskSize = 256

// smallDiskSettings are those of a PostgreSQL on a small disk. Its write-ahead log
// stays small, and what it says tells whom an error hit, and its SQLSTATE, in one line:
// there are many.
var smallDiskSettings = map[string]string{
	"max_wal_size":            "64MB",
	"min_wal_size":            "32MB",
	"log_line_prefix":         "%m [%p] %q%u %e ",
	"log_min_error_statement": "panic",
}

// errNoSmallDisk comes from FillDisk when Database shares its disk with others.
var errNoSmallDisk = errors.New("it has none of its own: the stack must be one WithSmallDisk")

// mountDisk makes a small disk below the crew's directory. Root mounts it there, and the
// crew's shell unmounts it. Anybody else has a process do so in a namespace of its own,
// looks in by /proc, and when the process ends the disk is gone.
func (l *local) mountDisk(ctx context.Context) error {
	at := filepath.Join(l.crew.dir, "disk")
	if err := os.Mkdir(at, 0o755); err != nil {
		return err
	}
	mount := []string{"/bin/sh", "-c", `mount -t tmpfs -o "$1" orderflow-e2e "$0" && echo mounted`, at, fmt.Sprintf("size=%dm,mode=755", smallDiskSize)}
	if os.Geteuid() == 0 {
		l.disk = at
		_, err := l.crew.command(ctx, mount[0], mount[1:]...).Output()
		return whyNoMount(err)
	}
	mount[2] += " && exec sleep 2147483647"
	keeper := l.crew.command(context.WithoutCancel(ctx), "unshare", append([]string{"--user", "--map-root-user", "--mount"}, mount...)...)
	var problem strings.Builder
	keeper.Stderr = &problem
	out, err := keeper.StdoutPipe()
	if err == nil {
		err = keeper.Start()
	}
	if err != nil {
		return whyNoMount(err)
	}
	l.disk = filepath.Join("/proc", strconv.Itoa(keeper.Process.Pid), "root", at)
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		return whyNoMount(errors.Join(keeper.Wait(), errors.New(problem.String())))
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.note(Process{Service: "disk", Replica: 1}, keeper)
	return nil
}

// whyNoMount adds to an error what is needed.
func whyNoMount(err error) error {
	if err == nil {
		return nil
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		err = fmt.Errorf("%w: %s", err, exit.Stderr)
	}
	return fmt.Errorf("mount a small disk, which needs Linux, and root or a kernel that lets users make namespaces, else E2E_BACKEND=docker: %w", err)
}

func (l *local) FillDisk(context.Context) (func(context.Context) error, error) {
	if l.disk == "" {
		err := errNoSmallDisk
		if _, ours := l.database.(privateDatabase); !ours {
			err = errNotOurs
		}
		return nil, fmt.Errorf("fill the disk of %s: %w", Database, err)
	}
	ballast := filepath.Join(l.disk, "ballast")
	if err := fill(ballast); err != nil {
		return nil, errors.Join(fmt.Errorf("fill the disk of %s: %w", Database, err), os.Remove(ballast))
	}
	return func(context.Context) error { return os.Remove(ballast) }, nil
}

// fill writes a file until no space is left.
func fill(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	for chunk := make([]byte, 1<<20); err == nil; {
		_, err = f.Write(chunk)
	}
	if errors.Is(err, syscall.ENOSPC) {
		err = nil
	}
	return errors.Join(err, f.Close())
}
