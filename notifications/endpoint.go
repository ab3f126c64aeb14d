package notifications

import (
	"context"
	"errors"
	"net/http"
	"time"

	"example.com/orderflow/messaging"
	"example.com/orderflow/messaging/httpapi"
)

// Endpoint is where a customer's own programs are told.
type Endpoint struct {
	ID             string    `json:"id" db:"id"` // UUID v7
	URL            string    `json:"url" db:"url"`
	Status         string    `json:"status" db:"status"` // enabled, disabled
	DisabledReason string    `json:"disabled_reason,omitempty" db:"disabled_reason"`
	Failures       int       `json:"failures" db:"failures"` // attempts since the last that succeeded
	CreatedAt      time.Time `json:"created_at" db:"created_at"`
}

// endpointRequest is the body of POST /v1/webhook-endpoints.
type endpointRequest struct {
	URL string `json:"url" validate:"required,max=2000"`
}

// newEndpoint is the answer to it: the only one that ever shows the secret.
type newEndpoint struct {
	Endpoint
	Secret string `json:"secret"` // of Standard Webhooks: "whsec_…"
}

// createEndpoint has the caller told at a URL from now on: POST
// /v1/webhook-endpoints. It answers 201 with the secret by which what comes there
// can be verified, validation (url) for an address that isn't https and public,
// and endpoint-limit when the caller has as many as may be.
func (s *Service) createEndpoint(w http.ResponseWriter, r *http.Request) error {
	req, err := httpapi.Decode[endpointRequest](w, r)
	if err != nil {
		return err
	}
	if wrong := s.hooks.guard.checkURL(r.Context(), req.URL); wrong != "" {
		return httpapi.NewProblem(http.StatusUnprocessableEntity, "validation", "the body is not valid: see errors").WithError("/url", "url", wrong)
	}
	id, err := newID()
	if err != nil {
		return err
	}
	secret, err := newSecret()
	if err != nil {
		return err
	}
	var made Endpoint
	err = s.bus.InTx(r.Context(), func(ctx context.Context, tx *messaging.Tx) error {
		made, err = insertEndpoint(ctx, tx, httpapi.CustomerID(r), id, req.URL, secret, s.hooks.cfg.Endpoints)
		return err
	})
	if errors.Is(err, errTooMany) {
		return httpapi.NewProblem(http.StatusConflict, "endpoint-limit", "you have as many endpoints as you may; delete one first")
	}
	if err != nil {
		return err
	}
	w.Header().Set("Location", "/v1/webhook-endpoints/"+id)
	return httpapi.WriteJSON(w, http.StatusCreated, newEndpoint{Endpoint: made, Secret: secret})
}

// listEndpoints shows the caller's endpoints: GET /v1/webhook-endpoints. There are
// few, so that all are one page.
func (s *Service) listEndpoints(w http.ResponseWriter, r *http.Request) error {
	list, err := listEndpoints(r.Context(), s.db, httpapi.CustomerID(r), "")
	if err != nil {
		return err
	}
	return httpapi.WriteJSON(w, http.StatusOK, struct {
		Endpoints []Endpoint `json:"endpoints"`
	}{list})
}

// showEndpoint shows one of the caller's endpoints: GET /v1/webhook-endpoints/{id}.
func (s *Service) showEndpoint(w http.ResponseWriter, r *http.Request) error {
	id, err := httpapi.Path(r, "id", "uuid")
	if err != nil {
		return err
	}
	return s.writeEndpoint(w, r, id)
}

func (s *Service) writeEndpoint(w http.ResponseWriter, r *http.Request, id string) error {
	list, err := listEndpoints(r.Context(), s.db, httpapi.CustomerID(r), id)
	if err != nil {
		return err
	}
	if len(list) == 0 {
		return httpapi.NotFound()
	}
	return httpapi.WriteJSON(w, http.StatusOK, list[0])
}

