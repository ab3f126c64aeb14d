package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
)

// healLimit is how long after the last fault everything must have come to rest.
const healLimit = 60 * time.Second

// verification is what shopctl verify prints as JSON.
type verification struct {
	Orders int `json:"orders"`
	Dead   int `json:"dead"`
	Checks []struct {
		Name     string `json:"name"`
		Says     string `json:"says"`
		When     string `json:"when"` // "always", "at rest"
		Found    int    `json:"found"`
		Findings []struct {
			Subject string `json:"subject"`
			What    string `json:"what"`
		} `json:"findings"`
	} `json:"checks"`
}

// verify has shopctl check the shop's data in the database at dsn, as it must be at
// rest.
func verify(ctx context.Context, dsn string) (verification, error) {
	var v verification
	path, err := program("shopctl")
	if err != nil {
		return v, err
	}
	cmd := exec.CommandContext(ctx, path, "verify", "--rest", "--json", "--limit", "10")
	cmd.Env = environment(map[string]string{"DATABASE_URL": dsn})
	out, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() != 1 { // 1: it has found something
		return v, fmt.Errorf("shopctl verify: %w\n%s", err, exit.Stderr)
	}
	if exit == nil && err != nil {
		return v, fmt.Errorf("shopctl verify: %w", err)
	}
	if err := json.Unmarshal(out, &v); err != nil {
		return v, fmt.Errorf("shopctl verify prints no report: %w", err)
	}
	return v, nil
}

// found are the findings of checks that hold when, a line for each of the first.
func (v verification) found(when string) string {
	var b strings.Builder
	for _, c := range v.Checks {
		if c.When != when || c.Found == 0 {
			continue
		}
		fmt.Fprintf(&b, "\n    %s (%s): %d findings", c.Name, c.Says, c.Found)
		for _, f := range c.Findings {
			fmt.Fprintf(&b, "\n        %s: %s", f.Subject, f.What)
		}
	}
	return b.String()
}

// CheckShop waits until the shop whose database is at dsn, as its administrator, has
// come to rest, for up to a minute, and checks what must hold, whatever was done to
// it. placed are the ids of orders that customers were promised (2xx): each of them
// must be there. What holds always must hold at every look. It returns the last
// look, and after what time all was at rest.
func CheckShop(t testing.TB, dsn string, placed ...string) (v verification, rest time.Duration) {
	t.Helper()
	started := time.Now()
	for {
		var err error
		if v, err = verify(t.Context(), dsn); err != nil {
			t.Fatal(err)
		}
		under, broken := v.found("at rest"), v.found("always")
		if broken != "" {
			t.Errorf("broken:%s", broken)
			break
		}
		if under == "" {
			if v.Dead > 0 {
				t.Errorf("%d dead letters, want none", v.Dead)
			}
			rest = since(started)
			t.Logf("at rest after %s", rest)
			break
		}
		if time.Since(started) > healLimit {
			t.Errorf("after %s the shop is not at rest:%s", healLimit, under)
			break
		}
		time.Sleep(scaled(time.Second, 300*time.Millisecond)) // a look is work for the database, too
	}
	db, err := openDB(dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}()
	var lost []string
	err = db.SelectContext(t.Context(), &lost, `
		SELECT id::text
		FROM unnest($1::uuid[]) AS promised (id)
		WHERE NOT EXISTS (SELECT FROM orders.orders o WHERE o.id = promised.id)`, placed)
	if err != nil {
		t.Fatalf("look for the promised orders: %v", err)
	}
	if len(lost) > 0 {
		t.Errorf("%d of %d promised orders don't exist: %v", len(lost), len(placed), lost)
	}
	tellOrders(t, db)
	return v, rest
}

// CheckLoad checks that there are just as many orders as a load was promised.
func CheckLoad(t testing.TB, db *sqlx.DB, r LoadResult) {
	t.Helper()
	var n int
	if err := db.GetContext(t.Context(), &n, `SELECT count(*) FROM orders.orders WHERE customer_id = $1`, r.Customer); err != nil {
		t.Fatalf("count the load's orders: %v", err)
	}
	if n != r.Placed {
		t.Errorf("%d orders were promised to the load, %d exist", r.Placed, n)
	}
}

// tellOrders logs how the shop's orders stand.
func tellOrders(t testing.TB, db *sqlx.DB) {
	t.Helper()
	var list []string
	err := db.SelectContext(t.Context(), &list, `SELECT format('%s %s', count(*), status) FROM orders.orders GROUP BY status ORDER BY status`)
	if err != nil {
		t.Fatalf("count the orders: %v", err)
	}
	t.Logf("orders: %s", strings.Join(list, ", "))
}
