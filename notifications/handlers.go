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
	return s.notify(tx, m.Customer, m)
}

// onOrderConfirmed tells the customer that goods and money are set aside.
func (s *Service) onOrderConfirmed(_ context.Context, tx *messaging.Tx, m contracts.OrderConfirmed) error {
	return s.notify(tx, m.Customer, m)
}

// onOrderActionRequired tells the customer what to do, and until when.
func (s *Service) onOrderActionRequired(_ context.Context, tx *messaging.Tx, m contracts.OrderActionRequired) error {
	return s.notify(tx, m.Customer, m)
}

// onOrderAmended tells the customer what the order is for now.
func (s *Service) onOrderAmended(_ context.Context, tx *messaging.Tx, m contracts.OrderAmended) error {
	return s.notify(tx, m.Customer, m)
}

// onOrderShipped tells the customer how to follow the parcel.
func (s *Service) onOrderShipped(_ context.Context, tx *messaging.Tx, m contracts.OrderShipped) error {
	return s.notify(tx, m.Customer, m)
}

// onOrderDelivered tells the customer that the parcel is said to be there.
func (s *Service) onOrderDelivered(_ context.Context, tx *messaging.Tx, m contracts.OrderDelivered) error {
	return s.notify(tx, m.Customer, m)
}

// onOrderCompleted tells the customer that nothing can be returned any more.
func (s *Service) onOrderCompleted(_ context.Context, tx *messaging.Tx, m contracts.OrderCompleted) error {
	return s.notify(tx, m.Customer, m)
}

// onOrderCancelled tells the customer that the cancelling is done.
func (s *Service) onOrderCancelled(_ context.Context, tx *messaging.Tx, m contracts.OrderCancelled) error {
	return s.notify(tx, m.Customer, m)
}

// onCancelRefused tells the customer that it was too late to cancel.
func (s *Service) onCancelRefused(_ context.Context, tx *messaging.Tx, m contracts.CancelRefused) error {
	return s.notify(tx, m.Customer, m)
}

// onOrderRejected tells the customer that there will be nothing, and why.
func (s *Service) onOrderRejected(_ context.Context, tx *messaging.Tx, m contracts.OrderRejected) error {
	return s.notify(tx, m.Customer, m)
}

// onOrderExpired tells the customer that it took too long.
func (s *Service) onOrderExpired(_ context.Context, tx *messaging.Tx, m contracts.OrderExpired) error {
	return s.notify(tx, m.Customer, m)
}

// onOrderRefunded tells the customer how much money comes back.
func (s *Service) onOrderRefunded(_ context.Context, tx *messaging.Tx, m contracts.OrderRefunded) error {
	return s.notify(tx, m.Customer, m)
}

// notify queues the notifications of the event in hand: one per channel that is
// on. The mail is sent by a command that goes with them; whether the customer has
// webhook endpoints only the database knows when it writes, and sendDue sends.
func (s *Service) notify(tx *messaging.Tx, to contracts.Customer, event messaging.Body) error {
	in := tx.Message()
	t := telling{MessageID: in.ID, OrderID: event.Order(), CustomerID: to.ID, Kind: event.Kind(), OccurredAt: in.OccurredAt}
	var err error
	if t.Subject, t.Body, err = s.texts.compose(event); err != nil {
		return messaging.Permanent(err)
	}
	if t.InboxID, err = newID(); err != nil {
		return err
	}
	if t.WebhookID, err = newID(); err != nil {
		return err
	}
	if s.mailer != nil {
		html, err := s.texts.page(event)
		if err != nil {
			return messaging.Permanent(err)
		}
		id, err := newID()
		if err != nil {
			return err
		}
		t.EmailID, t.Recipient, t.RecipientName, t.HTML = &id, &to.Email, &to.Name, &html
		if err := tx.Publish(contracts.SendNotification{NotificationID: id, OrderID: event.Order()}); err != nil {
			return err
		}
	}
	insertNotifications(tx, t)
	return nil
}

func newID() (string, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return "", fmt.Errorf("make an id: %w", err)
	}
	return id.String(), nil
}
