package orders

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"github.com/google/uuid"

	"example.com/orderflow/messaging"
	"example.com/orderflow/messaging/contracts"
	"example.com/orderflow/messaging/httpapi"
)

// returnRequest is the body of POST /v1/orders/{id}/returns.
type returnRequest struct {
	Lines []lineRequest `json:"lines" validate:"required,min=1,max=100,dive"`
}

// askReturn announces that pieces of one of the caller's orders are sent back:
// POST /v1/orders/{id}/returns, with an Idempotency-Key. It answers 202 with the
// return's id, unknown-sku for a product that the order has not, and
// illegal-state unless it is delivered, may still be sent back and has as many
// pieces left. The money is paid back when they are there.
func (s *Service) askReturn(w http.ResponseWriter, r *http.Request) error {
	key, id, req, err := keyedRequest[returnRequest](w, r)
	if err != nil {
		return err
	}
	return s.afterSale(w, r, key, id, httpapi.CustomerID(r), Input{On: AskReturn}, req.Lines, nil)
}

// refundRequest is the body of POST /v1/orders/{id}/refunds.
type refundRequest struct {
	Lines  []lineRequest `json:"lines" validate:"required,min=1,max=100,dive"`
	Reason string        `json:"reason" validate:"required,max=200"` // the operator's own words
}

// refundOrder pays pieces of an order back that are not sent back:
// POST /v1/orders/{id}/refunds, an operator's, with an Idempotency-Key. It
// answers 202 with the refund's id, unknown-sku for a product that the order has
// not, and illegal-state unless it is delivered and has as many pieces left.
func (s *Service) refundOrder(w http.ResponseWriter, r *http.Request) error {
	if err := httpapi.RequireOperator(r); err != nil {
		return err
	}
	key, id, req, err := keyedRequest[refundRequest](w, r)
	if err != nil {
		return err
	}
	done := doneBy(r, "refund", id, req.Reason)
	return s.afterSale(w, r, key, id, "", Input{On: OperatorRefund, Note: req.Reason}, req.Lines, &done)
}

// keyedRequest reads what a request about an order is made of: its
// Idempotency-Key, the order's id, the body.
func keyedRequest[T any](w http.ResponseWriter, r *http.Request) (key, id string, body T, err error) {
	if key, err = httpapi.IdempotencyKey(r); err != nil {
		return "", "", body, err
	}
	if id, err = httpapi.Path(r, "id", "uuid"); err != nil {
		return "", "", body, err
	}
	body, err = httpapi.Decode[T](w, r)
	return key, id, body, err
}

// afterSale lets in happen, with lines and a fresh id, to the order id of
// customerID ("" = anybody's), once for key, and answers.
func (s *Service) afterSale(w http.ResponseWriter, r *http.Request, key, id, customerID string, in Input, lines []lineRequest, done *deed) error {
	if err := checkSKUs(lines); err != nil {
		return err
	}
	fresh, err := uuid.NewV7()
	if err != nil {
		return fmt.Errorf("make an id: %w", err)
	}
	in.ID, in.Lines = fresh.String(), quantities(lines)
	caller := httpapi.CustomerID(r)
	// All that tells this request from another under the same key.
	request := struct {
		On      string        `json:"on"`
		OrderID string        `json:"order_id"`
		Lines   []lineRequest `json:"lines"`
		Note    string        `json:"note"`
	}{in.On, id, lines, in.Note}
	a, err := s.once(r.Context(), caller, key, request, nil, func(ctx context.Context, tx *messaging.Tx, _ opening, a *answer) error {
		step, err := s.actIn(ctx, tx, id, customerID, in)
		if errors.Is(err, ErrIllegal) {
			return notNow(step.Order, in.Lines)
		}
		if err != nil {
			return err
		}
		history, err := readHistory(ctx, tx, id)
		if err != nil {
			return err
		}
		shown := afterSale{document: newDocument(step.Order, append(history, *step.Entry))}
		if in.On == AskReturn {
			shown.ReturnID = in.ID
		} else {
			shown.RefundID = in.ID
		}
		if err := a.make(http.StatusAccepted, id, shown); err != nil {
			return err
		}
		insertAnswer(tx, caller, in.On, *a)
		if done != nil {
			insertDeed(tx, *done)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return a.write(w)
}

// notNow is why pieces of o can't be sent back or refunded now: a problem.
func notNow(o Order, pieces []contracts.Line) error {
	unknown := httpapi.NewProblem(http.StatusUnprocessableEntity, "unknown-sku", "the order has no such product")
	for i, p := range pieces {
		if !slices.ContainsFunc(o.Lines, func(l Line) bool { return l.SKU == p.SKU }) {
			unknown = unknown.WithError(skuPointer(i), "unknown-sku", "is not in the order")
		}
	}
	if len(unknown.Errors) > 0 {
		return unknown
	}
	if o.Status != Delivered && o.Status != Refunding {
		return illegalState("nothing of an order that is " + string(o.Status) + " can be sent back or refunded")
	}
	if _, ok := o.part(pieces, o.free); !ok {
		return illegalState("these are more pieces than the customer keeps and isn't sending back already")
	}
	return illegalState("an order that is " + string(o.Status) + " can't be sent back now, or not any more")
}
