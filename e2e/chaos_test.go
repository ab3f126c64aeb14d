package e2e

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

var (
	chaosFor  = flag.Duration("chaos", 0, "how long things go wrong in TestChaos (default 15s, at full length 5m)")
	chaosSeed = flag.Uint64("seed", 0, "what the faults of TestChaos are drawn from (default: anything, which is told)")
	chaosOut  = flag.String("chaos-out", "", "directory for the report of TestChaos and its plot (default: the test's artifacts, which -artifacts keeps)")
)

// wantedHits is how many faults of a chaos of five minutes must hit.
const wantedHits = 60

// TestChaos lets things go wrong at random while customers order, cancel, pay
// again, send back and look, and don't give up; then all is healed, and nothing may
// be lost, doubled or oversold, and everything must come to rest.
//
//	go test ./e2e -run '^TestChaos$' -v -chaos 5m -seed 7 -chaos-out /tmp/chaos
//
// The plan of the faults is drawn from the seed: the same seed, the same plan.
func TestChaos(t *testing.T) {
	t.Parallel()
	duration := *chaosFor
	if duration == 0 {
		duration = scaled(15*time.Second, 5*time.Minute)
	}
	seed := *chaosSeed
	if seed == 0 {
		seed = rand.Uint64N(1_000_000) + 1
	}
	runChaos(t, seed, duration)
}

// chaosKinds are all kinds of faults.
func chaosKinds() []faultKind {
	return slices.Concat(processFaults(), sqlFaults(), postgresFaults())
}

func runChaos(t *testing.T, seed uint64, duration time.Duration) {
	kinds := chaosKinds()
	plan := drawPlan(seed, duration, kinds)
	t.Logf("to be had again by: go test ./e2e -run '^TestChaos$' -chaos %s -seed %d; the plan:%s", duration, seed, tellPlan(plan))
	customers, haste := 8, 600*time.Millisecond
	if duration >= time.Minute {
		customers, haste = 30, 1500*time.Millisecond
	}
	c := newChaos(t)
	c.market = openMarket(t, c.URL, customers, seed, haste)
	t.Cleanup(c.market.close)
	started := time.Now()
	stalls := c.watch(t.Context(), started)
	faults := c.run(t.Context(), plan, kinds)
	healed := time.Now()
	// The customers stay until the last fault is seen to be over.
	eventually(t, 10*firstAnswer, func() error {
		if c.market.lastPlaced().After(healed.Add(2 * time.Second)) {
			return nil
		}
		return fmt.Errorf("no order was taken since 2 s after the last fault had healed")
	})
	c.market.close()
	r := &chaosReport{
		Seed: seed, Backend: c.Name(), Seconds: time.Since(started).Seconds(), Customers: customers,
		Orders: map[string]int{}, Stalls: stalls(),
	}
	var promised []string
	for _, p := range c.market.placed {
		promised = append(promised, p.ID)
	}
	gone := time.Since(healed)
	v, rest := CheckShop(t, c.DSN("", ""), promised...)
	r.RestSeconds, r.Dead = -1, v.Dead
	if rest > 0 {
		r.RestSeconds = (gone + rest).Seconds()
	}
	c.finish(t, r, v, started, faults)
	checkChaos(t, r, duration)
}

// finish completes the report and writes it.
func (c *chaos) finish(t *testing.T, r *chaosReport, v verification, started time.Time, faults []outcome) {
	t.Helper()
	for _, check := range v.Checks {
		for _, f := range check.Findings {
			r.Found = append(r.Found, fmt.Sprintf("%s: %s %s", check.Name, f.Subject, f.What))
		}
	}
	courses, err := readCourses(t.Context(), c.Admin)
	if err != nil {
		t.Fatal(err)
	}
	broken, err := checkPromises(t.Context(), c.Admin, c.market)
	if err != nil {
		t.Fatal(err)
	}
	var statuses []struct {
		Status string `db:"status"`
		N      int    `db:"n"`
	}
	if err := c.Admin.SelectContext(t.Context(), &statuses, `SELECT status, count(*) AS n FROM orders.orders GROUP BY status`); err != nil {
		t.Fatal(err)
	}
	for _, s := range statuses {
		r.Orders[s.Status] = s.N
	}
	r.tellFaults(started, faults, c.market.placed, courses)
	r.tellRates(started, courses)
	r.tellMarket(c.market)
	r.Wrong = slices.Concat(r.Wrong, broken, c.complaints)
	r.LoggedErrors = map[string]int{}
	for _, name := range services {
		for line := range strings.Lines(c.Logs(first(name))) {
			if _, said, ok := strings.Cut(line, " ERR "); ok {
				message, _, _ := strings.Cut(strings.TrimSpace(said), " service=")
				message, _, _ = strings.Cut(message, " topic=")
				r.LoggedErrors[name+": "+message]++
			}
			if strings.Contains(line, "ended by an error") || strings.HasPrefix(line, "panic:") || strings.HasPrefix(line, "fatal error:") {
				r.Wrong = append(r.Wrong, name+" ended by itself: "+strings.TrimSpace(line))
			}
		}
	}
	dir := *chaosOut
	if dir == "" {
		dir = t.ArtifactDir()
	} else if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, fmt.Sprintf("chaos-%d", r.Seed))
	if err := r.write(path); err != nil {
		t.Fatal(err)
	}
	for _, name := range append([]string{Database.Service}, services...) {
		if err := os.WriteFile(fmt.Sprintf("%s-%s.log", path, name), []byte(c.Logs(first(name))), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%s\n    report, plot and logs: %s.json, .svg, -*.log", r, path)
}

// checkChaos checks what must hold of a chaos, beyond CheckShop.
func checkChaos(t *testing.T, r *chaosReport, duration time.Duration) {
	t.Helper()
	for _, w := range r.Wrong {
		t.Error(w)
	}
	for _, k := range r.Recovery {
		// A single one may come at a moment when nothing is under way.
		if k.Hit == 0 && k.Planned > 1 {
			t.Errorf("%s: %d planned, none hit", k.Kind, k.Planned)
		}
	}
	if want := int(wantedHits * duration / (5 * time.Minute)); r.hit() < want {
		t.Errorf("%d faults hit, want %d", r.hit(), want)
	}
	for _, f := range r.Faults {
		what := fault{Kind: f.Kind, Whom: f.Whom, How: f.How}
		if f.Error != "" {
			t.Logf("%s: %s", what, f.Error)
		}
		if limit := 10 * firstAnswer; f.Hits > 0 && (f.AnswerMS < 0 || f.AnswerMS > limit.Milliseconds()) {
			t.Errorf("%s: the first order after it was taken after %d ms, want %s at most", what, f.AnswerMS, limit)
		}
	}
	if r.RestSeconds > healLimit.Seconds() {
		t.Errorf("at rest %.1f s after the last fault had healed, want %s at most", r.RestSeconds, healLimit)
	}
}
