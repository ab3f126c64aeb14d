package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"example.com/orderflow/messaging"
)

// queueCommand holds a queue's consumers, or has it handle its events again.
type queueCommand struct {
	Pause  queuePause  `cmd:"" help:"Have nothing more taken from it until it is resumed; messages keep arriving."`
	Resume queueResume `cmd:"" help:"End a pause."`
	Replay queueReplay `cmd:"" help:"Have its events handled again, from the logs; continues a replay that was interrupted."`
}

// queueHand is who does what to which queue, and why.
type queueHand struct {
	operator
	Name   string `arg:"" help:"The queue's name."`
	Reason string `help:"Why, for the record."`
}

type queuePause struct{ queueHand }

// Run pauses the queue.
func (c queuePause) Run(ctx context.Context) error {
	return c.act(func(o *messaging.Operator) error {
		if err := o.Pause(ctx, c.Name, c.Reason); err != nil {
			return err
		}
		fmt.Printf("%s is paused\n", c.Name)
		return nil
	})
}

type queueResume struct{ queueHand }

// Run resumes the queue.
func (c queueResume) Run(ctx context.Context) error {
	return c.act(func(o *messaging.Operator) error {
		if err := o.Resume(ctx, c.Name, c.Reason); err != nil {
			return err
		}
		fmt.Printf("%s goes on\n", c.Name)
		return nil
	})
}

type queueReplay struct {
	queueHand
	Since string   `placeholder:"TIME" help:"Only events sent since then: a time (RFC 3339) or how long ago (36h). All that the logs hold unless given."`
	Kinds []string `name:"kind" placeholder:"KIND" help:"Only events of these kinds."`
	Rate  int      `default:"2000" help:"Events per second, at most, so that other messages of the queue find a place between them; 0 = no limit."`
}

// Help tells what a replay does.
func (queueReplay) Help() string {
	return `Only a queue that its service declares replayable. What it has not handled of
these events yet is taken out and comes again with the others; new events wait in
the log until they are reached. Messages that its handlers send are sent again.
Interrupted, it leaves the queue without new events until it is continued: run
"shopctl queue replay NAME" once more, without --since and --kind.`
}

// Run replays the queue and tells once per second how far it is.
func (c queueReplay) Run(ctx context.Context) error {
	since, err := parseSince(c.Since, time.Now())
	if err != nil {
		return err
	}
	return c.act(func(o *messaging.Operator) error {
		begun, told := time.Now(), time.Now()
		r, err := o.Replay(ctx, c.Name, messaging.ReplayOptions{
			Since: since, Kinds: c.Kinds, Rate: c.Rate, Reason: c.Reason,
			Progress: func(r messaging.Replay) {
				if time.Since(told) >= time.Second || r.FinishedAt != nil {
					told = time.Now()
					fmt.Fprintf(os.Stderr, "run %d: read %d of %d log entries, %d events copied\n", r.Run, r.Read, r.Total, r.Copied)
				}
			},
		})
		if errors.Is(err, context.Canceled) {
			return fmt.Errorf("%w\n%s gets no new events until the replay is continued: shopctl queue replay %s", err, c.Name, c.Name)
		}
		if err != nil {
			return err
		}
		fmt.Printf("%s gets its events live again, %d of them once more, after %s\n", c.Name, r.Copied, time.Since(begun).Round(time.Millisecond))
		return nil
	})
}

// parseSince reads a time, or a duration before now; "" is the zero time.
func parseSince(s string, now time.Time) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(s); err == nil && d > 0 {
		return now.Add(-d), nil
	}
	at, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return time.Time{}, fmt.Errorf("--since %s: want 2006-01-02T15:04:05Z or a duration like 36h", s)
	}
	return at, nil
}
