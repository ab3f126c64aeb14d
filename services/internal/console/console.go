// Package console is the front of the shop: one address for the API of all
// services, and a page that says what to type. It holds no state and speaks
// HTTP only.
package console

import (
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"time"
)

//go:embed page.html
var pages embed.FS

// Config says where the services are.
type Config struct {
	OrdersURL        string `env:"ORDERS_URL" envDefault:"http://127.0.0.1:8081" validate:"http_url"`
	PaymentsURL      string `env:"PAYMENTS_URL" envDefault:"http://127.0.0.1:8082" validate:"http_url"`
	InventoryURL     string `env:"INVENTORY_URL" envDefault:"http://127.0.0.1:8083" validate:"http_url"`
	NotificationsURL string `env:"NOTIFICATIONS_URL" envDefault:"http://127.0.0.1:8084" validate:"http_url"`
}

// Console is the front.
type Console struct {
	mux    *http.ServeMux
	client *http.Client
	orders string
}

// transport gives up on a service that doesn't take a connection; how long an
// answer takes is the service's business (Prefer: wait).
func transport() *http.Transport {
	return &http.Transport{
		DialContext:           (&net.Dialer{Timeout: time.Second}).DialContext,
		MaxIdleConnsPerHost:   64,
		IdleConnTimeout:       30 * time.Second,
		ResponseHeaderTimeout: time.Minute,
	}
}

// New returns the front of the services at cfg's addresses.
func New(cfg Config, log *slog.Logger) (*Console, error) {
	c := &Console{mux: http.NewServeMux(), client: &http.Client{Transport: transport(), Timeout: 3 * time.Second}, orders: cfg.OrdersURL}
	t := transport()
	for prefix, base := range map[string]string{
		"/v1/orders": cfg.OrdersURL, "/v1/availability": cfg.OrdersURL, "/v1/payments": cfg.PaymentsURL, "/v1/provider-webhooks": cfg.PaymentsURL,
		"/v1/products": cfg.InventoryURL, "/v1/shipments": cfg.InventoryURL, "/v1/stock-moves": cfg.InventoryURL,
		"/v1/notifications": cfg.NotificationsURL,
	} {
		target, err := url.Parse(base)
		if err != nil {
			return nil, fmt.Errorf("address of %s: %w", prefix, err)
		}
		proxy := forward(target, t, log)
		c.mux.Handle(prefix, proxy)
		c.mux.Handle(prefix+"/", proxy)
	}
	page, err := template.ParseFS(pages, "page.html")
	if err != nil {
		return nil, fmt.Errorf("the front page: %w", err)
	}
	c.mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'")
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		if err := page.Execute(w, r.Host); err != nil {
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
	c.mux.ServeHTTP(w, r)
}

// Close drops idle connections.
func (c *Console) Close() { c.client.CloseIdleConnections() }

// forward passes requests on and answers 503 while the service is away, which a
// client may try again.
func forward(target *url.URL, t http.RoundTripper, log *slog.Logger) http.Handler {
	return &httputil.ReverseProxy{
		Transport: t,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.SetXForwarded()
		},
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			if errors.Is(err, context.Canceled) {
				return // the client has gone
			}
			log.Warn("service can't be reached", "addr", target.Host, "err", err)
			w.Header().Set("Retry-After", "1")
			problem(w, http.StatusServiceUnavailable, "unavailable", "Unavailable", "the service can't be reached now; nothing was stored unless the same key says otherwise")
		},
	}
}

// ready answers 200 once orders is: it needs its queue, and has heard of the products.
func (c *Console) ready(w http.ResponseWriter, r *http.Request) {
	req, err := http.NewRequestWithContext(r.Context(), http.MethodGet, strings.TrimSuffix(c.orders, "/")+"/readyz", nil)
	if err == nil {
		var res *http.Response
		if res, err = c.client.Do(req); err == nil {
			err = res.Body.Close()
			if res.StatusCode != http.StatusOK {
				err = errors.Join(err, fmt.Errorf("orders answers %s", res.Status))
			}
		}
	}
	if err != nil {
		w.Header().Set("Retry-After", "1")
		problem(w, http.StatusServiceUnavailable, "unavailable", "Unavailable", "not ready: "+err.Error())
		return
	}
	answer(w, http.StatusOK, "application/json", map[string]string{"status": "ready"})
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
