package inventory

import (
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"testing"

	"pgregory.net/rapid"

	"example.com/orderflow/messaging"
	"example.com/orderflow/messaging/messagingtest"
)

// TestModel sends commands and operators' requests at random, repeated and out of
// turn, to the service, and does the same to a model of a few lines. After each
// step outcome, messages, counters, reservations and ledger must be the model's.
func TestModel(t *testing.T) {
	t.Parallel()
	checks, steps := 5, 100
	if long() {
		checks, steps = 100, 200
	}
	setFlag(t, "rapid.checks", checks)
	setFlag(t, "rapid.steps", steps)
	setFlag(t, "rapid.nofailfile", true) // the seed that it prints says as much
	w := &world{t: t, f: running(t, byHand()), seen: map[string]int{}}
	rapid.Check(t, func(rt *rapid.T) {
		w.begin(rt)
		rt.Repeat(map[string]func(*rapid.T){
			"reserve": w.reserve, "reserve another": w.reserve,
			"go on": w.goOn, "go on again": w.goOn, "go on and on": w.goOn, "go on further": w.goOn,
			"release":   w.release,
			"fulfil":    w.fulfil,
			"stop":      w.stop,
			"dispatch":  w.dispatch,
			"pack":      w.pack,
			"hand over": w.handOver,
			"deliver":   w.deliver,
			"lose":      w.lose,
			"send back": w.sendBack,
			"receive":   w.receive,
			"restock":   w.restock,
			"wait":      w.wait,
			"":          w.compare,
		})
		w.f.addsUp(t)
	})
	t.Logf("seen: %v", w.seen)
	for _, rare := range []string{
		"partly held", "rejected", "released before it was reserved", "unpacked", "stopped", "too late to stop", "expired",
		"picked short", "found nothing", "delivered", "lost", "returned", "returned again", "returned too much",
	} {
		if long() && w.seen[rare] == 0 {
			t.Errorf("nothing was %q: the test proves nothing about it", rare)
		}
	}
}

// setFlag sets a flag of rapid unless the command line has.
func setFlag[T any](t *testing.T, name string, value T) {
	t.Helper()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == name })
	if given {
		return
	}
	if err := flag.Set(name, fmt.Sprint(value)); err != nil {
		t.Fatal(err)
	}
}

// pieces are quantities by SKU.
type pieces map[string]int

// booked is a reservation of the model.
type booked struct {
	order
	status          Status
	partial, asked  bool
	held, off, back pieces // of the held: written off, returned
	returns         []*returning
}

// left is how many pieces of a SKU there are to ship, or to send back.
func (b *booked) left(sku string) int { return b.held[sku] - b.off[sku] - b.back[sku] }

type returning struct {
	id       string
	lines    pieces
	received bool
}

// world is the service and, for the check in hand, its model.
type world struct {
	t    *testing.T
	f    fixture
	n    int     // checks so far: each has SKUs of its own
	next *booked // the order that the step in hand is about; nil = any
	seen map[string]int

	skus   []string
	stock  map[string]*counters
	orders []*booked
}

func (w *world) begin(rt *rapid.T) {
	w.n++
	w.skus, w.stock, w.orders = nil, map[string]*counters{}, nil
	w.runOut(rt) // those of the check before
	var products []Product
	for i := range 3 {
		sku := "M-" + strconv.Itoa(w.n) + "-" + strconv.Itoa(i)
		n := rapid.Int64Range(0, 9).Draw(rt, "pieces")
		products = append(products, Product{SKU: sku, Name: "Thing", PriceMinor: 1, Currency: "EUR", Available: n})
		w.skus, w.stock[sku] = append(w.skus, sku), &counters{Initial: n, Available: n}
	}
	if err := w.f.service.Seed(w.t.Context(), products); err != nil {
		w.t.Fatalf("seed: %v", err)
	}
	w.f.Published(w.t, "inventory")
}

// one is an order: mostly one in one of statuses, else any, or a new one.
func (w *world) one(rt *rapid.T, statuses ...Status) *booked {
	if w.next != nil {
		return w.next
	}
	fit := slices.DeleteFunc(slices.Clone(w.orders), func(b *booked) bool { return !slices.Contains(statuses, b.status) })
	kind := rapid.IntRange(0, 9).Draw(rt, "kind of order")
	switch {
	case kind < 7 && len(fit) > 0:
		return rapid.SampledFrom(fit).Draw(rt, "order")
	case kind < 9 && len(w.orders) > 0:
		return rapid.SampledFrom(w.orders).Draw(rt, "order")
	}
	return &booked{order: newOrder(), held: pieces{}, off: pieces{}, back: pieces{}}
}

