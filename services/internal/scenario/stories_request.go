package scenario

import (
	"bytes"
	"fmt"
	"net/http"
	"sync"

	"example.com/orderflow/services/internal/client"
)

func requests() []Story {
	return []Story{
		{Name: "same-key", Title: "A request that is repeated is one order.", tell: sameKey},
		{Name: "same-key-at-once", Title: "Twenty times the same request at once is one order.", tell: sameKeyAtOnce},
		{Name: "mistakes", Title: "A request with mistakes is told all of them.", tell: mistakes},
		{Name: "express-first", Title: "Of what waits, express goes before bulk.", Whole: true, tell: expressFirst},
	}
}

func sameKey(s *scene) {
	ada := s.customer("Ada")
	w := wish{lines: lines(scale.times(1)), token: byCard, key: "first-" + s.run}
	o := ada.orders(w)
	s.does("Ada sends the same once more, under the same key")
	again := ada.asks(accepted, "POST", "/v1/orders", ada.placement(w), "Idempotency-Key", w.key)
	if id := reads[client.Order](s, again).ID; id != o.id {
		s.fails(o.id, "the same order again", "order "+id)
	}
	if got := again.Header.Get("Idempotency-Replayed"); s.err == nil && got != "true" {
		s.fails(o.id, "Idempotency-Replayed: true", fmt.Sprintf("%q", got))
	}
	s.does("Ada sends something else under the same key")
	w.lines = lines(scale.times(2))
	ada.asks(otherRequest, "POST", "/v1/orders", ada.placement(w), "Idempotency-Key", w.key)
	o.goes("placed", "authorizing")
	o.goes(toTheDoor...)
	ada.hasOrders(1)
	o.ends(outcome{captured: scale.price, stock: []change{sold(scale, 1)}, told: "placed confirmed shipped delivered"})
}

// sameKeyAtOnce sends the same request from many connections: each is answered with
// the order, or that the first is still being answered.
func sameKeyAtOnce(s *scene) {
	ada := s.customer("Ada")
	w := wish{lines: lines(filter.times(1)), token: byCard, key: "crowd-" + s.run}
	s.does("Ada sends the same 20 times at once")
	answers := make([]client.Answer, 20)
	errs := make([]error, len(answers))
	var all sync.WaitGroup
	for i := range answers {
		all.Go(func() {
			answers[i], errs[i] = ada.client.Do(s.ctx, http.MethodPost, "/v1/orders", ada.placement(w), "Idempotency-Key", w.key)
		})
	}
	all.Wait()
	var body []byte
	for i, a := range answers {
		got := replyOf(a)
		switch {
		case errs[i] != nil:
			s.fails("", "an answer to each", errs[i].Error())
		case got == reply{http.StatusConflict, "idempotency-in-progress"} && a.Header.Get("Retry-After") != "":
		case got != accepted || body != nil && !bytes.Equal(a.Body, body):
			s.fails("", "each answered with the same order, or 409 idempotency-in-progress", fmt.Sprintf("%s: %s", got, a.Body))
		default:
			body = a.Body
		}
	}
	s.finds("answers", "the order, or 409 idempotency-in-progress")
	s.does("Ada sends it once more")
	o := ada.places(accepted, w)
	o.goes("placed", "authorizing")
	o.goes(toTheDoor...)
	ada.hasOrders(1)
	o.ends(outcome{captured: filter.price, stock: []change{sold(filter, 1)}, told: "placed confirmed shipped delivered"})
}

// hasOrders checks how many orders the shop has of a customer.
func (p *person) hasOrders(n int) {
	p.does("%s looks at the list of orders", p.name)
	list := reads[struct{ Orders []struct{ ID string } }](p.scene, p.asks(ok, "GET", "/v1/orders", nil))
	if p.err == nil && len(list.Orders) != n {
		p.fails("", fmt.Sprintf("%d orders", n), fmt.Sprint(len(list.Orders)))
	}
	p.finds("orders", "%d", n)
}

func mistakes(s *scene) {
	ada := s.customer("Ada")
	s.does("Ada orders no mugs, for nobody, paid by nothing, and in a hurry that isn't known")
	a := ada.asks(invalid, "POST", "/v1/orders", map[string]any{
		"currency": "EUR", "lines": lines(mug.times(0)), "priority": "yesterday",
	}, "Idempotency-Key", "wrong-"+s.run)
	problem := reads[struct {
		Errors []struct{ Pointer, Code string }
	}](s, a)
	var got string
	for _, e := range problem.Errors {
		got += e.Pointer + " " + e.Code + "; "
	}
	if want := "/lines/0/quantity min; /customer required; /payment_token required; /priority oneof; "; s.err == nil && got != want {
		s.fails("", want, got)
	}
	for _, e := range problem.Errors {
		s.finds("wrong", "%s: %s", e.Pointer, e.Code)
	}
	s.does("Ada forgets the key")
	ada.asks(reply{http.StatusBadRequest, "idempotency-key-missing"}, "POST", "/v1/orders", ada.placement(wish{lines: lines(mug.times(1)), token: byCard}))
	ada.hasOrders(0)
}

// crowd is how many bulk orders wait: more than payments takes in hand at once, and
// more than orders confirms in one transaction, at one time.
const crowd = 60

func expressFirst(s *scene) {
	bob := s.customer("Bob")
	var bulk []*order
	var o *order
	s.while("payments", func() {
		s.does("Bob places %d orders in class bulk", crowd)
		for range crowd {
			if s.err != nil {
				return
			}
			p := bob.placement(wish{lines: lines(filter.times(1)), token: byCard, priority: "bulk"})
			placed, err := bob.client.PlaceSurely(s.ctx, p)
			if err != nil {
				s.fails("", "a bulk order placed", err.Error())
				return
			}
			s.placed = append(s.placed, placed.ID)
			bulk = append(bulk, &order{person: bob, id: placed.ID})
		}
		for _, b := range bulk {
			b.arrives("authorizing")
		}
		o = s.customer("Ada").orders(wish{lines: lines(coffee.times(1)), token: byCard, priority: "express"})
		o.goes("placed", "authorizing")
		s.waiting("payments", crowd+1)
	})
	o.goes(toTheDoor...)
	s.does("Bob waits for his orders")
	for _, b := range bulk {
		b.arrives("delivered")
	}
	if s.err != nil {
		return
	}
	mine, _ := o.seen.Reached("confirmed")
	overtaken := 0
	for _, b := range bulk {
		if at, _ := b.seen.Reached("confirmed"); mine.Before(at) {
			overtaken++
		}
	}
	if overtaken == 0 {
		s.fails(o.id, "confirmed before some of the orders in class bulk that were placed before it", "the last of all")
	}
	s.finds("overtaken", "some of Bob's orders, or all")
	o.ends(outcome{captured: coffee.price, stock: []change{sold(coffee, 1)}, told: "placed confirmed shipped delivered"})
}

// arrives waits until the order has been at a status, without telling of its way.
func (o *order) arrives(status string) {
	o.awaits(o.id, status, func() (string, error) {
		err := o.looks()
		if _, there := o.seen.Reached(status); err == nil && !there {
			return "still " + o.seen.Status, nil
		}
		return "", err
	})
}
