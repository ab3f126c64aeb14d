package notifications

import (
	"context"
	"embed"
	"log/slog"

	"github.com/jmoiron/sqlx"

	"example.com/orderflow/messaging"
	"example.com/orderflow/messaging/contracts"
)

//go:embed migrations/*.sql
var migrations embed.FS

const queue = "notifications"

// notified are the kinds that customers are told of.
func notified() []string {
	return []string{
		contracts.KindOrderPlaced, contracts.KindOrderConfirmed, contracts.KindOrderActionRequired,
		contracts.KindOrderShipped, contracts.KindOrderDelivered,
		contracts.KindOrderCancelled, contracts.KindOrderRejected, contracts.KindOrderExpired,
	}
}

// Spec declares the service to the messaging layer. Its queue is not replayable:
// customers are told once.
func Spec() messaging.Spec {
	return messaging.Spec{
		Name:       "notifications",
		Queues:     []messaging.Queue{{Name: queue, Mode: messaging.Transactional, Kinds: notified()}},
		Migrations: migrations,
	}
}

// Config is what can be set from outside: nothing yet.
type Config struct{}

// Service is the notifications service of one process.
type Service struct {
	db    *sqlx.DB
	texts texts
}

// New returns the service on db, a pool under its own role, with its handlers
// registered on bus. It fails when a text is missing or broken.
func New(_ Config, db *sqlx.DB, bus *messaging.Bus, _ *slog.Logger) (*Service, error) {
	texts, err := parseTexts(notified())
	if err != nil {
		return nil, err
	}
	s := &Service{db: db, texts: texts}
	messaging.Handle(bus, s.onOrderPlaced)
	messaging.Handle(bus, s.onOrderConfirmed)
	messaging.Handle(bus, s.onOrderActionRequired)
	messaging.Handle(bus, s.onOrderShipped)
	messaging.Handle(bus, s.onOrderDelivered)
	messaging.Handle(bus, s.onOrderCancelled)
	messaging.Handle(bus, s.onOrderRejected)
	messaging.Handle(bus, s.onOrderExpired)
	return s, nil
}

// Ready returns nil: the service needs nothing besides its bus.
func (s *Service) Ready(context.Context) error { return nil }
