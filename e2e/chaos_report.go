package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/jmoiron/sqlx"
)

// chaosReport is what a chaos came to. Times are seconds since its start.
type chaosReport struct {
	Seed      uint64  `json:"seed"`
	Backend   string  `json:"backend"`
	Seconds   float64 `json:"seconds"` // until the customers went
	Customers int     `json:"customers"`

	Faults   []faultReport    `json:"faults"`
	Recovery []recoveryReport `json:"recovery"` // by kind

	Promised     int            `json:"promised"` // orders that customers were promised
	Orders       map[string]int `json:"orders"`   // by status, at the end
	Answers      map[string]int `json:"answers"`
	SlowestMS    int64          `json:"slowest_answer_ms"` // or how long it was waited for in vain
	PlaceP50     int64          `json:"place_p50_ms"`      // from the first request to the promise
	PlaceP99     int64          `json:"place_p99_ms"`
	PlacedPerS   []int          `json:"placed_per_second"`    // of each second
	DeliveredPS  []int          `json:"delivered_per_second"` // likewise
	RestSeconds  float64        `json:"rest_seconds"`         // from the last healing until all was at rest; -1 = it never was
	Dead         int            `json:"dead_letters"`
	Found        []string       `json:"found"`         // by shopctl verify
	Wrong        []string       `json:"wrong"`         // what should not have been
	LoggedErrors map[string]int `json:"logged_errors"` // messages of level ERROR in the services' logs
	Stalls       []stall        `json:"stalls"`
}

// faultReport is a fault as it went.
type faultReport struct {
	Kind    string   `json:"kind"`
	Whom    []string `json:"whom,omitempty"`
	How     string   `json:"how,omitempty"`
	Planned float64  `json:"planned_at"`
	Struck  float64  `json:"struck_at"`
	Healed  float64  `json:"healed_at"`
	Hits    int      `json:"hits"`
	Hit     string   `json:"hit,omitempty"`
	Error   string   `json:"error,omitempty"`
	// From its healing to the first promise after it, and to the first confirmation of
	// an order that was placed after it; -1 = there was none.
	AnswerMS  int64 `json:"first_answer_ms"`
	ConfirmMS int64 `json:"first_confirmed_ms"`
}

// recoveryReport sums up the faults of a kind.
type recoveryReport struct {
	Kind       string `json:"kind"`
	Planned    int    `json:"planned"`
	Hit        int    `json:"hit"`
	AnswerP50  int64  `json:"first_answer_p50_ms"`
	AnswerP99  int64  `json:"first_answer_p99_ms"`
	ConfirmP50 int64  `json:"first_confirmed_p50_ms"`
	ConfirmP99 int64  `json:"first_confirmed_p99_ms"`
}

// course is when an order was placed, confirmed and delivered.
type course struct {
	Placed    time.Time  `db:"placed"`
	Confirmed *time.Time `db:"confirmed"`
	Delivered *time.Time `db:"delivered"`
}

func readCourses(ctx context.Context, db *sqlx.DB) ([]course, error) {
	var list []course
	err := db.SelectContext(ctx, &list, `
		SELECT min(at) FILTER (WHERE status = 'placed') AS placed, min(at) FILTER (WHERE status = 'confirmed') AS confirmed, min(at) FILTER (WHERE status = 'delivered') AS delivered
		FROM orders.history
		GROUP BY order_id`)
	if err != nil {
		return nil, fmt.Errorf("read the orders' histories: %w", err)
	}
	return list, nil
}

