package e2e

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"
	"github.com/testcontainers/testcontainers-go"
	tcnetwork "github.com/testcontainers/testcontainers-go/network"
)

// docker is the Backend of containers: each program in one of its own, of one
// image, and PostgreSQL in another, on a network of their own. The test reaches
// them by ports on loopback: Docker must be this machine's.
type docker struct {
	engine   *engine
	network  string
	password string // of the database's administrator
	disk     string // the volume of a small one, "" when there is none
	ports    ports

	mu      sync.Mutex
	running map[Process]string // the container's id
	gone    map[Process]string // what containers that are removed have logged
}

// Inside of containers, where nobody else listens, each has its usual port.
const (
	programPort  = "8080" // of the image, see imageRecipe
	databasePort = "5432"
)

func newDocker(ctx context.Context, image string, smallDisk bool) (_ *docker, err error) {
	e, err := opened()
	if err != nil {
		return nil, err
	}
	d := &docker{engine: e, password: rand.Text(), running: map[Process]string{}, gone: map[Process]string{}}
	defer func() {
		if err != nil {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callLimit)
			defer cancel()
			err = errors.Join(err, d.Close(ctx))
		}
	}()
	calling, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	n, err := tcnetwork.New(calling, tcnetwork.WithLabels(e.labels()))
	if err != nil {
		return nil, fmt.Errorf("make a network: %w", err)
	}
	d.network = n.Name
	if smallDisk {
		if err := d.createDisk(ctx, image); err != nil {
			return nil, err
		}
	}
	return d, d.createDatabase(ctx, image)
}

func (d *docker) Name() string { return "docker" }

func (d *docker) Peer(p Process) string { return "http://" + p.String() + ":" + programPort }

func (d *docker) Reach(p Process) string { return "http://" + d.ports.addr(p) }

// TestHost is the network's gateway, which is this machine where Docker runs on
// it; where Docker runs in a virtual machine of its own, it has a name for ours.
func (d *docker) TestHost(ctx context.Context) (listen, name string, err error) {
	n, err := d.engine.client.NetworkInspect(ctx, d.network, client.NetworkInspectOptions{})
	if err != nil {
		return "", "", fmt.Errorf("look for the network's gateway: %w", err)
	}
	ours, err := net.InterfaceAddrs()
	if err != nil {
		return "", "", err
	}
	for _, c := range n.Network.IPAM.Config {
		for _, a := range ours {
			if ip, ok := a.(*net.IPNet); ok && ip.IP.String() == c.Gateway.String() {
				return c.Gateway.String(), c.Gateway.String(), nil
			}
		}
	}
	return "127.0.0.1", "host.docker.internal", nil
}

func (d *docker) Start(ctx context.Context, p Process, env map[string]string) (string, error) {
	if p == Database {
		return d.startDatabase(ctx)
	}
	return d.Reach(p), d.create(ctx, p, programPort, testcontainers.ContainerRequest{
		Image: d.engine.image, Entrypoint: []string{"/" + p.Service}, Env: env,
	}, func(h *container.HostConfig) {
		h.ReadonlyRootfs = true
		h.CapDrop = []string{"ALL"}
	})
}

