// Package client speaks to the shop's API: for the demo's customers, for load,
// for tests.
package client

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
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
)

// Client is one customer of the shop at Base.
type Client struct {
	Base     string // "http://127.0.0.1:8080"
	Customer string // "" = the shop's default customer
	Role     string // "operator" for what only operators may do; "" = a customer
	http     *http.Client
}

// New returns a customer of the shop at base. Close it.
func New(base, customer string) *Client {
	return &Client{Base: strings.TrimSuffix(base, "/"), Customer: customer, http: &http.Client{
		Timeout: time.Minute,
		Transport: &http.Transport{
			DialContext:         (&net.Dialer{Timeout: 2 * time.Second}).DialContext,
			MaxIdleConnsPerHost: 256,
			IdleConnTimeout:     10 * time.Second,
		},
	}}
}

// Close drops the client's connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Line is a quantity of a product.
type Line struct {
	SKU      string `json:"sku"`
	Quantity int    `json:"quantity"`
}

// Customer is whom an order is for.
type Customer struct {
	Name    string `json:"name"`
	Email   string `json:"email"`
	Address string `json:"address"`
}

// Placement is an order as a customer places it.
type Placement struct {
	Currency     string   `json:"currency"`
	Lines        []Line   `json:"lines"`
	Customer     Customer `json:"customer"`
	PaymentToken string   `json:"payment_token"`
	AllowPartial bool     `json:"allow_partial,omitempty"` // ask whether a part will do, rather than reject
	Priority     string   `json:"priority,omitempty"`
}

// Order is an order as the shop shows it.
type Order struct {
	ID            string      `json:"id"`
	Status        string      `json:"status"`
	ReasonCode    string      `json:"reason_code"`
	TotalMinor    int64       `json:"total_minor"`
	RefundedMinor int64       `json:"refunded_minor"`
	Currency      string      `json:"currency"`
	Version       int         `json:"version"`
	CreatedAt     time.Time   `json:"created_at"`
	Lines         []OrderLine `json:"lines"`
	Action        *Action     `json:"action"`       // what is awaited of the customer
	Resume        string      `json:"resume"`       // of needs_attention: where it is taken up again
	ReturnUntil   *time.Time  `json:"return_until"` // of what was delivered
	Returns       []Return    `json:"returns"`
	Refunds       []Refund    `json:"refunds"`
	History       []Entry     `json:"history"`
	Next          []string    `json:"next"`

	ReturnID string `json:"return_id"` // of Return's answer
	RefundID string `json:"refund_id"` // of Refund's answer
}

// OrderLine is a line of an order: how many pieces came how far.
type OrderLine struct {
	SKU            string `json:"sku"`
	Name           string `json:"name"`
	Quantity       int    `json:"quantity"` // ordered
	UnitPriceMinor int64  `json:"unit_price_minor"`
	Reserved       int    `json:"reserved"`
	Packed         int    `json:"packed"`
	Returned       int    `json:"returned"`
	Refunded       int    `json:"refunded"`
}

// Action is what the customer of an order is asked for.
type Action struct {
	Kind        string    `json:"kind"` // payment_method, stock_decision
	Options     []string  `json:"options"`
	DecideUntil time.Time `json:"decide_until"`
	TotalMinor  int64     `json:"total_minor"`
}

// Return is goods that a customer sends back.
type Return struct {
	ID     string `json:"id"`
	Status string `json:"status"` // expected, received, dropped
	Lines  []Line `json:"lines"`
}

// Refund is money that goes back to a customer.
type Refund struct {
	ID          string `json:"id"`
	Status      string `json:"status"` // open, succeeded, failed
	ReasonCode  string `json:"reason_code"`
	AmountMinor int64  `json:"amount_minor"`
	Lines       []Line `json:"lines"`
}

// Entry is a transition of an order.
type Entry struct {
	Version    int       `json:"version"`
	Status     string    `json:"status"`
	ReasonCode string    `json:"reason_code"`
	At         time.Time `json:"at"`
}

// Ended reports whether nothing more happens to the order unless somebody wants
// something of it.
func (o Order) Ended() bool {
	return slices.Contains([]string{"delivered", "completed", "refunded", "cancelled", "rejected", "expired"}, o.Status)
}

