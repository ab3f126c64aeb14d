package e2e

import (
	"testing"
	"time"
)

// The demo's figures to reach; a test waits ten times as long before it fails,
// and tells what it measured.
const (
	firstConfirmed = 5 * time.Second
	ctrlC          = 3 * time.Second
)

// TestDemo starts the demo, ends it under load with Ctrl-C, starts it again on
// the same data, and kills it.
func TestDemo(t *testing.T) {
	t.Parallel()
	h := NewDemoHome(t)
	d := h.Start(t, "--orders", "2")
	took := d.seconds(t, confirmedAt)
	t.Logf("first order confirmed %s after the start (to reach: %s)", took, firstConfirmed)
	if took > 10*firstConfirmed {
		t.Errorf("first order confirmed %s after the start", took)
	}
	// The load ends without its shop: that is no failure.
	startLoad(t, h.crew, d.URL, 15, time.Minute)
	c := NewCustomer(t, d.URL)
	var promised []string
	for range 30 {
		promised = append(promised, c.Place(t, wish("TEA-01", "tok_ok")).ID)
	}
	took = d.Interrupt(t, 10*ctrlC)
	t.Logf("ended %s after Ctrl-C under load (to reach: %s)", took.Round(time.Millisecond), ctrlC)
	if err := d.server.left(); err != nil {
		t.Errorf("after Ctrl-C: %v", err)
	}

	again := h.Start(t, "--orders", "0")
	t.Logf("open again on the same data after %s", again.seconds(t, openAt))
	CheckShop(t, again.PSQL, promised...)
	storyOfDemo(t, again, h.crew, "declined-then-paid")

	killed := time.Now()
	if err := again.kill(); err != nil {
		t.Fatal(err)
	}
	eventually(t, 10*time.Second, again.server.left)
	t.Logf("PostgreSQL gone %s after kill -9 of the demo", since(killed))
}
