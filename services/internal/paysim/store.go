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
	Status        string    `db:"status" json:"status"`       // authorized, declined, captured, voided, expired
	Code          string    `db:"code" json:"code,omitempty"` // why it was declined
	Key           string    `db:"key" json:"key"`
	Reference     string    `db:"reference" json:"reference"` // the caller's own name for it
	AmountMinor   int64     `db:"amount_minor" json:"amount_minor"`
	CapturedMinor int64     `db:"captured_minor" json:"captured_minor"`
	RefundedMinor int64     `db:"refunded_minor" json:"refunded_minor"`
	Currency      string    `db:"currency" json:"currency"`
	CreatedAt     time.Time `db:"created_at" json:"created_at"`
	ConductOp     string    `db:"conduct_op" json:"-"` // what its method token lets go wrong later, "" = nothing
	Misdeed       string    `db:"conduct_misdeed" json:"-"`
}

// operation is a row of the books.
type operation struct {
	ID              int64     `db:"id" json:"id"`
	Key             string    `db:"key" json:"key"`
	Kind            string    `db:"kind" json:"kind"` // authorize, capture, void, expire, refund
	AuthorizationID string    `db:"authorization_id" json:"authorization_id"`
	RefundID        string    `db:"refund_id" json:"refund_id,omitempty"` // of a refund
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
	Failure     string `db:"failure"` // untilLookedUp, forGood: a 500 is given instead; "" = the answer is
	hooks       hooks  // to be delivered about it
}

// How long a stored error is given.
const (
	untilLookedUp = "until_looked_up"
	forGood       = "for_good"
)

// insertAuthorization writes a, its row in the books and its answer. It returns
// errKeyTaken, and has written nothing, when the key was used before; a statement
// under the same key at the same time is waited for.
func (s store) insertAuthorization(ctx context.Context, a authorization, ans answer) error {
	_, err := s.db.ExecContext(ctx, `
		WITH answer AS (
			INSERT INTO paysim.answers (key, fingerprint, status, body, failure)
			VALUES ($1, $2, $3, $4, NULLIF($11, ''))
		), authorized AS (
			INSERT INTO paysim.authorizations (id, key, reference, amount_minor, currency, status, code, conduct_op, conduct_misdeed)
			VALUES ($5, $1, $6, $7, $8, $9, NULLIF($10, ''), NULLIF($12, ''), NULLIF($13, ''))
		), hooks AS (
			INSERT INTO paysim.webhooks (event_id, body, due)
			SELECT $14, $15, clock_timestamp() + make_interval(secs => d) FROM unnest($16::float8[]) d
		)
		INSERT INTO paysim.operations (key, kind, authorization_id, reference, amount_minor, currency, status)
		VALUES ($1, 'authorize', $5, $6, $7, $8, CASE $9 WHEN 'declined' THEN 'declined' ELSE 'succeeded' END)`,
		ans.Key, ans.Fingerprint, ans.Status, ans.Body,
		a.ID, a.Reference, a.AmountMinor, a.Currency, a.Status, a.Code, ans.Failure, a.ConductOp, a.Misdeed,
		ans.hooks.id, ans.hooks.body, ans.hooks.after)
	if isKeyTaken(err) {
		return errKeyTaken
	}
	if err != nil {
		return fmt.Errorf("authorize under key %s: %w", ans.Key, err)
	}
	return nil
}

// captureAuthorization takes amountMinor, the rest is given back. It reports
// false, and has written nothing, when the authorization isn't there, isn't open,
// is smaller, or lets captures go wrong, unless that has happened (anyway);
// errKeyTaken as insertAuthorization does.
func (s store) captureAuthorization(ctx context.Context, id string, amountMinor int64, anyway bool, ans answer) (bool, error) {
	res, err := s.db.ExecContext(ctx, `
		WITH captured AS (
			UPDATE paysim.authorizations
			SET status = 'captured', captured_minor = $6
			WHERE id = $5 AND status = 'authorized' AND amount_minor >= $6 AND (conduct_op IS DISTINCT FROM 'capture' OR $8)
			RETURNING id, reference, currency
		), answer AS (
			INSERT INTO paysim.answers (key, fingerprint, status, body, failure)
			SELECT $1, $2, $3, $4, NULLIF($7, '') FROM captured
		), hooks AS (
			INSERT INTO paysim.webhooks (event_id, body, due)
			SELECT $9, $10, clock_timestamp() + make_interval(secs => d) FROM captured, unnest($11::float8[]) d
		)
		INSERT INTO paysim.operations (key, kind, authorization_id, reference, amount_minor, currency, status)
		SELECT $1, 'capture', id, reference, $6, currency, 'succeeded' FROM captured`,
		ans.Key, ans.Fingerprint, ans.Status, ans.Body, id, amountMinor, ans.Failure, anyway, ans.hooks.id, ans.hooks.body, ans.hooks.after)
	return wrote(res, err, "capture", id)
}

