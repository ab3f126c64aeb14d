package e2e

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

func TestChaosPlanIsDrawnFromItsSeed(t *testing.T) {
	t.Parallel()
	kinds := chaosKinds()
	once, again := drawPlan(7, time.Minute, kinds), drawPlan(7, time.Minute, kinds)
	if fmt.Sprint(once) != fmt.Sprint(again) {
		t.Errorf("the same seed draws\n%v\nand\n%v", once, again)
	}
	if other := drawPlan(8, time.Minute, kinds); fmt.Sprint(once) == fmt.Sprint(other) {
		t.Error("another seed draws the same")
	}
}

func TestChaosPlan(t *testing.T) {
	t.Parallel()
	kinds := chaosKinds()
	for seed := range uint64(200) {
		for _, duration := range []time.Duration{15 * time.Second, 5 * time.Minute} {
			plan := drawPlan(seed, duration, kinds)
			count := map[string]int{}
			ends := map[int]time.Duration{}
			for _, f := range plan {
				count[f.Kind]++
				k := kinds[slices.IndexFunc(kinds, func(k faultKind) bool { return k.name == f.Kind })]
				switch {
				case f.At < warmUp || f.At+f.Lasts > duration:
					t.Errorf("seed %d: %s goes from %s for %s, in a chaos of %s", seed, f, f.At, f.Lasts, duration)
				case f.Lasts < k.least || f.Lasts > k.most:
					t.Errorf("seed %d: %s lasts %s, want %s to %s", seed, f, f.Lasts, k.least, k.most)
				case f.At < ends[f.Lane]:
					t.Errorf("seed %d: %s begins at %s, the one before it in its lane ends at %s", seed, f, f.At, ends[f.Lane])
				case f.Lane < 0 || f.Lane >= chaosLanes:
					t.Errorf("seed %d: %s is in lane %d of %d", seed, f, f.Lane, chaosLanes)
				}
				ends[f.Lane] = f.At + f.Lasts
			}
			if duration < time.Minute {
				if len(plan) < 3 {
					t.Errorf("seed %d: %d faults in %s, want 3 at least", seed, len(plan), duration)
				}
				continue
			}
			if len(plan) < wantedHits*4/3 {
				t.Errorf("seed %d: %d faults in %s, want some more than the %d that are to hit", seed, len(plan), duration, wantedHits)
			}
			for _, k := range kinds {
				if count[k.name] == 0 {
					t.Errorf("seed %d: no %q in %s", seed, k.name, duration)
				}
			}
		}
	}
}
