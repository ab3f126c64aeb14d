package messaging

import (
	"testing"
	"time"
)

func TestC2Floor(t *testing.T) {
	t.Parallel()
	var f floor
	start := time.Unix(1000, 0)
	for i := range 300 { // ten ids a second, asked ten times a second
		now := start.Add(time.Duration(i) * 100 * time.Millisecond)
		got := f.at(now)
		if got == 0 && i%10 != 0 && i > 110 {
			t.Fatalf("at %s: no floor between two whole reads", now.Sub(start))
		}
		if got > 0 && i%10 == 0 {
			t.Fatalf("at %s: got floor %d, want a whole read every second", now.Sub(start), got)
		}
		// Id n was carried at n/10 s.
		if carriedAt := start.Add(time.Duration(got) * 100 * time.Millisecond); got > 0 && now.Sub(carriedAt) < floorAge {
			t.Fatalf("at %s: floor %d was carried only %s ago", now.Sub(start), got, now.Sub(carriedAt))
		}
		f.carried(int64(i)+1, now)
	}
	f.at(start.Add(30 * time.Second)) // whole
	if got := f.at(start.Add(30*time.Second + 50*time.Millisecond)); got < 150 {
		t.Errorf("floor after 30 s: got %d, want one of some ten seconds ago", got)
	}
}
