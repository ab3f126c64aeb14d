package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode"

	"example.com/orderflow/messaging"
)

type deadEdit struct {
	operator
	MessageID     string `arg:"" help:"The message's id."`
	File          string `required:"" help:"Where the new payload is; - reads what is piped in."`
	SchemaVersion int    `placeholder:"N" help:"The version of the new payload (default: as it was)."`
	Queue         string `help:"The copy in this queue."`
	Why           string `aliases:"reason" help:"For the record."`
}

// Run replaces a payload.
func (c deadEdit) Run(ctx context.Context, s streams) error {
	payload, err := readPayload(c.File, s.in)
	if err != nil {
		return fmt.Errorf("read the new payload of message %s: %w", c.MessageID, err)
	}
	return c.act(func(o *messaging.Operator) error {
		e := messaging.DeadEdit{MessageID: c.MessageID, Queue: c.Queue, Payload: payload, SchemaVersion: c.SchemaVersion, Reason: c.Why}
		if err := o.EditDead(ctx, e); err != nil {
			return err
		}
		fmt.Fprintf(s.out, "%s edited; retry has it handled\n", c.MessageID)
		return nil
	})
}

// readPayload reads a file, or in for "-", without the newline that editors end a
// file with, and no more of it than shows that it is too much.
func readPayload(name string, in io.Reader) ([]byte, error) {
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	b, err := io.ReadAll(io.LimitReader(in, messaging.MaxPayload+16))
	return bytes.TrimRight(b, "\r\n"), err
}

type deadDiscard struct {
	operator
	MessageID string `arg:"" help:"The message's id."`
	Queue     string `help:"The copy in this queue."`
	Why       string `aliases:"reason" required:"" help:"For the record, which is all that remains of it."`
}

// Run discards a dead letter.
func (c deadDiscard) Run(ctx context.Context, s streams) error {
	return c.act(func(o *messaging.Operator) error {
		if err := o.DiscardDead(ctx, c.MessageID, c.Queue, c.Why); err != nil {
			return err
		}
		fmt.Fprintf(s.out, "%s discarded\n", c.MessageID)
		return nil
	})
}

type deadRetry struct {
	operator
	deadChoice
	MessageIDs []string `arg:"" optional:"" name:"message-id" help:"The messages' ids."`
	All        bool     `help:"All of them."`
	Rate       float64  `default:"500" help:"Messages per second; 0 is as fast as it goes."`
	Why        string   `help:"For the record."`
}

// Run redrives dead letters and tells how far it is. Interrupted, it stops after
// a batch; run again, it goes on.
func (c deadRetry) Run(ctx context.Context, s streams) error {
	f := c.filter()
	if len(c.MessageIDs) > 0 {
		f.MessageIDs = c.MessageIDs
	}
	if chosen := f.MessageIDs != nil || c.deadChoice != (deadChoice{}); chosen == c.All {
		return errNothingChosen
	}
	var told time.Time
	progress := func(done, estimated int) {
		if time.Since(told) > time.Second || done >= estimated {
			told = time.Now()
			fmt.Fprintf(s.err, "  %d of about %d\n", done, max(done, estimated))
		}
	}
	return c.act(func(o *messaging.Operator) error {
		n, err := o.Redrive(ctx, f, messaging.RedriveOptions{Rate: c.Rate, Reason: c.Why, Progress: progress})
		fmt.Fprintf(s.out, "%d handled again\n", n)
		return err
	})
}

type deadActions struct {
	operator
	Limit int  `default:"50" help:"At most so many."`
	JSON  bool `name:"json" help:"Print JSON."`
}

// Run prints the record of what operators did.
func (c deadActions) Run(ctx context.Context, s streams) error {
	return c.act(func(o *messaging.Operator) error {
		list, err := o.Actions(ctx, c.Limit)
		if err != nil {
			return err
		}
		if c.JSON {
			return s.json(list)
		}
		return s.table("AT\tWHO\tWHAT\tQUEUE\tMESSAGE\tWHY\tDETAIL", func(w io.Writer) {
			for _, a := range list {
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", stamp(a.At), plain(a.Actor), a.Action, a.Queue, a.MessageID, plain(a.Reason), plain(brief(a.Detail)))
			}
		})
	})
}

// brief is a detail without the rows of a batch, which JSON shows.
func brief(detail json.RawMessage) string {
	var m map[string]any
	if json.Unmarshal(detail, &m) != nil || m == nil {
		return ""
	}
	delete(m, "rows")
	b, err := json.Marshal(m)
	if err != nil {
		return ""
	}
	return string(b)
}

// indented is a payload to be read. JSON itself has no control characters but
// white space; in its strings there may be some that a terminal would obey.
func indented(payload []byte) string {
	var b bytes.Buffer
	if json.Indent(&b, payload, "", "  ") != nil {
		return plain(string(payload))
	}
	return strings.Map(func(r rune) rune {
		if r == '\n' || unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, b.String())
}
