package e2e

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// misbehave puts rules in force instead of those before.
func (s *Stack) misbehave(t testing.TB, rules ...conduct) {
	t.Helper()
	s.askConduct(t, http.MethodPut, map[string]any{"rules": rules})
}

// conductLeft are the rules in force, with what is left of their counts.
func (s *Stack) conductLeft(t testing.TB) []conduct {
	t.Helper()
	return s.askConduct(t, http.MethodGet, nil)
}

func (s *Stack) askConduct(t testing.TB, method string, body any) []conduct {
	t.Helper()
	provider := NewCustomer(t, s.Reach(first("paysim")))
	return Must[struct{ Rules []conduct }](t, provider, http.StatusOK, method, "/provider/v1/admin/conduct", body, "Authorization", "Bearer "+s.passwords["paysim"]).Rules
}

// everyMisdeed are rules for times requests of each operation and each misdeed that
// leaves the shop without an answer or late, and for webhooks.
func everyMisdeed(times int, operations ...string) []conduct {
	var rules []conduct
	for _, op := range operations {
		for _, misdeed := range []string{"timeout_before", "timeout_after", "error_before", "error_after", "too_many", "slow", "reset", "down"} {
			rules = append(rules, conduct{Operation: op, Misdeed: misdeed, Count: times, DelayMS: 300})
		}
	}
	for _, misdeed := range []string{"doubled", "delayed", "shuffled", "lost"} {
		rules = append(rules, conduct{Operation: "webhook", Misdeed: misdeed, Count: times, DelayMS: 1000})
	}
	return rules
}

// providerMisdeeds has every operation go wrong in every way while customers buy,
// cancel and send back, until each has gone wrong as often as it was to.
func providerMisdeeds(t *testing.T, s *Stack) {
	var promised []string
	for _, round := range []struct {
		operations []string
		stories    []story
	}{
		{[]string{"authorize", "capture"}, []story{keeps}},
		{[]string{"void", "refund"}, []story{cancelsLate, sendsBack}},
	} {
		rules := everyMisdeed(scaled(1, 10), round.operations...)
		s.misbehave(t, rules...)
		ids, took := s.keepOn(t, round.stories)
		promised = append(promised, ids...)
		hits := 0
		for _, r := range rules {
			hits += r.Count
		}
		t.Logf("%v and webhooks went wrong %d times, in each of %d ways; %d orders, all at their end %s after the provider was well (to reach: %s)",
			round.operations, hits, len(rules), len(ids), took, goesOn)
	}
	CheckShop(t, s.DSN("", ""), promised...)
	s.checkOneEffect(t)
}

// keepOn has customers live through stories, again and again, until no misdeed is
// left. It returns the orders' ids and how long after that the last story ended.
func (s *Stack) keepOn(t *testing.T, stories []story) (ids []string, took time.Duration) {
	t.Helper()
	var mu sync.Mutex
	var customers sync.WaitGroup
	enough := make(chan struct{})
	for i := range 6 {
		c, story := NewCustomer(t, s.URL), stories[i%len(stories)]
		customers.Go(func() {
			for {
				id, err := story.live(t, c)
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				ids = append(ids, id)
				mu.Unlock()
				select {
				case <-enough:
					return
				default:
				}
			}
		})
	}
	end := time.Now().Add(10 * goesOn)
	left := s.conductLeft(t)
	for ; len(left) > 0 && time.Now().Before(end) && !t.Failed(); left = s.conductLeft(t) {
		time.Sleep(200 * time.Millisecond)
	}
	if len(left) > 0 {
		t.Errorf("what the provider was to do wrong and hadn't the opportunity to: %+v; each fault must hit", left)
	}
	well := time.Now()
	close(enough)
	customers.Wait()
	return ids, since(well)
}

// checkOneEffect checks the provider's books, and that no operation was tried under a
// second key, since what came of the first was never given up.
func (s *Stack) checkOneEffect(t testing.TB) {
	t.Helper()
	for what, query := range map[string]string{
		"keys with more than one effect":              `SELECT key FROM paysim.operations WHERE status = 'succeeded' GROUP BY key HAVING count(*) > 1`,
		"orders with more than one authorization":     `SELECT reference FROM paysim.operations WHERE kind = 'authorize' GROUP BY reference HAVING count(*) > 1`,
		"operations that were tried under a new key":  `SELECT min(key) FROM payments.provider_calls GROUP BY payment_id, attempt, operation, refund_id HAVING count(*) > 1`,
		"operations of which nobody knows the result": `SELECT key FROM payments.provider_calls WHERE answered_at IS NULL`,
	} {
		var list []string
		if err := s.Admin.SelectContext(t.Context(), &list, query); err != nil {
			t.Fatalf("look for %s: %v", what, err)
		}
		if len(list) > 0 {
			t.Errorf("%s: %v, want none", what, list)
		}
	}
}

// providerDown has the provider hang up on everybody for a while: orders are taken,
// stock is set aside and customers are told meanwhile, and all goes on afterwards.
func providerDown(t *testing.T, s *Stack) {
	outage := scaled(5*time.Second, time.Minute)
	noticed := func() int { return strings.Count(s.Logs(first("payments")), "is left alone") }
	before := noticed()
	c := NewCustomer(t, s.URL)
	healed := time.Now().Add(outage)
	s.misbehave(t, conduct{Misdeed: "down", Seconds: int(outage.Seconds())})
	var ids []string
	var slowest time.Duration
	for time.Now().Before(healed.Add(-outage / 2)) { // so that none is still on its way when the provider is back
		started := time.Now()
		id := c.Place(t, wish("FILTER-01", "tok_ok")).ID
		ids = append(ids, id)
		if err := c.reach(t, id, time.Minute, "authorizing"); err != nil { // so stock was set aside
			t.Error(err)
		}
		told(t, c, id, "order_placed")
		slowest = max(slowest, time.Since(started))
		time.Sleep(outage / 20)
	}
	if noticed() == before {
		t.Error("payments hasn't noticed that the provider is down: the fault must hit")
	}
	time.Sleep(time.Until(healed))
	for _, id := range ids {
		if err := c.arrive(t, id, 10*goesOn); err != nil {
			t.Error(err)
		}
	}
	var early int
	err := s.Admin.GetContext(t.Context(), &early, `SELECT count(*) FROM paysim.operations WHERE reference = ANY ($1) AND at < $2`, ids, healed)
	if err != nil {
		t.Fatalf("read the provider's books: %v", err)
	}
	if early > 0 {
		t.Errorf("the provider has done %d things for them while it was down", early)
	}
	t.Logf("provider down for %s: %d orders taken, stock set aside and customer told after %s at the slowest; all delivered %s after it was back (to reach: %s)",
		outage, len(ids), slowest.Round(time.Millisecond), since(healed), goesOn)
	CheckShop(t, s.DSN("", ""), ids...)
	s.checkOneEffect(t)
}

// told waits until the customer was told of just these events, in any order.
func told(t *testing.T, c *Customer, id string, events ...string) {
	t.Helper()
	slices.Sort(events)
	eventually(t, healLimit, func() error {
		list := Must[struct{ Notifications []struct{ Kind string } }](t, c, http.StatusOK, http.MethodGet, "/v1/notifications?order_id="+id, nil)
		var got []string
		for _, n := range list.Notifications {
			got = append(got, strings.TrimPrefix(n.Kind, "orders."))
		}
		slices.Sort(got)
		if !slices.Equal(got, events) {
			return fmt.Errorf("told of %v, want %v", got, events)
		}
		return nil
	})
}
