package httpapi_test

import (
	"context"
	"database/sql"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"example.com/orderflow/messaging/httpapi"
)

// What a handler asks hangs: its client hears of it within 5 s, or, when it prefers
// to wait, so much later.
func TestMuxLimitsRequests(t *testing.T) {
	t.Parallel()
	hang := func(ctx context.Context) error {
		<-ctx.Done()
		return context.Cause(ctx)
	}
	for name, tt := range map[string]struct {
		limit time.Duration // 0 = none set
		h     func(http.ResponseWriter, *http.Request) error
		want  time.Duration
	}{
		"a request": {0, func(_ http.ResponseWriter, r *http.Request) error { return hang(r.Context()) }, 4 * time.Second},
		"one that says otherwise why": {0, func(_ http.ResponseWriter, r *http.Request) error {
			_ = hang(r.Context())
			return sql.ErrTxDone
		}, 4 * time.Second},
		"one that waits": {0, func(_ http.ResponseWriter, r *http.Request) error {
			ctx, cancel := httpapi.Waiting(r, 10*time.Second)
			defer cancel()
			return hang(ctx)
		}, 14 * time.Second},
		"another limit": {time.Minute, func(_ http.ResponseWriter, r *http.Request) error { return hang(r.Context()) }, time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				mux := answering(discard, tt.h)
				if tt.limit != 0 {
					mux.Limit(tt.limit)
				}
				started := time.Now()
				res := get(mux, oneOrder)
				problem(t, res, http.StatusServiceUnavailable, "unavailable")
				if got := time.Since(started); got != tt.want || res.Header.Get("Retry-After") == "" {
					t.Errorf("got an answer after %s with Retry-After %q, want one after %s with one", got, res.Header.Get("Retry-After"), tt.want)
				}
			})
		})
	}
}
