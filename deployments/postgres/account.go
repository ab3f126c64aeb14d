package postgres

import (
	"cmp"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// account is the user that the server runs as.
type account struct {
	name     string
	uid, gid int
	drop     bool // we are root, the server must not be
}

// serverAccount is our own, or, for root, that of user postgres or nobody.
func serverAccount() (account, error) {
	if os.Geteuid() != 0 {
		return account{name: "uid " + strconv.Itoa(os.Geteuid()), uid: os.Geteuid(), gid: os.Getegid()}, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err := strconv.Atoi(u.Uid)
		if err != nil {
			return account{}, fmt.Errorf("uid of user %s: %w", name, err)
		}
		gid, err := strconv.Atoi(u.Gid)
		if err != nil {
			return account{}, fmt.Errorf("gid of user %s: %w", name, err)
		}
		return account{name: "user " + name, uid: uid, gid: gid, drop: true}, nil
	}
	return account{}, errors.New("PostgreSQL can't run as root, and there is neither a user postgres nor nobody: make one, or run as an ordinary user")
}

func (a account) String() string { return a.name }

// sysProcAttr gives a child the account and a session of its own.
func (a account) sysProcAttr() *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Setsid: true}
	if a.drop {
		attr.Credential = &syscall.Credential{Uid: uint32(a.uid), Gid: uint32(a.gid)}
	}
	return attr
}

// own hands a file or directory that we made to the account.
func (a account) own(path string) error {
	if !a.drop {
		return nil
	}
	return os.Lchown(path, a.uid, a.gid)
}

// mkdir makes a directory that only the account and root can enter.
func (a account) mkdir(path string) error {
	if err := os.Mkdir(path, 0o700); err != nil {
		return err
	}
	return a.own(path)
}

// reaches tells whether the account can get to dir through all directories
// above it: root's home, for one, is closed to others.
func (a account) reaches(dir string) error {
	if !a.drop {
		return nil
	}
	for {
		st, err := os.Stat(dir)
		if err != nil {
			return err
		}
		if !a.may(st, 0o1) {
			return fmt.Errorf("%s is closed to %s, whom the server runs as", dir, a)
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return nil
		}
		dir = parent
	}
}

// may tells whether the account has the permission bit (1 enter, 2 write) on st.
func (a account) may(st fs.FileInfo, bit fs.FileMode) bool {
	mode := st.Mode().Perm()
	sys, ok := st.Sys().(*syscall.Stat_t)
	switch {
	case ok && int(sys.Uid) == a.uid:
		return mode&(bit<<6) != 0
	case ok && int(sys.Gid) == a.gid:
		return mode&(bit<<3) != 0
	}
	return mode&bit != 0
}

// newRun names a directory in dir, "" for os.TempDir, for a server's socket and what
// the watchdog needs.
func (a account) newRun(dir string) string {
	return filepath.Join(a.tempBase(cmp.Or(dir, os.TempDir())), "orderflow-"+strings.ToLower(rand.Text()[:16]))
}

// tempBase is the directory for sockets and temporary clusters: dir when the
// account can make and remove directories there and a socket's path below it
// stays under 100 bytes (the kernel's limit is 104 on macOS, 108 on Linux), else /tmp.
func (a account) tempBase(dir string) string {
	const below = len("/orderflow-0123456789abcdef/.s.PGSQL.65535")
	if len(dir)+below >= 100 {
		return "/tmp"
	}
	if a.drop {
		st, err := os.Stat(dir)
		if err != nil || !a.may(st, 0o2) || a.reaches(dir) != nil {
			return "/tmp"
		}
	}
	return dir
}
