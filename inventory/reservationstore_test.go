package inventory

import (
	"context"
	"slices"
	"testing"

	"example.com/orderflow/messaging"
	"example.com/orderflow/messaging/messagingtest"
)

// behind runs read in a transaction that has to wait for another one, which has
// made change, and commits it once read waits.
func (f fixture) behind(t *testing.T, change string, read func(context.Context, *messaging.Tx) error) {
	t.Helper()
	other, err := f.Admin.BeginTxx(t.Context(), nil)
	if err != nil {
		t.Fatalf("begin: %v", err)
	}
	if _, err := other.Exec(change); err != nil {
		t.Fatalf("change: %v", err)
	}
	done := make(chan error, 1)
	go func() { done <- f.bus.InTx(t.Context(), read) }()
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
		t.Fatalf("read: %v", err)
	}
}

// A transaction that waited for one that was just packing, short, must see the
// lines as that one left them.
func TestLinesAreReadBehindTheLock(t *testing.T) {
	t.Parallel()
	f := running(t, byHand())
	o := newOrder()
	f.handled(t, "done", o.reserve("A-1", 3))
	f.handled(t, "done", o.fulfil())
	var got map[string]Reservation
	f.behind(t, `
		UPDATE inventory.reservations SET status = 'packed', next_at = NULL, amended = true WHERE order_id = '`+o.id+`';
		UPDATE inventory.reservation_lines SET written_off = 1 WHERE reservation_id = '`+o.reservation+`'`,
		func(ctx context.Context, tx *messaging.Tx) (err error) {
			got, err = lockReservations(ctx, tx, []string{o.reservation})
			return err
		})
	r := got[o.reservation]
	if want := []Line{{"A-1", 3, 1, 0}}; r.Status != Packed || !slices.Equal(r.Lines, want) {
		t.Errorf("reservation %+v, want packed with %v", r, want)
	}
}

// So must one that waited for who took the last pieces.
func TestStockIsReadBehindTheLock(t *testing.T) {
	t.Parallel()
	f := newFixture(t, byHand())
	var got map[string]int64
	f.behind(t, `UPDATE inventory.stock SET available = 0, reserved = 3 WHERE sku = 'C-1'`,
		func(ctx context.Context, tx *messaging.Tx) (err error) {
			got, err = lockStock(ctx, tx, []string{"A-1", "C-1"})
			return err
		})
	if got["A-1"] != 100 || got["C-1"] != 0 {
		t.Errorf("available %v, want 100 of A-1 and none of C-1", got)
	}
}
