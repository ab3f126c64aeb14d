package payments

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// dialTimeout is the share of the total time that connecting may take: a
// provider that is away is noticed early.
const dialTimeout = time.Second

// maxAnswer is the most bytes of an answer that are read.
const maxAnswer = 256 << 10

// Simulator is the Gateway to the provider simulator (services/paysim).
type Simulator struct {
	base   string
	key    string
	hook   *standardwebhooks.Webhook
	client *http.Client
}

// NewSimulator returns a Gateway to the simulator at baseURL ("http://host:port"),
// bearing apiKey. webhookSecret (base64, "whsec_" before it) is what its webhooks
// are signed with. timeout limits each call as a whole. It returns an error for a
// URL or a secret that is none; it doesn't touch the network.
func NewSimulator(baseURL, apiKey, webhookSecret string, timeout time.Duration) (*Simulator, error) {
	u, err := url.Parse(baseURL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil {
		return nil, fmt.Errorf("the provider's URL is not http://host:port or https://host:port")
	}
	hook, err := standardwebhooks.NewWebhook(webhookSecret)
	if err != nil || len(strings.TrimPrefix(webhookSecret, "whsec_")) == 0 {
		return nil, errors.New("the secret of the provider's webhooks is not base64")
	}
	return &Simulator{
		base: strings.TrimSuffix(u.String(), "/") + "/provider/v1",
		key:  apiKey,
		hook: hook,
		client: &http.Client{
			Timeout: timeout,
			Transport: &http.Transport{
				DialContext:         (&net.Dialer{Timeout: dialTimeout}).DialContext,
				TLSHandshakeTimeout: 2 * dialTimeout,
				MaxIdleConnsPerHost: 64, // more than messages in hand at once
				IdleConnTimeout:     time.Minute,
			},
			// A redirect would carry the key to another host.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}, nil
}

// simAnswer is the simulator's word about an authorization or a refund.
type simAnswer struct {
	ID            string `json:"id"`
	Status        string `json:"status"`
	Code          string `json:"code"`
	AmountMinor   int64  `json:"amount_minor"`
	CapturedMinor int64  `json:"captured_minor"`
	RefundedMinor int64  `json:"refunded_minor"`
	Type          string `json:"type"` // of a problem (RFC 9457)
	code          int    // of the HTTP response
}

// Authorize asks for an authorization. A method token that the simulator doesn't
// know is Refused with the reason invalid_method.
func (s *Simulator) Authorize(ctx context.Context, r AuthorizeRequest) (Authorization, error) {
	got, err := s.call(ctx, http.MethodPost, "/authorizations", r.Key, map[string]any{
		"amount_minor": r.AmountMinor, "currency": r.Currency, "method_token": r.MethodToken, "reference": r.Reference,
	})
	var refused *RefusedError
	if errors.As(err, &refused) && refused.Code == "invalid_method" {
		return Authorization{Status: Refused, ReasonCode: refused.Code}, nil
	}
	if err != nil {
		return Authorization{}, fmt.Errorf("authorize: %w", err)
	}
	want := Approved
	if got.code == http.StatusPaymentRequired {
		want = Refused
	}
	a, err := got.authorization(want)
	if err != nil {
		return a, fmt.Errorf("authorize: %w", err)
	}
	return a, nil
}

// Capture takes part or all of an authorization.
func (s *Simulator) Capture(ctx context.Context, r CaptureRequest) (Authorization, error) {
	return s.end(ctx, "capture", r.Key, r.Ref, map[string]any{"amount_minor": r.AmountMinor}, Taken)
}

// Void gives back what an authorization set aside.
func (s *Simulator) Void(ctx context.Context, r VoidRequest) (Authorization, error) {
	return s.end(ctx, "void", r.Key, r.Ref, nil, Closed)
}

// end has the simulator do verb to the authorization ref, which is as then.
func (s *Simulator) end(ctx context.Context, verb, key, ref string, body any, as Outcome) (Authorization, error) {
	got, err := s.call(ctx, http.MethodPost, "/authorizations/"+url.PathEscape(ref)+"/"+verb, key, body)
	if err != nil {
		return Authorization{}, fmt.Errorf("%s authorization %s: %w", verb, ref, err)
	}
	a, err := got.authorization(as)
	if err != nil {
		return a, fmt.Errorf("%s authorization %s: %w", verb, ref, err)
	}
	return a, nil
}

// FindAuthorization looks an authorization up by its name or, while that isn't known,
// by its key.
func (s *Simulator) FindAuthorization(ctx context.Context, q AuthorizationQuery) (Authorization, error) {
	where := "/authorizations?key=" + url.QueryEscape(q.Key)
	if q.Ref != "" {
		where = "/authorizations/" + url.PathEscape(q.Ref)
	}
	got, err := s.call(ctx, http.MethodGet, where, "", nil)
	var refused *RefusedError
	if errors.As(err, &refused) && refused.Status == http.StatusNotFound {
		return Authorization{Status: Missing}, nil
	}
	if err != nil {
		return Authorization{}, fmt.Errorf("look up an authorization: %w", err)
	}
	a, err := got.authorization(Approved, Refused, Closed, Lapsed, Taken)
	if err != nil {
		return a, fmt.Errorf("look up an authorization: %w", err)
	}
	return a, nil
}

// Refund gives back part or all of what was captured of an authorization.
func (s *Simulator) Refund(ctx context.Context, r RefundRequest) (Refund, error) {
	got, err := s.call(ctx, http.MethodPost, "/authorizations/"+url.PathEscape(r.Ref)+"/refunds", r.Key,
		map[string]any{"amount_minor": r.AmountMinor, "reason": r.Reason})
	if err != nil {
		return Refund{}, fmt.Errorf("refund of authorization %s: %w", r.Ref, err)
	}
	f, err := got.refund(Refunded)
	if err != nil {
		return f, fmt.Errorf("refund of authorization %s: %w", r.Ref, err)
	}
	return f, nil
}

// FindRefund looks a refund up by its key.
func (s *Simulator) FindRefund(ctx context.Context, q RefundQuery) (Refund, error) {
	got, err := s.call(ctx, http.MethodGet, "/refunds?key="+url.QueryEscape(q.Key), "", nil)
	var refused *RefusedError
	if errors.As(err, &refused) && refused.Status == http.StatusNotFound {
		return Refund{Status: RefundMissing}, nil
	}
	if err != nil {
		return Refund{}, fmt.Errorf("look up a refund: %w", err)
	}
	f, err := got.refund(Refunded, NotRefunded)
	if err != nil {
		return f, fmt.Errorf("look up a refund: %w", err)
	}
	return f, nil
}

// ListMovements reads a page of the simulator's books.
func (s *Simulator) ListMovements(ctx context.Context, q MovementQuery) ([]Movement, string, error) {
	ask := url.Values{
		"from": {q.From.UTC().Format(time.RFC3339Nano)}, "until": {q.Until.UTC().Format(time.RFC3339Nano)}, "status": {"succeeded"}, "limit": {"100"},
	}
	if q.Reference != "" {
		ask.Set("reference", q.Reference)
	}
	if q.Next != "" {
		ask.Set("cursor", q.Next)
	}
	var books struct {
		Operations []struct {
			Kind            MovementKind `json:"kind"`
			Key             string       `json:"key"`
			AuthorizationID string       `json:"authorization_id"`
			RefundID        string       `json:"refund_id"`
			Reference       string       `json:"reference"`
			AmountMinor     int64        `json:"amount_minor"`
			Currency        string       `json:"currency"`
			At              time.Time    `json:"at"`
		} `json:"operations"`
		NextCursor string `json:"next_cursor"`
	}
	if _, err := s.ask(ctx, http.MethodGet, "/books?"+ask.Encode(), "", nil, &books); err != nil {
		return nil, "", fmt.Errorf("read the provider's books: %w", err)
	}
	page := make([]Movement, len(books.Operations))
	for i, o := range books.Operations {
		page[i] = Movement{
			Kind: o.Kind, Ref: o.AuthorizationID, AuthRef: o.AuthorizationID, Key: o.Key, Reference: o.Reference,
			AmountMinor: o.AmountMinor, Currency: o.Currency, At: o.At,
		}
		if o.Kind == MoveRefund {
			page[i].Ref = o.RefundID
		}
	}
	return page, books.NextCursor, nil
}

// ParseEvent checks a webhook's signature (Standard Webhooks) and reads what it is
// about.
func (s *Simulator) ParseEvent(h http.Header, body []byte) (Event, error) {
	if err := s.hook.Verify(body, h); err != nil {
		return Event{}, fmt.Errorf("%w: %w", ErrBadSignature, err)
	}
	var event struct {
		Data struct {
			AuthorizationID string `json:"authorization_id"`
			Key             string `json:"key"`
		} `json:"data"`
	}
	if err := json.Unmarshal(body, &event); err != nil {
		return Event{}, fmt.Errorf("a signed webhook is no JSON: %w", err)
	}
	return Event{ID: h.Get(standardwebhooks.HeaderWebhookID), AuthRef: event.Data.AuthorizationID, Key: event.Data.Key}, nil
}

// authorization translates an answer that must be one of want. Anything else,
// or an answer without an id, is no answer.
func (a simAnswer) authorization(want ...Outcome) (Authorization, error) {
	outcome := map[string]Outcome{
		"authorized": Approved, "declined": Refused, "voided": Closed, "expired": Lapsed, "captured": Taken,
	}[a.Status]
	if a.ID == "" || !slices.Contains(want, outcome) {
		return Authorization{}, &AwayError{Err: fmt.Errorf("answer says %q: %w", a.Status, errProvider)}
	}
	return Authorization{
		Ref: a.ID, Status: outcome, ReasonCode: a.Code,
		AmountMinor: a.AmountMinor, CapturedMinor: a.CapturedMinor, RefundedMinor: a.RefundedMinor,
	}, nil
}

// refund translates as authorization does.
func (a simAnswer) refund(want ...RefundOutcome) (Refund, error) {
	outcome := map[string]RefundOutcome{"refunded": Refunded, "refused": NotRefunded}[a.Status]
	if a.ID == "" || !slices.Contains(want, outcome) {
		return Refund{}, &AwayError{Err: fmt.Errorf("answer says %q: %w", a.Status, errProvider)}
	}
	return Refund{Ref: a.ID, Status: outcome, ReasonCode: a.Code, AmountMinor: a.AmountMinor}, nil
}

// call sends one request and decodes its answer into got. 2xx and 402 are
// answers; 401, 403 and 429 had no effect; what says nothing about the effect (3xx,
// 408, 425, 5xx, no answer at all) is unknown, but for a connection that was never
// made; any other 4xx is a *RefusedError.
func (s *Simulator) call(ctx context.Context, method, where, key string, body any) (simAnswer, error) {
	var got simAnswer
	code, err := s.ask(ctx, method, where, key, body, &got)
	got.code = code
	var refused *RefusedError
	if errors.As(err, &refused) {
		if refused.Code = got.Code; refused.Code == "" && got.Type != "" {
			refused.Code = path.Base(got.Type)
		}
		refused.Code = strings.ReplaceAll(refused.Code, "-", "_") // as reason codes are written
	}
	return got, err
}

// ask is call for an answer of any form. An answer that is a refusal is decoded
// as well, when it can be.
func (s *Simulator) ask(ctx context.Context, method, where, key string, body, got any) (int, error) {
	res, err := s.send(ctx, method, where, key, body)
	if err != nil {
		var dial *net.OpError
		return 0, &AwayError{NothingHappened: errors.As(err, &dial) && dial.Op == "dial", Err: err}
	}
	text, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if closeErr := res.Body.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return 0, &AwayError{Err: fmt.Errorf("read the answer: %w", err)}
	}
	decodeErr := json.Unmarshal(text, got)
	away := &AwayError{
		RetryAfter: retryAfter(res.Header),
		Spent:      res.Header.Get("Idempotency-Replayed") == "true",
		Err:        fmt.Errorf("answer %d: %w", res.StatusCode, errProvider),
	}
	switch code := res.StatusCode; {
	case code == http.StatusOK, code == http.StatusCreated, code == http.StatusPaymentRequired:
		if decodeErr != nil {
			return 0, &AwayError{Err: fmt.Errorf("answer %d is no JSON: %w", code, errProvider)}
		}
		return code, nil
	case code == http.StatusUnauthorized, code == http.StatusForbidden, code == http.StatusTooManyRequests:
		away.NothingHappened = true
		return 0, away
	case code < 400, code >= 500, code == http.StatusRequestTimeout, code == http.StatusTooEarly:
		return 0, away
	default:
		return 0, &RefusedError{Status: code}
	}
}

// retryAfter reads the header of that name in seconds (RFC 9110, 10.2.3); 0 when
// it isn't there or is a date.
func retryAfter(h http.Header) time.Duration {
	n, err := strconv.Atoi(h.Get("Retry-After"))
	if err != nil || n < 0 {
		return 0
	}
	return min(time.Duration(n)*time.Second, time.Hour)
}

// send makes the request and sends it.
func (s *Simulator) send(ctx context.Context, method, where, key string, body any) (*http.Response, error) {
	var payload io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return nil, fmt.Errorf("encode the request: %w", err)
		}
		payload = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, s.base+where, payload)
	if err != nil {
		return nil, fmt.Errorf("make the request: %w", err)
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("Authorization", "Bearer "+s.key)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if key != "" {
		// Spelt so because net/http repeats, by itself, a request with an
		// "Idempotency-Key" on whose connection no answer came: when to repeat is ours to
		// decide, after a look-up. HTTP doesn't care about the case.
		req.Header["idempotency-key"] = []string{key}
	}
	return s.client.Do(req)
}
