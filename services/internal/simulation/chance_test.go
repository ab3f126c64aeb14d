package simulation

import (
	"math/rand/v2"

	"pgregory.net/rapid"
)

// chance is where a world gets its decisions from.
type chance interface {
	// below chooses 0..n-1.
	below(n int) int
}

// dice are the chance of a seed.
type dice struct{ *rand.Rand }

func newDice(seed uint64) dice { return dice{rand.New(rand.NewPCG(seed, 4))} }

func (d dice) below(n int) int { return d.IntN(n) }

// drawn is chance that rapid can shrink.
type drawn struct{ rt *rapid.T }

// upTo are the generators by what they stay below; made once, they are expensive.
var upTo = func() (list [128]*rapid.Generator[int]) {
	for n := 1; n < len(list); n++ {
		list[n] = rapid.IntRange(0, n-1)
	}
	return list
}()

func (d drawn) below(n int) int { return upTo[n].Draw(d.rt, "") }

// tape keeps what was chosen, so that it can be chosen again.
type tape struct {
	chance
	chosen []uint8
}

func (t *tape) below(n int) int {
	if n < 2 {
		return 0
	}
	v := t.chance.below(n)
	t.chosen = append(t.chosen, uint8(v))
	return v
}

// replay chooses what a tape has.
type replay struct{ left []uint8 }

func (p *replay) below(n int) int {
	if n < 2 || len(p.left) == 0 {
		return 0
	}
	v := p.left[0]
	p.left = p.left[1:]
	return min(int(v), n-1)
}
