package messaging

import (
	"context"
	"time"
)

// maxSleep is how long anything that waits for due work sleeps at most.
const maxSleep = time.Second

// schedule is work that falls due by the clock: deadlines, expiries.
type schedule struct {
	name string
	work func(context.Context, *Tx) (time.Duration, error)
	wake chan struct{}
}

// Schedule has work run in a transaction of its own again and again. It returns
// how long until there is more to do (0 = at once, a batch was full); at most a
// second passes between two runs. Rows are to be taken with FOR UPDATE SKIP
// LOCKED, so that replicas share the work. The returned function makes the next
// run happen now: to be called when something fell due sooner than before.
func (b *Bus) Schedule(name string, work func(context.Context, *Tx) (time.Duration, error)) (wake func()) {
	s := &schedule{name: name, work: work, wake: make(chan struct{}, 1)}
	b.schedules = append(b.schedules, s)
	return func() {
		select {
		case s.wake <- struct{}{}:
		default:
		}
	}
}

// once runs the work once and returns how long until the next run. It is finished
// when ctx ends meanwhile: it is short.
func (s *schedule) once(ctx context.Context, b *Bus) (wait time.Duration, err error) {
	defer catch(&err)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), b.cfg.limits.lease)
	defer cancel()
	err = b.inTx(ctx, crashScheduleBeforeCommit, crashScheduleAfterCommit, func(ctx context.Context, tx *Tx) error {
		w, err := s.work(ctx, tx)
		wait = min(w, maxSleep)
		return err
	})
	return wait, err
}

func (s *schedule) run(ctx context.Context, b *Bus) {
	for ctx.Err() == nil {
		wait, err := s.once(ctx, b)
		if err != nil {
			wait = maxSleep
			b.log.Warn("schedule will be run again", "service", b.spec.Name, "handler", s.name, "err", err)
		}
		if wait <= 0 {
			continue
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-s.wake:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}
