package e2e

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
)

// composeFile is as much of deployments/compose.yaml as is looked at here.
type composeFile struct {
	Services map[string]composeService
	Networks map[string]any
	Volumes  map[string]any
}

type composeService struct {
	Image       string
	Command     []string
	Restart     string
	ReadOnly    bool     `yaml:"read_only"`
	CapDrop     []string `yaml:"cap_drop"`
	SecurityOpt []string `yaml:"security_opt"`
	MemLimit    string   `yaml:"mem_limit"`
	CPUs        float64  `yaml:"cpus"`
	Ports       []string
	Environment map[string]string
	Healthcheck struct {
		Test    []string
		Disable bool
	}
}

func readCompose(t *testing.T) (path string, file composeFile) {
	t.Helper()
	root, err := moduleRoot()
	if err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(root, "deployments", "compose.yaml")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(b, &file); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return path, file
}

// TestComposeFile reads deployments/compose.yaml: it has the whole shop, and each
// container is confined.
func TestComposeFile(t *testing.T) {
	t.Parallel()
	_, file := readCompose(t)
	want := append([]string{"migrate", "postgres"}, services...)
	for name := range file.Services {
		if !slices.Contains(want, name) {
			t.Errorf("service %s is none of the shop's", name)
		}
	}
	var published []string
	for _, name := range want {
		s, found := file.Services[name]
		if !found {
			t.Errorf("there is no service %s", name)
			continue
		}
		published = append(published, s.Ports...)
		image, restart := "${ORDERFLOW_IMAGE:-orderflow}", "unless-stopped"
		switch name {
		case "postgres":
			image = "${E2E_POSTGRES_IMAGE:-" + officialPostgres + "}"
		case "migrate":
			restart = "no"
		}
		if s.Image != image || s.Restart != restart {
			t.Errorf("%s: image %q, restart %q; want %q, %q", name, s.Image, s.Restart, image, restart)
		}
		if !s.ReadOnly || !slices.Equal(s.CapDrop, []string{"ALL"}) || !slices.Equal(s.SecurityOpt, []string{"no-new-privileges:true"}) {
			t.Errorf("%s isn't confined: read_only %v, cap_drop %v, security_opt %v", name, s.ReadOnly, s.CapDrop, s.SecurityOpt)
		}
		if s.MemLimit == "" || s.CPUs == 0 {
			t.Errorf("%s: mem_limit %q, cpus %v; want limits", name, s.MemLimit, s.CPUs)
		}
		if checked := len(s.Healthcheck.Test) > 0; checked == s.Healthcheck.Disable || s.Healthcheck.Disable != (name == "migrate") {
			t.Errorf("%s: healthcheck %+v; want one, but for migrate", name, s.Healthcheck)
		}
	}
	if got, want := file.Services["notifications"].Environment["NOTIFICATIONS_SMTP_HOST"]+":"+file.Services["notifications"].Environment["NOTIFICATIONS_SMTP_PORT"], "console:1025"; got != want || file.Services["console"].Environment["MAILBOX_ADDR"] != "0.0.0.0:1025" {
		t.Errorf("mails go to %s and are caught at %s, want the console's mailbox", got, file.Services["console"].Environment["MAILBOX_ADDR"])
	}
	if len(published) != 1 || !strings.HasPrefix(published[0], "127.0.0.1:") {
		t.Errorf("published: %v, want one port, on loopback", published)
	}
}

// TestDockerfile compares deployments/Dockerfile with what the tests run: the
// same programs, and the same image but for where they come from.
func TestDockerfile(t *testing.T) {
	t.Parallel()
	root, err := moduleRoot()
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(root, "deployments", "Dockerfile"))
	if err != nil {
		t.Fatal(err)
	}
	build, image, found := strings.Cut(string(b), "\nFROM scratch\n")
	if !found {
		t.Fatal("the Dockerfile has no stage from scratch")
	}
	for _, name := range imagePrograms {
		if !strings.Contains(build, "./services/"+name) {
			t.Errorf("the Dockerfile doesn't build %s", name)
		}
	}
	got := strings.NewReplacer("--from=build /programs/", "programs/", "--from=build /etc/ssl/certs/ca-certificates.crt", "ca-certificates.crt").Replace(image)
	if want := strings.TrimPrefix(imageRecipe, "FROM scratch\n"); got != want {
		t.Errorf("the Dockerfile's image is\n%s\nthe tests'\n%s", got, want)
	}
}

