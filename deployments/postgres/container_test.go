package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// builtImage is what deployments/postgres/image/build makes.
const builtImage = "orderflow-postgres:15"

// imageLimit is how long the image may take to be pulled, well under the time that
// go test allows.
const imageLimit = 5 * time.Minute

// Docker and its image, looked for once: a Docker that hangs, or a registry, holds up
// the tests once.
var (
	dockerOfTests = sync.OnceValues(func() (docker, error) { return findDocker(context.Background(), nil) })
	imageForTests = sync.OnceValues(findImage)
)

// findImage is the image for the tests' containers: the one that the environment
// names, or that was built here, or the official one. It is pulled if it isn't there.
func findImage() (string, error) {
	d, err := dockerOfTests()
	if err != nil {
		return "", err
	}
	image := setting("", imageVariable, imageOfTests)
	if image == "" {
		if _, err := d.run(context.Background(), "image", "inspect", builtImage); err == nil {
			return builtImage, nil
		}
		image = pinnedImage
	}
	ctx, cancel := context.WithTimeoutCause(context.Background(), imageLimit, fmt.Errorf("not there after %s", imageLimit))
	defer cancel()
	return image, d.haveImage(ctx, image, os.Stderr)
}

// inContainer is cfg on a machine without binaries.
func inContainer(cfg Config) Config {
	cfg.bins = []string{"/no/such/directory"}
	cfg.release = noRelease()
	if image, err := imageForTests(); err == nil {
		cfg.image = image
	}
	return cfg
}

// theDocker is Docker as it is on this machine, which has PostgreSQL's image or can
// pull it. Where it doesn't answer there is no container to test, and Start has to
// say so; then ok is false.
func theDocker(t *testing.T) (d docker, ok bool) {
	t.Helper()
	d, err := dockerOfTests()
	if err == nil {
		if _, err := imageForTests(); err != nil {
			t.Fatalf("Docker answers, but: %v\nbuild an image of PostgreSQL with deployments/postgres/image/build, or name one in %s", err, imageOfTests)
		}
		return d, true
	}
	t.Logf("no container can be tested here: %v", err)
	_, startErr := Start(t.Context(), inContainer(Config{Temp: true, cache: openDir(t)}))
	wantError(t, startErr, "no PostgreSQL found on this machine", "Docker: "+err.Error(), "start Docker")
	return d, false
}

// startIn starts a server in a container and stops it with the test.
func startIn(t *testing.T, cfg Config) *Server {
	t.Helper()
	cfg = inContainer(cfg)
	if cfg.cache == "" {
		cfg.cache = openDir(t)
	}
	s, err := Start(t.Context(), cfg)
	check(t, err)
	t.Cleanup(func() { check(t, s.Stop(context.Background())) })
	return s
}

func containerOf(s *Server) *container { return s.own.(*container) }

// remains lists what Docker has of a container or volume with this name.
func remains(t *testing.T, d docker, name string) string {
	t.Helper()
	containers, err := d.run(t.Context(), "ps", "--all", "--quiet", "--filter", "name="+name)
	check(t, err)
	volumes, err := d.run(t.Context(), "volume", "ls", "--quiet", "--filter", "name="+name)
	check(t, err)
	return containers + volumes
}

