package bench

import (
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// sample is a report with figures of the kind that a run finds.
func sample() *Report {
	same := func(v float64) Spread { return Spread{v * .95, v, v * 1.05} }
	system := func(name, title string, ratio, p50, p99 float64) *System {
		r := same(ratio)
		return &System{Name: name, Title: title, Rate: 50, OrdersPerSecond: same(ratio * 800), Ratio: &r, P50MS: same(p50), P99MS: same(p99)}
	}
	six, one := same(800), same(1700)
	return &Report{
		Rounds: 3, SixTransactions: &six, OneTransaction: &one,
		Systems: []*System{
			system("chain", "Orderflow messaging (chain)", 1.7, 5.5, 11), system("stock", "watermill-sql v3 + forwarder", .33, 58, 87),
			system("river", "River v0.51", .34, 38, 68), system("dbos", "DBOS v0.6", .36, 7, 24), system("shop", "the shop over HTTP (shop)", .7, 15, 45),
		},
	}
}

func TestPlot(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "bench.svg")
	if err := sample().Plot(path); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for d := xml.NewDecoder(strings.NewReader(string(text))); ; {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("the SVG is no XML: %v", err)
		}
	}
	for _, want := range []string{"<svg", "River v0.51", "bare SQL, one transaction", "1.70", "87.0"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the SVG has no %q", want)
		}
	}
}

func TestPlotOfNothingIsAnError(t *testing.T) {
	t.Parallel()
	if err := (&Report{}).Plot(filepath.Join(t.TempDir(), "bench.svg")); err == nil {
		t.Error("want an error, got none")
	}
}
