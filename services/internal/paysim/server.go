package paysim

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"embed"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/jmoiron/sqlx"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"example.com/orderflow/messaging"
	"example.com/orderflow/messaging/httpapi"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Spec declares a schema and a login role, and no messages.
func Spec() messaging.Spec {
	return messaging.Spec{Name: "paysim", Migrations: migrations}
}

// Config is what the provider is told by its environment.
type Config struct {
	// APIKey is what callers must bear. An empty key lets nobody in.
	APIKey string `env:"PAYSIM_API_KEY" envDefault:"paysim-test-key" validate:"required"`
	// Slow is how long an authorization by tok_slow takes.
	Slow time.Duration `env:"PAYSIM_SLOW" envDefault:"2s" validate:"min=0s,max=1m"`
	// Hang is how long a request that "times out" is kept waiting at most.
	Hang time.Duration `env:"PAYSIM_HANG" envDefault:"30s" validate:"min=0s,max=55s"`
	// WebhookURL is told of everything that happens; "" = nobody is.
	WebhookURL string `env:"PAYSIM_WEBHOOK_URL" validate:"omitempty,http_url"`
	// WebhookSecret signs what it is told: base64, "whsec_" before it.
	WebhookSecret string `env:"PAYSIM_WEBHOOK_SECRET,unset" envDefault:"whsec_cGF5c2ltLXdlYmhvb2stdGVzdC1zZWNyZXQ=" validate:"required"`
	// WebhookPoll is how often due webhooks are looked for.
	WebhookPoll time.Duration `env:"PAYSIM_WEBHOOK_POLL" envDefault:"500ms" validate:"min=1ms,max=1m"`
}

// Server is the provider: its API on its database.
type Server struct {
	cfg      Config
	store    store
	log      *slog.Logger
	conducts conducts
	signer   *standardwebhooks.Webhook
	client   *http.Client
	closing  chan struct{} // closed when Run ends: nobody is kept waiting any more
}

// New returns a Server that keeps its books in db, a pool under paysim's role. It
// returns an error when the webhooks' secret is none.
func New(cfg Config, db *sqlx.DB, log *slog.Logger) (*Server, error) {
	signer, err := standardwebhooks.NewWebhook(cfg.WebhookSecret)
	if err != nil {
		return nil, errors.New("the secret of the webhooks is not base64")
	}
	return &Server{
		cfg: cfg, store: store{db}, log: log, signer: signer, client: webhookClient(), closing: make(chan struct{}),
	}, nil
}

// Routes adds the provider's API to mux, all of it below /provider/v1.
func (s *Server) Routes(mux *httpapi.Mux) {
	mux.Limit(time.Minute) // it keeps clients waiting on purpose
	for pattern, h := range map[string]func(http.ResponseWriter, *http.Request) error{
		"POST /provider/v1/authorizations":              s.authorize,
		"GET /provider/v1/authorizations":               s.lookUp,
		"GET /provider/v1/authorizations/{id}":          s.showOne,
		"POST /provider/v1/authorizations/{id}/capture": s.capture,
		"POST /provider/v1/authorizations/{id}/void":    s.void,
		"POST /provider/v1/authorizations/{id}/refunds": s.refund,
		"GET /provider/v1/refunds":                      s.findRefund,
		"GET /provider/v1/books":                        s.listOperations,
		"PUT /provider/v1/admin/conduct":                s.setConduct,
		"GET /provider/v1/admin/conduct":                s.showConduct,
	} {
		mux.Handle(pattern, s.keyed(h))
	}
}

// keyed lets only callers in that bear the API key. Hashes are compared, so that
// the time taken tells nothing about the key, its length included.
func (s *Server) keyed(h func(http.ResponseWriter, *http.Request) error) func(http.ResponseWriter, *http.Request) error {
	want := sha256.Sum256([]byte(s.cfg.APIKey))
	return func(w http.ResponseWriter, r *http.Request) error {
		scheme, key, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		got := sha256.Sum256([]byte(key))
		if s.cfg.APIKey == "" || !strings.EqualFold(scheme, "Bearer") || subtle.ConstantTimeCompare(got[:], want[:]) != 1 {
			return httpapi.NewProblem(http.StatusUnauthorized, "unauthorized", "a valid API key is needed as a bearer token").
				WithHeader("WWW-Authenticate", `Bearer realm="paysim"`)
		}
		return h(w, r)
	}
}

// Ready returns nil: the provider needs nothing but its database.
func (s *Server) Ready(context.Context) error { return nil }
