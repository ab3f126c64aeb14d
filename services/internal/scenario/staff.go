package scenario

import (
	"fmt"
	"net/http"
	"slices"

	"github.com/google/uuid"

	"example.com/orderflow/services/internal/client"
)

// product is one of the shop's.
type product struct {
	sku   string
	price int64 // minor units
}

func (p product) times(n int) line { return line{SKU: p.sku, Quantity: n} }

// The shop's own catalogue, of which the stories buy: there are thousands of each,
// but a handful of bowls, and no sets.
var (
	mug    = product{"MUG-01", 1490}
	tea    = product{"TEA-01", 890}
	coffee = product{"COFFEE-01", 2190}
	pot    = product{"POT-01", 5900}
	kettle = product{"KETTLE-01", 7900}
	scale  = product{"SCALE-01", 3900}
	towel  = product{"TOWEL-01", 1250}
	filter = product{"FILTER-01", 490}
	bowl   = product{"BOWL-01", 14900}
	set    = product{"SET-01", 24900}
)

// shipment is what the warehouse has of an order.
type shipment struct {
	Status  string   `json:"status"`
	Awaits  []string `json:"awaits"`
	Returns []struct {
		ReturnID string `json:"return_id"`
	} `json:"returns"`
}

// expects reports whether a return is on its way, or there.
func (s shipment) expects(returnID string) bool {
	for _, r := range s.Returns {
		if r.ReturnID == returnID {
			return true
		}
	}
	return false
}

// warehouse waits until what the warehouse has of o is as said.
func (p *person) warehouse(o *order, want string, is func(shipment) bool) {
	p.awaits(o.id, want, func() (string, error) {
		s, err := sees[shipment](p, "/v1/shipments/"+o.id)
		if err == nil && !is(s) {
			return fmt.Sprintf("a shipment that is %s and awaits %v", s.Status, s.Awaits), nil
		}
		return "", err
	})
}

// takesInHand has each step of o's goods wait for a person, so that a story can say
// what happens in the warehouse, however it is run.
func (p *person) takesInHand(o *order) {
	p.does("%s of the warehouse takes it in hand", p.name)
	p.warehouse(o, "goods reserved", func(shipment) bool { return true })
	p.asks(ok, http.MethodPost, "/v1/shipments/"+o.id+"/take", nil)
}

// packs ends the picking of o with what was found.
func (p *person) packs(o *order, found ...line) {
	words := "nothing"
	if len(found) > 0 {
		words = pieces(found)
	}
	p.does("%s finds %s to pack", p.name, words)
	var body struct {
		Lines []line `json:"lines"`
	}
	body.Lines = append([]line{}, found...)
	p.warehouse(o, "a shipment that awaits pack", func(s shipment) bool { return slices.Contains(s.Awaits, "pack") })
	p.asks(ok, http.MethodPost, "/v1/shipments/"+o.id+"/pack", body)
}

// moves does the next step of o's parcel: dispatch, deliver or lose.
func (p *person) moves(o *order, step string) {
	p.does("%s says: %s", p.name, step)
	p.warehouse(o, "a shipment that awaits "+step, func(s shipment) bool { return slices.Contains(s.Awaits, step) })
	p.asks(ok, http.MethodPost, "/v1/shipments/"+o.id+"/"+step, nil)
}

// receives takes a return in.
func (p *person) receives(o *order, returnID string) {
	p.does("%s receives the parcel", p.name)
	p.warehouse(o, "a return that is expected", func(s shipment) bool { return s.expects(returnID) })
	p.asks(ok, http.MethodPost, "/v1/shipments/"+o.id+"/returns/"+returnID+"/receive", nil)
}

// restocks brings pieces of a product in.
func (p *person) restocks(what product, n int) {
	p.does("%s brings %d %s in", p.name, n, what.sku)
	p.asks(ok, http.MethodPost, "/v1/products/"+what.sku+"/restock", map[string]int{"quantity": n})
}

// paysBack refunds lines of o that are not sent back.
func (p *person) paysBack(o *order, why string, lines ...line) {
	p.does("%s pays %s back: %s", p.name, pieces(lines), why)
	p.asks(accepted, http.MethodPost, o.path()+"/refunds", map[string]any{"lines": lines, "reason": why}, "Idempotency-Key", uuid.NewString())
}

// resolves says how an order that needs attention goes on: retry or cancel.
func (p *person) resolves(o *order, action string) {
	p.does("%s decides: %s", p.name, action)
	p.asks(accepted, http.MethodPost, o.path()+"/resolution", map[string]string{"action": action, "reason": "told in a story"})
}

// line is a quantity of a product.
type line = client.Line
