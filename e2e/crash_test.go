package e2e

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"example.com/orderflow/messaging"
)

// crashes are the points between two steps at which processes are made to die, and
// the services that come by each. Scaled down it is the first of them. Notifications
// has something fall due only for customers with webhook endpoints; here are none.
var crashes = []struct {
	point    string
	holds    bool // who dies there leaves messages behind that it has claimed
	services []string
}{
	{"transact.claimed", true, []string{"orders", "inventory", "notifications"}},
	{"transact.before_commit", true, []string{"inventory", "orders", "notifications"}},
	{"transact.after_commit", false, []string{"notifications", "orders", "inventory"}},
	{"lease.claimed", true, []string{"notifications", "payments"}},
	{"lease.answered", true, []string{"payments", "notifications"}},
	{"lease.before_commit", true, []string{"payments", "notifications"}},
	{"lease.after_commit", false, []string{"notifications", "payments"}},
	{"intx.before_commit", false, []string{"payments", "orders", "inventory", "notifications"}},
	{"intx.after_commit", false, []string{"orders", "payments", "inventory", "notifications"}},
	{"schedule.before_commit", false, []string{"inventory", "orders", "payments"}},
	{"schedule.after_commit", false, []string{"inventory", "orders", "payments"}},
	{"relay.before_commit", false, []string{"notifications", "orders", "inventory", "payments"}},
	{"relay.after_commit", false, []string{"orders", "inventory", "payments", "notifications"}},
	{"nack.before", true, []string{"notifications", "orders", "inventory", "payments"}},
	{"nack.after", false, []string{"payments", "orders", "inventory", "notifications"}},
	{"drain.begun", true, []string{"orders", "inventory", "payments", "notifications"}},
	{"drain.handled", false, []string{"inventory", "orders", "payments", "notifications"}},
	{"http.before_answer", false, []string{"paysim", "console", "orders", "inventory", "payments", "notifications"}},
}

// bringsTo are the settings with which a service comes by points of a layer that it
// would seldom meet, or with nothing in hand: a handler that is too slow for a batch
// fails, a deadline that is too short passes, one that is slow is at work when the
// process is told to end. A message of payments fails when the provider does.
var bringsTo = map[string]map[string]string{
	"nack": {
		"orders":        "FAULT_SLOW=inventory.stock_reserved=1500ms",
		"inventory":     "FAULT_SLOW=inventory.reserve_stock=1500ms",
		"notifications": "FAULT_SLOW=orders.order_placed=1500ms",
	},
	"schedule": {
		"orders":   "ORDERS_FULFILLING_DEADLINE=100ms",
		"payments": "PAYMENTS_RECONCILE_EVERY=1s",
	},
	"drain": {
		"orders":        "FAULT_SLOW=inventory.stock_reserved=700ms",
		"inventory":     "FAULT_SLOW=inventory.reserve_stock=700ms",
		"payments":      "FAULT_SLOW=payments.authorize_payment=700ms",
		"notifications": "FAULT_SLOW=orders.order_placed=700ms",
	},
}

// crashLimit is how long a service may take to come by a point.
const crashLimit = time.Minute

// TestCrash has every service die at every point between two steps that it comes
// by, under load, and starts it again: all ends as it does without.
func TestCrash(t *testing.T) {
	t.Parallel()
	s := NewStack(t, WithMails)
	visitors := openVisitors(t, NewCustomer(t, s.URL), scaled(400*time.Millisecond, 200*time.Millisecond))

	// Services die side by side, each at its points one after the other, until one
	// doesn't as it should.
	ctx, giveUp := context.WithCancel(t.Context())
	defer giveUp()
	var all sync.WaitGroup
	var mu sync.Mutex
	var deaths []death
	for _, service := range services {
		all.Go(func() {
			door := NewCustomer(t, s.Reach(first(service)))
			for _, d := range planned(service) {
				d.door = door
				if err := d.strike(ctx, s); err != nil {
					if ctx.Err() == nil {
						t.Errorf("%s at %s: %v\n%s", service, d.point, err, tail(s.Logs(first(service)), 20))
					}
					giveUp()
					return
				}
				mu.Lock()
				deaths = append(deaths, d)
				mu.Unlock()
			}
		})
	}
	all.Wait()
	if t.Failed() {
		return
	}
	promised := visitors.close(t)
	CheckShop(t, s.DSN("", ""), promised...)
	tellDeaths(t, deaths)
}

// death is a process's end at a point.
type death struct {
	service, point string
	visit          int
	holds          bool
	door           *Customer // at the service itself

	came   time.Duration // from its start
	inHand int           // messages that it had claimed
	moved  time.Duration // from the next start until the last of them was done
}

// planned are the deaths that service is to die: each point once, at full length
// also at the third visit of those that it comes by all the time.
func planned(service string) (list []death) {
	for _, c := range crashes {
		who := scaled(c.services[:1], c.services)
		if !slices.Contains(who, service) {
			continue
		}
		layer, _, _ := strings.Cut(c.point, ".")
		for _, visit := range scaled([]int{1}, []int{1, 3}) {
			if visit == 1 || bringsTo[layer][service] == "" {
				list = append(list, death{service: service, point: c.point, visit: visit, holds: c.holds})
			}
		}
	}
	return list
}

