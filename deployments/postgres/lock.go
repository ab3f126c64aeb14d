package postgres

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// inUseError: another program has the data directory.
type inUseError struct {
	dir string
	pid int // 0 = unknown
}

func (e *inUseError) Error() string {
	who := "another program"
	if e.pid != 0 {
		who = "process " + strconv.Itoa(e.pid)
	}
	return fmt.Sprintf("data directory %s is in use by %s: stop that program or give --data DIR", e.dir, who)
}

// lockFile takes an exclusive lock that ends with the last descriptor of the
// file returned, also that of a dead process. It waits until ctx ends.
func lockFile(ctx context.Context, path string) (*os.File, error) {
	return lockUnless(ctx, path, func() error { return nil })
}

// lockData locks a data directory for this process. A living holder is an
// inUseError at once; a dead one's watchdog, which holds the lock until the
// server is down, is waited for.
func lockData(ctx context.Context, dir, path string) (*os.File, error) {
	holder := 0
	f, err := lockUnless(ctx, path, func() error {
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
		if err != nil {
			return nil // taken a moment ago, its pid not yet written
		}
		holder = pid
		if alive(pid) {
			return &inUseError{dir: dir, pid: pid}
		}
		return nil
	})
	if err != nil {
		if ctx.Err() != nil && holder != 0 {
			return nil, &inUseError{dir: dir, pid: holder}
		}
		return nil, err
	}
	if err := f.Truncate(0); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if _, err := f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// lockUnless tries for the lock until ctx ends or giveUp, asked after each
// attempt in vain, returns an error.
func lockUnless(ctx context.Context, path string, giveUp func() error) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return f, nil
		}
		if errors.Is(err, syscall.EWOULDBLOCK) {
			err = giveUp()
		} else if errors.Is(err, syscall.EINTR) {
			err = nil
		}
		if err != nil {
			return nil, errors.Join(err, f.Close())
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(fmt.Errorf("wait for the lock %s: %w", path, context.Cause(ctx)), f.Close())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// alive tells whether a process with this id exists, a zombie included.
func alive(pid int) bool {
	err := syscall.Kill(pid, 0)
	return err == nil || errors.Is(err, syscall.EPERM)
}
