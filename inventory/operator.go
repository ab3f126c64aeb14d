package inventory

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"

	"github.com/google/uuid"

	"example.com/orderflow/messaging"
	"example.com/orderflow/messaging/contracts"
	"example.com/orderflow/messaging/httpapi"
)

// act is what an operator did: a row of the audit.
type act struct {
	Who, Role string
	Action    string // restock, take, pack, dispatch, deliver, lose or receive
	SubjectID string // UUID of the reservation, return or restock
	OrderID   string // UUID, or "" and
	SKU       string
	RequestID string
}

// actOf is the act of whoever sent r.
func actOf(r *http.Request, action, subjectID string) act {
	return act{
		Who: httpapi.CustomerID(r), Role: string(httpapi.RoleOf(r)), Action: action,
		SubjectID: subjectID, RequestID: httpapi.RequestID(r.Context()),
	}
}

// operate runs do in a transaction and leaves the act that do returns in the
// audit.
func (s *Service) operate(ctx context.Context, do func(context.Context, *messaging.Tx) (act, error)) error {
	var done act
	err := s.bus.InTx(ctx, func(ctx context.Context, tx *messaging.Tx) (err error) {
		if done, err = do(ctx, tx); err == nil {
			insertAudit(tx, done)
		}
		return err
	})
	if err != nil {
		return err
	}
	s.log.InfoContext(ctx, "operator acted", "service", "inventory", "action", done.Action, "order_id", done.OrderID, "sku", done.SKU,
		"customer_id", done.Who, "correlation_id", done.RequestID)
	return nil
}

// restock is the body of POST /v1/products/{sku}/restock.
type restock struct {
	Quantity *int64 `json:"quantity" validate:"required,min=1,max=1000000"` // pieces that came in
}

// restockProduct adds pieces to the stock and answers with the product.
func (s *Service) restockProduct(w http.ResponseWriter, r *http.Request) error {
	sku, err := httpapi.Path(r, "sku", "sku")
	if err != nil {
		return err
	}
	body, err := httpapi.Decode[restock](w, r)
	if err != nil {
		return err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return fmt.Errorf("make the id of a restock: %w", err)
	}
	var product Product
	err = s.operate(r.Context(), func(ctx context.Context, tx *messaging.Tx) (act, error) {
		p, found, err := addStock(ctx, tx, move{What: restocked, SKU: sku, Pieces: *body.Quantity, CauseID: id.String()})
		if err != nil {
			return act{}, err
		}
		if !found {
			return act{}, httpapi.NotFound()
		}
		product = p
		a := actOf(r, "restock", id.String())
		a.SKU = sku
		return a, tx.Publish(contracts.StockLevelChanged{SKU: sku, Available: p.Available})
	})
	if err != nil {
		return err
	}
	return httpapi.WriteJSON(w, http.StatusOK, product)
}

// takeShipment takes the goods of one order in hand, however the warehouse is run:
// POST /v1/shipments/{order_id}/take. From then on each of their steps, and the
// arrival of each return, waits for a request, as with INVENTORY_WAREHOUSE=manual.
// Taken again, it stays so. It answers illegal-state for what has no step left.
func (s *Service) takeShipment(w http.ResponseWriter, r *http.Request) error {
	id, err := httpapi.Path(r, "order_id", "uuid")
	if err != nil {
		return err
	}
	var taken Reservation
	err = s.operate(r.Context(), func(ctx context.Context, tx *messaging.Tx) (act, error) {
		found, ok, err := lockOrder(ctx, tx, id)
		switch {
		case err != nil:
			return act{}, err
		case !ok:
			return act{}, httpapi.NotFound()
		case !found.inReach():
			return act{}, httpapi.NewProblem(http.StatusConflict, "illegal-state", "a shipment that is "+string(found.Status)+" has no step left to do")
		}
		taken = found
		taken.ByHand = true
		takeInHand(tx, taken.ID)
		a := actOf(r, "take", taken.ID)
		a.OrderID = taken.OrderID
		return a, nil
	})
	if err != nil {
		return err
	}
	return httpapi.WriteJSON(w, http.StatusOK, shown(taken, nil))
}

// packing is the body of POST /v1/shipments/{order_id}/pack: what was found. There
// may be none when it was all.
type packing struct {
	Lines []pickedLine `json:"lines" validate:"required,max=1000,unique=SKU,dive"`
}

// pickedLine is how many pieces of a SKU were found, fewer or as many as reserved.
type pickedLine struct {
	SKU      string `json:"sku" validate:"required,sku"`
	Quantity *int   `json:"quantity" validate:"required,min=0"`
}

// pickedOf reads what the request says was found; nil is all.
func pickedOf(w http.ResponseWriter, r *http.Request) (*packing, error) {
	if r.ContentLength == 0 {
		return nil, nil
	}
	body, err := httpapi.Decode[packing](w, r)
	if err != nil {
		return nil, err
	}
	return &body, nil
}

