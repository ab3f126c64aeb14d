package main

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"example.com/orderflow/messaging"
	"example.com/orderflow/messaging/messagingtest"
)

func TestClockCommands(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	said := func(want string, args ...string) {
		t.Helper()
		out, _, err := shopctl(t, db, "", append([]string{"clock"}, args...)...)
		if err != nil || !strings.Contains(out, want) {
			t.Errorf("shopctl clock %v: got %q, %v, want %q", args, out, err, want)
		}
	}
	off := func() time.Duration {
		t.Helper()
		var seconds float64
		if err := db.Admin.Get(&seconds, `SELECT extract(epoch FROM messaging.shop_now() - clock_timestamp())::float8`); err != nil {
			t.Fatal(err)
		}
		return time.Duration(seconds * float64(time.Second))
	}
	near := func(want time.Duration) {
		t.Helper()
		if got := off(); (got - want).Abs() > time.Second {
			t.Errorf("the clock is %s ahead, want %s", got, want)
		}
	}
	said("which is real time")
	said("15m0s ahead of real time", "advance", "15m", "--actor", "olga", "--reason", "show how holds expire")
	near(15 * time.Minute)
	said("36h15m0s ahead of real time", "advance", "36h", "--actor", "olga")
	said("36h15m0s ahead of real time", "show")
	near(36*time.Hour + 15*time.Minute)

	for _, tt := range []struct{ by, want string }{
		{"-15m", "the clock only goes forward"},
		{"0s", "the clock only goes forward"},
		{"-0.5h", "the clock only goes forward"},
		{"15", "want a duration like 15m"},
		{"tomorrow", "want a duration like 15m"},
		{"", "want a duration like 15m"},
		{"87601h", "at most 87600h0m0s"},
		{"87600h", "would be more than"},
	} {
		out, _, err := shopctl(t, db, "", "clock", "advance", tt.by, "--actor", "olga")
		if err == nil || !strings.Contains(err.Error(), tt.want) || out != "" {
			t.Errorf("advance %q: got %q, %v, want %q", tt.by, out, err, tt.want)
		}
	}
	near(36*time.Hour + 15*time.Minute)

	said("which is real time", "reset", "--actor", "olga", "--reason", "done")
	near(0)
	var actions []string
	err := db.Admin.Select(&actions, `SELECT actor || ' ' || action || ' ' || coalesce(reason, '-') || ' ' || (detail ->> 'ahead_seconds')::numeric::int FROM messaging.actions ORDER BY id`)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := fmt.Sprint(actions), "[olga clock.advance show how holds expire 900 olga clock.advance - 130500 olga clock.reset done 0]"; got != want {
		t.Errorf("on record: %s, want %s", got, want)
	}
}

// TestScheduleSeesTheClock advances the clock past what a running schedule waits for.
func TestScheduleSeesTheClock(t *testing.T) {
	t.Parallel()
	spec := messaging.Spec{Name: "alarm", Speaks: []string{"alarm.rang"}, Migrations: fstest.MapFS{"migrations/0001_alarm.sql": {Data: []byte("-- +goose Up\nCREATE TABLE alarm.alarms (due timestamptz NOT NULL, rang timestamptz);\nINSERT INTO alarm.alarms SELECT messaging.shop_now() + interval '1 hour';\n")}}}
	db := messagingtest.NewDB(t, spec)
	bus := db.NewBus(t, spec)
	bus.Schedule("alarms", func(ctx context.Context, tx *messaging.Tx) (time.Duration, error) {
		var rang []time.Time
		return time.Second, tx.SelectContext(ctx, &rang, `UPDATE alarm.alarms SET rang = messaging.shop_now() WHERE rang IS NULL AND due <= messaging.shop_now() RETURNING rang`)
	})
	messagingtest.Run(t, bus)
	rang := func() (n int) {
		t.Helper()
		if err := db.Admin.Get(&n, `SELECT count(rang) FROM alarm.alarms`); err != nil {
			t.Fatal(err)
		}
		return n
	}
	messagingtest.Wait(t, "the bus to be ready", func() bool { return bus.Ready(t.Context()) == nil })
	if rang() != 0 {
		t.Fatal("the alarm rang before its time")
	}
	if _, _, err := shopctl(t, db, "", "clock", "advance", "61m"); err != nil {
		t.Fatal(err)
	}
	messagingtest.Wait(t, "the alarm to ring", func() bool { return rang() == 1 })
}
