package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"

	"example.com/orderflow/services/internal/bench"
	"example.com/orderflow/services/internal/boot"
)

// benchCommand measures the messaging layer and the shop, beside pgbench and what
// others would take instead, on a PostgreSQL of its own.
type benchCommand struct {
	Quick   bool     `help:"One short round, at most two minutes: for a look, not for figures to quote."`
	Only    []string `placeholder:"PART,..." help:"Measure only these parts: ${parts}."`
	Rounds  int      `placeholder:"N" help:"How often everything is measured (default 3; quick 1)."`
	JSON    bool     `name:"json" help:"Print the figures as JSON."`
	SVG     string   `name:"svg" type:"path" placeholder:"FILE" help:"Draw the figures."`
	Profile string   `type:"path" placeholder:"DIR" help:"Write CPU profiles of this process, and the statements that took the server longest."`
}

// Help says what is measured.
func (benchCommand) Help() string {
	return `The least SQL that one order needs, done by pgbench in six transactions and in
one, is the yardstick. The same SQL goes through four services on our messaging
layer (chain), through watermill-sql with its forwarder (stock), River and DBOS;
then the whole shop over HTTP (shop). Each in a burst, and at 50 orders/s for the
time from placed to confirmed. It takes up to 15 minutes, needs pgbench and, for
stock, river and dbos, the go command in a checkout of this module.`
}

// partNames are the parts of the benchmark as the command line's help lists them.
func partNames() string { return strings.Join(bench.Parts(), ", ") }

// Run measures and prints the figures. Progress goes to standard error.
func (c benchCommand) Run(ctx context.Context) error {
	boot.SpareCollector() // as a service has it: the messaging layer runs in here
	report, err := bench.Run(ctx, bench.Config{
		Quick: c.Quick, Only: c.Only, Rounds: c.Rounds, Profile: c.Profile, Progress: os.Stderr,
		Log: boot.NewLog(boot.LogConfig{Level: slog.LevelWarn, Format: "text"}),
	})
	if err != nil {
		return err
	}
	if c.SVG != "" {
		err = report.Plot(c.SVG)
	}
	if !c.JSON {
		return errors.Join(err, report.Write(os.Stdout))
	}
	e := json.NewEncoder(os.Stdout)
	e.SetIndent("", "  ")
	if jerr := e.Encode(report); jerr != nil {
		err = errors.Join(err, fmt.Errorf("print the figures: %w", jerr))
	}
	return err
}
