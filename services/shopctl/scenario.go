package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/jmoiron/sqlx"

	"example.com/orderflow/messaging"
	"example.com/orderflow/services/internal/client"
	"example.com/orderflow/services/internal/scenario"
)

// scenarioCommand tells stories of a running shop, each of them one path of an
// order, and checks every step.
type scenarioCommand struct {
	Name        string `arg:"" help:"A story, all of them, or \"list\": what there is."`
	Addr        string `default:"http://127.0.0.1:8080" help:"Where the shop is."`
	DatabaseURL string `env:"DATABASE_URL" placeholder:"URL" help:"Of an administrator: for the stories that set the clock forward or halt a queue, and to show messages."`
	Messages    bool   `help:"Show each message about the orders, as \"shopctl journey\" does; of a single story always, where the database is known."`
	JSON        bool   `name:"json" help:"Print the results as JSON, and no story."`
	Pages       string `placeholder:"DIR" type:"path" help:"Also write what each story prints, ids and times apart, to DIR/NAME.md."`
	Parallel    int    `default:"8" help:"How many stories go on at once, of all."`
	Listen      string `default:"127.0.0.1:0" help:"Where to listen for the shop's webhooks."`
	Host        string `default:"127.0.0.1" help:"By which name the shop reaches that."`
}

// Help tells what it does to the shop.
func (scenarioCommand) Help() string {
	return `Each story orders by customers of its own, does what the customers and the staff do,
and fails at the first step that comes out otherwise than it must: then the exit code
is 1. It may run beside other customers. Those marked * set the clock of the whole shop
forward, and leave it there, or halt one of its queues for a moment: they run one
after the other, and only where DATABASE_URL is given.`
}

// telling is a run of stories.
type telling struct {
	scenarioCommand
	streams
	shop scenario.Shop
	db   *sqlx.DB // nil = unknown
	one  bool     // a single story, printed as it happens

	mu      sync.Mutex // of what is printed
	results []scenario.Result
	err     error
}

// Run tells the stories. It returns an error when one of them fails.
func (c scenarioCommand) Run(ctx context.Context, s streams) error {
	stories := scenario.Stories()
	switch c.Name {
	case "list":
		return listStories(s, stories)
	case "all":
	default:
		one, err := scenario.Find(c.Name)
		if err != nil {
			return err
		}
		stories = []scenario.Story{one}
	}
	t := &telling{scenarioCommand: c, streams: s, one: len(stories) == 1, results: make([]scenario.Result, len(stories))}
	t.shop = scenario.Shop{Addr: c.Addr, Listen: c.Listen, Host: c.Host}
	if c.DatabaseURL == "" {
		return t.run(ctx, stories)
	}
	return database{c.DatabaseURL}.use(func(db *sqlx.DB) error {
		t.db, t.shop.Tools = db, tools(db)
		return t.run(ctx, stories)
	})
}

// tools are the administrator's, recorded under the name of whoever is logged in.
func tools(db *sqlx.DB) *scenario.Tools {
	const why = "for a story"
	hand := messaging.NewOperator(db, loggedIn())
	return &scenario.Tools{
		Advance: func(ctx context.Context, by time.Duration) error {
			_, err := setClock(ctx, db, loggedIn(), "clock.advance", why, by)
			return err
		},
		Pause:  func(ctx context.Context, queue string) error { return hand.Pause(ctx, queue, why) },
		Resume: func(ctx context.Context, queue string) error { return hand.Resume(ctx, queue, why) },
		Waiting: func(ctx context.Context, queue string) (int, error) {
			all, err := hand.Queues(ctx)
			if err != nil {
				return 0, err
			}
			for _, q := range all.Queues {
				if q.Name == queue {
					return int(q.Depth.N), nil
				}
			}
			return 0, fmt.Errorf("there is no queue %s", queue)
		},
	}
}

func listStories(s streams, stories []scenario.Story) error {
	return s.table("STORY\tABOUT", func(w io.Writer) {
		for _, story := range stories {
			mark := ""
			if story.Whole {
				mark = " *"
			}
			fmt.Fprintf(w, "%s%s\t%s\n", story.Name, mark, story.Title)
		}
	})
}

// run tells the stories that mind nobody side by side, the others then, and
// reports.
func (t *telling) run(ctx context.Context, stories []scenario.Story) error {
	front := client.New(t.Addr, "")
	defer front.Close()
	ready, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if err := front.WaitReady(ready); err != nil {
		return err
	}
	var together sync.WaitGroup
	slots := make(chan struct{}, max(1, t.Parallel))
	for i, s := range stories {
		if !s.Whole {
			slots <- struct{}{}
			together.Go(func() {
				t.story(ctx, i, s)
				<-slots
			})
		}
	}
	together.Wait()
	for i, s := range stories {
		if s.Whole {
			t.story(ctx, i, s)
		}
	}
	return errors.Join(t.err, t.report())
}

// story tells the i-th story: one by itself as it happens, of several each at its
// end.
func (t *telling) story(ctx context.Context, i int, s scenario.Story) {
	var text, page bytes.Buffer
	shown := &scenario.Printer{Out: &text, Color: isTerminal(t.out)}
	kept := &scenario.Printer{Out: &page, Page: true}
	if t.one {
		shown.Out = t.out
	}
	if t.JSON {
		shown.Out = io.Discard
	}
	shown.Begin(s)
	kept.Begin(s)
	r := s.Tell(ctx, t.shop, func(l scenario.Line) {
		shown.Line(l)
		kept.Line(l)
	})
	shown.End(r)
	kept.End(r)
	err := cmp.Or(shown.Err(), kept.Err())
	if t.db != nil && (t.Messages || t.one) && !t.JSON {
		for _, id := range r.Orders {
			err = errors.Join(err, t.journey(ctx, shown.Out, id))
		}
	}
	if t.Pages != "" && r.Outcome == scenario.Passed {
		_, told, _ := bytes.Cut(page.Bytes(), []byte("\n\n")) // the page has a heading of its own
		err = errors.Join(err, os.WriteFile(filepath.Join(t.Pages, s.Name+".md"), []byte(s.Page(string(told))), 0o644))
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.results[i] = r
	if _, werr := text.WriteTo(t.out); werr != nil {
		err = errors.Join(err, werr)
	}
	t.err = errors.Join(t.err, err)
}

// journey prints every message about an order.
func (t *telling) journey(ctx context.Context, out io.Writer, id string) error {
	j, err := messaging.NewOperator(t.db, "shopctl").Journey(ctx, id)
	if err != nil || len(j.Steps) == 0 {
		return err
	}
	if err := writeJourney(out, j); err != nil {
		return err
	}
	_, err = fmt.Fprintln(out)
	return err
}

// report prints how the stories ended. It returns an error when one has failed.
func (t *telling) report() error {
	n := map[scenario.Outcome]int{}
	for _, r := range t.results {
		n[r.Outcome]++
	}
	if t.JSON {
		err := t.json(map[string]any{
			"passed": n[scenario.Passed], "failed": n[scenario.Failed], "not_run": n[scenario.NotRun], "stories": t.results,
		})
		if err != nil {
			return err
		}
	} else if !t.one {
		fmt.Fprintf(t.out, "%d passed, %d failed, %d not run\n", n[scenario.Passed], n[scenario.Failed], n[scenario.NotRun])
	}
	if failed := n[scenario.Failed]; failed > 0 {
		return fmt.Errorf("%d of %d stories failed", failed, len(t.results))
	}
	return nil
}
