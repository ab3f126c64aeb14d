package notifications

import (
	"cmp"
	"context"
	"errors"
	"net/http"

	"github.com/google/uuid"

	"example.com/orderflow/messaging"
	"example.com/orderflow/messaging/contracts"
	"example.com/orderflow/messaging/httpapi"
)

// Routes adds the service's requests to mux.
func (s *Service) Routes(mux *httpapi.Mux) {
	mux.Handle("GET /v1/notifications", s.listNotifications)
	mux.Handle("POST /v1/notifications/{id}/resend", s.askResend)
	mux.Handle("POST /v1/webhook-endpoints", s.createEndpoint)
	mux.Handle("GET /v1/webhook-endpoints", s.listEndpoints)
	mux.Handle("GET /v1/webhook-endpoints/{id}", s.showEndpoint)
	mux.Handle("DELETE /v1/webhook-endpoints/{id}", s.deleteEndpoint)
	mux.Handle("POST /v1/webhook-endpoints/{id}/enable", s.enableEndpoint)
	mux.Handle("GET /v1/webhook-endpoints/{id}/deliveries", s.listDeliveries)
	mux.Handle("POST /v1/webhook-endpoints/{id}/deliveries/{notification_id}/replay", s.replayDelivery)
}

// notificationList is the answer to GET /v1/notifications.
type notificationList struct {
	Notifications []Notification `json:"notifications"`
}

// listNotifications answers with what the caller was told about the order
// order_id, oldest first: about an order of somebody else, or of nobody, nothing.
// It is the caller's inbox, where everything is; with channel=email or webhook it
// is what went that way. An operator is shown what the order's customer was told.
// An order has a handful, so that all of them are one page.
func (s *Service) listNotifications(w http.ResponseWriter, r *http.Request) error {
	page, err := httpapi.PageParams(r, "order_id=uuid", "channel=oneof=inbox email webhook")
	if err != nil {
		return err
	}
	orderID := page.Filters["order_id"]
	if orderID == "" {
		return httpapi.NewProblem(http.StatusBadRequest, "invalid-parameter", "order_id: the order whose notifications are asked for")
	}
	customerID, channel := httpapi.CustomerID(r), cmp.Or(page.Filters["channel"], channelInbox)
	if httpapi.RoleOf(r) != httpapi.Customer {
		customerID = "" // anybody
	}
	list, err := listNotifications(r.Context(), s.db, orderID, customerID, channel)
	if err != nil {
		return err
	}
	return httpapi.WriteJSON(w, http.StatusOK, notificationList{Notifications: list})
}

// resendRequest is the body of POST /v1/notifications/{id}/resend.
type resendRequest struct {
	Reason string `json:"reason" validate:"required,max=200"` // the operator's, kept for good
}

// resendAnswer is the answer to it.
type resendAnswer struct {
	ResendID       string `json:"resend_id"`
	NotificationID string `json:"notification_id"`
}

// askResend has a mail or a webhook sent once more: POST
// /v1/notifications/{id}/resend, an operator's. It answers 202 once the wish is
// written down under the operator's name; repeated with its Idempotency-Key it is
// the same wish. In the inbox a notification lies already: not-found.
func (s *Service) askResend(w http.ResponseWriter, r *http.Request) error {
	if err := httpapi.RequireOperator(r); err != nil {
		return err
	}
	id, err := httpapi.Path(r, "id", "uuid")
	if err != nil {
		return err
	}
	key, err := httpapi.IdempotencyKey(r)
	if err != nil {
		return err
	}
	req, err := httpapi.Decode[resendRequest](w, r)
	if err != nil {
		return err
	}
	wish := resend{NotificationID: id, AskedBy: httpapi.CustomerID(r), Reason: req.Reason}
	wish.ID = resendID(id, wish.AskedBy, key)
	fresh := false
	err = s.bus.InTx(r.Context(), func(ctx context.Context, tx *messaging.Tx) error {
		var orderID string
		if orderID, fresh, err = insertResend(ctx, tx, wish); err != nil || !fresh {
			return err
		}
		return tx.Publish(contracts.ResendNotification{ResendID: wish.ID, NotificationID: id, OrderID: orderID})
	})
	if errors.Is(err, errNotFound) {
		return httpapi.NotFound()
	}
	if err != nil {
		return err
	}
	if !fresh {
		w.Header().Set("Idempotency-Replayed", "true")
	}
	return httpapi.WriteJSON(w, http.StatusAccepted, resendAnswer{ResendID: wish.ID, NotificationID: id})
}

// resendID makes one wish of all requests of an operator under the same key
// (RFC 9562, version 5).
func resendID(notificationID, askedBy, key string) string {
	return uuid.NewSHA1(uuid.MustParse(notificationID), []byte(askedBy+" "+key)).String()
}
