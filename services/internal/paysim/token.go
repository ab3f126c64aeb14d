package paysim

// conduct is what a method token makes the provider do. The zero conduct
// authorizes at once.
type conduct struct {
	decline   string // reason code of the refusal
	slow      bool   // takes Config.Slow
	errorOnce bool   // the first call under a key fails before any effect
}

// conductOf is the table of test tokens; false for a token that is none.
func conductOf(token string) (conduct, bool) {
	switch token {
	case "tok_ok":
		return conduct{}, true
	case "tok_declined":
		return conduct{decline: "card_declined"}, true
	case "tok_insufficient_funds":
		return conduct{decline: "insufficient_funds"}, true
	case "tok_slow":
		return conduct{slow: true}, true
	case "tok_error_once":
		return conduct{errorOnce: true}, true
	}
	return conduct{}, false
}
