package e2e

import (
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
)

// plentySKUs are products of which there is enough for any chaos.
var plentySKUs = []string{"MUG-01", "MUG-02", "TEA-01", "COFFEE-01", "POT-01", "KETTLE-01", "GRINDER-01", "SCALE-01", "TOWEL-01", "FILTER-01"}

// trickyTokens have the provider go wrong once with the order that is paid by
// them. After each of them it can go on by itself.
var trickyTokens = []string{
	"tok_slow", "tok_error_once",
	"tok_authorize_timeout_before", "tok_authorize_timeout_after", "tok_authorize_error_stored_after", "tok_authorize_late", "tok_authorize_forgotten",
	"tok_capture_timeout_before", "tok_capture_timeout_after", "tok_capture_error_stored", "tok_capture_reset", "tok_capture_late", "tok_capture_too_many",
	"tok_void_timeout_after", "tok_void_error_after", "tok_void_down",
	"tok_refund_timeout_after", "tok_refund_reset", "tok_refund_late",
}

// shop is a customer's day.
func (s *shopper) shop() {
	for s.open(s.haste/2 + time.Duration(s.rand.Int64N(int64(s.haste)))) {
		if time.Now().UnixNano() < s.rush.Load() {
			s.buy(s.wish(rushSKU, 1+s.rand.IntN(2), "tok_ok"))
			continue
		}
		switch n := s.rand.IntN(100); {
		case n < 45:
			s.buy(s.basket(s.token()))
		case n < 65:
			s.changeMind()
		case n < 75:
			s.beDeclined()
		case n < 82:
			s.takePart()
		case n < 92:
			s.sendBack()
		default:
			s.lookAround()
		}
	}
}

func (s *shopper) wish(sku string, pieces int, token string) Wish {
	w := wish(sku, token)
	w.Lines[0].Quantity = pieces
	return w
}

// basket is one to three products of which there is plenty.
func (s *shopper) basket(token string) Wish {
	w := wish("", token)
	w.Lines = nil
	for _, sku := range someOf(s.rand, 1+s.rand.IntN(3), plentySKUs...) {
		w.Lines = append(w.Lines, Line{sku, 1 + s.rand.IntN(2)})
	}
	return w
}

// token is how most pay: well, or in a way in which something goes wrong.
func (s *shopper) token() string {
	if s.rand.IntN(5) > 0 {
		return "tok_ok"
	}
	return oneOf(s.rand, trickyTokens...)
}

// buy places an order, under one key until it is promised, and returns its id.
func (s *shopper) buy(w Wish) string {
	key, started := uuid.NewString(), time.Now()
	a, ok := s.ask("place", http.MethodPost, "/v1/orders", w, []int{http.StatusAccepted, http.StatusCreated}, "Idempotency-Key", key)
	id := decode[Order](s, a).ID
	if !ok || id == "" {
		return ""
	}
	s.notePlaced(promise{ID: id, Customer: s.customer.ID, Key: key, At: time.Now(), Took: time.Since(started)})
	s.mine = append(s.mine, id)
	return id
}

// see looks at an order of its own, which must be there and never be younger than
// it was when it was seen before.
func (s *shopper) see(id string) Order {
	a, _ := s.ask("look", http.MethodGet, "/v1/orders/"+id, nil, []int{http.StatusOK})
	o := decode[Order](s, a)
	if a.Status == http.StatusOK && o.Version < s.seen[id] {
		s.complain("order %s has version %d, it had %d before", id, o.Version, s.seen[id])
	}
	s.seen[id] = max(s.seen[id], o.Version)
	return o
}

// await looks at the order until done says so, for some time.
func (s *shopper) await(id string, done func(Order) bool) (Order, bool) {
	for range 20 {
		if o := s.see(id); done(o) {
			return o, true
		}
		if !s.open(s.haste / 4) {
			break
		}
	}
	return Order{}, false
}

// changeMind orders and cancels a moment later, sometimes twice at once.
func (s *shopper) changeMind() {
	id := s.buy(s.basket(s.token()))
	if id == "" {
		return
	}
	time.Sleep(time.Duration(s.rand.Int64N(int64(2 * time.Second))))
	s.cancel(id)
}

