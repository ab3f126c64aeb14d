package postgres

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// template returns the cluster to copy for this version, made at the first
// call on a machine and whenever it was damaged; "" when there is no place to
// keep one.
func (c *cluster) template(ctx context.Context) (string, error) {
	if c.cache == "" {
		return "", nil
	}
	path := c.templatePath()
	err := c.seeToTemplate(ctx, path)
	if cause := context.Cause(ctx); cause != nil {
		return "", cause
	}
	if err != nil {
		c.log.DebugContext(ctx, "no place for a template", "err", err)
		return "", nil
	}
	return path, nil
}

// templatePath names it after all that it depends on.
func (c *cluster) templatePath() string {
	key := sha256.Sum256(fmt.Append(nil, c.bin.dir, c.bin.build, initdbArgs, "with a sum"))
	return filepath.Join(c.cache, "templates", fmt.Sprintf("postgres-%d-%x", c.bin.version.major, key[:6]))
}

func (c *cluster) seeToTemplate(ctx context.Context, path string) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := c.as.reaches(dir); err != nil {
		return err
	}
	if c.whole(ctx, path) {
		return nil
	}
	lock, err := lockFile(ctx, path+".lock")
	if err != nil {
		return err
	}
	return errors.Join(c.makeTemplate(ctx, path), lock.Close())
}

// makeTemplate runs initdb under a name of its own, so that the template is
// complete or absent. The caller holds the template's lock.
func (c *cluster) makeTemplate(ctx context.Context, path string) error {
	if c.whole(ctx, path) {
		return nil // another process made it while we waited for the lock
	}
	building := path + ".new"
	if err := os.RemoveAll(building); err != nil {
		return err
	}
	if err := c.initdb(ctx, building); err != nil {
		return err
	}
	sum, err := sumTree(building)
	if err != nil {
		return err
	}
	if err := os.WriteFile(path+".sum", []byte(sum), 0o644); err != nil {
		return err
	}
	if err := os.RemoveAll(path); err != nil {
		return err
	}
	return os.Rename(building, path)
}

// whole tells whether the template is there as it was made. Reading it takes
// some 50 ms; a cluster copied from a damaged one would be damaged for good.
func (c *cluster) whole(ctx context.Context, path string) bool {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return false
	}
	want, err := os.ReadFile(path + ".sum")
	if err == nil {
		var got string
		if got, err = sumTree(path); err == nil && got == string(want) {
			return true
		}
	}
	c.log.WarnContext(ctx, "the template of clusters is damaged, it is made anew", "template", path, "err", err)
	return false
}

// sumTree is a SHA-256 of all names, sizes and contents below dir.
func sumTree(dir string) (string, error) {
	h := sha256.New()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(h, "%q %v\n", strings.TrimPrefix(path, dir), d.Type()); err != nil || !d.Type().IsRegular() {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		n, err := io.Copy(h, f)
		if err == nil {
			_, err = fmt.Fprintf(h, "%d\n", n)
		}
		return errors.Join(err, f.Close())
	})
	return fmt.Sprintf("%x\n", h.Sum(nil)), err
}
