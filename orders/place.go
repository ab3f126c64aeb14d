package orders

import (
	"context"
	"encoding/json"
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

// answer is what a request with an Idempotency-Key is answered, and its repeats
// byte for byte.
type answer struct {
	Key         string
	Fingerprint string // of the request
	Status      int
	Body        []byte // JSON
	OrderID     string
	Replayed    bool
}

// place stores the order that req asks for, or finds what was answered to key
// before. It returns a *httpapi.Problem when the request is refused; nothing is
// stored then.
func (s *Service) place(ctx context.Context, caller, key string, req placeRequest) (answer, error) {
	if err := req.checkSKUs(); err != nil {
		return answer{}, err
	}
	// The decoded request, not its bytes: white space and member order don't count.
	decoded, err := json.Marshal(req)
	if err != nil {
		return answer{}, fmt.Errorf("encode a request: %w", err)
	}
	fingerprint, err := httpapi.Fingerprint(decoded)
	if err != nil {
		return answer{}, err
	}
	a := answer{Key: key, Fingerprint: fingerprint}
	placed, err := s.tryPlace(ctx, caller, req, a)
	if keyTaken(err) {
		// The other one's answer is stored now: the second look sees it.
		placed, err = s.tryPlace(ctx, caller, req, a)
	}
	return placed, err
}

// tryPlace is place in one transaction. Its error is keyTaken when another one
// with the same key has committed since it looked.
func (s *Service) tryPlace(ctx context.Context, caller string, req placeRequest, a answer) (answer, error) {
	err := s.bus.InTx(ctx, func(ctx context.Context, tx *messaging.Tx) error {
		op, err := openOrder(ctx, tx, caller, a.Key, req.skus())
		if err != nil {
			return err
		}
		if op.Fingerprint.Valid {
			a, err = replay(op, a)
			return err
		}
		if !op.Locked {
			return httpapi.NewProblem(http.StatusConflict, "idempotency-in-progress", "the first request with this Idempotency-Key is still being answered").
				WithHeader("Retry-After", "1")
		}
		o, err := newOrder(caller, req, op)
		if err != nil {
			return err
		}
		step, err := s.rules.Decide(o, Input{On: Place, At: op.Now})
		if err != nil {
			return fmt.Errorf("place order %s: %w", o.ID, err)
		}
		o = step.Order
		a.Status, a.OrderID = http.StatusAccepted, o.ID
		a.Body, err = json.Marshal(newDocument(summaryOf(o), o.EndsAs, o.Lines, []Entry{*step.Entry}))
		if err != nil {
			return fmt.Errorf("encode order %s: %w", o.ID, err)
		}
		insertOrder(tx, o, *step.Entry, a)
		return tx.Publish(inClass(step.Sends, o.Class)...)
	})
	if err != nil {
		return answer{}, err
	}
	return a, nil
}

// replay is what was answered to a's key before; a problem when that was another
// request.
func replay(op opening, a answer) (answer, error) {
	if op.Fingerprint.String != a.Fingerprint {
		return answer{}, httpapi.NewProblem(http.StatusUnprocessableEntity, "idempotency-key-reused", "this Idempotency-Key belongs to another request")
	}
	a.Status, a.Body, a.OrderID, a.Replayed = int(op.Status.Int64), op.Body, op.OrderID.String, true
	return a, nil
}

func (req placeRequest) skus() []string {
	list := make([]string, len(req.Lines))
	for i, l := range req.Lines {
		list[i] = l.SKU
	}
	return list
}

// checkSKUs returns a problem when a SKU stands in more than one line.
func (req placeRequest) checkSKUs() error {
	seen := map[string]bool{}
	p := httpapi.NewProblem(http.StatusUnprocessableEntity, "duplicate-sku", "a product may stand in one line only")
	for i, l := range req.Lines {
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
	a.Status = http.StatusCreated
	if a.Body, err = json.Marshal(d); err != nil {
		return answer{}, fmt.Errorf("encode order %s: %w", a.OrderID, err)
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
