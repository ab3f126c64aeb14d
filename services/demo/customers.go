package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"example.com/orderflow/services/internal/client"
)

// visit is one sample customer's wish.
type visit struct {
	name  string
	lines []client.Line
	token string
	then  func(context.Context, *client.Client, client.Order) error // once it is placed
}

// visits are what the sample customers do, in turn.
func visits() []visit {
	return []visit{
		{name: "Ada", lines: []client.Line{{SKU: "MUG-01", Quantity: 2}}, token: "tok_ok"},
		{name: "Grace", lines: []client.Line{{SKU: "TEA-01", Quantity: 3}, {SKU: "POT-01", Quantity: 1}}, token: "tok_ok"},
		{name: "Edsger", lines: []client.Line{{SKU: "KETTLE-01", Quantity: 1}}, token: "tok_declined", then: payAgain},
		{name: "Barbara", lines: []client.Line{{SKU: "COFFEE-01", Quantity: 1}, {SKU: "FILTER-01", Quantity: 2}}, token: "tok_ok"},
		{name: "Leslie", lines: []client.Line{{SKU: "SET-01", Quantity: 1}}, token: "tok_ok"}, // sold out
		{name: "Tony", lines: []client.Line{{SKU: "TOWEL-01", Quantity: 4}}, token: "tok_slow", then: cancel},
	}
}

// payAgain waits for the decline and pays by another method.
func payAgain(ctx context.Context, c *client.Client, o client.Order) error {
	o, err := follow(ctx, c, o, func(o client.Order) bool { return o.AtRest() })
	if err != nil || o.Status != "payment_failed" {
		return err
	}
	_, err = c.Pay(ctx, o.ID, "tok_ok")
	return err
}

// cancel changes the customer's mind; too late is no error.
func cancel(ctx context.Context, c *client.Client, o client.Order) error {
	_, err := c.Cancel(ctx, o.ID)
	var e *client.Error
	if errors.As(err, &e) && e.Code() == "order-not-cancellable" {
		return nil
	}
	return err
}

// trickle has rate visits a second happen until ctx ends, the first at once, and
// tells how each went in a line.
func trickle(ctx context.Context, url string, rate float64, started time.Time) error {
	if rate <= 0 {
		<-ctx.Done()
		return nil
	}
	c := client.New(url, "sample-customer")
	defer c.Close()
	var visiting sync.WaitGroup
	defer visiting.Wait()
	var first sync.Once
	tick := time.NewTicker(time.Duration(float64(time.Second) / rate))
	defer tick.Stop()
	list := visits()
	for n := 0; ; n++ {
		visiting.Go(func() {
			o, err := list[n%len(list)].run(ctx, c, func() {
				first.Do(func() { fmt.Printf("first order confirmed %.1f s after the start\n", time.Since(started).Seconds()) })
			})
			switch {
			case ctx.Err() != nil: // closing time
			case err != nil:
				fmt.Printf("order  %-7s %v\n", list[n%len(list)].name, err)
			default:
				fmt.Println(line(list[n%len(list)].name, o))
			}
		})
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// run places the visit's order and follows it to its end.
func (v visit) run(ctx context.Context, c *client.Client, confirmed func()) (client.Order, error) {
	ctx, done := context.WithTimeout(ctx, 2*time.Minute)
	defer done()
	o, err := c.PlaceSurely(ctx, client.Placement{
		Currency: "EUR", Lines: v.lines, PaymentToken: v.token,
		Customer: client.Customer{Name: v.name, Email: strings.ToLower(v.name) + "@example.com", Address: "1 Sample Street"},
	})
	if err != nil {
		return o, err
	}
	if v.then != nil {
		if err := v.then(ctx, c, o); err != nil {
			return o, err
		}
	}
	told := false
	return follow(ctx, c, o, func(o client.Order) bool {
		if _, ok := o.Reached("confirmed"); ok && !told {
			told = true
			confirmed()
		}
		return o.Ended()
	})
}

// follow looks at the order until it is as wanted.
func follow(ctx context.Context, c *client.Client, o client.Order, wanted func(client.Order) bool) (client.Order, error) {
	for {
		now, err := c.Get(ctx, o.ID)
		if err != nil {
			return o, err
		}
		if wanted(now) {
			return now, nil
		}
		select {
		case <-ctx.Done():
			return now, fmt.Errorf("order %s is still %s: %w", o.ID, now.Status, ctx.Err())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// line tells an order's way with the milliseconds of every step.
func line(name string, o client.Order) string {
	var b strings.Builder
	fmt.Fprintf(&b, "order  %-7s %s…  ", name, o.ID[:13])
	for i, e := range o.History {
		if i > 0 {
			fmt.Fprintf(&b, " →%d→ ", e.At.Sub(o.History[i-1].At).Milliseconds())
		}
		b.WriteString(e.Status)
	}
	if o.ReasonCode != "" {
		fmt.Fprintf(&b, " (%s)", o.ReasonCode)
	}
	return b.String()
}
