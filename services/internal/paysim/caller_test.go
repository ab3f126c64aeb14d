package paysim_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"sync"
	"testing"
	"time"

	"example.com/orderflow/messaging/messagingtest"
	"example.com/orderflow/services/internal/paysim"
)

// caller is a client of one provider.
type caller struct {
	t   *testing.T
	url string
}

func newCaller(t *testing.T) (caller, *messagingtest.DB) {
	db := messagingtest.NewDB(t, paysim.Spec())
	return caller{t, serve(t, db)}, db
}

// reply is an HTTP response, read.
type reply struct {
	status   int
	body     string
	replayed bool
	header   http.Header
}

func (r reply) field(t *testing.T, name string) string {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal([]byte(r.body), &m); err != nil {
		t.Fatalf("answer %d is no JSON object: %v: %s", r.status, err, r.body)
	}
	return fmt.Sprint(m[name])
}

func (c caller) do(method, path, key string, body any) reply {
	c.t.Helper()
	r, err := c.try(method, path, apiKey, key, body)
	if err != nil {
		c.t.Fatalf("%s %s: %v", method, path, err)
	}
	return r
}

func (c caller) try(method, path, bearer, key string, body any) (reply, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	return c.send(ctx, method, path, bearer, key, body)
}

func (c caller) send(ctx context.Context, method, path, bearer, key string, body any) (reply, error) {
	var payload []byte
	if body != nil {
		var err error
		if payload, err = json.Marshal(body); err != nil {
			return reply{}, err
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, c.url+"/provider/v1"+path, bytes.NewReader(payload))
	if err != nil {
		return reply{}, err
	}
	req.Header.Set("Content-Type", "application/json")
	if bearer != "" {
		req.Header.Set("Authorization", "Bearer "+bearer)
	}
	if key != "" {
		req.Header["idempotency-key"] = []string{key} // net/http itself repeats a request that has it spelt its way
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return reply{}, err
	}
	text, err := io.ReadAll(res.Body)
	if closeErr := res.Body.Close(); err == nil {
		err = closeErr
	}
	return reply{res.StatusCode, string(text), res.Header.Get("Idempotency-Replayed") == "true", res.Header}, err
}

// request is the body that asks for an authorization.
type request struct {
	AmountMinor int64  `json:"amount_minor"`
	Currency    string `json:"currency"`
	MethodToken string `json:"method_token"`
	Reference   string `json:"reference"`
}

func asking(token string) request {
	return request{AmountMinor: 1250, Currency: "EUR", MethodToken: token, Reference: "order-1"}
}

func (c caller) authorize(key, token string) reply {
	c.t.Helper()
	return c.do("POST", "/authorizations", key, asking(token))
}

// authorized returns the id of a new authorization.
func (c caller) authorized(key string) string {
	c.t.Helper()
	r := c.authorize(key, "tok_ok")
	if r.status != http.StatusCreated {
		c.t.Fatalf("authorize: got %d %s, want 201", r.status, r.body)
	}
	return r.field(c.t, "id")
}

// entry is a row of the books, as far as the tests compare it.
type entry struct {
	Key, Kind, Status, Currency, Reference string
	AmountMinor                            int64 `json:"amount_minor"`
}

// books reads all pages of the books.
func (c caller) books(query string) []entry {
	c.t.Helper()
	list := []entry{}
	for cursor := ""; ; {
		r := c.do("GET", "/books?"+query+cursor, "", nil)
		if r.status != http.StatusOK {
			c.t.Fatalf("read the books: got %d %s, want 200", r.status, r.body)
		}
		var page struct {
			Operations []entry
			NextCursor string `json:"next_cursor"`
		}
		if err := json.Unmarshal([]byte(r.body), &page); err != nil {
			c.t.Fatalf("read the books: %v", err)
		}
		list = append(list, page.Operations...)
		if page.NextCursor == "" {
			return list
		}
		cursor = "&cursor=" + page.NextCursor
	}
}

func (c caller) wantBooks(want ...entry) {
	c.t.Helper()
	if got := c.books(""); fmt.Sprint(got) != fmt.Sprint(want) {
		c.t.Errorf("books: got %v, want %v", got, want)
	}
}

func row(key, kind, status string, amount int64) entry {
	return entry{Key: key, Kind: kind, Status: status, Currency: "EUR", Reference: "order-1", AmountMinor: amount}
}

// parallel sends the same request n times at once.
func (c caller) parallel(n int, method, path, key string, body any) []reply {
	c.t.Helper()
	replies := make([]reply, n)
	errs := make([]error, n)
	var wg sync.WaitGroup
	start := make(chan struct{})
	for i := range n {
		wg.Go(func() {
			<-start
			replies[i], errs[i] = c.try(method, path, apiKey, key, body)
		})
	}
	close(start)
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			c.t.Fatalf("%s %s: %v", method, path, err)
		}
	}
	return replies
}

// wantSame checks that all replies are the same but one are replays.
func wantSame(t *testing.T, replies []reply, status int) {
	t.Helper()
	first := 0
	for _, r := range replies {
		if r.status != status || r.body != replies[0].body {
			t.Errorf("got %d %s, want %d %s", r.status, r.body, status, replies[0].body)
		}
		if !r.replayed {
			first++
		}
	}
	if first != 1 {
		t.Errorf("got %d first answers, want 1", first)
	}
}
