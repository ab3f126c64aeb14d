package inventory

import (
	"net/http"
	"time"

	"example.com/orderflow/messaging/contracts"
	"example.com/orderflow/messaging/httpapi"
)

// Routes adds the service's requests to mux.
func (s *Service) Routes(mux *httpapi.Mux) {
	mux.Handle("GET /v1/products", s.listProducts)
	mux.Handle("GET /v1/shipments/{order_id}", s.showShipment)
	mux.Handle("GET /v1/stock-moves", operator(s.listStockMoves))
	mux.Handle("POST /v1/products/{sku}/restock", operator(s.restockProduct))
	mux.Handle("POST /v1/shipments/{order_id}/take", operator(s.takeShipment))
	for _, what := range []string{"pack", "dispatch", "deliver", "lose"} {
		mux.Handle("POST /v1/shipments/{order_id}/"+what, operator(s.stepShipment(what)))
	}
	mux.Handle("POST /v1/shipments/{order_id}/returns/{return_id}/receive", operator(s.receiveReturn))
}

// operator has h answer operators only.
func operator(h func(http.ResponseWriter, *http.Request) error) func(http.ResponseWriter, *http.Request) error {
	return func(w http.ResponseWriter, r *http.Request) error {
		if err := httpapi.RequireOperator(r); err != nil {
			return err
		}
		return h(w, r)
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

// shipment is what is shown of a reservation.
type shipment struct {
	OrderID       string       `json:"order_id"`
	ReservationID string       `json:"reservation_id"`
	Status        Status       `json:"status"`
	Lines         []Line       `json:"lines"`
	Tracking      string       `json:"tracking,omitempty"`
	Awaits        []string     `json:"awaits,omitempty"`  // the steps that an operator may do now
	Returns       []returnInfo `json:"returns,omitempty"` // oldest first
}

// returnInfo is what is shown of a return.
type returnInfo struct {
	ReturnID string           `json:"return_id"`
	Status   string           `json:"status"` // expected or received
	Lines    []contracts.Line `json:"lines"`
}

func shown(r Reservation, returns []Return) shipment {
	s := shipment{OrderID: r.OrderID, ReservationID: r.ID, Status: r.Status, Lines: r.Lines, Tracking: r.Tracking, Awaits: r.awaits()}
	if s.Lines == nil {
		s.Lines = []Line{}
	}
	for _, t := range returns {
		info := returnInfo{ReturnID: t.ID, Status: "expected", Lines: t.Lines}
		if t.Received {
			info.Status = "received"
		}
		s.Returns = append(s.Returns, info)
	}
	return s
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
	returns, err := listReturns(r.Context(), s.db, found.ID)
	if err != nil {
		return err
	}
	return httpapi.WriteJSON(w, http.StatusOK, shown(found, returns))
}

// moveDocument is a row of the ledger: by how much a SKU's counters changed.
type moveDocument struct {
	ID      int64   `json:"id" db:"id"`
	SKU     string  `json:"sku" db:"sku"`
	What    what    `json:"what" db:"what"`
	CauseID *string `json:"cause_id" db:"cause_id"` // the reservation, return or restock
	OrderID *string `json:"order_id" db:"order_id"`
	counters
	At time.Time `json:"at" db:"at"` // UTC, by the shop's clock
}

// moveList is a page of the ledger.
type moveList struct {
	Moves      []moveDocument `json:"moves"`                 // newest first
	NextCursor string         `json:"next_cursor,omitempty"` // absent on the last page
}

// moveCursor is where a page ended.
type moveCursor struct {
	Before int64 `json:"before" validate:"min=1"`
}

// listStockMoves shows the ledger of an order, of a SKU, or all of it:
// GET /v1/stock-moves?limit=&cursor=&order_id=&sku=.
func (s *Service) listStockMoves(w http.ResponseWriter, r *http.Request) error {
	page, err := httpapi.PageParams(r, "order_id=uuid", "sku=sku")
	if err != nil {
		return err
	}
	var cursor moveCursor
	if page.Cursor != "" {
		if cursor, err = httpapi.DecodeCursor[moveCursor](page.Cursor); err != nil {
			return err
		}
	}
	// One more than asked for tells whether there is another page.
	list, err := listMoves(r.Context(), s.db, page.Filters["order_id"], page.Filters["sku"], cursor.Before, page.Limit+1)
	if err != nil {
		return err
	}
	answer := moveList{Moves: list}
	if len(list) > page.Limit {
		answer.Moves = list[:page.Limit]
		if answer.NextCursor, err = httpapi.EncodeCursor(moveCursor{Before: list[page.Limit-1].ID}); err != nil {
			return err
		}
	}
	return httpapi.WriteJSON(w, http.StatusOK, answer)
}
