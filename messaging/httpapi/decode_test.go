package httpapi_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"example.com/orderflow/messaging/httpapi"
)

// with is goodOrder with the first occurrence of old replaced.
func with(old, replacement string) string {
	if !strings.Contains(goodOrder, old) {
		panic("no such part: " + old)
	}
	return strings.Replace(goodOrder, old, replacement, 1)
}

// noted is goodOrder with a note, given as a JSON text.
func noted(text string) string {
	return with(`{"currency"`, `{"note":`+text+`,"currency"`)
}

func nested(depth int) string {
	return with(`{"currency"`, `{"note":`+strings.Repeat("[", depth-1)+strings.Repeat("]", depth-1)+`,"currency"`)
}

func TestDecodeUnreadable(t *testing.T) {
	t.Parallel()
	mux := decoding()
	for name, c := range map[string]struct {
		body string
		code string
	}{
		"empty body":               {"", "malformed-json"},
		"only white space":         {" \n", "malformed-json"},
		"truncated":                {goodOrder[:len(goodOrder)-1], "malformed-json"},
		"truncated in a string":    {goodOrder[:20], "malformed-json"},
		"trailing comma":           {with(`"tok_ok"}`, `"tok_ok",}`), "malformed-json"},
		"comment":                  {"/* x */" + goodOrder, "malformed-json"},
		"NaN":                      {with(`:2}`, `:NaN}`), "malformed-json"},
		"two values":               {goodOrder + goodOrder, "malformed-json"},
		"trailing text":            {goodOrder + " x", "malformed-json"},
		"single quotes":            {`{'currency':'EUR'}`, "malformed-json"},
		"raw control character":    {noted("\"a\x01b\""), "malformed-json"},
		"broken escape":            {noted(`"\u12"`), "malformed-json"},
		"duplicate, other value":   {with(`"payment_token"`, `"currency":"USD","payment_token"`), "duplicate-member"},
		"duplicate, same value":    {with(`"payment_token"`, `"currency":"EUR","payment_token"`), "duplicate-member"},
		"duplicate, nested":        {with(`"quantity":2`, `"quantity":2,"quantity":2`), "duplicate-member"},
		"duplicate, escaped":       {with(`"payment_token"`, `"curr\u0065ncy":"EUR","payment_token"`), "duplicate-member"},
		"duplicate, not known":     {with(`"payment_token"`, `"x":{"y":1,"y":1},"payment_token"`), "duplicate-member"},
		"invalid UTF-8":            {noted("\"\xff\""), "invalid-encoding"},
		"overlong UTF-8":           {noted("\"\xc0\xaf\""), "invalid-encoding"},
		"surrogate as UTF-8":       {noted("\"\xed\xa0\x80\""), "invalid-encoding"},
		"lone high surrogate":      {noted(`"\ud83d"`), "invalid-encoding"},
		"lone low surrogate":       {noted(`"\uDE00"`), "invalid-encoding"},
		"high surrogate twice":     {noted(`"\ud83d\ud83d\ude00"`), "invalid-encoding"},
		"high surrogate, then a":   {noted(`"\ud83d\u0061"`), "invalid-encoding"},
		"lone surrogate in a name": {with(`{"currency"`, `{"\ud800":1,"currency"`), "invalid-encoding"},
		"byte order mark":          {"\xEF\xBB\xBF" + goodOrder, "invalid-encoding"},
		"UTF-16, marked":           {"\xFE\xFF\x00{\x00}", "invalid-encoding"},
		"UTF-16, little endian":    {"{\x00}\x00", "invalid-encoding"},
		"UTF-16, big endian":       {"\x00{\x00}", "invalid-encoding"},
		"depth 17":                 {nested(17), "too-deep"},
		"depth 17 of objects":      {strings.Repeat(`{"a":`, 17) + "1" + strings.Repeat("}", 17), "too-deep"},
		"depth 30,000, unclosed":   {strings.Repeat("[", 30_000), "too-deep"},
		"depth 100,000":            {strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000), "too-deep"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			problem(t, post(t, mux, c.body), http.StatusBadRequest, c.code)
		})
	}
}

