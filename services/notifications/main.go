// Command notifications runs the notifications service. Its settings come from the environment:
// see config.
package main

import (
	"context"
	"log/slog"

	"github.com/jmoiron/sqlx"

	"example.com/orderflow/messaging"
	"example.com/orderflow/notifications"
	"example.com/orderflow/services/internal/boot"
)

// config is what the program is told: what all services are, and its own.
type config struct {
	boot.Config
	Notifications notifications.Config
}

func main() { boot.Main("notifications", run) }

func run(ctx context.Context, cfg config, log *slog.Logger) error {
	return boot.Run(ctx, cfg.Config, notifications.Spec(), log, func(db *sqlx.DB, bus *messaging.Bus, log *slog.Logger) (boot.Service, error) {
		return notifications.New(cfg.Notifications, db, bus, log)
	})
}
