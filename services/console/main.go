// Command console runs the front of the shop and catches its mails. Its settings come from the
// environment: see config.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"example.com/orderflow/services/internal/boot"
	"example.com/orderflow/services/internal/console"
)

// config is what the program is told.
type config struct {
	Addr string `env:"ADDR" envDefault:"127.0.0.1:8080" validate:"required"`
	// MailboxAddr is where mails are caught by SMTP, to be shown at /v1/mailbox to
	// whoever asks; off = nowhere. Notifications is to be told of it.
	MailboxAddr string `env:"MAILBOX_ADDR" envDefault:"127.0.0.1:1025"`
	// Drain is boot.Config's.
	Drain time.Duration `env:"DRAIN_DELAY" envDefault:"500ms" validate:"min=0s,max=1m"`
	// Crash kills the process before it passes an answer on: "http.before_answer".
	Crash   boot.Crash `env:"FAULT_CRASH"`
	Console console.Config
}

func main() { boot.Main("console", run) }

func run(ctx context.Context, cfg config, log *slog.Logger) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	catching := make(chan error, 1)
	if cfg.MailboxAddr == "off" {
		catching <- nil
	} else {
		mails, err := new(net.ListenConfig).Listen(ctx, "tcp", cfg.MailboxAddr)
		if err != nil {
			return fmt.Errorf("catch mails: %w", err)
		}
		cfg.Console.Mailbox = console.NewMailbox()
		log.Info("catching mails", "service", "console", "addr", mails.Addr().String())
		go func() {
			defer cancel() // the one ends with the other
			catching <- cfg.Console.Mailbox.Serve(ctx, mails, log)
		}()
	}
	err := serve(ctx, cfg, log)
	cancel()
	return errors.Join(err, <-catching)
}

// serve serves the front until ctx ends.
func serve(ctx context.Context, cfg config, log *slog.Logger) error {
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
	return boot.Serve(ctx, l, cfg.Crash.BeforeAnswer(front, "console", log), cfg.Drain)
}
