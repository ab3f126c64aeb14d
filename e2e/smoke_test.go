package e2e

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
)

// TestSmoke walks the customers' paths, through the console only, all at once.
func TestSmoke(t *testing.T) {
	t.Parallel()
	s := NewStack(t)
	t.Run("stories", func(t *testing.T) {
		for name, story := range map[string]func(*testing.T, *Customer){
			"order is delivered":                    delivered,
			"declined order is paid in another way": declinedThenPaid,
			"third decline rejects the order":       declinedForGood,
			"what is sold out is rejected":          outOfStock,
			"order is cancelled":                    cancelled,
			"same key is the same order":            replayed,
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				story(t, NewCustomer(t, s.URL))
			})
		}
	})
	CheckShop(t, s.DSN("", ""))
}

// happyWay is the way of an order that meets no obstacle.
var happyWay = strings.Fields("placed authorizing confirmed fulfilling capturing dispatching shipped delivered")

func delivered(t *testing.T, c *Customer) {
	products := Must[struct{ Products []struct{ SKU string } }](t, c, http.StatusOK, http.MethodGet, "/v1/products", nil)
	if n := len(products.Products); n != 12 {
		t.Errorf("%d products, want 12", n)
	}
	left := Must[struct {
		Products []struct{ SKU string }
		Unknown  []string
	}](t, c, http.StatusOK, http.MethodGet, "/v1/availability?sku=MUG-01,NOPE-01,TEA-01", nil)
	if len(left.Products) != 2 || left.Products[0].SKU != "MUG-01" || !slices.Equal(left.Unknown, []string{"NOPE-01"}) {
		t.Errorf("what is left: %+v, want MUG-01 and TEA-01, and NOPE-01 unknown", left)
	}
	o := c.Place(t, wish("MUG-01", "tok_ok"))
	if o.Status != "placed" || o.TotalMinor == 0 {
		t.Errorf("placed order is %+v, want one that is placed and costs something", o)
	}
	o = c.Await(t, o.ID, "delivered")
	if got := o.Way(); !slices.Equal(got, happyWay) {
		t.Errorf("way %v, want %v", got, happyWay)
	}
	if got := captured(t, c, o.ID); got != o.TotalMinor {
		t.Errorf("captured %d, want %d", got, o.TotalMinor)
	}
	told(t, c, o.ID, "order_placed", "order_confirmed", "order_shipped", "order_delivered")
	if _, err := uuid.Parse(o.ID); err != nil {
		t.Errorf("id %q is no UUID", o.ID)
	}
	a, err := c.Do(t.Context(), http.MethodPost, "/v1/orders/"+o.ID+"/cancel", nil)
	if err != nil || a.Status != http.StatusConflict || a.Code() != "order-not-cancellable" {
		t.Errorf("cancel of a delivered order: %v, status %d, %s; want 409 order-not-cancellable", err, a.Status, a.Body)
	}
	somebodyElse := NewCustomer(t, c.Base)
	Must[any](t, somebodyElse, http.StatusNotFound, http.MethodGet, "/v1/orders/"+o.ID, nil)
}

func declinedThenPaid(t *testing.T, c *Customer) {
	o := c.Await(t, c.Place(t, wish("TEA-01", "tok_declined")).ID, "payment_failed")
	if !slices.Contains(o.Next, "authorizing") {
		t.Errorf("next of a declined order is %v, want authorizing in it", o.Next)
	}
	pay(t, c, o.ID, "tok_ok")
	o = c.Await(t, o.ID, "delivered")
	if got := captured(t, c, o.ID); got != o.TotalMinor {
		t.Errorf("captured %d, want %d", got, o.TotalMinor)
	}
	told(t, c, o.ID, "order_placed", "order_action_required", "order_confirmed", "order_shipped", "order_delivered")
}

func declinedForGood(t *testing.T, c *Customer) {
	id := c.Place(t, wish("POT-01", "tok_declined")).ID
	for range 2 {
		c.Await(t, id, "payment_failed")
		pay(t, c, id, "tok_insufficient_funds")
	}
	o := c.Await(t, id, "rejected")
	if o.ReasonCode != "payment_declined" {
		t.Errorf("reason %q, want payment_declined", o.ReasonCode)
	}
	if got := captured(t, c, id); got != 0 {
		t.Errorf("captured %d, want nothing", got)
	}
}

