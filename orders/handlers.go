package orders

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"example.com/orderflow/messaging"
	"example.com/orderflow/messaging/contracts"
)

// handle registers the handlers of queue orders.
func (s *Service) handle(bus *messaging.Bus) {
	bus.Preload(queue, s.preload)
	messaging.Handle(bus, s.onProductChanged)
	messaging.Handle(bus, s.onStockReserved)
	messaging.Handle(bus, s.onStockPartiallyReserved)
	messaging.Handle(bus, s.onStockRejected)
	messaging.Handle(bus, s.onStockReleased)
	messaging.Handle(bus, s.onReservationExpired)
	messaging.Handle(bus, s.onFulfilmentStarted)
	messaging.Handle(bus, s.onFulfilmentRefused)
	messaging.Handle(bus, s.onShipmentPacked)
	messaging.Handle(bus, s.onShipmentDispatched)
	messaging.Handle(bus, s.onShipmentDelivered)
	messaging.Handle(bus, s.onShipmentLost)
	messaging.Handle(bus, s.onReturnReceived)
	messaging.Handle(bus, s.onPaymentAuthorized)
	messaging.Handle(bus, s.onPaymentDeclined)
	messaging.Handle(bus, s.onPaymentCaptured)
	messaging.Handle(bus, s.onCaptureFailed)
	messaging.Handle(bus, s.onPaymentVoided)
	messaging.Handle(bus, s.onPaymentVoidRefused)
	messaging.Handle(bus, s.onRefundSucceeded)
	messaging.Handle(bus, s.onRefundFailed)
}

// batch is what preload leaves for the handlers: the orders of the messages,
// locked, as the handlers before have made them.
type batch struct {
	now    time.Time
	orders map[string]*Order
}

// withLines are the kinds that are about the lines of an order. An order that may
// be sent back or refunded comes with its lines anyway.
var withLines = []string{contracts.KindStockPartiallyReserved, contracts.KindShipmentPacked, contracts.KindShipmentLost}

// preload locks every order that messages are about, in one statement. The lines
// are read only where deciding needs them.
func (s *Service) preload(ctx context.Context, tx *messaging.Tx, messages []messaging.Message) error {
	var ids, lined []string
	for _, m := range messages {
		if uuid.Validate(m.OrderID) != nil { // of a product, or no order's at all
			continue
		}
		ids = append(ids, m.OrderID)
		if slices.Contains(withLines, m.Kind) {
			lined = append(lined, m.OrderID)
		}
	}
	loaded := &batch{orders: map[string]*Order{}}
	tx.Loaded = loaded
	if len(ids) == 0 {
		return nil
	}
	slices.Sort(ids)
	locked, err := lockOrders(ctx, tx, slices.Compact(ids), lined)
	if err != nil {
		return err
	}
	for i := range locked {
		loaded.now = locked[i].Now
		loaded.orders[locked[i].ID] = &locked[i].Order
	}
	return nil
}

// onStockReserved asks for the payment.
func (s *Service) onStockReserved(ctx context.Context, tx *messaging.Tx, m contracts.StockReserved) error {
	return s.apply(ctx, tx, m)
}

// onStockPartiallyReserved asks the customer whether the part that is there will do.
func (s *Service) onStockPartiallyReserved(ctx context.Context, tx *messaging.Tx, m contracts.StockPartiallyReserved) error {
	return s.apply(ctx, tx, m)
}

// onStockRejected ends the order: nothing is held or owed.
func (s *Service) onStockRejected(ctx context.Context, tx *messaging.Tx, m contracts.StockRejected) error {
	return s.apply(ctx, tx, m)
}

// onStockReleased notes that an order being undone holds no stock any more; of one
// that was to be stopped, that it can be undone.
func (s *Service) onStockReleased(ctx context.Context, tx *messaging.Tx, m contracts.StockReleased) error {
	return s.apply(ctx, tx, m)
}

// onReservationExpired undoes an order whose stock was not held long enough.
func (s *Service) onReservationExpired(ctx context.Context, tx *messaging.Tx, m contracts.ReservationExpired) error {
	return s.apply(ctx, tx, m)
}

// onFulfilmentStarted notes that the warehouse is picking.
func (s *Service) onFulfilmentStarted(ctx context.Context, tx *messaging.Tx, m contracts.FulfilmentStarted) error {
	return s.apply(ctx, tx, m)
}

// onFulfilmentRefused undoes an order that the warehouse has nothing to pick for.
func (s *Service) onFulfilmentRefused(ctx context.Context, tx *messaging.Tx, m contracts.FulfilmentRefused) error {
	return s.apply(ctx, tx, m)
}

// onShipmentPacked takes the money for what was packed; nothing packed undoes the
// order.
func (s *Service) onShipmentPacked(ctx context.Context, tx *messaging.Tx, m contracts.ShipmentPacked) error {
	return s.apply(ctx, tx, m)
}

// onShipmentDispatched notes that the carrier has it.
func (s *Service) onShipmentDispatched(ctx context.Context, tx *messaging.Tx, m contracts.ShipmentDispatched) error {
	return s.apply(ctx, tx, m)
}

