package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"text/tabwriter"
	"time"

	"github.com/jmoiron/sqlx"

	"example.com/orderflow/messaging"
)

// queuesCommand shows how the queues and outboxes stand.
type queuesCommand struct {
	database
	Watch bool          `help:"Show it again and again, until interrupted."`
	Every time.Duration `default:"2s" help:"How often, with --watch."`
	JSON  bool          `name:"json" help:"Print JSON; with --watch one line each time."`
}

// Help says what the figures mean.
func (queuesCommand) Help() string {
	return `DEPTH is all that isn't handled: READY to be claimed, DELAYED until its time and
HELD by a consumer. AGAIN waits for another attempt, CRASHED had a consumer die.
OLDEST is the age of the oldest of them. IN/S and OUT/S are messages per second in
the last minute. More than 10,000 are not counted: then ≥ marks the least there
are and ≈ what the server estimates.`
}

// Run shows the queues once, or until ctx ends.
func (c queuesCommand) Run(ctx context.Context) error {
	if c.Every < 100*time.Millisecond {
		return fmt.Errorf("--every %s: at least 100ms", c.Every)
	}
	return c.use(func(db *sqlx.DB) error {
		o := messaging.NewOperator(db, "shopctl")
		for {
			v, err := o.Queues(ctx)
			if err != nil && ctx.Err() != nil {
				return nil // interrupted
			}
			if err == nil {
				err = c.show(os.Stdout, v)
			}
			if err != nil || !c.Watch {
				return err
			}
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(c.Every):
			}
		}
	})
}

// clearScreen has a terminal begin anew at its top.
const clearScreen = "\x1b[H\x1b[2J"

func (c queuesCommand) show(out io.Writer, v messaging.Overview) error {
	var b bytes.Buffer
	if c.JSON {
		e := json.NewEncoder(&b)
		if !c.Watch {
			e.SetIndent("", "  ")
		}
		if err := e.Encode(v); err != nil {
			return fmt.Errorf("print the queues: %w", err)
		}
	} else {
		if c.Watch {
			fmt.Fprintf(&b, "%s%s\n\n", clearScreen, v.At.UTC().Format(time.RFC3339))
		}
		if err := writeQueues(&b, v); err != nil {
			return err
		}
	}
	_, err := out.Write(b.Bytes())
	return err
}

// writeQueues writes v as two tables.
func writeQueues(out io.Writer, v messaging.Overview) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	width := 0 // names stand to the left, figures to the right
	for _, q := range v.Queues {
		width = max(width, len(title(q)))
	}
	for _, b := range v.Outboxes {
		width = max(width, len(b.Service))
	}
	left := func(name string) string { return fmt.Sprintf("%-*s", width, name) }
	fmt.Fprintln(w, left("QUEUE")+"\tDEPTH\tREADY\tDELAYED\tHELD\tAGAIN\tCRASHED\tDEAD\tOLDEST\tIN/S\tOUT/S\t")
	for _, q := range v.Queues {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%.1f\t%.1f\t\n", left(title(q)), q.Depth, q.Ready, q.Delayed, q.InFlight, q.Retried, q.Crashed, q.Dead, age(q.Oldest), q.In, q.Out)
	}
	fmt.Fprintln(w, "\t\t\t\t\t\t\t\t\t\t\t")
	fmt.Fprintln(w, left("OUTBOX OF")+"\tDEPTH\t\t\t\t\t\tDEAD\tOLDEST\t\t\t")
	for _, b := range v.Outboxes {
		fmt.Fprintf(w, "%s\t%s\t\t\t\t\t\t%s\t%s\t\t\t\n", left(b.Service), b.Depth, b.Dead, age(b.Oldest))
	}
	return w.Flush()
}

// title is the name of q and what is unusual about it.
func title(q messaging.QueueState) string {
	name := q.Name
	if q.Run > 0 {
		name += fmt.Sprintf(" run %d", q.Run)
	}
	if q.PausedAt != nil {
		name += " PAUSED"
	}
	return name
}

// age is fit to be read: nothing when there is nothing that is old.
func age(m messaging.Millis) string {
	if m == 0 {
		return "-"
	}
	return m.String()
}
