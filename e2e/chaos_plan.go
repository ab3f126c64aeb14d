package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

const (
	chaosLanes = 2                       // faults at a time, at most
	warmUp     = time.Second             // before the first of them
	widestGap  = 3 * time.Second         // between two of a lane
	labour     = 1500 * time.Millisecond // to aim at something and to be back: not in the fault's own time
)

// fault is one thing that is to go wrong in a chaos.
type fault struct {
	Kind  string
	Whom  []string      // services, or what else only one fault has at a time
	How   string        // what the kind leaves open
	At    time.Duration // from the start
	Lasts time.Duration
	Lane  int
}

func (f fault) String() string {
	s := f.Kind
	if len(f.Whom) > 0 {
		s += " of " + strings.Join(f.Whom, ", ")
	}
	if f.How != "" {
		s += " (" + f.How + ")"
	}
	return s
}

// faultKind is a kind of fault: how one is drawn, and done.
type faultKind struct {
	name        string
	least, most time.Duration // how long it lasts
	// draw chooses whom it hits and how; nil = there is nothing to choose.
	draw func(*rand.Rand) (whom []string, how string)
	// strike begins it.
	strike func(*chaos, context.Context, fault) (wound, error)
}

// drawPlan draws from the seed what goes wrong within duration, in the order in
// which it begins: the same from the same seed. Faults come in lanes, those of a
// lane one after the other. Kinds are drawn like cards: none comes again before
// all have come, but those that are too long for what is left of the time.
func drawPlan(seed uint64, duration time.Duration, kinds []faultKind) []fault {
	r := rand.New(rand.NewPCG(seed, 0))
	free := make([]time.Duration, chaosLanes)
	for lane := range free {
		free[lane] = warmUp + time.Duration(lane)*widestGap/2
	}
	var plan []fault
	var deck []faultKind
	for {
		if len(deck) == 0 {
			deck = slices.Clone(kinds)
			r.Shuffle(len(deck), func(i, j int) { deck[i], deck[j] = deck[j], deck[i] })
		}
		lane := slices.Index(free, slices.Min(free))
		at := free[lane] + time.Duration(r.Int64N(int64(widestGap)))
		i := slices.IndexFunc(deck, func(k faultKind) bool { return at+k.least <= duration })
		if i < 0 {
			return plan
		}
		k := deck[i]
		deck = slices.Delete(deck, i, i+1)
		most := min(k.most, duration-at)
		f := fault{Kind: k.name, At: at, Lasts: k.least + time.Duration(r.Int64N(int64(most-k.least)+1)), Lane: lane}
		if k.draw != nil {
			f.Whom, f.How = k.draw(r)
		}
		free[lane] = at + f.Lasts + labour
		plan = append(plan, f)
	}
}

// tellPlan is the plan, a line for each fault.
func tellPlan(plan []fault) string {
	plan = slices.SortedFunc(slices.Values(plan), func(a, b fault) int { return int(a.At - b.At) })
	var b strings.Builder
	for _, f := range plan {
		fmt.Fprintf(&b, "\n    %7.2f s, for %5.2f s: %s", f.At.Seconds(), f.Lasts.Seconds(), f)
	}
	return b.String()
}

// oneOf draws one of list.
func oneOf[T any](r *rand.Rand, list ...T) T { return list[r.IntN(len(list))] }

// someOf draws n of list, in its order.
func someOf(r *rand.Rand, n int, list ...string) []string {
	var some []string
	for _, i := range slices.Sorted(slices.Values(r.Perm(len(list))[:n])) {
		some = append(some, list[i])
	}
	return some
}
