package e2e

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// LoadResult is what "shopctl load --json" reports of a run.
type LoadResult struct {
	Placed     int            `json:"placed"`
	Failed     int            `json:"failed"`
	FirstError string         `json:"first_error"`
	Confirmed  int            `json:"confirmed"`
	Unfinished int            `json:"unfinished"`
	Statuses   map[string]int `json:"statuses"`
	P50        float64        `json:"confirm_p50_ms"` // placed -> confirmed
	P99        float64        `json:"confirm_p99_ms"`
	Customer   string         `json:"customer"`
}

// Load is orders being placed by "shopctl load" in the background.
type Load struct {
	done   chan struct{}
	result LoadResult
	err    error
}

// Load starts placing rate orders per second for the given time. Wait for it.
func (s *Stack) Load(t testing.TB, rate int, duration time.Duration) *Load {
	t.Helper()
	return startLoad(t, s.crew, s.URL, rate, duration)
}

func startLoad(t testing.TB, c *crew, url string, rate int, duration time.Duration) *Load {
	t.Helper()
	path, err := program("shopctl")
	if err != nil {
		t.Fatal(err)
	}
	// Progress goes into a file of its own: the result stands alone.
	progress, err := os.Create(filepath.Join(c.dir, fmt.Sprintf("load-%s.log", rand.Text())))
	if err != nil {
		t.Fatal(err)
	}
	cmd := c.command(context.Background(), path, "load", "--addr", url, "--rate", fmt.Sprint(rate), "--duration", duration.String(), "--json")
	cmd.Env = environment(nil)
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, progress
	if err := errors.Join(cmd.Start(), progress.Close()); err != nil {
		t.Fatalf("start shopctl load: %v", err)
	}
	l := &Load{done: make(chan struct{})}
	go func() {
		defer close(l.done)
		err := cmd.Wait()
		if err != nil {
			said, readErr := os.ReadFile(progress.Name())
			err = errors.Join(fmt.Errorf("shopctl load: %w\n%s", err, tail(string(said), 10)), readErr)
		}
		if out.Len() > 0 {
			err = errors.Join(err, json.Unmarshal([]byte(out.String()), &l.result))
		}
		l.err = err
	}()
	t.Cleanup(func() {
		// It is of the crew: when a test gives up it is killed here, else gone long since.
		if err := cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
			t.Errorf("end shopctl load: %v", err)
		}
		<-l.done
	})
	return l
}

// Wait waits for the end of the load and returns its result. Every order must
// have been placed in the end and be confirmed or ended.
func (l *Load) Wait(t testing.TB) LoadResult {
	t.Helper()
	<-l.done
	if l.err != nil {
		t.Fatalf("load: %v", l.err)
	}
	r := l.result
	if r.Placed == 0 || r.Failed > 0 || r.Unfinished > 0 {
		t.Fatalf("load: placed %d, failed %d (%s), unfinished %d, statuses %v; want some, 0, 0", r.Placed, r.Failed, r.FirstError, r.Unfinished, r.Statuses)
	}
	return r
}
