package simulation

import "example.com/orderflow/payments"

// misdeed is what goes wrong with a request to the provider.
type misdeed string

// The misdeeds. "Before" has no effect, "after" has it; in both nobody hears of an
// answer.
const (
	none         misdeed = "none"
	lostBefore   misdeed = "lost before the effect" // a time-out, a 5xx, a connection that is cut
	lostAfter    misdeed = "lost after the effect"  // likewise
	storedBefore misdeed = "stored error"           // 500 before the effect, again under the key until that is looked up
	storedAfter  misdeed = "stored error after the effect"
	stuck        misdeed = "stored error for good"
	late         misdeed = "late"      // it hangs up, and has the effect some other time
	forgotten    misdeed = "forgotten" // it has the effect, hangs up and forgets the key
	refused      misdeed = "refused"   // by the bank or the provider, for good under the key
	tooMany      misdeed = "too many requests"
)

// misdeeds are those that go wrong, the likely ones more than once.
var misdeeds = []misdeed{lostBefore, lostAfter, lostAfter, storedBefore, storedAfter, stuck, late, forgotten, tooMany, refused, refused, refused}

// goesWrong is what goes wrong with a request of op.
func (p *provider) goesWrong(op payments.Operation) misdeed {
	if m, ok := p.next[op]; ok {
		delete(p.next, op)
		return m
	}
	if p.w.calm {
		return none
	}
	if p.w.poor && op == payments.OpAuthorize && p.w.below(2) == 1 {
		return refused
	}
	bound := 3 * len(misdeeds)
	if p.w.troubled {
		bound = 3 * len(misdeeds) / 2
	}
	i := p.w.below(bound)
	if i == 0 || i > len(misdeeds) {
		return none
	}
	return misdeeds[i-1]
}