// found is what p says was found of r, by SKU. What was not reserved can't be, nor
// more than that: a problem.
func (p *packing) found(r Reservation) (map[string]int, error) {
	found := map[string]int{}
	if p == nil {
		return habits{}.find(r.Lines), nil
	}
	wrong := httpapi.NewProblem(http.StatusUnprocessableEntity, "validation", "more was found than the order has reserved")
	for i, picked := range p.Lines {
		at := "/lines/" + strconv.Itoa(i)
		j := slices.IndexFunc(r.Lines, func(l Line) bool { return l.SKU == picked.SKU })
		if j < 0 {
			wrong = wrong.WithError(at+"/sku", "not-reserved", "is not in the order's reservation")
		} else if most := r.Lines[j].Quantity; *picked.Quantity > most {
			wrong = wrong.WithError(at+"/quantity", "max", "must be at most "+strconv.Itoa(most))
		} else {
			found[picked.SKU] = *picked.Quantity
		}
	}
	if len(wrong.Errors) > 0 {
		wrong.Errors = wrong.Errors[:min(len(wrong.Errors), 50)]
		return nil, wrong
	}
	return found, nil
}

// stepShipment is the operator saying what happened to a shipment: "pack",
// "dispatch", "deliver" or "lose". It is refused unless the shipment awaits that.
func (s *Service) stepShipment(what string) func(http.ResponseWriter, *http.Request) error {
	return func(w http.ResponseWriter, r *http.Request) error {
		id, err := httpapi.Path(r, "order_id", "uuid")
		if err != nil {
			return err
		}
		var picked *packing
		if what == "pack" {
			if picked, err = pickedOf(w, r); err != nil {
				return err
			}
		}
		var after Reservation
		err = s.operate(r.Context(), func(ctx context.Context, tx *messaging.Tx) (act, error) {
			before, err := lockAwaiting(ctx, tx, id, what)
			if err != nil {
				return act{}, err
			}
			var d decision
			switch what {
			case "pack":
				found, err := picked.found(before)
				if err != nil {
					return act{}, err
				}
				d = pack(before, found)
			case "dispatch":
				d = ship(before, s.pace)
			case "deliver":
				d = deliver(before)
			case "lose":
				d = lose(before)
			}
			after = d.Reservation
			a := actOf(r, what, before.ID)
			a.OrderID = before.OrderID
			return a, carryOut(ctx, tx, []decision{d})
		})
		if err != nil {
			return err
		}
		return httpapi.WriteJSON(w, http.StatusOK, shown(after, nil))
	}
}

// lockAwaiting locks the order's reservation. It is a problem when there is none
// that awaits the step.
func lockAwaiting(ctx context.Context, tx *messaging.Tx, orderID, step string) (Reservation, error) {
	r, ok, err := lockOrder(ctx, tx, orderID)
	if err != nil {
		return Reservation{}, err
	}
	if !ok {
		return Reservation{}, httpapi.NotFound()
	}
	if !slices.Contains(r.awaits(), step) {
		return Reservation{}, httpapi.NewProblem(http.StatusConflict, "illegal-state", "the shipment does not wait for this step now")
	}
	return r, nil
}

// receiveReturn is the operator saying that a return is there:
// POST /v1/shipments/{order_id}/returns/{return_id}/receive.
func (s *Service) receiveReturn(w http.ResponseWriter, r *http.Request) error {
	orderID, err := httpapi.Path(r, "order_id", "uuid")
	if err != nil {
		return err
	}
	id, err := httpapi.Path(r, "return_id", "uuid")
	if err != nil {
		return err
	}
	var answer shipment
	err = s.operate(r.Context(), func(ctx context.Context, tx *messaging.Tx) (act, error) {
		owner, ok, err := lockOrder(ctx, tx, orderID)
		if err != nil {
			return act{}, err
		}
		if !ok {
			return act{}, httpapi.NotFound()
		}
		returns, err := readReturns(ctx, tx, []string{owner.ID}, nil)
		if err != nil {
			return act{}, err
		}
		i := slices.IndexFunc(returns, func(t Return) bool { return t.ID == id })
		switch {
		case i < 0:
			return act{}, httpapi.NotFound()
		case returns[i].Received:
			return act{}, httpapi.NewProblem(http.StatusConflict, "illegal-state", "the return was received before")
		}
		reservations := map[string]Reservation{owner.ID: owner}
		if err := takeIn(ctx, tx, reservations, returns[i]); err != nil {
			return act{}, err
		}
		returns[i].Received = true
		answer = shown(reservations[owner.ID], returns)
		a := actOf(r, "receive", id)
		a.OrderID = owner.OrderID
		return a, nil
	})
	if err != nil {
		return err
	}
	return httpapi.WriteJSON(w, http.StatusOK, answer)
}
