package messaging_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"example.com/orderflow/messaging"
	"example.com/orderflow/messaging/messagingtest"
)

// visits are the points that a process came by, and what it found there.
type visits struct {
	mu    sync.Mutex
	times map[string]int
	found map[string]int // by point, what look has counted at its first visit
	look  func(point string) int
}

func (v *visits) at(point string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.times[point]++; v.times[point] == 1 {
		v.found[point] = v.look(point)
	}
}

// Every point that is listed is come by, and is what it is called: before a commit
// nobody else sees what was done though it is done, after it everybody does.
func TestCrashPoints(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	if _, err := db.Admin.Exec(`CREATE TABLE public.marks (who text NOT NULL); GRANT ALL ON public.marks TO PUBLIC`); err != nil {
		t.Fatal(err)
	}
	// What is to be seen of each layer once it has committed, and not before.
	seen := map[string]string{
		"transact": `SELECT count(*) FROM messaging.inbox_beta`,
		"lease":    `SELECT count(*) FROM messaging.inbox_gamma`,
		"intx":     `SELECT count(*) FROM public.marks WHERE who = 'request'`,
		"schedule": `SELECT count(*) FROM public.marks WHERE who = 'schedule'`,
		"relay":    `SELECT count(*) FROM messaging.log_alpha`,
		"nack":     `SELECT count(*) FROM messaging.queue_beta WHERE last_error IS NOT NULL`,
	}
	const writing = `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state = 'idle in transaction' AND backend_xid IS NOT NULL`
	v := &visits{times: map[string]int{}, found: map[string]int{}}
	v.look = func(point string) int {
		layer, moment, _ := strings.Cut(point, ".")
		if moment == "before_commit" && count(t, db.Admin, writing) == 0 {
			t.Errorf("at %s no transaction of the service's has written anything", point)
		}
		if query := seen[layer]; query != "" {
			return count(t, db.Admin, query)
		}
		return 0
	}
	watched := func(c *messaging.Config) { c.Crash = v.at }
	a := bus(t, db, alpha(t), quick, watched)
	due := true
	a.Schedule("mark", func(_ context.Context, tx *messaging.Tx) (time.Duration, error) {
		if due {
			tx.Queue(`INSERT INTO public.marks (who) VALUES ('schedule')`)
		}
		due = false
		return time.Hour, nil
	})
	b := bus(t, db, beta(t), quick, watched)
	messaging.Handle(b, nothing[happened])
	messaging.Handle(b, func(_ context.Context, tx *messaging.Tx, m work) error {
		if m.Do == "fail" && tx.Message().Attempt == 1 {
			return errors.New("not at the first attempt")
		}
		return nil
	})
	g := bus(t, db, gamma(t), quick, watched)
	messaging.HandleOutside(g, func(context.Context, outside) (messaging.Record, error) { return nil, nil })

	ctx, end := context.WithCancel(t.Context())
	var running sync.WaitGroup
	for _, x := range []*messaging.Bus{a, b, g} {
		running.Go(func() {
			if err := x.Run(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	err := a.InTx(t.Context(), func(_ context.Context, tx *messaging.Tx) error {
		tx.Queue(`INSERT INTO public.marks (who) VALUES ('request')`)
		return tx.Publish(work{body{N: 1}}, work{body{N: 2, Do: "fail"}}, outside{body{N: 3}}, happened{body{N: 4}})
	})
	if err != nil {
		t.Error(err)
	}
	messagingtest.Wait(t, "all to be handled", func() bool {
		return count(t, db.Admin, `SELECT (SELECT count(*) FROM messaging.inbox_beta) + (SELECT count(*) FROM messaging.inbox_gamma)`) == 4
	})
	end()
	running.Wait()

	for _, p := range messaging.CrashPoints() {
		layer, moment, _ := strings.Cut(p.Name, ".")
		if layer == "http" { // the programs come by it
			continue
		}
		if v.times[p.Name] == 0 {
			t.Errorf("%s: nothing comes by it", p.Name)
			continue
		}
		if seen[layer] == "" {
			continue
		}
		if committed := strings.HasPrefix(moment, "after"); committed != (v.found[p.Name] > 0) {
			t.Errorf("at the first visit of %s: found %d committed, want some: %t", p.Name, v.found[p.Name], committed)
		}
	}
	for name := range v.times {
		if !listed(name) {
			t.Errorf("%s is come by and not listed", name)
		}
	}
	t.Logf("visits: %v", v.times)
}

func listed(name string) bool {
	for _, p := range messaging.CrashPoints() {
		if p.Name == name {
			return true
		}
	}
	return false
}
