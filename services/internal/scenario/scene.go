package scenario

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"
	"time"

	"example.com/orderflow/services/internal/client"
)

const (
	// patience is how long a step waits for what must come: beyond the longest that
	// a shop waits for its payment provider (25 s).
	patience = time.Minute
	look     = 20 * time.Millisecond // between two looks
)

// LineKind is what a Line is about.
type LineKind string

// The kinds.
const (
	Step    LineKind = "step"    // what somebody does: a sentence
	Request LineKind = "request" // a request and its answer
	Status  LineKind = "status"  // the order has come to a status
	Fact    LineKind = "fact"    // what was found
)

// Line is a line of a story.
type Line struct {
	Kind LineKind
	Text string        // the sentence, the request, the status, or what was looked at
	Code int           // of a request's answer
	Note string        // of an answer, why a status was reached, or what was found
	At   time.Duration // of a status: since the order was placed, by the shop's clock
}

// scene is a story being told. Its first failure is kept; nothing happens in it
// after that, so that a story need not look for failures at each step.
type scene struct {
	ctx     context.Context
	shop    Shop
	tell    func(Line)
	run     string // a word of this telling, in its customers' names
	people  map[string]*person
	names   map[string]string // what ids are called: "{order}"
	placed  []string          // ids of orders
	step    string            // the one at which the story is
	cleanup []func(context.Context) error
	err     error
}

func newScene(ctx context.Context, shop Shop, tell func(Line)) *scene {
	return &scene{ctx: ctx, shop: shop, tell: tell, run: strings.ToLower(rand.Text()[:10]), people: map[string]*person{}, names: map[string]string{}}
}

// close tidies up, also when the story was broken off.
func (s *scene) close() {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.ctx), 10*time.Second)
	defer cancel()
	for _, f := range s.cleanup {
		if err := f(ctx); err != nil && s.err == nil {
			s.err = err
		}
	}
	for _, p := range s.people {
		p.client.Close()
	}
}

// does begins a step.
func (s *scene) does(format string, args ...any) {
	if s.err != nil {
		return
	}
	s.step = fmt.Sprintf(format, args...)
	s.tell(Line{Kind: Step, Text: s.step})
}

// finds tells what was found.
func (s *scene) finds(what, format string, args ...any) {
	if s.err == nil {
		s.tell(Line{Kind: Fact, Text: what, Note: fmt.Sprintf(format, args...)})
	}
}

// fails ends the story, if nothing has before.
func (s *scene) fails(orderID, want, got string) {
	if s.err == nil {
		s.err = &Failure{Step: s.step, OrderID: orderID, Want: want, Got: got}
	}
}

// cannot ends the story: the shop lacks what it needs.
func (s *scene) cannot(why string) {
	if s.err == nil {
		s.err = &unable{why}
	}
}

// awaits looks until there is nothing to be said against what it sees.
func (s *scene) awaits(orderID, want string, see func() (got string, err error)) {
	for end := time.Now().Add(patience); s.err == nil; {
		got, err := see()
		if s.err != nil || err == nil && got == "" {
			return
		}
		if err != nil {
			got = err.Error()
		}
		if time.Now().After(end) {
			s.fails(orderID, want, fmt.Sprintf("%s after %s", got, patience))
			return
		}
		select {
		case <-s.ctx.Done():
			s.fails(orderID, want, fmt.Sprintf("%s when it was broken off: %v", got, context.Cause(s.ctx)))
		case <-time.After(look):
		}
	}
}

// called names an id in what is told.
func (s *scene) called(id, name string) { s.names[id] = name }

// plain is text with names instead of ids.
func (s *scene) plain(text string) string {
	for id, name := range s.names {
		text = strings.ReplaceAll(text, id, name)
	}
	return text
}

// advances sets the clock of the whole shop forward.
func (s *scene) advances(by time.Duration, why string) {
	s.does("%s", why)
	if s.err != nil {
		return
	}
	if err := s.shop.Tools.Advance(s.ctx, by); err != nil {
		s.fails("", "the clock set forward by "+by.String(), err.Error())
	}
	s.finds("clock", "%s forward", by)
}

// while halts a queue of the whole shop for as long as f takes.
func (s *scene) while(queue string, f func()) {
	s.does("the queue %s is halted", queue)
	if s.err != nil {
		return
	}
	// Whatever happens, it goes on: a pause stays, even after a restart.
	defer func() {
		s.does("the queue %s goes on", queue)
		ctx, cancel := context.WithTimeout(context.WithoutCancel(s.ctx), 10*time.Second)
		defer cancel()
		if err := s.shop.Tools.Resume(ctx, queue); err != nil {
			s.fails("", "the queue "+queue+" resumed", err.Error())
		}
	}()
	if err := s.shop.Tools.Pause(s.ctx, queue); err != nil {
		s.fails("", "the queue "+queue+" halted", err.Error())
		return
	}
	f()
}

// waiting waits until that many messages are in a queue: an order shows its new status
// before the relay has carried the message that says so.
func (s *scene) waiting(queue string, messages int) {
	s.awaits("", fmt.Sprintf("%d messages in the queue %s", messages, queue), func() (string, error) {
		n, err := s.shop.Tools.Waiting(s.ctx, queue)
		if err == nil && n < messages {
			return fmt.Sprintf("%d", n), nil
		}
		return "", err
	})
}

// customer is a new customer, with an id and an address of its own.
func (s *scene) customer(name string) *person {
	p, known := s.people[name]
	if !known {
		word := strings.ToLower(name) + "-" + s.run
		p = &person{scene: s, name: name, email: word + "@example.com", client: client.New(s.shop.Addr, "story-"+word)}
		s.people[name] = p
	}
	return p
}

// staff is somebody who works in the shop.
func (s *scene) staff(name string) *person {
	p := s.customer(name)
	p.client.Role = "operator"
	return p
}