// AtRest reports whether the order has ended or waits for a person.
func (o Order) AtRest() bool {
	return o.Ended() || slices.Contains([]string{"awaiting_customer", "payment_failed", "needs_attention"}, o.Status)
}

// Reached returns when the order came to status, by its history.
func (o Order) Reached(status string) (time.Time, bool) {
	for _, e := range o.History {
		if e.Status == status {
			return e.At, true
		}
	}
	return time.Time{}, false
}

// Way is the order's history in one line: "placed → authorizing → …".
func (o Order) Way() string {
	steps := make([]string, len(o.History))
	for i, e := range o.History {
		steps[i] = e.Status
	}
	return strings.Join(steps, " → ")
}

// Product is what the shop sells.
type Product struct {
	SKU        string `json:"sku"`
	Name       string `json:"name"`
	PriceMinor int64  `json:"price_minor"`
	Currency   string `json:"currency"`
	Available  int64  `json:"available"`
}

// Error is an answer that is a problem (RFC 9457).
type Error struct {
	Status     int
	Type       string `json:"type"`
	Detail     string `json:"detail"`
	RetryAfter time.Duration
}

func (e *Error) Error() string {
	return fmt.Sprintf("the shop answers %d %s: %s", e.Status, e.Code(), e.Detail)
}

// Code is the last part of the problem's type, "out-of-reach" for example.
func (e *Error) Code() string { return e.Type[strings.LastIndexByte(e.Type, '/')+1:] }

// Place places p under key once; the shop knows a repeated key again.
func (c *Client) Place(ctx context.Context, p Placement, key string) (Order, error) {
	var o Order
	err := c.do(ctx, http.MethodPost, "/v1/orders", p, &o, "Idempotency-Key", key)
	return o, err
}

// PlaceSurely places p as one order, trying again under the same key for as long
// as the shop is away or busy: until ctx ends.
func (c *Client) PlaceSurely(ctx context.Context, p Placement) (Order, error) {
	key := uuid.NewString()
	for {
		o, err := c.Place(ctx, p, key)
		var e *Error
		if err == nil || errors.As(err, &e) && e.Status != http.StatusServiceUnavailable && e.Status != http.StatusTooManyRequests && e.Code() != "idempotency-in-progress" {
			return o, err
		}
		wait := 100 * time.Millisecond
		if e != nil && e.RetryAfter > 0 {
			wait = min(e.RetryAfter, time.Second)
		}
		select {
		case <-ctx.Done():
			return o, errors.Join(ctx.Err(), err)
		case <-time.After(wait):
		}
	}
}

// Get shows one of the customer's orders.
func (c *Client) Get(ctx context.Context, id string) (Order, error) {
	var o Order
	err := c.do(ctx, http.MethodGet, "/v1/orders/"+id, nil, &o)
	return o, err
}

// CountUpTo counts the customer's orders in status, up to limit.
func (c *Client) CountUpTo(ctx context.Context, status string, limit int) (int, error) {
	var page struct {
		Orders []struct{} `json:"orders"`
	}
	err := c.do(ctx, http.MethodGet, fmt.Sprintf("/v1/orders?status=%s&limit=%d", status, limit), nil, &page)
	return len(page.Orders), err
}

// Cancel undoes one of the customer's orders.
func (c *Client) Cancel(ctx context.Context, id string) (Order, error) {
	var o Order
	err := c.do(ctx, http.MethodPost, "/v1/orders/"+id+"/cancel", nil, &o)
	return o, err
}

// Pay tries another payment method.
func (c *Client) Pay(ctx context.Context, id, token string) (Order, error) {
	var o Order
	err := c.do(ctx, http.MethodPost, "/v1/orders/"+id+"/payment", map[string]string{"payment_token": token}, &o)
	return o, err
}

// Decide says whether the part that is there will do: "accept" or "cancel".
func (c *Client) Decide(ctx context.Context, id, decision string) (Order, error) {
	var o Order
	err := c.do(ctx, http.MethodPost, "/v1/orders/"+id+"/decision", map[string]string{"decision": decision}, &o)
	return o, err
}

