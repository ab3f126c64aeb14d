package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/jackc/pgx/v5"
)

// superuser is the administrator of a private cluster and its first database.
const superuser = "postgres"

// cluster is a server of binaries on the machine, with all that belongs to it.
type cluster struct {
	place
	log      *slog.Logger
	as       account
	bin      installation
	settings map[string]string
	ports    func() (int, error) // finds a free one
	data     string              // PostgreSQL's data directory
	logFile  string              // "" means one beside it
	run      string              // the unix socket and "pid" for the watchdog; home of a temporary one
	port     int
	password string

	mu    sync.Mutex // one of start, restart, stop at a time
	ended bool
	lock  *os.File
	guard *watchdog
	proc  atomic.Pointer[process]
}

// newCluster finds what the cluster needs, its binaries in bins, and touches
// nothing yet.
func newCluster(ctx context.Context, cfg Config, p place, bins []string) (*cluster, error) {
	as, err := serverAccount()
	if err != nil {
		return nil, err
	}
	c := &cluster{place: p, log: cfg.Log, as: as, settings: cfg.Settings, logFile: cfg.LogFile, ports: freePort, run: as.newRun(cfg.TempDir)}
	if c.temp {
		c.home = c.run
	}
	c.data = c.cluster()
	major, err := p.keptMajor()
	if err != nil {
		return nil, err
	}
	c.bin, err = findInstallation(ctx, bins, as, major)
	if _, ok := errors.AsType[*wrongMajorError](err); ok {
		err = p.needs(major, err)
	}
	return c, err
}

// start makes the cluster ready for connections. After an error, stop cleans up.
func (c *cluster) start(ctx context.Context) (err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.temp {
		if c.lock, err = c.takeHome(ctx, c.as.drop); err != nil {
			return err
		}
		if err := c.mayUse(); err != nil {
			return err
		}
		// A server that runs on without its program has the data, even when
		// they are to be thrown away.
		if _, err := c.stalePID(); err != nil {
			return err
		}
	}
	if c.guard, err = watch(c.as.command(context.Background(), "/bin/sh", "-c", watchdogScript, "orderflow-postgres-watchdog", c.run), c.lock); err != nil {
		return err
	}
	if err := c.as.mkdir(c.run); err != nil {
		return fmt.Errorf("make the socket's directory: %w", err)
	}
	if err := c.prepare(ctx); err != nil {
		return fmt.Errorf("make a PostgreSQL cluster: %w", err)
	}
	if c.password, err = c.readPassword(); err != nil {
		return err
	}
	if err := os.Rename(c.logPath(), c.logPath()+".1"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := c.launch(ctx); err != nil {
		return err
	}
	return c.admit(ctx)
}

// mayUse tells whether the server's account gets at the data kept, which have to
// be its own: PostgreSQL refuses another's.
func (c *cluster) mayUse() error {
	if err := c.as.reaches(c.home); err != nil {
		return fmt.Errorf("keep data in %s: %w; give a directory that is open to it (--data DIR)", c.home, err)
	}
	st, err := os.Stat(c.data)
	if errors.Is(err, fs.ErrNotExist) || c.fresh {
		return nil
	}
	if err != nil {
		return err
	}
	if sys, ok := st.Sys().(*syscall.Stat_t); ok && int(sys.Uid) != c.as.uid {
		return fmt.Errorf("the data in %s belong to uid %d, but the server runs as %s: hand them over (chown -R), or give another directory (--data DIR)", c.data, sys.Uid, c.as)
	}
	return nil
}

// admit checks the server over a real connection and sets its password.
func (c *cluster) admit(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, c.socketDSN(superuser, superuser))
	if err != nil {
		return fmt.Errorf("connect to the private PostgreSQL: %w", err)
	}
	_, err = checkServer(ctx, conn)
	if err == nil {
		// ALTER ROLE takes no parameters; the password is letters and digits.
		if _, err = conn.Exec(ctx, `ALTER ROLE postgres PASSWORD '`+c.password+`'`); err != nil {
			err = fmt.Errorf("set the administrator's password: %w", err)
		}
	}
	return errors.Join(err, conn.Close(ctx))
}

func (c *cluster) stop(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return nil
	}
	c.ended = true
	var errs []error
	if p := c.proc.Load(); p != nil {
		errs = append(errs, c.melt())
		errs = append(errs, p.signal(ctx, syscall.SIGINT))
	}
	if c.guard != nil {
		if err := c.guard.end(); err != nil {
			c.log.WarnContext(ctx, "the watchdog of PostgreSQL had ended", "err", err)
		}
		errs = append(errs, os.RemoveAll(c.run)) // nothing left to remove, unless it had
	}
	if c.lock != nil {
		errs = append(errs, c.lock.Close())
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("stop PostgreSQL: %w", err)
	}
	return nil
}

func (c *cluster) pid() int { return c.proc.Load().cmd.Process.Pid }

// dsn is the way in over the unix socket, which asks for no password.
func (c *cluster) dsn(role, _, database string) string {
	if role == "" {
		role = superuser
	}
	if database == "" {
		database = superuser
	}
	return c.socketDSN(role, database)
}

func (c *cluster) logPath() string { return cmp.Or(c.logFile, filepath.Join(c.home, "server.log")) }

func (c *cluster) socketDSN(role, database string) string {
	return (&url.URL{
		Scheme: "postgres",
		User:   url.User(role),
		Path:   "/" + database,
		RawQuery: url.Values{
			"host":    {c.run},
			"port":    {strconv.Itoa(c.port)},
			"sslmode": {"disable"},
		}.Encode(),
	}).String()
}
