package httpapi

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// problemBase and a code make the URI that names a type of problem.
const problemBase = "https://orderflow.example/problems/"

// retryAfter is what a client is told to wait, in seconds, when the service
// can't answer now.
const retryAfter = "2"

// Problem is an error as the client sees it (RFC 9457). It never bears what the
// client sent, nor anything internal.
type Problem struct {
	Type     string       `json:"type"` // problemBase + code: stable, to be compared by clients
	Title    string       `json:"title"`
	Status   int          `json:"status"`
	Detail   string       `json:"detail,omitempty"`
	Instance string       `json:"instance,omitempty"` // names the request; set when written
	Errors   []FieldError `json:"errors,omitempty"`

	header http.Header
}

// FieldError is one thing that is wrong with a body.
type FieldError struct {
	Pointer string `json:"pointer"` // RFC 6901; "" is the whole body
	Code    string `json:"code"`
	Detail  string `json:"detail"`
}

// NewProblem returns the problem named by code ("order-not-cancellable"), whose
// title is made of it. The detail is shown to the client as it is; it may be "".
func NewProblem(status int, code, detail string) *Problem {
	words := strings.ReplaceAll(code, "-", " ")
	return &Problem{
		Type:   problemBase + code,
		Title:  strings.ToUpper(words[:1]) + words[1:],
		Status: status,
		Detail: detail,
	}
}

// NotFound is the one answer for what isn't there, what can't be there and what
// belongs to somebody else, so that they can't be told apart.
func NotFound() *Problem {
	return NewProblem(http.StatusNotFound, "not-found", "there is nothing here")
}

// WithHeader adds a header to the answer and returns p.
func (p *Problem) WithHeader(key, value string) *Problem {
	if p.header == nil {
		p.header = http.Header{}
	}
	p.header.Add(key, value)
	return p
}

// WithError adds what is wrong at pointer (RFC 6901) and returns p.
func (p *Problem) WithError(pointer, code, detail string) *Problem {
	p.Errors = append(p.Errors, FieldError{Pointer: pointer, Code: code, Detail: detail})
	return p
}

// Code is the last part of the type: "validation".
func (p *Problem) Code() string { return strings.TrimPrefix(p.Type, problemBase) }

// Error names the problem for logs: status and code only.
func (p *Problem) Error() string { return fmt.Sprintf("problem %d %s", p.Status, p.Code()) }

// write sends p as the answer to the request id.
func (p *Problem) write(w http.ResponseWriter, id string) error {
	shown := *p
	shown.Instance = "urn:orderflow:request:" + url.PathEscape(id)
	body, err := json.Marshal(shown)
	if err != nil {
		return fmt.Errorf("encode problem %s: %w", p.Code(), err)
	}
	maps.Copy(w.Header(), p.header)
	return writeBody(w, p.Status, "application/problem+json", body)
}

// problemOf is what the client gets for err: the Problem in it; 503 when the
// database can't be reached or asked now, so that a later attempt may succeed;
// 500 otherwise.
func problemOf(err error) *Problem {
	var p *Problem
	if errors.As(err, &p) {
		return p
	}
	if unavailable(err) {
		return notNow()
	}
	return NewProblem(http.StatusInternalServerError, "internal", "something went wrong here; the instance names this request")
}

// notNow is the problem of what a later attempt may get done.
func notNow() *Problem {
	return NewProblem(http.StatusServiceUnavailable, "unavailable", "the service can't answer now, try again later").
		WithHeader("Retry-After", retryAfter)
}

// unavailable reports whether err says that the database is away, full or too
// slow, rather than that the request or the program is wrong.
func unavailable(err error) bool {
	var connect *pgconn.ConnectError
	if errors.As(err, &connect) {
		return true // whatever the server says to it: on a full disk XX000, for one
	}
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		switch pg.Code {
		case "57014", "55P03", "40001", "40P01", "25P03":
			return true // cut by a limit, or lost against another transaction
		}
		// Connection exception, insufficient resources, operator intervention, what the
		// system under the server does to it.
		return slices.ContainsFunc([]string{"08", "53", "57P", "58"}, func(class string) bool { return strings.HasPrefix(pg.Code, class) })
	}
	for _, gone := range []error{
		context.DeadlineExceeded, context.Canceled, driver.ErrBadConn, sql.ErrConnDone, net.ErrClosed,
		io.EOF, io.ErrUnexpectedEOF,
	} {
		if errors.Is(err, gone) {
			return true
		}
	}
	var netErr net.Error
	return errors.As(err, &netErr) || pgconn.SafeToRetry(err)
}
