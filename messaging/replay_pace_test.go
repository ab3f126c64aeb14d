package messaging_test

import (
	"context"
	"encoding/json"
	"sync"
	"testing"
	"time"

	"example.com/orderflow/messaging"
	"example.com/orderflow/messaging/messagingtest"
)

// C15: a replay ends though events are sent faster than it was to copy them, or
// than it can: every event is in the queue once, in the order of the log, and the
// speaker's relay got its turns all the while.
func TestC15AReplayEndsHoweverFastEventsCome(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		opts   messaging.ReplayOptions
		page   int
		every  time.Duration // a transaction of ten events is sent that often
		detail string
	}{
		{"faster than its rate", messaging.ReplayOptions{Rate: 40}, 1000, 50 * time.Millisecond, "rate_raised_to"},
		{"faster than it can copy", messaging.ReplayOptions{}, 2, 2 * time.Millisecond, "relays_waited_for_pages_of"},
		{"faster than a rate that it can't reach", messaging.ReplayOptions{Rate: 400}, 2, 2 * time.Millisecond, "relays_waited_for_pages_of"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			db := newViewDB(t, view(t))
			history := scaled(40, 400)
			logEvents(t, db, 0, history)
			a := bus(t, db, speaker(t))
			messagingtest.Run(t, a)
			ctx, ended := context.WithCancel(t.Context())
			defer ended()
			var load sync.WaitGroup
			sent := 0
			load.Go(func() {
				for ctx.Err() == nil && !t.Failed() {
					var list []messaging.Body
					for n := history + sent; len(list) < 10; n++ {
						list = append(list, happened{body{N: n, OrderID: lane(n)}})
					}
					publish(t, a, list...)
					sent += len(list)
					select {
					case <-time.After(c.every):
					case <-ctx.Done():
					}
				}
			})
			// Events come from the first page on, and each page finds more than it takes.
			messagingtest.Wait(t, "events to come", func() bool { return count(t, db.Admin, `SELECT count(*) FROM messaging.log_alpha`) > history })
			messaging.SetPage(&c.opts, c.page)
			behind, logged, turns := int64(0), int64(0), 0
			c.opts.Progress = func(r messaging.Replay) {
				behind = max(behind, r.Total-r.Read)
				if r.Total > logged {
					turns++
				}
				logged = r.Total
			}
			within, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			begun := time.Now()
			r, err := messaging.NewOperator(db.Admin, "test").Replay(within, "view", c.opts)
			took := time.Since(begun)
			ended()
			load.Wait()
			if err != nil {
				t.Fatalf("replay, %d events copied while %d were sent: %v", r.Copied, sent, err)
			}
			messagingtest.Wait(t, "the outbox to be empty", func() bool { return count(t, db.Admin, `SELECT count(*) FROM messaging.outbox_alpha`) == 0 })
			actions, err := messaging.NewOperator(db.Admin, "test").Actions(t.Context(), 1)
			if err != nil {
				t.Fatal(err)
			}
			var detail map[string]any
			if err := json.Unmarshal(actions[0].Detail, &detail); err != nil {
				t.Fatal(err)
			}
			t.Logf("%d events copied in %s while %d were sent, at most %d behind, relays had %d turns: %s", r.Copied, took.Round(time.Millisecond), sent, behind, turns, actions[0].Detail)
			if _, ok := detail[c.detail]; !ok || detail["copied"] != float64(r.Copied) {
				t.Errorf("record of the end: got %s, want %d copied and %s: else the test proves nothing", actions[0].Detail, r.Copied, c.detail)
			}
			if r.Copied <= int64(history) || turns < 3 {
				t.Errorf("copied: got %d events in %d turns of the relay, want more than the first %d", r.Copied, turns, history)
			}
			wrong := count(t, db.Admin, `
				SELECT count(*) FROM messaging.log_alpha l
				FULL JOIN (SELECT message_id, count(*) AS n FROM messaging.queue_view WHERE kind = 'alpha.happened' GROUP BY message_id) q USING (message_id)
				WHERE l.id IS NULL AND q.n IS DISTINCT FROM 1 OR l.id IS NOT NULL AND coalesce(q.n, 0) <> 1`)
			if wrong != 0 {
				t.Errorf("events that aren't in the queue once: got %d, want 0", wrong)
			}
			inLogOrder(t, db)
			if n := count(t, db.Admin, `SELECT count(*) FROM messaging.routes WHERE NOT live`); n != 0 {
				t.Errorf("routes that aren't live: got %d, want 0", n)
			}
		})
	}
}
