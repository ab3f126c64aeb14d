package httpapi_test

import (
	"bytes"
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"example.com/orderflow/messaging"
	"example.com/orderflow/messaging/httpapi"
)

// answering is a Mux whose one route answers as h does.
func answering(log *slog.Logger, h func(http.ResponseWriter, *http.Request) error) *httpapi.Mux {
	mux := httpapi.NewMux(log)
	mux.Handle("GET /v1/orders/{id}", h)
	mux.Handle("POST /v1/orders/{id}/cancel", h)
	return mux
}

func ok(w http.ResponseWriter, _ *http.Request) error {
	return httpapi.WriteJSON(w, http.StatusOK, map[string]string{"status": "<ok>"})
}

const oneOrder = "/v1/orders/0190a1b2-0000-7000-8000-000000000000"

func get(h http.Handler, target string, header ...string) *http.Response {
	return send(h, httptest.NewRequest(http.MethodGet, target, nil), header...)
}

// A request for another service is none of ours, whatever it asks for.
func TestMisdirectedRequest(t *testing.T) {
	t.Parallel()
	mux := answering(discard, ok)
	mux.Service("orders")
	for to, want := range map[string]int{"": 200, "orders": 200, "payments": 421} {
		if res := get(mux, oneOrder, httpapi.ServiceHeader, to); res.StatusCode != want {
			t.Errorf("for %q: status %d, want %d", to, res.StatusCode, want)
		}
	}
	if res := get(mux, "/v1/nothing", httpapi.ServiceHeader, "payments"); res.StatusCode != http.StatusMisdirectedRequest {
		t.Errorf("for another, and not there: status %d, want 421", res.StatusCode)
	}
	if res := get(answering(discard, ok), oneOrder, httpapi.ServiceHeader, "payments"); res.StatusCode != http.StatusOK {
		t.Errorf("a mux without a name: status %d, want 200", res.StatusCode)
	}
}

func TestMuxRoutes(t *testing.T) {
	t.Parallel()
	mux := answering(discard, ok)
	for name, c := range map[string]struct {
		method, target string
		status         int
		code, allow    string
	}{
		"known":               {"GET", oneOrder, 200, "", ""},
		"HEAD of a GET":       {"HEAD", oneOrder, 200, "", ""},
		"unknown path":        {"GET", "/v1/nothing", 404, "not-found", ""},
		"root":                {"GET", "/", 404, "not-found", ""},
		"wrong method":        {"DELETE", oneOrder, 405, "method-not-allowed", "GET, HEAD"},
		"GET of a POST":       {"GET", oneOrder + "/cancel", 405, "method-not-allowed", "POST"},
		"OPTIONS":             {"OPTIONS", oneOrder, 405, "method-not-allowed", "GET, HEAD"},
		"invented method":     {"BREW", oneOrder, 405, "method-not-allowed", "GET, HEAD"},
		"trailing slash":      {"GET", oneOrder + "/", 404, "not-found", ""},
		"double slash":        {"GET", "//v1/orders/x", 404, "not-found", ""},
		"dots":                {"GET", "/v1/x/../orders/x", 404, "not-found", ""},
		"NUL in the path":     {"GET", "/v1/orders/a%00b", 404, "not-found", ""},
		"no UTF-8 in it":      {"GET", "/v1/orders/%ff", 404, "not-found", ""},
		"bidi in the path":    {"GET", "/v1/orders/%E2%80%AE", 404, "not-found", ""},
		"NUL in the query":    {"GET", oneOrder + "?a=%00", 400, "invalid-parameter", ""},
		"NUL in its name":     {"GET", oneOrder + "?%00=a", 400, "invalid-parameter", ""},
		"query not UTF-8":     {"GET", oneOrder + "?a=%ff", 400, "invalid-parameter", ""},
		"query broken":        {"GET", oneOrder + "?a=%zz", 400, "invalid-parameter", ""},
		"query semicolon":     {"GET", oneOrder + "?a=1;b=2", 400, "invalid-parameter", ""},
		"wrong method, NUL":   {"DELETE", "/v1/orders/a%00b", 404, "not-found", ""},
		"an absolute request": {"GET", "http://other.example" + oneOrder, 200, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			res := send(mux, httptest.NewRequest(c.method, c.target, nil))
			if c.code != "" {
				problem(t, res, c.status, c.code)
			} else if res.StatusCode != c.status {
				t.Errorf("got %d, want %d", res.StatusCode, c.status)
			}
			if got := res.Header.Get("Allow"); got != c.allow {
				t.Errorf("got Allow %q, want %q", got, c.allow)
			}
			if res.Header.Get("X-Content-Type-Options") != "nosniff" || res.Header.Get("Cache-Control") != "no-store" {
				t.Errorf("got headers %v, want nosniff and no-store", res.Header)
			}
		})
	}
}

