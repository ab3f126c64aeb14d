// Command shopctl is the operator's tool: it brings the database to what the
// services need, checks the shop's data, tells how the queues stand and how an
// order fared, deals with dead letters, moves the clock of a demo, tells stories of
// the shop and puts load on it.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"github.com/alecthomas/kong"
	"github.com/jmoiron/sqlx"

	"example.com/orderflow/messaging"
	"example.com/orderflow/services/internal/boot"
)

// commands is the command line.
type commands struct {
	Migrate  migrateCommand  `cmd:"" help:"Bring the database to what the services need: schemas, roles, queues, rights."`
	Dead     deadCommand     `cmd:"" help:"Messages that were given up: look at them, mend them, have them handled again."`
	Queues   queuesCommand   `cmd:"" help:"How every queue and outbox stands: depth, age, rates, dead."`
	Journey  journeyCommand  `cmd:"" help:"Every message about an order: when, how long, what became of it."`
	Queue    queueCommand    `cmd:"" help:"Pause, resume or replay a queue."`
	Clock    clockCommand    `cmd:"" help:"The shop's clock: read it, set it forward, set it back to real time."`
	Verify   verifyCommand   `cmd:"" help:"Check the shop's data: everything that must hold, whatever has happened."`
	Scenario scenarioCommand `cmd:"" help:"Tell stories of a running shop: every path of an order that a customer can cause."`
	Load     loadCommand     `cmd:"" help:"Place orders and measure how long they take."`
	Ready    readyCommand    `cmd:"" help:"Ask a program whether it can serve."`
	Bench    benchCommand    `cmd:"" help:"Measure the messaging layer and the shop, beside pgbench and what others would take instead."`
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
	parser := kong.Must(&c, options(ctx, streams{in: os.Stdin, out: os.Stdout, err: os.Stderr})...)
	k, err := parser.Parse(negatives(os.Args[1:]))
	parser.FatalIfErrorf(err)
	if err := k.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "shopctl:", err)
		code := 1
		var e interface{ ExitCode() int }
		if errors.As(err, &e) {
			code = e.ExitCode()
		}
		os.Exit(code)
	}
}

// negatives moves what looks like a negative number to the end, behind a "--", where
// it is no flag: so that a command can say what is wrong with it.
func negatives(args []string) []string {
	var others, numbers []string
	for _, a := range args {
		if len(a) > 1 && a[0] == '-' && a[1] >= '0' && a[1] <= '9' {
			numbers = append(numbers, a)
		} else {
			others = append(others, a)
		}
	}
	if len(numbers) == 0 || slices.Contains(args, "--") {
		return args
	}
	return append(append(others, "--"), numbers...)
}

// options are what the command line is made of besides commands.
func options(ctx context.Context, s streams) []kong.Option {
	return []kong.Option{
		kong.Name("shopctl"), kong.Description("The operator's tool of the shop."), kong.UsageOnError(),
		kong.Vars{"parts": partNames()},
		kong.BindTo(ctx, (*context.Context)(nil)),
		kong.Bind(s, boot.NewLog(boot.LogConfig{Level: slog.LevelInfo, Format: "text"})),
	}
}
