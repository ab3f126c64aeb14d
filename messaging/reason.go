package messaging

import (
	"strings"
	"unicode"
)

// groupLength is the most characters of a group's text: what comes after is
// detail, or cut off at a place that depends on the values before it.
const groupLength = 200

// reasonGroup is what reason has in common with the others of its kind: quoted
// values become "…", numbers and words with a digit in them (ids, amounts, times,
// addresses) become #, and white space is one space. An SQLSTATE stays: it tells
// kinds of errors apart.
func reasonGroup(reason string) string {
	var b strings.Builder
	in := []rune(strings.Join(strings.Fields(reason), " "))
	for i := 0; i < len(in); {
		end := i + 1
		switch c := in[i]; {
		case c == '"' || c == '`' || c == '\'' && (i == 0 || !wordly(in[i-1])):
			if close := closing(in, i); close > 0 {
				b.WriteString(`"…"`)
				end = close + 1
				break
			}
			if c == '\'' { // an apostrophe
				b.WriteRune(c)
				break
			}
			b.WriteString(`"…"`) // cut off before it was closed
			end = len(in)
		case wordly(c) || (c == '-' || c == '+') && digitAt(in, i+1):
			for end < len(in) && (wordly(in[end]) || joins(in, end)) {
				end++
			}
			word := string(in[i:end])
			if strings.ContainsFunc(word, unicode.IsDigit) && !strings.HasSuffix(string(in[max(0, i-9):i]), "SQLSTATE ") {
				word = "#"
			}
			b.WriteString(word)
		default:
			b.WriteRune(c)
		}
		i = end
	}
	if out := []rune(b.String()); len(out) > groupLength {
		return string(out[:groupLength-1]) + "…"
	}
	return b.String()
}

// wordly reports whether r is part of a word wherever it stands.
func wordly(r rune) bool { return r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r) }

// joins reports whether what stands at i makes one word of what stands around it:
// the hyphens of a UUID, the points and colons of a number, a time, an address.
func joins(in []rune, i int) bool {
	if i+1 >= len(in) || !wordly(in[i+1]) {
		return false
	}
	return in[i] == '-' || strings.ContainsRune(".,:+", in[i]) && digitAt(in, i-1) && digitAt(in, i+1)
}

func digitAt(in []rune, i int) bool { return i < len(in) && unicode.IsDigit(in[i]) }

// closing is where the quotation that opens at i ends, 0 when nowhere. A single
// quote within a word is an apostrophe.
func closing(in []rune, i int) int {
	for j := i + 1; j < len(in); j++ {
		switch {
		case in[j] == '\\' && in[i] == '"':
			j++
		case in[j] == in[i] && (in[i] != '\'' || j+1 == len(in) || !wordly(in[j+1])):
			return j
		}
	}
	return 0
}

// longestWord is the longest word of a reason, or of a group's text, that stands
// in every reason which has that text in it or belongs to that group, "" when
// there is none. The server looks for it to send fewer letters to be looked at.
func longestWord(text string) string {
	longest := ""
	for word := range strings.FieldsSeq(text) {
		if len(word) > len(longest) && !strings.ContainsAny(word, "#\"…") {
			longest = word
		}
	}
	return longest
}
