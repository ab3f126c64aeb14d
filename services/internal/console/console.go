// Package console is the front of the shop: one address for the API of all
// services, and a page that says what to type. It speaks HTTP only and holds no
// state, the mails apart that a Mailbox catches by SMTP where one is wanted.
package console

import (
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"log/slog"
	"net/http"
	"net/http/httputil"

	"example.com/orderflow/messaging/httpapi"
)

//go:embed page.html
var pages embed.FS

// Config says where the services are. Of a service that runs in several copies it
// lists all addresses ("http://a:8081,http://b:8081"), or one name that stands for
// all: requests are shared out among those that are up.
type Config struct {
	OrdersURLs        []string `env:"ORDERS_URL" envDefault:"http://127.0.0.1:8081" validate:"dive,http_url"`
	PaymentsURLs      []string `env:"PAYMENTS_URL" envDefault:"http://127.0.0.1:8082" validate:"dive,http_url"`
	InventoryURLs     []string `env:"INVENTORY_URL" envDefault:"http://127.0.0.1:8083" validate:"dive,http_url"`
	NotificationsURLs []string `env:"NOTIFICATIONS_URL" envDefault:"http://127.0.0.1:8084" validate:"dive,http_url"`

	// Mailbox, when set, is shown at /v1/mailbox.
	Mailbox *Mailbox `env:"-" validate:"-"`
}

// Console is the front.
type Console struct {
	mux      *http.ServeMux
	orders   *replicas
	services []*replicas // all
}

// front is what the page is made of.
type front struct {
	Host    string
	Mailbox bool
}

// maxBody is more than any service takes.
const maxBody = 1 << 20

// New returns the front of the services at cfg's addresses. Close it.
func New(cfg Config, log *slog.Logger) (_ *Console, err error) {
	c := &Console{mux: http.NewServeMux()}
	defer func() {
		if err != nil {
			c.Close()
		}
	}()
	for _, s := range []struct {
		name     string
		urls     []string
		prefixes []string
	}{
		{"orders", cfg.OrdersURLs, []string{"/v1/orders", "/v1/availability"}},
		{"payments", cfg.PaymentsURLs, []string{"/v1/payments", "/v1/provider-webhooks"}},
		{"inventory", cfg.InventoryURLs, []string{"/v1/products", "/v1/shipments", "/v1/stock-moves"}},
		{"notifications", cfg.NotificationsURLs, []string{"/v1/notifications", "/v1/webhook-endpoints"}},
	} {
		r, err := newReplicas(s.name, s.urls, log)
		if err != nil {
			return nil, fmt.Errorf("address of %s: %w", s.name, err)
		}
		c.services = append(c.services, r)
		proxy := http.MaxBytesHandler(forward(s.name, r, log), maxBody)
		for _, prefix := range s.prefixes {
			c.mux.Handle(prefix, proxy)
			c.mux.Handle(prefix+"/", proxy)
		}
	}
	c.orders = c.services[0]
	if cfg.Mailbox != nil {
		cfg.Mailbox.mount(c.mux)
	}
	page, err := template.ParseFS(pages, "page.html")
	if err != nil {
		return nil, fmt.Errorf("the front page: %w", err)
	}
	c.mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'")
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		if err := page.Execute(w, front{r.Host, cfg.Mailbox != nil}); err != nil {
			log.Debug("page not sent", "err", err)
		}
	})
	c.mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, r *http.Request) {
		answer(w, http.StatusOK, "application/json", map[string]string{"status": "ok"})
	})
	c.mux.HandleFunc("GET /readyz", c.ready)
	c.mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		problem(w, http.StatusNotFound, "not-found", "Not found", "nothing is at this path")
	})
	return c, nil
}

// ServeHTTP answers r, or has the service answer that owns its path.
func (c *Console) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Referrer-Policy", "no-referrer")
	if httpapi.Misdirected(r, "console") {
		problem(w, http.StatusMisdirectedRequest, "misdirected-request", "Misdirected request", "the console is at this address; nothing was done")
		return
	}
	c.mux.ServeHTTP(w, r)
}

// Close ends the looking for replicas and drops idle connections.
func (c *Console) Close() {
	for _, r := range c.services {
		r.close()
	}
}

// forward passes requests on and answers 503 while the service is away, which a
// client may try again.
func forward(service string, to *replicas, log *slog.Logger) http.Handler {
	return &httputil.ReverseProxy{
		Transport: to, // which knows the addresses, too
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetXForwarded() },
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			if errors.Is(err, context.Canceled) {
				return // the client has gone
			}
			if tooLarge := new(http.MaxBytesError); errors.As(err, &tooLarge) {
				problem(w, http.StatusRequestEntityTooLarge, "body-too-large", "Body too large", fmt.Sprintf("a body may have %d bytes", maxBody))
				return
			}
			log.Warn("service can't be reached", "service", service, "err", err)
			w.Header().Set("Retry-After", "1")
			problem(w, http.StatusServiceUnavailable, "unavailable", "Unavailable", "the service can't be reached now; nothing was stored unless the same key says otherwise")
		},
	}
}

// ready answers 200 once orders is, one replica of it at least: it needs its
// queue, and has heard of the products.
func (c *Console) ready(w http.ResponseWriter, r *http.Request) {
	err := errors.New("no address of orders is known")
	for _, p := range c.orders.inTurn() {
		if err = p.ready(r.Context()); err == nil {
			answer(w, http.StatusOK, "application/json", map[string]string{"status": "ready"})
			return
		}
	}
	w.Header().Set("Retry-After", "1")
	problem(w, http.StatusServiceUnavailable, "unavailable", "Unavailable", "not ready: orders: "+err.Error())
}

func problem(w http.ResponseWriter, status int, code, title, detail string) {
	answer(w, status, "application/problem+json", map[string]any{
		"type": "https://orderflow.example/problems/" + code, "title": title, "status": status, "detail": detail,
	})
}

func answer(w http.ResponseWriter, status int, mediaType string, body any) {
	w.Header().Set("Content-Type", mediaType)
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	// A client that hangs up while it is answered is no event.
	_ = json.NewEncoder(w).Encode(body)
}
