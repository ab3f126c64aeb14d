package payments

import (
	"context"
	"testing"
	"time"

	"example.com/orderflow/messaging"
)

// A reconciliation falls due once each time that the setting says, from the moment
// at which it says something else, too.
func TestReconciliationsTakeTurns(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	turn := func(every time.Duration) (due bool) {
		t.Helper()
		err := s.service.bus.InTx(t.Context(), func(ctx context.Context, tx *messaging.Tx) (err error) {
			due, err = s.service.store.takeTurn(ctx, tx, every)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return due
	}
	for _, step := range []struct {
		name  string
		every time.Duration
		want  bool
	}{
		{"the first", time.Hour, true},
		{"just after it", time.Hour, false},
		{"with longer pauses from now on", 2 * time.Hour, false},
		{"with shorter ones", time.Minute, true},
		{"just after that", time.Minute, false},
	} {
		if got := turn(step.every); got != step.want {
			t.Errorf("%s, every %s: due %t, want %t", step.name, step.every, got, step.want)
		}
	}
}
