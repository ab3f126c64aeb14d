package httpapi_test

import (
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"example.com/orderflow/messaging/httpapi"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// order is a body with a bit of everything.
type order struct {
	Currency     string   `json:"currency" validate:"required,currency"`
	Lines        []line   `json:"lines" validate:"required,min=1,max=100,unique=SKU,dive"`
	Customer     customer `json:"customer" validate:"required"`
	PaymentToken string   `json:"payment_token" validate:"required,max=255"`
	AllowPartial bool     `json:"allow_partial"`
	Priority     *string  `json:"priority" validate:"omitempty,oneof=express standard bulk"`
	Note         string   `json:"note" validate:"max=500"`
}

type line struct {
	SKU      string `json:"sku" validate:"required,sku"`
	Quantity int    `json:"quantity" validate:"required,min=1,max=1000"`
}

type customer struct {
	Name  string `json:"name" validate:"required,max=200"`
	Email string `json:"email" validate:"required,email,max=254"`
}

const goodOrder = `{"currency":"EUR","lines":[{"sku":"MUG-01","quantity":2}],` +
	`"customer":{"name":"Ada Lovelace","email":"ada@example.com"},"payment_token":"tok_ok"}`

// discard is where logs go that no test reads.
var discard = slog.New(slog.DiscardHandler)

// decoding is a Mux that decodes an order and answers with it.
func decoding() *httpapi.Mux {
	mux := httpapi.NewMux(discard)
	mux.Handle("POST /v1/orders", func(w http.ResponseWriter, r *http.Request) error {
		body, err := httpapi.Decode[order](w, r)
		if err != nil {
			return err
		}
		return httpapi.WriteJSON(w, http.StatusAccepted, body)
	})
	return mux
}

// post sends a body as JSON; header fields come in pairs and replace the default.
func post(t *testing.T, h http.Handler, body string, header ...string) *http.Response {
	t.Helper()
	r := httptest.NewRequest(http.MethodPost, "/v1/orders", strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	return send(h, r, header...)
}

func send(h http.Handler, r *http.Request, header ...string) *http.Response {
	for i := 0; i < len(header); i += 2 {
		r.Header.Del(header[i])
	}
	for i := 0; i < len(header); i += 2 {
		if header[i+1] != "" {
			r.Header.Add(header[i], header[i+1])
		}
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

// problem reads an answer that must be the problem status, code.
func problem(t *testing.T, res *http.Response, status int, code string) httpapi.Problem {
	t.Helper()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatalf("read the answer: %v", err)
	}
	var p httpapi.Problem
	if err := json.Unmarshal(body, &p); err != nil {
		t.Fatalf("got an answer that is no JSON: %v\n%s", err, body)
	}
	if res.StatusCode != status || p.Status != status || p.Code() != code {
		t.Fatalf("got %d with body %s, want %d %s", res.StatusCode, body, status, code)
	}
	if got := res.Header.Get("Content-Type"); got != "application/problem+json" {
		t.Errorf("got Content-Type %q, want application/problem+json", got)
	}
	if p.Title == "" || p.Instance != "urn:orderflow:request:"+res.Header.Get("X-Request-Id") {
		t.Errorf("got title %q and instance %q for request %q", p.Title, p.Instance, res.Header.Get("X-Request-Id"))
	}
	return p
}

// codes is "pointer code" of each error.
func codes(p httpapi.Problem) []string {
	var all []string
	for _, e := range p.Errors {
		all = append(all, e.Pointer+" "+e.Code)
	}
	return all
}

func bodyOf(t *testing.T, res *http.Response) string {
	t.Helper()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatalf("read the answer: %v", err)
	}
	return string(body)
}
