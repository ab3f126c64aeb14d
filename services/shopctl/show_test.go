package main

import (
	"strings"
	"testing"
	"time"

	"example.com/orderflow/messaging"
)

// compare fails t unless the lines of got, without what ends them, are want's.
func compare(t *testing.T, got, want string) {
	t.Helper()
	lines := strings.Split(got, "\n")
	for i, l := range lines {
		lines[i] = strings.TrimRight(l, " ")
	}
	if got := strings.Join(lines, "\n"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestWriteQueues(t *testing.T) {
	t.Parallel()
	now := time.Now()
	count := func(n int64) messaging.Count { return messaging.Count{N: n, How: messaging.Exact} }
	var b strings.Builder
	err := writeQueues(&b, messaging.Overview{
		Queues: []messaging.QueueState{
			{
				Name: "orders", Depth: messaging.Count{N: 1_000_003, How: messaging.About}, Ready: messaging.Count{N: 10_000, How: messaging.AtLeast},
				Delayed: count(2), InFlight: count(1), Retried: count(1), Crashed: count(0), Dead: count(4),
				Oldest: messaging.Millis(time.Minute), In: 12.34, Out: 0,
			},
			{
				Name: "mail", Run: 2, PausedAt: &now, Depth: count(0), Ready: count(0), Delayed: count(0), InFlight: count(0),
				Retried: count(0), Crashed: count(0), Dead: count(0),
			},
		},
		Outboxes: []messaging.OutboxState{{Service: "orders", Depth: count(3), Dead: count(1), Oldest: messaging.Millis(2 * time.Millisecond)}},
	})
	if err != nil {
		t.Fatal(err)
	}
	compare(t, b.String(), ``+
		`  QUEUE                 DEPTH   READY  DELAYED  HELD  AGAIN  CRASHED  DEAD  OLDEST  IN/S  OUT/S
  orders             ≈1000003  ≥10000        2     1      1        0     4    1m0s  12.3    0.0
  mail run 2 PAUSED         0       0        0     0      0        0     0       -   0.0    0.0

  OUTBOX OF             DEPTH                                         DEAD  OLDEST
  orders                    3                                            1     2ms
`)
}

func TestWriteJourney(t *testing.T) {
	t.Parallel()
	begin := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	at := func(ms int) time.Time { return begin.Add(time.Duration(ms) * time.Millisecond) }
	ms := func(n int) messaging.Millis { return messaging.Millis(time.Duration(n) * time.Millisecond) }
	due := at(60_000)
	var b strings.Builder
	err := writeJourney(&b, messaging.Journey{
		OrderID: "o-1", At: at(31_000), Gaps: []string{"the outbox of a is deep"},
		Steps: []messaging.Step{
			{Kind: "a.first", From: "x", Queue: "a", SentAt: begin, Waited: ms(10), Ran: ms(20), Attempts: 1, Outcome: messaging.Done},
			{Depth: 1, Kind: "b.second", From: "a", Queue: "b", SentAt: at(30), Waited: ms(0), Ran: ms(280), Attempts: 2, Outcome: messaging.Ignored, Note: "it is\nlate"},
			{Depth: 2, Kind: "c.third", From: "b", SentAt: at(310), Outcome: messaging.Unheard},
			{Depth: 1, Kind: "b.fourth", From: "a", Queue: "b", Run: 1, SentAt: at(30), Waited: ms(31_000), Attempts: 3, Crashes: 2, Outcome: messaging.Waiting, Note: "boom", DueAt: &due},
			{Kind: "a.other", From: "x", Queue: "a", SentAt: at(155), Waited: ms(155), Outcome: messaging.Dead, Note: "broken"},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	compare(t, b.String(), `order o-1: 5 messages in 310ms, from 2026-03-01 12:00:00.000 UTC

MESSAGE      FROM → QUEUE  AT      WAITED  RAN    TRIES  TIMELINE                          OUTCOME
a.first      x → a         +0s     10ms    20ms   1      ·███                              done
├ b.second   a → b         +30ms   -       280ms  2         █████████████████████████████  ignored: it is late
│ └ c.third  b → -         +310ms  -       -      0                                     ·  unheard
└ b.fourth   a → b run 1   +30ms   31s     -      3         ····························→  waiting until 12:01:00.000, 2 crashes: boom
a.other      x → a         +155ms  155ms   -      0                     ················█  dead: broken
incomplete: the outbox of a is deep
`)
}
