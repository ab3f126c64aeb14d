package payments

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"path"
	"strings"
	"time"

	"example.com/orderflow/messaging"
)

// dialTimeout is the share of the total time that connecting may take: a
// provider that is away is noticed early.
const dialTimeout = time.Second

// maxAnswer is the most bytes of an answer that are read.
const maxAnswer = 64 << 10

// Simulator is the Gateway to the provider simulator (services/paysim).
type Simulator struct {
	base   string
	key    string
	client *http.Client
}

// NewSimulator returns a Gateway to the simulator at baseURL ("http://host:port"),
// bearing apiKey. timeout limits each call as a whole. It returns an error for a
// URL that is none; it doesn't touch the network.
func NewSimulator(baseURL, apiKey string, timeout time.Duration) (*Simulator, error) {
	u, err := url.Parse(baseURL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil {
		return nil, fmt.Errorf("the provider's URL is not http://host:port or https://host:port")
	}
	return &Simulator{
		base: strings.TrimSuffix(u.String(), "/") + "/provider/v1/authorizations",
		key:  apiKey,
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

// simAuthorization is the simulator's word about an authorization.
type simAuthorization struct {
	ID     string `json:"id"`
	Status string `json:"status"`
	Code   string `json:"code"`
	Type   string `json:"type"` // of a problem (RFC 9457)
}

// Authorize asks for an authorization.
func (s *Simulator) Authorize(ctx context.Context, r AuthorizeRequest) (Authorization, error) {
	status, got, err := s.call(ctx, http.MethodPost, "", r.Key, map[string]any{
		"amount_minor": r.AmountMinor, "currency": r.Currency, "method_token": r.MethodToken, "reference": r.Reference,
	})
	if err != nil {
		return Authorization{}, fmt.Errorf("authorize under key %s: %w", r.Key, err)
	}
	a := got.authorization()
	if status == http.StatusCreated && a.Status != Approved || status == http.StatusPaymentRequired && a.Status != Refused {
		return Authorization{}, fmt.Errorf("authorize under key %s: answer %d says %q: %w", r.Key, status, got.Status, errProvider)
	}
	return a, nil
}

// Capture takes amountMinor of the authorization ref.
func (s *Simulator) Capture(ctx context.Context, key, ref string, amountMinor int64) error {
	_, got, err := s.call(ctx, http.MethodPost, "/"+url.PathEscape(ref)+"/capture", key, map[string]any{"amount_minor": amountMinor})
	if err == nil && got.authorization().Status != Taken {
		err = fmt.Errorf("answer says %q: %w", got.Status, errProvider)
	}
	if err != nil {
		return fmt.Errorf("capture under key %s: %w", key, err)
	}
	return nil
}

// Void gives back what the authorization ref set aside.
func (s *Simulator) Void(ctx context.Context, key, ref string) error {
	_, got, err := s.call(ctx, http.MethodPost, "/"+url.PathEscape(ref)+"/void", key, nil)
	if err == nil && got.authorization().Status != Closed {
		err = fmt.Errorf("answer says %q: %w", got.Status, errProvider)
	}
	if err != nil {
		return fmt.Errorf("void under key %s: %w", key, err)
	}
	return nil
}

// Lookup says what came of Authorize under key.
func (s *Simulator) Lookup(ctx context.Context, key string) (Authorization, error) {
	status, got, err := s.call(ctx, http.MethodGet, "?key="+url.QueryEscape(key), "", nil)
	if err != nil {
		return Authorization{}, fmt.Errorf("look up key %s: %w", key, err)
	}
	if status == http.StatusNotFound {
		return Authorization{Status: Unknown}, nil
	}
	a := got.authorization()
	if a.Status == "" || a.Ref == "" {
		return Authorization{}, fmt.Errorf("look up key %s: answer says %q: %w", key, got.Status, errProvider)
	}
	return a, nil
}

// authorization translates; a status that the simulator doesn't have, or an
// answer without an id, gives the zero Outcome.
func (a simAuthorization) authorization() Authorization {
	outcome := map[string]Outcome{"authorized": Approved, "declined": Refused, "voided": Closed, "captured": Taken}[a.Status]
	if a.ID == "" {
		outcome = ""
	}
	return Authorization{Ref: a.ID, Status: outcome, ReasonCode: a.Code}
}

// call sends one request and sorts the answers: those that are one (2xx, 402,
// and 404 to a GET) come back; what is wrong with us or the provider now (401,
// 403, 408, 425, 429, 5xx) is an error to try again; any other 4xx a
// *RefusedError, marked permanent.
func (s *Simulator) call(ctx context.Context, method, where, key string, body any) (int, simAuthorization, error) {
	var got simAuthorization
	res, err := s.send(ctx, method, where, key, body)
	if err != nil {
		return 0, got, away(err)
	}
	text, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if closeErr := res.Body.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return 0, got, away(fmt.Errorf("read the answer: %w", err))
	}
	decodeErr := json.Unmarshal(text, &got)
	switch code := res.StatusCode; {
	case code == http.StatusNotFound && method == http.MethodGet:
		return code, got, nil
	case code == http.StatusOK, code == http.StatusCreated, code == http.StatusPaymentRequired:
		if decodeErr != nil {
			return 0, got, fmt.Errorf("answer %d is no JSON: %w", code, errProvider)
		}
		return code, got, nil
	case code < 400, code >= 500,
		code == http.StatusUnauthorized, code == http.StatusForbidden, code == http.StatusRequestTimeout,
		code == http.StatusTooEarly, code == http.StatusTooManyRequests:
		return 0, got, away(fmt.Errorf("answer %d: %w", code, errProvider))
	default:
		if got.Code == "" && got.Type != "" {
			got.Code = path.Base(got.Type)
		}
		return 0, got, messaging.Permanent(&RefusedError{Status: code, Code: got.Code})
	}
}

// away marks err as the provider's: the same request is made again, under the
// same key, for as long as the provider takes to come back.
func away(err error) error {
	return messaging.Later(500*time.Millisecond+rand.N(500*time.Millisecond), err)
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
		req.Header.Set("Idempotency-Key", key)
	}
	return s.client.Do(req)
}
