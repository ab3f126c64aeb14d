package orders

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
	"example.com/orderflow/messaging/httpapi"
)

const (
	service = "orders"
	queue   = "orders"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Spec declares the service: its schema, its queue, and what it sends and speaks.
func Spec() messaging.Spec {
	return messaging.Spec{
		Name: service,
		Queues: []messaging.Queue{{
			Name: queue,
			Mode: messaging.Transactional,
			// An order ignores what has happened to it already, or at most gives back
			// once more what it gave back, and a product ignores what is older than it
			// is: the log may come again, after a restore for example.
			Replayable: true,
			Kinds: []string{
				contracts.KindStockReserved, contracts.KindStockPartiallyReserved, contracts.KindStockRejected, contracts.KindStockReleased, contracts.KindReservationExpired,
				contracts.KindFulfilmentStarted, contracts.KindFulfilmentRefused,
				contracts.KindShipmentPacked, contracts.KindShipmentDispatched, contracts.KindShipmentDelivered, contracts.KindShipmentLost,
				contracts.KindReturnReceived,
				contracts.KindPaymentAuthorized, contracts.KindPaymentDeclined, contracts.KindPaymentCaptured, contracts.KindCaptureFailed,
				contracts.KindPaymentVoided, contracts.KindPaymentVoidRefused, contracts.KindRefundSucceeded, contracts.KindRefundFailed,
				contracts.KindProductChanged,
			},
		}},
		Sends: []string{
			contracts.KindReserveStock, contracts.KindReleaseStock, contracts.KindFulfilOrder, contracts.KindStopFulfilment,
			contracts.KindDispatchShipment, contracts.KindExpectReturn,
			contracts.KindAuthorizePayment, contracts.KindCapturePayment, contracts.KindVoidPayment, contracts.KindRefundPayment,
			contracts.KindCheckAvailability,
		},
		Asks: []string{contracts.KindCheckAvailability},
		Speaks: []string{
			contracts.KindOrderPlaced, contracts.KindOrderStatusChanged, contracts.KindOrderActionRequired, contracts.KindOrderAmended,
			contracts.KindOrderConfirmed, contracts.KindOrderShipped, contracts.KindOrderDelivered, contracts.KindOrderCompleted,
			contracts.KindOrderCancelled, contracts.KindCancelRefused, contracts.KindOrderRejected, contracts.KindOrderExpired,
			contracts.KindOrderRefunded, contracts.KindOrderNeedsAttention,
		},
		Migrations: migrations,
	}
}

// Config is what can be set of the service. All durations are by the shop's clock,
// unless they say otherwise.
type Config struct {
	// Hold is how long stock is held for an order, from when it was reserved, in
	// whole seconds.
	Hold time.Duration `env:"ORDERS_HOLD" envDefault:"30m" validate:"min=1s"`
	// Grace is how long an order waits before stock is asked for: a customer who
	// cancels within it causes no work anywhere.
	Grace time.Duration `env:"ORDERS_GRACE" envDefault:"0s" validate:"min=0s"`

	// How long an order waits in a status before the command is sent again; each
	// time that it is, twice as long. After the fourth an operator has to look.
	PlacedDeadline       time.Duration `env:"ORDERS_PLACED_DEADLINE" envDefault:"15s" validate:"min=1ms"` // beyond Grace
	AuthorizingDeadline  time.Duration `env:"ORDERS_AUTHORIZING_DEADLINE" envDefault:"1m" validate:"min=1ms"`
	ConfirmedDeadline    time.Duration `env:"ORDERS_CONFIRMED_DEADLINE" envDefault:"15s" validate:"min=1ms"`
	FulfillingDeadline   time.Duration `env:"ORDERS_FULFILLING_DEADLINE" envDefault:"1m" validate:"min=1ms"` // begins anew when picking goes on
	StoppingDeadline     time.Duration `env:"ORDERS_STOPPING_DEADLINE" envDefault:"15s" validate:"min=1ms"`
	CapturingDeadline    time.Duration `env:"ORDERS_CAPTURING_DEADLINE" envDefault:"1m" validate:"min=1ms"`
	DispatchingDeadline  time.Duration `env:"ORDERS_DISPATCHING_DEADLINE" envDefault:"1h" validate:"min=1ms"`
	ShippedDeadline      time.Duration `env:"ORDERS_SHIPPED_DEADLINE" envDefault:"1h" validate:"min=1ms"` // begins anew when it is under way
	RefundingDeadline    time.Duration `env:"ORDERS_REFUNDING_DEADLINE" envDefault:"1m" validate:"min=1ms"`
	CompensatingDeadline time.Duration `env:"ORDERS_COMPENSATING_DEADLINE" envDefault:"1m" validate:"min=1ms"`
	ReturnDeadline       time.Duration `env:"ORDERS_RETURN_DEADLINE" envDefault:"168h" validate:"min=1ms"` // of goods on their way back

	// PaymentFailedDeadline is how long a customer may take to pay in another way
	// before the order is rejected.
	PaymentFailedDeadline time.Duration `env:"ORDERS_PAYMENT_FAILED_DEADLINE" envDefault:"15m" validate:"min=1ms"`
	// DecisionDeadline is how long a customer may take to say whether a part of the
	// order will do before it expires. The stock is held no longer than Hold.
	DecisionDeadline time.Duration `env:"ORDERS_DECISION_DEADLINE" envDefault:"15m" validate:"min=1ms"`
	// ReturnWindow is how long after the delivery a customer may announce that goods
	// are sent back.
	ReturnWindow time.Duration `env:"ORDERS_RETURN_WINDOW" envDefault:"336h" validate:"min=1ms"`

	// AvailabilityDeadline is how long inventory may take to say what is available,
	// in real time.
	AvailabilityDeadline time.Duration `env:"ORDERS_AVAILABILITY_DEADLINE" envDefault:"2s" validate:"min=1ms,max=30s"`
}

func (c Config) rules() Rules {
	return Rules{
		Hold:         c.Hold,
		Grace:        c.Grace,
		ReturnWindow: c.ReturnWindow,
		Deadlines: map[Status]time.Duration{
			Placed:           c.Grace + c.PlacedDeadline,
			AwaitingCustomer: c.DecisionDeadline,
			Authorizing:      c.AuthorizingDeadline,
			PaymentFailed:    c.PaymentFailedDeadline,
			Confirmed:        c.ConfirmedDeadline,
			Fulfilling:       c.FulfillingDeadline,
			Stopping:         c.StoppingDeadline,
			Capturing:        c.CapturingDeadline,
			Dispatching:      c.DispatchingDeadline,
			Shipped:          c.ShippedDeadline,
			Delivered:        c.ReturnDeadline,
			Refunding:        c.RefundingDeadline,
			Compensating:     c.CompensatingDeadline,
		},
	}
}

// Service is the orders service.
type Service struct {
	rules Rules
	db    *sqlx.DB
	bus   *messaging.Bus
	log   *slog.Logger
	asks  time.Duration // how long an answer of inventory is waited for
}

// New returns the service with its handlers and its deadlines registered on bus,
// which is of Spec and not running yet. db is a pool under the service's role.
// It returns an error for a Config that breaks the rules in its tags.
func New(cfg Config, db *sqlx.DB, bus *messaging.Bus, log *slog.Logger) (*Service, error) {
	if err := validator.New(validator.WithRequiredStructEnabled()).Struct(cfg); err != nil {
		return nil, fmt.Errorf("configuration of service %s: %w", service, err)
	}
	s := &Service{rules: cfg.rules(), db: db, bus: bus, log: log, asks: cfg.AvailabilityDeadline}
	s.handle(bus)
	bus.Schedule("deadlines", s.deadlines)
	return s, nil
}

// errNoProducts says that inventory's products haven't arrived yet.
var errNoProducts = errors.New("no products are known yet")

// Ready returns nil once products are known: before, every order is refused.
func (s *Service) Ready(ctx context.Context) error {
	known, err := hasProducts(ctx, s.db)
	if err != nil {
		return err
	}
	if !known {
		return errNoProducts
	}
	return nil
}

// Routes registers the service's routes.
func (s *Service) Routes(mux *httpapi.Mux) {
	mux.Handle("POST /v1/orders", s.createOrder)
	mux.Handle("GET /v1/orders", s.listOrders)
	mux.Handle("GET /v1/orders/{id}", s.getOrder)
	mux.Handle("POST /v1/orders/{id}/cancel", s.cancelOrder)
	mux.Handle("POST /v1/orders/{id}/decision", s.decideOrder)
	mux.Handle("POST /v1/orders/{id}/payment", s.payOrder)
	mux.Handle("POST /v1/orders/{id}/returns", s.askReturn)
	mux.Handle("POST /v1/orders/{id}/refunds", s.refundOrder)
	mux.Handle("POST /v1/orders/{id}/resolution", s.resolveOrder)
	mux.Handle("GET /v1/availability", s.showAvailability)
}
