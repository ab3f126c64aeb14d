package paysim

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/google/uuid"

	"example.com/orderflow/messaging/httpapi"
)

// refundRequest is the body of POST /provider/v1/authorizations/{id}/refunds.
type refundRequest struct {
	AmountMinor int64  `json:"amount_minor" validate:"min=1,max=1000000000000"`
	Reason      string `json:"reason" validate:"required,max=100"`
}

// refund is money that was given back, or that the provider refused to give back.
type refund struct {
	ID              string    `db:"id" json:"id"`
	AuthorizationID string    `db:"authorization_id" json:"authorization_id"`
	Key             string    `db:"key" json:"key"`
	AmountMinor     int64     `db:"amount_minor" json:"amount_minor"`
	Reason          string    `db:"reason" json:"reason"`
	Status          string    `db:"status" json:"status"`       // refunded, refused
	Code            string    `db:"code" json:"code,omitempty"` // why it was refused
	CreatedAt       time.Time `db:"created_at" json:"created_at"`
}

// refund answers POST /provider/v1/authorizations/{id}/refunds: 200 refunded; 409
// for what wasn't captured or is refused, 422 for more than is left of it.
func (s *Server) refund(w http.ResponseWriter, r *http.Request) error {
	body, err := httpapi.Decode[refundRequest](w, r)
	if err != nil {
		return err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return fmt.Errorf("make a refund id: %w", err)
	}
	given := refund{ID: id.String(), AmountMinor: body.AmountMinor, Reason: body.Reason, Status: "refunded"}
	return s.settle(w, r, settlement{
		op: opRefund, body: body, says: result{ID: given.ID, Status: "refunded", AmountMinor: body.AmountMinor},
		act: func(ctx context.Context, id string, anyway bool, ans answer) (bool, error) {
			given.AuthorizationID = id
			return s.store.insertRefund(ctx, given, anyway, ans)
		},
		refuse: func(ctx context.Context, id string, ans answer) error {
			given.AuthorizationID, given.Status, given.Code = id, "refused", refusalCode(opRefund)
			return s.store.insertRefusal(ctx, given, ans)
		},
	})
}

// findRefund answers GET /provider/v1/refunds?key=: what became of the refund that
// was asked for under that Idempotency-Key; 404 when nothing was done under it.
func (s *Server) findRefund(w http.ResponseWriter, r *http.Request) error {
	key := r.URL.Query().Get("key")
	if key == "" {
		return httpapi.NewProblem(http.StatusBadRequest, "invalid-parameter", "key: the Idempotency-Key of the refund")
	}
	if done, err := s.misread(w, r, opLookUp); done || err != nil {
		return err
	}
	if err := s.store.lookedUp(r.Context(), key); err != nil {
		return err
	}
	found, err := s.store.findRefund(r.Context(), key)
	if errors.Is(err, errNotFound) {
		return httpapi.NotFound()
	}
	if err != nil {
		return err
	}
	return httpapi.WriteJSON(w, http.StatusOK, found)
}

// insertRefund gives f.AmountMinor back. It reports as captureAuthorization; what
// was given back before counts.
func (s store) insertRefund(ctx context.Context, f refund, anyway bool, ans answer) (bool, error) {
	res, err := s.db.ExecContext(ctx, `
		WITH refunded AS (
			UPDATE paysim.authorizations
			SET refunded_minor = refunded_minor + $6
			WHERE id = $5 AND status = 'captured' AND refunded_minor + $6 <= captured_minor AND (conduct_op IS DISTINCT FROM 'refund' OR $10)
			RETURNING id, reference, currency
		), answer AS (
			INSERT INTO paysim.answers (key, fingerprint, status, body, failure)
			SELECT $1, $2, $3, $4, NULLIF($9, '') FROM refunded
		), refund AS (
			INSERT INTO paysim.refunds (id, key, authorization_id, amount_minor, reason, status)
			SELECT $7, $1, id, $6, $8, 'refunded' FROM refunded
		), hooks AS (
			INSERT INTO paysim.webhooks (event_id, body, due)
			SELECT $11, $12, clock_timestamp() + make_interval(secs => d) FROM refunded, unnest($13::float8[]) d
		)
		INSERT INTO paysim.operations (key, kind, authorization_id, refund_id, reference, amount_minor, currency, status)
		SELECT $1, 'refund', id, $7, reference, $6, currency, 'succeeded' FROM refunded`,
		ans.Key, ans.Fingerprint, ans.Status, ans.Body, f.AuthorizationID, f.AmountMinor, f.ID, f.Reason, ans.Failure, anyway,
		ans.hooks.id, ans.hooks.body, ans.hooks.after)
	return wrote(res, err, "refund", f.AuthorizationID)
}

// insertRefusal writes that f was refused, and its answer. It returns errKeyTaken
// when the key was used before.
func (s store) insertRefusal(ctx context.Context, f refund, ans answer) error {
	_, err := s.db.ExecContext(ctx, `
		WITH answer AS (
			INSERT INTO paysim.answers (key, fingerprint, status, body)
			VALUES ($1, $2, $3, $4)
		)
		INSERT INTO paysim.refunds (id, key, authorization_id, amount_minor, reason, status, code)
		VALUES ($5, $1, $6, $7, $8, 'refused', $9)`,
		ans.Key, ans.Fingerprint, ans.Status, ans.Body, f.ID, f.AuthorizationID, f.AmountMinor, f.Reason, f.Code)
	if isKeyTaken(err) {
		return errKeyTaken
	}
	if err != nil {
		return fmt.Errorf("refuse a refund under key %s: %w", ans.Key, err)
	}
	return nil
}

// findRefund returns the refund that was asked for under key, or errNotFound.
func (s store) findRefund(ctx context.Context, key string) (refund, error) {
	var f refund
	err := s.db.GetContext(ctx, &f, `
		SELECT id, authorization_id, key, amount_minor, reason, status, COALESCE(code, '') AS code, created_at
		FROM paysim.refunds
		WHERE key = $1
		ORDER BY created_at
		LIMIT 1`, key)
	if errors.Is(err, sql.ErrNoRows) {
		return f, errNotFound
	}
	if err != nil {
		return f, fmt.Errorf("read the refund under key %s: %w", key, err)
	}
	f.CreatedAt = f.CreatedAt.UTC()
	return f, nil
}
