package messaging

import (
	"cmp"
	"context"
	"time"
)

// replayPage is how many entries of each log are looked at in one transaction,
// and longPage how many at most where nothing less brings a replay to its end.
const (
	replayPage = 1000
	longPage   = 16 * replayPage
)

// pace is how fast a replay copies. It makes sure that there is an end: a lap is
// what the logs held when it began, and each is to leave at most half as much
// behind it as it began with. After one that doesn't, copying goes faster. What
// it does then is a step at a time, the mildest first.
type pace struct {
	rate float64 // events per second, at most; 0 = no limit
	size int     // entries of each log that a page looks at, at most
	hold bool    // the speakers' relays wait while a page is copied

	begun  time.Time // when the rate came into force
	before int64     // Replay.Copied then
	waited bool      // in this lap, for the rate

	running bool
	end     int64 // Replay.Read at which the lap ends
	rest    int64 // entries that the lap began with
	raised  bool  // the rate was
}

func newPace(opts ReplayOptions, r Replay) *pace {
	return &pace{rate: float64(opts.Rate), size: cmp.Or(opts.page, replayPage), begun: time.Now(), before: r.Copied}
}

// entries is how many entries of each log the next page looks at: with a rate,
// what it allows in a quarter of a second.
func (p *pace) entries() int {
	if p.rate == 0 {
		return p.size
	}
	return max(1, min(p.size, int(p.rate/4)))
}

// look learns how far r is. A lap ends with the last entry that there was when it
// began, or when a quarter more is left than then: soon, as what comes meanwhile
// makes the next one longer.
func (p *pace) look(r Replay) {
	rest := r.Total - r.Read
	if p.running && r.Read < p.end && rest <= p.rest+p.rest/4+int64(p.entries()) {
		return
	}
	// What one page takes is the last page's.
	if p.running && rest > int64(p.entries()) && rest > p.rest/2 {
		p.faster(r)
	}
	p.running, p.end, p.rest, p.waited = true, r.Total, rest, false
}

// faster goes a step further. The rate is four times what it was; when it isn't what
// holds the replay up, the relays wait; and when they do already, which lets a batch
// of each pass after every page, a page is four times as long.
func (p *pace) faster(r Replay) {
	switch {
	case p.waited || p.entries() < p.size:
		p.rate, p.raised = 4*p.rate, true
		p.begun, p.before = time.Now(), r.Copied
	case !p.hold:
		p.hold = true
	default:
		p.size = max(p.size, min(longPage, 4*p.size))
	}
}

// wait waits until the rate lets r go on.
func (p *pace) wait(ctx context.Context, r Replay) error {
	if p.rate == 0 {
		return nil
	}
	due := p.begun.Add(time.Duration(float64(r.Copied-p.before) / p.rate * float64(time.Second)))
	if time.Now().Before(due) {
		p.waited = true
	}
	return waitUntil(ctx, due)
}

// told is what the record of a replay's end says of its pace: what wasn't asked for.
func (p *pace) told() map[string]any {
	m := map[string]any{}
	if p.raised {
		m["rate_raised_to"] = p.rate
	}
	if p.hold {
		m["relays_waited_for_pages_of"] = p.size
	}
	return m
}
