package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// initdbArgs make what the template is. Local connections are trusted because
// only the server's own user and root can enter the socket's directory.
var initdbArgs = []string{
	"-U", superuser, "-E", "UTF8", "--locale=C",
	"--auth-local=trust", "--auth-host=scram-sha-256",
}

// prepare sees to it that c.data holds a cluster: the one kept, or a new one.
func (c *cluster) prepare(ctx context.Context) error {
	if c.fresh {
		if err := os.RemoveAll(c.data); err != nil {
			return fmt.Errorf("empty the data directory: %w", err)
		}
	}
	if _, err := os.Stat(c.data); err == nil {
		return nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	// Renamed when complete: what is under the final name can be started.
	building := c.data + ".new"
	if err := os.RemoveAll(building); err != nil {
		return err
	}
	template, err := c.template(ctx)
	if err != nil {
		return err
	}
	if template == "" {
		if err := c.initdb(ctx, building); err != nil {
			return err
		}
	} else if err := c.copyTemplate(ctx, template, building); err != nil {
		return errors.Join(fmt.Errorf("copy %s: %w", template, err), os.RemoveAll(building))
	}
	return os.Rename(building, c.data)
}

// copyTemplate copies the template to dst, safe from a power failure if it is
// to be kept.
func (c *cluster) copyTemplate(ctx context.Context, template, dst string) error {
	if err := c.copyTree(ctx, template, dst); err != nil {
		return err
	}
	if c.temp {
		return nil
	}
	out, err := c.runInitdb(ctx, "--sync-only", "-D", dst)
	if err != nil {
		return fmt.Errorf("initdb --sync-only: %w\n%s", err, out)
	}
	return nil
}

// initdb makes a new cluster in dir. It is written through to the disk (which
// costs next to nothing, measured): a template damaged by a power failure would
// be there for good.
func (c *cluster) initdb(ctx context.Context, dir string) error {
	if err := c.as.mkdir(dir); err != nil {
		return err
	}
	out, err := c.runInitdb(ctx, append([]string{"-D", dir}, initdbArgs...)...)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return errors.Join(fmt.Errorf("initdb: %w\n%s", err, strings.TrimSpace(string(out))), os.RemoveAll(dir))
	}
	return nil
}

func (c *cluster) runInitdb(ctx context.Context, args ...string) ([]byte, error) {
	cmd := c.guarded(ctx, filepath.Join(c.bin.dir, "initdb"), args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGINT) }
	cmd.WaitDelay = 2 * time.Second
	out, err := cmd.CombinedOutput()
	return out, errors.Join(err, c.unguard())
}

// copyTree copies directories and plain files, which is all that a cluster
// after initdb has. Where the file system can, the copies share their blocks.
func (c *cluster) copyTree(ctx context.Context, src, dst string) error {
	return filepath.WalkDir(src, func(path string, d fs.DirEntry, err error) error {
		if err := errors.Join(err, context.Cause(ctx)); err != nil {
			return err
		}
		to := dst + strings.TrimPrefix(path, src)
		if d.IsDir() {
			return c.as.mkdir(to)
		}
		if !d.Type().IsRegular() {
			return fmt.Errorf("%s is no plain file", path)
		}
		return c.copyFile(path, to)
	})
}

func (c *cluster) copyFile(src, dst string) error {
	in, err := os.Open(src)
	if err != nil {
		return err
	}
	out, err := os.OpenFile(dst, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return errors.Join(err, in.Close())
	}
	_, err = io.Copy(out, in)
	if err == nil && c.as.drop {
		err = out.Chown(c.as.uid, c.as.gid)
	}
	return errors.Join(err, out.Close(), in.Close())
}
