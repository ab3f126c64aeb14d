package paysim

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"example.com/orderflow/messaging/httpapi"
)

// instant is the rule of a time in a query: RFC 3339, with or without a fraction.
const instant = "datetime=2006-01-02T15:04:05Z07:00"

// cursor is where a page of the books ended.
type cursor struct {
	At time.Time `json:"at" validate:"required"`
	ID int64     `json:"id" validate:"min=1"`
}

// listOperations answers GET
// /provider/v1/books?reference=&status=&from=&until=&limit=&cursor=: the books,
// oldest row first; without filters all of them. from is inclusive, until isn't.
func (s *Server) listOperations(w http.ResponseWriter, r *http.Request) error {
	page, err := httpapi.PageParams(r, "reference", "status=oneof=succeeded declined", "from="+instant, "until="+instant)
	if err != nil {
		return err
	}
	if done, err := s.misread(w, r, opBooks); done || err != nil {
		return err
	}
	var last cursor
	if page.Cursor != "" {
		if last, err = httpapi.DecodeCursor[cursor](page.Cursor); err != nil {
			return err
		}
	}
	list, err := s.store.pageOperations(r.Context(), page.Filters, last, page.Limit+1)
	if err != nil {
		return err
	}
	next := ""
	if len(list) > page.Limit {
		list = list[:page.Limit]
		if next, err = httpapi.EncodeCursor(cursor{list[page.Limit-1].At, list[page.Limit-1].ID}); err != nil {
			return err
		}
	}
	return httpapi.WriteJSON(w, http.StatusOK, struct {
		Operations []operation `json:"operations"`
		NextCursor string      `json:"next_cursor,omitempty"` // "" = that was all
	}{list, next})
}

// pageOperations reads up to limit rows of the books after last, oldest first;
// filters narrow it. Times are noted before commit: a reader that follows the
// books while they grow may miss a row that a slow transaction adds late, one that
// reads what is some seconds old misses none.
func (s store) pageOperations(ctx context.Context, filters map[string]string, last cursor, limit int) ([]operation, error) {
	list := []operation{}
	from, until := filters["from"], filters["until"]
	if from == "" {
		from = "-infinity"
	}
	if until == "" {
		until = "infinity"
	}
	where, args := `at >= $1 AND at < $2 AND (at, id) > ($3, $4)`, []any{from, until, last.At, last.ID, limit}
	for _, column := range []string{"reference", "status"} {
		if v := filters[column]; v != "" {
			args = append(args, v)
			where += fmt.Sprintf(` AND %s = $%d`, column, len(args))
		}
	}
	err := s.db.SelectContext(ctx, &list, `
		SELECT id, key, kind, authorization_id, COALESCE(refund_id::text, '') AS refund_id, reference, amount_minor, currency, status, at
		FROM paysim.operations
		WHERE `+where+`
		ORDER BY at, id
		LIMIT $5`, args...)
	if err != nil {
		return nil, fmt.Errorf("read the books: %w", err)
	}
	for i := range list {
		list[i].At = list[i].At.UTC()
	}
	return list, nil
}