func TestContainerServesAndLeavesNothing(t *testing.T) {
	t.Parallel()
	d, ok := theDocker(t)
	if !ok {
		return
	}
	var lines logLines
	s := startIn(t, Config{Temp: true, Settings: map[string]string{"max_connections": "33"}, Log: slog.New(slog.NewTextHandler(&lines, nil))})
	c := containerOf(s)
	for _, want := range []string{"PostgreSQL " + s.Version() + " in a container of Docker (image ", "as there are no binaries on this machine", "temporary data"} {
		if !strings.Contains(s.Source(), want) || strings.Contains(s.Source(), c.password) {
			t.Errorf("got source %q, want it to say %q and no password", s.Source(), want)
		}
	}
	if s.PID() != 0 {
		t.Errorf("got process %d, want none", s.PID())
	}
	for name, want := range map[string]string{
		"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on", "TimeZone": "UTC", "server_encoding": "UTF8",
		"max_connections": "33", "shared_buffers": "64MB", "password_encryption": "scram-sha-256",
	} {
		if got := query(t, s.URL(), `SELECT current_setting('`+name+`')`); got != want {
			t.Errorf("setting %s: got %q, want %q", name, got, want)
		}
	}
	execute(t, s.URL(), `CREATE ROLE clerk LOGIN PASSWORD 'secret'`)
	if got := query(t, s.DSN("clerk", "secret", "postgres"), `SELECT session_user`); got != "clerk" {
		t.Errorf("DSN of a role: got user %q, want clerk", got)
	}
	if conn, err := pgx.Connect(t.Context(), s.DSN("clerk", "wrong", "postgres")); err == nil {
		t.Errorf("a wrong password was taken: %v", conn.Close(t.Context()))
	}
	listing, err := d.run(t.Context(), "port", c.name)
	check(t, err)
	if want := fmt.Sprintf("5432/tcp -> 127.0.0.1:%d", c.port); listing != want {
		t.Errorf("got ports %q, want %q alone", listing, want)
	}

	// Restarted twice, once as after a crash: the same port, nothing lost.
	execute(t, s.URL(), `CREATE TABLE note AS SELECT 'kept' AS text`)
	for _, mode := range []string{Fast, Immediate} {
		check(t, s.Restart(t.Context(), mode))
		if got := query(t, s.URL(), `SELECT text FROM note`); got != "kept" {
			t.Errorf("after a restart (%s): got note %q, want kept", mode, got)
		}
	}
	if lines.String() != "" {
		t.Errorf("got %q logged, want nothing so far", lines.String())
	}
	_, err = d.run(t.Context(), "kill", "--signal", "KILL", c.name)
	check(t, err)
	eventually(t, "the death is logged", func() bool { return strings.Contains(lines.String(), "PostgreSQL's container ended by itself") })
	check(t, s.Restart(t.Context(), Fast))
	if got := query(t, s.URL(), `SELECT text FROM note`); got != "kept" {
		t.Errorf("after its death: got note %q, want kept", got)
	}

	check(t, s.Stop(t.Context()))
	check(t, s.Stop(t.Context()))
	wantError(t, s.Restart(t.Context(), Fast), "it was stopped")
	if got := remains(t, d, c.name); got != "" || exists(c.run) {
		t.Errorf("after Stop: got %q left in Docker, directory there %t; want nothing", got, exists(c.run))
	}
}

func TestContainerKeepsDataUntilFresh(t *testing.T) {
	t.Parallel()
	d, ok := theDocker(t)
	if !ok {
		return
	}
	data := filepath.Join(openDir(t), "kept")
	first := startIn(t, Config{Data: data})
	c := containerOf(first)
	t.Cleanup(func() { check(t, d.removeVolume(context.Background(), c.volume)) })
	if want := "data in " + filepath.Join(data, "container"); !strings.Contains(first.Source(), want) {
		t.Errorf("got source %q, want it to say %q", first.Source(), want)
	}
	execute(t, first.URL(), `CREATE TABLE note AS SELECT 'kept' AS text`)
	_, err := Start(t.Context(), inContainer(Config{Data: data, cache: openDir(t)}))
	wantError(t, err, "data directory "+data+" is in use by process", "stop that program or give --data DIR")
	check(t, first.Stop(t.Context()))
	if !exists(filepath.Join(data, "container", "cluster")) {
		t.Error("the data are not in the directory that was named")
	}

	// Binaries on the machine, which there are in the meantime, leave these data
	// alone; and the password, if it was lost, is set anew.
	check(t, os.Remove(filepath.Join(data, "password")))
	cfg := inContainer(Config{Data: data, cache: testCache})
	cfg.bins = nil
	second, err := Start(t.Context(), cfg)
	check(t, err)
	t.Cleanup(func() { check(t, second.Stop(context.Background())) })
	if got := query(t, second.URL(), `SELECT text FROM note`); got != "kept" {
		t.Errorf("got note %q, want kept", got)
	}
	check(t, second.Stop(t.Context()))

	cfg.dockerEnv = noDocker
	_, err = Start(t.Context(), cfg)
	wantError(t, err, data+" belongs to data in Docker's volume "+c.volume, "start Docker", "--data DIR")

	third := startIn(t, Config{Data: data, Fresh: true})
	if got := query(t, third.URL(), `SELECT coalesce(to_regclass('note')::text, 'none')`); got != "none" {
		t.Errorf("got table %q in fresh data, want none", got)
	}
	check(t, third.Stop(t.Context()))
	if got, err := d.run(t.Context(), "ps", "--all", "--quiet", "--filter", "name="+c.name); err != nil || got != "" {
		t.Errorf("after Stop: got containers %q, %v; want none", got, err)
	}
}

