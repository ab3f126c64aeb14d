package postgres

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/jackc/pgx/v5"
)

// superuser is the administrator of a private cluster and its first database.
const superuser = "postgres"

// cluster is a private server with all that belongs to it.
//
//	home/cluster     PostgreSQL's data directory
//	home/server.log  what the server says in this run; server.log.1 in the last
//	home/password    the administrator's
//	home/lock        held while the cluster is in use, with our pid in it
//	run/             the unix socket and "pid" for the watchdog; home of a temporary one
type cluster struct {
	log      *slog.Logger
	as       account
	bin      installation
	settings map[string]string
	temp     bool
	fresh    bool
	cache    string
	home     string
	data     string
	run      string
	port     int
	password string

	mu    sync.Mutex // one of start, restart, stop at a time
	ended bool
	lock  *os.File
	guard *watchdog
	proc  atomic.Pointer[process]
}

// newCluster finds what the cluster needs and touches nothing yet.
func newCluster(ctx context.Context, cfg Config) (*cluster, error) {
	as, err := serverAccount()
	if err != nil {
		return nil, err
	}
	c := &cluster{log: cfg.Log, as: as, settings: cfg.Settings, temp: cfg.Temp, fresh: cfg.Fresh && !cfg.Temp}
	c.run = filepath.Join(as.tempBase(), "orderflow-"+strings.ToLower(rand.Text()[:16]))

	cache, cacheErr := cacheDir()
	if cacheErr == nil {
		c.cache = filepath.Join(cache, "templates")
	}
	if cfg.cache != "" {
		c.cache = cfg.cache
	}
	switch {
	case cfg.Temp:
		c.home = c.run
	case cfg.Data != "":
		c.home, err = filepath.Abs(cfg.Data)
	default:
		c.home, err = filepath.Join(cache, "postgres"), cacheErr
	}
	if err != nil {
		return nil, fmt.Errorf("find a place for the data, give --data DIR: %w", err)
	}
	c.data = filepath.Join(c.home, "cluster")

	major, err := c.keptMajor()
	if err != nil {
		return nil, err
	}
	bins := cfg.bins
	if bins == nil {
		bins = searchPath()
	}
	c.bin, err = findInstallation(ctx, bins, as, major)
	if _, ok := errors.AsType[*wrongMajorError](err); ok {
		err = fmt.Errorf("%s holds data of PostgreSQL %d: %w; install PostgreSQL %d, begin with empty data (--fresh) or give another directory (--data DIR)", c.home, major, err, major)
	}
	return c, err
}

// cacheDir is where the user's programs keep what they can make again; root's
// is outside of its home, which is closed to the server's account.
func cacheDir() (string, error) {
	if os.Geteuid() == 0 {
		return "/var/cache/orderflow", nil
	}
	dir, err := os.UserCacheDir()
	return filepath.Join(dir, "orderflow"), err
}

// keptMajor is the major version of the data kept, 0 when there are none that count.
func (c *cluster) keptMajor() (int, error) {
	if c.temp {
		return 0, nil
	}
	if isFile(filepath.Join(c.home, "PG_VERSION")) {
		return 0, fmt.Errorf("%s is itself a PostgreSQL data directory: give a directory in which one can be made", c.home)
	}
	if _, err := os.Stat(c.data); errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	b, err := os.ReadFile(filepath.Join(c.data, "PG_VERSION"))
	if err != nil {
		return 0, fmt.Errorf("%s is in the way: no PostgreSQL data directory: %w", c.data, err)
	}
	if c.fresh {
		return 0, nil
	}
	major, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return 0, fmt.Errorf("version of the data in %s: %w", c.data, err)
	}
	return major, nil
}

// start makes the cluster ready for connections. After an error, stop cleans up.
func (c *cluster) start(ctx context.Context) (err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.temp {
		if err := c.mkHome(); err != nil {
			return fmt.Errorf("make the data directory: %w", err)
		}
		if c.lock, err = lockData(ctx, c.home, filepath.Join(c.home, "lock")); err != nil {
			return err
		}
		// A server that runs on without its program has the data, even when
		// they are to be thrown away.
		if _, err := c.stalePID(); err != nil {
			return err
		}
	}
	if c.guard, err = watch(c.as, c.run, c.lock); err != nil {
		return err
	}
	if err := c.as.mkdir(c.run); err != nil {
		return fmt.Errorf("make the socket's directory: %w", err)
	}
	if err := c.prepare(ctx); err != nil {
		return fmt.Errorf("make a PostgreSQL cluster: %w", err)
	}
	if c.password, err = c.readPassword(); err != nil {
		return fmt.Errorf("the administrator's password: %w", err)
	}
	if err := os.Rename(c.logPath(), c.logPath()+".1"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := c.launch(ctx); err != nil {
		return err
	}
	return c.admit(ctx)
}

// mkHome makes the directory of kept data, whose parts have owners of their own.
func (c *cluster) mkHome() error {
	if err := os.MkdirAll(filepath.Dir(c.home), 0o755); err != nil {
		return err
	}
	if err := os.Mkdir(c.home, 0o700); err == nil {
		if c.as.drop {
			if err := os.Chmod(c.home, 0o711); err != nil { // for the server to pass through
				return err
			}
		}
	} else if !errors.Is(err, fs.ErrExist) {
		return err
	}
	return c.as.reaches(c.home)
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

func (c *cluster) restart(ctx context.Context, mode string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return errors.New("restart PostgreSQL: it was stopped")
	}
	sig := syscall.SIGINT
	if mode == Immediate {
		sig = syscall.SIGQUIT
	}
	if err := c.proc.Load().signal(ctx, sig); err != nil {
		return err
	}
	if err := c.launch(ctx); err != nil {
		return err
	}
	return c.admit(ctx)
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

func (c *cluster) logPath() string { return filepath.Join(c.home, "server.log") }

// socketDSN is the way in over the unix socket, which asks for no password.
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
