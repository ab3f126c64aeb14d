package paysim_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"example.com/orderflow/messaging/messagingtest"
)

// rules is the body that sets the provider's conduct.
func rules(list ...map[string]any) map[string]any { return map[string]any{"rules": list} }

// conduct makes the next n requests of op go wrong.
func (c caller) conduct(op, misdeed string, n int) {
	c.t.Helper()
	if r := c.do("PUT", "/admin/conduct", "", rules(map[string]any{"operation": op, "misdeed": misdeed, "count": n, "delay_ms": 100})); r.status != 200 {
		c.t.Fatalf("set the conduct: got %d %s, want 200", r.status, r.body)
	}
}

// impatient makes a request and gives up after half a second; the status is 0
// when there was no whole answer.
func (c caller) impatient(method, path, key string, body any) reply {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond)
	defer cancel()
	r, err := c.send(ctx, method, path, apiKey, key, body)
	if err != nil {
		return reply{}
	}
	return r
}

// prepare has the provider come so far that op can be asked for under key, of what
// token lets go wrong, and returns how.
func (c caller) prepare(op, token, key string) (path string, body any) {
	c.t.Helper()
	if op == "authorize" {
		return "/authorizations", asking(token)
	}
	id := c.authorize(key+"-a", token).field(c.t, "id")
	path = "/authorizations/" + id + "/" + op
	switch op {
	case "capture":
		return path, map[string]any{"amount_minor": 1000}
	case "refund":
		if r := c.do("POST", "/authorizations/"+id+"/capture", key+"-c", map[string]any{"amount_minor": 1000}); r.status != 200 {
			c.t.Fatalf("capture: got %d %s, want 200", r.status, r.body)
		}
		return path + "s", map[string]any{"amount_minor": 400, "reason": "returned"}
	}
	return path, nil
}

// effects counts what was done under key.
func (c caller) effects(key string) int {
	c.t.Helper()
	n := 0
	for _, e := range c.books("") {
		if e.Key == key && e.Status == "succeeded" {
			n++
		}
	}
	return n
}

func TestMisdeeds(t *testing.T) {
	t.Parallel()
	shared, _ := newCaller(t)
	for _, tc := range []struct {
		misdeed string
		status  int // of the first answer, 0 = none
		effects int // after it
		second  int // of the same request again, -1 = it makes a second effect
	}{
		{"slow", 200, 1, 200},
		{"timeout_before", 0, 0, 200},
		{"timeout_after", 0, 1, 200},
		{"error_before", 500, 0, 200},
		{"error_after", 500, 1, 200},
		{"error_stored", 500, 0, 500},
		{"error_stored_after", 500, 1, 500},
		{"error_stuck", 500, 0, 500},
		{"reset", 0, 1, 200},
		{"too_many", 429, 0, 200},
		{"down", 0, 0, 200},
		{"forgotten", 0, 1, -1},
	} {
		for _, op := range []string{"authorize", "capture", "void", "refund"} {
			t.Run(op+" "+tc.misdeed, func(t *testing.T) {
				t.Parallel()
				c := caller{t, shared.url}
				key := op + "-" + tc.misdeed
				path, body := c.prepare(op, "tok_"+op+"_"+tc.misdeed, key)
				first := c.impatient("POST", path, key, body)
				messagingtest.Wait(t, fmt.Sprintf("%d effects", tc.effects), func() bool { return c.effects(key) == tc.effects })
				again := c.do("POST", path, key, body)
				if first.status == 201 {
					first.status = 200
				}
				if again.status == 201 {
					again.status = 200
				}
				if first.status != tc.status {
					t.Errorf("first answer: got %d %s, want %d", first.status, first.body, tc.status)
				}
				want, status := 1, tc.second
				switch {
				case tc.second == 500:
					want = tc.effects
				case tc.second == -1 && (op == "authorize" || op == "refund"):
					want, status = 2, 200
				case tc.second == -1: // the key is forgotten, the state isn't
					status = 409
				}
				if again.status != status || c.effects(key) != want {
					t.Errorf("again: got %d %s and %d effects, want %d and %d", again.status, again.body, c.effects(key), status, want)
				}
			})
		}
	}
}

