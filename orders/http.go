package orders

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/google/uuid"

	"example.com/orderflow/messaging"
	"example.com/orderflow/messaging/contracts"
	"example.com/orderflow/messaging/httpapi"
)

// summary is an order as a list shows it.
type summary struct {
	ID         string    `json:"id" db:"id"`
	Status     Status    `json:"status" db:"status"`
	ReasonCode string    `json:"reason_code" db:"reason_code"` // "" when the status needs no reason
	TotalMinor int64     `json:"total_minor" db:"total_minor"`
	Currency   string    `json:"currency" db:"currency"`
	Version    int       `json:"version" db:"version"`
	Tracking   string    `json:"tracking,omitempty" db:"tracking"`
	CreatedAt  time.Time `json:"created_at" db:"created_at"` // UTC
}

// document is an order as it is shown by itself.
type document struct {
	summary
	Lines   []Line   `json:"lines"`
	History []Entry  `json:"history"` // oldest first
	Next    []Status `json:"next"`    // reachable in one step
}

func newDocument(s summary, endsAs Status, lines []Line, history []Entry) document {
	s.CreatedAt = s.CreatedAt.UTC()
	for i := range history {
		history[i].At = history[i].At.UTC()
	}
	return document{summary: s, Lines: lines, History: history, Next: Next(Order{Status: s.Status, EndsAs: endsAs})}
}

func summaryOf(o Order) summary {
	return summary{
		ID: o.ID, Status: o.Status, ReasonCode: o.ReasonCode, TotalMinor: o.TotalMinor, Currency: o.Currency,
		Version: o.Version, Tracking: o.Tracking, CreatedAt: o.CreatedAt,
	}
}

// createOrder places an order: POST /v1/orders. It answers 202 once the order is
// stored; with "Prefer: wait=N", 201 when there is an outcome within N seconds.
func (s *Service) createOrder(w http.ResponseWriter, r *http.Request) error {
	key, err := httpapi.IdempotencyKey(r)
	if err != nil {
		return err
	}
	req, err := httpapi.Decode[placeRequest](w, r)
	if err != nil {
		return err
	}
	ctx, caller := r.Context(), httpapi.CustomerID(r)
	a, err := s.place(ctx, caller, key, req)
	if err != nil {
		return err
	}
	if a.Replayed {
		w.Header().Set("Idempotency-Replayed", "true")
	} else {
		s.log.InfoContext(ctx, "order placed", "service", service, "order_id", a.OrderID, "customer_id", caller, "correlation_id", messaging.Correlation(ctx))
		if wait := httpapi.PreferWait(r); wait > 0 {
			settled, err := s.await(ctx, caller, a, wait)
			if err != nil {
				// The order is stored, whatever became of the waiting: its 202 stands.
				s.log.WarnContext(ctx, "outcome of an order could not be waited for", "service", service, "order_id", a.OrderID, "err", err)
			} else {
				a = settled
			}
		}
	}
	w.Header().Set("Location", "/v1/orders/"+a.OrderID)
	return httpapi.WriteJSON(w, a.Status, json.RawMessage(a.Body))
}

// getOrder shows one of the caller's orders: GET /v1/orders/{id}.
func (s *Service) getOrder(w http.ResponseWriter, r *http.Request) error {
	id, err := httpapi.Path(r, "id", "uuid")
	if err != nil {
		return err
	}
	return s.writeOrder(w, r, http.StatusOK, id)
}

// writeOrder answers with the caller's order id as it is now.
func (s *Service) writeOrder(w http.ResponseWriter, r *http.Request, status int, id string) error {
	d, err := findOrder(r.Context(), s.db, id, httpapi.CustomerID(r))
	if errors.Is(err, ErrNotFound) {
		return httpapi.NotFound()
	}
	if err != nil {
		return err
	}
	return httpapi.WriteJSON(w, status, d)
}

// orderList is a page of a customer's orders.
type orderList struct {
	Orders     []summary `json:"orders"`                // newest first
	NextCursor string    `json:"next_cursor,omitempty"` // absent on the last page
}

// orderCursor is where a page ended.
type orderCursor struct {
	Before string `json:"before" validate:"required,uuid"`
}

// listOrders shows the caller's orders: GET /v1/orders?limit=&cursor=&status=.
func (s *Service) listOrders(w http.ResponseWriter, r *http.Request) error {
	page, err := httpapi.PageParams(r, "status="+statusRule)
	if err != nil {
		return err
	}
	var cursor orderCursor
	if page.Cursor != "" {
		if cursor, err = httpapi.DecodeCursor[orderCursor](page.Cursor); err != nil {
			return err
		}
	}
	// One more than asked for tells whether there is another page.
	list, err := listOrders(r.Context(), s.db, httpapi.CustomerID(r), Status(page.Filters["status"]), cursor.Before, page.Limit+1)
	if err != nil {
		return err
	}
	answer := orderList{Orders: list}
	if len(list) > page.Limit {
		answer.Orders = list[:page.Limit]
		answer.NextCursor, err = httpapi.EncodeCursor(orderCursor{Before: list[page.Limit-1].ID})
		if err != nil {
			return err
		}
	}
	return httpapi.WriteJSON(w, http.StatusOK, answer)
}

