package httpapi_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"example.com/orderflow/messaging/httpapi"
)

// serve runs a server for the decoding Mux, changed by change, until the test ends.
func serve(t *testing.T, change func(*http.Server)) (addr string) {
	t.Helper()
	server := httpapi.NewServer("127.0.0.1:0", decoding())
	if change != nil {
		change(server)
	}
	l, err := net.Listen("tcp", server.Addr)
	if err != nil {
		t.Fatalf("listen: %v", err)
	}
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := server.Shutdown(ctx); err != nil {
			t.Errorf("shut down: %v", err)
		}
		if err := <-done; err != http.ErrServerClosed {
			t.Errorf("serve: %v", err)
		}
	})
	return l.Addr().String()
}

// exchange sends raw bytes and returns the answer, nil when the server cut the
// connection without one.
func exchange(t *testing.T, addr, raw string) *http.Response {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatalf("dial: %v", err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatalf("set a deadline: %v", err)
	}
	if _, err := io.WriteString(conn, raw); err != nil {
		t.Fatalf("send: %v", err)
	}
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return nil
	}
	if err != nil {
		t.Fatalf("read the answer: %v", err)
	}
	return res
}

const head = "POST /v1/orders HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"

func TestServerLimits(t *testing.T) {
	t.Parallel()
	s := httpapi.NewServer(":0", nil)
	if s.ReadHeaderTimeout != 5*time.Second || s.ReadTimeout != 15*time.Second || s.WriteTimeout != 90*time.Second ||
		s.IdleTimeout != time.Minute || s.MaxHeaderBytes != 16<<10 {
		t.Errorf("got %+v", s)
	}
}

func TestServerCutsSlowClients(t *testing.T) {
	t.Parallel()
	addr := serve(t, func(s *http.Server) {
		s.ReadHeaderTimeout, s.ReadTimeout = 100*time.Millisecond, 200*time.Millisecond
	})
	t.Run("slow headers", func(t *testing.T) {
		t.Parallel()
		if res := exchange(t, addr, "POST /v1/orders HTTP/1.1\r\nHost:"); res != nil && res.StatusCode != http.StatusRequestTimeout {
			t.Errorf("got %d, want the connection cut", res.StatusCode)
		}
	})
	t.Run("slow body", func(t *testing.T) {
		t.Parallel()
		res := exchange(t, addr, head+"Content-Length: 1000\r\n\r\n{")
		if res == nil {
			t.Fatal("got no answer, want 408")
		}
		problem(t, res, http.StatusRequestTimeout, "request-timeout")
	})
}

func TestServerBodies(t *testing.T) {
	t.Parallel()
	addr := serve(t, nil)
	chunk := fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(goodOrder), goodOrder)
	for name, c := range map[string]struct {
		raw    string
		status int
		code   string
	}{
		"chunked":      {"Transfer-Encoding: chunked\r\n\r\n" + chunk, 202, ""},
		"broken chunk": {"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n", 400, "malformed-json"},
	} {
		res := exchange(t, addr, head+c.raw)
		if c.code == "" && (res == nil || res.StatusCode != c.status) {
			t.Errorf("%s: got %+v, want %d", name, res, c.status)
		}
		if c.code != "" {
			problem(t, res, c.status, c.code)
		}
	}
}

// A client that sends 10 MB in chunks gets its answer and not a reset.
func TestServerAnswersALongChunkedBody(t *testing.T) {
	t.Parallel()
	addr := serve(t, nil)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 10 * time.Second}
	r, err := http.NewRequest(http.MethodPost, "http://"+addr+"/v1/orders", io.LimitReader(blanks{}, 10<<20))
	if err != nil {
		t.Fatalf("make a request: %v", err)
	}
	r.Header.Set("Content-Type", "application/json")
	res, err := client.Do(r)
	if err != nil {
		t.Fatalf("post: %v", err)
	}
	defer res.Body.Close()
	problem(t, res, http.StatusRequestEntityTooLarge, "body-too-large")
}

// blanks is an endless text of blanks.
type blanks struct{}

func (blanks) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = ' '
	}
	return len(b), nil
}
