package bench

import (
	"fmt"
	"io"
	"slices"
	"time"
)

// Spread is a figure over the rounds.
type Spread struct {
	Min    float64 `json:"min"`
	Median float64 `json:"median"`
	Max    float64 `json:"max"`
}

// spread is that of list, which has at least one element.
func spread(list []float64) Spread {
	s := slices.Sorted(slices.Values(list))
	return Spread{Min: s[0], Median: s[len(s)/2], Max: s[len(s)-1]}
}

// Report is what a run found. Figures that weren't asked for, or that the
// machine can't tell (CPU, outside Linux), are left out or zero.
type Report struct {
	Started time.Time `json:"started"`
	Quick   bool      `json:"quick"`
	Rounds  int       `json:"rounds"`
	Machine Machine   `json:"machine"`

	// RatioToRaw6Tx is chain's burst over pgbench in six transactions, median;
	// ShopRatio is the shop's.
	RatioToRaw6Tx float64 `json:"ratio_to_raw_6tx,omitempty"`
	ShopRatio     float64 `json:"shop_ratio,omitempty"`

	SixTransactions *Spread     `json:"yardstick_6tx_per_second,omitempty"`
	OneTransaction  *Spread     `json:"yardstick_1tx_per_second,omitempty"`
	SixCPUMS        float64     `json:"yardstick_6tx_cpu_ms_per_order,omitempty"` // pgbench and PostgreSQL
	Systems         []*System   `json:"systems"`
	Idle            *Idle       `json:"idle,omitempty"`
	Backlog         []Backlog   `json:"backlog,omitempty"`
	Consumers       []Consumers `json:"consumers,omitempty"`
}

// Machine is where it was measured.
type Machine struct {
	OS       string  `json:"os"`
	Cores    int     `json:"cores"`
	Go       string  `json:"go"`
	Postgres string  `json:"postgres"`
	FlushMS  float64 `json:"commit_flush_ms"` // what a commit waits for the disk
}

// System is what was found of a system.
type System struct {
	Name     string `json:"name"`
	Title    string `json:"title"`
	Settings string `json:"settings"`

	Burst           int     `json:"burst_orders"`
	OrdersPerSecond Spread  `json:"orders_per_second"`
	Ratio           *Spread `json:"ratio_to_raw_6tx,omitempty"`

	Rate  float64 `json:"open_orders_per_second"`
	P50MS Spread  `json:"p50_ms"`
	P99MS Spread  `json:"p99_ms"`

	// CPU time per order in the burst; the drivers of chain and shop included.
	GoMSPerOrder       float64 `json:"go_cpu_ms_per_order"`
	PostgresMSPerOrder float64 `json:"postgres_cpu_ms_per_order"`
	// Cores busy at the open rate.
	GoCores       float64 `json:"go_cores_open"`
	PostgresCores float64 `json:"postgres_cores_open"`
	// OtherCores were busy with something else meanwhile: more than a little, and
	// the figures are too low.
	OtherCores float64 `json:"other_cores"`

	rounds []measurement
	ratios []float64
}

// Idle is the CPU of the whole shop with nothing to do.
type Idle struct {
	Seconds       float64 `json:"seconds"`
	Cores         float64 `json:"cores"`
	GoCores       float64 `json:"go_cores"`
	PostgresCores float64 `json:"postgres_cores"`
}

// Backlog is how fast messages are handled with a backlog of that many.
type Backlog struct {
	Messages  int     `json:"messages"`
	PerSecond float64 `json:"messages_per_second"`
	CPUMicros float64 `json:"cpu_us_per_message"` // Go and PostgreSQL: what a busy machine doesn't blur
}

// Consumers is how fast messages are handled whose handlers wait 2 ms.
type Consumers struct {
	Consumers int     `json:"consumers"`
	PerSecond float64 `json:"messages_per_second"`
}

