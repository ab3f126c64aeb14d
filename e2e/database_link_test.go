package e2e

import (
	"fmt"
	"testing"
	"time"
)

// TestDatabaseLinks slows and cuts each service's link to the database in turn, then
// that of orders at its COMMITs: only what needs that service is refused, in time,
// and all goes on when the link is healed.
func TestDatabaseLinks(t *testing.T) {
	t.Parallel()
	s := NewStack(t)
	links := map[string]*Link{}
	for _, service := range services {
		if service == "console" { // which has no database
			continue
		}
		link, setting := s.LinkDatabase(t, service)
		s.Terminate(t, service)
		s.Launch(t, service, setting)
		links[service] = link
	}
	s.WaitReady(t, services...)
	c := NewCustomer(t, s.URL)
	known := c.Place(t, wish("MUG-01", "tok_ok")).ID
	c.Await(t, known, "delivered")
	promised := []string{known}

	shop := openShopping(t, NewCustomer(t, s.URL))
	asking := openAsking(t, s, known, c)
	for range scaled(1, 3) {
		for service, hit := range map[string][]string{
			"paysim": nil, "inventory": {"products", "inventory ready"}, "orders": {"place", "order", "orders ready"},
			"payments": {"payments", "payments ready"}, "notifications": {"notifications", "notifications ready"},
		} {
			links[service].Slow(200 * time.Millisecond)
			held := shop.later(t, links[service], scaled(1500*time.Millisecond, 20*time.Second))
			hits := links[service].Heal()
			asking.tell(t, fmt.Sprintf("the database's link of %s slow, %d pieces held up", service, hits), hits, nil)

			links[service].Cut()
			held = append(held, shop.later(t, links[service], scaled(1500*time.Millisecond, 10*time.Second))...)
			hits = links[service].Heal()
			healed := time.Now()
			for _, id := range held {
				shop.customer.Await(t, id, "delivered")
			}
			asking.tell(t, fmt.Sprintf("the database's link of %s cut, %d connections", service, hits), hits, hit)
			t.Logf("%s: the %d orders that were placed meanwhile delivered %s after its link was healed (to reach: %s)", service, len(held), since(healed), moveAgain)
		}
	}
	promised = append(append(promised, shop.close(t)...), asking.close()...)
	promised = append(promised, cutCommits(t, c, links["orders"])...)
	CheckShop(t, s.DSN("", ""), promised...)
	var orders int
	if err := s.Admin.GetContext(t.Context(), &orders, `SELECT count(*) FROM orders.orders`); err != nil {
		t.Fatal(err)
	}
	if orders != len(promised) {
		t.Errorf("%d orders were promised, %d exist", len(promised), orders)
	}
}

// later waits for d, and until the fault of the link has hit, for a while. It returns
// the orders that were promised meanwhile.
func (s *shopping) later(t *testing.T, l *Link, d time.Duration) []string {
	t.Helper()
	s.mu.Lock()
	before := len(s.promised)
	s.mu.Unlock()
	time.Sleep(d)
	for end := time.Now().Add(10 * d); l.Hits() == 0 && time.Now().Before(end); {
		time.Sleep(20 * time.Millisecond)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.promised[before:]...)
}

// tell is look for a fault whose hits were counted.
func (a *asking) tell(t *testing.T, fault string, hits int, questions []string) {
	t.Helper()
	a.look(t, fault, questions...)
	if hits == 0 {
		t.Errorf("%s: the fault didn't hit", fault)
	}
}
