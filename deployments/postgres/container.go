package postgres

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// volumeAt is where images of PostgreSQL have their volume: a new one takes over
// the owner of that directory, whoever the image's server runs as.
const volumeAt = "/var/lib/postgresql/data"

// container is a server in a container of Docker, reached over a port that is
// open on 127.0.0.1 alone. It gets no access to the machine but its volume.
type container struct {
	place
	log      *slog.Logger
	docker   docker
	image    string
	settings map[string]string
	name     string // of the container
	volume   string // with the data: removed with a temporary server
	run      string // "pid" and "done" for the watchdog; the lock of a temporary server
	port     int
	password string
	url      string // of the administrator
	version  version

	mu    sync.Mutex // one of start, restart, stop at a time
	ended bool
	lock  *os.File
	guard *watchdog
	life  atomic.Pointer[life]
}

// life is one run of the container.
type life struct {
	done     chan struct{} // closed when it is over
	expected atomic.Bool   // to end: nothing to report then
}

// startContainer starts a server in a container, why telling what for. It
// returns an unavailableError when there is no Docker or no image.
func startContainer(ctx context.Context, cfg Config, p place, why string) (*Server, error) {
	d, err := findDocker(ctx, cfg.dockerEnv)
	if err != nil {
		return nil, err
	}
	image := cfg.image
	if image == "" {
		image = setting(pinnedImage, imageVariable, imageOfTests)
	}
	if err := d.haveImage(ctx, image, cfg.Progress); err != nil {
		return nil, err
	}
	c := &container{place: p, log: cfg.Log, docker: d, image: image, settings: cfg.Settings}
	c.run = account{}.newRun(cfg.TempDir)
	c.name = filepath.Base(c.run)
	if !c.temp {
		// The same for a home, so that Docker itself refuses a second one.
		c.name = fmt.Sprintf("orderflow-%x", sha256.Sum256([]byte(c.home)))[:len("orderflow-")+12]
	}
	c.volume = c.name
	ctx, cancel := context.WithTimeoutCause(ctx, startLimit, fmt.Errorf("PostgreSQL not ready after %s", startLimit))
	defer cancel()
	if err := c.start(ctx); err != nil {
		return nil, abandon(ctx, c, err)
	}
	return &Server{
		version: c.version.String(),
		source: fmt.Sprintf("PostgreSQL %s in a container of Docker (image %s), %s, %s", c.version, image, why,
			c.place.where("data in "+c.whereKept())),
		url: c.url,
		own: c,
	}, nil
}

// whereKept says where the data are.
func (c *container) whereKept() string {
	if c.named {
		return filepath.Join(c.home, "container")
	}
	return "Docker's volume " + c.volume
}

// start makes the server ready for connections. After an error, stop cleans up.
func (c *container) start(ctx context.Context) (err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.temp {
		if err := os.Mkdir(c.run, 0o700); err != nil {
			return fmt.Errorf("make a directory for the watchdog: %w", err)
		}
		c.lock, err = lockFile(ctx, c.lockPath())
	} else {
		c.lock, err = c.takeHome(ctx, false)
	}
	if err != nil {
		return err
	}
	if c.guard, err = c.watch(); err != nil {
		return err
	}
	if err := os.Mkdir(c.run, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("make a directory for the watchdog: %w", err)
	}
	if err := c.docker.sweep(ctx); err != nil {
		c.log.WarnContext(ctx, "sweep what dead programs left in Docker", "err", err)
	}
	if c.password, err = c.readPassword(); err != nil {
		return err
	}
	if err := c.makeVolume(ctx); err != nil {
		return fmt.Errorf("make a volume for the data: %w", err)
	}
	if err := c.make(ctx); err != nil {
		return err
	}
	return c.admit(ctx)
}

func (c *container) lockPath() string {
	if c.temp {
		return filepath.Join(c.run, "lock")
	}
	return filepath.Join(c.home, "lock")
}

// launch starts the container, errAgain when its port is taken.
func (c *container) launch(ctx context.Context) error {
	if _, err := c.docker.run(ctx, "start", c.name); err != nil {
		err = fmt.Errorf("start PostgreSQL's container: %w", err)
		for _, taken := range []string{"port is already allocated", "address already in use"} {
			if strings.Contains(err.Error(), taken) {
				err = fmt.Errorf("%w (%w)", err, errAgain)
			}
		}
		return err
	}
	l := &life{done: make(chan struct{})}
	l.expected.Store(true) // until it is ready, whoever waits for it reports
	c.life.Store(l)
	go func() {
		defer close(l.done)
		status, err := c.docker.run(context.WithoutCancel(ctx), "wait", c.name)
		if !l.expected.Load() {
			c.log.Error("PostgreSQL's container ended by itself", "container", c.name, "status", status, "err", err)
		}
	}()
	return nil
}