func outOfStock(t *testing.T, c *Customer) {
	o := c.Await(t, c.Place(t, wish("SET-01", "tok_ok")).ID, "rejected")
	if o.ReasonCode != "out_of_stock" {
		t.Errorf("reason %q, want out_of_stock", o.ReasonCode)
	}
	told(t, c, o.ID, "order_placed", "order_rejected")
	Must[any](t, c, http.StatusOK, http.MethodPost, "/v1/products/SET-01/restock", map[string]int{"quantity": 1}, "X-Role", "operator")
	c.Await(t, c.Place(t, wish("SET-01", "tok_ok")).ID, "delivered")
}

func cancelled(t *testing.T, c *Customer) {
	o := c.Place(t, wish("KETTLE-01", "tok_slow")) // time enough to change one's mind
	c.Await(t, o.ID, "authorizing")
	Must[any](t, c, http.StatusAccepted, http.MethodPost, "/v1/orders/"+o.ID+"/cancel", nil)
	c.Await(t, o.ID, "cancelled")
	if got := captured(t, c, o.ID); got != 0 {
		t.Errorf("captured %d, want nothing", got)
	}
	Must[any](t, c, http.StatusOK, http.MethodPost, "/v1/orders/"+o.ID+"/cancel", nil)
	told(t, c, o.ID, "order_placed", "order_cancelled")
}

func replayed(t *testing.T, c *Customer) {
	key, w := uuid.NewString(), wish("SCALE-01", "tok_ok")
	var answers [2]Answer
	for i := range answers {
		a, err := c.Do(t.Context(), http.MethodPost, "/v1/orders", w, "Idempotency-Key", key)
		if err != nil {
			t.Fatalf("place: %v", err)
		}
		answers[i] = a
	}
	one, two := answers[0], answers[1]
	if one.Status != two.Status || string(one.Body) != string(two.Body) || one.Header.Get("Location") != two.Header.Get("Location") {
		t.Errorf("the second answer is %d %s, want the first: %d %s", two.Status, two.Body, one.Status, one.Body)
	}
	if got := two.Header.Get("Idempotency-Replayed"); got != "true" {
		t.Errorf("Idempotency-Replayed is %q, want true", got)
	}
	w.Lines[0].Quantity = 2
	if a, err := c.Do(t.Context(), http.MethodPost, "/v1/orders", w, "Idempotency-Key", key); err != nil || a.Status != http.StatusUnprocessableEntity {
		t.Errorf("another request under the key: %v, status %d, want 422", err, a.Status)
	}
	list := Must[struct{ Orders []Order }](t, c, http.StatusOK, http.MethodGet, "/v1/orders", nil)
	if len(list.Orders) != 1 {
		t.Errorf("%d orders, want 1", len(list.Orders))
	}
}

func pay(t *testing.T, c *Customer, id, token string) {
	t.Helper()
	Must[any](t, c, http.StatusAccepted, http.MethodPost, "/v1/orders/"+id+"/payment", map[string]string{"payment_token": token})
}

// captured is what payments says was taken for the order, in minor units.
func captured(t *testing.T, c *Customer, id string) int64 {
	t.Helper()
	list := Must[struct {
		Payments []struct {
			CapturedMinor int64 `json:"captured_minor"`
		} `json:"payments"`
	}](t, c, http.StatusOK, http.MethodGet, "/v1/payments?order_id="+id, nil)
	var sum int64
	for _, p := range list.Payments {
		sum += p.CapturedMinor
	}
	return sum
}

// told waits until the customer was told of just these events, in any order.
func told(t *testing.T, c *Customer, id string, events ...string) {
	t.Helper()
	slices.Sort(events)
	eventually(t, healLimit, func() error {
		list := Must[struct{ Notifications []struct{ Kind string } }](t, c, http.StatusOK, http.MethodGet, "/v1/notifications?order_id="+id, nil)
		var got []string
		for _, n := range list.Notifications {
			got = append(got, strings.TrimPrefix(n.Kind, "orders."))
		}
		slices.Sort(got)
		if !slices.Equal(got, events) {
			return fmt.Errorf("told of %v, want %v", got, events)
		}
		return nil
	})
}
