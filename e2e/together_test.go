package e2e

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// lease is how long a claimed message is nobody else's (messaging, C6).
const lease = 10 * time.Second

// overtakes is how soon another replica is to have done what a frozen one holds.
const overtakes = lease + 2*time.Second

// TestTogether has two replicas of each service do everything at the same time:
// start, while the database is migrated twice; be killed; take over from one
// another; and step whatever falls due.
func TestTogether(t *testing.T) {
	t.Parallel()
	s := newStack(t, WithReplicas(2))
	s.startTogether(t)
	// Work takes long enough to be caught at.
	slow := map[string]string{"payments": "FAULT_SLOW=payments.authorize_payment=150ms", "orders": "FAULT_SLOW=payments.payment_authorized=100ms"}
	for service, extra := range slow {
		for _, replica := range replicasOf(service, 1, 2) {
			s.Terminate(t, replica)
			s.Launch(t, replica, extra)
			s.WaitReady(t, replica)
		}
	}
	shop := openShopping(t, NewCustomer(t, s.URL))
	load := s.Load(t, scaled(6, 8), scaled(20*time.Second, 60*time.Second))

	var strikes []strike
	for service, extra := range slow {
		strikes = append(strikes, s.strike(t, service, shop, extra))
	}
	frozen := []held{s.freeze(t, "payments-1"), s.freeze(t, "orders-1")}
	for _, h := range frozen {
		s.awaitTakeover(t, h)
	}
	s.thaw(t, frozen)
	result := load.Wait(t)
	promised := shop.close(t)
	CheckShop(t, s.DSN("", ""), promised...)
	CheckLoad(t, s.Admin, result)
	s.checkCharges(t)
	for _, k := range strikes {
		k.tell(t, s)
	}
	s.checkOrder(t)
	s.fallDue(t)
	CheckShop(t, s.DSN("", ""), promised...)
}

// startTogether starts two of each service on an empty database while it is
// migrated twice: everybody waits for the migrations, which run once.
func (s *Stack) startTogether(t *testing.T) {
	t.Helper()
	started := time.Now()
	var names []string
	for _, service := range services {
		for _, replica := range replicasOf(service, 1, 2) {
			s.Launch(t, replica)
			names = append(names, replica)
		}
	}
	migrated := make(chan error, 2)
	for range cap(migrated) {
		go func() { migrated <- s.migrate(t.Context()) }()
	}
	if err := errors.Join(<-migrated, <-migrated); err != nil {
		t.Fatalf("two migrations at once: %v", err)
	}
	s.WaitReady(t, names...)
	t.Logf("two replicas of each service and two migrations, started at once: ready after %s", since(started))
}

// held is a frozen replica, and the messages that it has claimed.
type held struct {
	replica  string
	messages []string // ids
	at       time.Time
	said     int // bytes of its log before
}

// freeze pauses the replica at a moment when it has work in its hands: what was
// claimed lately, and is still half a lease later, which is longer than a batch of
// the other replica takes. Older claims are those of the dead.
func (s *Stack) freeze(t *testing.T, replica string) held {
	t.Helper()
	p := process(replica)
	claimed := func() (list []string) {
		err := s.Admin.SelectContext(t.Context(), &list, `
			SELECT message_id || ' ' || token FROM messaging.queue_`+p.Service+`
			WHERE token IS NOT NULL AND dead_reason IS NULL`)
		if err != nil {
			t.Fatalf("look what %s has in hand: %v", p.Service, err)
		}
		return list
	}
	for end := time.Now().Add(time.Minute); ; {
		old := claimed()
		time.Sleep(time.Second)
		if err := s.Pause(p); err != nil {
			t.Fatal(err)
		}
		h := held{replica: replica, at: time.Now(), said: len(s.Logs(p))}
		lately := slices.DeleteFunc(claimed(), func(m string) bool { return slices.Contains(old, m) })
		if len(lately) > 0 {
			time.Sleep(lease / 2)
			for _, m := range claimed() {
				if slices.Contains(lately, m) {
					id, _, _ := strings.Cut(m, " ")
					h.messages = append(h.messages, id)
				}
			}
		}
		if len(h.messages) > 0 {
			t.Logf("%s is frozen with %d messages in hand", replica, len(h.messages))
			return h
		}
		if err := s.Resume(p); err != nil {
			t.Fatal(err)
		}
		if time.Now().After(end) {
			t.Fatalf("%s has had no work in its hands whenever it was frozen", replica)
		}
	}
}

// awaitTakeover returns when others have handled all that a frozen replica holds.
func (s *Stack) awaitTakeover(t *testing.T, h held) {
	t.Helper()
	service := process(h.replica).Service
	var last time.Time
	eventually(t, 10*overtakes, func() error {
		var done int
		err := s.Admin.QueryRowxContext(t.Context(), `
			SELECT count(*), coalesce(max(handled_at), 'epoch') FROM messaging.inbox_`+service+`
			WHERE message_id = ANY ($1::uuid[])`, h.messages).Scan(&done, &last)
		if err == nil && done != len(h.messages) {
			err = fmt.Errorf("others have handled %d of the %d messages that %s holds", done, len(h.messages), h.replica)
		}
		return err
	})
	t.Logf("%s: the %d messages it held were handled by others %s after it was frozen (to reach: %s)",
		h.replica, len(h.messages), last.Sub(h.at).Round(time.Millisecond), overtakes)
}

