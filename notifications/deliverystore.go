package notifications

import (
	"context"
	"fmt"
	"time"

	"github.com/jmoiron/sqlx"

	"example.com/orderflow/messaging"
	"example.com/orderflow/messaging/contracts"
)

// takeDue hands out up to limit deliveries that are due, for as long as handOver,
// and returns a command for each notification, and how many deliveries they are for.
func takeDue(ctx context.Context, tx *messaging.Tx, limit int, handOver time.Duration) ([]contracts.SendNotification, int, error) {
	var rows []struct {
		NotificationID string `db:"notification_id"`
		OrderID        string `db:"order_id"`
		Deliveries     int    `db:"deliveries"`
	}
	err := tx.SelectContext(ctx, &rows, `
		WITH due AS (
			SELECT notification_id, endpoint_id
			FROM notifications.deliveries
			WHERE status IN ('waiting', 'sending') AND due <= (SELECT clock_timestamp())
			ORDER BY due
			LIMIT $1
			FOR UPDATE SKIP LOCKED
		), taken AS (
			UPDATE notifications.deliveries d
			SET status = 'sending', due = clock_timestamp() + make_interval(secs => $2)
			FROM due
			WHERE d.notification_id = due.notification_id AND d.endpoint_id = due.endpoint_id
			RETURNING d.notification_id
		)
		SELECT t.notification_id, n.order_id, count(*) AS deliveries
		FROM taken t
		JOIN notifications.notifications n ON n.id = t.notification_id
		GROUP BY 1, 2
		ORDER BY 1`, limit, handOver.Seconds())
	if err != nil {
		return nil, 0, fmt.Errorf("take the deliveries that are due: %w", err)
	}
	list, taken := make([]contracts.SendNotification, len(rows)), 0
	for i, r := range rows {
		list[i] = contracts.SendNotification{NotificationID: r.NotificationID, OrderID: r.OrderID}
		taken += r.Deliveries
	}
	return list, taken, nil
}

// listDeliveries returns the deliveries of a notification that were handed out, or
// all whose endpoints are open.
func listDeliveries(ctx context.Context, db *sqlx.DB, notificationID string, all bool) ([]delivery, error) {
	list := []delivery{}
	err := db.SelectContext(ctx, &list, `
		SELECT d.notification_id, d.endpoint_id, d.status, d.tries, e.url, coalesce(e.secret, '') AS secret,
			CASE WHEN e.deleted_at IS NOT NULL THEN 'endpoint_deleted' WHEN e.disabled_at IS NOT NULL THEN 'endpoint_disabled' ELSE '' END AS closed
		FROM notifications.deliveries d
		JOIN notifications.endpoints e ON e.id = d.endpoint_id
		WHERE d.notification_id = $1 AND (d.status = 'sending' OR $2 AND e.deleted_at IS NULL AND e.disabled_at IS NULL)
		ORDER BY d.endpoint_id`, notificationID, all)
	if err != nil {
		return nil, fmt.Errorf("list the deliveries of notification %s: %w", notificationID, err)
	}
	return list, nil
}

// lockDeliveries returns all deliveries of a notification, itself and them locked.
func lockDeliveries(ctx context.Context, tx *messaging.Tx, notificationID string) ([]delivery, error) {
	var list []delivery
	err := tx.SelectContext(ctx, &list, `
		SELECT d.notification_id, d.endpoint_id, d.status, d.tries, '' AS url, '' AS secret, '' AS closed
		FROM notifications.notifications n
		JOIN notifications.deliveries d ON d.notification_id = n.id
		WHERE n.id = $1
		ORDER BY d.endpoint_id
		FOR UPDATE OF n, d`, notificationID)
	if err != nil {
		return nil, fmt.Errorf("lock the deliveries of notification %s: %w", notificationID, err)
	}
	return list, nil
}

// saveDelivery queues what became of d. Its pause gets a twentieth of jitter each
// way, so that what failed together doesn't come back together.
func saveDelivery(tx *messaging.Tx, d delivery) {
	tx.Queue(`
		UPDATE notifications.deliveries
		SET status = $3, tries = $4, due = clock_timestamp() + make_interval(secs => $5 * (0.95 + random() / 10))
		WHERE notification_id = $1 AND endpoint_id = $2`,
		d.NotificationID, d.EndpointID, d.Status, d.Tries, d.wait.Seconds())
}

// noteEndpoint queues what a says of its endpoint: a success forgives the failures
// before it; after disableAfter of them, or when it says that it is gone, an
// endpoint is disabled until its customer enables it again. An attempt that wasn't
// made says nothing.
func noteEndpoint(tx *messaging.Tx, a attempt, made bool, disableAfter int) {
	switch {
	case !made:
	case a.Sent:
		tx.Queue(`
			UPDATE notifications.endpoints
			SET failures = 0
			WHERE id = $1 AND failures > 0`, a.EndpointID)
	default:
		tx.Queue(`
			UPDATE notifications.endpoints
			SET failures = failures + 1,
				disabled_at = CASE WHEN failures + 1 >= $2 OR $3 THEN coalesce(disabled_at, clock_timestamp()) ELSE disabled_at END,
				disabled_reason = CASE WHEN $3 THEN coalesce(disabled_reason, 'gone') WHEN failures + 1 >= $2 THEN coalesce(disabled_reason, 'failing') ELSE disabled_reason END
			WHERE id = $1`, a.EndpointID, disableAfter, a.gone())
	}
}

// retryDelivery has customerID's delivery begun anew, whatever became of it before.
// It reports whether there is one whose endpoint is open.
func retryDelivery(ctx context.Context, tx *messaging.Tx, customerID, endpointID, notificationID string) (bool, error) {
	var found []string
	err := tx.SelectContext(ctx, &found, `
		UPDATE notifications.deliveries d
		SET status = 'waiting', tries = 0, due = clock_timestamp()
		FROM notifications.endpoints e
		WHERE d.endpoint_id = $2 AND d.notification_id = $3
			AND e.id = d.endpoint_id AND e.customer_id = $1 AND e.deleted_at IS NULL AND e.disabled_at IS NULL
		RETURNING d.notification_id`, customerID, endpointID, notificationID)
	if err != nil {
		return false, fmt.Errorf("replay notification %s to endpoint %s: %w", notificationID, endpointID, err)
	}
	return len(found) > 0, nil
}
