package httpapi

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

const (
	defaultLimit = 50
	maxLimit     = 100
	maxCursor    = 1024 // bytes
	maxFilter    = 200  // bytes
)

// Page is which part of a list is asked for.
type Page struct {
	Limit   int               // 1..100
	Cursor  string            // for DecodeCursor; "" is the beginning
	Filters map[string]string // those that were given, by name
}

// PageParams reads limit, cursor and the filters of a list. A filter is a name,
// or a name with the rule of validator that its value must fulfil
// ("order_id=uuid"). The error is a *Problem, invalid-parameter: for a value out
// of form, a parameter given twice, or one that isn't known.
func PageParams(r *http.Request, filters ...string) (Page, error) {
	values, err := query(r)
	if err != nil {
		return Page{}, err
	}
	page := Page{Limit: defaultLimit, Filters: map[string]string{}}
	for name, all := range values {
		i := slices.IndexFunc(filters, func(f string) bool { known, _, _ := strings.Cut(f, "="); return known == name })
		if i < 0 && name != "limit" && name != "cursor" {
			return Page{}, invalidParameter("a parameter is not known here; known are " + strings.Join(names(filters), ", "))
		}
		if len(all) > 1 {
			return Page{}, invalidParameter(name + ": given more than once")
		}
		value := all[0]
		switch name {
		case "limit":
			page.Limit, err = strconv.Atoi(value)
			if err != nil || page.Limit < 1 || page.Limit > maxLimit {
				return Page{}, invalidParameter(fmt.Sprintf("limit: an integer from 1 to %d", maxLimit))
			}
		case "cursor":
			if value == "" || len(value) > maxCursor {
				return Page{}, brokenCursor()
			}
			page.Cursor = value
		default:
			_, rule, _ := strings.Cut(filters[i], "=")
			if value == "" || len(value) > maxFilter || rules().Var(value, rule) != nil {
				return Page{}, invalidParameter(name + ": not a value that it can have")
			}
			page.Filters[name] = value
		}
	}
	return page, nil
}

// names is what PageParams knows, for the client.
func names(filters []string) []string {
	all := []string{"limit", "cursor"}
	for _, f := range filters {
		name, _, _ := strings.Cut(f, "=")
		all = append(all, name)
	}
	return all
}

// EncodeCursor makes an opaque text of where a page ended: a struct with the
// sort key of its last row. It hides nothing and is not signed.
func EncodeCursor[T any](last T) (string, error) {
	body, err := json.Marshal(last)
	if err != nil {
		return "", fmt.Errorf("encode a cursor: %w", err)
	}
	return base64.RawURLEncoding.EncodeToString(body), nil
}

// DecodeCursor reads what EncodeCursor made, as strictly as Decode reads a body:
// whatever a client may have put into it fulfils the tags of T. The error is a
// *Problem, invalid-parameter.
func DecodeCursor[T any](cursor string) (T, error) {
	var last T
	body, err := base64.RawURLEncoding.DecodeString(cursor)
	if err != nil {
		return last, brokenCursor()
	}
	root, err := scan(body)
	if err != nil || len(fill(&last, root)) > 0 {
		var none T
		return none, brokenCursor()
	}
	return last, nil
}

func brokenCursor() *Problem {
	return invalidParameter("cursor: take it from the answer before, as it is")
}