// strike has the service die as d says, starts it again with its usual settings and
// waits until what it had in hand is done.
func (d *death) strike(ctx context.Context, s *Stack) error {
	if _, err := s.terminate(first(d.service)); err != nil {
		return err
	}
	if err := d.die(ctx, s); err != nil {
		return err
	}
	left, err := s.claimed(ctx, d.service)
	if err != nil {
		return err
	}
	if d.inHand = len(left); d.holds && d.inHand == 0 {
		return errors.New("it had nothing in hand")
	}
	restarted := time.Now()
	if err := s.launch(ctx, first(d.service)); err != nil {
		return err
	}
	// One that has just been started knows no orderly end yet.
	err = until(ctx, crashLimit, "the restart", func() (bool, error) { return d.door.ready(ctx) == nil, nil })
	if err != nil {
		return err
	}
	err = until(ctx, 10*moveAgain, "what it had in hand to be done", func() (bool, error) {
		still, err := s.living(ctx, d.service)
		return !slices.ContainsFunc(left, func(id string) bool { return slices.Contains(still, id) }), err
	})
	d.moved = since(restarted)
	return err
}

// die starts the service to die as d says and returns when it has, by SIGKILL.
func (d *death) die(ctx context.Context, s *Stack) error {
	layer, _, _ := strings.Cut(d.point, ".")
	settings := []string{fmt.Sprintf("FAULT_CRASH=%s=%d", d.point, d.visit)}
	if more := bringsTo[layer][d.service]; more != "" {
		settings = append(settings, more)
	}
	before, started := s.deaths(d.service), time.Now()
	if err := s.launch(ctx, first(d.service), settings...); err != nil {
		return err
	}
	err := until(ctx, crashLimit, "its death", func() (bool, error) {
		if layer == "drain" { // it comes by when it is told to end, which is when the slow handler is at work
			slow := strings.Split(bringsTo[layer][d.service], "=")[1]
			at, err := s.messages(ctx, d.service, "token IS NOT NULL AND kind = '"+slow+"'")
			return len(at) > 0, err
		}
		return s.deaths(d.service) > before, nil
	})
	if err != nil {
		return err
	}
	ending, cancel := context.WithTimeout(ctx, 3*stopLimit)
	defer cancel()
	exit, err := s.Stop(ending, first(d.service))
	if err != nil {
		return err
	}
	s.setUp(first(d.service), false)
	d.came = since(started)
	if n := s.deaths(d.service) - before; exit != -1 || n != 1 {
		return fmt.Errorf("it ended with exit code %d and told of %d deaths, want -1 for SIGKILL, and 1", exit, n)
	}
	return nil
}

// deaths counts how often the service has told that it dies at a point.
func (s *Stack) deaths(service string) int {
	return strings.Count(s.Logs(first(service)), "dies at a crash point")
}

// claimed are the ids of the messages that the service has in hand, or that one which
// has died has left so; living those of all that it is still to handle.
func (s *Stack) claimed(ctx context.Context, service string) ([]string, error) {
	return s.messages(ctx, service, "token IS NOT NULL AND dead_reason IS NULL")
}

func (s *Stack) living(ctx context.Context, service string) ([]string, error) {
	return s.messages(ctx, service, "dead_reason IS NULL")
}

func (s *Stack) messages(ctx context.Context, service, condition string) (ids []string, err error) {
	var queues []string
	err = s.Admin.SelectContext(ctx, &queues, `SELECT relname FROM pg_class WHERE relkind = 'r' AND relname ~ ('^queue_' || $1 || '(_send)?$')`, service)
	for _, q := range queues {
		if err == nil {
			var some []string
			err = s.Admin.SelectContext(ctx, &some, `SELECT message_id::text FROM messaging.`+q+` WHERE `+condition)
			ids = append(ids, some...)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("look into the queues of %s: %w", service, err)
	}
	return ids, nil
}

// until asks until cond says so, for up to limit.
func until(ctx context.Context, limit time.Duration, what string, cond func() (bool, error)) error {
	for end := time.Now().Add(limit); ; time.Sleep(50 * time.Millisecond) {
		ok, err := cond()
		if ok || err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if time.Now().After(end) {
			return fmt.Errorf("waited %s in vain for %s", limit, what)
		}
	}
}

// tellDeaths logs the deaths and checks that there was one at every point.
func tellDeaths(t *testing.T, deaths []death) {
	t.Helper()
	visited := map[string]int{}
	slices.SortStableFunc(deaths, func(a, b death) int { return strings.Compare(a.service, b.service) })
	for _, d := range deaths {
		visited[d.point]++
		moved := "nothing to redo"
		if d.inHand > 0 {
			moved = fmt.Sprintf("done %s after the restart (to reach: %s)", d.moved, moveAgain)
		}
		t.Logf("%-13s %-22s visit %d: killed after %6s with %2d messages in hand; %s", d.service, d.point, d.visit, d.came, d.inHand, moved)
	}
	points := messaging.CrashPoints()
	for _, p := range points {
		if visited[p.Name] == 0 {
			t.Errorf("nobody died at %s (%s)", p.Name, p.Says)
		}
	}
	t.Logf("%d processes killed at %d of %d points", len(deaths), len(visited), len(points))
}