func (s *shopper) cancel(id string) {
	var all sync.WaitGroup
	for range 1 + s.rand.IntN(10)/7 {
		all.Go(func() {
			a, _ := s.ask("cancel", http.MethodPost, "/v1/orders/"+id+"/cancel", nil, []int{http.StatusOK, http.StatusAccepted, http.StatusConflict})
			if status := decode[Order](s, a).Status; status == "cancelled" || status == "compensating" {
				s.market.mu.Lock()
				defer s.market.mu.Unlock()
				s.undone = append(s.undone, id)
			}
		})
	}
	all.Wait()
}

// beDeclined pays with a card that is declined, then mostly in another way.
func (s *shopper) beDeclined() {
	id := s.buy(s.basket(oneOf(s.rand, "tok_declined", "tok_insufficient_funds")))
	if id == "" {
		return
	}
	if _, ok := s.await(id, func(o Order) bool { return o.Status == "payment_failed" }); !ok {
		return
	}
	switch n := s.rand.IntN(10); {
	case n < 7:
		s.ask("pay", http.MethodPost, "/v1/orders/"+id+"/payment", map[string]string{"payment_token": s.token()}, []int{http.StatusAccepted, http.StatusConflict})
	case n < 9:
		s.cancel(id)
	}
}

// takePart wants more of something than there may be and is content with a part,
// or not.
func (s *shopper) takePart() {
	w := s.wish(partSKU, 1+s.rand.IntN(4), "tok_ok")
	w.Lines, w.AllowPartial = append(w.Lines, Line{"TEA-01", 1}), true
	id := s.buy(w)
	if id == "" {
		return
	}
	o, ok := s.await(id, func(o Order) bool { return o.Status != "" && o.Status != "placed" })
	if !ok || o.Status != "awaiting_customer" || s.rand.IntN(4) == 0 {
		return
	}
	decision := oneOf(s.rand, "accept", "accept", "cancel")
	s.ask("decide", http.MethodPost, "/v1/orders/"+id+"/decision", map[string]string{"decision": decision}, []int{http.StatusAccepted, http.StatusConflict})
}

// parcel is what a customer looks at to send something back.
type parcel struct {
	Status  string       `json:"status"`
	Lines   []parcelLine `json:"lines"`
	Returns []struct{}   `json:"returns"`
}

type parcelLine struct {
	SKU      string `json:"sku"`
	Packed   int    `json:"packed"`
	Refunded int    `json:"refunded"`
}

// sendBack sends a piece back of something that was delivered.
func (s *shopper) sendBack() {
	if len(s.mine) == 0 {
		return
	}
	id := oneOf(s.rand, s.mine...)
	a, _ := s.ask("look", http.MethodGet, "/v1/orders/"+id, nil, []int{http.StatusOK})
	o := decode[parcel](s, a)
	if o.Status != "delivered" || len(o.Returns) > 0 {
		return
	}
	i := slices.IndexFunc(o.Lines, func(l parcelLine) bool { return l.Packed > l.Refunded })
	if i < 0 {
		return
	}
	body := map[string]any{"lines": []Line{{o.Lines[i].SKU, 1}}}
	a, _ = s.ask("return", http.MethodPost, "/v1/orders/"+id+"/returns", body, []int{http.StatusAccepted, http.StatusConflict}, "Idempotency-Key", uuid.NewString())
	if r := decode[struct {
		ReturnID string `json:"return_id"`
	}](s, a); r.ReturnID != "" {
		s.market.mu.Lock()
		defer s.market.mu.Unlock()
		s.returns = append(s.returns, r.ReturnID)
	}
}

// lookAround looks at its orders, of which the latest must be among the first.
func (s *shopper) lookAround() {
	a, ok := s.ask("list", http.MethodGet, "/v1/orders?limit=20", nil, []int{http.StatusOK})
	if !ok || a.Status != http.StatusOK || len(s.mine) == 0 {
		return
	}
	list := decode[struct{ Orders []Order }](s, a).Orders
	last := s.mine[len(s.mine)-1]
	if !slices.ContainsFunc(list, func(o Order) bool { return o.ID == last }) {
		s.complain("the list of the customer's orders lacks the latest, %s", last)
	}
	s.see(oneOf(s.rand, s.mine...))
}