// Return announces, under key once, that lines of an order are sent back.
func (c *Client) Return(ctx context.Context, id string, lines []Line, key string) (Order, error) {
	var o Order
	err := c.do(ctx, http.MethodPost, "/v1/orders/"+id+"/returns", map[string]any{"lines": lines}, &o, "Idempotency-Key", key)
	return o, err
}

// Refund pays back, under key once, lines of an order that are not sent back. It
// is an operator's.
func (c *Client) Refund(ctx context.Context, id string, lines []Line, reason, key string) (Order, error) {
	var o Order
	err := c.do(ctx, http.MethodPost, "/v1/orders/"+id+"/refunds", map[string]any{"lines": lines, "reason": reason}, &o, "Idempotency-Key", key)
	return o, err
}

// Resolve decides how an order that needs attention goes on: action is "retry" or
// "cancel". It is an operator's.
func (c *Client) Resolve(ctx context.Context, id, action, reason string) (Order, error) {
	var o Order
	err := c.do(ctx, http.MethodPost, "/v1/orders/"+id+"/resolution", map[string]string{"action": action, "reason": reason}, &o)
	return o, err
}

// Products lists what the shop sells.
func (c *Client) Products(ctx context.Context) ([]Product, error) {
	var list struct {
		Products []Product `json:"products"`
	}
	err := c.do(ctx, http.MethodGet, "/v1/products", nil, &list)
	return list.Products, err
}

// Availability is what is left of products.
type Availability struct {
	Products []struct {
		SKU       string `json:"sku"`
		Available int64  `json:"available"`
	} `json:"products"`
	Unknown []string `json:"unknown"` // not on sale
}

// Availability tells what is left of 1 to 50 products.
func (c *Client) Availability(ctx context.Context, skus ...string) (Availability, error) {
	var a Availability
	err := c.do(ctx, http.MethodGet, "/v1/availability?sku="+strings.Join(skus, ","), nil, &a)
	return a, err
}

// Ready returns nil when the shop takes orders.
func (c *Client) Ready(ctx context.Context) error {
	return c.do(ctx, http.MethodGet, "/readyz", nil, nil)
}

// WaitReady asks until the shop takes orders or ctx ends.
func (c *Client) WaitReady(ctx context.Context) error {
	for {
		err := c.Ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the shop at %s is not ready: %w", c.Base, errors.Join(ctx.Err(), err))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Answer is what the shop answered to a request.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// Problem is what a says went wrong, an *Error; nil when nothing did.
func (a Answer) Problem() error {
	if a.Status < 300 {
		return nil
	}
	e := &Error{}
	if json.Unmarshal(a.Body, e) != nil {
		e.Detail = http.StatusText(a.Status) // no problem document: somebody in between
	}
	e.Status = a.Status
	if s, err := strconv.Atoi(a.Header.Get("Retry-After")); err == nil {
		e.RetryAfter = time.Duration(s) * time.Second
	}
	return e
}

// Do sends a request with header, names and values in turn, and returns what was
// answered, whatever that is. An error means that there was no answer.
func (c *Client) Do(ctx context.Context, method, path string, body any, header ...string) (Answer, error) {
	a, err := c.send(ctx, method, path, body, header)
	if err != nil {
		return Answer{}, fmt.Errorf("%s %s: %w", method, path, err)
	}
	return a, nil
}

func (c *Client) send(ctx context.Context, method, path string, body any, header []string) (Answer, error) {
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
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.Customer != "" {
		req.Header.Set("X-Customer-Id", c.Customer)
	}
	if c.Role != "" {
		req.Header.Set("X-Role", c.Role)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := c.http.Do(req)
	if err != nil {
		return Answer{}, err
	}
	answer, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err = errors.Join(err, res.Body.Close()); err != nil {
		return Answer{}, err
	}
	return Answer{Status: res.StatusCode, Header: res.Header, Body: answer}, nil
}

// do is Do with the answer read into into, unless that is nil, or returned as an
// *Error.
func (c *Client) do(ctx context.Context, method, path string, body, into any, header ...string) error {
	a, err := c.Do(ctx, method, path, body, header...)
	if err != nil {
		return err
	}
	if err := a.Problem(); err != nil || into == nil {
		return err
	}
	if err := json.Unmarshal(a.Body, into); err != nil {
		return fmt.Errorf("%s %s: answer: %w", method, path, err)
	}
	return nil
}