// sum makes the spreads of what the rounds found.
func (s *System) sum() {
	var per, p50, p99, goMS, pgMS, goCores, pgCores, other []float64
	for _, m := range s.rounds {
		per = append(per, m.perSecond)
		p50 = append(p50, percentile(m.latencies, .5))
		p99 = append(p99, percentile(m.latencies, .99))
		goMS = append(goMS, 1000*m.burst.goes/float64(s.Burst))
		pgMS = append(pgMS, 1000*m.burst.server/float64(s.Burst))
		goCores = append(goCores, m.open.goCores())
		pgCores = append(pgCores, m.open.serverCores())
		other = append(other, m.burst.otherCores())
	}
	s.OrdersPerSecond, s.P50MS, s.P99MS = spread(per), spread(p50), spread(p99)
	s.GoMSPerOrder, s.PostgresMSPerOrder = spread(goMS).Median, spread(pgMS).Median
	s.GoCores, s.PostgresCores, s.OtherCores = spread(goCores).Median, spread(pgCores).Median, spread(other).Max
	if len(s.ratios) > 0 {
		r := spread(s.ratios)
		s.Ratio = &r
	}
}

// Write prints r for people. Its error is out's.
func (r *Report) Write(out io.Writer) error {
	p := &printer{out: out}
	p.line("%d cores, %s, PostgreSQL %s, a commit waits %.2f ms for the disk; %d rounds, min / median / max", r.Machine.Cores, r.Machine.Go, r.Machine.Postgres, r.Machine.FlushMS, r.Rounds)
	p.line("")
	p.line("%-34s %-22s %-20s %-20s %-20s %s", "", "burst, orders/s", "over six tx", "p50, ms", "p99, ms", "CPU ms/order Go + PostgreSQL")
	if r.SixTransactions != nil {
		p.line("%-34s %-22s %-20s %-20s %-20s %.2f", "pgbench, six transactions", r.SixTransactions.text("%.0f"), "1", "", "", r.SixCPUMS)
	}
	if r.OneTransaction != nil {
		p.line("%-34s %-22s", "pgbench, one transaction", r.OneTransaction.text("%.0f"))
	}
	for _, s := range r.Systems {
		ratio := ""
		if s.Ratio != nil {
			ratio = s.Ratio.text("%.2f")
		}
		p.line("%-34s %-22s %-20s %-20s %-20s %.2f + %.2f", s.Title, s.OrdersPerSecond.text("%.0f"), ratio, s.P50MS.text("%.1f"), s.P99MS.text("%.1f"), s.GoMSPerOrder, s.PostgresMSPerOrder)
	}
	for _, s := range r.Systems {
		p.line("")
		p.line("%s: %s; burst of %d, latency at %g orders/s (%.2f + %.2f cores)", s.Title, s.Settings, s.Burst, s.Rate, s.GoCores, s.PostgresCores)
		if s.OtherCores > 0.2 {
			p.line("  others used %.2f cores meanwhile: the figures are too low", s.OtherCores)
		}
	}
	if r.Idle != nil {
		p.line("")
		p.line("whole shop with nothing to do: %.3f cores (Go %.3f, PostgreSQL %.3f) over %.0f s", r.Idle.Cores, r.Idle.GoCores, r.Idle.PostgresCores, r.Idle.Seconds)
	}
	for _, b := range r.Backlog {
		p.line("backlog of %7d messages: %6.0f handled/s, %.0f µs of CPU each", b.Messages, b.PerSecond, b.CPUMicros)
	}
	for _, c := range r.Consumers {
		p.line("%d consumers, handlers that wait 2 ms: %5.0f handled/s", c.Consumers, c.PerSecond)
	}
	return p.err
}

// text is s with every figure in format.
func (s Spread) text(format string) string {
	return fmt.Sprintf(format+" / "+format+" / "+format, s.Min, s.Median, s.Max)
}

// printer prints lines until the first error.
type printer struct {
	out io.Writer
	err error
}

func (p *printer) line(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.out, format+"\n", args...)
	}
}
