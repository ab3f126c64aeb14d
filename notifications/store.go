package notifications

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/jmoiron/sqlx"

	"example.com/orderflow/messaging"
)

// errNotFound is what look-ups return for what isn't there.
var errNotFound = errors.New("no such notification")

// telling is what a customer is to be told about one event, by all channels.
type telling struct {
	MessageID, OrderID, CustomerID string
	Kind, Subject, Body            string
	OccurredAt                     time.Time
	InboxID, WebhookID             string  // of the rows, if they come to be
	EmailID                        *string // nil = no mail
	Recipient, RecipientName, HTML *string // of the mail
}

// insertNotifications queues the rows of t: one for the inbox, one for the mail,
// and one for webhooks when the customer has endpoints that are open, with a
// delivery for each. Of an event that was told already, nothing is written. It is
// one statement for all events of a batch, and nothing is read before it.
func insertNotifications(tx *messaging.Tx, t telling) {
	tx.QueueRow(`
		WITH n AS (
			SELECT *
			FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::uuid[], $6::text[], $7::text[], $8::text[], $9::text[], $10::timestamptz[], $11::text[], $12::text[], $13::text[])
				AS n (inbox_id, webhook_id, email_id, message_id, order_id, customer_id, kind, subject, body, occurred_at, recipient, recipient_name, html)
		), told AS (
			INSERT INTO notifications.notifications (id, message_id, channel, status, order_id, customer_id, kind, subject, body, occurred_at, recipient, recipient_name, html)
			SELECT c.id, n.message_id, c.channel, c.status, n.order_id, n.customer_id, n.kind, n.subject, n.body, n.occurred_at, c.recipient, c.recipient_name, c.html
			FROM n
			CROSS JOIN LATERAL (
				VALUES (n.inbox_id, 'inbox', 'sent', NULL, NULL, NULL), (n.email_id, 'email', 'pending', n.recipient, n.recipient_name, n.html)
			) c (id, channel, status, recipient, recipient_name, html)
			WHERE c.id IS NOT NULL
			ON CONFLICT (message_id, channel) DO NOTHING
			RETURNING id, customer_id
		), hooked AS (
			INSERT INTO notifications.notifications (id, message_id, channel, status, order_id, customer_id, kind, subject, body, occurred_at)
			SELECT n.webhook_id, n.message_id, 'webhook', 'pending', n.order_id, n.customer_id, n.kind, n.subject, n.body, n.occurred_at
			FROM told
			JOIN n ON n.inbox_id = told.id
			WHERE EXISTS (
				SELECT FROM notifications.endpoints e
				WHERE e.customer_id = told.customer_id AND e.deleted_at IS NULL AND e.disabled_at IS NULL
			)
			RETURNING id, customer_id
		)
		INSERT INTO notifications.deliveries (notification_id, endpoint_id)
		SELECT h.id, e.id
		FROM hooked h
		JOIN notifications.endpoints e ON e.customer_id = h.customer_id AND e.deleted_at IS NULL AND e.disabled_at IS NULL`,
		t.InboxID, t.WebhookID, t.EmailID, t.MessageID, t.OrderID, t.CustomerID, t.Kind, t.Subject, t.Body, t.OccurredAt,
		t.Recipient, t.RecipientName, t.HTML)
}

// columns are what is shown of a notification.
const columns = `id, message_id, channel, status, coalesce(reason_code, '') AS reason_code, settled_at, order_id, customer_id, kind, subject, body, occurred_at`

// listNotifications returns what customerID ("" = whoever it is about) was told
// about orderID by channel, oldest first.
func listNotifications(ctx context.Context, db *sqlx.DB, orderID, customerID, channel string) ([]Notification, error) {
	list := []Notification{}
	err := db.SelectContext(ctx, &list, `
		SELECT `+columns+`
		FROM notifications.notifications
		WHERE order_id = $1 AND (customer_id = $2 OR $2 = '') AND channel = $3
		ORDER BY occurred_at, id`,
		orderID, customerID, channel)
	if err != nil {
		return nil, fmt.Errorf("list the notifications of order %s: %w", orderID, err)
	}
	return list, nil
}

