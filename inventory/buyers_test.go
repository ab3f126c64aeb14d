package inventory

import (
	"bytes"
	"log/slog"
	"os"
	"sync"
	"testing"

	"example.com/orderflow/messaging"
	"example.com/orderflow/messaging/contracts"
	"example.com/orderflow/messaging/messagingtest"
)

// long reports whether tests run at full length.
func long() bool { return os.Getenv("ORDERFLOW_LONG") != "" }

// warnings is a log that keeps what is worth a warning.
type warnings struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (w *warnings) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.Write(b)
}

func (w *warnings) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.String()
}

// TestManyBuyersOfFewPieces has ten times as many buyers at once as there are
// pieces, through two processes, each order with its own answer to what it hears,
// as orders does it. Exactly what there is is sold, and nobody hears of a deadlock
// or any other error.
func TestManyBuyersOfFewPieces(t *testing.T) {
	t.Parallel()
	buyers, pieces := 100, 10
	if long() {
		buyers, pieces = 500, 50
	}
	f := newFixture(t, quick())
	err := f.service.Seed(t.Context(), []Product{
		{SKU: "HOT-1", Name: "Hot", PriceMinor: 1, Currency: "EUR", Available: int64(pieces)},
		{SKU: "WARM-1", Name: "Warm", PriceMinor: 1, Currency: "EUR", Available: int64(buyers)},
	})
	if err != nil {
		t.Fatalf("seed: %v", err)
	}
	f.Published(t, "inventory")
	orders := map[string]order{}
	for i := range buyers {
		o := newOrder()
		orders[o.id] = o
		if i%2 == 0 {
			f.Send(t, o.reserve("HOT-1", 1, "WARM-1", 1))
		} else {
			f.Send(t, o.reservePart("WARM-1", 1, "HOT-1", 1))
		}
	}
	var told warnings
	log := slog.New(slog.NewTextHandler(&told, &slog.HandlerOptions{Level: slog.LevelWarn}))
	for range 2 {
		bus := f.NewBus(t, Spec(), func(c *messaging.Config) { c.Log, c.Consumers = log, 2 })
		if _, err := New(quick(), f.Service("inventory"), bus, log); err != nil {
			t.Fatalf("new service: %v", err)
		}
		messagingtest.Run(t, bus)
	}
	counts, ended := map[string]int{}, 0
	messagingtest.Wait(t, "all orders to end", func() bool {
		for _, m := range f.Published(t, "inventory") {
			counts[m.Kind]++
			o := orders[m.OrderID]
			switch m.Kind {
			case contracts.KindStockReserved:
				f.Send(t, o.fulfil())
			case contracts.KindStockPartiallyReserved: // not without the hot one
				f.Send(t, o.release())
			case contracts.KindShipmentPacked:
				f.Send(t, o.dispatch())
			case contracts.KindShipmentDelivered, contracts.KindStockRejected, contracts.KindStockReleased:
				ended++
			}
		}
		return ended >= buyers
	})
	if counts[contracts.KindStockReserved] != pieces || counts[contracts.KindShipmentDelivered] != pieces || ended != buyers {
		t.Errorf("%d orders ended, published %v: want %d orders, %d delivered", ended, counts, buyers, pieces)
	}
	for _, sku := range []string{"HOT-1", "WARM-1"} {
		if got := f.stock(t, sku); got.Reserved != 0 || got.Sold != int64(pieces) {
			t.Errorf("stock of %s %+v, want %d sold and none reserved", sku, got, pieces)
		}
	}
	f.addsUp(t)
	var harmed []string
	err = f.Admin.Select(&harmed, `
		SELECT kind || ' was handled at attempt ' || attempts FROM messaging.inbox_inventory WHERE attempts > 1
		UNION ALL
		SELECT kind || ' is dead: ' || dead_reason FROM messaging.queue_inventory WHERE dead_reason IS NOT NULL
		UNION ALL
		SELECT deadlocks || ' deadlocks' FROM pg_stat_database WHERE datname = current_database() AND deadlocks > 0`)
	if err != nil {
		t.Fatalf("look for messages that failed: %v", err)
	}
	if len(harmed) > 0 || told.String() != "" {
		t.Errorf("somebody heard of an error: %v\n%s", harmed, told.String())
	}
}
