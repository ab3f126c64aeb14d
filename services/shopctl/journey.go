package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/jmoiron/sqlx"

	"example.com/orderflow/messaging"
)

// journeyCommand shows every message about an order.
type journeyCommand struct {
	database
	Order string `arg:"" help:"The order's id."`
	JSON  bool   `name:"json" help:"Print JSON."`
}

// Help says how to read it.
func (journeyCommand) Help() string {
	return `Each message stands below the one whose handling sent it. AT is the time since the
first was sent, WAITED from sent to the start of its latest attempt, RAN how long
that took. In the timeline a dot is waiting, a block is being handled, an arrow is
still waiting. Payloads are not shown.`
}

// Run prints the journey. It returns an error when nothing is known of the order.
func (c journeyCommand) Run(ctx context.Context) error {
	return c.use(func(db *sqlx.DB) error {
		j, err := messaging.NewOperator(db, "shopctl").Journey(ctx, c.Order)
		if err != nil {
			return err
		}
		if len(j.Steps) == 0 {
			return fmt.Errorf("no message about order %s is known", j.OrderID)
		}
		if c.JSON {
			e := json.NewEncoder(os.Stdout)
			e.SetIndent("", "  ")
			return e.Encode(j)
		}
		return writeJourney(os.Stdout, j)
	})
}

// writeJourney writes j as a table with the messages as a tree and a timeline.
func writeJourney(out io.Writer, j messaging.Journey) error {
	l := newTimeline(j)
	fmt.Fprintf(out, "order %s: %d messages in %s, from %s\n\n", j.OrderID, len(j.Steps), messaging.Millis(l.end.Sub(l.begin)), l.begin.Format("2006-01-02 15:04:05.000 MST"))
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "MESSAGE\tFROM → QUEUE\tAT\tWAITED\tRAN\tTRIES\tTIMELINE\tOUTCOME")
	for i, s := range j.Steps {
		queue := s.Queue
		if queue == "" {
			queue = "-"
		}
		if s.Run > 0 {
			queue += fmt.Sprintf(" run %d", s.Run)
		}
		fmt.Fprintf(w, "%s%s\t%s → %s\t+%s\t%s\t%s\t%d\t%s\t%s\n",
			branch(j.Steps, i), s.Kind, s.From, queue, messaging.Millis(s.SentAt.Sub(l.begin)), age(s.Waited), age(s.Ran), s.Attempts, l.bar(s), outcome(s))
	}
	err := w.Flush()
	for _, g := range j.Gaps {
		fmt.Fprintln(out, "incomplete:", g)
	}
	return err
}

// outcome is what became of s, and why.
func outcome(s messaging.Step) string {
	text := string(s.Outcome)
	if s.DueAt != nil {
		text += " until " + s.DueAt.Format("15:04:05.000")
	}
	if s.Crashes > 0 {
		text += fmt.Sprintf(", %d crashes", s.Crashes)
	}
	if s.Note != "" {
		text += ": " + strings.Join(strings.Fields(s.Note), " ")
	}
	return text
}

// branch draws what leads to step i of a tree that is listed parents first.
func branch(steps []messaging.Step, i int) string {
	// goesOn reports whether another step follows at depth below the same parent.
	goesOn := func(depth int) bool {
		for _, s := range steps[i+1:] {
			if s.Depth <= depth {
				return s.Depth == depth
			}
		}
		return false
	}
	var b strings.Builder
	for d := 1; d < steps[i].Depth; d++ {
		b.WriteString(map[bool]string{true: "│ ", false: "  "}[goesOn(d)])
	}
	if steps[i].Depth > 0 {
		b.WriteString(map[bool]string{true: "├ ", false: "└ "}[goesOn(steps[i].Depth)])
	}
	return b.String()
}

// timelineWidth is how many columns a timeline has.
const timelineWidth = 32

// timeline draws when things happened between two moments.
type timeline struct{ begin, end time.Time }

// newTimeline spans from the first that was sent to the last that ended: what
// still waits goes on beyond its end.
func newTimeline(j messaging.Journey) timeline {
	l := timeline{begin: j.At, end: j.Steps[0].SentAt}
	for _, s := range j.Steps {
		if s.SentAt.Before(l.begin) {
			l.begin = s.SentAt
		}
		last := s.SentAt.Add(time.Duration(s.Waited + s.Ran))
		if pending(s) {
			last = s.SentAt
		}
		if last.After(l.end) {
			l.end = last
		}
	}
	return l
}

// pending reports whether something is still to happen to s.
func pending(s messaging.Step) bool {
	return s.Outcome == messaging.Waiting || s.Outcome == messaging.InFlight || s.Outcome == messaging.InOutbox
}

// column is where a moment stands, 0 to timelineWidth - 1.
func (l timeline) column(at time.Time) int {
	span := max(l.end.Sub(l.begin), time.Microsecond)
	c := int(float64(at.Sub(l.begin)) / float64(span) * (timelineWidth - 1))
	return min(max(c, 0), timelineWidth-1)
}

// bar is the way of s: dots while it waited, blocks while it ran.
func (l timeline) bar(s messaging.Step) string {
	row := []rune(strings.Repeat(" ", timelineWidth))
	sent := l.column(s.SentAt)
	started := s.SentAt.Add(time.Duration(s.Waited))
	switch {
	case pending(s):
		for c := sent; c < timelineWidth-1; c++ {
			row[c] = '·'
		}
		row[timelineWidth-1] = '→'
	case s.Outcome == messaging.Unheard:
		row[sent] = '·'
	default:
		for c := sent; c < l.column(started); c++ {
			row[c] = '·'
		}
		for c := l.column(started); c <= l.column(started.Add(time.Duration(s.Ran))); c++ {
			row[c] = '█'
		}
	}
	return string(row)
}