func TestDecodeInvalid(t *testing.T) {
	t.Parallel()
	mux := decoding()
	lines := func(n int) string {
		var all []string
		for i := range n {
			all = append(all, fmt.Sprintf(`{"sku":"S-%d","quantity":1}`, i))
		}
		return "[" + strings.Join(all, ",") + "]"
	}
	const goodLines = `[{"sku":"MUG-01","quantity":2}]`
	quantity := func(n string) string { return with(":2}", ":"+n+"}") }
	for name, c := range map[string]struct {
		body string
		want []string
	}{
		"null":    {"null", []string{" type"}},
		"array":   {"[]", []string{" type"}},
		"string":  {`"x"`, []string{" type"}},
		"number":  {"1", []string{" type"}},
		"nothing": {"{}", []string{"/currency required", "/lines required", "/customer required", "/payment_token required"}},

		"unknown member":        {with(`{"currency"`, `{"x":1,"currency"`), []string{"/x unknown-member"}},
		"unknown, nested":       {with(`"quantity"`, `"unit_price_minor":1,"quantity"`), []string{"/lines/0/unit_price_minor unknown-member"}},
		"case variant":          {with(`"currency"`, `"Currency"`), []string{"/currency required", "/Currency unknown-member"}},
		"case variant besides":  {with(`{"currency"`, `{"CURRENCY":"USD","currency"`), []string{"/CURRENCY unknown-member"}},
		"what the server sets":  {with(`{"currency"`, `{"id":"x","status":"delivered","total_minor":1,"customer_id":"x","currency"`), []string{"/id unknown-member", "/status unknown-member", "/total_minor unknown-member", "/customer_id unknown-member"}},
		"unknown, to be quoted": {with(`{"currency"`, `{"a/b~c":1,"currency"`), []string{"/a~1b~0c unknown-member"}},
		"unknown, too long":     {with(`{"currency"`, `{"`+strings.Repeat("x", 65)+`":1,"currency"`), []string{" unknown-member"}},
		"unknown, invisible":    {with(`"quantity"`, `"\u202e":1,"quantity"`), []string{"/lines/0 unknown-member"}},
		"unknown and invalid":   {with(`"name":"Ada Lovelace"`, `"\u202e":1,"name":""`), []string{"/customer/name required", "/customer unknown-member"}},

		"null required":         {with(`"EUR"`, "null"), []string{"/currency required"}},
		"missing nested":        {with(`"sku":"MUG-01",`, ""), []string{"/lines/0/sku required"}},
		"null nested object":    {with(`{"name":"Ada Lovelace","email":"ada@example.com"}`, "null"), []string{"/customer required"}},
		"empty nested object":   {with(`{"name":"Ada Lovelace","email":"ada@example.com"}`, "{}"), []string{"/customer/name required", "/customer/email required"}},
		"string for an object":  {with(`{"name":"Ada Lovelace","email":"ada@example.com"}`, `"x"`), []string{"/customer type"}},
		"object for an array":   {with(goodLines, "{}"), []string{"/lines type"}},
		"null in an array":      {with(goodLines, "[null]"), []string{"/lines/0 type"}},
		"nulls in an array":     {with(goodLines, "[null,null]"), []string{"/lines/0 type", "/lines/1 type"}},
		"number for a string":   {with(`"EUR"`, "1"), []string{"/currency type"}},
		"string for a boolean":  {with(`{"currency"`, `{"allow_partial":"true","currency"`), []string{"/allow_partial type"}},
		"blanks, required":      {with("Ada Lovelace", "  "), []string{"/customer/name required"}},
		"no-break spaces":       {with("Ada Lovelace", `\u00a0\u2003`), []string{"/customer/name required"}},
		"empty, required":       {with("Ada Lovelace", ""), []string{"/customer/name required"}},
		"name of 201 runes":     {with("Ada Lovelace", strings.Repeat("é", 201)), []string{"/customer/name max"}},
		"bad e-mail":            {with("ada@example.com", "ada"), []string{"/customer/email email"}},
		"e-mail with CR LF":     {with("ada@example.com", `ada@example.com\r\nBcc: x@example.com`), []string{"/customer/email character"}},
		"not one of":            {with(`{"currency"`, `{"priority":"now","currency"`), []string{"/priority oneof"}},
		"currency, lower case":  {with("EUR", "eur"), []string{"/currency currency"}},
		"currency, four":        {with("EUR", "EURO"), []string{"/currency currency"}},
		"no currency":           {with("EUR", "XXX"), []string{"/currency currency"}},
		"SKU of wrong form":     {with("MUG-01", "mug 01"), []string{"/lines/0/sku pattern"}},
		"SKU with SQL":          {with("MUG-01", "A'; DROP TABLE orders;--"), []string{"/lines/0/sku pattern"}},
		"SKU of 41":             {with("MUG-01", strings.Repeat("A", 41)), []string{"/lines/0/sku pattern"}},
		"no lines":              {with(goodLines, "[]"), []string{"/lines min"}},
		"101 lines":             {with(goodLines, lines(101)), []string{"/lines max"}},
		"the same SKU twice":    {with(goodLines, `[{"sku":"A","quantity":1},{"sku":"A","quantity":2}]`), []string{"/lines unique"}},
		"two bad SKUs":          {with(goodLines, `[{"sku":1,"quantity":1},{"sku":2,"quantity":2}]`), []string{"/lines/0/sku type", "/lines/1/sku type"}},
		"quantity 0":            {quantity("0"), []string{"/lines/0/quantity min"}},
		"quantity -0":           {quantity("-0"), []string{"/lines/0/quantity min"}},
		"quantity -1":           {quantity("-1"), []string{"/lines/0/quantity min"}},
		"quantity 1001":         {quantity("1001"), []string{"/lines/0/quantity max"}},
		"quantity 1.5":          {quantity("1.5"), []string{"/lines/0/quantity integer"}},
		"quantity 1.0":          {quantity("1.0"), []string{"/lines/0/quantity integer"}},
		"quantity 1e2":          {quantity("1e2"), []string{"/lines/0/quantity integer"}},
		"quantity 1e400":        {quantity("1e400"), []string{"/lines/0/quantity integer"}},
		"quantity 2^63":         {quantity("9223372036854775808"), []string{"/lines/0/quantity max"}},
		"quantity 10^400":       {quantity("1" + strings.Repeat("0", 400)), []string{"/lines/0/quantity max"}},
		"quantity -10^400":      {quantity("-1" + strings.Repeat("0", 400)), []string{"/lines/0/quantity min"}},
		"quantity as a string":  {quantity(`"1"`), []string{"/lines/0/quantity type"}},
		"quantity as a boolean": {quantity("true"), []string{"/lines/0/quantity type"}},

		"NUL":                  {noted(`"a\u0000b"`), []string{"/note character"}},
		"C0 control":           {noted(`"a\u001bb"`), []string{"/note character"}},
		"line feed":            {noted(`"a\nb"`), []string{"/note character"}},
		"DEL":                  {noted("\"a\x7fb\""), []string{"/note character"}},
		"C1 control":           {noted("\"a\u0085b\""), []string{"/note character"}},
		"bidi override":        {noted("\"a\u202eb\""), []string{"/note character"}},
		"bidi isolate":         {noted("\"a\u2066b\""), []string{"/note character"}},
		"zero-width space":     {noted("\"a\u200bb\""), []string{"/note character"}},
		"zero-width joiner":    {noted(`"a\u200db"`), []string{"/note character"}},
		"zero-width no-break":  {noted("\"a\ufeffb\""), []string{"/note character"}},
		"line separator":       {noted("\"a\u2028b\""), []string{"/note character"}},
		"several in the order": {`{"currency":"eur","lines":[{"sku":"A","quantity":0},{"sku":"","quantity":"1"}],"customer":{"name":"A","email":"x"},"x":1}`, []string{"/lines/0/quantity min", "/lines/1/sku required", "/lines/1/quantity type", "/payment_token required", "/x unknown-member", "/currency currency", "/customer/email email"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := problem(t, post(t, mux, c.body), http.StatusUnprocessableEntity, "validation")
			if got := codes(p); !slices.Equal(got, c.want) {
				t.Errorf("got errors %q, want %q", got, c.want)
			}
			for _, e := range p.Errors {
				if e.Detail == "" {
					t.Errorf("got no detail for %s %s", e.Pointer, e.Code)
				}
			}
		})
	}
}

