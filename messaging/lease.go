package messaging

import (
	"context"
	"errors"
	"sync"
	"time"
)

// lease is the consumer of a leased queue: it keeps up to Consumers messages in
// hand, each on its own.
func (c *consumer) lease() {
	slots := make(chan struct{}, c.sub.cfg.Consumers)
	var hand sync.WaitGroup
	defer hand.Wait()
	var w watch
	for {
		// One free slot is waited for, the others are taken as they are.
		select {
		case slots <- struct{}{}:
		case <-c.stop.Done():
			return
		}
		n := 1
		for n < cap(slots) {
			select {
			case slots <- struct{}{}:
				n++
				continue
			default:
			}
			break
		}
		if c.stop.Err() != nil {
			return
		}
		list := c.next(n, &w)
		for _, m := range list {
			hand.Go(func() {
				c.handleLeased(m)
				c.freeSuspect(m)
				<-slots
			})
		}
		for range n - len(list) {
			<-slots
		}
	}
}

// handleLeased brings one message to its end: acked, put back or dead.
func (c *consumer) handleLeased(m claimed) {
	if m.handled {
		c.settle(m, c.record(m, &delivery{message: m.Message}))
		return
	}
	ctx, cancel := context.WithCancelCause(c.base)
	defer cancel(nil)
	defer c.cutWhenClosing(cancel)()
	var renewing sync.WaitGroup
	renewing.Go(func() { c.renew(ctx, m, cancel) })
	d := &delivery{message: m.Message}
	err := c.offer(ctx, d, c.sub.cfg.Deadline)
	if err == nil {
		err = c.record(m, d)
	} else if cause := context.Cause(ctx); errors.Is(cause, ErrLost) || errors.Is(cause, errClosing) {
		err = cause
	}
	cancel(nil)
	renewing.Wait()
	c.settle(m, err)
}

// closeGrace is how long a leased handler may go on after its consumer was closed.
const closeGrace = 5 * time.Second

// cutWhenClosing ends a handler's context some time after the consumer is to
// stop, so that one slow call outside doesn't hold up a whole process.
func (c *consumer) cutWhenClosing(cut context.CancelCauseFunc) (undo func()) {
	done := make(chan struct{})
	stop := context.AfterFunc(c.stop, func() {
		timer := time.NewTimer(closeGrace)
		defer timer.Stop()
		select {
		case <-timer.C:
			cut(errClosing)
		case <-done:
		}
	})
	return func() {
		stop()
		close(done)
	}
}

// settle ends the handling of m after err.
func (c *consumer) settle(m claimed, err error) {
	switch {
	case err == nil:
	case errors.Is(err, errUnknownOutcome):
		c.sub.cfg.Log.Warn("outcome of a commit is unknown, what it left is given back", "topic", c.table.name, "message_id", m.ID, "kind", m.Kind, "err", err)
		c.giveBack([]claimed{m}, pause())
	case errors.Is(err, ErrLost):
		c.sub.cfg.Log.Warn("message is another consumer's now", "topic", c.table.name, "message_id", m.ID, "kind", m.Kind, "err", err)
	default:
		c.failed(m, err)
	}
}

// renew prolongs the lease of m until ctx ends or the lease is lost, which ends
// the handler's context.
func (c *consumer) renew(ctx context.Context, m claimed, lost context.CancelCauseFunc) {
	tick := time.NewTicker(c.table.limits.lease / 3)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		err := c.table.renew(ctx, m)
		if errors.Is(err, ErrLost) {
			lost(err)
			return
		}
		if err != nil && ctx.Err() == nil {
			c.sub.cfg.Log.Warn("lease will be renewed later", "topic", c.table.name, "message_id", m.ID, "err", err)
		}
	}
}

// record writes what the handler of m left to be written and acknowledges m, in
// one transaction that the lease's token guards.
func (c *consumer) record(m claimed, d *delivery) error {
	ctx, cancel := context.WithTimeout(c.base, c.table.limits.alone)
	defer cancel()
	b := c.sub.bus
	tx, err := beginTx(ctx, c.sub.cfg.DB, c.sub.spec(), m.Message)
	if err != nil {
		return err
	}
	if d.record != nil {
		err := runRecord(ctx, tx, d.record)
		if err == nil {
			err = tx.healthy()
		}
		if err != nil {
			return tx.rollback(err)
		}
	}
	if b != nil && !m.handled {
		b.writeTrace(tx, c.table.name, []traced{{claimed: m, ran: d.ran, ignored: tx.ignored}})
	}
	more := c.table.ack(tx, []claimed{m})
	if _, err := tx.commit(ctx); err != nil {
		return err
	}
	if *more {
		c.bell.ring()
	}
	if len(tx.out) > 0 {
		b.relay.wake()
	}
	return nil
}

func runRecord(ctx context.Context, tx *Tx, f Record) (err error) {
	defer catch(&err)
	return f(ctx, tx)
}