// deleteEndpoint ends the telling at one of the caller's endpoints: DELETE
// /v1/webhook-endpoints/{id}. What was on its way there is given up.
func (s *Service) deleteEndpoint(w http.ResponseWriter, r *http.Request) error {
	id, err := httpapi.Path(r, "id", "uuid")
	if err != nil {
		return err
	}
	err = s.bus.InTx(r.Context(), func(ctx context.Context, tx *messaging.Tx) error {
		found, err := removeEndpoint(ctx, tx, httpapi.CustomerID(r), id)
		if err == nil && !found {
			return httpapi.NotFound()
		}
		return err
	})
	if err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// enableEndpoint has one of the caller's endpoints told again that was disabled:
// POST /v1/webhook-endpoints/{id}/enable. What it missed may be replayed. One that
// is enabled stays as it is.
func (s *Service) enableEndpoint(w http.ResponseWriter, r *http.Request) error {
	id, err := httpapi.Path(r, "id", "uuid")
	if err != nil {
		return err
	}
	err = s.bus.InTx(r.Context(), func(ctx context.Context, tx *messaging.Tx) error {
		found, err := reopenEndpoint(ctx, tx, httpapi.CustomerID(r), id)
		if err == nil && !found {
			return httpapi.NotFound()
		}
		return err
	})
	if err != nil {
		return err
	}
	return s.writeEndpoint(w, r, id)
}

// DeliveryLog is a notification's way to an endpoint, as its customer is shown it.
type DeliveryLog struct {
	NotificationID string       `json:"notification_id" db:"notification_id"` // also the webhook-id
	OrderID        string       `json:"order_id" db:"order_id"`
	Kind           string       `json:"kind" db:"kind"`
	Status         string       `json:"status" db:"status"`             // waiting, sending, sent, failed
	NextAt         *time.Time   `json:"next_at,omitempty" db:"next_at"` // of a waiting one, UTC
	OccurredAt     time.Time    `json:"occurred_at" db:"occurred_at"`   // the event, UTC
	Attempts       []AttemptLog `json:"attempts" db:"-"`                // oldest first, the last 20
}

// AttemptLog is one call of an endpoint.
type AttemptLog struct {
	NotificationID string    `json:"-" db:"notification_id"`
	At             time.Time `json:"at" db:"at"`           // UTC
	Outcome        string    `json:"outcome" db:"outcome"` // sent, failed
	HTTPStatus     int       `json:"http_status,omitempty" db:"http_status"`
	ReasonCode     string    `json:"reason_code,omitempty" db:"reason_code"`
	DurationMS     int64     `json:"duration_ms" db:"duration_ms"`
}

// deliveryPage is a page of the log, the newest notification first.
type deliveryPage struct {
	Deliveries []DeliveryLog `json:"deliveries"`
	NextCursor string        `json:"next_cursor,omitempty"` // absent on the last page
}

// deliveryCursor is where a page ended.
type deliveryCursor struct {
	Before string `json:"before" validate:"required,uuid"`
}

// listDeliveries shows what was sent to one of the caller's endpoints: GET
// /v1/webhook-endpoints/{id}/deliveries?limit=&cursor=&status=.
func (s *Service) listDeliveries(w http.ResponseWriter, r *http.Request) error {
	id, err := httpapi.Path(r, "id", "uuid")
	if err != nil {
		return err
	}
	page, err := httpapi.PageParams(r, "status=oneof=waiting sending sent failed")
	if err != nil {
		return err
	}
	var cursor deliveryCursor
	if page.Cursor != "" {
		if cursor, err = httpapi.DecodeCursor[deliveryCursor](page.Cursor); err != nil {
			return err
		}
	}
	endpoints, err := listEndpoints(r.Context(), s.db, httpapi.CustomerID(r), id)
	if err != nil {
		return err
	}
	if len(endpoints) == 0 {
		return httpapi.NotFound()
	}
	// One more than asked for tells whether there is another page.
	list, err := listDeliveryLog(r.Context(), s.db, id, page.Filters["status"], cursor.Before, page.Limit+1)
	if err != nil {
		return err
	}
	answer := deliveryPage{Deliveries: list}
	if len(list) > page.Limit {
		answer.Deliveries = list[:page.Limit]
		if answer.NextCursor, err = httpapi.EncodeCursor(deliveryCursor{Before: list[page.Limit-1].NotificationID}); err != nil {
			return err
		}
	}
	return httpapi.WriteJSON(w, http.StatusOK, answer)
}

// replayDelivery sends one notification to one of the caller's endpoints again:
// POST /v1/webhook-endpoints/{id}/deliveries/{notification_id}/replay. It answers
// 202; the webhook-id is the same as before. A disabled endpoint is to be enabled
// first: not-found.
func (s *Service) replayDelivery(w http.ResponseWriter, r *http.Request) error {
	id, err := httpapi.Path(r, "id", "uuid")
	if err != nil {
		return err
	}
	notificationID, err := httpapi.Path(r, "notification_id", "uuid")
	if err != nil {
		return err
	}
	err = s.bus.InTx(r.Context(), func(ctx context.Context, tx *messaging.Tx) error {
		found, err := retryDelivery(ctx, tx, httpapi.CustomerID(r), id, notificationID)
		if err == nil && !found {
			return httpapi.NotFound()
		}
		return err
	})
	if err != nil {
		return err
	}
	s.wake()
	return httpapi.WriteJSON(w, http.StatusAccepted, struct {
		NotificationID string `json:"notification_id"`
		Status         string `json:"status"`
	}{notificationID, "waiting"})
}
