package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestVerbs does to the console, which needs no database, what can be done to a
// process: it comes to the same on every backend.
func TestVerbs(t *testing.T) {
	t.Parallel()
	b := openBackend(t)
	one, two := first("console"), Process{Service: "console", Replica: 2}
	apart := map[string]string{"MAILBOX_ADDR": "127.0.0.1:0"} // processes share the machine's ports
	if b.Reach(one) == b.Reach(two) || b.Peer(one) == b.Peer(two) {
		t.Errorf("two replicas are at %s and %s, for programs at %s and %s; want addresses of their own", b.Reach(one), b.Reach(two), b.Peer(one), b.Peer(two))
	}
	for _, p := range []Process{one, two} {
		url, err := b.Start(t.Context(), p, apart)
		if err != nil {
			t.Fatal(err)
		}
		if url != b.Reach(p) {
			t.Errorf("%s started at %s, was to be reached at %s", p, url, b.Reach(p))
		}
		awaitHealthy(t, b, p)
	}
	if _, err := b.Start(t.Context(), one, apart); err == nil {
		t.Errorf("%s was started twice", one)
	}

	if err := b.Pause(one); err != nil {
		t.Fatal(err)
	}
	// The signal reaches its threads one by one.
	eventually(t, 10*time.Second, func() error {
		if healthy(t, b, one) == nil {
			return fmt.Errorf("%s answers while it is paused", one)
		}
		return nil
	})
	if err := healthy(t, b, two); err != nil {
		t.Errorf("while %s is paused: %v", one, err)
	}
	if err := b.Resume(one); err != nil {
		t.Fatal(err)
	}
	awaitHealthy(t, b, one)

	if exit, err := b.Stop(t.Context(), one); err != nil || exit != 0 {
		t.Errorf("%s stopped with exit code %d, %v; want 0", one, exit, err)
	}
	if err := healthy(t, b, one); err == nil {
		t.Errorf("%s answers after its end", one)
	}
	if _, err := b.Stop(t.Context(), one); err == nil {
		t.Errorf("%s was stopped twice", one)
	}
	if err := errors.Join(b.Pause(two), b.Kill(two)); err != nil {
		t.Fatalf("kill a paused process: %v", err)
	}
	if err := b.Kill(two); err == nil {
		t.Errorf("%s was killed twice", two)
	}

	if _, err := b.Start(t.Context(), one, apart); err != nil {
		t.Fatal(err)
	}
	awaitHealthy(t, b, one)
	eventually(t, 10*time.Second, func() error { // what a container writes arrives a moment later
		if n := strings.Count(b.Logs(one), "serving"); n != 2 {
			return fmt.Errorf("%s was started twice, its log tells of %d starts:\n%s", one, n, b.Logs(one))
		}
		return nil
	})
	if err := b.Kill(one); err != nil {
		t.Fatal(err)
	}

	// What ends by itself is reported when it is stopped.
	alone := first("orders")
	if _, err := b.Start(t.Context(), alone, nil); err != nil {
		t.Fatal(err)
	}
	eventually(t, time.Minute, func() error {
		if !strings.Contains(b.Logs(alone), "ended by an error") {
			return errors.New("orders without a database has not ended")
		}
		return nil
	})
	if exit, err := b.Stop(t.Context(), alone); err != nil || exit != 1 {
		t.Errorf("orders without a database ended with exit code %d, %v; want 1\n%s", exit, err, b.Logs(alone))
	}
}

// openBackend makes a backend with nothing on it but its database.
func openBackend(t *testing.T) Backend {
	t.Helper()
	b, err := newBackend(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := b.Close(ctx); err != nil {
			t.Errorf("close the backend: %v", err)
		}
	})
	return b
}

// awaitHealthy waits until p answers.
func awaitHealthy(t *testing.T, b Backend, p Process) {
	t.Helper()
	eventually(t, time.Minute, func() error { return healthy(t, b, p) })
}

// healthy asks p once, for half a second.
func healthy(t *testing.T, b Backend, p Process) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	a, err := NewCustomer(t, b.Reach(p)).Do(ctx, http.MethodGet, "/healthz", nil)
	if err == nil && a.Status != http.StatusOK {
		err = errors.New("GET /healthz: " + http.StatusText(a.Status))
	}
	return err
}
