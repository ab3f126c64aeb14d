package inventory

import (
	"strings"
	"testing"

	"example.com/orderflow/messaging/messagingtest"
)

// A page of the ledger is read from the index of what it is about: it costs the
// same however much else has moved.
func TestMovesAreReadFromTheirIndex(t *testing.T) {
	t.Parallel()
	f := newFixture(t, byHand())
	tx, err := f.Service("inventory").BeginTxx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]struct {
		query string
		index string
	}{
		"of an order":            {movesQuery("order", ""), "stock_moves_by_order"},
		"of an order and a SKU":  {movesQuery("order", "SKU"), "stock_moves_by_order"},
		"of a SKU, in its order": {movesQuery("", "SKU"), "stock_moves_by_sku"},
		"all":                    {movesQuery("", ""), "stock_moves_pkey"},
	} {
		lines, err := messagingtest.Explain(t.Context(), tx, want.query)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if plan := strings.Join(lines, "\n"); !strings.Contains(plan, want.index) {
			t.Errorf("%s: got not from %s:\n%s", name, want.index, plan)
		}
	}
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
}
