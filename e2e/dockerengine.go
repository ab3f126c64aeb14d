package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/client"
	"github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/log"
)

// Every call to Docker has a deadline: one that hangs would hang the tests.
const (
	callLimit  = 30 * time.Second
	imageLimit = 3 * time.Minute // to build the image of the programs
)

// engine is Docker as this run of the tests uses it.
type engine struct {
	client *testcontainers.DockerClient
	image  string // of all programs
	owner  string
}

// opened is the engine, made at the first call and once only: what runs before
// this one have left behind is swept, and the image is built. closeEngine ends it.
var opened = sync.OnceValues(openEngine)

// openedEngine is the engine as long as it is there.
var openedEngine *engine

func openEngine() (*engine, error) {
	ctx, cancel := context.WithTimeout(context.Background(), callLimit+imageLimit)
	defer cancel()
	// What it would sweep is swept here: it is one more image, and talks of itself.
	if err := os.Setenv("TESTCONTAINERS_RYUK_DISABLED", "true"); err != nil {
		return nil, err
	}
	log.SetDefault(log.NewNoopLogger())
	c, err := testcontainers.NewDockerClientWithOpts(ctx)
	if err != nil {
		return nil, fmt.Errorf("reach Docker: %w", err)
	}
	me := thisOwner()
	e := &engine{client: c, owner: me.String(), image: fmt.Sprintf("orderflow-e2e:%d-%s", me.pid, me.start)}
	openedEngine = e
	if err := e.sweep(ctx, owner.gone); err != nil {
		return nil, fmt.Errorf("sweep what earlier runs have left with Docker: %w", err)
	}
	return e, buildImage(ctx, c.Client, e.image, e.labels())
}

// closeEngine removes what this run has left.
func closeEngine() error {
	if openedEngine == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), callLimit)
	defer cancel()
	err := openedEngine.sweep(ctx, func(o owner) bool { return o == thisOwner() })
	return errors.Join(err, openedEngine.client.Close())
}

func (e *engine) labels() map[string]string { return map[string]string{ownerLabel: e.owner} }

// sweep removes the containers, networks, volumes and images of those owners of
// whom it is said so.
func (e *engine) sweep(ctx context.Context, of func(owner) bool) error {
	ours := func(labels map[string]string) bool {
		o, known := parseOwner(labels[ownerLabel])
		return known && of(o)
	}
	labelled := make(client.Filters).Add("label", ownerLabel)
	containers, err := e.client.ContainerList(ctx, client.ContainerListOptions{All: true, Filters: labelled})
	if err != nil {
		return err
	}
	var errs []error
	for _, c := range containers.Items {
		if ours(c.Labels) {
			errs = append(errs, e.remove(ctx, c.ID))
		}
	}
	networks, err := e.client.NetworkList(ctx, client.NetworkListOptions{Filters: labelled})
	if err != nil {
		return errors.Join(append(errs, err)...)
	}
	for _, n := range networks.Items {
		if ours(n.Labels) {
			_, err := e.client.NetworkRemove(ctx, n.ID, client.NetworkRemoveOptions{})
			errs = append(errs, unlessNotFound(err))
		}
	}
	volumes, err := e.client.VolumeList(ctx, client.VolumeListOptions{Filters: labelled})
	if err != nil {
		return errors.Join(append(errs, err)...)
	}
	for _, v := range volumes.Items {
		if ours(v.Labels) {
			_, err := e.client.VolumeRemove(ctx, v.Name, client.VolumeRemoveOptions{Force: true})
			errs = append(errs, unlessNotFound(err))
		}
	}
	images, err := e.client.ImageList(ctx, client.ImageListOptions{Filters: labelled})
	if err != nil {
		return errors.Join(append(errs, err)...)
	}
	for _, i := range images.Items {
		if ours(i.Labels) {
			_, err := e.client.ImageRemove(ctx, i.ID, client.ImageRemoveOptions{Force: true, PruneChildren: true})
			errs = append(errs, unlessNotFound(err))
		}
	}
	return errors.Join(errs...)
}

// remove removes a container, running or not, and its volumes.
func (e *engine) remove(ctx context.Context, id string) error {
	_, err := e.client.ContainerRemove(ctx, id, client.ContainerRemoveOptions{Force: true, RemoveVolumes: true})
	return unlessNotFound(err)
}

func unlessNotFound(err error) error {
	if errdefs.IsNotFound(err) {
		return nil
	}
	return err
}
