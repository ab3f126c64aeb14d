// Command paysim runs the payment provider's simulator: a stranger to the shop, with its own books. Its settings come from the environment:
// see config.
package main

import (
	"context"
	"log/slog"

	"github.com/jmoiron/sqlx"

	"example.com/orderflow/messaging"
	"example.com/orderflow/services/internal/boot"
	"example.com/orderflow/services/internal/paysim"
)

// config is what the program is told: what all services are, and its own.
type config struct {
	boot.Config
	Paysim paysim.Config
}

func main() { boot.Main("paysim", run) }

func run(ctx context.Context, cfg config, log *slog.Logger) error {
	return boot.Run(ctx, cfg.Config, paysim.Spec(), log, func(db *sqlx.DB, _ *messaging.Bus, log *slog.Logger) (boot.Service, error) {
		return paysim.New(cfg.Paysim, db, log)
	})
}
