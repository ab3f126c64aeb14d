package paysim_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"example.com/orderflow/messaging/httpapi"
	"example.com/orderflow/messaging/messagingtest"
	"example.com/orderflow/services/internal/paysim"
)

func TestMain(m *testing.M) { messagingtest.Main(m) }

const (
	apiKey        = "key-of-the-tests"
	webhookSecret = "whsec_c2VjcmV0LW9mLXRoZS10ZXN0cw=="
)

// serve runs the provider on db until t ends and returns its URL.
func serve(t *testing.T, db *messagingtest.DB, options ...func(*paysim.Config)) string {
	t.Helper()
	mux := httpapi.NewMux(messagingtest.Log(t))
	cfg := paysim.Config{APIKey: apiKey, Slow: 50 * time.Millisecond, Hang: 20 * time.Second, WebhookSecret: webhookSecret, WebhookPoll: 10 * time.Millisecond}
	for _, o := range options {
		o(&cfg)
	}
	provider, err := paysim.New(cfg, db.Service("paysim"), messagingtest.Log(t))
	if err != nil {
		t.Fatalf("make the provider: %v", err)
	}
	provider.Routes(mux)
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- provider.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run the provider: %v", err)
		}
	})
	return server.URL
}

func TestTokensSelectTheAnswer(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		token        string
		status       int
		says, reason string
	}{
		{"tok_ok", 201, "authorized", "<nil>"},
		{"tok_slow", 201, "authorized", "<nil>"},
		{"tok_declined", 402, "declined", "card_declined"},
		{"tok_insufficient_funds", 402, "declined", "insufficient_funds"},
	} {
		t.Run(tc.token, func(t *testing.T) {
			t.Parallel()
			c, _ := newCaller(t)
			first := c.authorize("k1", tc.token)
			if first.status != tc.status || first.field(t, "status") != tc.says || first.field(t, "code") != tc.reason {
				t.Fatalf("first call: got %d %s, want %d %s %s", first.status, first.body, tc.status, tc.says, tc.reason)
			}
			again := c.authorize("k1", tc.token)
			if again.status != first.status || again.body != first.body || !again.replayed {
				t.Errorf("second call: got %+v, want %+v replayed", again, first)
			}
			status := "succeeded"
			if tc.status == 402 {
				status = "declined"
			}
			c.wantBooks(row("k1", "authorize", status, 1250))

			found := c.do("GET", "/authorizations?key=k1", "", nil)
			if found.status != 200 || found.field(t, "status") != tc.says || found.field(t, "id") != first.field(t, "id") {
				t.Errorf("look-up: got %d %s, want 200 with the authorization", found.status, found.body)
			}
		})
	}
}

func TestErrorOnceHasNoEffectTheFirstTime(t *testing.T) {
	t.Parallel()
	c, _ := newCaller(t)
	if r := c.authorize("k1", "tok_error_once"); r.status != 500 {
		t.Fatalf("first call: got %d %s, want 500", r.status, r.body)
	}
	c.wantBooks()
	if r := c.do("GET", "/authorizations?key=k1", "", nil); r.status != 404 {
		t.Errorf("look-up after the failure: got %d, want 404", r.status)
	}
	for range 2 {
		if r := c.authorize("k1", "tok_error_once"); r.status != 201 {
			t.Fatalf("later call: got %d %s, want 201", r.status, r.body)
		}
	}
	c.wantBooks(row("k1", "authorize", "succeeded", 1250))
}

