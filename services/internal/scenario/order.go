package scenario

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/google/uuid"

	"example.com/orderflow/services/internal/client"
)

// order is an order of a story, and whose it is.
type order struct {
	*person
	id   string
	seen client.Order // as it was last looked at
	told int          // how many entries of its history the story has told
}

func (o *order) path() string { return "/v1/orders/" + o.id }

// looks reads the order as it is.
func (o *order) looks() error {
	seen, err := sees[client.Order](o.person, o.path())
	if err == nil {
		o.seen = seen
	}
	return err
}

// goes waits until the order has gone the way, its next statuses, and no other. A
// status with a reason is "rejected: out_of_stock".
func (o *order) goes(way ...string) {
	for _, want := range way {
		o.awaits(o.id, want, func() (string, error) {
			if o.told < len(o.seen.History) {
				return "", nil
			}
			if err := o.looks(); err != nil || o.told < len(o.seen.History) {
				return "", err
			}
			return "still " + o.seen.Status, nil
		})
		if o.err != nil {
			return
		}
		e := o.seen.History[o.told]
		o.tell(Line{Kind: Status, Text: e.Status, Note: e.ReasonCode, At: e.At.Sub(o.seen.History[0].At)})
		if got := statusOf(e); got != want {
			o.fails(o.id, "next "+want, got+", after "+o.seen.Way())
			return
		}
		o.told++
	}
}

// statusOf is a status with its reason.
func statusOf(e client.Entry) string {
	if e.ReasonCode == "" {
		return e.Status
	}
	return e.Status + ": " + e.ReasonCode
}

// asksFor is what the shop must be asking the customer for now.
func (o *order) asksFor(kind string, options ...string) {
	if o.err != nil {
		return
	}
	a := o.seen.Action
	if a == nil || a.Kind != kind || !slices.Equal(a.Options, options) || a.DecideUntil.IsZero() {
		o.fails(o.id, fmt.Sprintf("the customer asked for %s, one of %v", kind, options), fmt.Sprintf("%+v", a))
		return
	}
	o.finds("asked for", "%s: %s", kind, strings.Join(options, " or "))
}

// pays tries another method of payment.
func (o *order) pays(token string) {
	o.does("%s pays by %s", o.name, token)
	o.asks(accepted, http.MethodPost, o.path()+"/payment", map[string]string{"payment_token": token})
}

// cancels cancels it, which must be answered by want.
func (o *order) cancels(want reply) client.Answer {
	o.does("%s cancels", o.name)
	return o.asks(want, http.MethodPost, o.path()+"/cancel", nil)
}

// decides says whether the part that is there will do: accept or cancel.
func (o *order) decides(decision string) {
	o.does("%s decides: %s", o.name, decision)
	o.asks(accepted, http.MethodPost, o.path()+"/decision", map[string]string{"decision": decision})
}

// sendsBack announces that lines come back, which must be answered by want, and
// returns the return's id.
func (o *order) sendsBack(want reply, lines ...line) string {
	o.does("%s sends %s back", o.name, pieces(lines))
	a := o.asks(want, http.MethodPost, o.path()+"/returns", map[string]any{"lines": lines}, "Idempotency-Key", uuid.NewString())
	if want.status >= 300 {
		return ""
	}
	id := reads[client.Order](o.scene, a).ReturnID
	o.called(id, "{return}")
	return id
}

// outcome is how an order must stand at the end of its story.
type outcome struct {
	captured, refunded int64 // minor units
	stock              []change
	told               string // kinds of what the customer was told, without "order_"
}

// change is what an order did to the stock of a product, in pieces.
type change struct {
	SKU        string `json:"sku"`
	Available  int    `json:"available"`
	Reserved   int    `json:"reserved"`
	Sold       int    `json:"sold"`
	WrittenOff int    `json:"written_off"`
}

// sold is what selling pieces of p does.
func sold(p product, n int) change { return change{SKU: p.sku, Available: -n, Sold: n} }

func (c change) String() string {
	var list []string
	for _, n := range []struct {
		what string
		by   int
	}{{"available", c.Available}, {"reserved", c.Reserved}, {"sold", c.Sold}, {"written off", c.WrittenOff}} {
		if n.by != 0 {
			list = append(list, fmt.Sprintf("%+d %s", n.by, n.what))
		}
	}
	return c.SKU + " " + strings.Join(list, ", ")
}