// create starts p's container, which serves at port, and notes it.
func (d *docker) create(ctx context.Context, p Process, port string, req testcontainers.ContainerRequest, harden func(*container.HostConfig)) error {
	d.mu.Lock()
	id := d.running[p]
	d.mu.Unlock()
	if id != "" {
		return fmt.Errorf("start %s: it runs already", p)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callLimit)
	defer cancel()
	reached := netip.MustParseAddrPort(d.ports.addr(p))
	inside := network.MustParsePort(port + "/tcp")
	req.Labels = d.engine.labels()
	req.Networks = []string{d.network}
	req.NetworkAliases = map[string][]string{d.network: {p.String()}}
	req.ExposedPorts = []string{inside.String()}
	req.HostConfigModifier = func(h *container.HostConfig) {
		h.SecurityOpt = []string{"no-new-privileges"}
		h.PortBindings = network.PortMap{inside: {{HostIP: reached.Addr(), HostPort: fmt.Sprint(reached.Port())}}}
		harden(h)
	}
	c, err := testcontainers.GenericContainer(ctx, testcontainers.GenericContainerRequest{ContainerRequest: req, Started: true})
	if err != nil {
		err = fmt.Errorf("start %s: %w", p, err)
		if c != nil {
			err = errors.Join(err, d.engine.remove(ctx, c.GetContainerID()))
		}
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.running[p] = c.GetContainerID()
	return nil
}

func (d *docker) find(p Process) (string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	id := d.running[p]
	if id == "" {
		return "", fmt.Errorf("%s was not started, or has been stopped", p)
	}
	return id, nil
}

// ended says how p's container has ended, nil when it hasn't.
func (d *docker) ended(ctx context.Context, p Process) error {
	id, err := d.find(p)
	if err != nil {
		return err
	}
	found, err := d.engine.client.ContainerInspect(ctx, id, client.ContainerInspectOptions{})
	if err != nil || found.Container.State.Running {
		return err
	}
	return fmt.Errorf("ended with exit code %d", found.Container.State.ExitCode)
}

func (d *docker) Stop(ctx context.Context, p Process) (int, error) {
	if p == Database {
		return d.haltDatabase(ctx, "SIGINT")
	}
	id, err := d.find(p)
	if err != nil {
		return 0, err
	}
	if err := d.signal(ctx, id, "SIGTERM"); err != nil {
		return 0, fmt.Errorf("stop %s: %w", p, err)
	}
	exit, err := d.wait(ctx, id)
	if err != nil {
		return 0, fmt.Errorf("%s still runs after SIGTERM: %w", p, err)
	}
	return exit, d.retire(p, id)
}

// wait waits until the container has ended and returns its exit code, -1 for an
// end by a signal.
func (d *docker) wait(ctx context.Context, id string) (int, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	w := d.engine.client.ContainerWait(ctx, id, client.ContainerWaitOptions{Condition: container.WaitConditionNotRunning})
	select {
	case r := <-w.Result:
		if r.Error != nil {
			return 0, errors.New(r.Error.Message)
		}
		if r.StatusCode > 128 { // so Docker tells of a signal; our programs end with 0, 1 or 2
			return -1, nil
		}
		return int(r.StatusCode), nil
	case err := <-w.Error:
		return 0, err
	}
}

// retire removes a container that has ended, and keeps what it has logged.
func (d *docker) retire(p Process, id string) error {
	ctx, cancel := context.WithTimeout(context.Background(), callLimit)
	defer cancel()
	said, err := d.read(ctx, id)
	if err == nil {
		err = d.engine.remove(ctx, id)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.gone[p] += said
	delete(d.running, p)
	return err
}

func (d *docker) Kill(p Process) error {
	ctx, cancel := context.WithTimeout(context.Background(), callLimit)
	defer cancel()
	if p == Database {
		_, err := d.haltDatabase(ctx, "SIGKILL")
		return err
	}
	id, err := d.find(p)
	if err != nil {
		return err
	}
	if err = d.signal(ctx, id, "SIGKILL"); err == nil {
		_, err = d.wait(ctx, id)
	}
	if err != nil {
		return fmt.Errorf("kill %s: %w", p, err)
	}
	return d.retire(p, id)
}

// Docker's own pause would keep signals from the process, SIGKILL included.

func (d *docker) Pause(p Process) error {
	if p == Database {
		return d.pauseDatabase(true)
	}
	return d.send(p, "SIGSTOP")
}

func (d *docker) Resume(p Process) error {
	if p == Database {
		return d.pauseDatabase(false)
	}
	return d.send(p, "SIGCONT")
}

func (d *docker) send(p Process, sig string) error {
	id, err := d.find(p)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), callLimit)
	defer cancel()
	if _, err := d.engine.client.ContainerKill(ctx, id, client.ContainerKillOptions{Signal: sig}); err != nil {
		return fmt.Errorf("send %s to %s: %w", sig, p, err)
	}
	return nil
}

// signal is harmless to a container that has ended.
func (d *docker) signal(ctx context.Context, id, sig string) error {
	_, err := d.engine.client.ContainerKill(ctx, id, client.ContainerKillOptions{Signal: sig})
	if errdefs.IsConflict(err) { // "is not running"
		return nil
	}
	return err
}

func (d *docker) Logs(p Process) string {
	d.mu.Lock()
	said, id := d.gone[p], d.running[p]
	d.mu.Unlock()
	if id == "" {
		return said
	}
	ctx, cancel := context.WithTimeout(context.Background(), callLimit)
	defer cancel()
	more, err := d.read(ctx, id)
	if err != nil {
		return said + err.Error()
	}
	return said + more
}

// read is what the container has logged.
func (d *docker) read(ctx context.Context, id string) (string, error) {
	r, err := d.engine.client.ContainerLogs(ctx, id, client.ContainerLogsOptions{ShowStdout: true, ShowStderr: true})
	if err != nil {
		return "", err
	}
	var b bytes.Buffer
	_, err = stdcopy.StdCopy(&b, &b, r)
	return b.String(), errors.Join(err, r.Close())
}

func (d *docker) Close(ctx context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	var all sync.WaitGroup
	errs := make(chan error, len(d.running))
	for p, id := range d.running {
		delete(d.running, p)
		all.Go(func() { errs <- d.engine.remove(ctx, id) })
	}
	all.Wait()
	close(errs)
	var err error
	for e := range errs {
		err = errors.Join(err, e)
	}
	if d.disk != "" {
		_, e := d.engine.client.VolumeRemove(ctx, d.disk, client.VolumeRemoveOptions{Force: true})
		err = errors.Join(err, unlessNotFound(e))
	}
	if d.network != "" {
		_, e := d.engine.client.NetworkRemove(ctx, d.network, client.NetworkRemoveOptions{})
		err = errors.Join(err, unlessNotFound(e))
	}
	return errors.Join(err, d.ports.release())
}
