package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
)

const (
	aimLimit  = 20 * time.Second // for something to be there that can be hit; others may have stopped the shop meanwhile
	backLimit = 30 * time.Second // for a service that was started to be ready
)

// errMissed is the end of a fault that found nothing to hit.
var errMissed = errors.New("nothing was under way that it could hit")

// chaos is a shop in which things go wrong while customers come and go.
type chaos struct {
	*Stack
	market   *market
	own      map[string][]string // settings, by service
	database map[string]*Link    // by service
	provider *Link
	foreign  *sqlx.DB // another database of the same server
	asking   *http.Client

	mu         sync.Mutex
	targets    map[string]*sync.Mutex
	complaints []string
}

// newChaos makes a shop whose links are all in the test's hand.
func newChaos(t testing.TB) *chaos {
	t.Helper()
	c := &chaos{
		Stack: newStack(t), own: map[string][]string{}, database: map[string]*Link{}, targets: map[string]*sync.Mutex{},
		asking: &http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}},
	}
	if err := c.migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, name := range withDatabase {
		var setting string
		c.database[name], setting = c.LinkDatabase(t, name)
		c.own[name] = []string{setting}
	}
	var setting string
	c.provider, setting = c.LinkProvider(t)
	// Nobody waits long for an answer that doesn't come.
	c.own["payments"] = append(c.own["payments"], setting, "PAYMENTS_PROVIDER_TIMEOUT=2s")
	c.own["paysim"] = append(c.own["paysim"], "PAYSIM_HANG=3s", "PAYSIM_SLOW=1s", "PAYSIM_WEBHOOK_URL="+c.Peer(first("payments"))+"/v1/provider-webhooks")
	for _, name := range services {
		c.Launch(t, name, c.own[name]...)
	}
	c.WaitReady(t, services...)
	c.openForeign(t)
	return c
}

// openForeign makes another database on the stack's server.
func (c *chaos) openForeign(t testing.TB) {
	t.Helper()
	const name = externalPrefix + "foreign"
	if _, err := c.Admin.ExecContext(t.Context(), `CREATE DATABASE `+name); err != nil {
		t.Fatal(err)
	}
	var err error
	if c.foreign, err = openDatabase(c.DSN("", ""), name); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.foreign.Close(); err != nil {
			t.Error(err)
		}
	})
	if _, err := c.foreign.ExecContext(t.Context(), `CREATE TABLE things (id integer)`); err != nil {
		t.Fatal(err)
	}
}

// wound is a fault that has begun.
type wound struct {
	at   time.Time // when it did
	hits int       // what it hit by beginning
	what string
	// count says what it has hit so far of what is counted meanwhile, if it is.
	count func(context.Context) (hits int, what string, err error)
	heal  func(context.Context) error // ends it; nil = it has ended
}

// await counts until something was hit, or ctx ends.
func (w wound) await(ctx context.Context) (hits int, what string, err error) {
	for {
		hits, what, err = w.count(ctx)
		if hits > 0 {
			return hits, what, nil
		}
		if !pause(ctx, 50*time.Millisecond) {
			return 0, what, errors.Join(errMissed, err)
		}
	}
}

// outcome is a fault as it went.
type outcome struct {
	fault
	Struck, Healed time.Time
	Hits           int
	Hit            string
	Err            error // errMissed; or why it couldn't be done, or not be healed
}

// complain notes what should not have happened to a service.
func (c *chaos) complain(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.complaints = append(c.complaints, fmt.Sprintf(format, args...))
}

// run does what is planned, each lane's faults one after the other, and returns how
// they went when all have healed. When ctx ends nothing further is begun.
func (c *chaos) run(ctx context.Context, plan []fault, kinds []faultKind) []outcome {
	strikes := map[string]func(*chaos, context.Context, fault) (wound, error){}
	for _, k := range kinds {
		strikes[k.name] = k.strike
	}
	var mu sync.Mutex
	var list []outcome
	var lanes sync.WaitGroup
	started := time.Now()
	for lane := range chaosLanes {
		lanes.Go(func() {
			for _, f := range plan {
				if f.Lane != lane || !pause(ctx, time.Until(started.Add(f.At))) {
					continue
				}
				o := c.inflict(ctx, f, strikes[f.Kind])
				mu.Lock()
				list = append(list, o)
				mu.Unlock()
			}
		})
	}
	lanes.Wait()
	slices.SortFunc(list, func(a, b outcome) int { return a.Struck.Compare(b.Struck) })
	return list
}