// tellFaults reports how the faults went and how soon all went on after each.
func (r *chaosReport) tellFaults(started time.Time, faults []outcome, promises []promise, courses []course) {
	at := func(t time.Time) float64 { return t.Sub(started).Round(time.Millisecond).Seconds() }
	for _, o := range faults {
		f := faultReport{
			Kind: o.Kind, Whom: o.Whom, How: o.How, Planned: o.At.Seconds(), Struck: at(o.Struck), Healed: at(o.Healed),
			Hits: o.Hits, Hit: o.Hit, AnswerMS: -1, ConfirmMS: -1,
		}
		if o.Err != nil {
			f.Error = o.Err.Error()
		}
		earlier := func(ms *int64, t time.Time) {
			if d := t.Sub(o.Healed).Milliseconds(); *ms < 0 || d < *ms {
				*ms = d
			}
		}
		for _, p := range promises {
			if p.At.After(o.Healed) {
				earlier(&f.AnswerMS, p.At)
			}
		}
		for _, c := range courses {
			if c.Placed.After(o.Healed) && c.Confirmed != nil {
				earlier(&f.ConfirmMS, *c.Confirmed)
			}
		}
		r.Faults = append(r.Faults, f)
	}
	kinds := map[string][]faultReport{}
	for _, f := range r.Faults {
		kinds[f.Kind] = append(kinds[f.Kind], f)
	}
	for _, kind := range slices.Sorted(maps.Keys(kinds)) {
		sum := recoveryReport{Kind: kind, Planned: len(kinds[kind])}
		var answers, confirms []int64
		for _, f := range kinds[kind] {
			if f.Hits > 0 {
				sum.Hit++
				answers, confirms = append(answers, f.AnswerMS), append(confirms, f.ConfirmMS)
			}
		}
		sum.AnswerP50, sum.AnswerP99 = quantile(answers, .5), quantile(answers, .99)
		sum.ConfirmP50, sum.ConfirmP99 = quantile(confirms, .5), quantile(confirms, .99)
		r.Recovery = append(r.Recovery, sum)
	}
}

// tellRates counts what was placed and delivered in each second.
func (r *chaosReport) tellRates(started time.Time, courses []course) {
	n := int(r.Seconds) + 1
	r.PlacedPerS, r.DeliveredPS = make([]int, n), make([]int, n)
	count := func(list []int, t *time.Time) {
		if t == nil || t.Before(started) {
			return
		}
		if i := int(t.Sub(started) / time.Second); i < n {
			list[i]++
		}
	}
	for _, c := range courses {
		count(r.PlacedPerS, &c.Placed)
		count(r.DeliveredPS, c.Delivered)
	}
}

// tellMarket reports what customers met.
func (r *chaosReport) tellMarket(c *market) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r.Promised, r.Answers, r.SlowestMS = len(c.placed), c.answers, c.slowest.Milliseconds()
	took := make([]int64, len(c.placed))
	for i, p := range c.placed {
		took[i] = p.Took.Milliseconds()
	}
	r.PlaceP50, r.PlaceP99 = quantile(took, .5), quantile(took, .99)
	r.Wrong = append(r.Wrong, c.wrong...)
	if more := c.allWrong - len(c.wrong); more > 0 {
		r.Wrong = append(r.Wrong, fmt.Sprintf("and %d more answers", more))
	}
}

// quantile is the q-th of list, -1 of an empty one.
func quantile(list []int64, q float64) int64 {
	if len(list) == 0 {
		return -1
	}
	s := slices.Sorted(slices.Values(list))
	return s[min(len(s)-1, int(q*float64(len(s))))]
}

// hit is how many faults have hit something.
func (r *chaosReport) hit() int {
	n := 0
	for _, k := range r.Recovery {
		n += k.Hit
	}
	return n
}

// rest says when all had come to rest.
func (r *chaosReport) rest() string {
	if r.RestSeconds < 0 {
		return "not at rest in time"
	}
	return fmt.Sprintf("all at rest %.1f s after the last fault had healed", r.RestSeconds)
}

// String is the report in some lines.
func (r *chaosReport) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "seed %d on %s: %d of %d faults hit in %.0f s; %d customers were promised %d orders (p50 %d ms, p99 %d ms), the longest wait for an answer was %d ms",
		r.Seed, r.Backend, r.hit(), len(r.Faults), r.Seconds, r.Customers, r.Promised, r.PlaceP50, r.PlaceP99, r.SlowestMS)
	fmt.Fprintf(&b, "\n    %s, %d dead letters; orders: %v", r.rest(), r.Dead, r.Orders)
	fmt.Fprintf(&b, "\n    answers: %v", r.Answers)
	fmt.Fprintf(&b, "\n    logged as errors: %v", r.LoggedErrors)
	fmt.Fprintf(&b, "\n    %-28s %7s %4s   first answer p50, p99   first confirmed p50, p99 (ms after the healing)", "kind of fault", "planned", "hit")
	for _, k := range r.Recovery {
		fmt.Fprintf(&b, "\n    %-28s %7d %4d   %12d %8d   %15d %8d", k.Kind, k.Planned, k.Hit, k.AnswerP50, k.AnswerP99, k.ConfirmP50, k.ConfirmP99)
	}
	return b.String()
}

// write writes the report as JSON and draws it: PATH.json and PATH.svg.
func (r *chaosReport) write(path string) error {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return errors.Join(os.WriteFile(path+".json", append(b, '\n'), 0o600), r.plot(path+".svg"))
}
