package paysim

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jmoiron/sqlx"
)

// errKeyTaken: something was already done under the key; its answer is stored.
var errKeyTaken = errors.New("the key is taken")

// errNotFound: there is no such row.
var errNotFound = errors.New("not found")

// store is the provider's books. Each of its writes is one statement: an effect,
// its row in the books and its stored answer, all or nothing.
type store struct{ db *sqlx.DB }

// authorization is what a customer's bank was asked for.
type authorization struct {
	ID            string    `db:"id" json:"id"`
	Status        string    `db:"status" json:"status"`       // authorized, declined, captured, voided
	Code          string    `db:"code" json:"code,omitempty"` // why it was declined
	Key           string    `db:"key" json:"key"`
	Reference     string    `db:"reference" json:"reference"` // the caller's own name for it
	AmountMinor   int64     `db:"amount_minor" json:"amount_minor"`
	CapturedMinor int64     `db:"captured_minor" json:"captured_minor"`
	Currency      string    `db:"currency" json:"currency"`
	CreatedAt     time.Time `db:"created_at" json:"created_at"`
}

// operation is a row of the books.
type operation struct {
	ID              int64     `db:"id" json:"id"`
	Key             string    `db:"key" json:"key"`
	Kind            string    `db:"kind" json:"kind"` // authorize, capture, void
	AuthorizationID string    `db:"authorization_id" json:"authorization_id"`
	Reference       string    `db:"reference" json:"reference"`
	AmountMinor     int64     `db:"amount_minor" json:"amount_minor"`
	Currency        string    `db:"currency" json:"currency"`
	Status          string    `db:"status" json:"status"` // succeeded, declined
	At              time.Time `db:"at" json:"at"`
}

// answer is what a request was answered, kept under its key.
type answer struct {
	Key         string `db:"key"`
	Fingerprint string `db:"fingerprint"` // of the request
	Status      int    `db:"status"`      // of the HTTP response
	Body        []byte `db:"body"`
}

// insertAuthorization writes a, its row in the books and its answer. It returns
// errKeyTaken, and has written nothing, when the key was used before; a statement
// under the same key at the same time is waited for.
func (s store) insertAuthorization(ctx context.Context, a authorization, ans answer) error {
	_, err := s.db.ExecContext(ctx, `
		WITH answer AS (
			INSERT INTO paysim.answers (key, fingerprint, status, body)
			VALUES ($1, $2, $3, $4)
		), authorized AS (
			INSERT INTO paysim.authorizations (id, key, reference, amount_minor, currency, status, code)
			VALUES ($5, $1, $6, $7, $8, $9, NULLIF($10, ''))
		)
		INSERT INTO paysim.operations (key, kind, authorization_id, reference, amount_minor, currency, status)
		VALUES ($1, 'authorize', $5, $6, $7, $8, CASE $9 WHEN 'declined' THEN 'declined' ELSE 'succeeded' END)`,
		ans.Key, ans.Fingerprint, ans.Status, ans.Body,
		a.ID, a.Reference, a.AmountMinor, a.Currency, a.Status, a.Code)
	if isKeyTaken(err) {
		return errKeyTaken
	}
	if err != nil {
		return fmt.Errorf("authorize under key %s: %w", ans.Key, err)
	}
	return nil
}

// captureAuthorization takes amountMinor, the rest is given back. It reports
// false, and has written nothing, when the authorization isn't there, isn't open
// or is smaller; errKeyTaken as insertAuthorization does.
func (s store) captureAuthorization(ctx context.Context, id string, amountMinor int64, ans answer) (bool, error) {
	res, err := s.db.ExecContext(ctx, `
		WITH captured AS (
			UPDATE paysim.authorizations
			SET status = 'captured', captured_minor = $6
			WHERE id = $5 AND status = 'authorized' AND amount_minor >= $6
			RETURNING id, reference, currency
		), answer AS (
			INSERT INTO paysim.answers (key, fingerprint, status, body)
			SELECT $1, $2, $3, $4 FROM captured
		)
		INSERT INTO paysim.operations (key, kind, authorization_id, reference, amount_minor, currency, status)
		SELECT $1, 'capture', id, reference, $6, currency, 'succeeded' FROM captured`,
		ans.Key, ans.Fingerprint, ans.Status, ans.Body, id, amountMinor)
	return wrote(res, err, "capture", id)
}

