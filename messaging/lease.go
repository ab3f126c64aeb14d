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
	var hand, recorders sync.WaitGroup
	c.answered = make(chan answered)
	for range recordersPerQueue {
		recorders.Go(c.recordAll)
	}
	defer func() {
		hand.Wait()
		close(c.answered)
		recorders.Wait()
	}()
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
		if len(list) > 0 {
			c.sub.bus.at(crashLeaseClaimed)
		}
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
		c.sub.bus.at(crashLeaseAnswered)
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
	case errors.Is(err, errAway):
		c.sub.cfg.Log.Warn("message can't be recorded now, it is given back", "topic", c.table.name, "message_id", m.ID, "kind", m.Kind, "err", err)
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

// answered is a message whose handler is done with the outside: what is left is to
// record it. The outcome goes to done.
type answered struct {
	claimed
	delivery *delivery
	done     chan error
}

// recordersPerQueue is how many transactions of a leased queue may be recording at
// once: while one waits for a lock the other goes on.
const recordersPerQueue = 2

// record writes what the handler of m left to be written and acknowledges m. It
// shares the transaction with whatever else is answered while the recorders are
// busy.
func (c *consumer) record(m claimed, d *delivery) error {
	a := answered{m, d, make(chan error, 1)}
	c.answered <- a
	return <-a.done
}

// errAway is why messages are given back that were answered: the server can't be
// told. It is no fault of theirs.
var errAway = errors.New("the database doesn't answer")

// recordAll is one recorder: it takes all that has been answered meanwhile, and
// records it together. When that fails each is recorded by itself, so that nobody
// suffers from another's error; but when the server is away all are told so at
// once, which would cost each its whole time otherwise.
func (c *consumer) recordAll() {
	for a := range c.answered {
		list := []answered{a}
		for more := true; more && len(list) < c.table.limits.batch; {
			select {
			case a, more = <-c.answered:
				if more {
					list = append(list, a)
				}
			default:
				more = false
			}
		}
		err := c.recordOrAway(list)
		for _, a := range list {
			own := err
			if len(list) > 1 && err != nil && !errors.Is(err, errUnknownOutcome) && !errors.Is(err, errAway) {
				if own = c.recordOrAway([]answered{a}); errors.Is(own, errAway) {
					err = own // for those after it, too
				}
			}
			a.done <- own
		}
	}
}

// recordOrAway is recordBatch, with errAway for what failed because the server is
// away. What looks like that may be a lock that one record waits for, or one
// connection that was cut: so the server is asked.
func (c *consumer) recordOrAway(list []answered) error {
	err := c.recordBatch(list)
	if err == nil || !connectionLost(err) && !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled) {
		return err
	}
	ctx, cancel := context.WithTimeout(c.base, time.Second)
	defer cancel()
	if c.sub.cfg.DB.PingContext(ctx) != nil {
		err = errors.Join(errAway, err)
	}
	return err
}

// recordBatch runs the records of list in one transaction, guarded by the tokens
// of all their leases.
func (c *consumer) recordBatch(list []answered) error {
	ctx, cancel := context.WithTimeout(c.base, c.table.limits.alone)
	defer cancel()
	b := c.sub.bus
	tx, err := beginTx(ctx, c.sub.cfg.DB, c.sub.spec(), Message{})
	if err != nil {
		return err
	}
	var trace []traced
	hand := make([]claimed, len(list))
	for i, a := range list {
		hand[i] = a.claimed
		tx.cause, tx.ignored, tx.index = a.Message, "", i
		if a.delivery.record != nil {
			err := runRecord(ctx, tx, a.delivery.record)
			if err == nil {
				err = tx.healthy()
			}
			if err != nil {
				return tx.rollback(err)
			}
		}
		if !a.handled {
			trace = append(trace, traced{claimed: a.claimed, ran: a.delivery.ran, ignored: tx.ignored})
		}
	}
	if b != nil {
		b.writeTrace(tx, c.table.name, trace)
	}
	more := c.table.ack(tx, hand)
	b.around(tx, crashLeaseBeforeCommit, crashLeaseAfterCommit)
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
