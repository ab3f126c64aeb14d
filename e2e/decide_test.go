package e2e

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"example.com/orderflow/deployments/postgres"
)

// decideLimit is what a decision may take when nothing is pulled.
const decideLimit = 3 * time.Second

// silentDocker takes connections and never answers.
func silentDocker(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return "tcp://" + l.Addr().String()
}

// absentDocker is where nobody listens.
func absentDocker(t *testing.T) string {
	t.Helper()
	addr, err := freeAddr()
	if err != nil {
		t.Fatal(err)
	}
	return "tcp://" + addr
}

// bareDocker speaks as much of Docker's API as a decision needs: it has the
// images, and no registry to pull others from.
func bareDocker(t *testing.T, images ...string) string {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("/_ping", func(w http.ResponseWriter, r *http.Request) { w.Header().Set("Api-Version", "1.47") })
	mux.HandleFunc("GET /{version}/images/{rest...}", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		for _, name := range images {
			if r.PathValue("rest") == name+"/json" {
				_, _ = io.WriteString(w, `{"Id":"sha256:1"}`)
				return
			}
		}
		w.WriteHeader(http.StatusNotFound)
		_, _ = io.WriteString(w, `{"message":"no such image"}`)
	})
	mux.HandleFunc("POST /{version}/images/create", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"status":"Pulling"}`+"\n"+`{"errorDetail":{"message":"the registry is away"},"error":"the registry is away"}`+"\n")
	})
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return "tcp://" + strings.TrimPrefix(s.URL, "http://")
}

func bare(images ...string) func(*testing.T) string {
	return func(t *testing.T) string { return bareDocker(t, images...) }
}

// somewhere is the PostgreSQL of a machine, nowhere that of one that has none.
func somewhere(context.Context) (string, error) { return "15.1 (/somewhere)", nil }
func nowhere(context.Context) (string, error)   { return "", postgres.ErrNoBinaries }

func TestBackendIsDecidedInTime(t *testing.T) {
	t.Parallel()
	auto := wishes{backend: "auto", installed: somewhere}
	pulling := wishes{backend: "auto", pull: true, installed: somewhere}
	withURL := wishes{backend: "auto", databaseURL: "postgres://x", installed: somewhere}
	named := wishes{backend: "docker", installed: somewhere}
	for name, tt := range map[string]struct {
		docker func(*testing.T) string
		wishes wishes
		want   string // "" for a failure
		says   string // why, or the failure
	}{
		"daemon absent":                {absentDocker, auto, "local", "Cannot connect to the Docker daemon"},
		"daemon hanging":               {silentDocker, auto, "local", "no answer within 2s"},
		"image missing":                {bare(), auto, "local", "no such image: postgres:x"},
		"image there":                  {bare("postgres:x"), auto, "docker", "has postgres:x"},
		"image missing, asked to pull": {bare(), pulling, "local", "the registry is away"},
		"what is installed is named":   {absentDocker, auto, "local", "PostgreSQL 15.1 (/somewhere)"},

		"DATABASE_URL beside PostgreSQL":       {absentDocker, withURL, "local", "/somewhere"},
		"DATABASE_URL beside containers":       {bare("postgres:x"), withURL, "docker", "has postgres:x"},
		"DATABASE_URL and nothing else":        {absentDocker, wishes{backend: "auto", databaseURL: "postgres://x", installed: nowhere}, "external", "DATABASE_URL"},
		"nothing but a Docker without images":  {bare(), wishes{backend: "auto", installed: nowhere}, "", "the registry is away"},
		"docker named, daemon absent":          {absentDocker, named, "", "Cannot connect to the Docker daemon"},
		"docker named, daemon hanging":         {silentDocker, named, "", "no answer within 2s"},
		"docker named, image missing":          {bare(), named, "", "set E2E_PULL=1 to pull it, or run deployments/postgres/image/build"},
		"docker named, image can't be pulled":  {bare(), wishes{backend: "docker", pull: true}, "", "the registry is away"},
		"docker named":                         {bare("postgres:x"), named, "docker", "E2E_BACKEND=docker"},
		"local named, image there":             {bare("postgres:x"), wishes{backend: "local"}, "local", "E2E_BACKEND=local"},
		"external named":                       {absentDocker, wishes{backend: "external", databaseURL: "postgres://x"}, "external", "E2E_BACKEND=external"},
		"external named, without DATABASE_URL": {bare("postgres:x"), wishes{backend: "external"}, "", "set DATABASE_URL"},
		"another named":                        {bare("postgres:x"), wishes{backend: "podman"}, "", "no such backend"},
		"DOCKER_HOST is no address":            {func(*testing.T) string { return "nonsense" }, named, "", "DOCKER_HOST"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := tt.wishes
			w.image, w.dockerHost = "postgres:x", tt.docker(t)
			started := time.Now()
			got, err := w.decide(t.Context(), io.Discard)
			if took := time.Since(started); took > decideLimit {
				t.Errorf("decided after %s, want %s at most", took, decideLimit)
			}
			said := got.why
			if err != nil {
				said = err.Error()
			}
			if got.backend != tt.want || (err == nil) != (tt.want != "") || !strings.Contains(said, tt.says) {
				t.Errorf("decided %q, %v (%s); want %q, saying %q", got.backend, err, got.why, tt.want, tt.says)
			}
		})
	}
}

func TestNothingToRunOnNamesTheFixes(t *testing.T) {
	t.Parallel()
	w := wishes{backend: "auto", image: "postgres:x", dockerHost: absentDocker(t), installed: nowhere}
	_, err := w.decide(t.Context(), io.Discard)
	if !errors.Is(err, postgres.ErrNoBinaries) {
		t.Fatalf("decided with %v, want an error that is %v", err, postgres.ErrNoBinaries)
	}
	for _, want := range []string{"start Docker", "install PostgreSQL", "DATABASE_URL", "Cannot connect"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the failure is %q, want %q in it", err, want)
		}
	}
}

func TestPullingIsTold(t *testing.T) {
	t.Parallel()
	w := wishes{backend: "docker", image: "postgres:x", dockerHost: bareDocker(t), pull: true}
	var told strings.Builder
	if _, err := w.decide(t.Context(), &told); err == nil {
		t.Error("decided without an error, though the registry is away")
	}
	if !strings.Contains(told.String(), "pulling postgres:x, for 10m0s at most") {
		t.Errorf("told %q, want what is pulled and for how long", told.String())
	}
}
