package httpapi

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"strings"
)

const (
	maxBody   = 64 << 10 // bytes
	maxErrors = 50
)

// Decode reads the request's body into a T, a struct with json and validate
// tags (validator/v10, and the rules currency and sku). Members that T lacks,
// other spellings of those it has and null for a required one are errors, like
// texts with invisible or control characters. An optional member may be null or
// missing, which leaves its zero value. T is made of strings, booleans, signed
// integers, slices, structs, pointers to them and encoding.TextUnmarshaler;
// anything else panics.
//
// The error is always a *Problem: 415, 413 or 400 for what is no JSON that we
// read, 422 card-data-not-accepted for a payment card's number anywhere, 422
// validation with everything else that is wrong, at most 50 errors.
func Decode[T any](w http.ResponseWriter, r *http.Request) (T, error) {
	var body, none T
	if p := checkMediaType(r.Header); p != nil {
		return none, p
	}
	raw, err := readBody(w, r)
	if err != nil {
		return none, err
	}
	if err := decode(raw, &body); err != nil {
		return none, err
	}
	return body, nil
}

// checkMediaType refuses all but uncompressed application/json in UTF-8.
func checkMediaType(h http.Header) *Problem {
	for _, coding := range h.Values("Content-Encoding") {
		if !strings.EqualFold(strings.TrimSpace(coding), "identity") {
			return NewProblem(http.StatusUnsupportedMediaType, "unsupported-encoding", "send the body as it is, not compressed").
				WithHeader("Accept-Encoding", "identity")
		}
	}
	unsupported := NewProblem(http.StatusUnsupportedMediaType, "unsupported-media-type", "send application/json in UTF-8").
		WithHeader("Accept", "application/json")
	types := h.Values("Content-Type")
	if len(types) != 1 {
		return unsupported
	}
	name, params, err := mime.ParseMediaType(types[0])
	if err != nil || name != "application/json" {
		return unsupported
	}
	if charset, ok := params["charset"]; ok && !strings.EqualFold(charset, "utf-8") {
		return unsupported
	}
	return nil
}

// readBody reads at most maxBody bytes, whatever the headers announce.
func readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	raw, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	var tooLarge *http.MaxBytesError
	var netErr net.Error
	switch {
	case err == nil:
		return raw, nil
	case errors.As(err, &tooLarge):
		// What is nested too deep is so in its first bytes, and told first.
		if p := checkDepth(raw); p != nil {
			return nil, p.WithHeader("Connection", "close")
		}
		return nil, NewProblem(http.StatusRequestEntityTooLarge, "body-too-large", fmt.Sprintf("a body may have %d bytes", maxBody)).
			WithHeader("Connection", "close") // the rest is not read
	case errors.As(err, &netErr) && netErr.Timeout():
		return nil, NewProblem(http.StatusRequestTimeout, "request-timeout", "the body took too long").
			WithHeader("Connection", "close")
	default:
		return nil, NewProblem(http.StatusBadRequest, "malformed-json", "the body ended early").
			WithHeader("Connection", "close")
	}
}

// decode makes raw the value that into points to, a struct. The error is a
// *Problem.
func decode(raw []byte, into any) error {
	root, err := scan(raw)
	if err != nil {
		return err
	}
	if pointer, found := root.cardNumber(""); found {
		return NewProblem(http.StatusUnprocessableEntity, "card-data-not-accepted", "send a payment token, never a card number").
			WithError(pointer, "card-data-not-accepted", "looks like a payment card's number")
	}
	all := fill(into, root)
	if len(all) == 0 {
		return nil
	}
	p := NewProblem(http.StatusUnprocessableEntity, "validation", "the body is not valid: see errors")
	p.Errors = all[:min(len(all), maxErrors)]
	return p
}
