package httpapi

import (
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// maxWait is the longest that PreferWait returns.
const maxWait = 30 * time.Second

// ServiceHeader is the header in which a balancer names the service that a request is
// for. Addresses are given to another soon after their owner has ended, well before
// everybody has heard of it; without a name, the wrong service's "not found" would
// pass for the right one's. One that isn't meant answers 421 (RFC 9110, section
// 15.5.20): it has done nothing, so that any request may be sent elsewhere.
const ServiceHeader = "X-Service"

// Misdirected reports whether r says that it is for another service than the one
// called service.
func Misdirected(r *http.Request, service string) bool {
	to := r.Header.Get(ServiceHeader)
	return service != "" && to != "" && to != service
}

// checkRequest refuses what no handler should have to think of: an answer in
// another format, a caller or a query that can't be stored.
func checkRequest(r *http.Request) error {
	if !acceptsJSON(r.Header.Values("Accept")) {
		return NewProblem(http.StatusNotAcceptable, "not-acceptable", "answers are application/json")
	}
	if ids := r.Header.Values("X-Customer-Id"); len(ids) > 1 || len(ids) == 1 && !printable(ids[0], 64) {
		return invalidParameter("header X-Customer-Id: once, 1 to 64 printable ASCII characters without blanks")
	}
	if roles := r.Header.Values("X-Role"); len(roles) > 1 || len(roles) == 1 && !slices.Contains([]Role{Customer, Operator, Admin}, Role(roles[0])) {
		return invalidParameter("header X-Role: once, and customer, operator or admin")
	}
	_, err := query(r)
	return err
}

// query is the parsed query string; a *Problem when it is malformed.
func query(r *http.Request) (url.Values, error) {
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, invalidParameter("the query string is malformed")
	}
	for name, all := range values {
		for _, v := range append(all, name) {
			if !plainText(v) {
				return nil, invalidParameter("the query string contains characters that are not allowed")
			}
		}
	}
	return values, nil
}

func invalidParameter(detail string) *Problem {
	return NewProblem(http.StatusBadRequest, "invalid-parameter", detail)
}

// acceptsJSON reports whether an Accept header (RFC 9110, 12.5.1) takes
// application/json: the most specific range that covers it decides. A header
// that can't be read counts as none.
func acceptsJSON(headers []string) bool {
	ranges := map[string]bool{}
	for part := range strings.SplitSeq(strings.Join(headers, ","), ",") {
		name, params, err := mime.ParseMediaType(part)
		if err != nil {
			continue
		}
		weight, err := strconv.ParseFloat(params["q"], 64)
		ranges[name] = ranges[name] || err != nil || weight > 0
	}
	for _, name := range []string{"application/json", "application/*", "*/*"} {
		if wanted, ok := ranges[name]; ok {
			return wanted
		}
	}
	return len(ranges) == 0
}

// CustomerID is the caller as X-Customer-Id says, "demo" when it says nothing.
// The Mux has let pass 1 to 64 printable ASCII characters only.
func CustomerID(r *http.Request) string {
	if id := r.Header.Get("X-Customer-Id"); id != "" {
		return id
	}
	return "demo"
}

// Role is what a caller may do. A caller without one is a Customer.
type Role string

// The roles.
const (
	Customer Role = "customer"
	Operator Role = "operator" // works in the shop: stock, shipments, refunds, orders that need attention
	Admin    Role = "admin"    // may do whatever an operator may
)

// RoleOf is the caller's role as X-Role says, Customer when it says nothing. The
// Mux has let pass no other value.
func RoleOf(r *http.Request) Role {
	if role := r.Header.Get("X-Role"); role != "" {
		return Role(role)
	}
	return Customer
}

// RequireOperator returns nil for an operator or an admin, else the problem
// forbidden.
func RequireOperator(r *http.Request) error {
	if RoleOf(r) == Customer {
		return NewProblem(http.StatusForbidden, "forbidden", "only an operator may do this: send the header X-Role: operator")
	}
	return nil
}

// IdempotencyKey is the request's Idempotency-Key: 1 to 255 printable ASCII
// characters. The error is a *Problem: idempotency-key-missing, or
// idempotency-key-invalid when it is empty, too long, not ASCII or given twice.
func IdempotencyKey(r *http.Request) (string, error) {
	keys := r.Header.Values("Idempotency-Key")
	if len(keys) == 0 {
		return "", NewProblem(http.StatusBadRequest, "idempotency-key-missing",
			"send a header Idempotency-Key, new for each request and the same when it is repeated")
	}
	if len(keys) > 1 || !printable(strings.ReplaceAll(keys[0], " ", "_"), 255) {
		return "", NewProblem(http.StatusBadRequest, "idempotency-key-invalid",
			"Idempotency-Key: once, 1 to 255 printable ASCII characters")
	}
	return keys[0], nil
}

// PreferWait is how long the client prefers to wait for the outcome (RFC 7240,
// "Prefer: wait=5"), at most 30 s; 0 when it doesn't say so, or not in seconds.
func PreferWait(r *http.Request) time.Duration {
	for part := range strings.SplitSeq(strings.Join(r.Header.Values("Prefer"), ","), ",") {
		preference, _, _ := strings.Cut(part, ";")
		name, value, _ := strings.Cut(preference, "=")
		if !strings.EqualFold(strings.TrimSpace(name), "wait") {
			continue
		}
		// The first of several counts (RFC 7240, 2).
		seconds, err := strconv.ParseUint(strings.Trim(strings.TrimSpace(value), `"`), 10, 31)
		if err != nil {
			return 0
		}
		return min(time.Duration(seconds)*time.Second, maxWait)
	}
	return 0
}

// Path is the value of the pattern's wildcard name, checked by a rule of
// validator ("uuid", "sku"). A value of another form is NotFound: nothing can
// have it.
func Path(r *http.Request, name, rule string) (string, error) {
	value := r.PathValue(name)
	if rules().Var(value, "required,"+rule) != nil {
		return "", NotFound()
	}
	return value, nil
}

// printable reports whether s is 1 to limit printable ASCII characters, no blank.
func printable(s string, limit int) bool {
	if s == "" || len(s) > limit {
		return false
	}
	for _, c := range []byte(s) {
		if c <= ' ' || c > '~' {
			return false
		}
	}
	return true
}
