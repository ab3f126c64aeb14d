package postgres

import (
	"bytes"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// noDocker leads Docker's client to a daemon that isn't there.
var noDocker = []string{"DOCKER_HOST=unix:///no/such/docker.sock"}

// noRelease can't be downloaded: nobody listens on that port.
func noRelease() *release {
	return &release{base: "http://127.0.0.1:1", version: "17.5.0", platform: "linux-amd64"}
}

func TestDockerIsAskedBriefly(t *testing.T) {
	t.Parallel()
	silent, err := net.Listen("tcp", "127.0.0.1:0") // accepts, and never answers
	check(t, err)
	t.Cleanup(func() { check(t, silent.Close()) })
	for name, tt := range map[string]struct {
		host string
		want string
	}{
		"no daemon":        {"unix:///no/such/docker.sock", "Docker: it can't be used"},
		"a silent daemon":  {"tcp://" + silent.Addr().String(), "no answer within 2s"},
		"nobody listening": {"tcp://127.0.0.1:1", "Docker: it can't be used"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := findDocker(t.Context(), nil); err != nil && strings.Contains(err.Error(), "no command docker") {
				tt.want = "Docker: there is no command docker"
			}
			began := time.Now()
			_, err := Start(t.Context(), Config{
				Temp: true, bins: []string{openDir(t)}, cache: openDir(t), release: noRelease(), Progress: io.Discard,
				dockerEnv: []string{"DOCKER_HOST=" + tt.host},
			})
			wantError(t, err, "no PostgreSQL found on this machine", tt.want, "download: ", "connection refused", "start Docker")
			if took := time.Since(began); took > 10*time.Second {
				t.Errorf("it took %s, want 2 s and what a busy machine adds", took)
			}
		})
	}
}

func TestDockerElsewhereIsNotUsed(t *testing.T) {
	t.Parallel()
	for at, want := range map[string]bool{
		"unix:///var/run/docker.sock": true, "tcp://127.0.0.1:2375": true, "tcp://[::1]:2375": true, "https://localhost:2376": true,
		"tcp://build.example:2375": false, "ssh://me@build.example": false, "tcp://10.0.0.1:2375": false, "": false, "://": false,
	} {
		if got := onThisMachine(at); got != want {
			t.Errorf("%q on this machine: got %t, want %t", at, got, want)
		}
	}
}

func TestSourceSaysWhichAndWhy(t *testing.T) {
	t.Parallel()
	s := start(t, Config{Temp: true})
	bin := clusterOf(s).bin
	if want := "private PostgreSQL " + bin.version.String() + " (" + bin.dir + ", found on this machine), temporary data"; s.Source() != want {
		t.Errorf("got source %q, want %q", s.Source(), want)
	}
}

// Data made by a server on this machine must not seem lost because its binaries
// are gone and Docker could begin with empty ones.
func TestKeptDataAreNotLeftForAnotherSource(t *testing.T) {
	t.Parallel()
	data := filepath.Join(openDir(t), "kept")
	s := start(t, Config{Data: data})
	execute(t, s.URL(), `CREATE TABLE note AS SELECT 'kept' AS text`)
	check(t, s.Stop(t.Context()))
	_, err := Start(t.Context(), Config{Data: data, bins: []string{openDir(t)}, cache: openDir(t), release: noRelease(), Progress: io.Discard})
	wantError(t, err, data+" holds data of PostgreSQL", "no PostgreSQL found on this machine", "install PostgreSQL", "--fresh", "--data DIR")

	s = start(t, Config{Data: data})
	if got := query(t, s.URL(), `SELECT text FROM note`); got != "kept" {
		t.Errorf("got note %q, want kept", got)
	}
}

func TestReportsGoWhereTheyAreWanted(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	report(&b, "%d of %d", 1, 2)
	if got, want := b.String(), "PostgreSQL: 1 of 2\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
