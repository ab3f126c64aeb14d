package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"time"
)

// Config says what to measure.
type Config struct {
	// Quick measures everything but the backlog, once and briefly: for a look, not
	// for figures to quote.
	Quick bool
	// Only names the parts to measure; none = all of Parts.
	Only []string
	// Rounds is how often; 0 = three, with Quick one.
	Rounds int
	// Progress gets a line now and then; nil = nobody.
	Progress io.Writer
	// Log gets what the services have to say; nil = nobody.
	Log *slog.Logger
	// Profile is a directory for CPU profiles of this process and the statements
	// that took the server longest; "" = none. It costs a little speed.
	Profile string

	asked bool // for so many rounds, however long they take
}

// roundsLimit is when no further round is begun, unless so many were asked for:
// the whole run is to take 15 minutes at most.
const roundsLimit = 11 * time.Minute

// Names of the parts besides the yardstick and the contenders.
const (
	partChain     = "chain"
	partShop      = "shop"
	partIdle      = "idle"
	partBacklog   = "backlog"
	partConsumers = "consumers"
)

// Parts are the names that Config.Only knows.
func Parts() []string {
	parts := []string{partYardstick, partChain}
	for _, c := range contenders {
		parts = append(parts, c.name)
	}
	return append(parts, partShop, partIdle, partBacklog, partConsumers)
}

// run is one under way.
type run struct {
	cfg     Config
	stand   *stand
	report  *Report
	six     []float64 // orders per second of pgbench, round by round
	one     []float64
	sixCPU  []float64 // ms per order
	systems map[string]*System
}

// Run measures what cfg says and returns the figures. It returns an error when
// something can't be measured, and when the rows of a run are not as they must be.
func Run(ctx context.Context, cfg Config) (_ *Report, err error) {
	for _, name := range cfg.Only {
		if !slices.Contains(Parts(), name) {
			return nil, fmt.Errorf("no part %q, only %s", name, strings.Join(Parts(), ", "))
		}
	}
	if cfg.asked = cfg.Rounds > 0; !cfg.asked {
		cfg.Rounds = 3
		if cfg.Quick {
			cfg.Rounds = 1
		}
	}
	if cfg.Progress == nil {
		cfg.Progress = io.Discard
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	r := &run{cfg: cfg, systems: map[string]*System{}}
	if r.stand, err = newStand(ctx, cfg.Log, cfg.Profile != ""); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.stand.close(ctx)) }()
	r.report = &Report{
		Started: time.Now().UTC().Truncate(time.Second), Quick: cfg.Quick, Rounds: cfg.Rounds, Systems: []*System{},
		Machine: Machine{
			OS: runtime.GOOS + "/" + runtime.GOARCH, Cores: runtime.NumCPU(), Go: runtime.Version(),
			Postgres: r.stand.server.Version(), FlushMS: float64(r.stand.flush) / float64(time.Millisecond),
		},
	}
	if err := r.all(ctx); err != nil {
		return nil, err
	}
	r.sum()
	return r.report, nil
}

// wants reports whether the part was asked for.
func (r *run) wants(part string) bool {
	if len(r.cfg.Only) == 0 {
		return part != partBacklog || !r.cfg.Quick
	}
	return slices.Contains(r.cfg.Only, part)
}

func (r *run) tell(format string, args ...any) {
	// Nobody is served by a run that ends because its progress can't be shown.
	if _, err := fmt.Fprintf(r.cfg.Progress, format+"\n", args...); err != nil {
		r.cfg.Progress = io.Discard
	}
}

// all measures everything that was asked for, the rounds one after the other, so
// that what the machine does meanwhile hits all alike.
func (r *run) all(ctx context.Context) (err error) {
	rivals, done, err := r.prepareContenders(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, done()) }()
	started := time.Now()
	for round := range r.cfg.Rounds {
		if mean := time.Since(started) / time.Duration(max(1, round)); !r.cfg.asked && round > 0 && time.Since(started)+mean > roundsLimit {
			r.tell("no time for round %d: this machine is slow or busy", round+1)
			r.report.Rounds = round
			break
		}
		r.tell("round %d of %d", round+1, r.cfg.Rounds)
		if r.wants(partYardstick) {
			if err := r.yardstick(ctx); err != nil {
				return err
			}
		}
		if r.wants(partChain) {
			if err := r.measure(ctx, r.chainCase()); err != nil {
				return err
			}
		}
		for _, c := range rivals {
			if err := r.measure(ctx, c); err != nil {
				return err
			}
		}
		if r.wants(partShop) {
			if err := r.measure(ctx, r.shopCase()); err != nil {
				return err
			}
		}
	}
	if r.wants(partIdle) {
		if err := r.idle(ctx); err != nil {
			return err
		}
	}
	if r.wants(partBacklog) {
		if err := r.backlog(ctx); err != nil {
			return err
		}
	}
	if r.wants(partConsumers) {
		return r.consumers(ctx)
	}
	return nil
}

