package notifications

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// WebhookConfig says how customers' endpoints are called.
type WebhookConfig struct {
	// Insecure also allows http and addresses of our own net: for demos and tests.
	Insecure bool `env:"NOTIFICATIONS_WEBHOOK_INSECURE" envDefault:"false"`
	// Timeout limits an attempt as a whole. It is to end well before the handler does.
	Timeout time.Duration `env:"NOTIFICATIONS_WEBHOOK_TIMEOUT" envDefault:"10s" validate:"min=50ms,max=25s"`
	// Retries are the pauses between attempts: one more attempt than there are pauses.
	// The default is the schedule of Standard Webhooks, three days in all.
	Retries []time.Duration `env:"NOTIFICATIONS_WEBHOOK_RETRIES" envDefault:"5s,5m,30m,2h,5h,10h,14h,20h,24h" validate:"max=50,dive,min=0s,max=168h"`
	// DisableAfter is how many attempts in a row may fail, of whatever notification,
	// before an endpoint is disabled.
	DisableAfter int `env:"NOTIFICATIONS_WEBHOOK_DISABLE_AFTER" envDefault:"50" validate:"min=1"`
	// Endpoints is how many a customer may have.
	Endpoints int `env:"NOTIFICATIONS_WEBHOOK_ENDPOINTS" envDefault:"5" validate:"min=1,max=20"`

	// Authorities are whom an endpoint's certificate must be from, and Resolver looks
	// its name up; nil = the system's. For programs that bring their own.
	Authorities *x509.CertPool `env:"-" validate:"-"`
	Resolver    *net.Resolver  `env:"-" validate:"-"`
}

// hooks calls customers' endpoints.
type hooks struct {
	cfg    WebhookConfig
	guard  guard
	client *http.Client
}