func TestCaptureAndVoidEndAnAuthorizationOnce(t *testing.T) {
	t.Parallel()
	amount := func(n int64) map[string]int64 { return map[string]int64{"amount_minor": n} }
	t.Run("part is captured, once", func(t *testing.T) {
		t.Parallel()
		c, _ := newCaller(t)
		id := c.authorized("k1")
		if r := c.do("POST", "/authorizations/"+id+"/capture", "c0", amount(1251)); r.status != 422 {
			t.Errorf("more than authorized: got %d %s, want 422", r.status, r.body)
		}
		first := c.do("POST", "/authorizations/"+id+"/capture", "c1", amount(1000))
		if first.status != 200 || first.field(t, "status") != "captured" || first.field(t, "captured_minor") != "1000" {
			t.Fatalf("capture: got %d %s, want 200 captured 1000", first.status, first.body)
		}
		again := c.do("POST", "/authorizations/"+id+"/capture", "c1", amount(1000))
		if again.status != 200 || again.body != first.body || !again.replayed {
			t.Errorf("repeated capture: got %+v, want %+v replayed", again, first)
		}
		if r := c.do("POST", "/authorizations/"+id+"/capture", "c1", amount(999)); r.status != 422 {
			t.Errorf("same key, other amount: got %d %s, want 422", r.status, r.body)
		}
		if r := c.do("POST", "/authorizations/"+id+"/capture", "c2", amount(250)); r.status != 409 {
			t.Errorf("second capture: got %d %s, want 409", r.status, r.body)
		}
		if r := c.do("POST", "/authorizations/"+id+"/void", "v1", nil); r.status != 409 {
			t.Errorf("void after capture: got %d %s, want 409", r.status, r.body)
		}
		c.wantBooks(row("k1", "authorize", "succeeded", 1250), row("c1", "capture", "succeeded", 1000))
	})
	t.Run("voided, once", func(t *testing.T) {
		t.Parallel()
		c, _ := newCaller(t)
		id := c.authorized("k1")
		first := c.do("POST", "/authorizations/"+id+"/void", "v1", nil)
		again := c.do("POST", "/authorizations/"+id+"/void", "v1", nil)
		if first.status != 200 || again.status != 200 || again.body != first.body || !again.replayed {
			t.Errorf("void twice: got %+v and %+v, want the same 200", first, again)
		}
		if r := c.do("POST", "/authorizations/"+id+"/capture", "c1", amount(1250)); r.status != 409 {
			t.Errorf("capture after void: got %d %s, want 409", r.status, r.body)
		}
		c.wantBooks(row("k1", "authorize", "succeeded", 1250), row("v1", "void", "succeeded", 1250))
	})
	t.Run("declined has nothing to end, and nothing is not found", func(t *testing.T) {
		t.Parallel()
		c, _ := newCaller(t)
		id := c.authorize("k1", "tok_declined").field(t, "id")
		if r := c.do("POST", "/authorizations/"+id+"/capture", "c1", amount(1250)); r.status != 409 {
			t.Errorf("capture of a declined one: got %d %s, want 409", r.status, r.body)
		}
		for _, id := range []string{"00000000-0000-7000-8000-000000000000", "x"} {
			if r := c.do("POST", "/authorizations/"+id+"/void", "v1", nil); r.status != 404 {
				t.Errorf("void of %s: got %d %s, want 404", id, r.status, r.body)
			}
		}
	})
}

func TestAKeyBelongsToOneRequest(t *testing.T) {
	t.Parallel()
	c, _ := newCaller(t)
	id := c.authorized("k1")
	other := asking("tok_ok")
	other.AmountMinor++
	if r := c.do("POST", "/authorizations", "k1", other); r.status != 422 {
		t.Errorf("other amount: got %d %s, want 422", r.status, r.body)
	}
	if r := c.authorize("k1", "tok_slow"); r.status != 422 {
		t.Errorf("other method: got %d %s, want 422", r.status, r.body)
	}
	if r := c.do("POST", "/authorizations/"+id+"/void", "k1", nil); r.status != 422 {
		t.Errorf("other operation: got %d %s, want 422", r.status, r.body)
	}
	c.wantBooks(row("k1", "authorize", "succeeded", 1250))
}

func TestParallelRequestsWithOneKeyHaveOneEffect(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, token string
		status      int
	}{
		{"authorized", "tok_ok", 201},
		{"authorized slowly", "tok_slow", 201},
		{"declined", "tok_declined", 402},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			c, _ := newCaller(t)
			replies := c.parallel(20, "POST", "/authorizations", "k1", asking(tc.token))
			wantSame(t, replies, tc.status)
			if got := c.books(""); len(got) != 1 {
				t.Errorf("books: got %v, want one row", got)
			}
		})
	}
	t.Run("captured", func(t *testing.T) {
		t.Parallel()
		c, _ := newCaller(t)
		id := c.authorized("k1")
		wantSame(t, c.parallel(20, "POST", "/authorizations/"+id+"/capture", "c1", map[string]int64{"amount_minor": 1250}), 200)
		c.wantBooks(row("k1", "authorize", "succeeded", 1250), row("c1", "capture", "succeeded", 1250))
	})
}

