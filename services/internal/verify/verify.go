package verify

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/jmoiron/sqlx"
)

// Options say what Run checks.
type Options struct {
	// Rest has the checks made that hold only once everything has come to rest.
	Rest bool
	// Limit is how many findings of a check are kept, 0 = 20; all are counted.
	Limit int
	// Provider is where the provider's books are read when the database has none;
	// without an URL the checks that need them are skipped.
	Provider Provider
	// Progress is called before each check; nil = nobody asks.
	Progress func(done, all int, name string)
}

// Finding is something that must not be.
type Finding struct {
	Check   string `json:"check"`
	Subject string `json:"subject"` // "order <id>", "SKU <sku>", "message <id>", …
	What    string `json:"what"`    // is wrong with it
}

// Result is what came of a check.
type Result struct {
	Name    string    `json:"name"`
	Says    string    `json:"says"`
	When    When      `json:"when"`
	Holds   string    `json:"holds,omitempty"`   // Check.Holds
	Found   int       `json:"found"`             // findings, all of them
	First   []Finding `json:"findings"`          // the first of them, by subject
	Skipped string    `json:"skipped,omitempty"` // why it wasn't made
	Millis  int64     `json:"ms"`
}

// Report is what Run found.
type Report struct {
	At     time.Time `json:"at"`   // of the snapshot, real time
	Rest   bool      `json:"rest"` // Options.Rest
	Books  string    `json:"books"`
	Orders int       `json:"orders"`
	// Dead are letters that wait for an operator, Breaks differences that the
	// reconciliation has noted: no findings, as what they are about may be right by now.
	Dead    int      `json:"dead"`
	Breaks  int      `json:"breaks"`
	Took    int64    `json:"took_ms"`
	Results []Result `json:"checks"`
}

// Found counts the findings.
func (r Report) Found() int {
	n := 0
	for _, c := range r.Results {
		n += c.Found
	}
	return n
}

// Skipped counts the checks that weren't made.
func (r Report) Skipped() int {
	n := 0
	for _, c := range r.Results {
		if c.Skipped != "" {
			n++
		}
	}
	return n
}

// Run checks the shop in db, an administrator's pool. Its error means that the
// checks could not be made; what is wrong with the data is in the Report.
func Run(ctx context.Context, db *sqlx.DB, opts Options) (_ Report, err error) {
	begun := time.Now()
	books, err := openBooks(ctx, db, opts.Provider)
	if err != nil {
		return Report{}, err
	}
	tx, err := db.BeginTxx(ctx, &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true})
	if err != nil {
		return Report{}, fmt.Errorf("begin to verify: %w", err)
	}
	defer func() {
		if rerr := tx.Rollback(); err == nil && rerr != nil && !errors.Is(rerr, sql.ErrTxDone) {
			err = fmt.Errorf("end the verifying: %w", rerr)
		}
	}()
	report, err := check(ctx, tx, books, opts)
	report.Took = time.Since(begun).Milliseconds()
	return report, err
}

// settings make the planner free again, which a service's pool binds to small
// statements that find their rows by an index: these read whole tables.
const settings = `
	SET LOCAL statement_timeout = '10min';
	SET LOCAL idle_in_transaction_session_timeout = '10min';
	SET LOCAL enable_seqscan = on;
	SET LOCAL enable_bitmapscan = on;
	SET LOCAL plan_cache_mode = auto;
	SET LOCAL work_mem = '64MB'`

// check makes the checks in tx, which sees all at one moment.
func check(ctx context.Context, tx *sqlx.Tx, b *books, opts Options) (Report, error) {
	if _, err := tx.ExecContext(ctx, settings); err != nil {
		return Report{}, fmt.Errorf("prepare to verify: %w", err)
	}
	report := Report{Rest: opts.Rest, Books: b.name}
	// The first statement takes the snapshot.
	if err := tx.GetContext(ctx, &report.At, `SELECT clock_timestamp()`); err != nil {
		return report, fmt.Errorf("take the snapshot: %w", err)
	}
	if err := b.readOn(ctx); err != nil {
		return report, err
	}
	s, err := sourcesOf(ctx, tx, b)
	if err != nil {
		return report, err
	}
	err = tx.QueryRowxContext(ctx, s.query(`
		SELECT (SELECT count(*) FROM orders.orders),
		       (SELECT count(*) FROM queued WHERE dead_reason IS NOT NULL) + (SELECT count(*) FROM outgoing WHERE dead_reason IS NOT NULL),
		       (SELECT count(*) FROM payments.breaks WHERE resolved_at IS NULL)`).sql).
		Scan(&report.Orders, &report.Dead, &report.Breaks)
	if err != nil {
		return report, fmt.Errorf("count the orders: %w", err)
	}
	var list []Check
	for _, c := range Checks() {
		if c.When == Always || opts.Rest {
			list = append(list, c)
		}
	}
	for i, c := range list {
		if opts.Progress != nil {
			opts.Progress(i, len(list), c.Name)
		}
		r, err := c.run(ctx, tx, s, opts.Limit)
		if err != nil {
			return report, fmt.Errorf("check %s: %w", c.Name, err)
		}
		report.Results = append(report.Results, r)
	}
	return report, nil
}