func TestDecodeAtMost50Errors(t *testing.T) {
	t.Parallel()
	var members []string
	for i := range 80 {
		members = append(members, fmt.Sprintf(`"m%d":1`, i))
	}
	p := problem(t, post(t, decoding(), "{"+strings.Join(members, ",")+"}"), http.StatusUnprocessableEntity, "validation")
	if len(p.Errors) != 50 {
		t.Errorf("got %d errors, want 50", len(p.Errors))
	}
}

func TestDecodeAccepts(t *testing.T) {
	t.Parallel()
	mux := decoding()
	for name, body := range map[string]string{
		"the plain order":      goodOrder,
		"white space around":   " \r\n\t" + goodOrder + "\n",
		"optional member null": noted("null"),
		"optional pointer":     with(`{"currency"`, `{"priority":null,"currency"`),
		"false":                with(`{"currency"`, `{"allow_partial":false,"currency"`),
		"script":               noted(`"<script>alert(1)</script>"`),
		"template":             noted(`"{{7*7}}"`),
		"SQL":                  noted(`"' OR 1=1 --"`),
		"formula":              noted(`"=HYPERLINK(\"x\")"`),
		"surrogate pair":       noted(`"\ud83d\ude00"`),
		"escaped backslash":    noted(`"\\ud800"`),
		"emoji and accents":    noted(`"été 😀 日本語 Ωmega"`),
		"200 runes":            with("Ada Lovelace", strings.Repeat("é", 200)),
		"brackets in a string": noted(`"[\"` + strings.Repeat("[", 100) + `"`),
		"a UUID of digits":     noted(`"41111111-1111-1111-8111-111111111111"`),
		"a telephone number":   noted(`"+49 30 901820"`),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if res := post(t, mux, body); res.StatusCode != http.StatusAccepted {
				p := problem(t, res, http.StatusAccepted, "")
				t.Errorf("got %+v, want 202", p)
			}
		})
	}
}

