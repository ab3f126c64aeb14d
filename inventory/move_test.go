package inventory

import "testing"

func TestMovesKeepTheEquation(t *testing.T) {
	t.Parallel()
	for _, w := range []what{stocked, restocked, reserved, released, expired, writtenOff, shipped, returned} {
		c := move{What: w, Pieces: 7}.changes()
		if c == (counters{}) || c.Initial+c.Restocked != c.Available+c.Reserved+c.Sold+c.WrittenOff {
			t.Errorf("%s changes the counters by %+v", w, c)
		}
	}
	if c := (move{What: "opening", Pieces: 7}).changes(); c != (counters{}) {
		t.Errorf("a move of no kind changes the counters by %+v", c)
	}
}
