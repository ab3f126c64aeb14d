package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/jmoiron/sqlx"

	"example.com/orderflow/services/internal/verify"
)

// verifyCommand checks the shop's data.
type verifyCommand struct {
	database
	Rest        bool   `help:"Check also what holds only once nothing is under way any more."`
	JSON        bool   `name:"json" help:"Print JSON."`
	Limit       int    `default:"20" help:"How many findings of a check are shown; all are counted."`
	ProviderURL string `name:"provider-url" env:"PROVIDER_URL" placeholder:"URL" help:"Read the payment provider's books there, not in the schema paysim."`
	ProviderKey string `name:"provider-key" env:"PROVIDER_KEY" placeholder:"KEY" help:"The provider's API key; better in the environment."`
}

// Help says what is checked, and what the exit codes mean.
func (verifyCommand) Help() string {
	return `Everything that must hold after any run, whatever was killed: orders and their
history, money against the provider's books, stock against its ledger, every message
handled once, every customer told once. It only reads, all at one moment, beside
running services. An order about which something is under way, or dead, is passed
over where services may still differ.

It ends with 0 when nothing was found, with 1 when something was, with 2 when not
everything could be checked.`
}

// How verify ends, besides 0.
const (
	exitFound     = 1
	exitUnchecked = 2
)

// exitError ends the program with a code of its own.
type exitError struct {
	error
	code int
}

// ExitCode is how the program ends.
func (e exitError) ExitCode() int { return e.code }

// Run prints the report. Its error says how many findings there are, or why
// something could not be checked.
func (c verifyCommand) Run(ctx context.Context, s streams) error {
	var report verify.Report
	err := c.use(func(db *sqlx.DB) (err error) {
		p := progress{out: s.err, shown: isTerminal(s.err)}
		report, err = verify.Run(ctx, db, verify.Options{
			Rest: c.Rest, Limit: c.Limit, Progress: p.at,
			Provider: verify.Provider{URL: c.ProviderURL, Key: c.ProviderKey},
		})
		p.end()
		return err
	})
	if err != nil {
		return exitError{err, exitUnchecked}
	}
	if c.JSON {
		err = s.json(report)
	} else {
		err = writeReport(s.out, report)
	}
	switch {
	case err != nil:
		return exitError{err, exitUnchecked}
	case report.Found() > 0:
		return exitError{fmt.Errorf("%d findings", report.Found()), exitFound}
	case report.Skipped() > 0:
		return exitError{fmt.Errorf("%d checks could not be made", report.Skipped()), exitUnchecked}
	}
	return nil
}

// writeReport writes what r has found, and what it is about.
func writeReport(out io.Writer, r verify.Report) error {
	var b strings.Builder
	broken := 0
	for _, c := range r.Results {
		switch {
		case c.Skipped != "":
			fmt.Fprintf(&b, "%s: not checked: %s\n\n", c.Name, plain(c.Skipped))
		case c.Found > 0:
			broken++
			fmt.Fprintf(&b, "%s: it must be that %s\n", c.Name, c.Says)
			for _, f := range c.First {
				fmt.Fprintf(&b, "  %s: %s\n", plain(f.Subject), plain(f.What))
			}
			if more := c.Found - len(c.First); more > 0 {
				fmt.Fprintf(&b, "  … and %d more\n", more)
			}
			b.WriteString("\n")
		}
	}
	if r.Dead > 0 {
		fmt.Fprintf(&b, "%d dead letters wait for an operator (shopctl dead list): what they are about may differ between services.\n", r.Dead)
	}
	if r.Breaks > 0 {
		fmt.Fprintf(&b, "%d differences to the provider's books were noted by payments and not yet seen gone (GET /v1/payments/breaks).\n", r.Breaks)
	}
	when := "at work"
	if r.Rest {
		when = "at rest"
	}
	fmt.Fprintf(&b, "%d orders %s at %s, %d checks in %.1f s, the provider's books from %s: ", r.Orders, when,
		r.At.UTC().Format(time.RFC3339), len(r.Results)-r.Skipped(), float64(r.Took)/1000, r.Books)
	if broken == 0 {
		b.WriteString("nothing found\n")
	} else {
		fmt.Fprintf(&b, "%d findings by %d checks\n", r.Found(), broken)
	}
	_, err := io.WriteString(out, b.String())
	return err
}

// progress tells on a terminal which check is being made.
type progress struct {
	out   io.Writer
	shown bool
}

// clearLine has a terminal write its line anew.
const clearLine = "\r\x1b[K"

func (p progress) at(done, all int, name string) {
	if p.shown {
		fmt.Fprintf(p.out, "%s%d of %d: %s", clearLine, done+1, all, name)
	}
}

func (p progress) end() {
	if p.shown {
		fmt.Fprint(p.out, clearLine)
	}
}

// isTerminal reports whether out is one.
func isTerminal(out io.Writer) bool {
	f, ok := out.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
