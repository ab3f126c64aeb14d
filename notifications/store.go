package notifications

import (
	"context"
	"fmt"

	"github.com/jmoiron/sqlx"

	"example.com/orderflow/messaging"
)

// insertNotification queues n; of an event that has one by that channel already,
// nothing is written.
func insertNotification(tx *messaging.Tx, n Notification) {
	tx.QueueRow(`
		INSERT INTO notifications.notifications (id, message_id, channel, order_id, customer_id, kind, subject, body, occurred_at)
		SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::uuid[], $5::text[], $6::text[], $7::text[], $8::text[], $9::timestamptz[])
		ON CONFLICT (message_id, channel) DO NOTHING`,
		n.ID, n.MessageID, n.Channel, n.OrderID, n.CustomerID, n.Kind, n.Subject, n.Body, n.OccurredAt)
}

// listNotifications returns what customerID was told about orderID, oldest first.
func listNotifications(ctx context.Context, db *sqlx.DB, orderID, customerID string) ([]Notification, error) {
	list := []Notification{}
	err := db.SelectContext(ctx, &list, `
		SELECT id, message_id, channel, order_id, customer_id, kind, subject, body, occurred_at
		FROM notifications.notifications
		WHERE order_id = $1 AND customer_id = $2
		ORDER BY occurred_at, id`,
		orderID, customerID)
	if err != nil {
		return nil, fmt.Errorf("list the notifications of order %s: %w", orderID, err)
	}
	return list, nil
}
