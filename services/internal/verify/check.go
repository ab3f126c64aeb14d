package verify

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/jmoiron/sqlx"
)

// When says when a check holds.
type When string

// The whens.
const (
	Always When = "always"  // also of a running shop, at every moment
	AtRest When = "at rest" // once nothing is under way any more
)

// Check is something that must hold.
type Check struct {
	Name  string // "<what it is about>/<what is checked>"
	Says  string // what must hold, in a sentence
	When  When
	Holds string // of one that holds always: why it does at every moment

	// query selects what breaks it: the subject, and what is wrong with it. Besides
	// tables it may read the sources (see sources.go), each by its bare name.
	query string
}

// Checks lists all checks, those about the same thing together.
func Checks() []Check {
	return slices.Concat(orderChecks, afterSaleChecks, moneyChecks, bookChecks, stockChecks, messageChecks, notificationChecks)
}

// defaultLimit is how many findings of a check are kept.
const defaultLimit = 20

// run makes the check.
func (c Check) run(ctx context.Context, tx *sqlx.Tx, s sources, limit int) (Result, error) {
	begun := time.Now()
	r := Result{Name: c.Name, Says: c.Says, When: c.When, Holds: c.Holds, First: []Finding{}}
	q := s.query(c.query)
	if q.missing != "" {
		r.Skipped = q.missing
		return r, nil
	}
	var rows []struct {
		Subject string `db:"subject"`
		What    string `db:"what"`
		All     int    `db:"all_found"`
	}
	limited := q.with + `
		SELECT subject, what, count(*) OVER () AS all_found
		FROM (` + c.query + `) AS found (subject, what)
		ORDER BY subject, what
		LIMIT ` + decimal(cmp.Or(limit, defaultLimit))
	if err := tx.SelectContext(ctx, &rows, limited, q.args...); err != nil {
		return r, err
	}
	for _, row := range rows {
		r.Found = row.All
		r.First = append(r.First, Finding{Check: c.Name, Subject: row.Subject, What: row.What})
	}
	r.Millis = time.Since(begun).Milliseconds()
	return r, nil
}
