package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/moby/moby/client"
	"github.com/testcontainers/testcontainers-go"

	"example.com/orderflow/deployments/postgres"
)

// databaseLimit is how long PostgreSQL may take to be ready.
const databaseLimit = time.Minute

// databaseName is the database and its administrator.
const databaseName = "orderflow"

func (d *docker) DSN(role, password string) string {
	u := url.URL{Scheme: "postgres", Path: "/" + databaseName, RawQuery: "sslmode=disable"}
	if role == "" {
		u.User, u.Host = url.UserPassword(databaseName, d.password), d.ports.addr(Database)
	} else {
		u.User, u.Host = url.UserPassword(role, password), Database.String()+":"+databasePort
	}
	return u.String()
}

// createDatabase starts a new PostgreSQL and returns when it takes connections. It
// is set as the private cluster of the local backend is.
func (d *docker) createDatabase(ctx context.Context, image string) error {
	req := testcontainers.ContainerRequest{
		Image: image,
		Env: map[string]string{
			"POSTGRES_USER": databaseName, "POSTGRES_DB": databaseName, "POSTGRES_PASSWORD": d.password,
			// The new cluster needn't survive a power failure; what is committed to it later does.
			"POSTGRES_INITDB_ARGS": "--data-checksums --encoding=UTF8 --locale=C --no-sync",
		},
		Cmd: []string{
			"postgres", "-c", "max_connections=200", "-c", "shared_buffers=64MB", "-c", "max_wal_size=1GB",
			"-c", "autovacuum_naptime=5s", "-c", "jit=off", "-c", "timezone=UTC",
		},
	}
	if d.disk != "" {
		req.Env["PGDATA"] = diskAt + "/data"
		for name, value := range smallDiskSettings {
			req.Cmd = append(req.Cmd, "-c", name+"="+value)
		}
	}
	err := d.create(ctx, Database, databasePort, req, d.mountDisk)
	if err == nil {
		err = d.awaitDatabase(ctx)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", image, err)
	}
	return nil
}

// awaitDatabase returns when PostgreSQL takes connections.
func (d *docker) awaitDatabase(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, databaseLimit, fmt.Errorf("not ready after %s", databaseLimit))
	defer cancel()
	for {
		// It also looks whether the settings are durable.
		_, err := postgres.Start(ctx, postgres.Config{URL: d.DSN("", "")})
		if err == nil {
			return nil
		}
		if ended := d.ended(ctx, Database); ended != nil {
			return fmt.Errorf("%w\n%s", ended, tail(d.Logs(Database), 10))
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w\n%s", context.Cause(ctx), err, tail(d.Logs(Database), 10))
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// startDatabase starts the container that is there, with its data.
func (d *docker) startDatabase(ctx context.Context) (string, error) {
	id, err := d.find(Database)
	if err != nil {
		return "", err
	}
	if d.ended(ctx, Database) == nil {
		return "", fmt.Errorf("start %s: it runs already", Database)
	}
	if _, err := d.engine.client.ContainerStart(ctx, id, client.ContainerStartOptions{}); err != nil {
		return "", fmt.Errorf("start %s: %w", Database, err)
	}
	return d.DSN("", ""), d.awaitDatabase(ctx)
}

// haltDatabase ends PostgreSQL by a signal and returns its exit code, -1 for an end
// by a signal. Its container stays, with its data.
func (d *docker) haltDatabase(ctx context.Context, sig string) (int, error) {
	id, err := d.find(Database)
	if err != nil {
		return 0, err
	}
	if ended := d.ended(ctx, Database); ended != nil {
		return 0, fmt.Errorf("send %s to %s: %w", sig, Database, ended)
	}
	// Signals don't reach what is frozen.
	if err := errors.Join(d.freezeDatabase(ctx, id, false), d.signal(ctx, id, sig)); err != nil {
		return 0, fmt.Errorf("send %s to %s: %w", sig, Database, err)
	}
	exit, err := d.wait(ctx, id)
	if err != nil {
		return 0, fmt.Errorf("%s still runs after %s: %w", Database, sig, err)
	}
	return exit, nil
}

func (d *docker) QuitDatabase(ctx context.Context) error {
	_, err := d.haltDatabase(ctx, "SIGQUIT")
	return err
}

// freezeDatabase freezes or thaws all processes of the container by Docker's own
// pause: a signal would reach the first one only.
func (d *docker) freezeDatabase(ctx context.Context, id string, frozen bool) error {
	found, err := d.engine.client.ContainerInspect(ctx, id, client.ContainerInspectOptions{})
	switch {
	case err != nil || found.Container.State.Paused == frozen:
	case frozen:
		for {
			_, err = d.engine.client.ContainerPause(ctx, id, client.ContainerPauseOptions{})
			// So the kernel says of processes that keep starting others.
			if err == nil || !strings.Contains(err.Error(), "unable to freeze") || ctx.Err() != nil {
				break
			}
			time.Sleep(50 * time.Millisecond)
		}
	default:
		_, err = d.engine.client.ContainerUnpause(ctx, id, client.ContainerUnpauseOptions{})
	}
	return err
}

func (d *docker) pauseDatabase(frozen bool) error {
	ctx, cancel := context.WithTimeout(context.Background(), callLimit)
	defer cancel()
	id, err := d.find(Database)
	if err == nil {
		err = d.freezeDatabase(ctx, id, frozen)
	}
	if err != nil {
		return fmt.Errorf("pause or resume %s: %w", Database, err)
	}
	return nil
}

// KillSession kills inside of the container, whose process ids are the server's;
// its shell knows kill where there is no such program.
func (d *docker) KillSession(pid int) error {
	ctx, cancel := context.WithTimeout(context.Background(), callLimit)
	defer cancel()
	id, err := d.find(Database)
	if err == nil {
		err = d.exec(ctx, id, "/bin/sh", "-c", `kill -s KILL "$0"`, strconv.Itoa(pid))
	}
	if err != nil {
		return fmt.Errorf("kill session %d of %s: %w", pid, Database, err)
	}
	return nil
}

// exec runs a command in a container to its end, which must be a good one.
func (d *docker) exec(ctx context.Context, id string, cmd ...string) error {
	e, err := d.engine.client.ExecCreate(ctx, id, client.ExecCreateOptions{Cmd: cmd})
	if err != nil {
		return err
	}
	if _, err := d.engine.client.ExecStart(ctx, e.ID, client.ExecStartOptions{Detach: true}); err != nil {
		return err
	}
	for {
		r, err := d.engine.client.ExecInspect(ctx, e.ID, client.ExecInspectOptions{})
		switch {
		case err != nil:
			return err
		case !r.Running && r.ExitCode == 0:
			return nil
		case !r.Running:
			return fmt.Errorf("%s ended with exit code %d", cmd[0], r.ExitCode)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
}