// admit waits until the server takes connections, and checks it.
func (c *container) admit(ctx context.Context) error {
	c.url = loopbackURL(c.port, c.password)
	l := c.life.Load()
	for {
		err := c.tryAdmit(ctx)
		if err == nil {
			l.expected.Store(false)
			return nil
		}
		// While the server isn't up, connections are refused or cut.
		if _, ok := errors.AsType[*unfitError](err); ok {
			return err
		}
		if refused, ok := errors.AsType[*pgconn.PgError](err); ok {
			switch refused.Code {
			case "57P03": // starting up
			case "28P01": // the file with the password was lost
				if err := c.setPassword(ctx); err != nil {
					return err
				}
			default:
				return c.explain(ctx, err)
			}
		}
		select {
		case <-l.done:
			return c.explain(ctx, errors.New("the server ended at once"))
		case <-ctx.Done():
			return c.explain(ctx, context.Cause(ctx))
		case <-time.After(30 * time.Millisecond):
		}
	}
}

func (c *container) tryAdmit(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, c.url)
	if err != nil {
		return err
	}
	c.version, err = checkServer(ctx, conn)
	return errors.Join(err, conn.Close(ctx))
}

// setPassword makes c.password the administrator's, from inside the container.
func (c *container) setPassword(ctx context.Context) error {
	cmd := c.docker.command(ctx, "exec", "-i", "--user", "postgres", c.name, "psql", "-q", "-U", superuser, "-d", superuser)
	cmd.Stdin = strings.NewReader(`ALTER ROLE postgres PASSWORD '` + c.password + `';`)
	if _, err := said(ctx, cmd, "docker exec"); err != nil {
		return fmt.Errorf("set the administrator's password: %w", err)
	}
	return nil
}

// explain adds what the server logged last to err.
func (c *container) explain(ctx context.Context, err error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), dockerLimit)
	defer cancel()
	out, logErr := c.docker.command(ctx, "logs", "--tail", "10", c.name).CombinedOutput()
	if logErr != nil {
		return errors.Join(fmt.Errorf("start PostgreSQL's container: %w", err), logErr)
	}
	return fmt.Errorf("start PostgreSQL's container: %w; its log ends with:\n%s", err, strings.TrimSpace(string(out)))
}

func (c *container) dsn(role, password, database string) string {
	return withLogin(c.url, role, password, database)
}

// pid is none: the server's process may be in a virtual machine.
func (c *container) pid() int { return 0 }

// signal ends this run of the server with sig and waits for it. When ctx ends
// first it is killed by SIGQUIT (immediate shutdown), 6 s later by SIGKILL.
func (c *container) signal(ctx context.Context, sig syscall.Signal) error {
	l := c.life.Load()
	if l == nil {
		return nil
	}
	l.expected.Store(true)
	for i, s := range []syscall.Signal{sig, syscall.SIGQUIT, syscall.SIGKILL} {
		limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), 6*time.Second)
		until := limited.Done()
		if i == 0 {
			until = ctx.Done()
		}
		_, err := c.docker.run(limited, "kill", "--signal", strconv.Itoa(int(s)), c.name)
		if err != nil && !strings.Contains(err.Error(), "is not running") && !noSuch(err) {
			cancel()
			return fmt.Errorf("stop PostgreSQL's container: %w", err)
		}
		select {
		case <-l.done:
			cancel()
			return nil
		case <-until:
			cancel()
		}
	}
	return fmt.Errorf("stop PostgreSQL's container %s: it does not end", c.name)
}

func (c *container) stop(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return nil
	}
	c.ended = true
	var errs []error
	if c.guard != nil {
		if c.life.Load() != nil && !c.down() {
			errs = append(errs, c.melt(ctx))
		}
		errs = append(errs, c.signal(ctx, syscall.SIGINT))
		limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		errs = append(errs, c.docker.remove(limited, c.name))
		if c.temp {
			errs = append(errs, c.docker.removeVolume(limited, c.volume))
		}
		// What couldn't be removed now the next start sweeps: the watchdog need not try.
		errs = append(errs, os.WriteFile(filepath.Join(c.run, "done"), nil, 0o600))
		if err := c.guard.end(); err != nil {
			c.log.WarnContext(ctx, "the watchdog of PostgreSQL had ended", "err", err)
		}
	}
	errs = append(errs, os.RemoveAll(c.run))
	if c.lock != nil {
		errs = append(errs, c.lock.Close())
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("stop PostgreSQL: %w", err)
	}
	return nil
}
