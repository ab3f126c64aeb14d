package postgres

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"
)

// Labels of what we make in Docker. The lock is a file that the program holds a
// lock on, and then its watchdog, as long as they have use for it: this can't be
// mistaken as a process id can. Paths mean something on one host only.
const (
	labelLock = "orderflow.postgres.lock"
	labelHost = "orderflow.postgres.host"
)

// containerWatchdog is the script of a watchdog (see there) for a container: it
// waits for the call that makes it, if there is one, stops it and removes it.
const containerWatchdog = `
trap '' HUP INT QUIT TERM
while read -r _; do :; done
run=$1 docker=$2 name=$3 volume=$4
if [ ! -e "$run/done" ]; then
	pid=$(cat "$run/pid" 2>/dev/null)
	n=0
	while [ -n "$pid" ] && [ "$n" -lt 600 ] && kill -s 0 "$pid" 2>/dev/null; do
		sleep 0.05 2>/dev/null || sleep 1
		n=$((n + 1))
	done
	"$docker" stop -t 5 "$name"
	"$docker" rm --force --volumes "$name"
	[ -z "$volume" ] || "$docker" volume rm --force "$volume"
fi >/dev/null 2>&1
rm -rf "$run"
`

// watch starts the container's watchdog.
func (c *container) watch() (*watchdog, error) {
	volume := ""
	if c.temp {
		volume = c.volume
	}
	cmd := c.docker.session(context.Background(), "/bin/sh", "-c", containerWatchdog, "orderflow-postgres-watchdog", c.run, c.docker.path, c.name, volume)
	return watch(cmd, c.lock)
}

// labels are arguments for what has to be swept when its program is dead.
func (c *container) labels() []string {
	return []string{"--label", labelLock + "=" + c.lockPath(), "--label", labelHost + "=" + hostName()}
}

// hostName is "" when the system doesn't tell; such a one is a name, too.
func hostName() string {
	name, err := os.Hostname()
	if err != nil {
		return ""
	}
	return name
}

// sweep removes the containers and temporary volumes of programs that were
// killed together with their watchdogs.
func (d docker) sweep(ctx context.Context) error {
	host := "label=" + labelHost + "=" + hostName()
	format := `{{.%s}}` + "\t" + `{{.Label "` + labelLock + `"}}`
	containers, err := d.run(ctx, "ps", "--all", "--filter", host, "--format", fmt.Sprintf(format, "Names"))
	if err != nil {
		return err
	}
	volumes, err := d.run(ctx, "volume", "ls", "--filter", host, "--format", fmt.Sprintf(format, "Name"))
	if err != nil {
		return err
	}
	var errs []error
	for line := range strings.Lines(containers) {
		errs = append(errs, sweepOne(line, func(name string) error { return d.remove(ctx, name) }))
	}
	for line := range strings.Lines(volumes) {
		errs = append(errs, sweepOne(line, func(name string) error { return d.removeVolume(ctx, name) }))
	}
	return errors.Join(errs...)
}

// sweepOne removes the thing that a line "name, tab, lock" names when nobody
// holds the lock any more, and holds it meanwhile.
func sweepOne(line string, remove func(name string) error) error {
	name, lock, ok := strings.Cut(strings.TrimSpace(line), "\t")
	if !ok {
		return nil
	}
	f, err := os.Open(lock)
	if errors.Is(err, fs.ErrNotExist) {
		return remove(name) // a watchdog removes the lock's directory last
	}
	if err != nil {
		return nil // another user's
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return f.Close() // alive
	}
	return errors.Join(remove(name), f.Close())
}

// remove removes a container, if there is one of this name, after stopping it
// in the quick way.
func (d docker) remove(ctx context.Context, name string) error {
	if _, err := d.run(ctx, "stop", "-t", "5", name); err != nil && !noSuch(err) {
		return err
	}
	if _, err := d.run(ctx, "rm", "--force", "--volumes", name); err != nil && !noSuch(err) {
		return err
	}
	return nil
}

func (d docker) makeVolume(ctx context.Context, name string, args ...string) error {
	_, err := d.run(ctx, append(append([]string{"volume", "create"}, args...), name)...)
	return err
}

func (d docker) removeVolume(ctx context.Context, name string) error {
	if _, err := d.run(ctx, "volume", "rm", "--force", name); err != nil && !noSuch(err) {
		return err
	}
	return nil
}

// noSuch tells whether Docker doesn't know what a call named, or is removing it
// already.
func noSuch(err error) bool {
	s := strings.ToLower(err.Error())
	return strings.Contains(s, "no such container") || strings.Contains(s, "no such volume") || strings.Contains(s, "already in progress")
}
