package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"text/tabwriter"
	"time"

	"github.com/jmoiron/sqlx"

	"example.com/orderflow/messaging"
)

// deadCommand deals with dead letters.
type deadCommand struct {
	List  deadList  `cmd:"" default:"withargs" help:"List them."`
	Retry deadRetry `cmd:"" help:"Have one, or all, handled again."`
}

type deadList struct {
	database
	Limit int  `default:"100" help:"At most so many of each queue."`
	JSON  bool `name:"json" help:"Print JSON."`
}

// Run lists dead letters.
func (c deadList) Run(ctx context.Context) error {
	return c.use(func(db *sqlx.DB) error {
		list, err := messaging.ListDead(ctx, db, c.Limit)
		if err != nil {
			return err
		}
		if c.JSON {
			e := json.NewEncoder(os.Stdout)
			e.SetIndent("", "  ")
			return e.Encode(list)
		}
		if len(list) == 0 {
			fmt.Println("no dead letters")
			return nil
		}
		w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "QUEUE\tMESSAGE\tKIND\tORDER\tFROM\tSENT\tATTEMPTS\tREASON")
		for _, d := range list {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%d\t%s\n", d.Queue, d.MessageID, d.Kind, d.OrderID, d.Producer, d.SentAt.UTC().Format(time.RFC3339), d.Attempts, d.Reason)
		}
		return w.Flush()
	})
}

type deadRetry struct {
	database
	MessageID string `arg:"" optional:"" help:"The message's id."`
	All       bool   `help:"All of them."`
}

// Run redrives one dead letter, or all.
func (c deadRetry) Run(ctx context.Context) error {
	if (c.MessageID == "") != c.All {
		return fmt.Errorf("name a message id, or say --all")
	}
	return c.use(func(db *sqlx.DB) error {
		var n int
		var err error
		if c.All {
			n, err = messaging.RedriveAll(ctx, db)
		} else {
			n, err = messaging.Redrive(ctx, db, c.MessageID)
		}
		if err != nil {
			return err
		}
		fmt.Printf("%d handled again\n", n)
		return nil
	})
}
