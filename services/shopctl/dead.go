package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"example.com/orderflow/messaging"
)

// deadCommand deals with dead letters.
type deadCommand struct {
	Groups  deadGroups  `cmd:"" default:"withargs" help:"What they died of: one line for each kind of reason."`
	List    deadList    `cmd:"" help:"List them."`
	Show    deadShow    `cmd:"" help:"Show one with its payload, which may hold personal data."`
	Edit    deadEdit    `cmd:"" help:"Replace the payload of one, which stays dead until it is retried."`
	Discard deadDiscard `cmd:"" help:"Remove one for good."`
	Retry   deadRetry   `cmd:"" help:"Have some, or all, handled again."`
	Actions deadActions `cmd:"" help:"What operators did, the newest first."`
}

// deadChoice says which dead letters are meant.
type deadChoice struct {
	Queue     string        `help:"Of this queue; \"outbox of SERVICE\" for what never left it."`
	Kind      string        `help:"Of this kind."`
	Reason    string        `help:"With this in their reason, or of the group that has this reason."`
	Producer  string        `help:"Sent by this service."`
	Order     string        `help:"About this order."`
	OlderThan time.Duration `placeholder:"1h" help:"Dead for at least that long."`
	Within    time.Duration `placeholder:"1h" help:"Dead for at most that long."`
}

func (c deadChoice) filter() messaging.DeadFilter {
	return messaging.DeadFilter{
		Queue: c.Queue, Kind: c.Kind, Reason: c.Reason, Producer: c.Producer, OrderID: c.Order, OlderThan: c.OlderThan, YoungerThan: c.Within,
	}
}

type deadGroups struct {
	operator
	deadChoice
	Limit int  `default:"50" help:"At most so many, the largest."`
	JSON  bool `name:"json" help:"Print JSON."`
}

// Run prints the groups.
func (c deadGroups) Run(ctx context.Context, s streams) error {
	return c.act(func(o *messaging.Operator) error {
		all, err := o.DeadGroups(ctx, c.filter())
		if err != nil {
			return err
		}
		list := all[:min(len(all), max(0, c.Limit))]
		if c.JSON {
			return s.json(list)
		}
		if len(all) == 0 {
			fmt.Fprintln(s.out, "no dead letters")
			return nil
		}
		err = s.table("COUNT\tQUEUE\tKIND\tFIRST\tLAST\tFOR EXAMPLE\tREASON", func(w io.Writer) {
			for _, g := range list {
				fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t%s\t%s\n", g.Count, g.Queue, plain(g.Kind), stamp(g.Oldest), stamp(g.Newest), g.SampleID, plain(g.Reason))
			}
		})
		if more := len(all) - len(list); more > 0 {
			fmt.Fprintf(s.out, "and %d more groups (--limit)\n", more)
		}
		return err
	})
}

type deadList struct {
	operator
	deadChoice
	Limit int    `default:"100" help:"At most so many."`
	After string `placeholder:"CURSOR" help:"Begin after a list that ended with this."`
	JSON  bool   `name:"json" help:"Print JSON."`
}

// Run lists dead letters.
func (c deadList) Run(ctx context.Context, s streams) error {
	return c.act(func(o *messaging.Operator) error {
		list, next, err := o.DeadLetters(ctx, c.filter(), c.After, c.Limit)
		if err != nil {
			return err
		}
		if c.JSON {
			return s.json(struct {
				Letters []messaging.DeadLetter `json:"letters"`
				Next    string                 `json:"next,omitempty"`
			}{list, next})
		}
		if len(list) == 0 {
			fmt.Fprintln(s.out, "no dead letters")
			return nil
		}
		err = s.table("QUEUE\tMESSAGE\tKIND\tORDER\tFROM\tSENT\tDIED\tATTEMPTS\tREASON", func(w io.Writer) {
			for _, d := range list {
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%d\t%s\n",
					d.Queue, d.MessageID, plain(d.Kind), d.OrderID, d.Producer, stamp(d.SentAt), stamp(d.DiedAt), d.Attempts, plain(d.Reason))
			}
		})
		if next != "" {
			fmt.Fprintf(s.out, "there are more: --after '%s'\n", next)
		}
		return err
	})
}

type deadShow struct {
	operator
	MessageID string `arg:"" help:"The message's id."`
	Queue     string `help:"Only the copy in this queue."`
	Payload   bool   `help:"Print the payload only, byte by byte, to be edited and given to \"dead edit\"."`
	JSON      bool   `name:"json" help:"Print JSON."`
}

// Run shows a dead letter, or the copies of one.
func (c deadShow) Run(ctx context.Context, s streams) error {
	return c.act(func(o *messaging.Operator) error {
		list, err := o.DeadMessages(ctx, c.MessageID, c.Queue)
		if err != nil {
			return err
		}
		switch {
		case c.Payload && len(list) > 1:
			return fmt.Errorf("message %s has %d copies: name one with --queue", c.MessageID, len(list))
		case c.Payload:
			_, err := s.out.Write(list[0].Payload)
			return err
		case c.JSON:
			return s.json(shown(list))
		}
		for i, m := range list {
			if i > 0 {
				fmt.Fprintln(s.out)
			}
			printLetter(s.out, m)
		}
		return nil
	})
}

// shownLetter is a dead letter as JSON with a payload that can be read.
type shownLetter struct {
	messaging.DeadLetter
	Redrives int             `json:"redrives"`
	Payload  json.RawMessage `json:"payload,omitempty"`
	Bytes    []byte          `json:"payload_base64,omitempty"` // of a payload that is no JSON
}

func shown(list []messaging.DeadMessage) []shownLetter {
	all := make([]shownLetter, len(list))
	for i, m := range list {
		all[i] = shownLetter{DeadLetter: m.DeadLetter, Redrives: m.Redrives}
		if json.Valid(m.Payload) {
			all[i].Payload = m.Payload
		} else {
			all[i].Bytes = m.Payload
		}
	}
	return all
}

func printLetter(out io.Writer, m messaging.DeadMessage) {
	line := func(name string, value any) {
		if text := plain(fmt.Sprint(value)); text != "" {
			fmt.Fprintf(out, "%-14s %s\n", name, text)
		}
	}
	line("message", m.MessageID)
	line("queue", m.Queue)
	line("row", m.Row)
	line("kind", m.Kind)
	line("version", m.SchemaVersion)
	line("order", m.OrderID)
	line("lane", m.Lane)
	line("class", m.Class)
	line("correlation", m.CorrelationID)
	line("caused by", m.CausationID)
	line("from", m.Producer)
	line("sent", stamp(m.SentAt))
	line("died", stamp(m.DiedAt))
	line("attempts", m.Attempts)
	line("crashes", m.Crashes)
	line("retried", m.Redrives)
	line("reason", m.Reason)
	line("last error", m.LastError)
	var pretty any
	if json.Unmarshal(m.Payload, &pretty) != nil {
		fmt.Fprintf(out, "payload, no JSON:\n%q\n", m.Payload)
		return
	}
	fmt.Fprintf(out, "payload:\n%s\n", indented(m.Payload))
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

var errNothingChosen = errors.New("name message ids, or choose letters (--queue, --kind, --reason, ...), or say --all")
