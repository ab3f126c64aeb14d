package postgres

import (
	"archive/zip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

const (
	mavenCentral = "https://repo1.maven.org/maven2"
	mostBytes    = 1 << 30          // of an archive, and of what is in it
	stalledAfter = 30 * time.Second // without a byte
)

// release is a build of PostgreSQL's programs for several platforms, which
// https://github.com/zonkyio/embedded-postgres-binaries publishes in Maven
// repositories: a jar with an archive "*.txz" in it that has bin, lib and share.
type release struct {
	base     string // URL of the repository
	version  string // as published: "17.5.0"
	platform string // as published: "linux-amd64"
	// sums are SHA-256 of the jars by platform. Of a platform that isn't listed
	// the repository's own sum is taken, the file ".sha256" beside the jar.
	sums map[string]string
}

func newRelease(cfg Config) release {
	if cfg.release != nil {
		return *cfg.release
	}
	return release{
		base:     strings.TrimSuffix(setting(mavenCentral, downloadVariable), "/"),
		version:  "17.5.0",
		platform: platform(runtime.GOOS, runtime.GOARCH, isFile("/etc/alpine-release")),
		sums: map[string]string{
			"linux-amd64":    "646f3269075d1a23904127374e3cdbcef96beb32979fedee25d835877400fcbe",
			"linux-arm64v8":  "e02f27ff50ff2d90b6541d54f3f108505aacd84ea53c2890e976a684bfea2752",
			"darwin-amd64":   "fb70f783928e77c3d6ef5ca8ed644f1ac502f740fcfc032a375c8347820f2bdd",
			"darwin-arm64v8": "e9d3398e10c2ec926395498b03e75ad1a24eeaed82895e756a7e173b202cf6de",
		},
	}
}

// platform is a system's name among the published jars, "" for one without.
func platform(system, arch string, alpine bool) string {
	names := map[string]string{
		"linux/amd64": "linux-amd64", "linux/arm64": "linux-arm64v8", "linux/386": "linux-i386", "linux/ppc64le": "linux-ppc64le",
		"darwin/amd64": "darwin-amd64", "darwin/arm64": "darwin-arm64v8",
	}
	name := names[system+"/"+arch]
	if name != "" && alpine {
		name += "-alpine"
	}
	return name
}

func (r release) major() int {
	v, err := parseVersion(r.version)
	if err != nil {
		return 0
	}
	return v.major
}

// name tells the builds from each other.
func (r release) name() string { return "postgres-" + r.version + "-" + r.platform }

func (r release) url() string {
	artifact := "embedded-postgres-binaries-" + r.platform
	return fmt.Sprintf("%s/io/zonky/test/postgres/%s/%s/%s-%s.jar", r.base, artifact, r.version, artifact, r.version)
}

// bin is where the programs are once they are fetched.
func (r release) bin(p place) string { return filepath.Join(p.binaries(), r.name(), "bin") }

// fetch downloads the programs into the cache, once however many ask at the
// same time. What is there and can't be used is replaced.
func (r release) fetch(ctx context.Context, p place, progress io.Writer) (err error) {
	if r.platform == "" {
		return unavailable("there is no build for %s/%s", runtime.GOOS, runtime.GOARCH)
	}
	if p.cache == "" {
		return unavailable("there is no cache to keep it in: set HOME")
	}
	as, err := serverAccount()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(p.binaries(), 0o755); err != nil {
		return err
	}
	if err := as.reaches(p.binaries()); err != nil {
		return err
	}
	lock, err := lockFile(ctx, filepath.Join(p.binaries(), r.name()+".lock"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	if _, err := findInstallation(ctx, []string{r.bin(p)}, as, 0); err == nil {
		return nil // another process fetched it while we waited for the lock
	}
	jar := filepath.Join(p.binaries(), r.name()+".jar.part")
	defer func() {
		if rmErr := os.RemoveAll(jar); rmErr != nil {
			err = errors.Join(err, rmErr)
		}
	}()
	if err := r.download(ctx, jar, progress); err != nil {
		return err
	}
	dir := filepath.Join(p.binaries(), r.name())
	if err := errors.Join(os.RemoveAll(dir), os.RemoveAll(dir+".new")); err != nil {
		return err
	}
	if err := unpackJar(ctx, jar, dir+".new"); err != nil {
		return errors.Join(fmt.Errorf("unpack %s: %w", r.url(), err), os.RemoveAll(dir+".new"))
	}
	return os.Rename(dir+".new", dir)
}

// download puts the jar into the file to, its SHA-256 checked.
func (r release) download(ctx context.Context, to string, progress io.Writer) error {
	want := r.sums[r.platform]
	if want == "" {
		var sum strings.Builder
		if err := get(ctx, r.url()+".sha256", &sum, nil); err != nil {
			return fmt.Errorf("without a checksum it is not taken: %w", err)
		}
		// Some tools write the file's name behind the sum.
		want, _, _ = strings.Cut(strings.TrimSpace(sum.String()), " ")
	}
	f, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	report(progress, "downloading %s, once", r.url())
	h := sha256.New()
	err = get(ctx, r.url(), io.MultiWriter(f, h), progress)
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if got := hex.EncodeToString(h.Sum(nil)); !strings.EqualFold(got, want) {
		return fmt.Errorf("%s has the SHA-256 %s, not %q: it is not what was published", r.url(), got, want)
	}
	return nil
}

// get copies what is at url to to, and reports each second how far it is, if
// progress is not nil. It gives up when nothing comes for stalledAfter.
func get(ctx context.Context, url string, to io.Writer, progress io.Writer) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stalled := time.AfterFunc(stalledAfter, func() { cancel(fmt.Errorf("nothing came for %s", stalledAfter)) })
	defer stalled.Stop()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	// A client of its own leaves no idle connection behind.
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true}
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = fmt.Errorf("get %s: %w", url, cause)
		}
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return errors.Join(fmt.Errorf("get %s: %s", url, resp.Status), resp.Body.Close())
	}
	m := &meter{total: resp.ContentLength, stalled: stalled, progress: progress, last: time.Now()}
	_, err = io.Copy(io.MultiWriter(to, m), resp.Body)
	if cause := context.Cause(ctx); err != nil && cause != nil {
		err = cause
	}
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		return fmt.Errorf("get %s: %w", url, err)
	}
	return nil
}

