// Command inventory runs the inventory service. Its settings come from the environment:
// see config.
package main

import (
	"context"
	"log/slog"

	"github.com/jmoiron/sqlx"

	"example.com/orderflow/inventory"
	"example.com/orderflow/messaging"
	"example.com/orderflow/services/internal/boot"
)

// config is what the program is told: what all services are, and its own.
type config struct {
	boot.Config
	Inventory inventory.Config
}

func main() { boot.Main("inventory", run) }

func run(ctx context.Context, cfg config, log *slog.Logger) error {
	return boot.Run(ctx, cfg.Config, inventory.Spec(), log, func(db *sqlx.DB, bus *messaging.Bus, log *slog.Logger) (boot.Service, error) {
		return inventory.New(cfg.Inventory, db, bus, log)
	})
}
