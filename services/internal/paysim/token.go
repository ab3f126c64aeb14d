package paysim

import (
	"slices"
	"strings"
)

// conduct is what a method token makes the provider do. The zero conduct
// authorizes at once and does all that follows as it is asked to.
type conduct struct {
	decline string  // reason code of the bank's refusal
	op      string  // the operation that goes wrong the first time that it is asked for
	misdeed misdeed // what goes wrong with it
}

// conductOf is the table of test tokens; false for a token that is none.
// tok_<operation>_<misdeed> names any pair that makes sense (misdeeds, below).
func conductOf(token string) (conduct, bool) {
	switch token {
	case "tok_ok":
		return conduct{}, true
	case "tok_declined":
		return conduct{decline: "card_declined"}, true
	case "tok_insufficient_funds":
		return conduct{decline: "insufficient_funds"}, true
	case "tok_slow":
		return conduct{op: opAuthorize, misdeed: slow}, true
	case "tok_error_once":
		return conduct{op: opAuthorize, misdeed: errorBefore}, true
	}
	name, ok := strings.CutPrefix(token, "tok_")
	if !ok {
		return conduct{}, false
	}
	op, m, _ := strings.Cut(name, "_")
	c := conduct{op: op, misdeed: misdeed(m)}
	return c, slices.Contains([]string{opAuthorize, opCapture, opVoid, opRefund}, op) && c.misdeed.fits(op)
}
