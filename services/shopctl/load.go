package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"example.com/orderflow/services/internal/client"
)

// loadCommand places orders at a rate, whether or not the shop keeps up (open),
// or as many as it takes, as fast as some clients can (burst), and reports what
// the orders' own histories say.
type loadCommand struct {
	Addr     string        `default:"http://127.0.0.1:8080" help:"Where the shop is."`
	Rate     float64       `xor:"mode" help:"Open: orders per second."`
	Duration time.Duration `default:"20s" help:"Open: for how long."`
	Burst    int           `xor:"mode" help:"Burst: how many orders."`
	Clients  int           `default:"8" help:"Burst: how many clients."`
	SKU      string        `name:"sku" help:"What they order (default: in turn, what there is plenty of)."`
	Token    string        `default:"tok_ok" help:"How they pay."`
	Patience time.Duration `default:"60s" help:"How long to wait, after the last order, for all to be confirmed or ended."`
	JSON     bool          `name:"json" help:"Print the result as JSON."`
}

// loadResult is what a run found. Latencies are from placed to confirmed, in
// milliseconds, by the orders' histories.
type loadResult struct {
	Placed       int            `json:"placed"`
	Failed       int            `json:"failed"`
	Confirmed    int            `json:"confirmed"`
	Statuses     map[string]int `json:"statuses"`
	PlacedPerS   float64        `json:"placed_per_second"`
	ConfirmedPS  float64        `json:"confirmed_per_second"`
	P50          float64        `json:"confirm_p50_ms"`
	P99          float64        `json:"confirm_p99_ms"`
	RequestP50   float64        `json:"request_p50_ms"`
	RequestP99   float64        `json:"request_p99_ms"`
	FirstError   string         `json:"first_error,omitempty"`
	Unfinished   int            `json:"unfinished"`
	Customer     string         `json:"customer"`
	TotalSeconds float64        `json:"seconds"`
}

// loading is a run under way.
type loading struct {
	cmd      loadCommand
	client   *client.Client
	skus     []string
	mu       sync.Mutex
	ids      []string
	requests []time.Duration
	failed   int
	first    error
	sent     atomic.Int64
}

// Run places the orders and prints the result. It returns an error when an order
// couldn't be placed or didn't get anywhere in time.
func (c loadCommand) Run(ctx context.Context) error {
	if (c.Rate > 0) == (c.Burst > 0) {
		return errors.New("say either --rate N (with --duration D) or --burst N (with --clients K)")
	}
	l := &loading{cmd: c, client: client.New(c.Addr, fmt.Sprintf("load-%x", rand.Uint64()))}
	defer l.client.Close()
	ready, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	if err := l.client.WaitReady(ready); err != nil {
		return err
	}
	if err := l.choose(ctx); err != nil {
		return err
	}
	started := time.Now()
	stop := l.progress()
	if c.Rate > 0 {
		l.open(ctx)
	} else {
		l.burst(ctx)
	}
	stop()
	waitErr := l.wait(ctx)
	r, err := l.result(ctx)
	if err != nil {
		return errors.Join(waitErr, err)
	}
	r.TotalSeconds = time.Since(started).Seconds()
	if c.JSON {
		e := json.NewEncoder(os.Stdout)
		e.SetIndent("", "  ")
		err = e.Encode(r)
	} else {
		fmt.Printf("placed %d (%.0f/s, request p50 %.1f ms, p99 %.1f ms), failed %d\nconfirmed %d = %.0f orders/s, placed -> confirmed p50 %.1f ms, p99 %.1f ms\nnow: %v\n",
			r.Placed, r.PlacedPerS, r.RequestP50, r.RequestP99, r.Failed, r.Confirmed, r.ConfirmedPS, r.P50, r.P99, r.Statuses)
	}
	if r.Failed > 0 {
		err = errors.Join(err, fmt.Errorf("%d orders could not be placed, the first: %w", r.Failed, l.first))
	}
	return errors.Join(err, waitErr)
}

// plenty is how many pieces of a product there must be for load to order it.
const plenty = 1000

// choose finds what to order.
func (l *loading) choose(ctx context.Context) error {
	if l.cmd.SKU != "" {
		l.skus = []string{l.cmd.SKU}
		return nil
	}
	products, err := l.client.Products(ctx)
	if err != nil {
		return err
	}
	for _, p := range products {
		if p.Available >= plenty {
			l.skus = append(l.skus, p.SKU)
		}
	}
	if len(l.skus) == 0 {
		return fmt.Errorf("the shop has no product with %d pieces or more: restock, or name one with --sku", plenty)
	}
	return nil
}

// progress tells how far the placing is, until the returned function is called.
func (l *loading) progress() (stop func()) {
	done := make(chan struct{})
	var told sync.WaitGroup
	told.Go(func() {
		tick := time.NewTicker(2 * time.Second)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				fmt.Fprintf(os.Stderr, "  %d sent\n", l.sent.Load())
			}
		}
	})
	return func() {
		close(done)
		told.Wait()
	}
}

