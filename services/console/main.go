// Command console runs the front of the shop. Its settings come from the
// environment: see config.
package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"

	"example.com/orderflow/services/internal/boot"
	"example.com/orderflow/services/internal/console"
)

// config is what the program is told.
type config struct {
	Addr    string `env:"ADDR" envDefault:"127.0.0.1:8080" validate:"required"`
	Console console.Config
}

func main() { boot.Main("console", run) }

func run(ctx context.Context, cfg config, log *slog.Logger) error {
	front, err := console.New(cfg.Console, log)
	if err != nil {
		return err
	}
	defer front.Close()
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", cfg.Addr)
	if err != nil {
		return fmt.Errorf("serve the console: %w", err)
	}
	log.Info("serving", "service", "console", "addr", l.Addr().String())
	return boot.Serve(ctx, l, front)
}
