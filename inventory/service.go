package inventory

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/go-playground/validator/v10"
	"github.com/jmoiron/sqlx"

	"example.com/orderflow/messaging"
	"example.com/orderflow/messaging/contracts"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Spec declares the service to the messaging layer.
func Spec() messaging.Spec {
	return messaging.Spec{
		Name: "inventory",
		Queues: []messaging.Queue{{
			Name: queue,
			Mode: messaging.Transactional,
			Kinds: []string{
				contracts.KindReserveStock, contracts.KindReleaseStock,
				contracts.KindFulfilOrder, contracts.KindDispatchShipment,
				contracts.KindCheckAvailability,
			},
		}},
		Speaks: []string{
			contracts.KindProductChanged, contracts.KindStockLevelChanged,
			contracts.KindStockReserved, contracts.KindStockRejected, contracts.KindStockReleased, contracts.KindReservationExpired,
			contracts.KindFulfilmentStarted, contracts.KindFulfilmentRefused,
			contracts.KindShipmentPacked, contracts.KindShipmentDispatched, contracts.KindShipmentDelivered,
		},
		Migrations: migrations,
	}
}

const queue = "inventory"

// Config is what can be set from outside.
type Config struct {
	// Warehouse is "auto" (each step happens after its delay) or "manual" (each
	// step waits for a request to /v1/shipments).
	Warehouse string `env:"INVENTORY_WAREHOUSE" envDefault:"auto" validate:"oneof=auto manual"`

	PickDelay     time.Duration `env:"INVENTORY_PICK_DELAY" envDefault:"300ms" validate:"min=0s,max=720h"`     // picking -> packed
	DispatchDelay time.Duration `env:"INVENTORY_DISPATCH_DELAY" envDefault:"200ms" validate:"min=0s,max=720h"` // packed and paid -> shipped
	DeliveryDelay time.Duration `env:"INVENTORY_DELIVERY_DELAY" envDefault:"500ms" validate:"min=0s,max=720h"` // shipped -> delivered

	// Seed fills a catalogue that is empty with SeedProducts when the service starts.
	Seed bool `env:"INVENTORY_SEED" envDefault:"true"`
}

// Service is the inventory service of one process.
type Service struct {
	db     *sqlx.DB
	bus    *messaging.Bus
	log    *slog.Logger
	pace   pace
	look   time.Duration // the longest time between two looks for what is due
	seed   bool
	seeded bool // only the schedule reads and writes it
}

// New returns the service on db, a pool under its own role, with its handlers
// and its schedule registered on bus. It fails when cfg is not valid.
func New(cfg Config, db *sqlx.DB, bus *messaging.Bus, log *slog.Logger) (*Service, error) {
	if err := validator.New().Struct(cfg); err != nil {
		return nil, fmt.Errorf("configuration of inventory: %w", err)
	}
	s := &Service{db: db, bus: bus, log: log, seed: cfg.Seed}
	s.pace = pace{pick: cfg.PickDelay, dispatch: cfg.DispatchDelay, deliver: cfg.DeliveryDelay}
	if cfg.Warehouse == "manual" {
		s.pace = pace{pick: byOperator, dispatch: byOperator, deliver: byOperator}
	}
	s.look = s.pace.shortest()

	bus.Preload(queue, s.preload)
	messaging.Handle(bus, s.reserveStock)
	messaging.Handle(bus, s.releaseStock)
	messaging.Handle(bus, s.fulfilOrder)
	messaging.Handle(bus, s.dispatchShipment)
	messaging.Answer(bus, s.checkAvailability)
	bus.Schedule("reservations due", s.onTime)
	return s, nil
}

// Ready returns nil when there are products, or when nobody promised any.
func (s *Service) Ready(ctx context.Context) error {
	if !s.seed {
		return nil
	}
	stocked, err := anyProduct(ctx, s.db)
	if err != nil {
		return err
	}
	if !stocked {
		return errors.New("inventory has no products yet")
	}
	return nil
}

// Seed adds those of products whose SKU is not known yet, each with Available
// pieces in stock, and announces them. Called again, it does nothing.
func (s *Service) Seed(ctx context.Context, products []Product) error {
	return s.bus.InTx(ctx, func(ctx context.Context, tx *messaging.Tx) error {
		return addProducts(ctx, tx, products)
	})
}

// addProducts inserts what is new of products and announces it.
func addProducts(ctx context.Context, tx *messaging.Tx, products []Product) error {
	added, err := insertProducts(ctx, tx, products)
	if err != nil {
		return err
	}
	for _, p := range products {
		if !added[p.SKU] {
			continue
		}
		changed := contracts.ProductChanged{SKU: p.SKU, Name: p.Name, PriceMinor: p.PriceMinor, Currency: p.Currency, Active: true}
		if err := tx.Publish(changed); err != nil {
			return err
		}
	}
	return nil
}

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
