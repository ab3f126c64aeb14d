package inventory

import (
	"context"
	"net/http"

	"example.com/orderflow/messaging"
	"example.com/orderflow/messaging/contracts"
	"example.com/orderflow/messaging/httpapi"
)

// Routes adds the service's requests to mux.
func (s *Service) Routes(mux *httpapi.Mux) {
	mux.Handle("GET /v1/products", s.listProducts)
	mux.Handle("POST /v1/products/{sku}/restock", s.restockProduct)
	mux.Handle("GET /v1/shipments/{order_id}", s.showShipment)
	for _, what := range []string{"pack", "dispatch", "deliver"} {
		mux.Handle("POST /v1/shipments/{order_id}/"+what, s.stepShipment(what))
	}
}

// productList is the answer to GET /v1/products.
type productList struct {
	Products []Product `json:"products"`
}

// listProducts answers with every product on sale, by SKU.
func (s *Service) listProducts(w http.ResponseWriter, r *http.Request) error {
	list, err := listProducts(r.Context(), s.db)
	if err != nil {
		return err
	}
	return httpapi.WriteJSON(w, http.StatusOK, productList{Products: list})
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
	var product Product
	err = s.bus.InTx(r.Context(), func(ctx context.Context, tx *messaging.Tx) error {
		p, found, err := addStock(ctx, tx, sku, *body.Quantity)
		if err != nil {
			return err
		}
		if !found {
			return httpapi.NotFound()
		}
		product = p
		return tx.Publish(contracts.StockLevelChanged{SKU: sku, Available: p.Available})
	})
	if err != nil {
		return err
	}
	s.log.Info("product restocked", "service", "inventory", "sku", sku, "quantity", *body.Quantity)
	return httpapi.WriteJSON(w, http.StatusOK, product)
}

// shipment is what is shown of a reservation.
type shipment struct {
	OrderID       string           `json:"order_id"`
	ReservationID string           `json:"reservation_id"`
	Status        Status           `json:"status"`
	Lines         []contracts.Line `json:"lines"`
	Tracking      string           `json:"tracking,omitempty"`
	Awaits        string           `json:"awaits,omitempty"` // the step that an operator may do now
}

func shown(r Reservation) shipment {
	return shipment{OrderID: r.OrderID, ReservationID: r.ID, Status: r.Status, Lines: r.Lines, Tracking: r.Tracking, Awaits: r.awaits()}
}

// showShipment answers with what the warehouse has of an order.
func (s *Service) showShipment(w http.ResponseWriter, r *http.Request) error {
	id, err := httpapi.Path(r, "order_id", "uuid")
	if err != nil {
		return err
	}
	found, ok, err := findReservation(r.Context(), s.db, id)
	if err != nil {
		return err
	}
	if !ok {
		return httpapi.NotFound()
	}
	return httpapi.WriteJSON(w, http.StatusOK, shown(found))
}

// stepShipment is the operator saying that a step was done: "pack", "dispatch"
// or "deliver". It is refused unless the shipment awaits just that.
func (s *Service) stepShipment(what string) func(http.ResponseWriter, *http.Request) error {
	return func(w http.ResponseWriter, r *http.Request) error {
		id, err := httpapi.Path(r, "order_id", "uuid")
		if err != nil {
			return err
		}
		var after Reservation
		err = s.bus.InTx(r.Context(), func(ctx context.Context, tx *messaging.Tx) error {
			before, ok, err := lockOrder(ctx, tx, id)
			if err != nil {
				return err
			}
			if !ok {
				return httpapi.NotFound()
			}
			if before.awaits() != what {
				return httpapi.NewProblem(http.StatusConflict, "illegal-state", "the shipment does not wait for this step now")
			}
			d := step(before, s.pace)
			after = d.Reservation
			return s.carryOut(ctx, tx, []decision{d})
		})
		if err != nil {
			return err
		}
		return httpapi.WriteJSON(w, http.StatusOK, shown(after))
	}
}
