package orders

import (
	"strings"
	"testing"

	"example.com/orderflow/messaging/messagingtest"
)

// A list is read in order from an index that has nothing else: it costs the same
// however many orders others have.
func TestListsAreReadFromTheirIndex(t *testing.T) {
	t.Parallel()
	s := newIdleShop(t)
	tx, err := s.db.Service(service).BeginTxx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]struct {
		query string
		index string
	}{
		"a customer's":                     {listQuery("customer", ""), "orders_of_customer"},
		"a customer's in a status":         {listQuery("customer", Shipped), "orders_of_customer"},
		"everybody's":                      {listQuery("", ""), "orders_pkey"},
		"everybody's that needs attention": {listQuery("", NeedsAttention), "orders_needing_attention"},
	} {
		lines, err := messagingtest.Explain(t.Context(), tx, want.query)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if plan := strings.Join(lines, "\n"); !strings.Contains(plan, want.index) || strings.Contains(plan, "Sort") {
			t.Errorf("%s: got not in order from %s:\n%s", name, want.index, plan)
		}
	}
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
}