// endAuthorization gives everything back: status is voided or expired. It reports
// as captureAuthorization; op is the operation that found it out.
func (s store) endAuthorization(ctx context.Context, id, status, op string, anyway bool, ans answer) (bool, error) {
	res, err := s.db.ExecContext(ctx, `
		WITH ended AS (
			UPDATE paysim.authorizations
			SET status = $6
			WHERE id = $5 AND status = 'authorized' AND (conduct_op IS DISTINCT FROM $7 OR $9)
			RETURNING id, reference, amount_minor, currency
		), answer AS (
			INSERT INTO paysim.answers (key, fingerprint, status, body, failure)
			SELECT $1, $2, $3, $4, NULLIF($8, '') FROM ended
		), hooks AS (
			INSERT INTO paysim.webhooks (event_id, body, due)
			SELECT $10, $11, clock_timestamp() + make_interval(secs => d) FROM ended, unnest($12::float8[]) d
		)
		INSERT INTO paysim.operations (key, kind, authorization_id, reference, amount_minor, currency, status)
		SELECT $1, CASE $6 WHEN 'expired' THEN 'expire' ELSE 'void' END, id, reference, amount_minor, currency, 'succeeded' FROM ended`,
		ans.Key, ans.Fingerprint, ans.Status, ans.Body, id, status, op, ans.Failure, anyway, ans.hooks.id, ans.hooks.body, ans.hooks.after)
	return wrote(res, err, "end", id)
}

// insertAnswer writes ans alone: an error, or a refusal, that is kept under its
// key. It returns errKeyTaken when the key was used before.
func (s store) insertAnswer(ctx context.Context, ans answer) error {
	_, err := s.db.ExecContext(ctx, `
		INSERT INTO paysim.answers (key, fingerprint, status, body, failure)
		VALUES ($1, $2, $3, $4, NULLIF($5, ''))`,
		ans.Key, ans.Fingerprint, ans.Status, ans.Body, ans.Failure)
	if isKeyTaken(err) {
		return errKeyTaken
	}
	if err != nil {
		return fmt.Errorf("keep an answer under key %s: %w", ans.Key, err)
	}
	return nil
}

// forget drops the answer under key: the provider has never heard of it again.
func (s store) forget(ctx context.Context, key string) error {
	if _, err := s.db.ExecContext(ctx, `DELETE FROM paysim.answers WHERE key = $1`, key); err != nil {
		return fmt.Errorf("forget key %s: %w", key, err)
	}
	return nil
}

// lookedUp ends the stored error under key, if there is one: from now on its
// answer is given, or, when nothing was done, the request can be made.
func (s store) lookedUp(ctx context.Context, key string) error {
	_, err := s.db.ExecContext(ctx, `
		WITH undone AS (
			DELETE FROM paysim.answers
			WHERE key = $1 AND failure = 'until_looked_up' AND status = 500
		)
		UPDATE paysim.answers
		SET failure = NULL
		WHERE key = $1 AND failure = 'until_looked_up' AND status <> 500`, key)
	if err != nil {
		return fmt.Errorf("end the stored error of key %s: %w", key, err)
	}
	return nil
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
		SELECT key, fingerprint, status, body, COALESCE(failure, '') AS failure
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
	return s.getAuthorization(ctx, `WHERE key = $1 ORDER BY created_at LIMIT 1`, key)
}

// findAuthorizationByID returns the authorization id (UUID), or errNotFound.
func (s store) findAuthorizationByID(ctx context.Context, id string) (authorization, error) {
	return s.getAuthorization(ctx, `WHERE id = $1`, id)
}

func (s store) getAuthorization(ctx context.Context, where, arg string) (authorization, error) {
	var a authorization
	err := s.db.GetContext(ctx, &a, `
		SELECT id, key, reference, amount_minor, captured_minor, refunded_minor, currency, status, COALESCE(code, '') AS code, created_at,
			COALESCE(conduct_op, '') AS conduct_op, COALESCE(conduct_misdeed, '') AS conduct_misdeed
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

// failOnce notes that subject (a key, or an operation of an authorization) has had its one failure; false when it had it before.
func (s store) failOnce(ctx context.Context, subject string) (bool, error) {
	res, err := s.db.ExecContext(ctx, `
		INSERT INTO paysim.failures (key)
		VALUES ($1)
		ON CONFLICT (key) DO NOTHING`, subject)
	if err != nil {
		return false, fmt.Errorf("note the failure of %s: %w", subject, err)
	}
	n, err := res.RowsAffected()
	if err != nil {
		return false, fmt.Errorf("note the failure of %s: %w", subject, err)
	}
	return n == 1, nil
}

// isKeyTaken reports whether err says that there is an answer under the key already.
func isKeyTaken(err error) bool {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) || pg.Code != "23505" {
		return false
	}
	return pg.ConstraintName == "answers_pkey"
}
