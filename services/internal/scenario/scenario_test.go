package scenario

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestStoriesAreNamedAndHavePages(t *testing.T) {
	t.Parallel()
	form := regexp.MustCompile(`^[a-z]+(-[a-z]+)*$`)
	var names, pages []string
	for _, s := range Stories() {
		names = append(names, s.Name)
		if !form.MatchString(s.Name) || !strings.HasSuffix(s.Title, ".") || s.tell == nil {
			t.Errorf("story %+v, want a name like declined-then-paid, a sentence, and a function", s)
		}
		if found, err := Find(s.Name); err != nil || found.Title != s.Title {
			t.Errorf("find %s: got %q, %v: are two called so?", s.Name, found.Title, err)
		}
	}
	if _, err := Find("nowhere"); err == nil || !strings.Contains(err.Error(), names[0]) {
		t.Errorf("find a story that isn't there: %v, want an error that names those that are", err)
	}
	files, err := filepath.Glob("pages/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		pages = append(pages, strings.TrimSuffix(filepath.Base(f), ".md"))
	}
	slices.Sort(names)
	slices.Sort(pages) // they came by their files' names
	if !slices.Equal(pages, names) {
		t.Errorf("pages of %v, stories %v; \"shopctl scenario all --pages services/internal/scenario/pages\" writes them", pages, names)
	}
}

// pretend is a shop whose answers are given, by method and path; all others are 404.
func pretend(t *testing.T, answers map[string]string) Shop {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, known := answers[r.Method+" "+r.URL.Path]
		switch {
		case !known:
			w.WriteHeader(http.StatusNotFound)
		case r.Method == http.MethodPost:
			w.WriteHeader(http.StatusAccepted)
		}
		if _, err := w.Write([]byte(body)); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(s.Close)
	return Shop{Addr: s.URL}
}

const someID = "01a2149f-33d6-7228-b855-c650e3d1d8ca"

// rejected is an order that was.
const rejected = `{"id":"` + someID + `","status":"rejected","reason_code":"out_of_stock","total_minor":890,"history":[
	{"status":"placed","at":"2026-03-01T12:00:00Z"},{"status":"rejected","reason_code":"out_of_stock","at":"2026-03-01T12:00:00.02Z"}]}`

// TestStoriesNotice tells stories of shops that aren't as they must be.
func TestStoriesNotice(t *testing.T) {
	t.Parallel()
	placed := map[string]string{"POST /v1/orders": rejected, "GET /v1/orders/" + someID: rejected}
	noMoney := map[string]string{
		"POST /v1/orders": rejected, "GET /v1/orders/" + someID: rejected, "GET /v1/payments": `{"payments":[]}`, "GET /v1/stock-moves": `{"moves":[]}`,
		"GET /v1/notifications": `{"notifications":[{"kind":"orders.order_placed"},{"kind":"orders.order_rejected"}]}`,
	}
	buys := func(s *scene) *order { return s.customer("Ada").buys(byCard, tea.times(1)) }
	for _, tt := range []struct {
		name      string
		shop      map[string]string
		tell      func(*scene)
		step, got string
		order     bool
	}{
		{"an answer of another status", nil, func(s *scene) { buys(s) }, "Ada orders 1 TEA-01, paid by tok_ok", "404", false},
		{"another status", placed, func(s *scene) { buys(s).goes("placed", "authorizing") }, "Ada orders 1 TEA-01, paid by tok_ok", "rejected: out_of_stock, after placed → rejected", true},
		{"another reason", placed, func(s *scene) { buys(s).goes("placed", "rejected: unknown_sku") }, "Ada orders 1 TEA-01, paid by tok_ok", "rejected: out_of_stock", true},
		{"a request that isn't refused", placed, func(s *scene) {
			o := buys(s)
			o.asks(tooLate, "GET", o.path(), nil)
		}, "Ada orders 1 TEA-01, paid by tok_ok", "200", true},
		{"a way that goes on", noMoney, func(s *scene) {
			o := buys(s)
			o.goes("placed")
			o.ends(outcome{told: "placed rejected"})
		}, "in the end", "placed → rejected", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := Story{Name: "test", tell: tt.tell}.Tell(t.Context(), pretend(t, tt.shop), func(Line) {})
			if r.Outcome != Failed || !strings.HasPrefix(r.Why, tt.step) || !strings.Contains(r.Why, "got "+tt.got) || strings.Contains(r.Why, someID) != tt.order {
				t.Errorf("%s: %s\nwant a failure of %q that got %q", r.Outcome, r.Why, tt.step, tt.got)
			}
		})
	}
	whole := Story{Name: "test", Whole: true, tell: func(*scene) { t.Error("it was told without tools") }}
	if r := whole.Tell(t.Context(), pretend(t, nil), func(Line) {}); r.Outcome != NotRun || !strings.Contains(r.Why, "DATABASE_URL") {
		t.Errorf("a story of the whole shop without its database: %s, %s; want not run, and why", r.Outcome, r.Why)
	}
}