// findMailing returns the notification id for its channel, which was told to send
// it at since; errNotFound when there is none.
func findMailing(ctx context.Context, db *sqlx.DB, id string, since time.Time) (mailing, error) {
	var m mailing
	err := db.GetContext(ctx, &m, `
		SELECT `+columns+`, coalesce(recipient, '') AS recipient, coalesce(recipient_name, '') AS recipient_name, coalesce(html, '') AS html,
			clock_timestamp() AS now
		FROM notifications.notifications
		WHERE id = $1`, id)
	if errors.Is(err, sql.ErrNoRows) {
		return m, errNotFound
	}
	if err != nil {
		return m, fmt.Errorf("find notification %s: %w", id, err)
	}
	m.Waited = m.Now.Sub(since) // both by the database's clock
	return m, nil
}

// settleNotification queues the channel's last word about a notification.
func settleNotification(tx *messaging.Tx, id string, out outcome) {
	tx.Queue(`
		UPDATE notifications.notifications
		SET status = $2, reason_code = nullif($3, ''), settled_at = clock_timestamp()
		WHERE id = $1`, id, string(out.Status), out.ReasonCode)
}

// insertAttempt queues a line of the log of attempts.
func insertAttempt(tx *messaging.Tx, notificationID, resendID string, a attempt) {
	result := "failed"
	if a.Sent {
		result = "sent"
	}
	tx.Queue(`
		INSERT INTO notifications.attempts (notification_id, endpoint_id, resend_id, outcome, http_status, reason_code, duration_ms)
		VALUES ($1, nullif($2, '')::uuid, nullif($3, '')::uuid, $4, nullif($5, 0), nullif($6, ''), $7)`,
		notificationID, a.EndpointID, resendID, result, a.HTTPStatus, a.ReasonCode, a.Duration.Milliseconds())
}

// resend is an operator's wish to have a notification sent once more.
type resend struct {
	ID, NotificationID, AskedBy, Reason string
}

// insertResend writes the wish down, for good, and returns the order that the
// notification is about; fresh is false when it was written before. A notification
// that isn't there, or of the inbox, is errNotFound.
func insertResend(ctx context.Context, tx *messaging.Tx, r resend) (orderID string, fresh bool, err error) {
	var got struct {
		OrderID string `db:"order_id"`
		Fresh   bool   `db:"fresh"`
	}
	err = tx.GetContext(ctx, &got, `
		WITH n AS (
			SELECT id, order_id
			FROM notifications.notifications
			WHERE id = $2 AND channel <> 'inbox'
		), r AS (
			INSERT INTO notifications.resends (id, notification_id, asked_by, reason)
			SELECT $1, n.id, $3, $4
			FROM n
			ON CONFLICT (id) DO NOTHING
			RETURNING id
		)
		SELECT n.order_id, EXISTS (SELECT FROM r) AS fresh
		FROM n`, r.ID, r.NotificationID, r.AskedBy, r.Reason)
	if errors.Is(err, sql.ErrNoRows) {
		return "", false, errNotFound
	}
	if err != nil {
		return "", false, fmt.Errorf("ask to send notification %s again: %w", r.NotificationID, err)
	}
	return got.OrderID, got.Fresh, nil
}

// wasResent reports whether the wish id was granted, or refused, already.
func wasResent(ctx context.Context, db *sqlx.DB, id string) (bool, error) {
	var done bool
	err := db.GetContext(ctx, &done, `SELECT EXISTS (SELECT FROM notifications.attempts WHERE resend_id = $1)`, id)
	if err != nil {
		return false, fmt.Errorf("look for resend %s: %w", id, err)
	}
	return done, nil
}