func (l *loading) place(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	sku := l.skus[int(l.sent.Add(1))%len(l.skus)]
	started := time.Now()
	o, err := l.client.PlaceSurely(ctx, client.Placement{
		Currency: "EUR", Lines: []client.Line{{SKU: sku, Quantity: 1}}, PaymentToken: l.cmd.Token,
		Customer: client.Customer{Name: "Load", Email: "load@example.com", Address: "1 Test Street"},
	})
	took := time.Since(started)
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.failed++
		if l.first == nil {
			l.first = err
		}
		return
	}
	l.ids = append(l.ids, o.ID)
	l.requests = append(l.requests, took)
}

func (l *loading) open(ctx context.Context) {
	var all sync.WaitGroup
	defer all.Wait()
	interval := time.Duration(float64(time.Second) / l.cmd.Rate)
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for end := time.Now().Add(l.cmd.Duration); time.Now().Before(end); {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			all.Go(func() { l.place(ctx) })
		}
	}
}

func (l *loading) burst(ctx context.Context) {
	var all sync.WaitGroup
	defer all.Wait()
	var next atomic.Int64
	for range l.cmd.Clients {
		all.Go(func() {
			for next.Add(1) <= int64(l.cmd.Burst) && ctx.Err() == nil {
				l.place(ctx)
			}
		})
	}
}

// wait returns when no order of the run is before its confirmation any more.
func (l *loading) wait(ctx context.Context) error {
	told := time.Now()
	for end := time.Now().Add(l.cmd.Patience); ; {
		waiting := 0
		for _, status := range []string{"placed", "authorizing", "compensating"} {
			n, err := l.client.CountUpTo(ctx, status, 100)
			if err != nil {
				n = 1 // the shop is away: nobody knows
			}
			waiting += n
		}
		if waiting == 0 {
			return nil
		}
		if ctx.Err() != nil || time.Now().After(end) {
			return fmt.Errorf("%d orders or more are neither confirmed nor ended after %s", waiting, l.cmd.Patience)
		}
		if time.Since(told) > 2*time.Second {
			told = time.Now()
			fmt.Fprintf(os.Stderr, "  waiting for %d orders or more\n", waiting)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// read reads an order, again and again for as long as the orders are waited for: the
// shop may be away for a while.
func (l *loading) read(ctx context.Context, id string) (client.Order, error) {
	for end := time.Now().Add(l.cmd.Patience); ; time.Sleep(100 * time.Millisecond) {
		o, err := l.client.Get(ctx, id)
		if err == nil || ctx.Err() != nil || time.Now().After(end) {
			return o, err
		}
	}
}

// result reads every order's history.
func (l *loading) result(ctx context.Context) (loadResult, error) {
	r := loadResult{Placed: len(l.ids), Failed: l.failed, Statuses: map[string]int{}, Customer: l.client.Customer}
	if l.first != nil {
		r.FirstError = l.first.Error()
	}
	orders := make([]client.Order, len(l.ids))
	errs := make([]error, 8)
	var all sync.WaitGroup
	for w := range errs {
		all.Go(func() {
			for i := w; i < len(l.ids) && errs[w] == nil; i += len(errs) {
				orders[i], errs[w] = l.read(ctx, l.ids[i])
			}
		})
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		return r, fmt.Errorf("read the orders' histories: %w", err)
	}
	var firstPlaced, lastPlaced, lastConfirmed time.Time
	var waits []time.Duration
	for _, o := range orders {
		r.Statuses[o.Status]++
		placed, ok := o.Reached("placed")
		if !ok {
			return r, fmt.Errorf("order %s has no history", o.ID)
		}
		if firstPlaced.IsZero() || placed.Before(firstPlaced) {
			firstPlaced = placed
		}
		if placed.After(lastPlaced) {
			lastPlaced = placed
		}
		confirmed, ok := o.Reached("confirmed")
		if !ok {
			if !o.AtRest() {
				r.Unfinished++
			}
			continue
		}
		r.Confirmed++
		waits = append(waits, confirmed.Sub(placed))
		if confirmed.After(lastConfirmed) {
			lastConfirmed = confirmed
		}
	}
	r.PlacedPerS = perSecond(len(orders), lastPlaced.Sub(firstPlaced))
	r.ConfirmedPS = perSecond(r.Confirmed, lastConfirmed.Sub(firstPlaced))
	r.P50, r.P99 = percentile(waits, .5), percentile(waits, .99)
	r.RequestP50, r.RequestP99 = percentile(l.requests, .5), percentile(l.requests, .99)
	return r, nil
}

func perSecond(n int, d time.Duration) float64 {
	if d <= 0 {
		return 0
	}
	return float64(n) / d.Seconds()
}

// percentile is the p-th of list in milliseconds, 0 of an empty one.
func percentile(list []time.Duration, p float64) float64 {
	if len(list) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(list))
	return float64(s[min(len(s)-1, int(p*float64(len(s))))]) / float64(time.Millisecond)
}
