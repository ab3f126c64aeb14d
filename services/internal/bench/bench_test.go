package bench

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestPercentile(t *testing.T) {
	t.Parallel()
	var hundred []time.Duration
	for i := range 100 {
		hundred = append(hundred, time.Duration(i+1)*time.Millisecond)
	}
	tests := []struct {
		name string
		of   []time.Duration
		p    float64
		want float64
	}{
		{"of nothing", nil, .5, 0},
		{"of one", hundred[:1], .99, 1},
		{"median of a hundred", hundred, .5, 51},
		{"the 99th of a hundred", hundred, .99, 100},
		{"the last", hundred, 1, 100},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if got := percentile(test.of, test.p); got != test.want {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

func TestSpread(t *testing.T) {
	t.Parallel()
	list := []float64{3, 1, 2}
	if got, want := spread(list), (Spread{1, 2, 3}); got != want {
		t.Errorf("got %v, want %v", got, want)
	}
	if !slices.Equal(list, []float64{3, 1, 2}) {
		t.Errorf("the list was changed: %v", list)
	}
}

func TestParsePgbench(t *testing.T) {
	t.Parallel()
	const out = `pgbench (15.18 (Debian 15.18-0+deb12u1))
transaction type: order6tx.sql
number of transactions actually processed: 8461
number of failed transactions: 0 (0.000%)
latency average = 9.459 ms
initial connection time = 11.213 ms
tps = 845.752219 (without initial connection time)
`
	tests := []struct {
		name, out string
		want      float64
		fails     string
	}{
		{"a run", out, 845.752219, ""},
		{"a run of version 14, which knows no failed transactions", strings.Replace(out, "number of failed transactions: 0 (0.000%)\n", "", 1), 845.752219, ""},
		{"a run with failures", strings.Replace(out, "failed transactions: 0", "failed transactions: 12", 1), 0, "12 transactions failed"},
		{"no run", "pgbench: error: connection refused", 0, "no tps"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got, err := parsePgbench(test.out)
			if got != test.want {
				t.Errorf("got %v, want %v", got, test.want)
			}
			if (err == nil) != (test.fails == "") || err != nil && !strings.Contains(err.Error(), test.fails) {
				t.Errorf("got error %v, want one with %q", err, test.fails)
			}
		})
	}
}

func TestUnknownPartIsRefused(t *testing.T) {
	t.Parallel()
	_, err := Run(t.Context(), Config{Only: []string{"chain", "chian"}})
	if err == nil || !strings.Contains(err.Error(), `"chian"`) {
		t.Errorf("got error %v, want one that names the part", err)
	}
}

func TestReportSumsItsRounds(t *testing.T) {
	t.Parallel()
	r := &run{report: &Report{Rounds: 3}, six: []float64{800, 1000, 900}, one: []float64{1700, 1600, 1800}, sixCPU: []float64{2, 2, 2}}
	chain := &System{Name: partChain, Title: "chain", Burst: 100, ratios: []float64{1.5, 1.7, 1.6}}
	shop := &System{Name: partShop, Title: "shop", Burst: 100, ratios: []float64{.6, .8, .7}}
	for _, s := range []*System{chain, shop} {
		for i := range 3 {
			u := usage{elapsed: time.Second, goes: .1, server: .2, busy: .3}
			s.rounds = append(s.rounds, measurement{perSecond: float64(100 * (i + 1)), latencies: []time.Duration{5 * time.Millisecond}, burst: u, open: u})
		}
	}
	r.report.Systems = []*System{chain, shop}
	r.sum()
	if r.report.RatioToRaw6Tx != 1.6 || r.report.ShopRatio != .7 {
		t.Errorf("got ratios %v and %v, want 1.6 and 0.7", r.report.RatioToRaw6Tx, r.report.ShopRatio)
	}
	if got, want := chain.OrdersPerSecond, (Spread{100, 200, 300}); got != want {
		t.Errorf("got %v orders/s, want %v", got, want)
	}
	if chain.GoMSPerOrder != 1 || chain.PostgresMSPerOrder != 2 {
		t.Errorf("got %v and %v ms of CPU per order, want 1 and 2", chain.GoMSPerOrder, chain.PostgresMSPerOrder)
	}
	text, err := json.Marshal(r.report)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"ratio_to_raw_6tx":1.6`, `"shop_ratio":0.7`} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the JSON has no %s: %s", want, text)
		}
	}
	var out bytes.Buffer
	if err := r.report.Write(&out); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "1.50 / 1.60 / 1.70") {
		t.Errorf("the text has no spread of chain's ratios:\n%s", out.String())
	}
}
