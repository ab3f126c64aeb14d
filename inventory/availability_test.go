package inventory

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"example.com/orderflow/messaging"
	"example.com/orderflow/messaging/contracts"
	"example.com/orderflow/messaging/messagingtest"
)

// curious is a service that asks what is available.
func curious() messaging.Spec {
	asks := []string{contracts.KindCheckAvailability}
	return messaging.Spec{
		Name: "curious", Sends: asks, Asks: asks,
		Migrations: fstest.MapFS{"migrations/0001_nothing.sql": {Data: []byte("-- +goose Up\nSELECT 1;\n")}},
	}
}

func TestCheckAvailability(t *testing.T) {
	t.Parallel()
	db := messagingtest.NewDB(t, Spec(), curious())
	bus := db.NewBus(t, Spec())
	s, err := New(byHand(), db.Service("inventory"), bus, messagingtest.Log(t))
	if err != nil {
		t.Fatal(err)
	}
	err = s.Seed(t.Context(), []Product{
		{SKU: "A-1", Name: "Mug", PriceMinor: 1000, Currency: "EUR", Available: 100},
		{SKU: "D-1", Name: "Set", PriceMinor: 4000, Currency: "EUR", Available: 0},
		{SKU: "OLD-1", Name: "Old", PriceMinor: 4000, Currency: "EUR", Available: 7},
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Admin.Exec(`UPDATE inventory.products SET active = false WHERE sku = 'OLD-1'`); err != nil {
		t.Fatal(err)
	}
	messagingtest.Run(t, bus)
	asker := db.NewBus(t, curious(), func(c *messaging.Config) { c.WithoutRelay = false })
	messagingtest.Run(t, asker)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()

	f := fixture{DB: db, bus: bus, service: s}
	f.handled(t, "done", newOrder().reserve("A-1", 3))
	odd := "A'; DROP TABLE inventory.stock;--"
	got, err := messaging.Ask(ctx, asker, contracts.CheckAvailability{SKUs: []string{"NOPE-1", "D-1", "A-1", "OLD-1", odd, "nul\x00"}})
	if err != nil {
		t.Fatal(err)
	}
	if want := []contracts.AvailableProduct{{SKU: "D-1", Available: 0}, {SKU: "A-1", Available: 97}}; !slices.Equal(got.Products, want) {
		t.Errorf("products: got %v, want %v", got.Products, want)
	}
	if want := []string{"NOPE-1", "OLD-1", odd, "nul\x00"}; !slices.Equal(got.Unknown, want) {
		t.Errorf("unknown: got %q, want %q", got.Unknown, want)
	}
	var refused *messaging.Refused
	if _, err := messaging.Ask(ctx, asker, contracts.CheckAvailability{}); !errors.As(err, &refused) || !strings.Contains(refused.Reason, "SKUs") {
		t.Errorf("nothing asked for: got %v, want a refusal that names the field", err)
	}
	f.addsUp(t)
}

// A check in the same batch as a reservation sees what the one before it took.
func TestCheckAvailabilityWithinABatch(t *testing.T) {
	t.Parallel()
	b := &batch{available: map[string]int64{"A-1": 5}, onSale: map[string]int64{"A-1": 9, "B-1": 4}}
	got, err := new(Service).checkAvailability(t.Context(), &messaging.Tx{Loaded: b}, contracts.CheckAvailability{SKUs: []string{"A-1", "B-1"}})
	if want := []contracts.AvailableProduct{{SKU: "A-1", Available: 5}, {SKU: "B-1", Available: 4}}; err != nil || !slices.Equal(got.Products, want) {
		t.Errorf("products: got %v, %v; want %v", got.Products, err, want)
	}
}