// onShipmentDelivered notes that the customer has it.
func (s *Service) onShipmentDelivered(ctx context.Context, tx *messaging.Tx, m contracts.ShipmentDelivered) error {
	return s.apply(ctx, tx, m)
}

// onShipmentLost gives all the money back.
func (s *Service) onShipmentLost(ctx context.Context, tx *messaging.Tx, m contracts.ShipmentLost) error {
	return s.apply(ctx, tx, m)
}

// onReturnReceived gives the money for what came back.
func (s *Service) onReturnReceived(ctx context.Context, tx *messaging.Tx, m contracts.ReturnReceived) error {
	return s.apply(ctx, tx, m)
}

// onPaymentAuthorized confirms the order and asks the warehouse; of goods that are
// packed already it takes the money. What has ended gives it back.
func (s *Service) onPaymentAuthorized(ctx context.Context, tx *messaging.Tx, m contracts.PaymentAuthorized) error {
	return s.apply(ctx, tx, m)
}

// onPaymentDeclined asks the customer for another method; the third time it
// undoes the order.
func (s *Service) onPaymentDeclined(ctx context.Context, tx *messaging.Tx, m contracts.PaymentDeclined) error {
	return s.apply(ctx, tx, m)
}

// onPaymentCaptured has the parcel handed to the carrier.
func (s *Service) onPaymentCaptured(ctx context.Context, tx *messaging.Tx, m contracts.PaymentCaptured) error {
	return s.apply(ctx, tx, m)
}

// onCaptureFailed asks the customer for another method; the goods stay packed.
func (s *Service) onCaptureFailed(ctx context.Context, tx *messaging.Tx, m contracts.CaptureFailed) error {
	return s.apply(ctx, tx, m)
}

// onPaymentVoided notes that no money is set aside for an order being undone.
func (s *Service) onPaymentVoided(ctx context.Context, tx *messaging.Tx, m contracts.PaymentVoided) error {
	return s.apply(ctx, tx, m)
}

// onPaymentVoidRefused has an operator look: the money can't be given back so.
func (s *Service) onPaymentVoidRefused(ctx context.Context, tx *messaging.Tx, m contracts.PaymentVoidRefused) error {
	return s.apply(ctx, tx, m)
}

// onRefundSucceeded notes that money went back; the last time it tells the customer.
func (s *Service) onRefundSucceeded(ctx context.Context, tx *messaging.Tx, m contracts.RefundSucceeded) error {
	return s.apply(ctx, tx, m)
}

// onRefundFailed has an operator look.
func (s *Service) onRefundFailed(ctx context.Context, tx *messaging.Tx, m contracts.RefundFailed) error {
	return s.apply(ctx, tx, m)
}

// onProductChanged keeps our copy of the catalogue.
func (s *Service) onProductChanged(ctx context.Context, tx *messaging.Tx, m contracts.ProductChanged) error {
	upsertProduct(tx, m, tx.Message().OccurredAt)
	return nil
}

// apply lets m happen to its order. What has no row in the transition table for
// the order as it is now is ignored: late, repeated, or overtaken.
func (s *Service) apply(ctx context.Context, tx *messaging.Tx, m messaging.Body) error {
	loaded, ok := tx.Loaded.(*batch)
	if !ok {
		return fmt.Errorf("%s of order %s: nothing was preloaded", m.Kind(), m.Order())
	}
	o, ok := loaded.orders[m.Order()]
	if !ok {
		tx.Ignore(ErrNotFound.Error())
		return nil
	}
	in := Input{On: m.Kind(), Body: m, At: loaded.now}
	if m.Kind() == contracts.KindShipmentLost {
		id, err := uuid.NewV7()
		if err != nil {
			return fmt.Errorf("make a refund id: %w", err)
		}
		in.ID = id.String()
	}
	step, err := s.rules.Decide(*o, in)
	if err != nil { // ErrStale, ErrIllegal
		tx.Ignore(err.Error())
		return nil
	}
	if err := s.carryOut(ctx, tx, step); err != nil {
		return err
	}
	*o = step.Order
	return nil
}

// carryOut queues what step writes and publishes what it sends, in the order's class.
func (s *Service) carryOut(ctx context.Context, tx *messaging.Tx, step Step) error {
	if step.Dirty {
		updateOrder(tx, step)
	}
	if step.Lines {
		updateLines(tx, step.Order)
	}
	for _, r := range step.Returns {
		if err := upsertReturn(tx, step.Order.ID, r); err != nil {
			return err
		}
	}
	for _, f := range step.Refunds {
		if err := upsertRefund(tx, step.Order.ID, f); err != nil {
			return err
		}
	}
	if e := step.Entry; e != nil {
		s.log.DebugContext(ctx, "order moved", "order_id", step.Order.ID, "from", e.From, "to", e.Status, "version", e.Version, "kind", e.Trigger)
	}
	return tx.Publish(inClass(step.Sends, step.Order.Class)...)
}

// inClass has bodies sent in class, whatever caused them.
func inClass(bodies []messaging.Body, class messaging.Class) []messaging.Body {
	list := make([]messaging.Body, len(bodies))
	for i, b := range bodies {
		list[i] = messaging.InClass(b, class)
	}
	return list
}