// What isn't there, can't be there, or is somebody else's looks the same.
func TestNotFoundIsOneAnswer(t *testing.T) {
	t.Parallel()
	mux := httpapi.NewMux(discard)
	mux.Handle("GET /v1/orders/{id}", func(w http.ResponseWriter, r *http.Request) error {
		if _, err := httpapi.Path(r, "id", "uuid"); err != nil {
			return err
		}
		return fmt.Errorf("read the order: %w", httpapi.NotFound())
	})
	want := bodyOf(t, get(mux, oneOrder, "X-Request-Id", "r"))
	for _, target := range []string{
		"/v1/nothing", "/v1/orders/x", "/v1/orders/..%2f..%2fetc", "/v1/orders/%00",
		"/v1/orders/0190A1B2-0000-7000-8000-000000000000",
		"/v1/orders/{0190a1b2-0000-7000-8000-000000000000}", "/v1/orders/0190a1b2000070008000000000000000",
	} {
		if got := bodyOf(t, get(mux, target, "X-Request-Id", "r")); got != want {
			t.Errorf("%s: got %s, want %s", target, got, want)
		}
	}
}

func TestMuxRequestID(t *testing.T) {
	t.Parallel()
	var seen, correlation string
	mux := httpapi.NewMux(discard)
	mux.Handle("GET /", func(w http.ResponseWriter, r *http.Request) error {
		seen, correlation = httpapi.RequestID(r.Context()), messaging.Correlation(r.Context())
		return ok(w, r)
	})
	for name, c := range map[string]struct {
		header []string
		kept   bool
	}{
		"none":          {nil, false},
		"good":          {[]string{"X-Request-Id", "req-1/a:b"}, true},
		"64 characters": {[]string{"X-Request-Id", strings.Repeat("x", 64)}, true},
		"65 characters": {[]string{"X-Request-Id", strings.Repeat("x", 65)}, false},
		"blanks":        {[]string{"X-Request-Id", "a b"}, false},
		"not ASCII":     {[]string{"X-Request-Id", "é"}, false},
		"twice":         {[]string{"X-Request-Id", "a", "X-Request-Id", "b"}, false},
		"a card":        {[]string{"X-Request-Id", "4111111111111111"}, false},
	} {
		got := get(mux, "/", c.header...).Header.Get("X-Request-Id")
		if got != seen || got != correlation {
			t.Errorf("%s: got %q in the answer, %q in the request, %q as correlation: want one", name, got, seen, correlation)
		}
		if c.kept && got != c.header[1] {
			t.Errorf("%s: got %q, want %q", name, got, c.header[1])
		}
		if id, err := uuid.Parse(got); !c.kept && (err != nil || id.Version() != 7) {
			t.Errorf("%s: got %q, want a UUID v7", name, got)
		}
	}
}

// refusing is the URL of a server that refuses a session, with an SQLSTATE.
func refusing(t *testing.T, state string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var served sync.WaitGroup
	served.Go(func() {
		conn, err := l.Accept()
		if err != nil {
			t.Errorf("nobody asked for a session: %v", err)
			return
		}
		server := pgproto3.NewBackend(conn, conn)
		_, err = server.ReceiveStartupMessage()
		server.Send(&pgproto3.ErrorResponse{Severity: "FATAL", Code: state, Message: "secret"})
		if err := errors.Join(err, server.Flush(), conn.Close()); err != nil {
			t.Errorf("refuse a session: %v", err)
		}
	})
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		served.Wait()
	})
	return "postgres://u@" + l.Addr().String() + "/d?sslmode=disable&connect_timeout=2"
}

func TestMuxErrors(t *testing.T) {
	t.Parallel()
	_, refused := pgconn.Connect(t.Context(), "postgres://u@127.0.0.1:1/d?sslmode=disable&connect_timeout=2")
	if refused == nil {
		t.Fatal("connected to port 1")
	}
	_, full := pgconn.Connect(t.Context(), refusing(t, "XX000"))
	if full == nil {
		t.Fatal("connected to a server that refuses")
	}
	state := func(code string) error { return &pgconn.PgError{Code: code, Message: "secret"} }
	for name, c := range map[string]struct {
		err    error
		status int
		code   string
	}{
		"a problem":              {httpapi.NewProblem(409, "illegal-state", "no"), 409, "illegal-state"},
		"a problem, wrapped":     {fmt.Errorf("cancel: %w", httpapi.NewProblem(409, "illegal-state", "no")), 409, "illegal-state"},
		"no database":            {refused, 503, "unavailable"},
		"no session":             {full, 503, "unavailable"},
		"a time-out":             {fmt.Errorf("secret: %w", context.DeadlineExceeded), 503, "unavailable"},
		"a lost connection":      {io.ErrUnexpectedEOF, 503, "unavailable"},
		"a bad connection":       {driver.ErrBadConn, 503, "unavailable"},
		"too many connections":   {state("53300"), 503, "unavailable"},
		"shutdown":               {state("57P01"), 503, "unavailable"},
		"statement time-out":     {state("57014"), 503, "unavailable"},
		"serialization failure":  {state("40001"), 503, "unavailable"},
		"a violated constraint":  {state("23505"), 500, "internal"},
		"an error of ours":       {errors.New("secret"), 500, "internal"},
		"an error, many wrapped": {errors.Join(errors.New("secret"), errors.New("b")), 500, "internal"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var logged bytes.Buffer
			log := slog.New(slog.NewJSONHandler(&logged, nil))
			res := get(answering(log, func(http.ResponseWriter, *http.Request) error { return c.err }), oneOrder)
			p := problem(t, res, c.status, c.code)
			if strings.Contains(fmt.Sprint(p), "secret") {
				t.Errorf("got %+v: it shows the cause", p)
			}
			if retry := res.Header.Get("Retry-After"); (retry != "") != (c.status == 503) {
				t.Errorf("got Retry-After %q with %d", retry, c.status)
			}
			if (logged.Len() > 0) != (c.status >= 500) {
				t.Errorf("got log %q with %d", logged.String(), c.status)
			}
			if id := res.Header.Get("X-Request-Id"); c.status >= 500 && !strings.Contains(logged.String(), id) {
				t.Errorf("got log %s, want it to name %s", logged.String(), id)
			}
		})
	}
}