// statusRule is validator's rule for the name of a status.
const statusRule = "oneof=placed authorizing payment_failed confirmed fulfilling capturing dispatching shipped delivered compensating cancelled rejected expired"

// cancelRequest is the body of POST /v1/orders/{id}/cancel; there may be none.
type cancelRequest struct {
	Reason string `json:"reason,omitempty" validate:"max=200"` // the customer's own words, kept with the history
}

// cancelOrder undoes one of the caller's orders: POST /v1/orders/{id}/cancel. It
// answers 202 while it is being undone, 200 once it is, and order-not-cancellable
// when it is too late.
func (s *Service) cancelOrder(w http.ResponseWriter, r *http.Request) error {
	id, err := httpapi.Path(r, "id", "uuid")
	if err != nil {
		return err
	}
	var req cancelRequest
	if r.ContentLength != 0 {
		if req, err = httpapi.Decode[cancelRequest](w, r); err != nil {
			return err
		}
	}
	o, err := s.act(r.Context(), id, httpapi.CustomerID(r), Input{On: Cancel, Note: req.Reason})
	if errors.Is(err, ErrIllegal) {
		return httpapi.NewProblem(http.StatusConflict, "order-not-cancellable", "an order that is "+string(o.Status)+" can't be cancelled")
	}
	if err != nil {
		return err
	}
	if o.Status == Cancelled {
		return s.writeOrder(w, r, http.StatusOK, id)
	}
	return s.writeOrder(w, r, http.StatusAccepted, id)
}

// payRequest is the body of POST /v1/orders/{id}/payment.
type payRequest struct {
	PaymentToken string `json:"payment_token" validate:"required,max=255"`
}

// payOrder tries another method of payment: POST /v1/orders/{id}/payment. It
// answers 202, and illegal-state unless the last one was declined and the order
// waits for another.
func (s *Service) payOrder(w http.ResponseWriter, r *http.Request) error {
	id, err := httpapi.Path(r, "id", "uuid")
	if err != nil {
		return err
	}
	req, err := httpapi.Decode[payRequest](w, r)
	if err != nil {
		return err
	}
	capture, err := uuid.NewV7()
	if err != nil {
		return fmt.Errorf("make a capture id: %w", err)
	}
	o, err := s.act(r.Context(), id, httpapi.CustomerID(r), Input{On: Pay, PaymentToken: req.PaymentToken, CaptureID: capture.String()})
	if errors.Is(err, ErrIllegal) {
		return httpapi.NewProblem(http.StatusConflict, "illegal-state", "an order that is "+string(o.Status)+" waits for no payment")
	}
	if err != nil {
		return err
	}
	return s.writeOrder(w, r, http.StatusAccepted, id)
}

// act lets in happen to the customer's order id and returns the order: as it has
// become, or as it is with ErrIllegal. No such order is a not-found problem.
func (s *Service) act(ctx context.Context, id, customerID string, in Input) (Order, error) {
	var o Order
	err := s.bus.InTx(ctx, func(ctx context.Context, tx *messaging.Tx) error {
		locked, err := lockOrder(ctx, tx, id, customerID)
		if errors.Is(err, ErrNotFound) {
			return httpapi.NotFound()
		}
		if err != nil {
			return err
		}
		o, in.At = locked.Order, locked.Now
		step, err := s.rules.Decide(o, in)
		if err != nil {
			return err
		}
		o = step.Order
		return s.carryOut(ctx, tx, step)
	})
	return o, err
}

// maxAskedSKUs is how many products showAvailability tells of at once.
const maxAskedSKUs = 50

// showAvailability tells how many pieces of products can be ordered now:
// GET /v1/availability?sku=A,B. Inventory is asked by a message; when it doesn't
// answer in time the answer is 503.
func (s *Service) showAvailability(w http.ResponseWriter, r *http.Request) error {
	skus, err := httpapi.ListParam(r, "sku", "sku", maxAskedSKUs)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), s.asks)
	defer cancel()
	answer, err := messaging.Ask(ctx, s.bus, contracts.CheckAvailability{SKUs: skus})
	if errors.Is(err, messaging.ErrNoAnswer) {
		return httpapi.NewProblem(http.StatusServiceUnavailable, "unavailable", "the warehouse doesn't answer now, try again later").
			WithHeader("Retry-After", "2")
	}
	if err != nil {
		return err
	}
	return httpapi.WriteJSON(w, http.StatusOK, answer)
}
