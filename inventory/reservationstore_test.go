package inventory

import (
	"context"
	"slices"
	"testing"

	"example.com/orderflow/messaging"
	"example.com/orderflow/messaging/messagingtest"
)

// TestLinesAreReadBehindTheLock has a transaction wait for a reservation that
// another one is just packing, short: it must see the lines as that one left them.
func TestLinesAreReadBehindTheLock(t *testing.T) {
	t.Parallel()
	f := running(t, byHand())
	o := newOrder()
	f.handled(t, "done", o.reserve("A-1", 3))
	f.handled(t, "done", o.fulfil())
	other, err := f.Admin.BeginTxx(t.Context(), nil)
	if err != nil {
		t.Fatalf("begin: %v", err)
	}
	_, err = other.Exec(`
		UPDATE inventory.reservations SET status = 'packed', next_at = NULL, amended = true WHERE order_id = '` + o.id + `';
		UPDATE inventory.reservation_lines SET written_off = 1 WHERE reservation_id = '` + o.reservation + `'`)
	if err != nil {
		t.Fatalf("pack: %v", err)
	}
	var got map[string]Reservation
	done := make(chan error, 1)
	go func() {
		done <- f.bus.InTx(t.Context(), func(ctx context.Context, tx *messaging.Tx) (err error) {
			got, err = lockReservations(ctx, tx, []string{o.reservation})
			return err
		})
	}()
	messagingtest.Wait(t, "the lock to be waited for", func() bool {
		var waiting bool
		err := f.Admin.Get(&waiting, `SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock')`)
		if err != nil {
			t.Fatalf("look for who waits: %v", err)
		}
		return waiting
	})
	if err := other.Commit(); err != nil {
		t.Fatalf("commit: %v", err)
	}
	if err := <-done; err != nil {
		t.Fatalf("lock: %v", err)
	}
	r := got[o.reservation]
	if want := []Line{{"A-1", 3, 1, 0}}; r.Status != Packed || !slices.Equal(r.Lines, want) {
		t.Errorf("reservation %+v, want packed with %v", r, want)
	}
}
