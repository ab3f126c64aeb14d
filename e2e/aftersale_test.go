package e2e

import (
	"fmt"
	"testing"
)

// booksAgree asks those who keep books about an order, of which two of three mugs
// and a tea were found and sold, and one mug came back: payments' ledger and the
// provider. Orders, stock and mails were asked by its story; all must agree to the
// piece and to the cent.
func (s *Stack) booksAgree(t *testing.T, id string) {
	t.Helper()
	const mug, tea = 1490, 890
	for name, query := range map[string]string{
		"ledger": `SELECT string_agg(kind || ' ' || amount_minor, ', ' ORDER BY kind) FROM payments.ledger l JOIN payments.payments p ON p.id = l.payment_id WHERE p.order_id = $1::uuid`,
		"books":  `SELECT string_agg(kind || ' ' || amount_minor, ', ' ORDER BY kind) FROM paysim.operations WHERE reference = $1 AND kind <> 'authorize' AND status = 'succeeded'`,
	} {
		var got string
		if err := s.Admin.GetContext(t.Context(), &got, query, id); err != nil {
			t.Fatalf("read the %s: %v", name, err)
		}
		if want := fmt.Sprintf("capture %d, refund %d", 2*mug+tea, mug); got != want {
			t.Errorf("the %s say %q, want %q", name, got, want)
		}
	}
	lines := Must[struct {
		Lines []struct {
			SKU      string `json:"sku"`
			Quantity int    `json:"quantity"`
			Packed   int    `json:"packed"`
			Returned int    `json:"returned"`
			Refunded int    `json:"refunded"`
		} `json:"lines"`
	}](t, NewCustomer(t, s.URL), 200, "GET", "/v1/orders/"+id, nil, "X-Role", "operator").Lines
	if got, want := fmt.Sprint(lines), "[{MUG-01 3 2 1 1} {TEA-01 1 1 0 0}]"; got != want {
		t.Errorf("lines (ordered, packed, returned, refunded) are %s, want %s", got, want)
	}
}
