package simulation

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"example.com/orderflow/messaging/messagingtest"
)

func TestMain(m *testing.M) { messagingtest.Main(m) }

// long reports whether tests run at full length.
func long() bool { return os.Getenv("ORDERFLOW_LONG") != "" }

// live lets a world live by chance and returns what is wrong in it, "" when nothing
// is. What happens is told to story, if there is one.
func live(c chance, without guard, t *tally, story *strings.Builder) (wrong string) {
	defer func() {
		switch p := recover().(type) {
		case nil:
		case violation:
			wrong = string(p)
		default:
			panic(p)
		}
	}()
	t.worlds++
	w := newWorld(c, without, t)
	w.story = story
	w.run()
	return ""
}

// TestMoneyAndStockAreRightWhateverHappens lives through many worlds. What goes
// wrong in one is shrunk and told.
func TestMoneyAndStockAreRightWhateverHappens(t *testing.T) {
	t.Parallel()
	worlds := 3000
	if long() {
		worlds = 100_000
	}
	setFlag(t, "rapid.checks", fmt.Sprint(worlds))
	setFlag(t, "rapid.nofailfile", "true") // the seed it prints says as much
	if !long() {
		setFlag(t, "rapid.seed", "1")
	}
	seen := newTally()
	start := time.Now()
	rapid.Check(t, func(rt *rapid.T) {
		played := &tape{chance: drawn{rt}}
		if wrong := live(played, nothing, seen, nil); wrong != "" {
			rt.Fatalf("%s\n%s", wrong, told(played.chosen, nothing))
		}
	})
	took := time.Since(start)
	t.Logf("%.0f worlds per second; %s", float64(seen.worlds)/took.Seconds(), seen)
	for _, what := range seen.missing() {
		if long() {
			t.Errorf("never seen: %s", what)
		}
	}
}

// told is the story of the world in which that was chosen.
func told(chosen []uint8, without guard) string {
	var story strings.Builder
	wrong := live(&replay{chosen}, without, newTally(), &story)
	return story.String() + wrong
}

// setFlag sets a flag of rapid, unless the command line has.
func setFlag(t *testing.T, name, value string) {
	t.Helper()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == name })
	if given {
		return
	}
	if err := flag.Set(name, value); err != nil {
		t.Fatal(err)
	}
}
