package e2e

import (
	"errors"
	"fmt"
	"net/http"
	"testing"

	"github.com/google/uuid"
)

// story is what a customer makes of an order, to its end.
type story struct {
	token string // by which it is paid
	tell  func(t *testing.T, c *Customer, id string) error
}

var (
	keeps       = story{"tok_ok", func(t *testing.T, c *Customer, id string) error { return c.arrive(t, id, 10*goesOn) }}
	cancels     = story{"tok_ok", func(t *testing.T, c *Customer, id string) error { return c.cancel(t, id) }}
	cancelsLate = story{"tok_slow", func(t *testing.T, c *Customer, id string) error { // slow enough to be cancelled meanwhile
		return errors.Join(c.reach(t, id, 10*goesOn, happyWay[1:]...), c.cancel(t, id))
	}}
	sendsBack = story{"tok_ok", func(t *testing.T, c *Customer, id string) error {
		return errors.Join(c.arrive(t, id, 10*goesOn), c.sendBack(t, id), c.reach(t, id, 10*goesOn, "refunded"))
	}}
)

// live has c place an order and live through the story. The id is that of an order
// which was promised.
func (s story) live(t *testing.T, c *Customer) (id string, err error) {
	o, err := c.PlaceSurely(t.Context(), wish("FILTER-01", s.token))
	if err != nil {
		return "", err
	}
	return o.ID, s.tell(t, c, o.ID)
}

// cancel cancels the order and waits until it has ended so; or, when it was too late
// for that, until it has arrived.
func (c *Customer) cancel(t *testing.T, id string) error {
	a, err := c.Do(t.Context(), http.MethodPost, "/v1/orders/"+id+"/cancel", nil)
	if err == nil && a.Status/100 != 2 && a.Code() != "order-not-cancellable" {
		err = fmt.Errorf("status %d: %s", a.Status, a.Body)
	}
	if err != nil {
		return fmt.Errorf("cancel order %s: %w", id, err)
	}
	return c.reach(t, id, 10*goesOn, "cancelled", "delivered")
}

// sendBack announces that the order's piece is sent back.
func (c *Customer) sendBack(t *testing.T, id string) error {
	a, err := c.Do(t.Context(), http.MethodPost, "/v1/orders/"+id+"/returns",
		map[string]any{"lines": []Line{{"FILTER-01", 1}}}, "Idempotency-Key", uuid.NewString())
	if err == nil && a.Status != http.StatusAccepted {
		err = fmt.Errorf("status %d: %s", a.Status, a.Body)
	}
	if err != nil {
		return fmt.Errorf("send order %s back: %w", id, err)
	}
	return nil
}
