package payments

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"example.com/orderflow/messaging"
	"example.com/orderflow/messaging/httpapi"
)

// Discrepancy is what our ledger and the provider's books don't agree about.
type Discrepancy struct {
	ID          int64      `db:"id" json:"id"`
	What        string     `db:"what" json:"what"`                           // one of Break…
	Key         string     `db:"key" json:"key"`                             // "<kind> <the provider's name>"
	OrderID     *string    `db:"order_id" json:"order_id,omitempty"`         // where it is known
	OursMinor   *int64     `db:"ours_minor" json:"ours_minor,omitempty"`     // nil = we know nothing of it
	TheirsMinor *int64     `db:"theirs_minor" json:"theirs_minor,omitempty"` // nil = the provider knows nothing of it
	FirstSeen   time.Time  `db:"first_seen" json:"first_seen"`
	ResolvedAt  *time.Time `db:"resolved_at" json:"resolved_at,omitempty"` // nil = it is still there
}

// breaksCursor is where a page of breaks ended.
type breaksCursor struct {
	ID int64 `json:"id" validate:"min=1"`
}

// showBreaks answers an operator's GET /v1/payments/breaks?open=true: newest first;
// with open only those that are still there.
func (s *Service) showBreaks(w http.ResponseWriter, r *http.Request) error {
	if err := httpapi.RequireOperator(r); err != nil {
		return err
	}
	page, err := httpapi.PageParams(r, "open=oneof=true false")
	if err != nil {
		return err
	}
	last := breaksCursor{ID: 1<<63 - 1}
	if page.Cursor != "" {
		if last, err = httpapi.DecodeCursor[breaksCursor](page.Cursor); err != nil {
			return err
		}
	}
	list, err := s.store.pageBreaks(r.Context(), page.Filters["open"] == "true", last.ID, page.Limit+1)
	if err != nil {
		return err
	}
	next := ""
	if len(list) > page.Limit {
		list = list[:page.Limit]
		if next, err = httpapi.EncodeCursor(breaksCursor{list[page.Limit-1].ID}); err != nil {
			return err
		}
	}
	return httpapi.WriteJSON(w, http.StatusOK, struct {
		Breaks     []Discrepancy `json:"breaks"`
		NextCursor string        `json:"next_cursor,omitempty"` // "" = that was all
	}{list, next})
}

// startReconciliation answers an operator's POST /v1/payments/reconciliations: our
// ledger is compared with the provider's books from where the last time ended, 202.
// It leaves a row in the audit.
func (s *Service) startReconciliation(w http.ResponseWriter, r *http.Request) error {
	if err := httpapi.RequireOperator(r); err != nil {
		return err
	}
	err := s.bus.InTx(r.Context(), func(ctx context.Context, tx *messaging.Tx) error {
		s.store.insertDeed(tx, httpapi.CustomerID(r), httpapi.RoleOf(r), "reconcile", httpapi.RequestID(ctx))
		return s.askForReconciliation(ctx, tx, time.Time{}, time.Time{})
	})
	if err != nil {
		return err
	}
	return httpapi.WriteJSON(w, http.StatusAccepted, map[string]string{"status": "asked for"})
}

// insertDeed queues a row of the audit: what an operator did.
func (s store) insertDeed(tx *messaging.Tx, who string, role httpapi.Role, action, requestID string) {
	tx.Queue(`
		INSERT INTO payments.audit (who, role, action, request_id)
		VALUES ($1, $2, $3, $4)`, who, role, action, requestID)
}

// pageBreaks reads up to limit breaks before the id before, newest first.
func (s store) pageBreaks(ctx context.Context, open bool, before int64, limit int) ([]Discrepancy, error) {
	list := []Discrepancy{}
	err := s.db.SelectContext(ctx, &list, `
		SELECT id, what, key, order_id::text, ours_minor, theirs_minor, first_seen, resolved_at
		FROM payments.breaks
		WHERE id < $1 AND (resolved_at IS NULL OR NOT $2)
		ORDER BY id DESC
		LIMIT $3`, before, open, limit)
	if err != nil {
		return nil, fmt.Errorf("list breaks: %w", err)
	}
	return list, nil
}
