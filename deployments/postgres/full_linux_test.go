package postgres

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
)

// A file system of its own needs no root, but a kernel that lets users make
// namespaces; where it doesn't, the test fails and says so.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	dir := openDir(t)
	start(t, Config{Temp: true}) // makes the template elsewhere
	cmd := helperCommand(t, helperConfig{Full: dir, Cache: testCache}, os.Geteuid(), "HOME="+dir)
	cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWNS
	if uid, gid := os.Geteuid(), os.Getegid(); uid != 0 {
		const sysAdmin = 21 // CAP_SYS_ADMIN, to mount
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: uid, HostID: uid, Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: gid, HostID: gid, Size: 1}}
		cmd.SysProcAttr.AmbientCaps = []uintptr{sysAdmin}
	}
	cmd.Stderr = nil
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("a small file system (mounting one needs root, or a kernel that lets users make namespaces): %v\n%s", err, out)
	}
}

func init() { helperFull = fullDisk }

// fullDisk mounts a small file system at dir, where nobody else sees it, and
// looks at what happens on it when it is full.
func fullDisk(dir, cache string) error {
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=160m,mode=755"); err != nil {
		return fmt.Errorf("mount a small file system: %w", err)
	}
	ctx, home := context.Background(), filepath.Join(dir, "kept")
	cfg := Config{Data: home, cache: cache}
	wantFull := func(when string) error {
		s, err := Start(ctx, cfg)
		if err == nil {
			return errors.Join(fmt.Errorf("%s: it started on a full disk", when), s.Stop(ctx))
		}
		if !strings.Contains(strings.ToLower(err.Error()), "no space left on device") || !strings.Contains(err.Error(), dir) {
			return fmt.Errorf("%s: got error %w, want one that says that there is no space, and where", when, err)
		}
		return nil
	}
	ballast := filepath.Join(dir, "ballast")
	if err := fill(ballast, 8<<20); err != nil {
		return err
	}
	if err := wantFull("no data yet"); err != nil {
		return err
	}
	if exists(filepath.Join(home, "cluster")) || exists(filepath.Join(home, "cluster.new")) {
		return errors.New("half a cluster is left")
	}
	if err := os.Remove(ballast); err != nil {
		return err
	}
	for _, sql := range []string{`CREATE TABLE note AS SELECT 'kept' AS text`, `SELECT text FROM note`} {
		s, err := Start(ctx, cfg)
		if err != nil {
			return fmt.Errorf("with space again: %w", err)
		}
		conn, err := pgx.Connect(ctx, s.URL())
		if err != nil {
			return errors.Join(err, s.Stop(ctx))
		}
		_, err = conn.Exec(ctx, sql)
		if err := errors.Join(err, conn.Close(ctx), s.Stop(ctx)); err != nil {
			return fmt.Errorf("%s: %w", sql, err)
		}
		if err := fill(ballast, 0); err != nil {
			return err
		}
		if err := wantFull("data kept"); err != nil {
			return err
		}
		// A full home is no hindrance to a temporary server.
		temp, err := Start(ctx, Config{Temp: true, cache: filepath.Join(dir, "cache")})
		if err != nil {
			return fmt.Errorf("temporary server beside a full home: %w", err)
		}
		if err := errors.Join(temp.Stop(ctx), os.Remove(ballast)); err != nil {
			return err
		}
	}
	return nil
}

// fill writes a file until no space is left but that much.
func fill(path string, left int64) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	chunk, n := make([]byte, 4096), int64(0)
	for err == nil {
		_, err = f.Write(chunk)
		n += int64(len(chunk))
	}
	if !errors.Is(err, syscall.ENOSPC) {
		return errors.Join(err, f.Close())
	}
	if left > 0 {
		if err := f.Truncate(n - left); err != nil {
			return errors.Join(err, f.Close())
		}
	}
	return f.Close()
}