// Integers of few bits are refused, not cut.
func TestDecodeSmallIntegers(t *testing.T) {
	t.Parallel()
	type small struct {
		N int8 `json:"n"`
	}
	mux := httpapi.NewMux(discard)
	mux.Handle("POST /v1/orders", func(w http.ResponseWriter, r *http.Request) error {
		body, err := httpapi.Decode[small](w, r)
		if err != nil {
			return err
		}
		return httpapi.WriteJSON(w, http.StatusOK, body)
	})
	if got, want := bodyOf(t, post(t, mux, `{"n":-128}`)), `{"n":-128}`+"\n"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	p := problem(t, post(t, mux, `{"n":128}`), http.StatusUnprocessableEntity, "validation")
	if got, want := codes(p), []string{"/n max"}; !slices.Equal(got, want) {
		t.Errorf("got errors %q, want %q", got, want)
	}
}

func TestDecodeDepth16IsReadable(t *testing.T) {
	t.Parallel()
	p := problem(t, post(t, decoding(), nested(16)), http.StatusUnprocessableEntity, "validation")
	if got, want := codes(p), []string{"/note type"}; !slices.Equal(got, want) {
		t.Errorf("got errors %q, want %q", got, want)
	}
}

func TestDecodeCardNumbers(t *testing.T) {
	t.Parallel()
	mux := decoding()
	const pan = "4111111111111111"
	for name, c := range map[string]struct{ body, pointer string }{
		"as a string":                         {noted(`"` + pan + `"`), "/note"},
		"in a text":                           {noted(`"my card is ` + pan + `, thanks"`), "/note"},
		"within letters":                      {noted(`"tok_` + pan + `x"`), "/note"},
		"with blanks":                         {noted(`"4111 1111 1111 1111"`), "/note"},
		"with hyphens":                        {noted(`"4111-1111-1111-1111"`), "/note"},
		"after other digits":                  {noted(`"12 4111 1111 1111 1111 12/29"`), "/note"},
		"15 digits":                           {noted(`"3782 822463 10005"`), "/note"},
		"19 digits":                           {noted(`"6304000000000000000"`), "/note"},
		"as a number":                         {with(":2}", ":"+pan+"}"), "/lines/0/quantity"},
		"escaped":                             {noted(`"\u0034111111111111111"`), "/note"},
		"in an unknown member":                {with(`{"currency"`, `{"x":["`+pan+`"],"currency"`), "/x/0"},
		"as a name":                           {with(`{"currency"`, `{"`+pan+`":1,"currency"`), ""},
		"below such a name":                   {with(`{"currency"`, `{"x":{"`+pan+`":1},"currency"`), "/x"},
		"in a body that is invalid otherwise": {`{"payment_token":"` + pan + `"}`, "/payment_token"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := problem(t, post(t, mux, c.body), http.StatusUnprocessableEntity, "card-data-not-accepted")
			if len(p.Errors) != 1 || p.Errors[0].Pointer != c.pointer {
				t.Errorf("got errors %+v, want one at %q", p.Errors, c.pointer)
			}
		})
	}
}

func TestDecodeNeverEchoes(t *testing.T) {
	t.Parallel()
	mux := decoding()
	const secret = "s3cr3t-t0k3n"
	for name, body := range map[string]string{
		"bad e-mail":        with("ada@example.com", secret),
		"bad currency":      with("EUR", secret),
		"not one of":        with(`{"currency"`, `{"priority":"`+secret+`","currency"`),
		"bad SKU":           with("MUG-01", secret),
		"wrong type":        with(":2}", `:"`+secret+`"}`),
		"unknown member":    with(`{"currency"`, `{"x":"`+secret+`","currency"`),
		"duplicate member":  with(`"payment_token"`, `"currency":"`+secret+`","payment_token"`),
		"malformed":         goodOrder + secret,
		"control character": noted(`"` + secret + `\u0000"`),
		"too long":          with("Ada Lovelace", strings.Repeat(secret, 20)),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			res := post(t, mux, body)
			if got := bodyOf(t, res); res.StatusCode < 400 || res.StatusCode > 422 || strings.Contains(got, secret) {
				t.Errorf("got %d %s, want a 4xx that doesn't repeat %q", res.StatusCode, got, secret)
			}
		})
	}
}