func (r *run) yardstick(ctx context.Context) error {
	program, err := r.stand.findPgbench(ctx)
	if err != nil {
		return err
	}
	d := 10 * time.Second
	if r.cfg.Quick {
		d = 3 * time.Second
	}
	six, err := r.stand.pgbench(ctx, program, "order6tx.sql", d)
	if err != nil {
		return fmt.Errorf("yardstick in six transactions: %w", err)
	}
	one, err := r.stand.pgbench(ctx, program, "order1tx.sql", d)
	if err != nil {
		return fmt.Errorf("yardstick in one transaction: %w", err)
	}
	r.six, r.one = append(r.six, six.perSecond), append(r.one, one.perSecond)
	r.sixCPU = append(r.sixCPU, six.clientMS+six.serverMS)
	r.tell("  pgbench: %.0f orders/s in six transactions (CPU per order: pgbench %.2f, PostgreSQL %.2f ms), %.0f in one (%.2f, %.2f ms)",
		six.perSecond, six.clientMS, six.serverMS, one.perSecond, one.clientMS, one.serverMS)
	return nil
}

// aCase is a system to be measured, from its empty database on.
type aCase struct {
	name, title, settings string
	load                  load
	books                 books
	newBase               func(context.Context) (*base, error)
	start                 func(context.Context, *base) (system, error)
	check                 func(ctx context.Context, b *base, placed int) error
}

// measure runs a case once.
func (r *run) measure(ctx context.Context, c aCase) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("%s: %w", c.name, err)
		}
	}()
	b, err := c.newBase(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.drop(ctx)) }()
	sys, err := c.start(ctx, b)
	if err != nil {
		return err
	}
	d := &driver{
		system: sys, db: b.db, books: c.books, load: c.load, flush: r.stand.flush, during: r.profiler(c.name, b),
		meter: func() meter { return readMeter(r.stand.server.PID(), sys.pids()...) },
	}
	m, err := d.run(ctx)
	if err = errors.Join(err, sys.stop(ctx)); err != nil {
		return err
	}
	if err := c.check(ctx, b, d.placed); err != nil {
		return fmt.Errorf("the rows are not as they must be: %w", err)
	}
	s := r.systems[c.name]
	if s == nil {
		s = &System{Name: c.name, Title: c.title, Settings: c.settings, Burst: c.load.burst, Rate: c.load.rate}
		r.systems[c.name] = s
		r.report.Systems = append(r.report.Systems, s)
	}
	s.rounds = append(s.rounds, m)
	over := ""
	if len(r.six) > 0 {
		ratio := m.perSecond / r.six[len(r.six)-1]
		s.ratios = append(s.ratios, ratio)
		over = fmt.Sprintf(" (%.2f of six transactions)", ratio)
	}
	r.tell("  %s: %.0f orders/s%s, at %g/s p50 %.1f ms, p99 %.1f ms; CPU in the burst: Go %.2f, PostgreSQL %.2f, others %.2f cores",
		c.title, m.perSecond, over, c.load.rate, percentile(m.latencies, .5), percentile(m.latencies, .99),
		m.burst.goCores(), m.burst.serverCores(), m.burst.otherCores())
	return nil
}

// chainCase is the yardstick's order on the messaging layer.
func (r *run) chainCase() aCase {
	return aCase{
		name: partChain, title: "Orderflow messaging (chain)", settings: chainSettings, load: r.load(10000, 1500), books: shopBooks,
		newBase: func(ctx context.Context) (*base, error) { return r.stand.newBase(ctx, partChain) },
		start: func(ctx context.Context, b *base) (system, error) {
			c, err := startChain(ctx, b)
			if err != nil {
				return nil, err
			}
			return c, nil
		},
		check: func(ctx context.Context, b *base, placed int) error {
			return errors.Join(checkRows(ctx, b.db, placed), checkRules(ctx, b.db, chainRules(placed)))
		},
	}
}

// load is how hard a system is driven with a burst of full orders, or of quick
// ones in a quick run.
func (r *run) load(full, quick int) load {
	if r.cfg.Quick {
		return load{warmUp: 40, rate: 50, open: 5 * time.Second, burst: quick, patience: time.Minute}
	}
	return load{warmUp: 80, rate: 50, open: 20 * time.Second, burst: full, patience: 2 * time.Minute}
}

// sum fills in the figures over all rounds.
func (r *run) sum() {
	if len(r.six) > 0 {
		six, one := spread(r.six), spread(r.one)
		r.report.SixTransactions, r.report.OneTransaction = &six, &one
		r.report.SixCPUMS = spread(r.sixCPU).Median
	}
	for _, s := range r.report.Systems {
		s.sum()
		switch {
		case s.Ratio == nil:
		case s.Name == partChain:
			r.report.RatioToRaw6Tx = s.Ratio.Median
		case s.Name == partShop:
			r.report.ShopRatio = s.Ratio.Median
		}
	}
}
