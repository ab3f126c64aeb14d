package scenario

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Story is one path of an order.
type Story struct {
	Name  string // "declined-then-paid"
	Title string // what it is about, in a sentence
	// Whole says that it moves the clock or halts a queue of the whole shop: it needs
	// Shop.Tools, and nothing else should go on meanwhile.
	Whole bool

	tell func(*scene)
}

// Shop is the running shop that stories are told of.
type Shop struct {
	Addr string // its address: "http://127.0.0.1:8080"
	// Tools are those of an administrator of its database; nil = there is none.
	Tools *Tools
	// Listen is where the stories' customers listen for webhooks ("127.0.0.1:0") and
	// Host the name by which the shop reaches it.
	Listen, Host string
}

// Tools are what can't be done by HTTP.
type Tools struct {
	Advance func(ctx context.Context, by time.Duration) error // sets the shop's clock forward
	Pause   func(ctx context.Context, queue string) error     // has nothing more taken from a queue
	Resume  func(ctx context.Context, queue string) error     // ends that

	// Waiting tells how many messages are in a queue, the dead apart.
	Waiting func(ctx context.Context, queue string) (int, error)
}

// Outcome is how a telling ended.
type Outcome string

// The outcomes.
const (
	Passed Outcome = "passed"
	Failed Outcome = "failed"
	NotRun Outcome = "not run" // the shop lacks something that the story needs
)

// Result is how the telling of a story ended.
type Result struct {
	Name    string   `json:"name"`
	Title   string   `json:"title"`
	Outcome Outcome  `json:"outcome"`
	Why     string   `json:"why,omitempty"` // it failed, or wasn't run
	Orders  []string `json:"orders"`        // ids of those that were placed
	Seconds float64  `json:"seconds"`
}

// Failure is a step that didn't come out as it must.
type Failure struct {
	Step      string // the step
	OrderID   string // "" = it is about no order
	Want, Got string
}

func (f *Failure) Error() string {
	about := ""
	if f.OrderID != "" {
		about = " (order " + f.OrderID + ")"
	}
	return fmt.Sprintf("%s%s: want %s, got %s", f.Step, about, f.Want, f.Got)
}

// unable is that the shop lacks something that a story needs.
type unable struct{ why string }

func (u *unable) Error() string { return u.why }

// Find returns the story of that name.
func Find(name string) (Story, error) {
	list := Stories()
	i := slices.IndexFunc(list, func(s Story) bool { return s.Name == name })
	if i < 0 {
		names := make([]string, len(list))
		for i, s := range list {
			names[i] = s.Name
		}
		return Story{}, fmt.Errorf("no story is called %q; there are: %s", name, strings.Join(names, ", "))
	}
	return list[i], nil
}

// Tell tells the story of shop and each line of it to tell, as it happens.
func (s Story) Tell(ctx context.Context, shop Shop, tell func(Line)) Result {
	started := time.Now()
	r := Result{Name: s.Name, Title: s.Title, Outcome: Passed, Orders: []string{}}
	c := newScene(ctx, shop, tell)
	if s.Whole && shop.Tools == nil {
		c.err = &unable{"it needs DATABASE_URL: it sets the shop's clock forward, or halts a queue"}
	} else {
		s.tell(c)
	}
	c.close()
	if c.err != nil {
		r.Outcome, r.Why = Failed, c.err.Error()
		var u *unable
		if errors.As(c.err, &u) {
			r.Outcome = NotRun
		}
	}
	r.Orders = append(r.Orders, c.placed...)
	r.Seconds = time.Since(started).Seconds()
	return r
}
