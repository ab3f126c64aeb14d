package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/pprof"
	"strings"
	"time"
)

// profiler returns what profiles the parts of a system, nil when nobody asked.
func (r *run) profiler(name string, b *base) func(part string) (func() error, error) {
	if r.cfg.Profile == "" {
		return nil
	}
	return func(part string) (func() error, error) {
		if err := os.MkdirAll(r.cfg.Profile, 0o755); err != nil {
			return nil, fmt.Errorf("profile: %w", err)
		}
		file, err := os.Create(filepath.Join(r.cfg.Profile, name+"-"+part+".prof"))
		if err != nil {
			return nil, fmt.Errorf("profile: %w", err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if _, err := b.db.ExecContext(ctx, `CREATE EXTENSION IF NOT EXISTS pg_stat_statements; SELECT pg_stat_statements_reset()`); err != nil {
			return nil, errors.Join(fmt.Errorf("profile: %w", err), file.Close())
		}
		if err := pprof.StartCPUProfile(file); err != nil {
			return nil, errors.Join(fmt.Errorf("profile: %w", err), file.Close())
		}
		return func() error {
			pprof.StopCPUProfile()
			return errors.Join(file.Close(), writeStatements(b, filepath.Join(r.cfg.Profile, name+"-"+part+".txt")))
		}, nil
	}
}

// writeStatements writes the statements that took the server longest.
func writeStatements(b *base, path string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	var rows []struct {
		Calls int64   `db:"calls"`
		Rows  int64   `db:"rows"`
		Total float64 `db:"total"`
		Mean  float64 `db:"mean"`
		Plans int64   `db:"plans"`
		Plan  float64 `db:"plan"`
		Role  string  `db:"role"`
		Query string  `db:"query"`
	}
	err := b.db.SelectContext(ctx, &rows, `
		SELECT s.calls, s.rows, s.total_exec_time AS total, s.mean_exec_time AS mean, s.plans, s.total_plan_time AS plan,
		       s.userid::regrole::text AS role,
		       regexp_replace(s.query, '\s+', ' ', 'g') AS query
		FROM pg_stat_statements s
		WHERE s.dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
		ORDER BY s.total_exec_time + s.total_plan_time DESC LIMIT 100`)
	if err != nil {
		return fmt.Errorf("statements that took longest: %w", err)
	}
	var text strings.Builder
	fmt.Fprintf(&text, "%10s %9s %9s %8s %9s %9s  %-24s %s\n", "total ms", "calls", "rows", "mean ms", "plan ms", "plans", "role", "statement")
	for _, r := range rows {
		query := r.Query
		if len(query) > 160 {
			query = query[:160] + "…"
		}
		fmt.Fprintf(&text, "%10.1f %9d %9d %8.3f %9.1f %9d  %-24s %s\n", r.Total, r.Calls, r.Rows, r.Mean, r.Plan, r.Plans, r.Role, query)
	}
	if err := os.WriteFile(path, []byte(text.String()), 0o644); err != nil {
		return fmt.Errorf("profile: %w", err)
	}
	return nil
}
