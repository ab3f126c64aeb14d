// Command payments runs the payments service. Its settings come from the environment:
// see config.
package main

import (
	"context"
	"log/slog"

	"github.com/jmoiron/sqlx"

	"example.com/orderflow/messaging"
	"example.com/orderflow/payments"
	"example.com/orderflow/services/internal/boot"
)

// config is what the program is told: what all services are, and its own.
type config struct {
	boot.Config
	Payments payments.Config
}

func main() { boot.Main("payments", run) }

func run(ctx context.Context, cfg config, log *slog.Logger) error {
	return boot.Run(ctx, cfg.Config, payments.Spec(), log, func(db *sqlx.DB, bus *messaging.Bus, log *slog.Logger) (boot.Service, error) {
		return payments.New(cfg.Payments, db, bus, log)
	})
}
