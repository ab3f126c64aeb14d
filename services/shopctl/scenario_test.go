package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestScenarioCommand(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	shop := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/readyz" {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	t.Cleanup(shop.Close)
	for _, tt := range []struct {
		name, args, out, err string
	}{
		{"list", "list", "never-paid *", ""},
		{"no such story", "nowhere", "", `no story is called "nowhere"; there are: delivered,`},
		{"a story that fails", "delivered", "failed: Ada orders 2 MUG-01 and 1 TEA-01, paid by tok_ok: want 202 for POST /v1/orders, got 503", "1 of 1 stories failed"},
		{"as JSON", "delivered --json", `"outcome": "failed"`, "1 of 1 stories failed"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			args := append([]string{"scenario"}, strings.Fields(tt.args)...)
			out, _, err := shopctl(t, db, "", append(args, "--addr", shop.URL)...)
			if !strings.Contains(out, tt.out) {
				t.Errorf("printed\n%s\nwant %q in it", out, tt.out)
			}
			if (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Errorf("error %v, want %q in it", err, tt.err)
			}
		})
	}
}
