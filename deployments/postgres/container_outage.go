package postgres

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// freezeLimit is how long a container is asked to freeze.
const freezeLimit = 10 * time.Second

// down tells whether this run of the container is over.
func (c *container) down() bool {
	select {
	case <-c.life.Load().done:
		return true
	default:
		return false
	}
}

func (c *container) halt(ctx context.Context, sig syscall.Signal) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended || c.down() {
		return fmt.Errorf("halt: %w", ErrDown)
	}
	// Signals reach no container that is frozen.
	if err := c.melt(ctx); err != nil {
		return err
	}
	return c.signal(ctx, sig)
}

func (c *container) relaunch(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return errors.New("start PostgreSQL again: it was stopped")
	}
	if !c.down() {
		return errors.New("start PostgreSQL again: it runs already")
	}
	for {
		err := c.launch(ctx)
		if err == nil {
			err = c.admit(ctx)
		}
		if err != nil && !c.down() {
			err = errors.Join(err, c.signal(ctx, syscall.SIGQUIT))
		}
		if !errors.Is(err, errAgain) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (c *container) freeze(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended || c.down() {
		return fmt.Errorf("freeze: %w", ErrDown)
	}
	ctx, cancel := context.WithTimeout(ctx, freezeLimit)
	defer cancel()
	var refused error
	for {
		_, err := c.docker.run(ctx, "pause", c.name)
		if err == nil {
			return nil
		}
		// So the kernel says of processes that keep starting others.
		if !strings.Contains(err.Error(), "unable to freeze") {
			return fmt.Errorf("freeze PostgreSQL's container: %w", errors.Join(refused, err))
		}
		refused = err
		select {
		case <-ctx.Done():
			return fmt.Errorf("freeze PostgreSQL's container: %w", err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (c *container) thaw(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended || c.down() {
		return nil
	}
	return c.melt(ctx)
}

// melt is thaw, for those who have the lock.
func (c *container) melt(ctx context.Context) error {
	if _, err := c.docker.run(ctx, "unpause", c.name); err != nil && !strings.Contains(err.Error(), "is not paused") {
		return fmt.Errorf("thaw PostgreSQL's container: %w", err)
	}
	return nil
}

func (c *container) killSession(ctx context.Context, pid int) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended || c.down() {
		return fmt.Errorf("kill session %d: %w", pid, ErrDown)
	}
	// The id is one of the container's own; its shell knows kill where no program does.
	if _, err := c.docker.run(ctx, "exec", c.name, "/bin/sh", "-c", `kill -s KILL "$0"`, strconv.Itoa(pid)); err != nil {
		return fmt.Errorf("kill session %d: %w", pid, err)
	}
	return nil
}

func (c *container) logged(ctx context.Context) (string, error) {
	out, err := c.docker.command(ctx, "logs", c.name).CombinedOutput()
	return string(out), err
}
