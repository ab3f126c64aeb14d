package httpapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxDepth is how deep arrays and objects may be nested.
const maxDepth = 16

// node is a JSON value that keeps what encoding/json loses: the order of
// members, which of them were given, and numbers as they were written.
type node struct {
	kind  kind
	text  string // of a string or number
	truth bool
	names []string // of an object's members; items holds their values
	items []*node
}

type kind int

const (
	null kind = iota
	boolean
	number
	text
	array
	object
)

// scan parses one JSON value. encoding/json passes over invalid encodings, lone
// surrogates, repeated members and trailing data: scan refuses them. The error
// is a *Problem of status 400.
func scan(body []byte) (*node, error) {
	if p := checkEncoding(body); p != nil {
		return nil, p
	}
	if p := checkDepth(body); p != nil {
		return nil, p
	}
	var whole json.RawMessage
	if err := json.Unmarshal(body, &whole); err != nil {
		return nil, malformed(err)
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	return parse(d, "")
}

// malformed says where the body stops being JSON, not what stands there.
func malformed(err error) *Problem {
	detail := "the body is not JSON"
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		detail = fmt.Sprintf("the body is not JSON from byte %d on", syntax.Offset)
	}
	return NewProblem(http.StatusBadRequest, "malformed-json", detail)
}

// checkEncoding refuses what isn't UTF-8 without a byte order mark (RFC 8259, 8.1).
func checkEncoding(body []byte) *Problem {
	detail := ""
	switch {
	case bytes.HasPrefix(body, []byte("\xEF\xBB\xBF")):
		detail = "the body begins with a byte order mark"
	case bytes.IndexByte(body[:min(4, len(body))], 0) >= 0: // UTF-16, UTF-32
		detail = "the body is not UTF-8"
	case !utf8.Valid(body):
		detail = "the body is not UTF-8"
	case loneSurrogate(body):
		detail = `the body contains half of a surrogate pair (\uD800 to \uDFFF)`
	default:
		return nil
	}
	return NewProblem(http.StatusBadRequest, "invalid-encoding", detail)
}

// loneSurrogate finds an escape \uD800 to \uDFFF that is no half of a pair.
// A backslash stands in strings only, or the body isn't JSON anyway.
func loneSurrogate(body []byte) bool {
	for i := 0; i < len(body); i++ {
		if body[i] != '\\' {
			continue
		}
		unit, ok := escape(body[i:])
		switch {
		case !ok:
			i++ // another escape: its second byte may be a backslash
		case unit>>10 == 0xD800>>10:
			low, ok := escape(body[i+6:])
			if !ok || low>>10 != 0xDC00>>10 {
				return true
			}
			i += 11
		case unit>>10 == 0xDC00>>10:
			return true
		default:
			i += 5
		}
	}
	return false
}

// escape is the code unit of the escape \uXXXX that b begins with.
func escape(b []byte) (uint64, bool) {
	if len(b) < 6 || b[0] != '\\' || b[1] != 'u' {
		return 0, false
	}
	unit, err := strconv.ParseUint(string(b[2:6]), 16, 16)
	return unit, err == nil
}

// checkDepth refuses deep nesting before anything recurses into it.
func checkDepth(body []byte) *Problem {
	depth, quoted := 0, false
	for i := 0; i < len(body); i++ {
		switch c := body[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			if depth++; depth > maxDepth {
				return NewProblem(http.StatusBadRequest, "too-deep", fmt.Sprintf("arrays and objects may be nested %d deep", maxDepth))
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return nil
}

// parse reads the next value of d, which is known to be well formed. The error
// is a *Problem for a repeated member.
func parse(d *json.Decoder, at string) (*node, error) {
	token, err := d.Token()
	if err != nil {
		return nil, malformed(err)
	}
	switch t := token.(type) {
	case nil:
		return &node{kind: null}, nil
	case bool:
		return &node{kind: boolean, truth: t}, nil
	case json.Number:
		return &node{kind: number, text: t.String()}, nil
	case string:
		return &node{kind: text, text: t}, nil
	}
	n := &node{kind: array}
	if token == json.Delim('{') {
		n.kind = object
	}
	known := map[string]bool{}
	for d.More() {
		below := at + "/" + strconv.Itoa(len(n.items))
		if n.kind == object {
			name, err := d.Token()
			if err != nil {
				return nil, malformed(err)
			}
			below = child(at, name.(string))
			if known[name.(string)] {
				return nil, NewProblem(http.StatusBadRequest, "duplicate-member", "an object names a member twice").
					WithError(below, "duplicate-member", "given more than once")
			}
			known[name.(string)] = true
			n.names = append(n.names, name.(string))
		}
		item, err := parse(d, below)
		if err != nil {
			return nil, err
		}
		n.items = append(n.items, item)
	}
	if _, err := d.Token(); err != nil { // the closing bracket
		return nil, malformed(err)
	}
	return n, nil
}

// child is the pointer (RFC 6901) to a member. A name that is long, can't be
// shown or might be a secret isn't repeated: the pointer stays at the object.
func child(at, name string) string {
	if len(name) > 64 || !plainText(name) || hasCardNumber(name) {
		return at
	}
	return at + "/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(name)
}

// cardNumber is the pointer to the first value or member name under n that
// contains a payment card's number.
func (n *node) cardNumber(at string) (pointer string, found bool) {
	if hasCardNumber(n.text) {
		return at, true
	}
	if slices.ContainsFunc(n.names, hasCardNumber) {
		return at, true
	}
	for i, item := range n.items {
		below := at + "/" + strconv.Itoa(i)
		if n.kind == object {
			below = child(at, n.names[i])
		}
		if pointer, found := item.cardNumber(below); found {
			return pointer, true
		}
	}
	return "", false
}
