package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// exchange is a block of commands of the README with what it prints.
type exchange struct {
	commands string
	want     []string // a line ending in … stands for all that begin like it
}

var tourBlock = regexp.MustCompile("(?s)```sh\n(.*?)```(?:\n```text\n(.*?)```)?")

// readTour finds the commands in the README's tour, each block with what the
// README says that it prints.
func readTour(t *testing.T) []exchange {
	t.Helper()
	root, err := moduleRoot()
	if err != nil {
		t.Fatal(err)
	}
	readme, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, tour, found := strings.Cut(string(readme), "## A tour with curl")
	tour, _, ended := strings.Cut(tour, "\n## ")
	if !found || !ended {
		t.Fatal("README.md has no section \"A tour with curl\" with another after it")
	}
	var list []exchange
	for _, m := range tourBlock.FindAllStringSubmatch(tour, -1) {
		e := exchange{commands: m[1]}
		for line := range strings.Lines(m[2]) {
			e.want = append(e.want, strings.TrimRight(line, "\n"))
		}
		list = append(list, e)
	}
	return list
}

// TestReadme types the README's tour into a shell, as printed but for the
// address, and compares what comes with what the README prints.
func TestReadme(t *testing.T) {
	t.Parallel()
	tour := readTour(t)
	if len(tour) < 8 {
		t.Fatalf("the tour has %d blocks of commands, want 8 or more: has its form changed?", len(tour))
	}
	if _, err := exec.LookPath("curl"); err != nil {
		t.Fatalf("the tour needs curl 7.84 or later (apt-get install curl): %v", err)
	}
	d := NewDemoHome(t).Start(t, "--orders", "0")
	var script strings.Builder
	for i, e := range tour {
		fmt.Fprintf(&script, "%s\necho '--- %d'\n", strings.ReplaceAll(e.commands, "http://127.0.0.1:8080", d.URL), i)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, "bash", "-c", script.String()).CombinedOutput()
	if err != nil {
		t.Fatalf("the tour ended with %v:\n%s", err, out)
	}
	rest := strings.ReplaceAll(string(out), "\r\n", "\n")
	for i, e := range tour {
		got, after, found := strings.Cut(rest, fmt.Sprintf("--- %d\n", i))
		if !found {
			t.Fatalf("the tour stopped in its block %d:\n%s", i, rest)
		}
		rest = after
		if !printed(strings.Split(strings.TrimRight(got, "\n"), "\n"), e.want) {
			t.Errorf("typed:\n%s\ngot:\n%s\nREADME.md says:\n%s", e.commands, got, strings.Join(e.want, "\n"))
		}
	}
}

// printed reports whether got is what the README prints.
func printed(got, want []string) bool {
	if len(want) == 0 {
		return len(got) == 1 && got[0] == ""
	}
	if len(got) != len(want) {
		return false
	}
	for i, w := range want {
		if begin, open := strings.CutSuffix(w, "…"); got[i] != w && (!open || !strings.HasPrefix(got[i], begin)) {
			return false
		}
	}
	return true
}
