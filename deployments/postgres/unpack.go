package postgres

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"

	"github.com/ulikunitz/xz"
)

// unpack unpacks a tar archive compressed with xz into the new directory dir,
// for everybody to read and execute. Nothing gets outside of dir, whatever the
// archive says.
func unpack(ctx context.Context, archive io.Reader, dir string) error {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	if err := os.Chmod(dir, 0o755); err != nil { // whatever the umask is
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	err = unpackInto(ctx, archive, root)
	// A start after a power failure must not find half of it.
	syscall.Sync()
	return errors.Join(err, root.Close())
}

func unpackInto(ctx context.Context, archive io.Reader, root *os.Root) error {
	plain, err := xz.NewReader(bufio.NewReader(archive))
	if err != nil {
		return err
	}
	entries := tar.NewReader(plain)
	left := int64(mostBytes)
	for {
		h, err := entries.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err := errors.Join(err, context.Cause(ctx)); err != nil {
			return err
		}
		if left -= h.Size; left < 0 {
			return fmt.Errorf("it holds more than %d bytes", mostBytes)
		}
		if err := unpackEntry(root, h, entries); err != nil {
			return fmt.Errorf("entry %q: %w", h.Name, err)
		}
	}
}

func unpackEntry(root *os.Root, h *tar.Header, content io.Reader) error {
	name := filepath.Clean(h.Name)
	if h.Typeflag == tar.TypeDir {
		return makeDirs(root, name)
	}
	if err := makeDirs(root, filepath.Dir(name)); err != nil {
		return err
	}
	switch h.Typeflag {
	case tar.TypeReg:
		mode := os.FileMode(h.Mode)&0o111 | 0o644
		f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
		if err != nil {
			return err
		}
		_, err = io.Copy(f, content)
		return errors.Join(err, f.Chmod(mode), f.Close())
	case tar.TypeSymlink:
		if target := filepath.Join(filepath.Dir(name), h.Linkname); filepath.IsAbs(h.Linkname) || !filepath.IsLocal(target) {
			return fmt.Errorf("it links to %q, outside", h.Linkname)
		}
		return root.Symlink(h.Linkname, name)
	}
	return fmt.Errorf("it is of an unexpected kind %q", h.Typeflag)
}

// makeDirs makes a directory and those above it.
func makeDirs(root *os.Root, dir string) error {
	if dir == "." {
		return nil
	}
	if err := root.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for ; dir != "."; dir = filepath.Dir(dir) {
		if err := root.Chmod(dir, 0o755); err != nil {
			return err
		}
	}
	return nil
}
