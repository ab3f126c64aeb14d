package inventory

import "regexp"

// Product is what the shop sells.
type Product struct {
	SKU        string `json:"sku" db:"sku"` // skuForm
	Name       string `json:"name" db:"name"`
	PriceMinor int64  `json:"price_minor" db:"price_minor"` // minor units, > 0
	Currency   string `json:"currency" db:"currency"`       // ISO 4217
	Available  int64  `json:"available" db:"available"`     // pieces that can be reserved now
}

// skuForm is what a SKU looks like; the products table checks the same.
var skuForm = regexp.MustCompile(`^[A-Z0-9]+(-[A-Z0-9]+)*$`)

// SeedProducts is the catalogue that a new shop starts with: one product sold
// out, one nearly, one with stock enough for any load.
func SeedProducts() []Product {
	return []Product{
		{SKU: "MUG-01", Name: "Stoneware mug", PriceMinor: 1490, Currency: "EUR", Available: 4000},
		{SKU: "MUG-02", Name: "Travel mug, steel", PriceMinor: 2450, Currency: "EUR", Available: 3000},
		{SKU: "TEA-01", Name: "Breakfast tea, 250 g", PriceMinor: 890, Currency: "EUR", Available: 5000},
		{SKU: "COFFEE-01", Name: "Espresso beans, 1 kg", PriceMinor: 2190, Currency: "EUR", Available: 5000},
		{SKU: "POT-01", Name: "Cast-iron teapot", PriceMinor: 5900, Currency: "EUR", Available: 2000},
		{SKU: "KETTLE-01", Name: "Gooseneck kettle", PriceMinor: 7900, Currency: "EUR", Available: 2500},
		{SKU: "GRINDER-01", Name: "Hand grinder", PriceMinor: 11900, Currency: "EUR", Available: 2000},
		{SKU: "SCALE-01", Name: "Kitchen scale", PriceMinor: 3900, Currency: "EUR", Available: 3000},
		{SKU: "TOWEL-01", Name: "Linen tea towel", PriceMinor: 1250, Currency: "EUR", Available: 6000},
		{SKU: "FILTER-01", Name: "Paper filters, 100", PriceMinor: 490, Currency: "EUR", Available: 1_000_000},
		{SKU: "BOWL-01", Name: "Hand-thrown tea bowl", PriceMinor: 14900, Currency: "EUR", Available: 3},
		{SKU: "SET-01", Name: "Tea set, limited edition", PriceMinor: 24900, Currency: "EUR", Available: 0},
	}
}