func newHooks(cfg WebhookConfig) *hooks {
	if cfg.Resolver == nil {
		cfg.Resolver = net.DefaultResolver
	}
	g := guard{insecure: cfg.Insecure, resolver: cfg.Resolver}
	dialer := &net.Dialer{Timeout: 5 * time.Second, Resolver: cfg.Resolver, Control: g.control}
	return &hooks{cfg: cfg, guard: g, client: &http.Client{
		Timeout: cfg.Timeout,
		Transport: &http.Transport{
			// No Proxy: it would connect where control doesn't see it.
			DialContext:            dialer.DialContext,
			TLSClientConfig:        &tls.Config{RootCAs: cfg.Authorities, MinVersion: tls.VersionTLS12},
			TLSHandshakeTimeout:    5 * time.Second,
			MaxResponseHeaderBytes: 16 << 10,
			DisableCompression:     true,
			// A connection each: nothing of one customer's is left for another, and the
			// address is looked at every time.
			DisableKeepAlives: true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// newSecret returns a signing secret as Standard Webhooks writes it: 24 random bytes.
func newSecret() (string, error) {
	var b [24]byte
	if _, err := rand.Read(b[:]); err != nil {
		return "", fmt.Errorf("make a secret: %w", err)
	}
	return "whsec_" + base64.StdEncoding.EncodeToString(b[:]), nil
}

// hookBody is what an endpoint is told: that something happened. What there is to
// know about the order it asks the API, under its own name.
type hookBody struct {
	Type      string       `json:"type"`      // kind of the event
	Timestamp time.Time    `json:"timestamp"` // when it occurred, UTC
	Data      hookBodyData `json:"data"`
}

type hookBodyData struct {
	NotificationID string `json:"notification_id"`
	OrderID        string `json:"order_id"`
	Subject        string `json:"subject"`
}

// attempt is one call of an endpoint, or the decision not to call it.
type attempt struct {
	EndpointID string
	Sent       bool
	HTTPStatus int    // 0 = there was no answer
	ReasonCode string // why it failed
	Duration   time.Duration
}

// post calls d's endpoint about n once. The webhook-id is the notification's id,
// however often it comes; the signature is of id, time and body (Standard
// Webhooks 1.0). Any 2xx is success. Of an answer only the status is looked at.
func (h *hooks) post(ctx context.Context, n mailing, d delivery) attempt {
	a := attempt{EndpointID: d.EndpointID}
	if d.Closed != "" {
		a.ReasonCode = d.Closed
		return a
	}
	req, err := signed(ctx, n, d)
	if err != nil {
		a.ReasonCode = "endpoint_invalid"
		return a
	}
	begun := time.Now()
	res, err := h.client.Do(req)
	a.Duration = time.Since(begun)
	if err != nil {
		a.ReasonCode = whyUnanswered(err)
		return a
	}
	// What is in it may be endless: the connection goes with it.
	_ = res.Body.Close()
	a.HTTPStatus = res.StatusCode
	if a.Sent = res.StatusCode >= 200 && res.StatusCode < 300; !a.Sent {
		a.ReasonCode = "http_" + strconv.Itoa(res.StatusCode)
	}
	return a
}

// signed is the request that tells d's endpoint of n.
func signed(ctx context.Context, n mailing, d delivery) (*http.Request, error) {
	body, err := json.Marshal(hookBody{
		Type: n.Kind, Timestamp: n.OccurredAt.UTC(),
		Data: hookBodyData{NotificationID: n.ID, OrderID: n.OrderID, Subject: n.Subject},
	})
	if err != nil {
		return nil, fmt.Errorf("encode webhook %s: %w", n.ID, err)
	}
	signer, err := standardwebhooks.NewWebhook(d.Secret)
	if err != nil {
		return nil, fmt.Errorf("sign webhook %s: %w", n.ID, err)
	}
	signature, err := signer.Sign(n.ID, n.Now, body)
	if err != nil {
		return nil, fmt.Errorf("sign webhook %s: %w", n.ID, err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, d.URL, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("call for webhook %s: %w", n.ID, err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "Orderflow-Webhooks/1")
	// In the standard's own spelling, which is lower case.
	req.Header[standardwebhooks.HeaderWebhookID] = []string{n.ID}
	req.Header[standardwebhooks.HeaderWebhookTimestamp] = []string{strconv.FormatInt(n.Now.Unix(), 10)}
	req.Header[standardwebhooks.HeaderWebhookSignature] = []string{signature}
	return req, nil
}

// whyUnanswered is the reason code of an attempt without an answer. The error's
// own text stays here: it has the URL in it, and that may have a token.
func whyUnanswered(err error) string {
	var timeout net.Error
	var name *net.DNSError
	var certificate *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	switch {
	case errors.Is(err, errInside):
		return "address_refused"
	case errors.As(err, &timeout) && timeout.Timeout():
		return "timeout"
	case errors.As(err, &name):
		return "name_unknown"
	case errors.As(err, &certificate), errors.As(err, &record):
		return "tls"
	}
	return "connection"
}

// delivery is a notification on its way to an endpoint.
type delivery struct {
	NotificationID string `db:"notification_id"`
	EndpointID     string `db:"endpoint_id"`
	Status         string `db:"status"` // waiting, sending, sent, failed
	Tries          int    `db:"tries"`  // since it was written or replayed
	URL            string `db:"url"`
	Secret         string `db:"secret"` // "" of a deleted endpoint
	Closed         string `db:"closed"` // why the endpoint isn't to be called: disabled or deleted

	wait time.Duration // until the next attempt, of a waiting one
}

// after is d after a: sent, failed for good, or waiting for the next attempt of
// the schedule.
func (d delivery) after(a attempt, schedule []time.Duration) delivery {
	switch {
	case a.Sent:
		d.Status = "sent"
	case d.Closed != "" || a.gone() || d.Tries >= len(schedule):
		d.Status = "failed"
	default:
		d.Status, d.wait = "waiting", schedule[d.Tries]
	}
	d.Tries++
	return d
}

// gone reports whether the endpoint says that it will never be there again.
func (a attempt) gone() bool { return a.HTTPStatus == http.StatusGone }

// outcomeOf is what has become of a notification whose deliveries are list: it is
// pending while one of them is open, sent when all are, else failed. Why each
// failed is in the log of its attempts.
func outcomeOf(list []delivery) outcome {
	out := outcome{Status: Sent}
	for _, d := range list {
		switch d.Status {
		case "waiting", "sending":
			return outcome{Status: Pending}
		case "failed":
			out = outcome{Failed, "not_delivered"}
		}
	}
	return out
}
