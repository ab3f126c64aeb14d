package orders

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/google/uuid"

	"example.com/orderflow/messaging"
	"example.com/orderflow/messaging/httpapi"
)

// deed is a row of the audit: what an operator did.
type deed struct {
	Actor     string // X-Customer-Id
	Role      httpapi.Role
	Action    string // refund, retry, cancel
	OrderID   string
	Reason    string // the operator's own words
	RequestID string
}

// doneBy is what the operator who sent r does to an order.
func doneBy(r *http.Request, action, orderID, reason string) deed {
	return deed{
		Actor: httpapi.CustomerID(r), Role: httpapi.RoleOf(r), Action: action, OrderID: orderID, Reason: reason,
		RequestID: httpapi.RequestID(r.Context()),
	}
}

// resolutionRequest is the body of POST /v1/orders/{id}/resolution.
type resolutionRequest struct {
	Action string `json:"action" validate:"required,oneof=retry cancel"`
	Reason string `json:"reason" validate:"required,max=200"` // the operator's own words
}

// resolveOrder decides how an order that needs attention goes on:
// POST /v1/orders/{id}/resolution, an operator's. Retry takes it up where it was;
// cancel undoes it, or refunds all when the money is known to be ours. It answers
// 202, and illegal-state for an order that needs no attention.
func (s *Service) resolveOrder(w http.ResponseWriter, r *http.Request) error {
	if err := httpapi.RequireOperator(r); err != nil {
		return err
	}
	id, err := httpapi.Path(r, "id", "uuid")
	if err != nil {
		return err
	}
	req, err := httpapi.Decode[resolutionRequest](w, r)
	if err != nil {
		return err
	}
	refund, err := uuid.NewV7()
	if err != nil {
		return fmt.Errorf("make a refund id: %w", err)
	}
	in := Input{On: OperatorRetry, Note: req.Reason, ID: refund.String()}
	if req.Action == "cancel" {
		in.On = OperatorCancel
	}
	done := doneBy(r, req.Action, id, req.Reason)
	var o Order
	err = s.bus.InTx(r.Context(), func(ctx context.Context, tx *messaging.Tx) error {
		step, err := s.actIn(ctx, tx, id, "", in)
		if o = step.Order; err != nil {
			return err
		}
		insertDeed(tx, done)
		return nil
	})
	if errors.Is(err, ErrIllegal) {
		return illegalState("an order that is " + string(o.Status) + " needs no attention")
	}
	if err != nil {
		return err
	}
	s.log.InfoContext(r.Context(), "order resolved by an operator", "service", service, "order_id", id, "customer_id", o.CustomerID, "status", o.Status, "kind", in.On)
	return s.writeOrder(w, r, http.StatusAccepted, id)
}
