package orders

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/google/uuid"

	"example.com/orderflow/messaging"
	"example.com/orderflow/messaging/contracts"
	"example.com/orderflow/messaging/httpapi"
)

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
	if !a.Replayed {
		s.log.InfoContext(ctx, "order placed", "service", service, "order_id", a.OrderID, "customer_id", caller, "correlation_id", messaging.Correlation(ctx))
		if wait := httpapi.PreferWait(r); wait > 0 {
			waiting, cancel := httpapi.Waiting(r, wait)
			defer cancel()
			settled, err := s.await(waiting, caller, a, wait)
			if err != nil {
				// The order is stored, whatever became of the waiting: its 202 stands.
				s.log.WarnContext(ctx, "outcome of an order could not be waited for", "service", service, "order_id", a.OrderID, "err", err)
			} else {
				a = settled
			}
		}
	}
	w.Header().Set("Location", "/v1/orders/"+a.OrderID)
	return a.write(w)
}

// whose is whose orders the caller may see: the caller's own, or, for an
// operator, "" for everybody's.
func whose(r *http.Request) string {
	if httpapi.RequireOperator(r) == nil {
		return ""
	}
	return httpapi.CustomerID(r)
}

// getOrder shows one of the caller's orders, or any to an operator:
// GET /v1/orders/{id}.
func (s *Service) getOrder(w http.ResponseWriter, r *http.Request) error {
	id, err := httpapi.Path(r, "id", "uuid")
	if err != nil {
		return err
	}
	return s.writeOrder(w, r, http.StatusOK, id)
}

// writeOrder answers with the order id, which the caller may see, as it is now.
func (s *Service) writeOrder(w http.ResponseWriter, r *http.Request, status int, id string) error {
	d, err := findOrder(r.Context(), s.db, id, whose(r))
	if errors.Is(err, ErrNotFound) {
		return httpapi.NotFound()
	}
	if err != nil {
		return err
	}
	return httpapi.WriteJSON(w, status, d)
}

// orderList is a page of orders.
type orderList struct {
	Orders     []summary `json:"orders"`                // newest first
	NextCursor string    `json:"next_cursor,omitempty"` // absent on the last page
}

// orderCursor is where a page ended.
type orderCursor struct {
	Before string `json:"before" validate:"required,uuid"`
}

// listOrders shows the caller's orders, or everybody's to an operator:
// GET /v1/orders?limit=&cursor=&status=.
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
	list, err := listOrders(r.Context(), s.db, whose(r), Status(page.Filters["status"]), cursor.Before, page.Limit+1)
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
var statusRule = func() string {
	names := make([]string, len(statuses))
	for i, s := range statuses {
		names[i] = string(s)
	}
	return "oneof=" + strings.Join(names, " ")
}()

// cancelRequest is the body of POST /v1/orders/{id}/cancel; there may be none.
type cancelRequest struct {
	Reason string `json:"reason,omitempty" validate:"max=200"` // the customer's own words, kept with the history
}

// cancelOrder undoes one of the caller's orders: POST /v1/orders/{id}/cancel. It
// answers 202 while it is being undone, 200 once it is, and order-not-cancellable
// when it is too late; what has shipped may be sent back instead.
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
	switch {
	case errors.Is(err, ErrIllegal):
		p := httpapi.NewProblem(http.StatusConflict, "order-not-cancellable", "an order that is "+string(o.Status)+" can't be cancelled")
		if o.Dispatched && !o.Status.Ended() {
			p.Detail += "; what is delivered can be sent back"
			p = p.WithHeader("Link", "</v1/orders/"+id+`/returns>; rel="related"`)
		}
		return p
	case err != nil:
		return err
	case o.Status == Cancelled:
		return s.writeOrder(w, r, http.StatusOK, id)
	}
	return s.writeOrder(w, r, http.StatusAccepted, id)
}

// decisionRequest is the body of POST /v1/orders/{id}/decision.
type decisionRequest struct {
	Decision string `json:"decision" validate:"required,oneof=accept cancel"`
}

// decideOrder says whether the part that is there will do:
// POST /v1/orders/{id}/decision. It answers 202, and illegal-state unless that
// was asked and isn't decided yet.
func (s *Service) decideOrder(w http.ResponseWriter, r *http.Request) error {
	id, err := httpapi.Path(r, "id", "uuid")
	if err != nil {
		return err
	}
	req, err := httpapi.Decode[decisionRequest](w, r)
	if err != nil {
		return err
	}
	in := Input{On: Accept}
	if req.Decision == "cancel" {
		in.On = Refuse
	}
	o, err := s.act(r.Context(), id, httpapi.CustomerID(r), in)
	if errors.Is(err, ErrIllegal) {
		return illegalState("an order that is " + string(o.Status) + " waits for no decision")
	}
	if err != nil {
		return err
	}
	return s.writeOrder(w, r, http.StatusAccepted, id)
}

// illegalState is the problem of what can't be done to an order as it is now.
func illegalState(detail string) *httpapi.Problem {
	return httpapi.NewProblem(http.StatusConflict, "illegal-state", detail)
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
		return illegalState("an order that is " + string(o.Status) + " waits for no payment")
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
		step, err := s.actIn(ctx, tx, id, customerID, in)
		o = step.Order
		return err
	})
	return o, err
}

// actIn is act in a transaction; of an illegal Step only Order is set. customerID
// "" is anybody's.
func (s *Service) actIn(ctx context.Context, tx *messaging.Tx, id, customerID string, in Input) (Step, error) {
	locked, err := lockOrder(ctx, tx, id, customerID)
	if errors.Is(err, ErrNotFound) {
		return Step{}, httpapi.NotFound()
	}
	if err != nil {
		return Step{}, err
	}
	in.At = locked.Now
	step, err := s.rules.Decide(locked.Order, in)
	if err != nil {
		return Step{Order: locked.Order}, err
	}
	return step, s.carryOut(ctx, tx, step)
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