// meter counts what is written to it.
type meter struct {
	n, total int64 // total -1 = unknown
	stalled  *time.Timer
	progress io.Writer
	last     time.Time // of a report
}

func (m *meter) Write(p []byte) (int, error) {
	m.n += int64(len(p))
	if m.n > mostBytes {
		return 0, fmt.Errorf("it is larger than %d bytes", mostBytes)
	}
	m.stalled.Reset(stalledAfter)
	if m.progress != nil && (time.Since(m.last) >= time.Second || m.n == m.total) {
		m.last = time.Now()
		of := ""
		if m.total > 0 {
			of = fmt.Sprintf(" of %.1f", float64(m.total)/1e6)
		}
		report(m.progress, "%.1f%s MB are here", float64(m.n)/1e6, of)
	}
	return len(p), nil
}

// unpackJar unpacks the archive in the jar into the new directory dir.
func unpackJar(ctx context.Context, jar, dir string) error {
	z, err := zip.OpenReader(jar)
	if err != nil {
		return err
	}
	for _, entry := range z.File {
		if strings.HasSuffix(entry.Name, ".txz") {
			archive, err := entry.Open()
			if err != nil {
				return errors.Join(err, z.Close())
			}
			return errors.Join(unpack(ctx, archive, dir), archive.Close(), z.Close())
		}
	}
	return errors.Join(errors.New("there is no archive *.txz in it"), z.Close())
}