// voidAuthorization gives everything back. It reports as captureAuthorization.
func (s store) voidAuthorization(ctx context.Context, id string, ans answer) (bool, error) {
	res, err := s.db.ExecContext(ctx, `
		WITH voided AS (
			UPDATE paysim.authorizations
			SET status = 'voided'
			WHERE id = $5 AND status = 'authorized'
			RETURNING id, reference, amount_minor, currency
		), answer AS (
			INSERT INTO paysim.answers (key, fingerprint, status, body)
			SELECT $1, $2, $3, $4 FROM voided
		)
		INSERT INTO paysim.operations (key, kind, authorization_id, reference, amount_minor, currency, status)
		SELECT $1, 'void', id, reference, amount_minor, currency, 'succeeded' FROM voided`,
		ans.Key, ans.Fingerprint, ans.Status, ans.Body, id)
	return wrote(res, err, "void", id)
}

func wrote(res sql.Result, err error, verb, id string) (bool, error) {
	if isKeyTaken(err) {
		return false, errKeyTaken
	}
	if err != nil {
		return false, fmt.Errorf("%s authorization %s: %w", verb, id, err)
	}
	n, err := res.RowsAffected()
	if err != nil {
		return false, fmt.Errorf("%s authorization %s: %w", verb, id, err)
	}
	return n == 1, nil
}

// findAnswer returns what was answered under key, or errNotFound.
func (s store) findAnswer(ctx context.Context, key string) (answer, error) {
	var a answer
	err := s.db.GetContext(ctx, &a, `
		SELECT key, fingerprint, status, body
		FROM paysim.answers
		WHERE key = $1`, key)
	if errors.Is(err, sql.ErrNoRows) {
		return a, errNotFound
	}
	if err != nil {
		return a, fmt.Errorf("read the answer under key %s: %w", key, err)
	}
	return a, nil
}

// findAuthorization returns the authorization that was asked for under key, or
// errNotFound.
func (s store) findAuthorization(ctx context.Context, key string) (authorization, error) {
	return s.getAuthorization(ctx, `WHERE key = $1`, key)
}

// findAuthorizationByID returns the authorization id (UUID), or errNotFound.
func (s store) findAuthorizationByID(ctx context.Context, id string) (authorization, error) {
	return s.getAuthorization(ctx, `WHERE id = $1`, id)
}

func (s store) getAuthorization(ctx context.Context, where, arg string) (authorization, error) {
	var a authorization
	err := s.db.GetContext(ctx, &a, `
		SELECT id, key, reference, amount_minor, captured_minor, currency, status, COALESCE(code, '') AS code, created_at
		FROM paysim.authorizations `+where, arg)
	if errors.Is(err, sql.ErrNoRows) {
		return a, errNotFound
	}
	if err != nil {
		return a, fmt.Errorf("read authorization %s: %w", arg, err)
	}
	a.CreatedAt = a.CreatedAt.UTC()
	return a, nil
}

// failOnce notes that key has had its one failure; false when it had it before.
func (s store) failOnce(ctx context.Context, key string) (bool, error) {
	res, err := s.db.ExecContext(ctx, `
		INSERT INTO paysim.failures (key)
		VALUES ($1)
		ON CONFLICT (key) DO NOTHING`, key)
	if err != nil {
		return false, fmt.Errorf("note the failure of key %s: %w", key, err)
	}
	n, err := res.RowsAffected()
	if err != nil {
		return false, fmt.Errorf("note the failure of key %s: %w", key, err)
	}
	return n == 1, nil
}

// pageOperations reads up to limit rows of the books after the row after, oldest
// first; reference "" means all. Ids are given out before commit: a reader that
// follows the books while they grow may miss a row that an older transaction adds
// late, one that reads them at rest misses none.
func (s store) pageOperations(ctx context.Context, reference string, after int64, limit int) ([]operation, error) {
	list := []operation{}
	where, args := `WHERE id > $1`, []any{after, limit}
	if reference != "" {
		where, args = `WHERE id > $1 AND reference = $3`, append(args, reference)
	}
	err := s.db.SelectContext(ctx, &list, `
		SELECT id, key, kind, authorization_id, reference, amount_minor, currency, status, at
		FROM paysim.operations `+where+`
		ORDER BY id
		LIMIT $2`, args...)
	if err != nil {
		return nil, fmt.Errorf("read the books: %w", err)
	}
	for i := range list {
		list[i].At = list[i].At.UTC()
	}
	return list, nil
}

// isKeyTaken reports whether err says that the key is in one of the tables
// already: which of them is asked first is the database's choice.
func isKeyTaken(err error) bool {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) || pg.Code != "23505" {
		return false
	}
	switch pg.ConstraintName {
	case "answers_pkey", "authorizations_key_key", "operations_key_key":
		return true
	}
	return false
}