// fenced is what a consumer says whose message has become another's: its lease,
// its transaction or its time was over. One that was frozen between claiming and
// beginning says nothing: it lets go of what it sees is over.
var fenced = []string{
	"message is another consumer's now", "the lease went to another consumer", "the database connection is gone",
	"the handler ran past its time limit", "message is slow, it will run alone",
}

// thaw lets frozen replicas go on with what others have done meanwhile. They must
// notice that, and what they held must have been handled once, by somebody who
// claimed it after them.
func (s *Stack) thaw(t *testing.T, frozen []held) {
	t.Helper()
	for _, h := range frozen {
		if err := s.Resume(process(h.replica)); err != nil {
			t.Fatal(err)
		}
	}
	noticed := make([]int, len(frozen))
	eventually(t, healLimit, func() error {
		all := 0
		for i, h := range frozen {
			noticed[i] = 0
			for line := range strings.Lines(s.Logs(process(h.replica))[h.said:]) {
				if slices.ContainsFunc(fenced, func(words string) bool { return strings.Contains(line, words) }) {
					noticed[i]++
				}
			}
			all += noticed[i]
		}
		if all == 0 {
			return errors.New("no replica that was frozen has noticed that its messages are others' now")
		}
		return nil
	})
	for i, h := range frozen {
		var rows, again int
		err := s.Admin.QueryRowxContext(t.Context(), `
			SELECT count(*), count(*) FILTER (WHERE attempts > 1) FROM messaging.inbox_`+process(h.replica).Service+`
			WHERE message_id = ANY ($1::uuid[])`, h.messages).Scan(&rows, &again)
		if err != nil {
			t.Fatalf("look what became of the messages that %s held: %v", h.replica, err)
		}
		if rows != len(h.messages) || again != rows {
			t.Errorf("%s held %d messages: handled %d times, %d of them after another had claimed them; want each once, so", h.replica, len(h.messages), rows, again)
		}
		t.Logf("%s: once it went on, it was fenced (noticed %d times), and its messages were handled once", h.replica, noticed[i])
	}
}

// checkOrder compares what orders told of each order, in the order in which its
// relays carried it, with the order's own history: two relays take turns.
func (s *Stack) checkOrder(t *testing.T) {
	t.Helper()
	var told, astray int
	err := s.Admin.QueryRowxContext(t.Context(), `
		WITH told AS (
			SELECT id, order_id, (convert_from(payload, 'UTF8')::jsonb->>'version')::int AS version
			FROM messaging.log_orders
			WHERE kind = 'orders.order_status_changed'),
		in_turn AS (
			SELECT version, lag(version) OVER (PARTITION BY order_id ORDER BY id) AS before FROM told)
		SELECT count(*), count(*) FILTER (WHERE version <= before) FROM in_turn`).Scan(&told, &astray)
	if err != nil {
		t.Fatalf("read what orders has told: %v", err)
	}
	if told == 0 || astray > 0 {
		t.Errorf("%d of %d changes of orders were told out of order; want 0 of some", astray, told)
	}
	t.Logf("%d changes of orders told, %d out of order", told, astray)
}

// checkCharges looks into the provider's books: each order was charged once,
// whoever asked for it how often.
func (s *Stack) checkCharges(t *testing.T) {
	t.Helper()
	var charges, others int
	err := s.Admin.QueryRowxContext(t.Context(), `
		SELECT count(*), count(*) FILTER (WHERE times <> 1)
		FROM (SELECT count(*) AS times FROM paysim.operations
		      WHERE kind IN ('authorize', 'capture') AND status = 'succeeded'
		      GROUP BY reference, kind) o`).Scan(&charges, &others)
	if err != nil {
		t.Fatalf("read the provider's books: %v", err)
	}
	if charges == 0 || others > 0 {
		t.Errorf("of %d charges the provider did %d another number of times than once; want 0 of some", charges, others)
	}
	t.Logf("provider's books: %d charges, each once", charges)
}

// fallDue has the return window of all orders end at once, which both replicas of
// orders look for: each order is completed once.
func (s *Stack) fallDue(t *testing.T) {
	t.Helper()
	var delivered int
	if err := s.Admin.GetContext(t.Context(), &delivered, `SELECT count(*) FROM orders.orders WHERE status = 'delivered'`); err != nil {
		t.Fatal(err)
	}
	if _, err := run(t.Context(), s.crew, "shopctl", map[string]string{"DATABASE_URL": s.DSN("", "")}, "clock", "advance", "2400h"); err != nil {
		t.Fatal(err)
	}
	var completed, steps int
	eventually(t, healLimit, func() error {
		err := s.Admin.QueryRowxContext(t.Context(), `
			SELECT (SELECT count(*) FROM orders.orders WHERE status = 'completed'),
			       (SELECT count(*) FROM orders.history WHERE status = 'completed')`).Scan(&completed, &steps)
		if err == nil && completed < delivered {
			err = fmt.Errorf("%d of %d delivered orders are completed", completed, delivered)
		}
		return err
	})
	if delivered == 0 || steps != completed {
		t.Errorf("of %d delivered orders %d were completed in %d steps, want each once", delivered, completed, steps)
	}
	t.Logf("%d orders fell due at once and were completed", completed)
}
