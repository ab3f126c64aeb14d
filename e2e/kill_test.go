package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// outage is how long a killed service stays away.
const outage = 300 * time.Millisecond

// The figures to reach after a restart; a test waits ten times as long before
// it fails, and tells what it measured.
const (
	firstAnswer = 3 * time.Second
	moveAgain   = 15 * time.Second // the lease and 5 s
)

// TestKill kills every service under load, each with work in its hands, and
// starts it again: nothing that was promised is lost, nothing happens twice.
func TestKill(t *testing.T) {
	t.Parallel()
	s := NewStack(t)
	rounds, pause := scaled(1, 3), scaled(time.Second, 5*time.Second)
	// The load outlives the kills: each takes some 1.5 s besides the pause.
	duration := time.Duration(rounds*len(services)) * (pause + 1500*time.Millisecond)
	load := s.Load(t, scaled(6, 20), duration)
	shop := openShopping(t, NewCustomer(t, s.URL))
	var strikes []strike
	for range rounds {
		for _, name := range services {
			strikes = append(strikes, s.strike(t, name, shop))
			time.Sleep(pause)
		}
	}
	result := load.Wait(t)
	promised := shop.close(t)
	CheckShop(t, s.DSN("", ""), promised...)
	CheckLoad(t, s.Admin, result)
	t.Logf("load: %d orders and %d of the shopper, p50 %.0f ms, p99 %.0f ms", result.Placed, len(promised), result.P50, result.P99)
	for _, k := range strikes {
		k.tell(t, s)
	}
}

// strike is a kill that hit.
type strike struct {
	service   string
	hit       string   // what it had in its hands
	messages  []string // ids of those among it
	restarted time.Time
	answer    time.Duration // from then to the first order taken
}

// strike kills the service, all its replicas at once, at a moment when it has work
// in its hands, starts it again and waits until the shop takes an order. It fails
// when the service has nothing in its hands for a long time: a kill that hits
// nothing proves nothing.
func (s *Stack) strike(t *testing.T, service string, shop *shopping, extra ...string) strike {
	t.Helper()
	k := strike{service: service}
	replicas := s.replicasUp(service)
	for end := time.Now().Add(20 * time.Second); ; {
		s.each(t, replicas, s.Pause)
		s.awaitStill(t, service)
		if k.hit, k.messages = s.inHand(t, service, shop); k.hit != "" {
			break
		}
		s.each(t, replicas, s.Resume)
		if time.Now().After(end) {
			t.Fatalf("%s has had no work in its hands whenever it was looked at: no kill would hit", service)
		}
		time.Sleep(rand.N(10 * time.Millisecond))
	}
	for _, p := range replicas {
		s.KillNow(t, p.String())
	}
	time.Sleep(outage)
	for _, p := range replicas {
		s.Launch(t, p.String(), extra...)
	}
	k.restarted = time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), 10*firstAnswer)
	defer cancel()
	if err := shop.buy(ctx); err != nil {
		t.Fatalf("no order taken after the restart of %s: %v", service, err)
	}
	k.answer = since(k.restarted)
	return k
}

func (s *Stack) each(t *testing.T, list []Process, do func(Process) error) {
	t.Helper()
	for _, p := range list {
		if err := do(p); err != nil {
			t.Fatal(err)
		}
	}
}

// awaitStill is still, for up to 20 s.
func (s *Stack) awaitStill(t *testing.T, service string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := s.still(ctx, service); err != nil {
		t.Fatal(err)
	}
}

// inHand is hold.
func (s *Stack) inHand(t *testing.T, service string, shop *shopping) (string, []string) {
	t.Helper()
	what, messages, err := s.hold(t.Context(), service, shop.underWay.Load())
	if err != nil {
		t.Fatal(err)
	}
	return what, messages
}

// tell logs the strike's figures: of the messages in hand, when the last was
// handled; and checks them against ten times what is to be reached.
func (k strike) tell(t *testing.T, s *Stack) {
	t.Helper()
	moved := "nothing to redo"
	if len(k.messages) > 0 {
		var last time.Time
		err := s.Admin.GetContext(t.Context(), &last, `
			SELECT max(handled_at) FROM messaging.inbox_`+k.service+` WHERE message_id = ANY ($1::uuid[])`, k.messages)
		if err != nil {
			t.Fatalf("look when %s handled what it had in hand: %v", k.service, err)
		}
		took := last.Sub(k.restarted).Round(time.Millisecond)
		if took < 0 {
			t.Errorf("%s was killed with %s in hand, all of them handled before", k.service, k.hit)
		}
		moved = fmt.Sprintf("handled %s after the restart (to reach: %s)", took, moveAgain)
		if took > 10*moveAgain {
			t.Errorf("%s: its messages were %s", k.service, moved)
		}
	}
	t.Logf("%-13s killed with %s in hand; first order taken %s after the restart (to reach: %s); %s", k.service, k.hit, k.answer, firstAnswer, moved)
}

// shopping is a customer who buys all the time, and doesn't give up.
type shopping struct {
	customer *Customer
	stop     context.CancelFunc
	done     sync.WaitGroup
	underWay atomic.Int64 // requests sent and not answered

	mu       sync.Mutex
	promised []string
	err      error
}

// openShopping starts with it; close ends it.
func openShopping(t *testing.T, c *Customer) *shopping {
	ctx, stop := context.WithCancel(context.Background())
	buying, giveUp := context.WithCancel(context.Background())
	s := &shopping{customer: c, stop: stop}
	t.Cleanup(func() {
		stop()
		giveUp()
		s.done.Wait()
	})
	s.done.Go(func() {
		for ctx.Err() == nil {
			// What is being bought when the shopping ends is bought: else there could be
			// an order that nobody was promised.
			if err := s.buy(buying); err != nil && buying.Err() == nil {
				s.mu.Lock()
				s.err = err
				s.mu.Unlock()
				return
			}
			select {
			case <-ctx.Done():
			case <-time.After(scaled(300*time.Millisecond, 100*time.Millisecond)):
			}
		}
	})
	return s
}

// buy buys one thing and notes the promise.
func (s *shopping) buy(ctx context.Context) error {
	s.underWay.Add(1)
	defer s.underWay.Add(-1)
	o, err := s.customer.PlaceSurely(ctx, wish("FILTER-01", "tok_ok"))
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.promised = append(s.promised, o.ID)
	return nil
}

// close ends the shopping and returns the ids of what was promised.
func (s *shopping) close(t *testing.T) []string {
	t.Helper()
	s.stop()
	s.done.Wait()
	if s.err != nil {
		t.Errorf("a customer was refused: %v", s.err)
	}
	return s.promised
}
