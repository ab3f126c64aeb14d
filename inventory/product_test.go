package inventory

import "testing"

func TestSeedProductsAreInForm(t *testing.T) {
	t.Parallel()
	products := SeedProducts()
	if len(products) != 12 {
		t.Errorf("%d products, want 12", len(products))
	}
	seen := map[string]bool{}
	for _, p := range products {
		if seen[p.SKU] || !skuForm.MatchString(p.SKU) || p.Name == "" || p.PriceMinor <= 0 || p.Currency != "EUR" || p.Available < 0 {
			t.Errorf("product %+v is out of form or there twice", p)
		}
		seen[p.SKU] = true
	}
}
