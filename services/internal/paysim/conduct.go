package paysim

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// The operations that can go wrong.
const (
	opAuthorize = "authorize"
	opCapture   = "capture"
	opVoid      = "void"
	opRefund    = "refund"
	opLookUp    = "look_up" // of authorizations and refunds
	opBooks     = "books"
	opWebhook   = "webhook" // the provider's own delivery of an event
)

// misdeed is what can go wrong with a request, or with the delivery of an event.
type misdeed string

// The misdeeds. "Before" has no effect, "after" has it; in both nobody hears of
// an answer.
const (
	slow          misdeed = "slow"           // takes its time, then all is well
	timeoutBefore misdeed = "timeout_before" // doesn't answer for Config.Hang, then hangs up
	timeoutAfter  misdeed = "timeout_after"
	errorBefore   misdeed = "error_before" // 500
	errorAfter    misdeed = "error_after"
	errorStored   misdeed = "error_stored"       // 500 before the effect, again under the same key until that is looked up
	storedAfter   misdeed = "error_stored_after" // the same after the effect
	errorStuck    misdeed = "error_stuck"        // 500 before the effect, and for ever under the same key
	reset         misdeed = "reset"              // the connection is reset in mid-answer, after the effect
	tooMany       misdeed = "too_many"           // 429 with Retry-After
	down          misdeed = "down"               // hangs up at once
	late          misdeed = "late"               // hangs up at once and has the effect later, after the delay
	forgotten     misdeed = "forgotten"          // has the effect, hangs up, and forgets the key
	refused       misdeed = "refused"            // by the bank or the provider, for good under this key
	expired       misdeed = "expired"            // the authorization has expired, which the capture finds out
	doubled       misdeed = "doubled"            // the event is delivered twice
	delayed       misdeed = "delayed"            // the event is delivered after the delay
	shuffled      misdeed = "shuffled"           // events are delivered each after some part of the delay, in any order
	lost          misdeed = "lost"               // the event is never delivered
	none          misdeed = ""                   // all is well
)

const (
	defaultDelay = 2 * time.Second // where a rule gives none
	retryAfter   = 1               // seconds, of a 429 whose rule gives none
)

// fits reports whether m can happen to op.
func (m misdeed) fits(op string) bool {
	reads := []misdeed{slow, timeoutBefore, errorBefore, tooMany, down}
	writes := append(reads, timeoutAfter, errorAfter, errorStored, storedAfter, errorStuck, reset, late, forgotten, refused)
	switch op {
	case opCapture:
		return m == expired || slices.Contains(writes, m)
	case opAuthorize, opVoid, opRefund:
		return slices.Contains(writes, m)
	case opLookUp, opBooks, "":
		return slices.Contains(reads, m)
	case opWebhook:
		return slices.Contains([]misdeed{doubled, delayed, shuffled, lost}, m)
	}
	return false
}

// rule makes requests go wrong, whatever their tokens: the next Count ones, or all
// for Seconds, whichever ends first.
type rule struct {
	// Operation is which; "" = all but webhooks.
	Operation string `json:"operation,omitempty" validate:"omitempty,oneof=authorize capture void refund look_up books webhook"`
	Misdeed   string `json:"misdeed" validate:"required,max=40"`
	Count     int    `json:"count,omitempty" validate:"min=0,max=1000000"`
	Seconds   int    `json:"seconds,omitempty" validate:"min=0,max=86400"`
	// DelayMS is how long slow, late, delayed and shuffled take, Retry-After of
	// too_many is it in whole seconds. 0 = 2 s, of too_many 1 s.
	DelayMS int `json:"delay_ms,omitempty" validate:"min=0,max=60000"`

	until time.Time // the process's time; zero = until the count is used up
}

// delay is how long what r does takes.
func (r rule) delay() time.Duration {
	if r.DelayMS == 0 {
		return defaultDelay
	}
	return time.Duration(r.DelayMS) * time.Millisecond
}

// conducts are the rules in force. A process that starts has none.
type conducts struct {
	any atomic.Bool // spares the good path the lock

	mu    sync.Mutex
	rules []rule
}

// set puts rules in force instead of those before.
func (c *conducts) set(rules []rule) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range rules {
		if rules[i].Seconds > 0 {
			rules[i].until = time.Now().Add(time.Duration(rules[i].Seconds) * time.Second)
		}
	}
	c.rules = rules
	c.any.Store(len(rules) > 0)
}

// list returns the rules in force, with what is left of their counts.
func (c *conducts) list() []rule {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.expire()
	return slices.Clone(c.rules)
}

// take returns the first rule for a request of op, the zero rule when there is
// none, and counts it.
func (c *conducts) take(op string) rule {
	if !c.any.Load() {
		return rule{}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.expire()
	for i := range c.rules {
		r := &c.rules[i]
		if r.Operation != op && (r.Operation != "" || op == opWebhook) {
			continue
		}
		taken := *r
		if r.Count > 0 {
			if r.Count--; r.Count == 0 {
				c.rules = slices.Delete(c.rules, i, i+1)
			}
		}
		return taken
	}
	return rule{}
}

// expire drops the rules whose time is over. c is locked.
func (c *conducts) expire() {
	now := time.Now()
	c.rules = slices.DeleteFunc(c.rules, func(r rule) bool { return !r.until.IsZero() && now.After(r.until) })
	c.any.Store(len(c.rules) > 0)
}
