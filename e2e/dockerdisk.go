package e2e

import (
	"context"
	"errors"
	"fmt"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/client"
	"github.com/testcontainers/testcontainers-go"
)

// diskAt is where containers have the small disk.
const diskAt = "/disk"

// diskKeeper is the container that has the small disk besides Database's: Docker
// forgets what is in it when no container that runs has it.
var diskKeeper = Process{Service: "disk", Replica: 1}

// createDisk makes a small disk, and its keeper of the image, which has a shell.
func (d *docker) createDisk(ctx context.Context, image string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callLimit)
	defer cancel()
	v, err := d.engine.client.VolumeCreate(ctx, client.VolumeCreateOptions{
		Driver: "local",
		// Whoever the image's user is, it makes its directory there.
		DriverOpts: map[string]string{"type": "tmpfs", "device": "tmpfs", "o": fmt.Sprintf("size=%dm,mode=1777", smallDiskSize)},
		Labels:     d.engine.labels(),
	})
	if err != nil {
		return fmt.Errorf("make a small disk: %w", err)
	}
	d.disk = v.Volume.Name
	c, err := testcontainers.GenericContainer(ctx, testcontainers.GenericContainerRequest{
		ContainerRequest: testcontainers.ContainerRequest{
			Image: image, Entrypoint: []string{"sleep", "2147483647"}, Labels: d.engine.labels(),
			HostConfigModifier: func(h *container.HostConfig) {
				h.SecurityOpt = []string{"no-new-privileges"}
				h.NetworkMode = "none"
				d.mountDisk(h)
			},
		},
		Started: true,
	})
	if c != nil {
		d.running[diskKeeper] = c.GetContainerID()
	}
	if err != nil {
		return fmt.Errorf("start the keeper of a small disk: %w", err)
	}
	return nil
}

// mountDisk has the container have the small disk, if there is one.
func (d *docker) mountDisk(h *container.HostConfig) {
	if d.disk != "" {
		h.Mounts = append(h.Mounts, mount.Mount{Type: mount.TypeVolume, Source: d.disk, Target: diskAt})
	}
}

func (d *docker) FillDisk(ctx context.Context) (func(context.Context) error, error) {
	if d.disk == "" {
		return nil, fmt.Errorf("fill the disk of %s: %w", Database, errNoSmallDisk)
	}
	id, err := d.find(diskKeeper)
	if err != nil {
		return nil, err
	}
	const ballast = diskAt + "/ballast"
	free := func(ctx context.Context) error {
		if err := d.exec(ctx, id, "rm", ballast); err != nil {
			return fmt.Errorf("free the disk of %s: %w", Database, err)
		}
		return nil
	}
	const fill = `case $(LC_ALL=C cat /dev/zero 2>&1 >"$0") in *"No space left"*) ;; *) exit 1 ;; esac`
	if err := d.exec(ctx, id, "/bin/sh", "-c", fill, ballast); err != nil {
		return nil, errors.Join(fmt.Errorf("fill the disk of %s: %w", Database, err), free(ctx))
	}
	return free, nil
}
