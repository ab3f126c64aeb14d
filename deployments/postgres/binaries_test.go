package postgres

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"testing"
)

// fakeBinaries makes a directory with programs that only tell a version.
func fakeBinaries(t *testing.T, version string) string {
	t.Helper()
	dir := openDir(t)
	for _, name := range []string{"postgres", "initdb"} {
		check(t, os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\necho '"+name+" (PostgreSQL) "+version+"'\n"), 0o755))
	}
	return dir
}

func TestParseVersion(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)": "15.18",
		"postgres (PostgreSQL) 17.2 (Homebrew)":                "17.2",
		"18beta1":                                              "18 (pre-release)",
		"14.0":                                                 "14.0",
		"nothing at all":                                       "",
	} {
		v, err := parseVersion(in)
		if (err != nil) != (want == "") || (err == nil && v.String() != want) {
			t.Errorf("version of %q: got %s, %v; want %q", in, v, err, want)
		}
	}
}

func TestNoBinariesNamesTheFixes(t *testing.T) {
	t.Parallel()
	closed := openDir(t)
	check(t, os.WriteFile(filepath.Join(closed, "postgres"), nil, 0o644))
	check(t, os.WriteFile(filepath.Join(closed, "initdb"), nil, 0o644))
	for name, tt := range map[string]struct {
		bins []string
		want string
	}{
		"none":              {[]string{openDir(t), "/no/such/directory", ""}, "no PostgreSQL found on this machine"},
		"too old":           {[]string{fakeBinaries(t, "13.4")}, "has 13.4, older than 14"},
		"can't be executed": {[]string{closed}, "can't be run as"},
		"tells no version":  {[]string{fakeBinaries(t, "unknown")}, "no version in"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			data := filepath.Join(openDir(t), "kept")
			_, err := Start(t.Context(), Config{Data: data, bins: tt.bins, cache: openDir(t), dockerEnv: noDocker, release: noRelease(), Progress: io.Discard})
			wantError(t, err, tt.want, "Docker: ", "download: ", "connection refused",
				"apt-get install postgresql", "brew install postgresql@17", "start Docker", imageVariable, downloadVariable, "set DATABASE_URL")
			if !errors.Is(err, ErrNoBinaries) {
				t.Errorf("got error %v, want ErrNoBinaries", err)
			}
			if exists(data) {
				t.Error("the data directory was made for nothing")
			}
		})
	}
}

func TestInstallationIsTheFirstThatFits(t *testing.T) {
	t.Parallel()
	as, err := serverAccount()
	check(t, err)
	old, seventeen, sixteen := fakeBinaries(t, "12.1"), fakeBinaries(t, "17.2"), fakeBinaries(t, "16.9")
	dirs := []string{old, seventeen, sixteen}
	for want, major := range map[string]int{seventeen: 0, sixteen: 16} {
		got, err := findInstallation(t.Context(), dirs, as, major)
		check(t, err)
		if got.dir != want {
			t.Errorf("for major version %d: got %s %s, want %s", major, got.version, got.dir, want)
		}
	}
}

func TestInstallationIsNamedWhereItIs(t *testing.T) {
	t.Parallel()
	as, err := serverAccount()
	check(t, err)
	real, links := fakeBinaries(t, "17.2"), openDir(t)
	for _, name := range []string{"postgres", "initdb"} {
		check(t, os.Symlink(filepath.Join(real, name), filepath.Join(links, name)))
	}
	real, err = filepath.EvalSymlinks(real)
	check(t, err)
	got, err := findInstallation(t.Context(), []string{links}, as, 0)
	check(t, err)
	if got.dir != real {
		t.Errorf("got %s, want %s", got.dir, real)
	}
}

func TestDataThatCannotBeUsed(t *testing.T) {
	t.Parallel()
	as, err := serverAccount()
	check(t, err)
	bin, err := findInstallation(t.Context(), searchPath(), as, 0)
	check(t, err)

	t.Run("of another major version", func(t *testing.T) {
		t.Parallel()
		data := filepath.Join(openDir(t), "kept")
		check(t, os.MkdirAll(filepath.Join(data, "cluster"), 0o755))
		check(t, os.WriteFile(filepath.Join(data, "cluster", "PG_VERSION"), []byte("99\n"), 0o644))
		_, err := Start(t.Context(), Config{Data: data, cache: testCache})
		wantError(t, err, data, "holds data of PostgreSQL 99", "only "+bin.version.String(), "install PostgreSQL 99", "--fresh", "--data DIR")

		s := start(t, Config{Data: data, Fresh: true})
		if got, want := query(t, s.URL(), `SHOW server_version_num`), strconv.Itoa(bin.version.major*10000+bin.version.minor); got != want {
			t.Errorf("fresh: got server version %s, want %s", got, want)
		}
	})
	t.Run("a PostgreSQL data directory itself", func(t *testing.T) {
		t.Parallel()
		data := openDir(t)
		check(t, os.WriteFile(filepath.Join(data, "PG_VERSION"), fmt.Appendln(nil, bin.version.major), 0o644))
		_, err := Start(t.Context(), Config{Data: data, Fresh: true, cache: testCache})
		wantError(t, err, "is itself a PostgreSQL data directory")
	})
	t.Run("something else in the way", func(t *testing.T) {
		t.Parallel()
		data := openDir(t)
		precious := filepath.Join(data, "cluster", "precious")
		check(t, os.Mkdir(filepath.Dir(precious), 0o755))
		check(t, os.WriteFile(precious, nil, 0o644))
		_, err := Start(t.Context(), Config{Data: data, Fresh: true, cache: testCache})
		wantError(t, err, "is in the way")
		if !exists(precious) {
			t.Error("what was in the way is gone")
		}
	})
	t.Run("in a closed directory", func(t *testing.T) {
		t.Parallel()
		if !as.drop {
			as = account{name: "user other", uid: os.Geteuid() + 1, gid: os.Getegid() + 1, drop: true} // as if we were root
		}
		closed := openDir(t)
		check(t, os.Chmod(closed, 0o700))
		wantError(t, as.reaches(closed), closed+" is closed to user")
		check(t, as.reaches("/tmp"))
	})
}