// ends checks how the order stands once all has come to rest.
func (o *order) ends(want outcome) {
	o.does("in the end")
	o.hasMoney(want.captured, want.refunded)
	o.hasMoved(want.stock)
	o.wasTold(strings.Fields(want.told))
	if o.err != nil {
		return
	}
	if err := o.looks(); err != nil {
		o.fails(o.id, "to see the order", err.Error())
	} else if n := len(o.seen.History); n != o.told {
		o.fails(o.id, fmt.Sprintf("a history of %d entries", o.told), o.seen.Way())
	}
}

// hasMoney waits until so much was taken and given back, by the payments service
// and by the order.
func (o *order) hasMoney(captured, refunded int64) {
	type paid struct {
		Payments []struct {
			CapturedMinor int64 `json:"captured_minor"`
			RefundedMinor int64 `json:"refunded_minor"`
		} `json:"payments"`
	}
	say := func(captured, refunded int64) string {
		return fmt.Sprintf("%s captured, %s refunded", money(captured), money(refunded))
	}
	o.awaits(o.id, say(captured, refunded), func() (string, error) {
		list, err := sees[paid](o.person, "/v1/payments?order_id="+o.id)
		if err = cmp.Or(err, o.looks()); err != nil {
			return "", err
		}
		var in, out int64
		for _, p := range list.Payments {
			in, out = in+p.CapturedMinor, out+p.RefundedMinor
		}
		if in != captured || out != refunded || o.seen.RefundedMinor != refunded {
			return fmt.Sprintf("%s, %s by the order", say(in, out), money(o.seen.RefundedMinor)), nil
		}
		return "", nil
	})
	o.finds("money", "%s", say(captured, refunded))
}

func money(minor int64) string { return fmt.Sprintf("€%d.%02d", minor/100, minor%100) }

// hasMoved waits until the order has done just this to the stock.
func (o *order) hasMoved(want []change) {
	say := func(list []change) string {
		words := make([]string, len(list))
		for i, c := range list {
			words[i] = c.String()
		}
		return cmp.Or(strings.Join(words, "; "), "as it was before")
	}
	o.awaits(o.id, "stock "+say(want), func() (string, error) {
		list, err := sees[struct{ Moves []change }](o.staff("Ines"), "/v1/stock-moves?limit=100&order_id="+o.id)
		if err != nil {
			return "", err
		}
		if got := sum(list.Moves); !slices.Equal(got, want) {
			return "stock " + say(got), nil
		}
		return "", nil
	})
	o.finds("stock", "%s", say(want))
}

// sum adds up what was done to each product, those without an effect left out.
func sum(moves []change) []change {
	var sums []change
	for _, m := range moves {
		i := slices.IndexFunc(sums, func(c change) bool { return c.SKU == m.SKU })
		if i < 0 {
			sums = append(sums, change{SKU: m.SKU})
			i = len(sums) - 1
		}
		s := &sums[i]
		s.Available, s.Reserved, s.Sold, s.WrittenOff = s.Available+m.Available, s.Reserved+m.Reserved, s.Sold+m.Sold, s.WrittenOff+m.WrittenOff
	}
	sums = slices.DeleteFunc(sums, func(c change) bool { return c == change{SKU: c.SKU} })
	slices.SortFunc(sums, func(a, b change) int { return cmp.Compare(a.SKU, b.SKU) })
	return sums
}

// wasTold waits until the customer was told of just these events, in any order:
// two of them may have happened at once.
func (o *order) wasTold(want []string) {
	sorted := slices.Sorted(slices.Values(want))
	o.awaits(o.id, fmt.Sprintf("the customer told of %v", want), func() (string, error) {
		list, err := sees[struct{ Notifications []struct{ Kind string } }](o.person, "/v1/notifications?order_id="+o.id)
		if err != nil {
			return "", err
		}
		var got []string
		for _, n := range list.Notifications {
			got = append(got, strings.TrimPrefix(strings.TrimPrefix(n.Kind, "orders."), "order_"))
		}
		if !slices.Equal(slices.Sorted(slices.Values(got)), sorted) {
			return fmt.Sprintf("told of %v", got), nil
		}
		return "", nil
	})
	o.finds("told", "%s", strings.Join(want, ", "))
}
