package e2e

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
)

// poisonLimit is how soon a message that nobody can read is to be a dead letter.
const poisonLimit = 60 * time.Second

// TestBadMessages has messages come that can't be handled, and handlers that fail,
// while customers order: whoever isn't to blame notices nothing, and an operator
// finds each once among the dead letters.
func TestBadMessages(t *testing.T) {
	t.Parallel()
	s := NewStack(t)
	s.Load(t, loadRate, time.Second).Wait(t) // caches and pools fill
	base := s.Load(t, loadRate, scaled(3*time.Second, 30*time.Second)).Wait(t)
	t.Logf("%-34s p50 %3.0f ms, p99 %3.0f ms", "nothing wrong:", base.P50, base.P99)
	t.Run("poison", func(t *testing.T) { poisoned(t, s, base) })
	t.Run("failing handlers", func(t *testing.T) { failing(t, s, base) })
}

// loadRate is how many orders a second are placed while messages go wrong.
const loadRate = 12

// poison is a message as a broken or a foreign sender would write it.
type poison struct {
	table   string // below schema messaging
	kind    string
	version int
	payload string
	dies    string // where: the queue, or the outbox that it can't leave, as shopctl calls it
	reason  string // part of why
	id      string // UUID
}

// poisons are messages for every queue, put straight into it, and for some outboxes,
// from which relays carry them or don't.
func poisons() []poison {
	kinds := map[string]string{
		"orders": "payments.payment_captured", "inventory": "inventory.fulfil_order", "payments": "payments.capture_payment",
		"notifications": "orders.order_shipped", "notifications_send": "notifications.send_notification",
	}
	const mebibyte = 1 << 20
	full := func(n int) string { return `{"x":"` + strings.Repeat("x", n-len(`{"x":""}`)) + `"}` }
	var list []poison
	add := func(table, kind string, version int, payload, dies, reason string) {
		list = append(list, poison{table, kind, version, payload, dies, reason, uuid.Must(uuid.NewV7()).String()})
	}
	for queue, kind := range kinds {
		table := "queue_" + queue
		add(table, kind, 1, `{"order_id": "`, queue, "payload is no "+kind)
		add(table, kind, 1, ``, queue, "payload is no "+kind)
		add(table, kind, 99, `{}`, queue, "schema version 99")
		add(table, kind, 1, full(mebibyte), queue, "payload of "+kind+" is not valid")
		add(table, queue+".do_what_nobody_can", 1, `{}`, queue, "doesn't know")
		add(table, "nobody.said_this", 1, `{}`, queue, "doesn't know")
	}
	add("outbox_orders", "nobody.knows_this", 1, `{}`, "outbox of orders", "no queue and no log takes its kind")
	add("outbox_payments", "payments.payment_captured", 1, full(mebibyte+1), "outbox of payments", "payload_check")
	add("outbox_inventory", "inventory.shipment_packed", 1, `{"order_id": "`, "orders", "payload is no")
	add("outbox_orders", "payments.void_payment", 99, `{}`, "payments", "schema version 99")
	add("outbox_orders", "orders.order_delivered", 1, ``, "notifications", "payload is no")
	add("outbox_notifications", "notifications.send_notification", 1, full(mebibyte), "notifications_send", "is not valid")
	return list
}

