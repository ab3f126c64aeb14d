package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// answerPatience is how long a customer of a chaos waits for an answer before it
// asks again.
const answerPatience = 6 * time.Second

// promise is an order that a customer was promised with a 2xx.
type promise struct {
	ID, Customer, Key string
	At                time.Time     // when the promise was made
	Took              time.Duration // from the first request to it
}

// market is the customers of a chaos and what they remember.
type market struct {
	closing  chan struct{} // closed when they are to go home
	ctx      context.Context
	end      context.CancelFunc // of whoever doesn't
	work     sync.WaitGroup
	underWay atomic.Int64 // requests sent and not answered
	rush     atomic.Int64 // until when, in Unix nanoseconds, everybody wants rushSKU

	mu       sync.Mutex
	placed   []promise
	undone   []string // orders that customers were promised the undoing of
	returns  []string // returns that they were promised to be taken
	answers  map[string]int
	slowest  time.Duration
	wrong    []string // what they should never have been told
	allWrong int
}

// rushSKU is sold out until an operator restocks it, which everybody waits for;
// partSKU is nearly so.
const (
	rushSKU = "SET-01"
	partSKU = "BOWL-01"
)

// openMarket starts n customers, whose wishes are drawn from the seed, and an
// operator who now and then restocks what all of them want. Close it.
func openMarket(t testing.TB, base string, n int, seed uint64, haste time.Duration) *market {
	ctx, end := context.WithCancel(context.Background())
	c := &market{closing: make(chan struct{}), ctx: ctx, end: end, answers: map[string]int{}}
	for i := range n {
		s := &shopper{market: c, customer: NewCustomer(t, base), rand: rand.New(rand.NewPCG(seed, uint64(i)+1)), haste: haste, seen: map[string]int{}}
		c.work.Go(s.shop)
	}
	operator := &shopper{market: c, customer: NewCustomer(t, base), rand: rand.New(rand.NewPCG(seed, 0)), haste: haste}
	c.work.Go(operator.restock)
	return c
}

// close sends the customers home, each when it has done what it was at, and
// returns when all are gone. It may be called again.
func (c *market) close() {
	select {
	case <-c.closing:
	default:
		close(c.closing)
	}
	timer := time.AfterFunc(healLimit, c.end)
	defer timer.Stop()
	c.work.Wait()
	c.end()
}

// open reports whether the shop's day goes on after d.
func (c *market) open(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-c.closing:
		return false
	case <-timer.C:
		return true
	}
}

// complain notes what should never have happened.
func (c *market) complain(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.allWrong++; len(c.wrong) < 20 {
		c.wrong = append(c.wrong, fmt.Sprintf(format, args...))
	}
}

// count counts an answer, or none.
func (c *market) count(what string, took time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answers[what]++
	c.slowest = max(c.slowest, took)
}

func (c *market) notePlaced(p promise) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.placed = append(c.placed, p)
}

// lastPlaced is when the latest promise was made.
func (c *market) lastPlaced() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.placed) == 0 {
		return time.Time{}
	}
	return c.placed[len(c.placed)-1].At
}

// shopper is one customer of a market.
type shopper struct {
	*market
	customer *Customer
	rand     *rand.Rand
	haste    time.Duration // between two wishes, on average

	mine []string       // orders
	seen map[string]int // the latest version seen of each
}

// ask sends a request, again and again until there is an answer that isn't "try
// again": 503, 429, or that a request under the same key is under way. what names
// it; an answer whose status isn't one of fine is complained of. False without an
// answer, when all has to end.
func (s *shopper) ask(what, method, path string, body any, fine []int, header ...string) (Answer, bool) {
	for s.ctx.Err() == nil {
		ctx, cancel := context.WithTimeout(s.ctx, answerPatience)
		s.underWay.Add(1)
		started := time.Now()
		a, err := s.customer.Do(ctx, method, path, body, header...)
		took := time.Since(started)
		s.underWay.Add(-1)
		cancel()
		again := err != nil || a.Status == http.StatusServiceUnavailable || a.Status == http.StatusTooManyRequests || a.Code() == "idempotency-in-progress"
		if err != nil {
			s.count(what+": none", took)
		} else {
			s.count(fmt.Sprintf("%s: %d", what, a.Status), took)
		}
		if !again {
			if !slices.Contains(fine, a.Status) {
				s.complain("%s %s: status %d: %.300s", method, path, a.Status, a.Body)
			}
			return a, true
		}
		time.Sleep(50*time.Millisecond + rand.N(150*time.Millisecond))
	}
	return Answer{}, false
}

// decode reads a document that was answered.
func decode[T any](s *shopper, a Answer) T {
	var into T
	if a.Status/100 == 2 {
		if err := json.Unmarshal(a.Body, &into); err != nil {
			s.complain("an answer with status %d is no %T: %v: %.300s", a.Status, into, err, a.Body)
		}
	}
	return into
}

// restock lets the rushes happen: something that is sold out is there again, and
// everybody wants it.
func (s *shopper) restock() {
	operator := []string{"X-Role", "operator"}
	for first := true; ; first = false {
		wait := s.haste * time.Duration(10+s.rand.IntN(10))
		if first {
			wait = s.haste * 4
		}
		if !s.open(wait) {
			return
		}
		for sku, pieces := range map[string]int{rushSKU: 2 + s.rand.IntN(10), partSKU: 3} {
			// Not told that it was done, the operator does it again: there are more then.
			s.ask("restock", http.MethodPost, "/v1/products/"+sku+"/restock", map[string]int{"quantity": pieces}, []int{http.StatusOK}, operator...)
		}
		s.rush.Store(time.Now().Add(2 * s.haste).UnixNano())
	}
}
