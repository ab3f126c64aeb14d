package notifications

import (
	"context"
	"fmt"

	"github.com/google/uuid"

	"example.com/orderflow/messaging"
	"example.com/orderflow/messaging/contracts"
)

// onOrderPlaced tells the customer that the order is known.
func (s *Service) onOrderPlaced(_ context.Context, tx *messaging.Tx, m contracts.OrderPlaced) error {
	return s.notify(tx, m.Customer.ID, m)
}

// onOrderConfirmed tells the customer that goods and money are set aside.
func (s *Service) onOrderConfirmed(_ context.Context, tx *messaging.Tx, m contracts.OrderConfirmed) error {
	return s.notify(tx, m.Customer.ID, m)
}

// onOrderActionRequired tells the customer what to do, and until when.
func (s *Service) onOrderActionRequired(_ context.Context, tx *messaging.Tx, m contracts.OrderActionRequired) error {
	return s.notify(tx, m.Customer.ID, m)
}

// onOrderShipped tells the customer how to follow the parcel.
func (s *Service) onOrderShipped(_ context.Context, tx *messaging.Tx, m contracts.OrderShipped) error {
	return s.notify(tx, m.Customer.ID, m)
}

// onOrderDelivered tells the customer that the parcel is said to be there.
func (s *Service) onOrderDelivered(_ context.Context, tx *messaging.Tx, m contracts.OrderDelivered) error {
	return s.notify(tx, m.Customer.ID, m)
}

// onOrderCancelled tells the customer that the cancelling is done.
func (s *Service) onOrderCancelled(_ context.Context, tx *messaging.Tx, m contracts.OrderCancelled) error {
	return s.notify(tx, m.Customer.ID, m)
}

// onOrderRejected tells the customer that there will be nothing, and why.
func (s *Service) onOrderRejected(_ context.Context, tx *messaging.Tx, m contracts.OrderRejected) error {
	return s.notify(tx, m.Customer.ID, m)
}

// onOrderExpired tells the customer that it took too long.
func (s *Service) onOrderExpired(_ context.Context, tx *messaging.Tx, m contracts.OrderExpired) error {
	return s.notify(tx, m.Customer.ID, m)
}

// notify queues the one notification of the event in hand.
func (s *Service) notify(tx *messaging.Tx, customerID string, event messaging.Body) error {
	subject, body, err := s.texts.compose(event)
	if err != nil {
		return messaging.Permanent(err)
	}
	id, err := uuid.NewV7()
	if err != nil {
		return fmt.Errorf("make a notification id: %w", err)
	}
	in := tx.Message()
	insertNotification(tx, Notification{
		ID: id.String(), MessageID: in.ID, Channel: channelInbox,
		OrderID: event.Order(), CustomerID: customerID, Kind: event.Kind(),
		Subject: subject, Body: body, OccurredAt: in.OccurredAt,
	})
	return nil
}