func TestDecodeMediaTypes(t *testing.T) {
	t.Parallel()
	mux := decoding()
	for name, c := range map[string]struct {
		header []string
		status int
		code   string
	}{
		"none":            {[]string{"Content-Type", ""}, 415, "unsupported-media-type"},
		"text":            {[]string{"Content-Type", "text/plain"}, 415, "unsupported-media-type"},
		"form":            {[]string{"Content-Type", "application/x-www-form-urlencoded"}, 415, "unsupported-media-type"},
		"multipart":       {[]string{"Content-Type", "multipart/form-data; boundary=x"}, 415, "unsupported-media-type"},
		"xml":             {[]string{"Content-Type", "application/xml"}, 415, "unsupported-media-type"},
		"problem":         {[]string{"Content-Type", "application/problem+json"}, 415, "unsupported-media-type"},
		"unreadable":      {[]string{"Content-Type", "application/json; charset"}, 415, "unsupported-media-type"},
		"twice":           {[]string{"Content-Type", "application/json", "Content-Type", "application/json"}, 415, "unsupported-media-type"},
		"latin 1":         {[]string{"Content-Type", "application/json; charset=latin1"}, 415, "unsupported-media-type"},
		"UTF-16":          {[]string{"Content-Type", "application/json; charset=utf-16"}, 415, "unsupported-media-type"},
		"UTF-8":           {[]string{"Content-Type", "Application/JSON; charset=UTF-8"}, 202, ""},
		"gzip":            {[]string{"Content-Encoding", "gzip"}, 415, "unsupported-encoding"},
		"br":              {[]string{"Content-Encoding", "br"}, 415, "unsupported-encoding"},
		"gzip of gzip":    {[]string{"Content-Encoding", "identity", "Content-Encoding", "gzip, gzip"}, 415, "unsupported-encoding"},
		"identity":        {[]string{"Content-Encoding", "identity"}, 202, ""},
		"xml wanted":      {[]string{"Accept", "text/xml"}, 406, "not-acceptable"},
		"json not wanted": {[]string{"Accept", "application/json;q=0, */*"}, 406, "not-acceptable"},
		"nothing wanted":  {[]string{"Accept", "*/*;q=0.0"}, 406, "not-acceptable"},
		"json wanted":     {[]string{"Accept", "text/xml, application/json;q=0.1"}, 202, ""},
		"a browser":       {[]string{"Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}, 202, ""},
		"any application": {[]string{"Accept", "text/xml", "Accept", "application/*"}, 202, ""},
		"unreadable wish": {[]string{"Accept", "/"}, 202, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			res := post(t, mux, goodOrder, c.header...)
			if c.code != "" {
				problem(t, res, c.status, c.code)
			} else if res.StatusCode != c.status {
				t.Errorf("got %d, want %d", res.StatusCode, c.status)
			}
		})
	}
}

func TestDecodeSize(t *testing.T) {
	t.Parallel()
	mux := decoding()
	padded := func(size int) string { return goodOrder + strings.Repeat(" ", size-len(goodOrder)) }
	if res := post(t, mux, padded(64<<10)); res.StatusCode != http.StatusAccepted {
		t.Errorf("64 KiB: got %d, want 202", res.StatusCode)
	}
	for name, body := range map[string]string{
		"64 KiB + 1":          padded(64<<10 + 1),
		"10 MB":               padded(10 << 20),
		"10 MB in one string": `{"note":"` + strings.Repeat("x", 10<<20) + `"}`,
	} {
		if res := post(t, mux, body); !res.Close && res.Header.Get("Connection") != "close" {
			t.Errorf("%s: the connection stays open", name)
		} else {
			problem(t, res, http.StatusRequestEntityTooLarge, "body-too-large")
		}
	}
}

// A program's mistakes are found by its first test, not by its clients.
func TestDecodeOfWhatCannotBeDecoded(t *testing.T) {
	t.Parallel()
	mux := httpapi.NewMux(discard)
	mux.Handle("POST /v1/orders", func(w http.ResponseWriter, r *http.Request) error {
		_, err := httpapi.Decode[struct {
			F float64 `json:"currency"`
		}](w, r)
		return err
	})
	problem(t, post(t, mux, goodOrder), http.StatusInternalServerError, "internal")
}
