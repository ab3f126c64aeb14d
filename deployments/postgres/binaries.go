package postgres

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// oldest is the first major version whose SQL and default password encryption
// (SCRAM) the shop relies on.
const oldest = 14

// ErrNoBinaries comes from Start when no usable PostgreSQL is on the machine and
// none can be had from elsewhere.
var ErrNoBinaries = errors.New("no PostgreSQL found")

// fixes are what helps when none of the sources can be had.
const fixes = `install PostgreSQL ("apt-get install postgresql" on Debian and Ubuntu, "brew install postgresql@17" on macOS), ` +
	`start Docker (` + imageVariable + ` names another image), ` +
	`name a mirror to download from in ` + downloadVariable + `, ` +
	`or set DATABASE_URL to an administrator's URL of a running server`

// installation is a directory with postgres and initdb of one version.
type installation struct {
	dir     string
	version version
	build   string // all that postgres --version says
}

// version is a PostgreSQL version; minor -1 stands for a beta or release candidate.
type version struct{ major, minor int }

func (v version) String() string {
	if v.minor < 0 {
		return strconv.Itoa(v.major) + " (pre-release)"
	}
	return fmt.Sprintf("%d.%d", v.major, v.minor)
}

var versionPattern = regexp.MustCompile(`(\d+)(?:\.(\d+))?`)

// parseVersion reads "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)" as
// well as the setting server_version, "15.18 (Debian ...)".
func parseVersion(s string) (version, error) {
	m := versionPattern.FindStringSubmatch(s)
	if m == nil {
		return version{}, fmt.Errorf("no version in %q", s)
	}
	v := version{minor: -1}
	var err error
	if v.major, err = strconv.Atoi(m[1]); err != nil {
		return version{}, fmt.Errorf("version %q: %w", s, err)
	}
	if m[2] != "" {
		if v.minor, err = strconv.Atoi(m[2]); err != nil {
			return version{}, fmt.Errorf("version %q: %w", s, err)
		}
	}
	return v, nil
}

// places are where packages put versions of PostgreSQL side by side.
var places = []string{
	"/usr/lib/postgresql/*/bin",                               // Debian, Ubuntu
	"/usr/pgsql-*/bin",                                        // Red Hat, from postgresql.org
	"/usr/libexec/postgresql*",                                // Alpine
	"/opt/homebrew/opt/postgresql@*/bin",                      // Homebrew on Apple silicon
	"/usr/local/opt/postgresql@*/bin",                         // Homebrew on Intel
	"/home/linuxbrew/.linuxbrew/opt/postgresql@*/bin",         // Homebrew on Linux
	"/Applications/Postgres.app/Contents/Versions/[0-9]*/bin", // Postgres.app
}

// searchPath lists the directories to look in: PATH's, then those of packages,
// newest version first.
func searchPath() []string {
	dirs := filepath.SplitList(os.Getenv("PATH"))
	var packaged []string
	for _, p := range places {
		found, err := filepath.Glob(p)
		if err != nil {
			continue // only a malformed pattern
		}
		packaged = append(packaged, found...)
	}
	major := func(dir string) int {
		v, err := parseVersion(dir)
		if err != nil {
			return 0
		}
		return v.major
	}
	slices.SortStableFunc(packaged, func(a, b string) int { return major(b) - major(a) })
	return append(dirs, packaged...)
}

// findInstallation returns the first usable installation in dirs; with
// wantMajor, the first of that major version. The binaries are run as account,
// which must be able to.
func findInstallation(ctx context.Context, dirs []string, as account, wantMajor int) (installation, error) {
	var others, unusable []string
	for _, dir := range dirs {
		if !filepath.IsAbs(dir) || !isFile(filepath.Join(dir, "postgres")) || !isFile(filepath.Join(dir, "initdb")) {
			continue
		}
		// Links lead to a version's own directory: that one is worth naming.
		if real, err := filepath.EvalSymlinks(filepath.Join(dir, "postgres")); err == nil && isFile(filepath.Join(filepath.Dir(real), "initdb")) {
			dir = filepath.Dir(real)
		}
		out, err := as.command(ctx, filepath.Join(dir, "postgres"), "--version").Output()
		if err != nil {
			unusable = append(unusable, fmt.Sprintf("%s can't be run as %s: %v", dir, as, err))
			continue
		}
		v, err := parseVersion(string(out))
		if err != nil {
			unusable = append(unusable, fmt.Sprintf("%s: %v", dir, err))
			continue
		}
		switch {
		case v.major < oldest:
			unusable = append(unusable, fmt.Sprintf("%s has %s, older than %d", dir, v, oldest))
		case wantMajor != 0 && v.major != wantMajor:
			others = append(others, fmt.Sprintf("%s in %s", v, dir))
		default:
			return installation{dir: dir, version: v, build: string(out)}, nil
		}
	}
	if err := context.Cause(ctx); err != nil {
		return installation{}, err
	}
	if len(others) > 0 {
		return installation{}, &wrongMajorError{want: wantMajor, found: slices.Compact(others)}
	}
	if len(unusable) > 0 {
		return installation{}, fmt.Errorf("%w that can be used (%s)", ErrNoBinaries, strings.Join(unusable, "; "))
	}
	return installation{}, fmt.Errorf("%w on this machine", ErrNoBinaries)
}

// wrongMajorError: there are installations, but none of the version that wrote the data.
type wrongMajorError struct {
	want  int
	found []string
}

func (e *wrongMajorError) Error() string {
	return fmt.Sprintf("PostgreSQL %d not found, only %s", e.want, strings.Join(e.found, ", "))
}

func isFile(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.Mode().IsRegular()
}

// command prepares a program that runs as the account, in its own session, so
// that neither Ctrl-C nor a signal to our process group reaches it, and with an
// environment of its own: PGPORT and the like must not leak into the server.
func (a account) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/usr/bin:/bin", "LC_ALL=C", "TZ=UTC"}
	cmd.SysProcAttr = a.sysProcAttr()
	return cmd
}
