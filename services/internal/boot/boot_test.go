package boot

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Neither a client that connected and says nothing nor one whose request is
// being answered keeps a program from ending in order.
func TestServeEndsInOrder(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	asked := make(chan struct{})
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(asked)
		time.Sleep(300 * time.Millisecond)
		if _, err := io.WriteString(w, "done"); err != nil {
			t.Error(err)
		}
	})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- Serve(ctx, l, h, 0) }()
	silent, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	answered := make(chan string, 1)
	go func() {
		defer http.DefaultClient.CloseIdleConnections()
		res, err := http.Get("http://" + l.Addr().String())
		if err != nil {
			answered <- err.Error()
			return
		}
		body, err := io.ReadAll(res.Body)
		if err != nil || res.Body.Close() != nil {
			answered <- "cut off"
			return
		}
		answered <- string(body)
	}()
	<-asked
	begun := time.Now()
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("ended with %v, want an orderly end", err)
	}
	if d := time.Since(begun); d > 3*time.Second {
		t.Errorf("ending took %s", d)
	}
	if got := <-answered; got != "done" {
		t.Errorf("the request in hand got %q, want its answer", got)
	}
}

// While a program drains, it serves as before, says that it isn't ready, and has
// every client let go of its connection; its work goes on, too.
func TestServeDrains(t *testing.T) {
	t.Parallel()
	const drain = 500 * time.Millisecond
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.WriteString(w, "done"); err != nil {
			t.Error(err)
		}
	})
	ctx, cancel := context.WithCancel(t.Context())
	ended, workEnded := make(chan error, 1), make(chan time.Time, 1)
	go func() {
		ended <- serve(ctx, l, h, drain, func(ctx context.Context) error {
			<-ctx.Done()
			workEnded <- time.Now()
			return nil
		})
	}()
	c := &http.Client{Transport: &http.Transport{}}
	defer c.CloseIdleConnections()
	ask := func(path string) (status int, closes bool) {
		t.Helper()
		res, err := c.Get("http://" + l.Addr().String() + path)
		if err != nil {
			t.Fatalf("GET %s: %v", path, err)
		}
		if _, err := io.Copy(io.Discard, res.Body); err != nil || res.Body.Close() != nil {
			t.Fatalf("GET %s: the answer was cut off: %v", path, err)
		}
		return res.StatusCode, res.Close
	}
	if status, closes := ask("/"); status != http.StatusOK || closes {
		t.Errorf("before: status %d, connection closed %v; want 200, false", status, closes)
	}
	begun := time.Now()
	cancel()
	for status := http.StatusOK; status == http.StatusOK && time.Since(begun) < drain/2; {
		status, _ = ask("/readyz")
	}
	if status, closes := ask("/readyz"); status != http.StatusServiceUnavailable || !closes {
		t.Errorf("readyz while draining: status %d, connection closed %v; want 503, true", status, closes)
	}
	if status, closes := ask("/"); status != http.StatusOK || !closes {
		t.Errorf("while draining: status %d, connection closed %v; want 200, true", status, closes)
	}
	if err := <-ended; err != nil {
		t.Errorf("ended with %v, want an orderly end", err)
	}
	if took := (<-workEnded).Sub(begun); took < drain {
		t.Errorf("the work ended after %s, want %s at least", took, drain)
	}
}

// A program whose work has failed doesn't drain: it couldn't do what it is asked for.
func TestServeEndsWhenTheWorkFails(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	broken := errors.New("broken")
	begun := time.Now()
	err = serve(t.Context(), l, http.NotFoundHandler(), time.Hour, func(context.Context) error { return broken })
	if !errors.Is(err, broken) {
		t.Errorf("ended with %v, want the work's error", err)
	}
	if took := time.Since(begun); took > 10*time.Second {
		t.Errorf("ending took %s", took)
	}
}

func TestLoadTakesSettingsFromTheEnvironment(t *testing.T) {
	t.Setenv("DATABASE_URL", "postgres://somewhere")
	t.Setenv("FAULT_SLOW", "orders.order_placed=3s")
	t.Setenv("FAULT_PANIC", "payments.authorize_payment=8,orders.order_placed=1")
	t.Setenv("FAULT_SQL", "inventory.reserve_stock=2")
	t.Setenv("ADDR", "127.0.0.1:1234")
	cfg, _, err := Load[Config]()
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Addr != "127.0.0.1:1234" || cfg.Slow["orders.order_placed"] != 3*time.Second || cfg.Pool != 16 {
		t.Errorf("settings: got %+v", cfg)
	}
	if cfg.Panics["payments.authorize_payment"] != 8 || cfg.Panics["orders.order_placed"] != 1 || cfg.SQLErrors["inventory.reserve_stock"] != 2 {
		t.Errorf("faults: got panics %v and SQL errors %v", cfg.Panics, cfg.SQLErrors)
	}
	t.Setenv("DATABASE_POOL", "0")
	t.Setenv("DATABASE_URL", "postgres://somewhere")
	if _, _, err := Load[Config](); err == nil {
		t.Error("a pool of 0: got no error")
	}
}
