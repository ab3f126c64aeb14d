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
				contracts.KindAuthorizePayment, contracts.KindCapturePayment, contracts.KindVoidPayment, contracts.KindRefundPayment,
				contracts.KindLookUpPayment, contracts.KindReconcilePayments,
			},
		}},
		Sends: []string{contracts.KindLookUpPayment, contracts.KindReconcilePayments}, // to itself
		Speaks: []string{
			contracts.KindPaymentAuthorized, contracts.KindPaymentDeclined,
			contracts.KindPaymentCaptured, contracts.KindCaptureFailed,
			contracts.KindPaymentVoided, contracts.KindPaymentVoidRefused,
			contracts.KindRefundSucceeded, contracts.KindRefundFailed,
		},
		Migrations: migrations,
	}
}

// Config is what payments is told by its environment.
type Config struct {
	// Provider is who moves the money: paysim, the simulator, or stripe.
	Provider string `env:"PAYMENTS_PROVIDER" envDefault:"paysim" validate:"omitempty,oneof=paysim stripe"`
	// Stripe is used when Provider is stripe; the simulator's are the next three.
	Stripe StripeConfig
	// ProviderURL is where the provider is: "http://host:port".
	ProviderURL string `env:"PAYMENTS_PROVIDER_URL" envDefault:"http://127.0.0.1:8090" validate:"required,http_url"`
	// ProviderKey is the API key that the provider gave us. The default is the
	// simulator's, which moves no money.
	ProviderKey string `env:"PAYMENTS_PROVIDER_KEY" envDefault:"paysim-test-key" validate:"required"`
	// ProviderWebhookSecret is what the provider signs its webhooks with: base64,
	// "whsec_" before it. The default is the simulator's.
	ProviderWebhookSecret string `env:"PAYMENTS_PROVIDER_WEBHOOK_SECRET,unset" envDefault:"whsec_cGF5c2ltLXdlYmhvb2stdGVzdC1zZWNyZXQ=" validate:"required"`
	// ReconcileEvery is how often our ledger is compared with the provider's books by
	// itself; 0 = only when an operator asks.
	ReconcileEvery time.Duration `env:"PAYMENTS_RECONCILE_EVERY" envDefault:"15m" validate:"min=0s,max=24h"`
	// ReconcileSettle is how old a movement is before the books must agree about it.
	ReconcileSettle time.Duration `env:"PAYMENTS_RECONCILE_SETTLE" envDefault:"1m" validate:"min=0s,max=24h"`
	// ProviderTimeout limits a call of the provider as a whole; connecting alone
	// may take one second of it. It is to end well before the handler does.
	ProviderTimeout time.Duration `env:"PAYMENTS_PROVIDER_TIMEOUT" envDefault:"10s" validate:"min=100ms,max=25s"`
}

// Service is payments in one process.
type Service struct {
	bus   *messaging.Bus
	cfg   Config
	store store
	log   *slog.Logger
	talk
}

// New returns the service with its handlers registered on bus. db is a pool
// under payments' role. It returns an error when cfg names no provider or a malformed one.
func New(cfg Config, db *sqlx.DB, bus *messaging.Bus, log *slog.Logger) (*Service, error) {
	gateway, err := cfg.gateway()
	if err != nil {
		return nil, err
	}
	return newService(cfg, gateway, db, bus, log), nil
}

func newService(cfg Config, gateway Gateway, db *sqlx.DB, bus *messaging.Bus, log *slog.Logger) *Service {
	s := &Service{bus: bus, cfg: cfg, store: store{db}, log: log}
	s.talk = talk{newBreaker(gateway, log), notesIn(bus, s.store)}
	messaging.HandleOutside(bus, s.authorizePayment)
	messaging.HandleOutside(bus, s.capturePayment)
	messaging.HandleOutside(bus, s.voidPayment)
	messaging.HandleOutside(bus, s.refundPayment)
	messaging.HandleOutside(bus, s.lookUpPayment)
	messaging.HandleOutside(bus, s.reconcilePayments)
	if cfg.ReconcileEvery > 0 {
		bus.Schedule("reconcile", s.reconcileOnSchedule)
	}
	return s
}

// Ready returns nil: payments needs nothing but its Bus to be ready. A provider
// that is away makes commands wait; it doesn't make the service unready.
func (s *Service) Ready(context.Context) error { return nil }
