package notifications

import (
	"context"
	"errors"
	"fmt"

	"github.com/jmoiron/sqlx"

	"example.com/orderflow/messaging"
)

// errTooMany is returned for an endpoint more than a customer may have.
var errTooMany = errors.New("too many endpoints")

// shownEndpoint are the columns of an Endpoint.
const shownEndpoint = `id, url, CASE WHEN disabled_at IS NULL THEN 'enabled' ELSE 'disabled' END AS status,
			coalesce(disabled_reason, '') AS disabled_reason, failures, created_at`

// insertEndpoint adds an endpoint of customerID and returns it; errTooMany when
// there are limit already.
func insertEndpoint(ctx context.Context, tx *messaging.Tx, customerID, id, url, secret string, limit int) (Endpoint, error) {
	// Counted under a lock of the customer's, or two requests would count the same.
	var locked []string
	if err := tx.SelectContext(ctx, &locked, `SELECT pg_advisory_xact_lock(hashtext('notifications.endpoints'), hashtext($1))::text`, customerID); err != nil {
		return Endpoint{}, fmt.Errorf("lock the endpoints of a customer: %w", err)
	}
	var made []Endpoint
	err := tx.SelectContext(ctx, &made, `
		INSERT INTO notifications.endpoints (id, customer_id, url, secret)
		SELECT $2, $1, $3, $4
		WHERE (SELECT count(*) FROM notifications.endpoints WHERE customer_id = $1 AND deleted_at IS NULL) < $5
		RETURNING `+shownEndpoint, customerID, id, url, secret, limit)
	if err != nil {
		return Endpoint{}, fmt.Errorf("add endpoint %s: %w", id, err)
	}
	if len(made) == 0 {
		return Endpoint{}, errTooMany
	}
	return made[0], nil
}

// listEndpoints returns the endpoints of customerID, or the one with the id given,
// oldest first.
func listEndpoints(ctx context.Context, db *sqlx.DB, customerID, id string) ([]Endpoint, error) {
	list := []Endpoint{}
	err := db.SelectContext(ctx, &list, `
		SELECT `+shownEndpoint+`
		FROM notifications.endpoints
		WHERE customer_id = $1 AND deleted_at IS NULL AND (nullif($2, '') IS NULL OR id = nullif($2, '')::uuid)
		ORDER BY id`, customerID, id)
	if err != nil {
		return nil, fmt.Errorf("list endpoints: %w", err)
	}
	return list, nil
}

// removeEndpoint deletes customerID's endpoint id, its secret with it, and has what
// is on its way there given up. It reports whether there was one.
func removeEndpoint(ctx context.Context, tx *messaging.Tx, customerID, id string) (bool, error) {
	var found []string
	err := tx.SelectContext(ctx, &found, `
		WITH gone AS (
			UPDATE notifications.endpoints
			SET deleted_at = clock_timestamp(), secret = NULL
			WHERE id = $2 AND customer_id = $1 AND deleted_at IS NULL
			RETURNING id
		), due AS (
			UPDATE notifications.deliveries d
			SET due = clock_timestamp()
			FROM gone
			WHERE d.endpoint_id = gone.id AND d.status = 'waiting'
		)
		SELECT id
		FROM gone`, customerID, id)
	if err != nil {
		return false, fmt.Errorf("delete endpoint %s: %w", id, err)
	}
	return len(found) > 0, nil
}

// reopenEndpoint enables customerID's endpoint id, with its failures forgiven. It
// reports whether there is one.
func reopenEndpoint(ctx context.Context, tx *messaging.Tx, customerID, id string) (bool, error) {
	var found []string
	err := tx.SelectContext(ctx, &found, `
		UPDATE notifications.endpoints
		SET disabled_at = NULL, disabled_reason = NULL, failures = CASE WHEN disabled_at IS NULL THEN failures ELSE 0 END
		WHERE id = $2 AND customer_id = $1 AND deleted_at IS NULL
		RETURNING id`, customerID, id)
	if err != nil {
		return false, fmt.Errorf("enable endpoint %s: %w", id, err)
	}
	return len(found) > 0, nil
}

// maxAttemptsShown is how many attempts of a delivery are shown.
const maxAttemptsShown = 20

// listDeliveryLog returns up to limit deliveries to an endpoint, of the given
// status ("" = any) and before a notification ("" = from the newest), each with its
// last attempts.
func listDeliveryLog(ctx context.Context, db *sqlx.DB, endpointID, status, before string, limit int) ([]DeliveryLog, error) {
	list := []DeliveryLog{}
	err := db.SelectContext(ctx, &list, `
		SELECT d.notification_id, n.order_id, n.kind, d.status, CASE WHEN d.status = 'waiting' THEN d.due END AS next_at, n.occurred_at
		FROM notifications.deliveries d
		JOIN notifications.notifications n ON n.id = d.notification_id
		WHERE d.endpoint_id = $1 AND (d.status = $2 OR $2 = '')
			AND d.notification_id < coalesce(nullif($3, '')::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
		ORDER BY d.notification_id DESC
		LIMIT $4`, endpointID, status, before, limit)
	if err != nil {
		return nil, fmt.Errorf("list the deliveries to endpoint %s: %w", endpointID, err)
	}
	ids, place := make([]string, len(list)), map[string]int{}
	for i := range list {
		ids[i], place[list[i].NotificationID], list[i].Attempts = list[i].NotificationID, i, []AttemptLog{}
	}
	var attempts []AttemptLog
	err = db.SelectContext(ctx, &attempts, `
		SELECT a.notification_id, a.at, a.outcome, coalesce(a.http_status, 0) AS http_status, coalesce(a.reason_code, '') AS reason_code, a.duration_ms
		FROM unnest($2::uuid[]) AS n (id)
		CROSS JOIN LATERAL (
			SELECT id, notification_id, at, outcome, http_status, reason_code, duration_ms
			FROM notifications.attempts
			WHERE notification_id = n.id AND endpoint_id = $1
			ORDER BY id DESC
			LIMIT $3
		) a
		ORDER BY a.id`, endpointID, ids, maxAttemptsShown)
	if err != nil {
		return nil, fmt.Errorf("list the attempts at endpoint %s: %w", endpointID, err)
	}
	for _, a := range attempts {
		l := &list[place[a.NotificationID]]
		l.Attempts = append(l.Attempts, a)
	}
	return list, nil
}