// TestCompose starts the shop by deployments/compose.yaml, with two replicas of
// orders, and buys something at each.
// Without containers the file is looked at only, by TestComposeFile.
func TestCompose(t *testing.T) {
	t.Parallel()
	chosen, err := decided()
	if err != nil {
		t.Fatal(err)
	}
	path, file := readCompose(t)
	if chosen.backend != "docker" {
		if len(file.Services) == 0 {
			t.Fatal("the file has no services")
		}
		t.Logf("nothing started: the backend is %s", chosen.backend)
		return
	}
	e, err := opened()
	if err != nil {
		t.Fatal(err)
	}
	addr, err := freeAddr()
	if err != nil {
		t.Fatal(err)
	}
	compose := findCompose(t)
	dir := t.TempDir()
	labels := filepath.Join(dir, "labels.yaml")
	if err := os.WriteFile(labels, labelled(t, file, e.labels()), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := newCrew("compose")
	if err != nil {
		t.Fatal(err)
	}
	started := time.Now()
	call := func(ctx context.Context, args ...string) ([]byte, error) {
		all := append(slices.Clone(compose[1:]), "--project-name", "orderflow-e2e-"+strings.ToLower(filepath.Base(dir))+fmt.Sprint(os.Getpid()), "--file", path, "--file", labels)
		cmd := c.command(ctx, compose[0], append(all, args...)...)
		cmd.Env = append(environment(map[string]string{
			"ORDERFLOW_IMAGE": e.image, "E2E_POSTGRES_IMAGE": wishesOfEnvironment().image, "ORDERFLOW_PORT": addr[strings.LastIndexByte(addr, ':')+1:],
		}), dockerSettings()...)
		return cmd.CombinedOutput()
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
		defer cancel()
		if t.Failed() {
			out, err := call(ctx, "logs", "--tail=20")
			t.Logf("what the containers said (%v):\n%s", err, out)
		}
		if out, err := call(ctx, "down", "--volumes"); err != nil {
			t.Errorf("compose down: %v\n%s", err, out)
		}
		if err := c.end(); err != nil {
			t.Error(err)
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	if out, err := call(ctx, "up", "--no-build", "--detach", "--scale", "orders=2"); err != nil {
		t.Fatalf("%s up: %v\n%s", strings.Join(compose, " "), err, out)
	}
	customer := NewCustomer(t, "http://"+addr)
	eventually(t, time.Minute, func() error {
		a, err := customer.Do(t.Context(), http.MethodGet, "/readyz", nil)
		if err == nil && a.Status != http.StatusOK {
			err = fmt.Errorf("GET /readyz: status %d: %s", a.Status, a.Body)
		}
		return err
	})
	t.Logf("open after %s, by %s", since(started), strings.Join(compose, " "))
	o := customer.Await(t, customer.Place(t, wish("MUG-01", "tok_ok")).ID, "delivered")
	if got := o.Way(); !slices.Equal(got, happyWay) {
		t.Errorf("way %v, want %v", got, happyWay)
	}
	t.Logf("order delivered %s after the start", since(started))
	eventually(t, healLimit, func() error {
		list := Must[struct{ Mails []struct{ Subject string } }](t, customer, http.StatusOK, http.MethodGet, "/v1/mailbox?to=ada@example.com", nil)
		if len(list.Mails) != 4 {
			return fmt.Errorf("mails %+v, want 4", list.Mails)
		}
		return nil
	})
	eventually(t, time.Minute, func() error {
		customer.Place(t, wish("FILTER-01", "tok_ok"))
		out, err := call(ctx, "logs", "--no-color", "orders")
		if n := len(placedBy(string(out))); err == nil && n != 2 {
			err = fmt.Errorf("%d replicas of orders have taken orders, want 2", n)
		}
		return err
	})
}

// placedBy are the containers that have taken orders, by the logs that compose
// shows: each line begins with the container's name.
func placedBy(logs string) map[string]bool {
	names := map[string]bool{}
	for line := range strings.Lines(logs) {
		if name, said, found := strings.Cut(line, "|"); found && strings.Contains(said, "order placed") {
			names[name] = true
		}
	}
	return names
}

// findCompose is the command: E2E_COMPOSE, or what is there.
func findCompose(t *testing.T) []string {
	t.Helper()
	if name := os.Getenv("E2E_COMPOSE"); name != "" {
		return strings.Fields(name)
	}
	if exec.CommandContext(t.Context(), "docker", "compose", "version").Run() == nil {
		return []string{"docker", "compose"}
	}
	if path, err := exec.LookPath("docker-compose"); err == nil {
		return []string{path}
	}
	t.Fatal("there is neither docker compose nor docker-compose (1.29 or later): install one, or name it by E2E_COMPOSE")
	return nil
}

// dockerSettings are those of the environment that say how to reach Docker.
func dockerSettings() []string {
	var list []string
	for _, e := range os.Environ() {
		if strings.HasPrefix(e, "DOCKER_") {
			list = append(list, e)
		}
	}
	return list
}

// labelled is a file for compose that puts the labels on all that file makes.
func labelled(t *testing.T, file composeFile, labels map[string]string) []byte {
	t.Helper()
	all := map[string]map[string]any{"services": {}, "networks": {}, "volumes": {}}
	for name := range file.Services {
		all["services"][name] = map[string]any{"labels": labels}
	}
	for name := range file.Networks {
		all["networks"][name] = map[string]any{"labels": labels}
	}
	for name := range file.Volumes {
		all["volumes"][name] = map[string]any{"labels": labels}
	}
	b, err := yaml.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