// poisoned puts all poisons into the lane of an order that is under way.
func poisoned(t *testing.T, s *Stack, base LoadResult) {
	c := NewCustomer(t, s.URL)
	list := poisons()
	load := s.Load(t, loadRate, scaled(5*time.Second, 30*time.Second))
	if err := c.arrive(t, c.Place(t, wish("FILTER-01", "tok_ok")).ID, 10*goesOn); err != nil { // the load has begun by then
		t.Fatal(err)
	}
	order := c.Place(t, wish("FILTER-01", "tok_ok")).ID
	started := time.Now()
	for _, p := range list {
		_, err := s.Admin.ExecContext(t.Context(), `
			INSERT INTO messaging.`+p.table+` (message_id, kind, schema_version, lane, order_id, payload)
			VALUES ($1, $2, $3, $4, $5, $6)`, p.id, p.kind, p.version, order, order, []byte(p.payload))
		if err != nil {
			t.Fatalf("put %s into %s: %v", p.kind, p.table, err)
		}
	}
	s.awaitDead(t, len(list))
	t.Logf("%d messages nobody can handle, all dead letters after %s (to reach: %s)", len(list), since(started), poisonLimit)
	if err := c.arrive(t, order, 10*goesOn); err != nil {
		t.Errorf("the order in whose lane they came: %v", err)
	}
	s.compareLoads(t, "beside poison:", base, load.Wait(t))

	dead := s.deadLetters(t) // a second life would show by now
	if len(dead) != len(list) {
		t.Errorf("%d dead letters, want %d", len(dead), len(list))
	}
	byID := map[string][]letter{}
	for _, d := range dead {
		byID[d.MessageID] = append(byID[d.MessageID], d)
	}
	for _, p := range list {
		got := byID[p.id]
		if len(got) != 1 || got[0].Queue != p.dies || got[0].Attempts > 1 || !strings.Contains(got[0].Reason, p.reason) {
			t.Errorf("%s of version %d, %d bytes, put into %s: dead letters %+v; want one, in %s after one attempt, because of %q",
				p.kind, p.version, len(p.payload), p.table, got, p.dies, p.reason)
		}
		s.shopctl(t, "dead", "discard", p.id, "--why", "nobody can read it")
	}
	CheckShop(t, s.DSN("", ""), order)
	CheckLoad(t, s.Admin, base)
}

// compareLoads compares what neighbours noticed with base. Other tests run beside this
// one: when it looks bad, base is measured again, now that nothing is wrong, so that
// the machine's slowness isn't taken for the shop's.
func (s *Stack) compareLoads(t *testing.T, what string, base, got LoadResult) {
	t.Helper()
	if got.P99 > 10*base.P99 {
		again := s.Load(t, loadRate, scaled(3*time.Second, 30*time.Second)).Wait(t)
		t.Logf("%-34s p50 %3.0f ms, p99 %3.0f ms", "nothing wrong, measured again:", again.P50, again.P99)
		base.P99 = max(base.P99, again.P99)
	}
	compare(t, what, base, got)
}

// letter is a dead letter as an operator sees it.
type letter struct {
	MessageID string `json:"message_id"`
	Queue     string `json:"queue"`
	Kind      string `json:"kind"`
	OrderID   string `json:"order_id"`
	Attempts  int    `json:"attempts"`
	Reason    string `json:"reason"`
}

// awaitDead waits until there are n dead letters and returns them.
func (s *Stack) awaitDead(t testing.TB, n int) (dead []letter) {
	t.Helper()
	eventually(t, 10*poisonLimit, func() error {
		if dead = s.deadLetters(t); len(dead) < n {
			time.Sleep(500 * time.Millisecond) // each look is a process, which others notice
			return fmt.Errorf("%d dead letters, want %d: %+v", len(dead), n, dead)
		}
		return nil
	})
	return dead
}

// deadLetters are all that there are.
func (s *Stack) deadLetters(t testing.TB) []letter {
	t.Helper()
	var list struct {
		Letters []letter `json:"letters"`
	}
	out := s.shopctl(t, "dead", "list", "--json", "--limit", "1000")
	if err := json.Unmarshal(out, &list); err != nil {
		t.Fatalf("shopctl dead list prints no list: %v\n%s", err, out)
	}
	return list.Letters
}

// shopctl has an operator run a command, which must succeed, and returns what it
// prints.
func (s *Stack) shopctl(t testing.TB, args ...string) []byte {
	t.Helper()
	out, err := run(t.Context(), s.crew, "shopctl", map[string]string{"DATABASE_URL": s.DSN("", "")}, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}
