package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// storyResult is what "shopctl scenario --json" reports of a story.
type storyResult struct {
	Name    string   `json:"name"`
	Outcome string   `json:"outcome"` // passed, failed, not run
	Why     string   `json:"why"`
	Orders  []string `json:"orders"`
	Seconds float64  `json:"seconds"`
}

// TestScenarios has every story told of a shop by shopctl, as an operator does, and
// compares what they print with their pages in the documentation.
func TestScenarios(t *testing.T) {
	t.Parallel()
	s := NewStack(t, WithMails)
	pages := t.TempDir()
	listen, host, err := s.TestHost(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	stories := tellStories(t, s.crew, map[string]string{"DATABASE_URL": s.DSN("", "")},
		"all", "--addr", s.URL, "--pages", pages, "--listen", net.JoinHostPort(listen, "0"), "--host", host)
	var orders []string
	for _, r := range stories {
		orders = append(orders, r.Orders...)
		t.Run(r.Name, func(t *testing.T) {
			t.Logf("%s after %.1f s, orders %v", r.Outcome, r.Seconds, r.Orders)
			if r.Outcome != "passed" {
				t.Fatalf("%s: %s", r.Outcome, r.Why)
			}
			comparePage(t, pages, r.Name)
			if r.Name == "mails" {
				s.booksAgree(t, r.Orders[0])
			}
		})
	}
	if n := countPages(t); n != len(stories) {
		t.Errorf("%d stories were told, there are pages of %d", len(stories), n)
	}
	CheckShop(t, s.DSN("", ""), orders...)
}

// tellStories runs "shopctl scenario" with args and returns how the stories ended.
func tellStories(t *testing.T, c *crew, env map[string]string, args ...string) []storyResult {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	out, err := run(ctx, c, "shopctl", env, append([]string{"scenario", "--json"}, args...)...)
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || exit.ExitCode() != 1) { // 1: a story has failed
		t.Fatal(err)
	}
	var report struct {
		Stories []storyResult `json:"stories"`
	}
	if jsonErr := json.Unmarshal(out, &report); jsonErr != nil {
		t.Fatalf("shopctl scenario prints no report: %v, %v", jsonErr, err)
	}
	if len(report.Stories) == 0 {
		t.Fatal("no story was told")
	}
	return report.Stories
}

// keptPages is the directory of the stories' pages.
func keptPages(t *testing.T) string {
	t.Helper()
	root, err := moduleRoot()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(root, "services", "internal", "scenario", "pages")
}

// comparePage compares the page that a story has just written to dir with the one
// that is kept.
func comparePage(t *testing.T, dir, story string) {
	t.Helper()
	got, err := os.ReadFile(filepath.Join(dir, story+".md"))
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(filepath.Join(keptPages(t), story+".md"))
	if err != nil {
		t.Errorf("no page is kept: %v", err)
	}
	if string(got) != string(want) {
		t.Errorf("it prints:\n%s\nits page is:\n%s\nTo renew the pages, with a demo running and its DATABASE_URL set:\n"+
			"go run ./services/shopctl scenario all --pages services/internal/scenario/pages", got, want)
	}
}

func countPages(t *testing.T) int {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(keptPages(t), "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

// storyOfDemo tells a story of a running demo, as its README says, and looks at what
// is printed.
func storyOfDemo(t *testing.T, d *Demo, c *crew, story string) {
	t.Helper()
	dir := t.TempDir()
	out, err := run(t.Context(), c, "shopctl", nil, "scenario", story, "--addr", d.URL, "--pages", dir)
	if err != nil {
		t.Errorf("%v\n%s", err, out)
		return
	}
	if text := string(out); !strings.HasPrefix(text, story+"  ") || !strings.Contains(text, "\n  passed after ") || strings.Contains(text, "\x1b") {
		t.Errorf("the story prints\n%s\nwant its name first, that it passed last, and no colours", text)
	}
	comparePage(t, dir, story)
}
