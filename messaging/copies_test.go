package messaging_test

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"example.com/orderflow/messaging"
	"example.com/orderflow/messaging/messagingtest"
)

// C14, C15: copies of one message that share a transaction are handled once a run,
// the later run knowing of the earlier, as they are when they come one by one.
func TestC14C15CopiesInOneBatch(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		runs []int // of the copies, in the order of the queue
		want []string
	}{
		{"live, then of a replay", []int{0, 1}, []string{"run 0, replayed false", "run 1, replayed true"}},
		{"of a replay, then live", []int{1, 0}, []string{"run 1, replayed false"}},
		{"twice live", []int{0, 0}, []string{"run 0, replayed false"}},
		{"of two replays, the first twice", []int{1, 2, 1}, []string{"run 1, replayed false", "run 2, replayed true"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			db := newViewDB(t, view(t))
			b := db.NewBus(t, view(t), quick, func(c *messaging.Config) { c.Consumers = 1 })
			var got []string
			batches := 0
			b.Preload("view", func(context.Context, *messaging.Tx, []messaging.Message) error {
				batches++
				got = nil
				return nil
			})
			messaging.Handle(b, nothing[happened])
			messaging.Handle(b, func(_ context.Context, tx *messaging.Tx, m note) error {
				got = append(got, fmt.Sprintf("run %d, replayed %t", tx.Message().Run, tx.Message().Replayed))
				return effect(t.Context(), tx, "note", m.body)
			})
			// A lane would keep them apart.
			_, err := db.Admin.Exec(`
				INSERT INTO messaging.queue_view (message_id, kind, payload, run)
				SELECT $1, 'view.note', '{"n": 1}', r.run FROM unnest($2::int[]) WITH ORDINALITY AS r (run, n) ORDER BY r.n`, newID(), c.runs)
			if err != nil {
				t.Fatal(err)
			}
			stop := start(t, b)
			messagingtest.Wait(t, "the copies to be acknowledged", func() bool { return count(t, db.Admin, `SELECT count(*) FROM messaging.queue_view`) == 0 })
			stop()
			if !slices.Equal(got, c.want) || batches != 1 {
				t.Errorf("handled %q in %d batches, want %q in 1", got, batches, c.want)
			}
			if n := count(t, db.Admin, `SELECT count(*) FROM messaging.inbox_view`); n != len(c.want) {
				t.Errorf("remembered %d times, want %d", n, len(c.want))
			}
			if n := count(t, db.Admin, `SELECT count(*) FROM public.effects`); n != len(c.want) {
				t.Errorf("done %d times, want %d", n, len(c.want))
			}
		})
	}
}
