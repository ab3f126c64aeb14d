package payments

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"
)

// startStripeMock runs Stripe's own stand-in for its API, which checks requests against
// the OpenAPI document of the API and answers with fixtures, until the test ends. It
// returns its URL. The program is a tool of the module in testdata/stripemock.
func startStripeMock(t *testing.T) *url.URL {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute) // to build it the first time
	defer cancel()
	find := exec.CommandContext(ctx, "go", "tool", "-n", "stripe-mock")
	find.Dir = "testdata/stripemock"
	var complaint bytes.Buffer
	find.Stderr = &complaint
	path, err := find.Output()
	if err != nil {
		t.Fatalf("build stripe-mock: %v: %s", err, complaint.String())
	}
	mock := exec.Command(strings.TrimSpace(string(path)), "-http-addr", "127.0.0.1:0")
	out, err := mock.StdoutPipe()
	if err != nil {
		t.Fatalf("read from stripe-mock: %v", err)
	}
	if err := mock.Start(); err != nil {
		t.Fatalf("start stripe-mock: %v", err)
	}
	t.Cleanup(func() {
		if err := mock.Process.Kill(); err != nil {
			t.Errorf("stop stripe-mock: %v", err)
		}
		if err := mock.Wait(); err == nil {
			t.Error("stripe-mock ended by itself")
		}
	})
	found := make(chan string, 1)
	go func() {
		defer close(found)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if _, at, ok := strings.Cut(lines.Text(), "HTTP at address: "); ok {
				found <- at
			}
		}
	}()
	select {
	case at, ok := <-found:
		if !ok {
			t.Fatal("stripe-mock ended before it listened")
		}
		return &url.URL{Scheme: "http", Host: at}
	case <-time.After(time.Minute):
		t.Fatal("stripe-mock does not listen")
	}
	return nil
}

// wantRefused shows that stripe-mock does refuse what the API doesn't have.
func wantRefused(t *testing.T, mock *url.URL) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, mock.String()+"/v1/payment_intents", strings.NewReader("amount=1250&currency=eur&capture=later"))
	if err != nil {
		t.Fatalf("make the request: %v", err)
	}
	req.Header.Set("Authorization", "Bearer "+stripeTestKey)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatalf("ask stripe-mock: %v", err)
	}
	if err := res.Body.Close(); err != nil {
		t.Errorf("close the answer: %v", err)
	}
	if res.StatusCode != http.StatusBadRequest {
		t.Errorf("got %d, want 400", res.StatusCode)
	}
}

// TestStripeMockAcceptsEveryRequest: the answers of stripe-mock are fixtures, which fit no
// request, so only whether it took each request counts.
func TestStripeMockAcceptsEveryRequest(t *testing.T) {
	t.Parallel()
	mock := startStripeMock(t)
	var mu sync.Mutex
	got := map[string]int{} // "<method> <path>" -> how often it was accepted
	wantRefused(t, mock)
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(mock) },
		ModifyResponse: func(res *http.Response) error {
			body, err := io.ReadAll(res.Body)
			if err != nil {
				return fmt.Errorf("read the answer: %w", err)
			}
			res.Body = io.NopCloser(bytes.NewReader(body))
			what := res.Request.Method + " " + res.Request.URL.Path
			mu.Lock()
			defer mu.Unlock()
			got[what]++
			if res.StatusCode != http.StatusOK {
				t.Errorf("%s: got %d %s, want it accepted", what, res.StatusCode, body)
			}
			return nil
		},
	}
	server := httptest.NewServer(proxy)
	t.Cleanup(server.Close)
	s := newTestStripe(t, server.URL, 30*time.Second)

	ctx := t.Context()
	from := time.Now().Add(-time.Hour)
	calls := []func() error{
		func() error { _, err := s.Authorize(ctx, stripeRequest); return err },
		func() error {
			r := stripeRequest
			r.MethodToken = "ctoken_1"
			_, err := s.Authorize(ctx, r)
			return err
		},
		func() error { _, err := s.Capture(ctx, captureAtPi); return err },
		func() error { _, err := s.Void(ctx, voidAtPi); return err },
		func() error { _, err := s.Refund(ctx, refundAtPi); return err },
		func() error {
			_, err := s.FindAuthorization(ctx, AuthorizationQuery{Ref: "pi_1", Key: "k1"})
			return err
		},
		func() error {
			_, err := s.FindAuthorization(ctx, AuthorizationQuery{Key: "k1", AskedAt: from})
			return err
		},
		func() error { _, err := s.FindRefund(ctx, RefundQuery{Ref: "pi_1", Key: "k1"}); return err },
		func() error {
			_, _, err := s.ListMovements(ctx, MovementQuery{From: from, Until: from.Add(stripeSlice)})
			return err
		},
	}
	for i, call := range calls {
		if err := call(); classOf(err) != "done" && classOf(err) != "unknown" {
			t.Errorf("call %d: got %v, want its request accepted", i, err)
		}
	}
	watched, seen := watch(ctx)
	intent, err := s.client.V1PaymentIntents.Retrieve(watched, "pi_1", nil)
	if err != nil {
		t.Fatalf("read an intent: %v", seen.failure(err))
	}
	if err := s.abandon(ctx, intent); classOf(err) != "done" && classOf(err) != "unknown" {
		t.Errorf("abandon: got %v, want its request accepted", err)
	}
	mu.Lock()
	defer mu.Unlock()
	for _, what := range []string{
		"POST /v1/payment_intents", "POST /v1/payment_intents/pi_1/capture", "POST /v1/payment_intents/pi_1/cancel", "POST /v1/refunds",
		"GET /v1/payment_intents/pi_1", "GET /v1/payment_intents", "GET /v1/refunds", "GET /v1/events",
	} {
		if got[what] == 0 {
			t.Errorf("%s: was never sent (of %v)", what, got)
		}
	}
}
