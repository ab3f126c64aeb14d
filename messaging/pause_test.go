package messaging_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"example.com/orderflow/messaging"
	"example.com/orderflow/messaging/messagingtest"
)

// What is in hand when its queue is paused finishes; nothing more is claimed, in
// any process, also of what a dead consumer left; messages keep arriving, and are
// handled in their order as soon as the queue is resumed.
func TestPauseAndResume(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	patient := func(c *messaging.Config) { // only a wake-up or a bell can be why it looks
		messaging.SetLimits(c, func(l *messaging.Limits) { l.Poll, l.Slow = time.Minute, time.Minute })
	}
	inHand, release := make(chan struct{}), make(chan struct{})
	newBeta := func() *messaging.Bus {
		b := db.NewBus(t, beta(t), patient)
		messaging.Handle(b, func(ctx context.Context, tx *messaging.Tx, m happened) error { return effect(ctx, tx, "beta", m.body) })
		messaging.Handle(b, func(ctx context.Context, tx *messaging.Tx, m work) error {
			if m.Do == "wait" {
				close(inHand)
				<-release
			}
			return effect(ctx, tx, "beta", m.body)
		})
		return b
	}
	a := bus(t, db, alpha(t))
	messagingtest.Run(t, a)
	d := db.NewBus(t, delta(t))
	messaging.Handle(d, func(ctx context.Context, tx *messaging.Tx, m happened) error { return effect(ctx, tx, "delta", m.body) })
	messagingtest.Run(t, d)
	for range 2 {
		messagingtest.Run(t, newBeta())
	}
	o := messaging.NewOperator(db.Admin, "ann")
	publish(t, a, work{body{N: 0, OrderID: newID(), Do: "wait"}})
	<-inHand
	for range 2 { // the second does nothing
		if err := o.Pause(t.Context(), "beta", "the disk is full"); err != nil {
			t.Fatal(err)
		}
	}
	for n := 1; n <= 40; n++ {
		publish(t, a, happened{body{N: n, OrderID: lane(n % 2)}})
	}
	close(release)
	messagingtest.Wait(t, "what was in hand", func() bool { return count(t, db.Admin, `SELECT count(*) FROM public.effects WHERE n = 0`) == 1 })
	messagingtest.Wait(t, "the other subscriber", func() bool {
		return count(t, db.Admin, `SELECT count(*) FROM public.effects WHERE who = 'delta'`) == 40
	})
	messagingtest.Run(t, newBeta()) // a process that starts meanwhile
	_, err := db.Admin.Exec(`UPDATE messaging.queue_beta SET token = 1, due = clock_timestamp() - interval '1 second' WHERE id = (SELECT max(id) FROM messaging.queue_beta)`)
	if err != nil {
		t.Fatal(err)
	}
	claims := func() int { // that found the queue paused
		return count(t, db.Admin, `SELECT coalesce(sum(idx_scan), 0) FROM pg_stat_user_indexes WHERE indexrelname = 'queues_pkey'`)
	}
	had := claims()
	messagingtest.Wait(t, "some to try", func() bool {
		_, err := db.Admin.Exec(`SELECT pg_notify('queue_beta', ''), pg_stat_force_next_flush()`)
		return err == nil && claims() > had+20
	})
	if n := count(t, db.Admin, `SELECT count(*) FROM messaging.queue_beta WHERE attempts = 0 AND (token IS NULL OR token = 1)`); n != 40 {
		t.Errorf("messages that nobody touched: got %d, want 40", n)
	}

	begun := time.Now()
	for range 2 {
		if err := o.Resume(t.Context(), "beta", "there is room again"); err != nil {
			t.Fatal(err)
		}
	}
	messagingtest.Wait(t, "the first of them", func() bool { return count(t, db.Admin, `SELECT count(*) FROM public.effects WHERE who = 'beta'`) > 1 })
	t.Logf("first effect %s after resuming", time.Since(begun))
	messagingtest.Wait(t, "all but the dead consumer's", func() bool { return count(t, db.Admin, `SELECT count(*) FROM public.effects WHERE who = 'beta'`) >= 40 })
	inverted := count(t, db.Admin, `
		SELECT count(*) FROM (SELECT n, lag(n) OVER (PARTITION BY lane ORDER BY id) AS before FROM public.effects WHERE who = 'beta') e WHERE before > n`)
	if inverted != 0 {
		t.Errorf("messages handled before an earlier one of their lane: got %d, want 0", inverted)
	}
	list, err := o.Actions(t.Context(), 10)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, x := range list {
		got = append(got, fmt.Sprint(x.Actor, " ", x.Action, " ", x.Queue, ": ", x.Reason))
	}
	if want := "ann resume beta: there is room again, ann pause beta: the disk is full"; strings.Join(got, ", ") != want {
		t.Errorf("actions:\n got %s\nwant %s", strings.Join(got, ", "), want)
	}
}

// Only an administrator pauses, and only what there is.
func TestWhoMayPause(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	if err := messaging.NewOperator(db.Service("beta"), "beta").Pause(t.Context(), "beta", ""); err == nil || !strings.Contains(err.Error(), "permission denied") {
		t.Errorf("a service pauses its own queue: got %v, want permission denied", err)
	}
	o := messaging.NewOperator(db.Admin, "test")
	for _, err := range []error{o.Pause(t.Context(), "nobody", ""), o.Resume(t.Context(), "nobody", "")} {
		if !errors.Is(err, messaging.ErrNoQueue) {
			t.Errorf("no such queue: got %v, want ErrNoQueue", err)
		}
	}
	if n := count(t, db.Admin, `SELECT count(*) FROM messaging.queues WHERE paused_at IS NOT NULL`) + count(t, db.Admin, `SELECT count(*) FROM messaging.actions`); n != 0 {
		t.Errorf("paused queues and actions: got %d, want 0", n)
	}
}
