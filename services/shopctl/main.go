// Command shopctl is the operator's tool: it brings the database to what the
// services need, deals with dead letters and puts load on the shop.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"
	"github.com/jmoiron/sqlx"

	"example.com/orderflow/messaging"
	"example.com/orderflow/services/internal/boot"
)

// commands is the command line.
type commands struct {
	Migrate migrateCommand `cmd:"" help:"Bring the database to what the services need: schemas, roles, queues, rights."`
	Dead    deadCommand    `cmd:"" help:"Messages that were given up."`
	Queue   queueCommand   `cmd:"" help:"Pause, resume or replay a queue."`
	Load    loadCommand    `cmd:"" help:"Place orders and measure how long they take."`
	Bench   benchCommand   `cmd:"" help:"Measure the messaging layer and the shop, beside pgbench and what others would take instead."`
}

// database is how commands reach the database.
type database struct {
	DatabaseURL string `env:"DATABASE_URL" required:"" placeholder:"URL" help:"Of an administrator (a superuser, or the owner of the database who may create roles)."`
}

// use opens the database, hands it to f and closes it.
func (d database) use(f func(*sqlx.DB) error) error {
	db, err := messaging.OpenDB(d.DatabaseURL, "shopctl", 4)
	if err != nil {
		return err
	}
	return errors.Join(f(db), db.Close())
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var c commands
	k := kong.Parse(&c, kong.Name("shopctl"), kong.Description("The operator's tool of the shop."), kong.UsageOnError(),
		kong.Vars{"parts": partNames()},
		kong.BindTo(ctx, (*context.Context)(nil)),
		kong.Bind(boot.NewLog(boot.LogConfig{Level: slog.LevelInfo, Format: "text"})))
	if err := k.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "shopctl:", err)
		os.Exit(1)
	}
}
