package e2e

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"
)

// buildLimit bounds the build, for machines whose build cache is empty.
const buildLimit = 10 * time.Minute

// built is the programs of services/, built at the first call and once only;
// builtForLinux those that run in containers. removeBuilt removes them.
var (
	built         = sync.OnceValues(func() (string, error) { return buildPrograms(runtime.GOOS) })
	builtForLinux = sync.OnceValues(func() (string, error) {
		dir, err := built()
		if runtime.GOOS != "linux" && err == nil {
			return buildPrograms("linux")
		}
		return dir, err
	})
)

// builtBy have the directories of the programs as long as these are there.
var builtBy []*crew

// program is the path of a built program: of "orders", for example.
func program(name string) (string, error) {
	dir, err := built()
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, name), nil
}

func buildPrograms(goos string) (string, error) {
	root, err := moduleRoot()
	if err != nil {
		return "", err
	}
	if err := lookAtSources(root); err != nil {
		return "", fmt.Errorf("look at the programs' sources: %w", err)
	}
	c, err := newCrew("bin")
	if err != nil {
		return "", err
	}
	builtBy = append(builtBy, c)
	// No symbols: they aren't read here, and linking without is twice as quick. No
	// C library, and the time zones inside: an image holds nothing else.
	ctx, cancel := context.WithTimeout(context.Background(), buildLimit)
	defer cancel()
	cmd := c.command(ctx, "go", "build", "-ldflags=-s -w", "-tags=timetzdata", "-o", c.dir+"/", "./services/...")
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+goos)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the programs (go build ./services/...): %w\n%s", err, out)
	}
	return c.dir, nil
}

func removeBuilt() error {
	var err error
	for _, c := range builtBy {
		err = errors.Join(err, c.end())
	}
	return err
}

// moduleRoot is the directory of go.mod.
func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("no go.mod above the working directory: run the tests inside the module")
		}
		dir = parent
	}
}

// lookAtSources has "go test" note every file of the module as something that
// the result depends on, which it does while tests run only. The programs are no
// imports of this package: without it, a cached result would be shown for
// programs that have changed.
func lookAtSources(root string) error {
	return filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if name := d.Name(); path != root && (strings.HasPrefix(name, ".") || name == "testdata") {
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		_, err = os.Stat(path)
		return err
	})
}

// run runs the built program name to its end and returns what it wrote to its
// standard output; its standard error comes with the error.
func run(ctx context.Context, c *crew, name string, env map[string]string, args ...string) ([]byte, error) {
	path, err := program(name)
	if err != nil {
		return nil, err
	}
	cmd := c.command(ctx, path, args...)
	cmd.Env = environment(env)
	out, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		err = fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, exit.Stderr)
	}
	return out, err
}

// environment is what a program needs of ours, and env: what is set for the
// person who runs the tests (DATABASE_URL, say) must not reach the programs.
func environment(env map[string]string) []string {
	var list []string
	for _, name := range []string{"PATH", "HOME", "TMPDIR", "USER"} {
		if v, ok := os.LookupEnv(name); ok {
			list = append(list, name+"="+v)
		}
	}
	for name, v := range env {
		list = append(list, name+"="+v)
	}
	return list
}