func TestSumOfMoves(t *testing.T) {
	t.Parallel()
	got := sum([]change{
		{SKU: "B", Available: 2, Reserved: -2}, {SKU: "A", Sold: 1, Reserved: -1}, {SKU: "B", Available: -2, Reserved: 2}, {SKU: "A", Available: -1, Reserved: 1},
	})
	if want := []change{{SKU: "A", Available: -1, Sold: 1}}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestPrinter(t *testing.T) {
	t.Parallel()
	lines := []Line{
		{Kind: Step, Text: "Ada orders 1 TEA-01"},
		{Kind: Request, Text: "POST /v1/orders", Code: 202, Note: "Idempotency-Replayed: true"},
		{Kind: Fact, Text: "order", Note: someID},
		{Kind: Status, Text: "placed"},
		{Kind: Status, Text: "payment_failed", At: 31 * time.Millisecond, Note: "card_declined"},
		{Kind: Status, Text: "expired", At: 15*time.Minute + 1200*time.Millisecond},
		{Kind: Request, Text: "POST /v1/orders/{order}/cancel", Code: 409, Note: "order-not-cancellable"},
	}
	told := func(p *Printer, r Result) string {
		var b strings.Builder
		p.Out = &b
		p.Begin(Story{Name: "a-story", Title: "What happens."})
		for _, l := range lines {
			p.Line(l)
		}
		p.End(r)
		if err := p.Err(); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	wide := func(s string) string { return fmt.Sprintf("    %-52s", s) }
	want := "a-story  What happens.\n\n  Ada orders 1 TEA-01\n" +
		wide("POST /v1/orders") + "       202  Idempotency-Replayed: true\n" +
		"    order       " + someID + "\n" +
		wide("placed") + "      0 ms\n" +
		wide("payment_failed") + "     31 ms  card_declined\n" +
		wide("expired") + "     15m1s\n" +
		wide("POST /v1/orders/{order}/cancel") + "       409  order-not-cancellable\n"
	if got, want := told(&Printer{}, Result{Outcome: Passed, Seconds: 1.23}), want+"\n  passed after 1.2 s\n\n"; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	page := strings.NewReplacer(someID, "00000000-0000-7000-8000-000000000001", "     0 ms", "        …", "    31 ms", "        …", "    15m1s", "        …").Replace(want)
	if got := told(&Printer{Page: true}, Result{Outcome: Passed, Seconds: 1.23}); got != page {
		t.Errorf("a page: got\n%s\nwant\n%s", got, page)
	}
	colored := told(&Printer{Color: true}, Result{Outcome: Failed, Why: "it broke"})
	if got := regexp.MustCompile(`\x1b\[\d+m`).ReplaceAllString(colored, ""); got != want+"\n  failed: it broke\n\n" {
		t.Errorf("in colours: got\n%s\nwant\n%s", got, want)
	}
	for _, mark := range []string{bold + "a-story", yellow + "     409", red + "failed"} {
		if !strings.Contains(colored, mark) {
			t.Errorf("no %q in %q", mark, colored)
		}
	}
}

// TestAPageThatCantBeWritten sees that the first error is kept.
func TestAPageThatCantBeWritten(t *testing.T) {
	t.Parallel()
	f, err := os.Open(os.DevNull) // for reading only
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	p := &Printer{Out: f}
	p.Begin(Story{Name: "a-story"})
	if p.Err() == nil {
		t.Error("got no error")
	}
}
