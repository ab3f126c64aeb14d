package httpapi_test

import (
	"net/http"
	"testing"

	"example.com/orderflow/messaging/httpapi"
)

// FuzzDecode: whatever the body, the answer is 202 or a 4xx; what is accepted is
// accepted again as it comes out.
func FuzzDecode(f *testing.F) {
	for _, seed := range []string{
		goodOrder, "", "null", "[]", `{"lines":[{}]}`, `{"lines":[null]}`, `{"customer":{}}`, noted(`"\ud83d"`),
		noted(`"4111 1111 1111 1111"`), nested(17), "\xEF\xBB\xBF{}", `{"a":1,"a":1}`, `{"":{"":[]}}`,
		with(":2}", ":1e400}"), with(":2}", ":-0}"), goodOrder + goodOrder, `{"\u0000/~":1}`,
	} {
		f.Add([]byte(seed))
	}
	mux := decoding()
	f.Fuzz(func(t *testing.T, body []byte) {
		res := post(t, mux, string(body))
		out := bodyOf(t, res)
		switch {
		case res.StatusCode == http.StatusAccepted:
			if _, err := httpapi.Fingerprint(body); err != nil {
				t.Errorf("accepted and has no fingerprint: %v", err)
			}
			if again := post(t, mux, out); again.StatusCode != http.StatusAccepted {
				t.Errorf("got %d for what was accepted before: %s", again.StatusCode, out)
			}
		case res.StatusCode < 400 || res.StatusCode >= 500:
			t.Errorf("got %d %s, want 202 or a 4xx", res.StatusCode, out)
		}
	})
}