func TestAStoredErrorEndsWithTheLookUp(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		misdeed string
		lookUp  int
		then    int
		effects int
	}{
		{"error_stored", 404, 201, 1},
		{"error_stored_after", 200, 201, 1},
		{"error_stuck", 404, 500, 0},
	} {
		t.Run(tc.misdeed, func(t *testing.T) {
			t.Parallel()
			c, _ := newCaller(t)
			for range 2 {
				if r := c.authorize("k1", "tok_authorize_"+tc.misdeed); r.status != 500 {
					t.Fatalf("authorize: got %d %s, want 500", r.status, r.body)
				}
			}
			if r := c.authorize("k1", "tok_authorize_"+tc.misdeed); r.status != 500 || !r.replayed {
				t.Errorf("again: got %d, replayed %t, want the stored 500", r.status, r.replayed)
			}
			if r := c.do("GET", "/authorizations?key=k1", "", nil); r.status != tc.lookUp {
				t.Errorf("look-up: got %d %s, want %d", r.status, r.body, tc.lookUp)
			}
			if r := c.authorize("k1", "tok_authorize_"+tc.misdeed); r.status != tc.then {
				t.Errorf("after the look-up: got %d %s, want %d", r.status, r.body, tc.then)
			}
			if c.effects("k1") != tc.effects {
				t.Errorf("got %d effects, want %d", c.effects("k1"), tc.effects)
			}
		})
	}
}

func TestAnEffectComesAfterTheClientHasGone(t *testing.T) {
	t.Parallel()
	c, _ := newCaller(t)
	c.do("PUT", "/admin/conduct", "", rules(map[string]any{"operation": "authorize", "misdeed": "late", "count": 1, "delay_ms": 1000}))
	if r := c.impatient("POST", "/authorizations", "k1", asking("tok_ok")); r.status != 0 {
		t.Fatalf("authorize: got %d %s, want no answer", r.status, r.body)
	}
	if r := c.do("GET", "/authorizations?key=k1", "", nil); r.status != 404 {
		t.Errorf("look-up at once: got %d, want 404", r.status)
	}
	messagingtest.Wait(t, "the effect", func() bool { return c.effects("k1") == 1 })
	if r := c.authorize("k1", "tok_ok"); r.status != 201 || !r.replayed || c.effects("k1") != 1 {
		t.Errorf("again: got %d, replayed %t, %d effects, want one effect's stored 201", r.status, r.replayed, c.effects("k1"))
	}
}

func TestTokensMisbehaveOncePerOperation(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ op, misdeed, says string }{
		{"capture", "refused", "capture_refused"},
		{"capture", "expired", "authorization_expired"},
		{"void", "refused", "void_refused"},
		{"refund", "refused", "refund_refused"},
	} {
		t.Run(tc.op+" "+tc.misdeed, func(t *testing.T) {
			t.Parallel()
			c, _ := newCaller(t)
			id := c.authorize("k0", "tok_"+tc.op+"_"+tc.misdeed).field(t, "id")
			path := "/authorizations/" + id + "/" + tc.op
			var body any
			switch tc.op {
			case "capture":
				body = map[string]any{"amount_minor": 1250}
			case "refund":
				if r := c.do("POST", "/authorizations/"+id+"/capture", "c0", map[string]any{"amount_minor": 1250}); r.status != 200 {
					t.Fatalf("capture: got %d %s, want 200", r.status, r.body)
				}
				path, body = path+"s", map[string]any{"amount_minor": 1000, "reason": "returned"}
			}
			first := c.do("POST", path, "k1", body)
			again := c.do("POST", path, "k1", body)
			if first.status != 409 || first.field(t, "code") != tc.says || again.body != first.body || !again.replayed {
				t.Errorf("got %+v, then %+v, want 409 %s, kept under its key", first, again, tc.says)
			}
			other := c.do("POST", path, "k2", body)
			want := 200
			if tc.misdeed == "expired" {
				want = 409
				c.wantBooks(row("k0", "authorize", "succeeded", 1250), row("k1", "expire", "succeeded", 1250))
			}
			if other.status != want {
				t.Errorf("under another key: got %d %s, want %d", other.status, other.body, want)
			}
			if tc.op == "refund" {
				if r := c.do("GET", "/refunds?key=k1", "", nil); r.status != 200 || r.field(t, "status") != "refused" {
					t.Errorf("look-up of the refusal: got %d %s, want refused", r.status, r.body)
				}
				if r := c.do("GET", "/refunds?key=k2", "", nil); r.status != 200 || r.field(t, "status") != "refunded" {
					t.Errorf("look-up of the refund: got %d %s, want refunded", r.status, r.body)
				}
			}
		})
	}
	t.Run("tokens that make no sense are no tokens", func(t *testing.T) {
		t.Parallel()
		c, _ := newCaller(t)
		for _, token := range []string{"tok_void_expired", "tok_capture_", "tok_authorize_lost", "tok_look_up_down", "tok_books_down", "tok__down", "ok"} {
			if r := c.authorize("k1", token); r.status != 422 {
				t.Errorf("%s: got %d, want 422", token, r.status)
			}
		}
	})
}