func TestBadRequestsHaveNoEffect(t *testing.T) {
	t.Parallel()
	c, db := newCaller(t)
	with := func(change func(*request)) request {
		r := asking("tok_ok")
		change(&r)
		return r
	}
	for _, tc := range []struct {
		name, method, path, bearer, key string
		body                            any
		status                          int
	}{
		{"no API key", "POST", "/authorizations", "", "k1", asking("tok_ok"), 401},
		{"wrong API key", "POST", "/authorizations", "other", "k1", asking("tok_ok"), 401},
		{"books without API key", "GET", "/books", "", "", nil, 401},
		{"no idempotency key", "POST", "/authorizations", apiKey, "", asking("tok_ok"), 400},
		{"unknown token", "POST", "/authorizations", apiKey, "k1", asking("tok_unheard_of"), 422},
		{"nothing to pay", "POST", "/authorizations", apiKey, "k1", with(func(r *request) { r.AmountMinor = 0 }), 422},
		{"no currency", "POST", "/authorizations", apiKey, "k1", with(func(r *request) { r.Currency = "eur" }), 422},
		{"no reference", "POST", "/authorizations", apiKey, "k1", with(func(r *request) { r.Reference = "" }), 422},
		{"look-up without key", "GET", "/authorizations", apiKey, "", nil, 400},
		{"look-up of an unknown key", "GET", "/authorizations?key=k1", apiKey, "", nil, 404},
		{"broken cursor", "GET", "/books?cursor=x", apiKey, "", nil, 400},
	} {
		r, err := c.try(tc.method, tc.path, tc.bearer, tc.key, tc.body)
		if err != nil || r.status != tc.status {
			t.Errorf("%s: got %d %s %v, want %d", tc.name, r.status, r.body, err, tc.status)
		}
	}
	c.wantBooks()
	var answers int
	if err := db.Admin.Get(&answers, `SELECT count(*) FROM paysim.answers`); err != nil || answers != 0 {
		t.Errorf("stored answers: got %d, %v, want none", answers, err)
	}
}

func TestBooksComeInPagesAndAreOnlyAddedTo(t *testing.T) {
	t.Parallel()
	c, db := newCaller(t)
	for i := range 5 {
		body := asking("tok_ok")
		if i%2 == 1 {
			body.Reference = "order-2"
		}
		c.do("POST", "/authorizations", fmt.Sprintf("k%d", i), body)
	}
	if got := c.books("limit=2"); len(got) != 5 {
		t.Errorf("all pages: got %v, want 5 rows", got)
	}
	if got := c.books("limit=1&reference=order-2"); len(got) != 2 || got[0].Key != "k1" || got[1].Key != "k3" {
		t.Errorf("one reference: got %v, want k1 and k3", got)
	}
	for _, stmt := range []string{`UPDATE paysim.operations SET amount_minor = 1`, `DELETE FROM paysim.operations`} {
		if _, err := db.Service("paysim").Exec(stmt); err == nil {
			t.Errorf("%s: got no error, want a refusal", stmt)
		}
	}
}

func TestAnEmptyAPIKeyLetsNobodyIn(t *testing.T) {
	t.Parallel()
	db := messagingtest.NewDB(t, paysim.Spec())
	mux := httpapi.NewMux(messagingtest.Log(t))
	provider, err := paysim.New(paysim.Config{}, db.Service("paysim"), messagingtest.Log(t))
	if err != nil {
		t.Fatalf("make the provider: %v", err)
	}
	provider.Routes(mux)
	req := httptest.NewRequest("GET", "/provider/v1/books", nil)
	req.Header.Set("Authorization", "Bearer ")
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, req)
	if w.Code != http.StatusUnauthorized {
		t.Errorf("got %d, want 401", w.Code)
	}
}
