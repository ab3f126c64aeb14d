package simulation

import (
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

func TestHunt(t *testing.T) {
	n, _ := strconv.Atoi(os.Getenv("HUNT"))
	digits := regexp.MustCompile(`[0-9-]{20,}|[0-9]+`)
	found := map[string]int{}
	least := map[string][]uint8{}
	seen := newTally()
	for seed := range uint64(n) {
		c := &tape{chance: newDice(seed)}
		if wrong := live(c, nothing, seen, nil); wrong != "" {
			k := digits.ReplaceAllString(strings.SplitN(wrong, "\n", 2)[0], "N")
			found[k]++
			if least[k] == nil || len(c.chosen) < len(least[k]) {
				least[k] = c.chosen
			}
		}
	}
	t.Log(seen)
	t.Logf("missing: %q", seen.missing())
	for k, c := range least {
		t.Logf("%d times: %s", found[k], k)
		os.WriteFile("/tmp/story-"+strconv.Itoa(found[k])+".txt", []byte(told(c, nothing)), 0o644)
	}
}
