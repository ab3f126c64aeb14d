package messaging

import (
	"context"
	"errors"
	"slices"
	"time"
)

// transact is one consumer of a transactional queue: it claims a batch, handles
// it in one transaction, and does so until it is to stop.
func (c *consumer) transact() {
	size := c.table.limits.batch
	var w watch
	for c.stop.Err() == nil {
		list := c.next(size, &w)
		if len(list) == 0 {
			continue
		}
		c.sub.bus.at(crashTransactClaimed)
		c.bell.work(1)
		// Messages that failed before, and suspects, never share a transaction.
		var fresh, again []claimed
		for _, m := range list {
			if m.Attempt == 1 && !m.suspect {
				fresh = append(fresh, m)
			} else {
				again = append(again, m)
			}
		}
		size = c.nextSize(size, len(fresh), c.handle(fresh))
		for _, m := range again {
			c.handle([]claimed{m})
			c.freeSuspect(m)
		}
		c.bell.work(-1)
		if len(list) >= busyBatch && len(list) < size {
			sleep(c.stop, gather)
		}
	}
}

// nextSize is how many messages to claim next: as many as the last batch had
// time for, so that few are claimed only to be given back, and twice as many
// after a batch that had time for all.
func (c *consumer) nextSize(size, had, returned int) int {
	if returned > 0 {
		return max(1, had-returned)
	}
	return min(c.table.limits.batch, max(size, 2*had))
}

// handle brings every message of list to its end: acked, put back or dead. A
// message that fails is taken out and the rest done again without it; after the
// third, each is done by itself. It returns how many it gave back for lack of time.
func (c *consumer) handle(list []claimed) (returned int) {
	culprits := 0
	for len(list) > 0 {
		// What waits while others of the batch take long must not outlive its lease.
		if c.stop.Err() != nil || time.Now().After(list[0].until) {
			c.giveBack(list, 0)
			return 0
		}
		n := len(list)
		if culprits >= 3 {
			n = 1
		}
		done, bad, err := c.attempt(list[:n])
		switch {
		case err == nil:
			list = list[done:]
			if done < n && len(list) > 0 { // the batch ran out of time: others may be idle
				c.giveBack(list, 0)
				return len(list)
			}
		case errors.Is(err, errHandled):
			some, merr := c.markHandled(list[:n])
			if !some {
				c.sub.cfg.Log.Warn("batch will be tried again", "topic", c.table.name, "err", errors.Join(err, merr))
				c.giveBack(list, pause())
				return 0
			}
		case errors.Is(err, errUnknownOutcome):
			// Safe whether it happened, happens yet or not: what was acknowledged isn't
			// there to be given back, and what is given back can't be acknowledged.
			c.sub.cfg.Log.Warn("outcome of a commit is unknown, what it left is given back", "topic", c.table.name, "err", err)
			c.giveBack(list[:n], pause())
			list = list[n:]
		case bad >= 0 || n == 1:
			bad = max(bad, 0)
			if n > 1 && errors.Is(err, errHandlerTimeout) {
				c.putAside(list[bad])
			} else {
				c.failed(list[bad], err)
			}
			list = slices.Delete(slices.Clone(list), bad, bad+1)
			culprits++
		case countsAsAttempt(err):
			culprits = 3 // it isn't known whose: each by itself
		default:
			c.sub.cfg.Log.Warn("batch will be tried again", "topic", c.table.name, "err", err)
			c.giveBack(list, pause())
			return 0
		}
	}
	return 0
}

// markHandled marks those of list that the inbox has and reports whether there
// were any.
func (c *consumer) markHandled(list []claimed) (any bool, err error) {
	ids := make([]string, len(list))
	for i, m := range list {
		ids[i] = m.ID
	}
	ctx, cancel := context.WithTimeout(c.base, time.Second)
	defer cancel()
	last, err := c.sub.bus.handled(ctx, c.table.name, ids)
	if err != nil {
		return false, err
	}
	for i, m := range list {
		if run, ok := last[m.ID]; ok {
			list[i].knownHandled(run)
			any = any || list[i].handled
		}
	}
	return any, nil
}

// putAside has a message that is too slow for a batch tried again at once, and
// alone, as every message is at its second attempt.
func (c *consumer) putAside(m claimed) {
	c.sub.cfg.Log.Warn("message is slow, it will run alone", "topic", c.table.name, "message_id", m.ID, "order_id", m.OrderID, "kind", m.Kind)
	c.nack("put a slow message aside", m, 0, true, errHandlerTimeout, nil)
	c.bell.ring()
}

// attempt handles list, or as much of it as its time and bytes allow, in one
// transaction. It returns how many messages are done, or the error and the index
// of the message that caused it, -1 when no single one did.
func (c *consumer) attempt(list []claimed) (done, culprit int, err error) {
	b := c.sub.bus
	ctx, cancel := context.WithTimeout(c.base, c.table.limits.lease) // a server that hangs holds nobody for longer
	defer cancel()
	limit := c.table.limits.slow
	if len(list) == 1 {
		limit = c.table.limits.alone
	}
	tx, err := beginTx(ctx, c.sub.cfg.DB, c.sub.spec(), Message{})
	if err != nil {
		return 0, -1, err
	}
	if b != nil {
		if err := b.preload(ctx, tx, c.table.name, list); err != nil {
			return 0, -1, tx.rollback(err)
		}
	}
	started := time.Now()
	size := 0
	var trace []traced
	in := map[string]int{} // by id, the last run handled in this transaction: what comes twice is handled once a run
	for i, m := range list {
		if i > 0 && (time.Since(started) > c.table.limits.batchTime || size+len(m.Payload) > c.table.limits.batchBytes) {
			break
		}
		size += len(m.Payload)
		if run, twice := in[m.ID]; b != nil && twice && !m.handled {
			m.knownHandled(run)
		}
		if m.handled {
			done++
			continue
		}
		in[m.ID] = m.Run
		tx.cause, tx.ignored, tx.index = m.Message, "", i
		d := &delivery{message: m.Message, tx: tx}
		err := c.offer(ctx, d, limit)
		if errors.Is(err, errClosing) && done > 0 {
			break // what is done is kept
		}
		if err == nil {
			err = tx.healthy()
		}
		if err != nil {
			return 0, i, tx.rollback(err)
		}
		trace = append(trace, traced{claimed: m, ran: d.ran, ignored: tx.ignored})
		done++
	}
	if b != nil {
		b.writeTrace(tx, c.table.name, trace)
	}
	more := c.table.ack(tx, list[:done])
	b.around(tx, crashTransactBeforeCommit, crashTransactAfterCommit)
	if culprit, err := tx.commit(ctx); err != nil {
		return 0, culprit, err
	}
	if *more {
		c.bell.ring()
	}
	if len(tx.out) > 0 {
		b.relay.wake()
	}
	return done, -1, nil
}
