package payments

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"example.com/orderflow/messaging"
	"example.com/orderflow/messaging/contracts"
	"example.com/orderflow/messaging/httpapi"
)

const (
	maxWebhook = 64 << 10 // bytes
	// lookUpAfter lets the command that made the event happen record it first: then
	// the look-up finds nothing to do.
	lookUpAfter = 3 * time.Second
)

// receiveWebhook answers POST /v1/provider-webhooks. What is signed by the provider
// gets 200, once and when it is repeated; anything else 401 bad-signature. An event
// is never believed: it has its attempt looked up.
func (s *Service) receiveWebhook(w http.ResponseWriter, r *http.Request) error {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxWebhook))
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return httpapi.NewProblem(http.StatusRequestEntityTooLarge, "body-too-large", fmt.Sprintf("a webhook may have %d bytes", maxWebhook)).
			WithHeader("Connection", "close")
	}
	if err != nil {
		return httpapi.NewProblem(http.StatusBadRequest, "malformed-json", "the body ended early").WithHeader("Connection", "close")
	}
	event, err := s.gateway.ParseEvent(r.Header, body)
	if err != nil || event.ID == "" || len(event.ID) > 255 {
		s.log.DebugContext(r.Context(), "webhook refused", "service", "payments", "err", err)
		return httpapi.NewProblem(http.StatusUnauthorized, "bad-signature", "the webhook is not signed by the provider, or is too old").
			WithHeader("WWW-Authenticate", "Signature")
	}
	err = s.bus.InTx(r.Context(), func(ctx context.Context, tx *messaging.Tx) error {
		c, err := s.store.insertWebhook(ctx, tx, event)
		if err != nil || c.PaymentID == "" {
			return err
		}
		return tx.Publish(messaging.After(c, lookUpAfter))
	})
	if err != nil {
		return err
	}
	return httpapi.WriteJSON(w, http.StatusOK, map[string]string{"status": "received"})
}

// insertWebhook notes the event and returns the look-up that it calls for; the zero one
// when it was known already, or is about nothing that we asked for.
func (s store) insertWebhook(ctx context.Context, tx *messaging.Tx, e Event) (c contracts.LookUpPayment, err error) {
	var row struct {
		PaymentID string `db:"payment_id"`
		Attempt   int    `db:"attempt"`
		OrderID   string `db:"order_id"`
	}
	err = tx.GetContext(ctx, &row, `
		WITH fresh AS (
			INSERT INTO payments.webhooks (id)
			VALUES ($1)
			ON CONFLICT (id) DO NOTHING
			RETURNING id
		)
		SELECT COALESCE(p.id::text, '') AS payment_id, COALESCE(c.attempt, 0) AS attempt, COALESCE(p.order_id::text, '') AS order_id
		FROM fresh
		LEFT JOIN payments.provider_calls c ON c.key = $2
		LEFT JOIN payments.payments p ON p.id = c.payment_id`, e.ID, e.Key)
	if errors.Is(err, sql.ErrNoRows) {
		return c, nil
	}
	if err != nil {
		return c, fmt.Errorf("note a webhook: %w", err)
	}
	return contracts.LookUpPayment{PaymentID: row.PaymentID, Attempt: row.Attempt, OrderID: row.OrderID}, nil
}
