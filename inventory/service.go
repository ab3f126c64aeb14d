package inventory

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
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
				contracts.KindFulfilOrder, contracts.KindStopFulfilment, contracts.KindDispatchShipment,
				contracts.KindExpectReturn, contracts.KindCheckAvailability,
			},
		}},
		Speaks: []string{
			contracts.KindProductChanged, contracts.KindStockLevelChanged,
			contracts.KindStockReserved, contracts.KindStockPartiallyReserved, contracts.KindStockRejected,
			contracts.KindStockReleased, contracts.KindReservationExpired,
			contracts.KindFulfilmentStarted, contracts.KindFulfilmentRefused,
			contracts.KindShipmentPacked, contracts.KindShipmentDispatched, contracts.KindShipmentDelivered, contracts.KindShipmentLost,
			contracts.KindReturnReceived,
		},
		Migrations: migrations,
	}
}

const queue = "inventory"

// Config is what can be set from outside.
type Config struct {
	// Warehouse is "auto" (each step happens after its delay) or "manual" (each
	// step, and the arrival of each return, waits for a request to /v1/shipments).
	Warehouse string `env:"INVENTORY_WAREHOUSE" envDefault:"auto" validate:"oneof=auto manual"`

	PickDelay     time.Duration `env:"INVENTORY_PICK_DELAY" envDefault:"300ms" validate:"min=0s,max=720h"`     // picking -> packed
	DispatchDelay time.Duration `env:"INVENTORY_DISPATCH_DELAY" envDefault:"200ms" validate:"min=0s,max=720h"` // packed and paid -> shipped
	DeliveryDelay time.Duration `env:"INVENTORY_DELIVERY_DELAY" envDefault:"500ms" validate:"min=0s,max=720h"` // shipped -> delivered, or lost
	ReturnDelay   time.Duration `env:"INVENTORY_RETURN_DELAY" envDefault:"1s" validate:"min=0s,max=720h"`      // a return was announced -> it is there

	// Short makes the automatic warehouse find less than was reserved:
	// "MUG-02=1,…" are the pieces of a SKU that it misses each time that it picks it.
	Short map[string]int `env:"INVENTORY_SHORT" envKeyValSeparator:"=" validate:"dive,min=1,max=1000000"`
	// Loses makes the automatic carrier lose each shipment with one of these SKUs:
	// "POT-01,…".
	Loses []string `env:"INVENTORY_LOSES"`

	// Seed fills a catalogue that is empty with SeedProducts when the service starts.
	Seed bool `env:"INVENTORY_SEED" envDefault:"true"`
}

// Service is the inventory service of one process.
type Service struct {
	db     *sqlx.DB
	bus    *messaging.Bus
	log    *slog.Logger
	pace   pace
	habits habits
	seed   bool
	seeded bool // only the schedule of reservations reads and writes it
}

// New returns the service on db, a pool under its own role, with its handlers
// and its schedule registered on bus. It fails when cfg is not valid.
func New(cfg Config, db *sqlx.DB, bus *messaging.Bus, log *slog.Logger) (*Service, error) {
	if err := validator.New().Struct(cfg); err != nil {
		return nil, fmt.Errorf("configuration of inventory: %w", err)
	}
	for _, sku := range slices.AppendSeq(slices.Clone(cfg.Loses), maps.Keys(cfg.Short)) {
		if !skuForm.MatchString(sku) {
			return nil, fmt.Errorf("configuration of inventory: %q can't be a SKU", sku)
		}
	}
	s := &Service{db: db, bus: bus, log: log, seed: cfg.Seed}
	s.pace = pace{pick: cfg.PickDelay, dispatch: cfg.DispatchDelay, deliver: cfg.DeliveryDelay, giveBack: cfg.ReturnDelay}
	s.habits = habits{short: cfg.Short, loses: cfg.Loses}
	if cfg.Warehouse == "manual" {
		s.pace = manual
	}

	bus.Preload(queue, s.preload)
	messaging.Handle(bus, s.reserveStock)
	messaging.Handle(bus, s.releaseStock)
	messaging.Handle(bus, s.fulfilOrder)
	messaging.Handle(bus, s.stopFulfilment)
	messaging.Handle(bus, s.dispatchShipment)
	messaging.Handle(bus, s.expectReturn)
	messaging.Answer(bus, s.checkAvailability)
	bus.Schedule("reservations due", s.onTime)
	bus.Schedule("returns due", s.onReturns)
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