func TestContainerOfAKilledProgramGoes(t *testing.T) {
	t.Parallel()
	d, ok := theDocker(t)
	if !ok {
		return
	}
	for name, kill := range map[string]func(pid, watchdog int) error{
		"program killed":     func(pid, _ int) error { return syscall.Kill(pid, syscall.SIGKILL) },
		"whole group killed": func(pid, _ int) error { return syscall.Kill(-pid, syscall.SIGKILL) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := killedWithContainer(t, kill)
			eventually(t, "container, volume, watchdog and directory are gone", func() bool {
				return remains(t, d, h.Container) == "" && gone(h.Watchdog) && !exists(h.Run)
			})
		})
	}
}

// What a program leaves that is killed together with its dog, the next start
// sweeps. It must be this test's, so no other runs meanwhile.
func TestContainerOfAKilledDogIsSwept(t *testing.T) {
	d, ok := theDocker(t)
	if !ok {
		return
	}
	h := killedWithContainer(t, func(pid, dog int) error {
		return errors.Join(syscall.Kill(dog, syscall.SIGKILL), syscall.Kill(pid, syscall.SIGKILL))
	})
	if got := remains(t, d, h.Container); got == "" {
		t.Fatal("somebody removed the container before it was swept")
	}
	check(t, startIn(t, Config{Temp: true}).Stop(t.Context()))
	if got := remains(t, d, h.Container); got != "" {
		t.Errorf("after the next start: got %q left", got)
	}
}

// killedWithContainer starts a program with a server in a container and kills it.
func killedWithContainer(t *testing.T, kill func(pid, watchdog int) error) helperStarted {
	t.Helper()
	cmd, _, h := startHelper(t, helperConfig{Temp: true, Container: true, Cache: openDir(t)}, os.Geteuid())
	t.Cleanup(func() { check(t, os.RemoveAll(h.Run)) })
	if got := query(t, h.URL, `SELECT 'well'`); got != "well" {
		t.Errorf("got %q, want well", got)
	}
	check(t, kill(cmd.Process.Pid, h.Watchdog))
	if err := cmd.Wait(); err == nil {
		t.Fatal("the helper ended well, want it killed")
	}
	return h
}

func TestContainerThatFailsSaysWhyAndLeavesNothing(t *testing.T) {
	t.Parallel()
	d, ok := theDocker(t)
	if !ok {
		return
	}
	home := filepath.Join(openDir(t), "kept")
	for name, tt := range map[string]struct {
		cfg  Config
		want []string
	}{
		"a setting that is no setting": {
			Config{Settings: map[string]string{"shared_buffers": "many"}, Data: home},
			[]string{"start PostgreSQL's container", "its log ends with", "shared_buffers"},
		},
		"nothing durable": {Config{Settings: map[string]string{"fsync": "off"}, Data: home + "2"}, []string{"setting fsync is off"}},
		"no such image": {
			Config{Temp: true, image: "orderflow.invalid/nowhere/postgres:0"},
			[]string{"image orderflow.invalid/nowhere/postgres:0 is not there and can't be pulled", imageVariable},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := inContainer(tt.cfg)
			if tt.cfg.image != "" {
				cfg.image = tt.cfg.image
			}
			var progress bytes.Buffer
			cfg.cache, cfg.Progress = openDir(t), &progress
			_, err := Start(t.Context(), cfg)
			wantError(t, err, tt.want...)
			if cfg.Data == "" {
				if want := "pulling Docker's image " + cfg.image; !strings.Contains(progress.String(), want) {
					t.Errorf("got progress %q, want %q", progress.String(), want)
				}
				return
			}
			label, err := d.run(t.Context(), "ps", "--all", "--quiet", "--filter", "label="+labelLock+"="+filepath.Join(cfg.Data, "lock"))
			check(t, err)
			if label != "" {
				t.Errorf("got container %s left", label)
			}
			volume, err := d.run(t.Context(), "volume", "ls", "--quiet", "--filter", "label=orderflow.postgres.home="+cfg.Data)
			check(t, err)
			check(t, d.removeVolume(t.Context(), volume))
		})
	}
}
