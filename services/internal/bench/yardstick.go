package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"time"
)

// Parts of a run, as Config.Only names them.
const partYardstick = "yardstick"

// findPgbench returns the pgbench that belongs to the server's own binaries, or
// the one on the PATH.
func (s *stand) findPgbench(ctx context.Context) (string, error) {
	var dir string
	if err := s.admin.GetContext(ctx, &dir, `SELECT setting FROM pg_config WHERE name = 'BINDIR'`); err != nil {
		return "", fmt.Errorf("ask the server for its binaries: %w", err)
	}
	beside := filepath.Join(dir, "pgbench")
	if _, err := os.Stat(beside); err == nil {
		return beside, nil
	}
	path, err := exec.LookPath("pgbench")
	if err != nil {
		return "", fmt.Errorf("no pgbench beside %s (on Debian it comes with postgresql, elsewhere with postgresql-contrib): %w", dir, err)
	}
	return path, nil
}

// bare is what pgbench found with one of the yardstick's scripts.
type bare struct {
	perSecond          float64
	clientMS, serverMS float64 // CPU time per order: pgbench's and PostgreSQL's
}

// pgbench runs one of the yardstick's scripts for d in a fresh database.
func (s *stand) pgbench(ctx context.Context, program, script string, d time.Duration) (found bare, err error) {
	b, err := s.newShopBase(ctx, partYardstick)
	if err != nil {
		return found, err
	}
	defer func() { err = errors.Join(err, b.drop(ctx)) }()
	if err := b.settle(ctx); err != nil {
		return found, err
	}
	text, err := embedded.ReadFile("sql/" + script)
	if err != nil {
		return found, fmt.Errorf("script of the yardstick: %w", err)
	}
	dir, err := os.MkdirTemp("", "orderflow-bench-")
	if err != nil {
		return found, fmt.Errorf("a place for the script of the yardstick: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	file := filepath.Join(dir, script)
	if err := os.WriteFile(file, text, 0o600); err != nil {
		return found, fmt.Errorf("script of the yardstick: %w", err)
	}
	cmd := exec.CommandContext(ctx, program, "-n", "-M", "prepared", "-c", "8", "-j", "2",
		"-T", strconv.Itoa(int(d.Seconds())), "-f", file, b.dsn(""))
	before := readMeter(s.server.PID())
	out, err := cmd.CombinedOutput()
	server := readMeter(s.server.PID()).since(before).server
	if err != nil {
		return found, fmt.Errorf("pgbench: %w: %s", err, out)
	}
	if found.perSecond, err = parsePgbench(string(out)); err != nil {
		return found, err
	}
	var orders int
	if err := b.db.GetContext(ctx, &orders, `SELECT count(*) FROM ordering.orders`); err != nil {
		return found, fmt.Errorf("count the orders of the yardstick: %w", err)
	}
	client := cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	found.clientMS = 1000 * client.Seconds() / float64(orders)
	found.serverMS = 1000 * server / float64(orders)
	return found, checkRows(ctx, b.db, orders)
}

var (
	tpsPattern    = regexp.MustCompile(`(?m)^tps = ([0-9.]+)`)
	failedPattern = regexp.MustCompile(`(?m)^number of failed transactions: ([0-9]+)`)
)

// parsePgbench reads the transactions per second from what pgbench says. A run
// with failed transactions is an error.
func parsePgbench(out string) (float64, error) {
	if m := failedPattern.FindStringSubmatch(out); m != nil && m[1] != "0" {
		return 0, fmt.Errorf("pgbench: %s transactions failed", m[1])
	}
	m := tpsPattern.FindStringSubmatch(out)
	if m == nil {
		return 0, fmt.Errorf("pgbench told no tps: %s", out)
	}
	tps, err := strconv.ParseFloat(m[1], 64)
	if err != nil {
		return 0, fmt.Errorf("pgbench's tps %q: %w", m[1], err)
	}
	return tps, nil
}
