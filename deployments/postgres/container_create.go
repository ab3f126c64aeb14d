package postgres

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
)

// makeVolume makes the volume, if it isn't there, and empties it when its
// content is not to count.
func (c *container) makeVolume(ctx context.Context) error {
	// A container of ours that is still there is one that a dead program left.
	if err := c.docker.remove(ctx, c.name); err != nil {
		return err
	}
	if c.temp {
		return c.docker.makeVolume(ctx, c.volume, c.labels()...)
	}
	// The name is noted first: what has been made is found again.
	if err := os.WriteFile(filepath.Join(c.home, "volume"), []byte(c.volume+"\n"), 0o600); err != nil {
		return err
	}
	args := []string{"--label", "orderflow.postgres.home=" + c.home}
	if c.named {
		dir := filepath.Join(c.home, "container")
		if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		args = append(args, "--opt", "type=none", "--opt", "o=bind", "--opt", "device="+dir)
	}
	if err := c.docker.makeVolume(ctx, c.volume, args...); err != nil {
		return err
	}
	if !c.fresh {
		return nil
	}
	// The files belong to the image's user: only a container can remove them all.
	_, err := c.docker.run(ctx, "run", "--rm", "--network", "none", "--user", "0:0", "--volume", c.volume+":"+volumeAt,
		"--entrypoint", "/bin/rm", c.image, "-rf", volumeAt+"/cluster")
	return errors.Join(err, os.RemoveAll(c.cluster()))
}

// make makes the container and starts it, on a free port.
func (c *container) make(ctx context.Context) error {
	for {
		port, err := freePort()
		if err != nil {
			return err
		}
		c.port = port
		if err := c.create(ctx); err != nil {
			return err
		}
		if err = c.launch(ctx); !errors.Is(err, errAgain) {
			return err
		}
		if err := c.docker.remove(ctx, c.name); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return err
		}
	}
}

// create makes the container. The call notes its pid for the watchdog, which
// waits for it, and is not cut short: whether there is a container must be known.
func (c *container) create(ctx context.Context) error {
	initdb := "--encoding=UTF8 --locale=C --auth-local=trust --auth-host=scram-sha-256"
	if c.temp {
		initdb += " --no-sync" // gone anyway, should the machine fail
	}
	args := []string{"create", "--name", c.name}
	args = append(args, c.labels()...)
	args = append(args,
		"--publish", "127.0.0.1:"+strconv.Itoa(c.port)+":5432",
		"--volume", c.volume+":"+volumeAt,
		"--env", "PGDATA="+volumeAt+"/cluster",
		"--env", "POSTGRES_PASSWORD", // its value stands in the client's environment
		"--env", "POSTGRES_INITDB_ARGS="+initdb,
		"--stop-signal", "SIGINT", "--stop-timeout", "10",
		"--shm-size", "256m", // parallel queries need more than the usual 64 MB
		"--security-opt", "no-new-privileges",
		c.image, "postgres")
	args = append(args, serverArgs(c.settings, map[string]string{"listen_addresses": "*", "port": "5432"})...)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), startLimit)
	defer cancel()
	pid := filepath.Join(c.run, "pid")
	cmd := c.docker.session(ctx, "/bin/sh", noted(pid, c.docker.path, args...)...)
	cmd.Env = append(cmd.Env[:len(cmd.Env):len(cmd.Env)], "POSTGRES_PASSWORD="+c.password)
	_, err := said(ctx, cmd, "docker create")
	if err := errors.Join(err, os.Remove(pid)); err != nil {
		return fmt.Errorf("make a container for PostgreSQL: %w", err)
	}
	return nil
}
