package orders

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/google/uuid"

	"example.com/orderflow/messaging"
	"example.com/orderflow/messaging/httpapi"
)

// maxTotalMinor is the most that an order may cost.
const maxTotalMinor = 1_000_000_000_000

// placeRequest is the body of POST /v1/orders. Prices are the catalogue's.
type placeRequest struct {
	Currency     string          `json:"currency" validate:"required,currency"`
	Lines        []lineRequest   `json:"lines" validate:"required,min=1,max=100,dive"`
	Customer     customerRequest `json:"customer" validate:"required"`
	PaymentToken string          `json:"payment_token" validate:"required,max=255"`
	AllowPartial bool            `json:"allow_partial,omitempty"` // ask whether a part will do, rather than reject
	Priority     string          `json:"priority,omitempty" validate:"omitempty,oneof=express standard bulk"`
	Note         string          `json:"note,omitempty" validate:"max=1000"`
}

type lineRequest struct {
	SKU      string `json:"sku" validate:"required,sku"`
	Quantity int    `json:"quantity" validate:"required,min=1,max=1000"`
}

type customerRequest struct {
	Name    string `json:"name" validate:"required,max=200"`
	Email   string `json:"email" validate:"required,email,max=254"`
	Address string `json:"address" validate:"required,max=500"`
}

// place stores the order that req asks for, or finds what was answered to key
// before. It returns a *httpapi.Problem when the request is refused; nothing is
// stored then.
func (s *Service) place(ctx context.Context, caller, key string, req placeRequest) (answer, error) {
	if err := checkSKUs(req.Lines); err != nil {
		return answer{}, err
	}
	return s.once(ctx, caller, key, req, req.skus(), func(_ context.Context, tx *messaging.Tx, op opening, a *answer) error {
		o, err := newOrder(caller, req, op)
		if err != nil {
			return err
		}
		step, err := s.rules.Decide(o, Input{On: Place, At: op.Now})
		if err != nil {
			return fmt.Errorf("place order %s: %w", o.ID, err)
		}
		o = step.Order
		if err := a.make(http.StatusAccepted, o.ID, newDocument(o, []Entry{*step.Entry})); err != nil {
			return err
		}
		insertOrder(tx, o, *step.Entry, *a)
		return tx.Publish(inClass(step.Sends, o.Class)...)
	})
}

func (req placeRequest) skus() []string {
	list := make([]string, len(req.Lines))
	for i, l := range req.Lines {
		list[i] = l.SKU
	}
	return list
}

// checkSKUs returns a problem when a SKU stands in more than one line.
func checkSKUs(lines []lineRequest) error {
	seen := map[string]bool{}
	p := httpapi.NewProblem(http.StatusUnprocessableEntity, "duplicate-sku", "a product may stand in one line only")
	for i, l := range lines {
		if seen[l.SKU] {
			p = p.WithError(skuPointer(i), "duplicate-sku", "is in a line before")
		}
		seen[l.SKU] = true
	}
	if len(p.Errors) > 0 {
		return p
	}
	return nil
}

func skuPointer(line int) string { return "/lines/" + strconv.Itoa(line) + "/sku" }

// newOrder makes the order that req asks for, at the prices of op. Its ids are
// made here. It returns a problem for products that can't be ordered, or not in
// this currency, and for a total over the limit.
func newOrder(caller string, req placeRequest, op opening) (Order, error) {
	var known []product
	if err := scanJSON(op.Products, &known); err != nil {
		return Order{}, fmt.Errorf("decode products: %w", err)
	}
	lines, total, err := price(req, known)
	if err != nil {
		return Order{}, err
	}
	var ids [4]string
	for i := range ids {
		id, err := uuid.NewV7()
		if err != nil {
			return Order{}, fmt.Errorf("make the ids of an order: %w", err)
		}
		ids[i] = id.String()
	}
	return Order{
		ID: ids[0], ReservationID: ids[1], PaymentID: ids[2], CaptureID: ids[3],
		CustomerID: caller, CustomerName: req.Customer.Name, CustomerEmail: req.Customer.Email, CustomerAddress: req.Customer.Address,
		Note: req.Note, Class: classOf(req.Priority), Currency: req.Currency, TotalMinor: total, Lines: lines, PaymentToken: req.PaymentToken,
		AllowPartial: req.AllowPartial,
	}, nil
}

// price puts known's names and prices to the lines of req and sums them up.
func price(req placeRequest, known []product) ([]Line, int64, error) {
	products := map[string]product{}
	for _, p := range known {
		products[p.SKU] = p
	}
	unknown := httpapi.NewProblem(http.StatusUnprocessableEntity, "unknown-sku", "a product is not in the catalogue, or not sold any more")
	foreign := httpapi.NewProblem(http.StatusUnprocessableEntity, "currency-mismatch", "a product is not sold in this currency")
	lines := make([]Line, len(req.Lines))
	var total int64
	for i, l := range req.Lines {
		p, ok := products[l.SKU]
		switch {
		case !ok || !p.Active:
			unknown = unknown.WithError(skuPointer(i), "unknown-sku", "is not sold here")
			continue
		case p.Currency != req.Currency:
			foreign = foreign.WithError(skuPointer(i), "currency-mismatch", "is sold in "+p.Currency)
			continue
		}
		// Compared before multiplying, so that nothing overflows.
		if p.PriceMinor > (maxTotalMinor-total)/int64(l.Quantity) {
			total = maxTotalMinor + 1
			break
		}
		total += p.PriceMinor * int64(l.Quantity)
		lines[i] = Line{SKU: p.SKU, Name: p.Name, Quantity: l.Quantity, UnitPriceMinor: p.PriceMinor}
	}
	switch {
	case len(unknown.Errors) > 0:
		return nil, 0, unknown
	case len(foreign.Errors) > 0:
		return nil, 0, foreign
	case total > maxTotalMinor:
		return nil, 0, httpapi.NewProblem(http.StatusUnprocessableEntity, "order-limit-exceeded", fmt.Sprintf("an order may cost at most %d minor units", int64(maxTotalMinor)))
	}
	return lines, total, nil
}

// classOf is the class that a priority stands for; none is standard.
func classOf(priority string) messaging.Class {
	switch priority {
	case "express":
		return messaging.Express
	case "bulk":
		return messaging.Bulk
	}
	return messaging.Standard
}

// waitPoll is how often a request that prefers to wait looks for the outcome.
const waitPoll = 20 * time.Millisecond

// await waits until the order of a is settled, at most for wait, and then makes
// what it has become the answer. Without an outcome it returns a as it is.
func (s *Service) await(ctx context.Context, caller string, a answer, wait time.Duration) (answer, error) {
	limit := time.NewTimer(wait)
	defer limit.Stop()
	poll := time.NewTicker(waitPoll)
	defer poll.Stop()
	for {
		select {
		case <-ctx.Done():
			return answer{}, ctx.Err()
		case <-limit.C:
			return a, nil
		case <-poll.C:
		}
		status, err := findStatus(ctx, s.db, a.OrderID)
		if err != nil {
			return answer{}, err
		}
		if status.settled() {
			break
		}
	}
	d, err := findOrder(ctx, s.db, a.OrderID, caller)
	if err != nil {
		return answer{}, err
	}
	if err := a.make(http.StatusCreated, a.OrderID, d); err != nil {
		return answer{}, err
	}
	err = s.bus.InTx(ctx, func(_ context.Context, tx *messaging.Tx) error {
		updateAnswer(tx, caller, a)
		return nil
	})
	if err != nil {
		return answer{}, fmt.Errorf("update the answer about order %s: %w", a.OrderID, err)
	}
	return a, nil
}
