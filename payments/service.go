package payments

import (
	"context"
	"embed"
	"log/slog"
	"time"

	"github.com/jmoiron/sqlx"

	"example.com/orderflow/messaging"
	"example.com/orderflow/messaging/contracts"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Spec declares what payments receives and says. Its one queue is leased: every
// command of it talks to the provider.
func Spec() messaging.Spec {
	return messaging.Spec{
		Name: "payments",
		Queues: []messaging.Queue{{
			Name: "payments",
			Mode: messaging.Leased,
			Kinds: []string{
				contracts.KindAuthorizePayment, contracts.KindCapturePayment, contracts.KindVoidPayment,
			},
		}},
		Speaks: []string{
			contracts.KindPaymentAuthorized, contracts.KindPaymentDeclined,
			contracts.KindPaymentCaptured, contracts.KindPaymentVoided,
		},
		Migrations: migrations,
	}
}

// Config is what payments is told by its environment.
type Config struct {
	// ProviderURL is where the provider is: "http://host:port".
	ProviderURL string `env:"PAYMENTS_PROVIDER_URL" envDefault:"http://127.0.0.1:8090" validate:"required,http_url"`
	// ProviderKey is the API key that the provider gave us. The default is the
	// simulator's, which moves no money.
	ProviderKey string `env:"PAYMENTS_PROVIDER_KEY" envDefault:"paysim-test-key" validate:"required"`
	// ProviderWebhookSecret is what the provider signs its webhooks with: base64,
	// "whsec_" before it. The default is the simulator's.
	ProviderWebhookSecret string `env:"PAYMENTS_PROVIDER_WEBHOOK_SECRET,unset" envDefault:"whsec_cGF5c2ltLXdlYmhvb2stdGVzdC1zZWNyZXQ=" validate:"required"`
	// ProviderTimeout limits a call of the provider as a whole; connecting alone
	// may take one second of it. It is to end well before the handler does.
	ProviderTimeout time.Duration `env:"PAYMENTS_PROVIDER_TIMEOUT" envDefault:"10s" validate:"min=100ms,max=25s"`
}

// Service is payments in one process.
type Service struct {
	bus     *messaging.Bus
	store   store
	gateway Gateway
	log     *slog.Logger
}

// New returns the service with its handlers registered on bus. db is a pool
// under payments' role. It returns an error when cfg.ProviderURL is no URL.
func New(cfg Config, db *sqlx.DB, bus *messaging.Bus, log *slog.Logger) (*Service, error) {
	gateway, err := NewSimulator(cfg.ProviderURL, cfg.ProviderKey, cfg.ProviderWebhookSecret, cfg.ProviderTimeout)
	if err != nil {
		return nil, err
	}
	return newService(gateway, db, bus, log), nil
}

func newService(gateway Gateway, db *sqlx.DB, bus *messaging.Bus, log *slog.Logger) *Service {
	s := &Service{bus: bus, store: store{db}, gateway: gateway, log: log}
	messaging.HandleOutside(bus, s.authorizePayment)
	messaging.HandleOutside(bus, s.capturePayment)
	messaging.HandleOutside(bus, s.voidPayment)
	return s
}

// Ready returns nil: payments needs nothing but its Bus to be ready. A provider
// that is away makes commands wait; it doesn't make the service unready.
func (s *Service) Ready(context.Context) error { return nil }
