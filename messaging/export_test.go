package messaging

import "time"

// Limits are the engine's figures as tests see them.
type Limits struct {
	Lease, Slow, Alone, Poll time.Duration
	Batch                    int
	MaxAttempts              int
	Backoff                  func(int) time.Duration
}

// SetLimits changes the engine's figures of a Bus to be made.
func SetLimits(c *Config, change func(*Limits)) {
	if c.limits.batch == 0 {
		c.limits = defaultLimits()
	}
	changeLimits(&c.limits, change)
}

// SetSubscriberLimits changes those of a plain Subscriber.
func SetSubscriberLimits(c *SubscriberConfig, change func(*Limits)) {
	if c.limits.batch == 0 {
		c.limits = defaultLimits()
	}
	changeLimits(&c.limits, change)
}

func changeLimits(l *limits, change func(*Limits)) {
	x := Limits{Lease: l.lease, Slow: l.slow, Alone: l.alone, Poll: l.poll, Batch: l.batch, MaxAttempts: l.maxAttempts, Backoff: l.backoff}
	change(&x)
	l.lease, l.slow, l.alone, l.poll, l.batch, l.maxAttempts, l.backoff = x.Lease, x.Slow, x.Alone, x.Poll, x.Batch, x.MaxAttempts, x.Backoff
}
