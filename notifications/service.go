package notifications

import (
	"context"
	"embed"
	"fmt"
	"log/slog"
	"time"

	"github.com/go-playground/validator/v10"
	"github.com/jmoiron/sqlx"

	"example.com/orderflow/messaging"
	"example.com/orderflow/messaging/contracts"
)

//go:embed migrations/*.sql
var migrations embed.FS

// The queues. What happens to orders must not wait for a mail server: so the
// sending has a queue of its own.
const (
	queue     = "notifications"
	queueSend = "notifications_send"
)

// notified are the kinds that customers are told of.
func notified() []string {
	return []string{
		contracts.KindOrderPlaced, contracts.KindOrderConfirmed, contracts.KindOrderActionRequired, contracts.KindOrderAmended,
		contracts.KindOrderShipped, contracts.KindOrderDelivered, contracts.KindOrderCompleted,
		contracts.KindOrderCancelled, contracts.KindCancelRefused, contracts.KindOrderRejected, contracts.KindOrderExpired,
		contracts.KindOrderRefunded,
	}
}

// Spec declares the service to the messaging layer. No queue is replayable:
// customers are told once.
func Spec() messaging.Spec {
	sendings := []string{contracts.KindSendNotification, contracts.KindResendNotification}
	return messaging.Spec{
		Name: "notifications",
		Queues: []messaging.Queue{
			{Name: queue, Mode: messaging.Transactional, Kinds: notified()},
			{Name: queueSend, Mode: messaging.Leased, Kinds: sendings},
		},
		Sends:      sendings,
		Speaks:     []string{contracts.KindNotificationSent, contracts.KindNotificationFailed},
		Migrations: migrations,
	}
}

// Config is what can be set from outside.
type Config struct {
	Mail     MailConfig
	Webhooks WebhookConfig
}

// Service is the notifications service of one process.
type Service struct {
	db     *sqlx.DB
	bus    *messaging.Bus
	log    *slog.Logger
	texts  texts
	mailer *mailer // nil when e-mail is off
	hooks  *hooks
	look   time.Duration // between two looks for deliveries that are due
	wake   func()        // has the next look happen now
}

// New returns the service on db, a pool under its own role, with its handlers and
// its schedule registered on bus. It fails when cfg is not valid or a text is
// missing or broken; it doesn't touch the network.
func New(cfg Config, db *sqlx.DB, bus *messaging.Bus, log *slog.Logger) (*Service, error) {
	if err := validator.New(validator.WithRequiredStructEnabled()).Struct(cfg); err != nil {
		return nil, fmt.Errorf("configuration of notifications: %w", err)
	}
	texts, err := parseTexts(notified())
	if err != nil {
		return nil, err
	}
	mailer, err := newMailer(cfg.Mail)
	if err != nil {
		return nil, err
	}
	s := &Service{db: db, bus: bus, log: log, texts: texts, mailer: mailer, hooks: newHooks(cfg.Webhooks), look: time.Second}
	messaging.Handle(bus, s.onOrderPlaced)
	messaging.Handle(bus, s.onOrderConfirmed)
	messaging.Handle(bus, s.onOrderActionRequired)
	messaging.Handle(bus, s.onOrderAmended)
	messaging.Handle(bus, s.onOrderShipped)
	messaging.Handle(bus, s.onOrderDelivered)
	messaging.Handle(bus, s.onOrderCompleted)
	messaging.Handle(bus, s.onOrderCancelled)
	messaging.Handle(bus, s.onCancelRefused)
	messaging.Handle(bus, s.onOrderRejected)
	messaging.Handle(bus, s.onOrderExpired)
	messaging.Handle(bus, s.onOrderRefunded)
	messaging.HandleOutside(bus, s.sendNotification)
	messaging.HandleOutside(bus, s.resendNotification)
	s.wake = bus.Schedule("deliveries due", s.sendDue)
	return s, nil
}

// Ready returns nil: the service needs nothing besides its bus. A mail server
// that is away makes mails wait; it doesn't make the service unready.
func (s *Service) Ready(context.Context) error { return nil }