func TestMuxPanics(t *testing.T) {
	t.Parallel()
	var logged bytes.Buffer
	log := slog.New(slog.NewJSONHandler(&logged, nil))
	p := problem(t, get(answering(log, func(http.ResponseWriter, *http.Request) error { panic("secret") }), oneOrder), 500, "internal")
	if strings.Contains(fmt.Sprint(p), "secret") {
		t.Errorf("got %+v: it shows the panic", p)
	}
	if !strings.Contains(logged.String(), "handler panicked") || !strings.Contains(logged.String(), "mux_test.go") {
		t.Errorf("got log %s, want the panic and its stack", logged.String())
	}
}

func TestMuxPanicAfterAnAnswerCutsTheConnection(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(answering(discard, func(w http.ResponseWriter, r *http.Request) error {
		if err := ok(w, r); err != nil {
			return err
		}
		if err := http.NewResponseController(w).Flush(); err != nil {
			return err
		}
		panic("late")
	}))
	defer server.Close()
	res, err := server.Client().Get(server.URL + oneOrder)
	if err != nil {
		t.Fatalf("get: %v", err)
	}
	defer res.Body.Close()
	if body, err := io.ReadAll(res.Body); err == nil {
		t.Errorf("got the whole answer %q, want it cut", body)
	}
}

// An error after the answer leaves the answer as it is.
func TestMuxErrorAfterAnAnswer(t *testing.T) {
	t.Parallel()
	res := get(answering(discard, func(w http.ResponseWriter, r *http.Request) error {
		return errors.Join(ok(w, r), errors.New("late"))
	}), oneOrder)
	if got, want := bodyOf(t, res), `{"status":"\u003cok\u003e"}`+"\n"; res.StatusCode != 200 || got != want {
		t.Errorf("got %d %q, want 200 %q", res.StatusCode, got, want)
	}
}

func TestWriteJSONOfWhatCannotBeEncoded(t *testing.T) {
	t.Parallel()
	res := get(answering(discard, func(w http.ResponseWriter, _ *http.Request) error {
		return httpapi.WriteJSON(w, http.StatusOK, map[string]any{"f": func() {}})
	}), oneOrder)
	problem(t, res, http.StatusInternalServerError, "internal")
}

func TestProblemHeadersAndErrors(t *testing.T) {
	t.Parallel()
	res := get(answering(discard, func(http.ResponseWriter, *http.Request) error {
		return httpapi.NewProblem(422, "duplicate-sku", "a SKU stands in two lines").
			WithHeader("link", "</docs>").WithError("/lines/1/sku", "duplicate-sku", "stands in line 1 too")
	}), oneOrder)
	p := problem(t, res, 422, "duplicate-sku")
	if p.Type != "https://orderflow.example/problems/duplicate-sku" || p.Title != "Duplicate sku" ||
		len(p.Errors) != 1 || p.Errors[0].Pointer != "/lines/1/sku" || res.Header.Get("Link") != "</docs>" {
		t.Errorf("got %+v with headers %v", p, res.Header)
	}
}

func TestMuxLogsNoValues(t *testing.T) {
	t.Parallel()
	var logged bytes.Buffer
	log := slog.New(slog.NewJSONHandler(&logged, &slog.HandlerOptions{Level: slog.LevelDebug}))
	get(answering(log, ok), "/v1/orders/secret?token=secret", "X-Customer-Id", "secret")
	if got := logged.String(); strings.Contains(got, "secret") || !strings.Contains(got, `"pattern":"GET /v1/orders/{id}","status":200`) {
		t.Errorf("got log %s, want pattern and status, no values", got)
	}
}
