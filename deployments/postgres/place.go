package postgres

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// place is where a server that we start keeps what it has.
//
//	home/cluster     PostgreSQL's data directory
//	home/volume      the name of Docker's volume that has the data instead
//	home/container   what that volume holds, when the caller named the directory
//	home/server.log  what the server says in this run; server.log.1 in the last
//	home/password    the administrator's
//	home/lock        held while the data are in use, with our pid in it
//	cache/templates  clusters to copy
//	cache/binaries   downloaded ones
type place struct {
	temp  bool
	fresh bool
	named bool   // home is one that the caller named
	home  string // "" when temp
	cache string // "" when there is none
}

// newPlace finds the place and touches nothing yet.
func newPlace(cfg Config) (place, error) {
	p := place{temp: cfg.Temp, fresh: cfg.Fresh && !cfg.Temp, named: cfg.Data != ""}
	cache, cacheErr := cacheDir()
	if cacheErr == nil {
		p.cache = cache
	}
	if cfg.cache != "" {
		p.cache = cfg.cache
	}
	var err error
	switch {
	case cfg.Temp:
	case cfg.Data != "":
		p.home, err = filepath.Abs(cfg.Data)
	default:
		p.home, err = filepath.Join(cache, "postgres"), cacheErr
	}
	if err != nil {
		return place{}, fmt.Errorf("find a place for the data, give --data DIR: %w", err)
	}
	return p, nil
}

// cacheDir is where the user's programs keep what they can make again; root's
// is outside of its home, which is closed to the server's account.
func cacheDir() (string, error) {
	if os.Geteuid() == 0 {
		return "/var/cache/orderflow", nil
	}
	dir, err := os.UserCacheDir()
	return filepath.Join(dir, "orderflow"), err
}

// where says what becomes of the data: kept describes where they are kept.
func (p place) where(kept string) string {
	if p.temp {
		return "temporary data"
	}
	return kept
}

// cluster is the data directory of a cluster.
func (p place) cluster() string { return filepath.Join(p.home, "cluster") }

// binaries is the directory of downloaded binaries.
func (p place) binaries() string { return filepath.Join(p.cache, "binaries") }

// keptMajor is the major version of the cluster kept, 0 when there is none that counts.
func (p place) keptMajor() (int, error) {
	if p.temp {
		return 0, nil
	}
	if isFile(filepath.Join(p.home, "PG_VERSION")) {
		return 0, fmt.Errorf("%s is itself a PostgreSQL data directory: give a directory in which one can be made", p.home)
	}
	if _, err := os.Stat(p.cluster()); errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	b, err := os.ReadFile(filepath.Join(p.cluster(), "PG_VERSION"))
	if err != nil {
		return 0, fmt.Errorf("%s is in the way: no PostgreSQL data directory: %w", p.cluster(), err)
	}
	if p.fresh {
		return 0, nil
	}
	major, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return 0, fmt.Errorf("version of the data in %s: %w", p.cluster(), err)
	}
	return major, nil
}

// needs tells of data that no binaries at hand can serve, which err says.
func (p place) needs(major int, err error) error {
	return fmt.Errorf("%s holds data of PostgreSQL %d: %w; install PostgreSQL %d, begin with empty data (--fresh) or give another directory (--data DIR)", p.home, major, err, major)
}

// keptVolume is Docker's volume that has the data, "" when there is none.
func (p place) keptVolume() (string, error) {
	if p.temp {
		return "", nil
	}
	b, err := os.ReadFile(filepath.Join(p.home, "volume"))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return "", nil // what can't be read is complained of when it is to be used
	}
	if err != nil {
		return "", fmt.Errorf("read which volume of Docker has the data: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}

// makeHome makes the directory of kept data. Its parts have owners of their
// own; others may pass through it when they have to.
func (p place) makeHome(others bool) error {
	if err := os.MkdirAll(filepath.Dir(p.home), 0o755); err != nil {
		return err
	}
	if err := os.Mkdir(p.home, 0o700); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return nil
		}
		return err
	}
	if others {
		return os.Chmod(p.home, 0o711)
	}
	return nil
}

// takeHome makes the directory of kept data and locks it for this process.
func (p place) takeHome(ctx context.Context, others bool) (*os.File, error) {
	if err := p.makeHome(others); err != nil {
		return nil, fmt.Errorf("make the data directory, or give another (--data DIR): %w", err)
	}
	return lockData(ctx, p.home, filepath.Join(p.home, "lock"))
}

// readPassword returns the administrator's password, which is kept beside the
// data so that a URL noted down goes on working.
func (p place) readPassword() (string, error) {
	if p.temp {
		return rand.Text(), nil
	}
	path := filepath.Join(p.home, "password")
	b, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("the administrator's password: %w", err)
	}
	if kept := strings.TrimSpace(string(b)); kept != "" && !p.fresh {
		return kept, nil
	}
	password := rand.Text()
	if err := os.WriteFile(path, []byte(password+"\n"), 0o600); err != nil {
		return "", fmt.Errorf("the administrator's password: %w", err)
	}
	return password, nil
}
