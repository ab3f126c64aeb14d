package messaging_test

import (
	"context"
	"sync/atomic"
	"testing"

	"example.com/orderflow/messaging"
	"example.com/orderflow/messaging/messagingtest"
)

// workV2 is the kind of work one version later; more is a kind that came with it.
type (
	workV2 struct {
		body
		Extra string `json:"extra"`
	}
	more struct{ body }
)

func (workV2) Kind() string       { return "beta.work" }
func (workV2) SchemaVersion() int { return 2 }
func (more) Kind() string         { return "beta.more" }

func alphaV2(t testing.TB) messaging.Spec {
	s := alpha(t)
	s.Sends = append(s.Sends, "beta.more")
	return s
}

func betaV2(t testing.TB) messaging.Spec {
	s := beta(t)
	s.Queues[0].Kinds = append(s.Queues[0].Kinds, "beta.more")
	return s
}

// upgrade is a database in the middle of a rolling upgrade: the migrator of the
// new version has been there, replicas of both versions are at work on one queue.
type upgrade struct {
	db                         *messagingtest.DB
	oldSender, newSender       *messaging.Bus
	oldReceiver, newReceiver   *messaging.Bus
	handledByOld, handledByNew atomic.Int32
}

func newUpgrade(t *testing.T) *upgrade {
	t.Helper()
	u := &upgrade{db: messagingtest.NewDB(t, alphaV2(t), betaV2(t), gamma(t))}
	_, err := u.db.Admin.Exec(`
		CREATE TABLE public.effects (id bigint GENERATED ALWAYS AS IDENTITY, who text NOT NULL, n integer NOT NULL, lane text, attempt integer, at timestamptz NOT NULL DEFAULT clock_timestamp());
		GRANT ALL ON public.effects TO PUBLIC; GRANT USAGE ON SCHEMA public TO PUBLIC`)
	if err != nil {
		t.Fatalf("make the table of effects: %v", err)
	}
	few := func(c *messaging.Config) { // so that both get a share
		c.Consumers = 1
		messaging.SetLimits(c, func(l *messaging.Limits) { l.Batch = 1 })
	}
	u.oldSender, u.newSender = bus(t, u.db, alpha(t)), bus(t, u.db, alphaV2(t))
	u.oldReceiver, u.newReceiver = bus(t, u.db, beta(t), few), bus(t, u.db, betaV2(t), few)
	messaging.Handle(u.oldReceiver, nothing[happened])
	messaging.Handle(u.oldReceiver, func(ctx context.Context, tx *messaging.Tx, m work) error {
		u.handledByOld.Add(1)
		return effect(ctx, tx, "old", m.body)
	})
	messaging.Handle(u.newReceiver, nothing[happened])
	messaging.Handle(u.newReceiver, func(ctx context.Context, tx *messaging.Tx, m workV2) error {
		u.handledByNew.Add(1)
		return effect(ctx, tx, "new "+m.Extra, m.body)
	})
	messaging.Handle(u.newReceiver, func(ctx context.Context, tx *messaging.Tx, m more) error {
		return effect(ctx, tx, "new more", m.body)
	})
	return u
}

// send publishes bodies, all or none.
func send(t *testing.T, b *messaging.Bus, bodies ...messaging.Body) {
	t.Helper()
	if err := b.InTx(t.Context(), func(_ context.Context, tx *messaging.Tx) error { return tx.Publish(bodies...) }); err != nil {
		t.Fatalf("publish: %v", err)
	}
}

// The rule: receivers are upgraded before senders. Then nothing dies, with
// replicas of both versions of the receiver side by side.
func TestReceiversAreUpgradedBeforeSenders(t *testing.T) {
	t.Parallel()
	u := newUpgrade(t)
	endOldSender := start(t, u.oldSender)
	endOldReceiver := start(t, u.oldReceiver)
	start(t, u.newReceiver)
	sent := 0
	messagingtest.Wait(t, "both versions to have had a share", func() bool {
		send(t, u.oldSender, work{body{N: sent}})
		sent++
		return u.handledByOld.Load() > 0 && u.handledByNew.Load() > 0
	})
	messagingtest.Wait(t, "all effects", func() bool { return count(t, u.db.Admin, `SELECT count(*) FROM public.effects`) == sent })
	endOldReceiver()
	start(t, u.newSender)
	send(t, u.oldSender, work{body{N: sent}}) // senders of both versions, too
	send(t, u.newSender, workV2{body{N: sent + 1}, "extra"}, more{body{N: sent + 2}})
	endOldSender()
	messagingtest.Wait(t, "the effects of all versions", func() bool { return count(t, u.db.Admin, `SELECT count(*) FROM public.effects`) == sent+3 })
	for who, want := range map[string]int{"new extra": 1, "new more": 1} {
		if n := count(t, u.db.Admin, `SELECT count(*) FROM public.effects WHERE who = $1`, who); n != want {
			t.Errorf("effects of %s: got %d, want %d", who, n, want)
		}
	}
	if n := count(t, u.db.Admin, `SELECT count(*) FROM messaging.queue_beta`); n != 0 {
		t.Errorf("messages left, dead or living: got %d, want 0", n)
	}
}

// Where the rule was broken nothing is lost: an old replica makes dead letters of
// what is newer than itself, a new one handles its share, and after the upgrade
// all are redriven and have their effect once.
func TestSendersUpgradedBeforeReceivers(t *testing.T) {
	t.Parallel()
	u := newUpgrade(t)
	start(t, u.newSender)
	endOldReceiver := start(t, u.oldReceiver)
	start(t, u.newReceiver)
	dead := func(kind, reason string) int {
		return count(t, u.db.Admin, `SELECT count(*) FROM messaging.queue_beta WHERE kind = $1 AND dead_reason LIKE '%' || $2 || '%' AND attempts = 1`, kind, reason)
	}
	sent := 0
	messagingtest.Wait(t, "dead letters of both kinds, and effects", func() bool {
		send(t, u.newSender, workV2{body{N: sent}, "extra"}, more{body{N: sent + 1}})
		sent += 2
		return dead("beta.work", "schema version 2 of beta.work: known up to 1; upgrade") > 0 && dead("beta.more", "doesn't know beta.more; upgrade") > 0 &&
			count(t, u.db.Admin, `SELECT count(*) FROM public.effects`) > 0
	})
	messagingtest.Wait(t, "every message to be handled or dead", func() bool {
		return count(t, u.db.Admin, `SELECT (SELECT count(*) FROM public.effects) + (SELECT count(*) FROM messaging.queue_beta WHERE dead_reason IS NOT NULL)`) == sent
	})
	if n := u.handledByOld.Load(); n != 0 {
		t.Errorf("messages that the old version took for its own: got %d, want 0", n)
	}
	endOldReceiver()
	if n, err := messaging.NewOperator(u.db.Admin, "upgrade").Redrive(t.Context(), messaging.DeadFilter{}, messaging.RedriveOptions{}); n == 0 || err != nil {
		t.Fatalf("redrive after the upgrade: got %d, %v; want some", n, err)
	}
	messagingtest.Wait(t, "an empty queue", func() bool { return count(t, u.db.Admin, `SELECT count(*) FROM messaging.queue_beta`) == 0 })
	if n := count(t, u.db.Admin, `SELECT count(DISTINCT n) FROM public.effects`); n != sent {
		t.Errorf("messages with an effect: got %d, want %d", n, sent)
	}
	if n := count(t, u.db.Admin, `SELECT count(*) FROM public.effects`); n != sent {
		t.Errorf("effects: got %d, want %d", n, sent)
	}
}