// sends delivers a command and compares outcome and answers.
func (w *world) sends(rt *rapid.T, m messaging.Body, outcome string, kinds ...string) {
	if got := w.f.Deliver(w.t, m)[0]; got != outcome {
		rt.Fatalf("%s: outcome %q, want %q", m.Kind(), got, outcome)
	}
	w.hears(rt, kinds...)
}

// asks sends a request and compares status and what is said.
func (w *world) asks(rt *rapid.T, request, body string, legal bool, kinds ...string) {
	want := http.StatusOK
	if !legal {
		want, kinds = http.StatusConflict, nil
	}
	if got, answer := w.f.call(w.t, request, body); got != want {
		rt.Fatalf("%s %s: status %d, want %d: %s", request, body, got, want, answer)
	}
	w.hears(rt, kinds...)
}

func (w *world) hears(rt *rapid.T, want ...string) {
	if got := messagingtest.Kinds(w.f.Published(w.t, "inventory")); !slices.Equal(got, want) {
		rt.Fatalf("published %v, want %v", got, want)
	}
}

// moves changes the counters of a SKU of the model.
func (w *world) moves(sku string, available, reserved, sold, writtenOff int) {
	c := w.stock[sku]
	c.Available, c.Reserved = c.Available+int64(available), c.Reserved+int64(reserved)
	c.Sold, c.WrittenOff = c.Sold+int64(sold), c.WrittenOff+int64(writtenOff)
}

// stands is a reservation as the database has it.
type stands struct {
	ID      string `db:"id"`
	Status  Status `db:"status"`
	Partial bool   `db:"partial"`
	Asked   bool   `db:"asked"`
	Lines   []byte `db:"lines"`
}

// compare holds the database against the model.
func (w *world) compare(rt *rapid.T) {
	w.seen["steps"]++
	var rows []struct {
		SKU string `db:"sku"`
		counters
		Ledger []byte `db:"ledger"`
	}
	err := w.f.Admin.Select(&rows, `
		SELECT s.sku, s.initial, s.restocked, s.available, s.reserved, s.sold, s.written_off,
			(SELECT json_build_object('initial', coalesce(sum(m.initial), 0), 'restocked', coalesce(sum(m.restocked), 0), 'available', coalesce(sum(m.available), 0),
				'reserved', coalesce(sum(m.reserved), 0), 'sold', coalesce(sum(m.sold), 0), 'written_off', coalesce(sum(m.written_off), 0))
			 FROM inventory.stock_moves m WHERE m.sku = s.sku) AS ledger
		FROM inventory.stock s
		WHERE s.sku = ANY ($1)`, w.skus)
	if err != nil || len(rows) != len(w.skus) {
		rt.Fatalf("read the stock: %d SKUs, %v", len(rows), err)
	}
	for _, row := range rows {
		var ledger counters
		if err := json.Unmarshal(row.Ledger, &ledger); err != nil {
			rt.Fatal(err)
		}
		if row.counters != *w.stock[row.SKU] || ledger != *w.stock[row.SKU] {
			rt.Fatalf("%s: stock %+v, ledger %+v, model %+v", row.SKU, row.counters, ledger, *w.stock[row.SKU])
		}
	}
	ids := make([]string, len(w.orders))
	for i, b := range w.orders {
		ids[i] = b.reservation
	}
	var list []stands
	err = w.f.Admin.Select(&list, `
		SELECT r.id, r.status, r.partial, r.status = 'packed' AND r.next_at IS NOT NULL AS asked,
			(SELECT coalesce(json_object_agg(l.sku, json_build_array(l.quantity, l.written_off, l.returned)), '{}')
			 FROM inventory.reservation_lines l WHERE l.reservation_id = r.id) AS lines
		FROM inventory.reservations r
		WHERE r.id = ANY ($1::uuid[])`, ids)
	if err != nil || len(list) != len(ids) {
		rt.Fatalf("read %d reservations of %d: %v", len(list), len(ids), err)
	}
	for _, s := range list {
		b := w.orders[slices.Index(ids, s.ID)]
		got, want := map[string][3]int{}, map[string][3]int{}
		if err := json.Unmarshal(s.Lines, &got); err != nil {
			rt.Fatal(err)
		}
		for sku, n := range b.held {
			want[sku] = [3]int{n, b.off[sku], b.back[sku]}
		}
		if s.Status != b.status || s.Partial != b.partial || s.Asked != b.asked || !maps.Equal(got, want) {
			rt.Fatalf("reservation %s: %s, partial %t, asked %t, %v; model: %s, %t, %t, %v", s.ID, s.Status, s.Partial, s.Asked, got, b.status, b.partial, b.asked, want)
		}
	}
}
