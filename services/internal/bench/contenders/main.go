// Command contenders runs the benchmark's order on what other teams would take:
// watermill-sql with its forwarder as its documentation says (stock), River
// (river), or DBOS (dbos). It is a module of its own, so that nobody who copies
// the shop carries these.
//
// It works on the database at DATABASE_URL, whose tables the benchmark has made.
// Once it is ready it prints "ready" and places an order for every line
// "<order id> <SKU> <SKU>" on its standard input, many at once. When the order is
// stored it prints "placed <order id>", or "failed <order id>: <why>". It ends in
// good order when its input does.
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"sync"
)

// contender takes orders and brings them to their confirmation by itself.
type contender interface {
	// place stores an order and returns.
	place(context.Context, order) error
	close(context.Context) error
}

func main() {
	if err := run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "contenders:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) (err error) {
	debug.SetGCPercent(400) // as ours has it
	starts := map[string]func(context.Context, string) (contender, error){"stock": startStock, "river": startRiver, "dbos": startDBOS}
	if len(os.Args) != 2 || starts[os.Args[1]] == nil {
		return errors.New("say which: stock, river or dbos")
	}
	url := os.Getenv("DATABASE_URL")
	if url == "" {
		return errors.New("DATABASE_URL is not set")
	}
	c, err := starts[os.Args[1]](ctx, url)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.close(ctx)) }()
	return serve(ctx, c)
}

// serve places the orders of the standard input until it ends.
func serve(ctx context.Context, c contender) error {
	var mu sync.Mutex
	var lost error
	say := func(line string) {
		mu.Lock()
		defer mu.Unlock()
		if _, err := os.Stdout.WriteString(line + "\n"); err != nil {
			lost = errors.Join(lost, err)
		}
	}
	say("ready")
	var placing sync.WaitGroup
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		var o order
		if _, err := fmt.Sscan(in.Text(), &o.ID, &o.First, &o.Second); err != nil {
			return fmt.Errorf("order %q: %w", in.Text(), err)
		}
		placing.Go(func() {
			if err := c.place(ctx, o); err != nil {
				say(fmt.Sprintf("failed %d: %v", o.ID, err))
				return
			}
			say(fmt.Sprintf("placed %d", o.ID))
		})
	}
	placing.Wait()
	return errors.Join(in.Err(), lost)
}
