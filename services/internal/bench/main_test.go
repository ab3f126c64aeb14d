package bench

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"example.com/orderflow/messaging/messagingtest"
)

func TestMain(m *testing.M) { messagingtest.Main(m) }

// little is a load that any machine carries in a test's time.
var little = load{warmUp: 8, rate: 50, open: 400 * time.Millisecond, burst: 100, patience: time.Minute}

// newTestRun is a run on a stand of its own, ended with t.
func newTestRun(t *testing.T) *run {
	t.Helper()
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	s, err := newStand(t.Context(), log, false)
	if err != nil {
		t.Fatalf("start the stand: %v", err)
	}
	t.Cleanup(func() {
		if err := s.close(context.Background()); err != nil {
			t.Errorf("end the stand: %v", err)
		}
	})
	return &run{cfg: Config{Quick: true, Progress: t.Output()}, stand: s, report: &Report{}, systems: map[string]*System{}}
}
