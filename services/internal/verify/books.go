package verify

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/jmoiron/sqlx"
)

// Provider is the payment provider whose books are read over its API.
type Provider struct {
	URL string // "http://127.0.0.1:8090"; "" = none
	Key string // its API key; never shown
}

// books are the provider's: one row for each thing that it did, or refused to.
type books struct {
	name     string // where they are, for the report
	missing  string // why there are none
	here     bool   // schema paysim of the database itself
	provider Provider
	rows     []entry
}

// entry is a row of the provider's books, as its API shows it and checks read it.
type entry struct {
	Kind        string `json:"kind"` // authorize, capture, void, expire, refund
	AuthRef     string `json:"authorization_id"`
	RefundRef   string `json:"refund_id"` // of a refund
	Key         string `json:"key"`
	Reference   string `json:"reference"` // the order
	AmountMinor int64  `json:"amount_minor"`
	Currency    string `json:"currency"`
	Status      string `json:"status"` // succeeded, declined
	ID          int64  `json:"id"`

	// Early: it was there before the snapshot was taken.
	Early bool `json:"early"`
}

// openBooks finds the books and, where they are read over the API, reads them: what
// is in them now has its intent in a snapshot that is taken later.
func openBooks(ctx context.Context, db sqlx.QueryerContext, p Provider) (*books, error) {
	b := &books{provider: p}
	if err := sqlx.GetContext(ctx, db, &b.here, `SELECT to_regclass('paysim.operations') IS NOT NULL`); err != nil {
		return nil, fmt.Errorf("look for the provider's books: %w", err)
	}
	switch {
	case p.URL != "": // whoever names a provider means that one
		b.here, b.name = false, p.URL
		var err error
		b.rows, err = readBooks(ctx, p)
		return b, err
	case b.here:
		b.name = "schema paysim"
	default:
		b.missing = "the provider's books are not in this database: say where the provider is"
	}
	return b, nil
}

// readOn reads the books once more, after the snapshot was taken: what the snapshot
// says of the provider is in them now.
func (b *books) readOn(ctx context.Context) error {
	if b.here || b.missing != "" {
		return nil
	}
	early := map[int64]bool{}
	for _, e := range b.rows {
		early[e.ID] = true
	}
	var err error
	if b.rows, err = readBooks(ctx, b.provider); err != nil {
		return err
	}
	for i := range b.rows {
		b.rows[i].Early = early[b.rows[i].ID]
	}
	return nil
}

// source is the books as checks read them.
func (b *books) source() source {
	s := source{name: "books", missing: b.missing}
	if b.missing != "" {
		return s
	}
	if b.here {
		s.sql = `
			SELECT kind, authorization_id::text AS auth_ref, coalesce(refund_id::text, '') AS refund_ref, key, reference, amount_minor, currency::text, status, true AS early
			FROM paysim.operations`
		return s
	}
	list, err := json.Marshal(b.rows)
	if err != nil {
		s.missing = err.Error()
	}
	s.sql = `
			SELECT kind, authorization_id AS auth_ref, refund_id AS refund_ref, key, reference, amount_minor, currency, status, early
			FROM jsonb_to_recordset($1::jsonb) AS b (kind text, authorization_id text, refund_id text, key text, reference text, amount_minor bigint, currency text, status text, early boolean)`
	s.args = []any{string(list)}
	return s
}

// page is how many rows of the books are asked for at once, the most there may be.
const page = 100

// readBooks reads the provider's books, all of them.
func readBooks(ctx context.Context, p Provider) ([]entry, error) {
	client := &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 1}}
	defer client.CloseIdleConnections()
	var list []entry
	for cursor := ""; ; {
		q := url.Values{"limit": {decimal(page)}}
		if cursor != "" {
			q.Set("cursor", cursor)
		}
		var got struct {
			Operations []entry `json:"operations"`
			NextCursor string  `json:"next_cursor"`
		}
		if err := getJSON(ctx, client, strings.TrimSuffix(p.URL, "/")+"/provider/v1/books?"+q.Encode(), p.Key, &got); err != nil {
			return nil, fmt.Errorf("read the provider's books: %w", err)
		}
		list = append(list, got.Operations...)
		if cursor = got.NextCursor; cursor == "" {
			return list, nil
		}
	}
}

// maxPage is the most that a page of the books may weigh.
const maxPage = 1 << 20

// getJSON gets address with the API key and decodes the answer.
func getJSON(ctx context.Context, client *http.Client, address, key string, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+key)
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, maxPage))
	if err := cmp.Or(err, res.Body.Close()); err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		return errors.New("the provider answers " + res.Status)
	}
	return json.Unmarshal(body, into)
}
