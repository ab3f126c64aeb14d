package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/client"

	"example.com/orderflow/deployments/postgres"
)

// officialPostgres is the image of PostgreSQL unless E2E_POSTGRES_IMAGE names
// another.
const officialPostgres = "postgres:15.18"

// builtPostgres is what deployments/postgres/image/build makes.
const builtPostgres = "orderflow-postgres:15"

const (
	askLimit  = 2 * time.Second  // for Docker to answer: one that hangs is as good as none
	pullLimit = 10 * time.Minute // for PostgreSQL's image
)

// wishes is what the person who runs the tests has said, in the environment.
type wishes struct {
	backend     string // E2E_BACKEND: auto, docker, local or external
	image       string // E2E_POSTGRES_IMAGE
	pull        bool   // E2E_PULL=1: pull the image when it isn't there
	dockerHost  string // DOCKER_HOST; "" is the platform's socket
	databaseURL string // DATABASE_URL

	installed func(context.Context) (string, error) // postgres.Installed
}

func wishesOfEnvironment() wishes {
	w := wishes{
		backend: os.Getenv("E2E_BACKEND"), image: os.Getenv("E2E_POSTGRES_IMAGE"), pull: os.Getenv("E2E_PULL") == "1",
		dockerHost: os.Getenv("DOCKER_HOST"), databaseURL: os.Getenv("DATABASE_URL"),
		installed: postgres.Installed,
	}
	if w.backend == "" {
		w.backend = "auto"
	}
	if w.image == "" {
		w.image = officialPostgres
	}
	return w
}

// choice is a backend and why it was chosen.
type choice struct{ backend, why string }

// decide chooses the backend, within 3 s unless an image has to be pulled, of
// which progress is told. A backend that was named is the choice or the failure.
// Otherwise it is the first that can be had: containers; processes on the
// machine's PostgreSQL; processes on DATABASE_URL; containers on an image that
// is pulled first.
func (w wishes) decide(ctx context.Context, progress io.Writer) (choice, error) {
	switch w.backend {
	case "local":
		return choice{"local", "E2E_BACKEND=local"}, nil
	case "external":
		if w.databaseURL == "" {
			return choice{}, errors.New("E2E_BACKEND=external: set DATABASE_URL to an administrator's URL of a running server")
		}
		return choice{"external", "E2E_BACKEND=external"}, nil
	case "docker":
		if err := w.findDocker(ctx, w.pull, progress); err != nil {
			return choice{}, fmt.Errorf("E2E_BACKEND=docker: %w", err)
		}
		return choice{"docker", "E2E_BACKEND=docker"}, nil
	case "auto":
	default:
		return choice{}, fmt.Errorf("E2E_BACKEND=%s: no such backend; unset it, or say auto, docker, local or external", w.backend)
	}
	noDocker := w.findDocker(ctx, w.pull, progress)
	if noDocker == nil {
		return choice{"docker", "Docker answers and has " + w.image}, nil
	}
	found, noBinaries := w.installed(ctx)
	if noBinaries == nil {
		return choice{"local", fmt.Sprintf("no containers (%v), but PostgreSQL %s", noDocker, found)}, nil
	}
	if w.databaseURL != "" {
		return choice{"external", fmt.Sprintf("no containers (%v), no PostgreSQL on the machine, but DATABASE_URL", noDocker)}, nil
	}
	if errors.Is(noDocker, errNoImage) {
		if noDocker = w.findDocker(ctx, true, progress); noDocker == nil {
			return choice{"docker", "nothing else to run on: " + w.image + " was pulled"}, nil
		}
	}
	return choice{}, fmt.Errorf("nothing to run the shop on: start Docker, or install PostgreSQL, or set DATABASE_URL:\n%w", errors.Join(noDocker, noBinaries))
}

// errNoImage: Docker answers, PostgreSQL's image isn't there.
var errNoImage = errors.New("no such image")

// findDocker returns nil when containers can be had: Docker answers, and the
// image of PostgreSQL is there or has been pulled.
func (w wishes) findDocker(ctx context.Context, pull bool, progress io.Writer) (err error) {
	c, err := w.client()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	asking, cancel := context.WithTimeoutCause(ctx, askLimit, fmt.Errorf("no answer within %s", askLimit))
	defer cancel()
	if _, err := c.Ping(asking, client.PingOptions{NegotiateAPIVersion: true}); err != nil {
		return fmt.Errorf("no Docker at %s: %w", c.DaemonHost(), whyEnded(asking, err))
	}
	_, err = c.ImageInspect(asking, w.image)
	switch {
	case err == nil:
		return nil
	case !errdefs.IsNotFound(err):
		return fmt.Errorf("ask Docker for the image %s: %w", w.image, whyEnded(asking, err))
	case !pull:
		return fmt.Errorf("%w: %s; set E2E_PULL=1 to pull it, or run deployments/postgres/image/build and set E2E_POSTGRES_IMAGE=%s", errNoImage, w.image, builtPostgres)
	}
	return pullImage(ctx, c, w.image, progress)
}

func (w wishes) client() (*client.Client, error) {
	opts := []client.Opt{client.FromEnv}
	if w.dockerHost != "" {
		opts = append(opts, client.WithHost(w.dockerHost))
	}
	c, err := client.New(opts...)
	if err != nil {
		return nil, fmt.Errorf("DOCKER_HOST: %w", err)
	}
	return c, nil
}

// whyEnded is the reason of a context that has ended, which says more than what
// came of it.
func whyEnded(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

// pullImage pulls the image and tells how far it is, at most every 2 s.
func pullImage(ctx context.Context, c *client.Client, image string, progress io.Writer) error {
	ctx, cancel := context.WithTimeoutCause(ctx, pullLimit, fmt.Errorf("not there after %s", pullLimit))
	defer cancel()
	fmt.Fprintf(progress, "pulling %s, for %s at most\n", image, pullLimit)
	pulled, err := c.ImagePull(ctx, image, client.ImagePullOptions{})
	if err != nil {
		return fmt.Errorf("pull %s: %w", image, whyEnded(ctx, err))
	}
	layers, told := map[string]int64{}, time.Now()
	for m, err := range pulled.JSONMessages(ctx) {
		if err == nil && m.Error != nil {
			err = m.Error
		}
		if err != nil {
			return fmt.Errorf("pull %s: %w", image, whyEnded(ctx, err))
		}
		if m.Progress != nil && m.Status == "Downloading" {
			layers[m.ID] = m.Progress.Current
		}
		if time.Since(told) < 2*time.Second {
			continue
		}
		told = time.Now()
		var sum int64
		for _, n := range layers {
			sum += n
		}
		fmt.Fprintf(progress, "pulling %s: %d MB\n", image, sum>>20)
	}
	return nil
}
