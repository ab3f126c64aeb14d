package e2e

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// chaosSample is a report of three faults, of which one hit nothing.
func chaosSample() *chaosReport {
	started := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	at := func(s float64) time.Time { return started.Add(time.Duration(s * float64(time.Second))) }
	then := func(s float64) *time.Time { t := at(s); return &t }
	faults := []outcome{
		{fault: fault{Kind: "kill", Whom: []string{"orders"}}, Struck: at(1), Healed: at(1.5), Hits: 2, Hit: "2 messages"},
		{fault: fault{Kind: "kill", Whom: []string{"payments"}}, Struck: at(3), Healed: at(3.5), Hits: 1},
		{fault: fault{Kind: "provider busy"}, Struck: at(2), Healed: at(4), Err: errMissed},
	}
	r := &chaosReport{Seed: 7, Backend: "local", Seconds: 5.2}
	promises := []promise{{At: at(0.5)}, {At: at(1.75)}, {At: at(4.5)}, {At: at(4.6)}}
	courses := []course{
		{Placed: at(0.5), Confirmed: then(1.6), Delivered: then(2.1)}, // placed before all
		{Placed: at(1.7), Confirmed: then(2.5), Delivered: then(4.2)},
		{Placed: at(1.8), Confirmed: nil},
		{Placed: at(4.4), Confirmed: then(4.9), Delivered: then(9)}, // delivered when nobody counts any more
	}
	r.tellFaults(started, faults, promises, courses)
	r.tellRates(started, courses)
	return r
}

func TestChaosReport(t *testing.T) {
	t.Parallel()
	r := chaosSample()
	if got, want := r.PlacedPerS, []int{1, 2, 0, 0, 1, 0}; !slices.Equal(got, want) {
		t.Errorf("placed per second %v, want %v", got, want)
	}
	if got, want := r.DeliveredPS, []int{0, 0, 1, 0, 1, 0}; !slices.Equal(got, want) {
		t.Errorf("delivered per second %v, want %v", got, want)
	}
	for i, want := range []struct{ answer, confirm int64 }{{250, 1000}, {1000, 1400}, {500, 900}} {
		if f := r.Faults[i]; f.AnswerMS != want.answer || f.ConfirmMS != want.confirm {
			t.Errorf("after fault %d the first answer came after %d ms, the first confirmation after %d; want %d, %d", i, f.AnswerMS, f.ConfirmMS, want.answer, want.confirm)
		}
	}
	want := []recoveryReport{
		{Kind: "kill", Planned: 2, Hit: 2, AnswerP50: 1000, AnswerP99: 1000, ConfirmP50: 1400, ConfirmP99: 1400},
		{Kind: "provider busy", Planned: 1, Hit: 0, AnswerP50: -1, AnswerP99: -1, ConfirmP50: -1, ConfirmP99: -1},
	}
	if !slices.Equal(r.Recovery, want) {
		t.Errorf("recovery\n%+v, want\n%+v", r.Recovery, want)
	}
	if r.hit() != 2 || r.Faults[2].Error == "" {
		t.Errorf("%d faults hit, the third's error is %q; want 2, and one", r.hit(), r.Faults[2].Error)
	}
}

func TestChaosReportIsWrittenAndDrawn(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "chaos")
	if err := chaosSample().write(path); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path + ".json")
	if err != nil {
		t.Fatal(err)
	}
	var back chaosReport
	if err := json.Unmarshal(b, &back); err != nil || len(back.Faults) != 3 {
		t.Errorf("the report has %d faults when it is read again, %v; want 3", len(back.Faults), err)
	}
	drawn, err := os.ReadFile(path + ".svg")
	if err != nil {
		t.Fatal(err)
	}
	for d := xml.NewDecoder(strings.NewReader(string(drawn))); ; {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("the SVG is no XML: %v", err)
		}
	}
	for _, want := range []string{"seed 7: 2 faults that hit", "provider busy", "orders delivered/s", "seconds"} {
		if !strings.Contains(string(drawn), want) {
			t.Errorf("the SVG has no %q", want)
		}
	}
	if err := new(chaosReport).plot(path + ".svg"); err == nil {
		t.Error("a chaos in which nothing was measured is drawn")
	}
}
