package messaging

import (
	"context"
	"time"
)

// Limits are the engine's figures as tests see them.
type Limits struct {
	Lease, Slow, Alone, Poll time.Duration
	Replies                  time.Duration
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
	x := Limits{Lease: l.lease, Slow: l.slow, Alone: l.alone, Poll: l.poll, Replies: l.replies, Batch: l.batch, MaxAttempts: l.maxAttempts, Backoff: l.backoff}
	change(&x)
	l.lease, l.slow, l.alone, l.poll, l.replies, l.batch, l.maxAttempts, l.backoff = x.Lease, x.Slow, x.Alone, x.Poll, x.Replies, x.Batch, x.MaxAttempts, x.Backoff
}

// Statements are all that b runs on queue, its inbox and its outbox, by name.
func Statements(ctx context.Context, b *Bus, queue string) (map[string]string, error) {
	t := newQueueTable(b.db, queue, b.spec.Name, defaultLimits())
	all := map[string]string{
		"claim": t.claimSQL, "suspect": t.suspectSQL, "look": t.lookSQL, "ack": t.ackSQL,
		"nack": t.nackSQL, "renew": t.renewSQL, "give back": t.giveBackSQL,
	}
	err := b.relay.learn(ctx, b.db)
	all["move"] = b.relay.moveSQL
	return all, err
}

// LockRelaySQL is how the relays of a service wait for each other.
const LockRelaySQL = lockRelaySQL
