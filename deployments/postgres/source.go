package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strconv"
	"syscall"
	"time"
)

// fetchLimit bounds the fetching of an image or of binaries, which happens once
// on a machine.
const fetchLimit = 10 * time.Minute

// Where a server comes from when nobody says so. They are looked up here, and
// nowhere else, as PATH is: programs and tests on a machine find the same one.
const (
	imageVariable    = "ORDERFLOW_POSTGRES_IMAGE"    // of a container
	imageOfTests     = "E2E_POSTGRES_IMAGE"          // the same, as the end-to-end tests are told
	downloadVariable = "ORDERFLOW_POSTGRES_DOWNLOAD" // base URL of a Maven repository
)

// pinnedImage is the official image that a container is made of.
const pinnedImage = "postgres:17.5"

// owned is a server that this package started.
type owned interface {
	dsn(role, password, database string) string
	pid() int
	halt(ctx context.Context, sig syscall.Signal) error
	relaunch(ctx context.Context) error
	freeze(ctx context.Context) error
	thaw(ctx context.Context) error
	killSession(ctx context.Context, pid int) error
	logged(ctx context.Context) (string, error)
	stop(ctx context.Context) error
}

// unavailableError: a source can't be had on this machine, the next one may.
type unavailableError struct{ why string }

func (e *unavailableError) Error() string { return e.why }

func unavailable(format string, args ...any) error {
	return &unavailableError{why: fmt.Sprintf(format, args...)}
}

// startOwn starts a server from the first source that can be had: binaries on
// the machine, a container, downloaded binaries. Data that are kept stay with
// the kind of server that made them, or they would seem lost.
func startOwn(ctx context.Context, cfg Config) (*Server, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, fetchLimit, fmt.Errorf("PostgreSQL not fetched after %s", fetchLimit))
	defer cancel()
	p, err := newPlace(cfg)
	if err != nil {
		return nil, err
	}
	if volume, err := p.keptVolume(); err != nil {
		return nil, err
	} else if volume != "" {
		s, err := startContainer(ctx, cfg, p, "which made the data")
		if _, ok := errors.AsType[*unavailableError](err); ok {
			return nil, fmt.Errorf("%s belongs to data in Docker's volume %s, but %w: start Docker or give another directory (--data DIR)", p.home, volume, err)
		}
		return s, err
	}
	if cfg.bins == nil {
		cfg.bins = searchPath()
	}
	r := newRelease(cfg)
	c, onMachine := newCluster(ctx, cfg, p, append(cfg.bins, r.bin(p)))
	if onMachine == nil {
		return startCluster(ctx, c, "found on this machine")
	}
	wrong, isWrong := errors.AsType[*wrongMajorError](onMachine)
	if !errors.Is(onMachine, ErrNoBinaries) && (!isWrong || wrong.want != r.major()) {
		return nil, onMachine
	}
	inDocker := unavailable("the data are of a server on this machine")
	if major, err := p.keptMajor(); err != nil {
		return nil, err
	} else if major == 0 {
		var s *Server
		s, inDocker = startContainer(ctx, cfg, p, "as there are no binaries on this machine")
		if _, ok := errors.AsType[*unavailableError](inDocker); !ok {
			return s, inDocker
		}
	} else if major != r.major() {
		return nil, p.needs(major, onMachine)
	}
	fetched := r.fetch(ctx, p, cfg.Progress)
	if fetched == nil {
		c, fetched = newCluster(ctx, cfg, p, []string{r.bin(p)})
		if fetched == nil {
			return startCluster(ctx, c, fmt.Sprintf("downloaded, as there are no binaries on this machine; Docker: %s", inDocker))
		}
	}
	if err := context.Cause(ctx); err != nil {
		return nil, errors.Join(err, fetched)
	}
	return nil, fmt.Errorf("%w; Docker: %w; download: %w: %s", onMachine, inDocker, fetched, fixes)
}

// startCluster starts c, whose binaries came as the words of how say.
func startCluster(ctx context.Context, c *cluster, how string) (*Server, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, startLimit, fmt.Errorf("PostgreSQL not ready after %s", startLimit))
	defer cancel()
	if err := c.start(ctx); err != nil {
		return nil, abandon(ctx, c, err)
	}
	return &Server{
		version: c.bin.version.String(),
		source:  fmt.Sprintf("private PostgreSQL %s (%s, %s), %s", c.bin.version, c.bin.dir, how, c.place.where("data in "+c.home)),
		url:     loopbackURL(c.port, c.password),
		own:     c,
	}, nil
}

// abandon stops what couldn't be started because of err. The reason to give up
// may be ctx itself; the clean-up has its own time.
func abandon(ctx context.Context, o owned, err error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	return errors.Join(err, o.stop(ctx))
}

// loopbackURL is the administrator's way in over TCP.
func loopbackURL(port int, password string) string {
	return (&url.URL{
		Scheme:   "postgres",
		User:     url.UserPassword(superuser, password),
		Host:     "127.0.0.1:" + strconv.Itoa(port),
		Path:     "/" + superuser,
		RawQuery: "sslmode=disable",
	}).String()
}

// setting is the first variable of the environment that is set, or otherwise.
func setting(otherwise string, names ...string) string {
	for _, name := range names {
		if v := os.Getenv(name); v != "" {
			return v
		}
	}
	return otherwise
}

// report tells whoever waits how far a fetch is.
func report(to io.Writer, format string, args ...any) {
	if to == nil {
		to = os.Stderr
	}
	// A terminal that is gone is no reason to stop.
	if _, err := fmt.Fprintf(to, "PostgreSQL: "+format+"\n", args...); err != nil {
		return
	}
}
