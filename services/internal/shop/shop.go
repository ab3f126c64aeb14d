// Package shop lists the services that make up the shop, for the programs that
// deal with all of them: the demo, the migrator, the benchmark. A fifth service
// adds its lines here.
package shop

import (
	"log/slog"

	"github.com/jmoiron/sqlx"

	"example.com/orderflow/inventory"
	"example.com/orderflow/messaging"
	"example.com/orderflow/notifications"
	"example.com/orderflow/orders"
	"example.com/orderflow/payments"
	"example.com/orderflow/services/internal/boot"
	"example.com/orderflow/services/internal/paysim"
)

// Config is what the services can be told, each as its own program can.
type Config struct {
	Orders        orders.Config
	Payments      payments.Config
	Inventory     inventory.Config
	Notifications notifications.Config
	Paysim        paysim.Config
}

// Service is one of the services, ready to be run by boot.Run.
type Service struct {
	Spec  messaging.Spec
	Build boot.Build
}

// Services lists the services as cfg tells them to be, the payment provider's
// simulator among them.
func Services(cfg Config) []Service {
	return []Service{
		{orders.Spec(), func(db *sqlx.DB, bus *messaging.Bus, log *slog.Logger) (boot.Service, error) {
			return orders.New(cfg.Orders, db, bus, log)
		}},
		{payments.Spec(), func(db *sqlx.DB, bus *messaging.Bus, log *slog.Logger) (boot.Service, error) {
			return payments.New(cfg.Payments, db, bus, log)
		}},
		{inventory.Spec(), func(db *sqlx.DB, bus *messaging.Bus, log *slog.Logger) (boot.Service, error) {
			return inventory.New(cfg.Inventory, db, bus, log)
		}},
		{notifications.Spec(), func(db *sqlx.DB, bus *messaging.Bus, log *slog.Logger) (boot.Service, error) {
			return notifications.New(cfg.Notifications, db, bus, log)
		}},
		{paysim.Spec(), func(db *sqlx.DB, _ *messaging.Bus, log *slog.Logger) (boot.Service, error) {
			return paysim.New(cfg.Paysim, db, log)
		}},
	}
}

// Specs declares every service to the migrator.
func Specs() []messaging.Spec {
	services := Services(Config{})
	specs := make([]messaging.Spec, len(services))
	for i, s := range services {
		specs[i] = s.Spec
	}
	return specs
}