func TestRefundsAreBoundedByTheCapture(t *testing.T) {
	t.Parallel()
	c, _ := newCaller(t)
	id := c.authorized("a0")
	refund := func(key string, amount int) reply {
		return c.do("POST", "/authorizations/"+id+"/refunds", key, map[string]any{"amount_minor": amount, "reason": "returned"})
	}
	if r := refund("r0", 1); r.status != 409 {
		t.Errorf("before the capture: got %d %s, want 409", r.status, r.body)
	}
	c.do("POST", "/authorizations/"+id+"/capture", "c0", map[string]any{"amount_minor": 1000})
	if r := refund("r1", 400); r.status != 200 {
		t.Errorf("a part: got %d %s, want 200", r.status, r.body)
	}
	if r := refund("r2", 601); r.status != 422 {
		t.Errorf("more than is left: got %d %s, want 422", r.status, r.body)
	}
	wantSame(t, c.parallel(10, "POST", "/authorizations/"+id+"/refunds", "r3", map[string]any{"amount_minor": 600, "reason": "lost"}), 200)
	if r := c.do("GET", "/authorizations/"+id, "", nil); r.field(t, "refunded_minor") != "1000" {
		t.Errorf("authorization: got %s, want all refunded", r.body)
	}
	c.wantBooks(row("a0", "authorize", "succeeded", 1250), row("c0", "capture", "succeeded", 1000),
		row("r1", "refund", "succeeded", 400), row("r3", "refund", "succeeded", 600))
}

func TestConductEnds(t *testing.T) {
	t.Parallel()
	c, _ := newCaller(t)
	c.do("PUT", "/admin/conduct", "", rules(
		map[string]any{"operation": "authorize", "misdeed": "error_before", "count": 2},
		map[string]any{"misdeed": "too_many", "seconds": 1, "delay_ms": 7000},
	))
	if r := c.do("GET", "/admin/conduct", "", nil); !strings.Contains(r.body, `"count":2`) || !strings.Contains(r.body, `"too_many"`) {
		t.Errorf("shown: got %s, want both rules", r.body)
	}
	for i, want := range []int{500, 500, 429} {
		if r := c.authorize("k1", "tok_ok"); r.status != want {
			t.Errorf("request %d: got %d, want %d", i, r.status, want)
		}
	}
	if r := c.do("GET", "/authorizations?key=k1", "", nil); r.status != 429 || r.header.Get("Retry-After") != "7" {
		t.Errorf("look-up: got %d, Retry-After %q, want 429 and 7", r.status, r.header.Get("Retry-After"))
	}
	messagingtest.Wait(t, "the rule to expire", func() bool { return c.authorize("k1", "tok_ok").status == 201 })
	if r := c.do("GET", "/admin/conduct", "", nil); r.body != `{"rules":[]}`+"\n" {
		t.Errorf("shown: got %s, want none", r.body)
	}
	for _, bad := range []any{
		map[string]any{"operation": "authorize", "misdeed": "error_before"}, // when does it end?
		map[string]any{"operation": "authorize", "misdeed": "expired", "count": 1},
		map[string]any{"operation": "elsewhere", "misdeed": "down", "count": 1},
		map[string]any{"misdeed": "timeout_after", "count": 1}, // no look-up has an effect
	} {
		if r := c.do("PUT", "/admin/conduct", "", map[string]any{"rules": []any{bad}}); r.status != 422 {
			t.Errorf("%v: got %d %s, want 422", bad, r.status, r.body)
		}
	}
	if r, err := c.try("PUT", "/admin/conduct", "other", "", rules()); err != nil || r.status != 401 {
		t.Errorf("wrong API key: got %d %v, want 401", r.status, err)
	}
}

func TestAResetConnectionIsNoAnswer(t *testing.T) {
	t.Parallel()
	c, _ := newCaller(t)
	c.conduct("authorize", "reset", 1)
	_, err := c.send(context.Background(), "POST", "/authorizations", apiKey, "k1", asking("tok_ok"))
	if err == nil || errors.Is(err, http.ErrHandlerTimeout) || c.effects("k1") != 1 {
		t.Errorf("got %v and %d effects, want an error in mid-answer and one effect", err, c.effects("k1"))
	}
}
