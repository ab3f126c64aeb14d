package httpapi

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"
)

// plainText reports whether s is UTF-8 without control characters (NUL among
// them, which PostgreSQL can't store), line separators and the invisible
// characters that make a text look like another: zero width, bidi overrides.
func plainText(s string) bool {
	if !utf8.ValidString(s) {
		return false
	}
	return !strings.ContainsFunc(s, func(r rune) bool {
		return unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp)
	})
}

// A payment card's number has 13 to 19 digits (ISO/IEC 7812).
const minCard, maxCard = 13, 19

// hasCardNumber reports whether s contains 13 to 19 digits that pass the Luhn
// check, written in one piece or in groups with single blanks, dots or hyphens
// between them. A UUID is none, though some look like it.
func hasCardNumber(s string) bool {
	if len(s) < minCard || len(s) == 36 && uuid.Validate(s) == nil {
		return false
	}
	var digits []byte // of the groups that may belong together
	var begins []int  // where in digits a group does
	separated := false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case '0' <= c && c <= '9':
			if i == 0 || s[i-1] < '0' || s[i-1] > '9' {
				begins = append(begins, len(digits))
			}
			digits, separated = append(digits, c), false
			if i+1 == len(s) || s[i+1] < '0' || s[i+1] > '9' {
				if cardEndsHere(digits, begins) {
					return true
				}
			}
		case !separated && strings.IndexByte(" .-", c) >= 0:
			separated = true
		default:
			digits, begins, separated = digits[:0], begins[:0], false
		}
	}
	return false
}

// cardEndsHere reports whether the digits from one of begins to the end are a
// card's number.
func cardEndsHere(digits []byte, begins []int) bool {
	for _, from := range begins {
		if n := len(digits) - from; n >= minCard && n <= maxCard && luhn(digits[from:]) {
			return true
		}
	}
	return false
}

// luhn reports whether the check digit at the end of digits is right.
func luhn(digits []byte) bool {
	sum := 0
	for i := range digits {
		d := int(digits[len(digits)-1-i] - '0')
		if i%2 == 1 {
			d *= 2
		}
		sum += d/10 + d%10
	}
	return sum%10 == 0
}
