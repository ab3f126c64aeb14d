package boot

import (
	"context"
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
	go func() { ended <- Serve(ctx, l, h) }()
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
