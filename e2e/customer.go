package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
)

// Customer speaks to a shop over HTTP, as somebody who only has its address.
type Customer struct {
	Base string // of the console: "http://127.0.0.1:8080"
	ID   string // X-Customer-Id
	http *http.Client
}

// NewCustomer returns a new customer, with an id of its own, of the shop at base.
func NewCustomer(t testing.TB, base string) *Customer {
	c := &Customer{Base: base, ID: "e2e-" + uuid.NewString(), http: &http.Client{
		Timeout: 15 * time.Second,
		Transport: &http.Transport{
			DialContext: (&net.Dialer{Timeout: 2 * time.Second}).DialContext,
		},
	}}
	t.Cleanup(c.http.CloseIdleConnections)
	return c
}

// Answer is an HTTP response, read.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// Code is the last part of a problem's type: "order-not-cancellable".
func (a Answer) Code() string {
	var p struct {
		Type string `json:"type"`
	}
	if err := json.Unmarshal(a.Body, &p); err != nil {
		return ""
	}
	return p.Type[bytes.LastIndexByte([]byte(p.Type), '/')+1:]
}

// Line is a quantity of a product.
type Line struct {
	SKU      string `json:"sku"`
	Quantity int    `json:"quantity"`
}

// Wish is the body of POST /v1/orders.
type Wish struct {
	Currency     string            `json:"currency"`
	Lines        []Line            `json:"lines"`
	Customer     map[string]string `json:"customer"`
	PaymentToken string            `json:"payment_token"`
	AllowPartial bool              `json:"allow_partial,omitempty"` // ask whether a part will do, rather than reject
}

// wish is one piece of sku, paid by token.
func wish(sku, token string) Wish {
	return Wish{
		Currency: "EUR", Lines: []Line{{sku, 1}}, PaymentToken: token,
		Customer: map[string]string{"name": "Ada", "email": "ada@example.com", "address": "1 Test Street"},
	}
}

// Order is an order as the shop shows it.
type Order struct {
	ID         string   `json:"id"`
	Status     string   `json:"status"`
	ReasonCode string   `json:"reason_code"`
	TotalMinor int64    `json:"total_minor"`
	Version    int      `json:"version"`
	Next       []string `json:"next"`
	History    []struct {
		Version int       `json:"version"`
		Status  string    `json:"status"`
		At      time.Time `json:"at"`
	} `json:"history"`
}

// happyWay is the way of an order that meets no obstacle.
var happyWay = strings.Fields("placed authorizing confirmed fulfilling capturing dispatching shipped delivered")

// Way is the statuses of the order's history.
func (o Order) Way() []string {
	list := make([]string, len(o.History))
	for i, e := range o.History {
		list[i] = e.Status
	}
	return list
}

// Do sends a request; header is names and values in turn. An error means that
// there was no answer.
func (c *Customer) Do(ctx context.Context, method, path string, body any, header ...string) (Answer, error) {
	var content io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return Answer{}, err
		}
		content = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.Base+path, content)
	if err != nil {
		return Answer{}, err
	}
	req.Header.Set("X-Customer-Id", c.ID)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := c.http.Do(req)
	if err != nil {
		return Answer{}, err
	}
	b, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err := errors.Join(err, res.Body.Close()); err != nil {
		return Answer{}, fmt.Errorf("%s %s: %w", method, path, err)
	}
	return Answer{Status: res.StatusCode, Header: res.Header, Body: b}, nil
}

// Must sends a request whose answer must have the status want, and decodes it
// into a T.
func Must[T any](t testing.TB, c *Customer, want int, method, path string, body any, header ...string) T {
	t.Helper()
	var into T
	a, err := c.Do(t.Context(), method, path, body, header...)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	if a.Status != want {
		t.Fatalf("%s %s: status %d, want %d: %s", method, path, a.Status, want, a.Body)
	}
	if err := json.Unmarshal(a.Body, &into); err != nil {
		t.Fatalf("%s %s: answer is no %T: %v: %s", method, path, into, err, a.Body)
	}
	return into
}

// Place places an order under a new key.
func (c *Customer) Place(t testing.TB, w Wish) Order {
	t.Helper()
	return Must[Order](t, c, http.StatusAccepted, http.MethodPost, "/v1/orders", w, "Idempotency-Key", uuid.NewString())
}

// PlaceSurely places an order as a client does that doesn't give up: under the
// same key, for as long as there is no answer or a 503, until ctx ends. What it
// returns was promised with a 2xx.
func (c *Customer) PlaceSurely(ctx context.Context, w Wish) (Order, error) {
	a, err := c.Surely(ctx, http.MethodPost, "/v1/orders", w, "Idempotency-Key", uuid.NewString())
	if err != nil {
		return Order{}, err
	}
	if a.Status/100 != 2 {
		return Order{}, fmt.Errorf("place an order: status %d: %s", a.Status, a.Body)
	}
	var o Order
	return o, json.Unmarshal(a.Body, &o)
}

// Surely sends a request as a client does that doesn't give up: again, for as long
// as there is no answer, or one that says to come again, until ctx ends.
func (c *Customer) Surely(ctx context.Context, method, path string, body any, header ...string) (Answer, error) {
	for {
		a, err := c.Do(ctx, method, path, body, header...)
		if err == nil && a.Status != http.StatusServiceUnavailable && a.Code() != "idempotency-in-progress" {
			return a, nil
		}
		select {
		case <-ctx.Done():
			return a, errors.Join(ctx.Err(), err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Await asks for the order until it is in one of statuses, for up to a minute.
func (c *Customer) Await(t testing.TB, id string, statuses ...string) Order {
	t.Helper()
	var o Order
	eventually(t, time.Minute, func() error {
		o = Must[Order](t, c, http.StatusOK, http.MethodGet, "/v1/orders/"+id, nil)
		if !slices.Contains(statuses, o.Status) {
			return fmt.Errorf("order %s is %s (%s), want %v", id, o.Status, o.ReasonCode, statuses)
		}
		return nil
	})
	return o
}

// eventually tries until cond returns nil, for up to limit; then t fails with
// its last error.
func eventually(t testing.TB, limit time.Duration, cond func() error) {
	t.Helper()
	for end := time.Now().Add(limit); ; time.Sleep(20 * time.Millisecond) {
		err := cond()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("after %s: %v", limit, err)
		}
	}
}