// pause reports whether d passed before ctx ended.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// inflict does f and heals it. Whom it hits is its own meanwhile.
func (c *chaos) inflict(ctx context.Context, f fault, strike func(*chaos, context.Context, fault) (wound, error)) outcome {
	for _, name := range slices.Sorted(slices.Values(f.Whom)) { // sorted, so that two never wait for each other
		target := c.target(name)
		target.Lock()
		defer target.Unlock()
	}
	o := outcome{fault: f, Struck: time.Now()}
	aiming, cancel := context.WithTimeout(ctx, aimLimit+f.Lasts)
	defer cancel()
	w, err := strike(c, aiming, f)
	for err != nil && w.heal == nil && pause(aiming, 100*time.Millisecond) {
		w, err = strike(c, aiming, f) // another fault stood in its way, or there was nothing to hit
	}
	if !w.at.IsZero() {
		o.Struck = w.at
	}
	o.Hits, o.Hit, o.Err = w.hits, w.what, err
	if w.heal != nil {
		pause(ctx, time.Until(o.Struck.Add(f.Lasts)))
		if w.count != nil && err == nil {
			o.Hits, o.Hit, o.Err = w.await(aiming)
		}
		healing, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*backLimit)
		defer cancel()
		o.Err = errors.Join(o.Err, w.heal(healing))
	}
	o.Healed = time.Now()
	for _, name := range f.Whom {
		c.awaitBack(ctx, name)
	}
	return o
}

func (c *chaos) target(name string) *sync.Mutex {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.targets[name] == nil {
		c.targets[name] = new(sync.Mutex)
	}
	return c.targets[name]
}

// awaitBack waits until the service, if name is one, is ready again.
func (c *chaos) awaitBack(ctx context.Context, name string) {
	if !slices.Contains(services, name) {
		return
	}
	for end := time.Now().Add(backLimit); !isReady(c.asking, c.Reach(first(name))); {
		if time.Now().After(end) {
			c.complain("%s isn't ready %s after its fault has healed:\n%s", name, backLimit, tail(c.Logs(first(name)), 10))
			return
		}
		if !pause(ctx, 50*time.Millisecond) {
			return
		}
	}
}

// launch starts the service with its own settings and extra.
func (c *chaos) launch(ctx context.Context, service string, extra ...string) error {
	p := first(service)
	if _, err := c.Start(ctx, p, c.settings(service, append(slices.Clone(c.own[service]), extra...))); err != nil {
		return err
	}
	c.setUp(p, true)
	return nil
}

// end stops the service as an operator does. That it doesn't end as it should is
// complained of.
func (c *chaos) end(service string) {
	if _, err := c.terminate(first(service)); err != nil {
		c.complain("%v", err)
	}
}

// catch freezes the services at a moment at which one of them, at least, has
// something in hand, and says how many have and what.
func (c *chaos) catch(ctx context.Context, names []string) (hits int, what string, err error) {
	for ctx.Err() == nil {
		hits, what, err = c.freeze(ctx, names)
		if err == nil && hits > 0 {
			return hits, what, nil
		}
		if err := c.thaw(names); err != nil {
			return 0, "", err
		}
		pause(ctx, 10*time.Millisecond)
	}
	return 0, "", errors.Join(errMissed, err)
}

func (c *chaos) freeze(ctx context.Context, names []string) (hits int, what string, err error) {
	// The database may be slow, or not be there: then there is nothing to see.
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	for _, name := range names {
		if err := c.Pause(first(name)); err != nil {
			return 0, "", err
		}
	}
	var list []string
	for _, name := range names {
		if err := c.still(ctx, name); err != nil {
			return 0, "", err
		}
		held, _, err := c.hold(ctx, name, c.market.underWay.Load())
		if err != nil {
			return 0, "", err
		}
		if held != "" {
			list = append(list, name+" had "+held+" in hand")
		}
	}
	return len(list), strings.Join(list, ", "), nil
}

func (c *chaos) thaw(names []string) error {
	var err error
	for _, name := range names {
		err = errors.Join(err, c.Resume(first(name)))
	}
	return err
}
