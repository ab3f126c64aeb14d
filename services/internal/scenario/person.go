package scenario

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"github.com/google/uuid"

	"example.com/orderflow/services/internal/client"
)

// person is somebody in a story: a customer, or one of the staff.
type person struct {
	*scene
	name   string
	email  string
	client *client.Client
}

// reply is what a request must be answered.
type reply struct {
	status int
	code   string // of the problem; "" = it is none
}

// The replies.
var (
	ok            = reply{http.StatusOK, ""}
	created       = reply{http.StatusCreated, ""}
	accepted      = reply{http.StatusAccepted, ""}
	deleted       = reply{http.StatusNoContent, ""}
	notFound      = reply{http.StatusNotFound, "not-found"}
	forbidden     = reply{http.StatusForbidden, "forbidden"}
	tooLate       = reply{http.StatusConflict, "order-not-cancellable"}
	notNow        = reply{http.StatusConflict, "illegal-state"}
	otherRequest  = reply{http.StatusUnprocessableEntity, "idempotency-key-reused"}
	invalid       = reply{http.StatusUnprocessableEntity, "validation"}
	unknownInLine = reply{http.StatusUnprocessableEntity, "unknown-sku"}
)

func (r reply) String() string { return strings.TrimSpace(fmt.Sprint(r.status, " ", r.code)) }

// replyOf is what a says.
func replyOf(a client.Answer) reply {
	r := reply{status: a.Status}
	var problem struct {
		Type string `json:"type"`
	}
	if a.Status >= 300 && json.Unmarshal(a.Body, &problem) == nil {
		r.code = problem.Type[strings.LastIndexByte(problem.Type, '/')+1:]
	}
	return r
}

// asks sends a request that must be answered by want, and tells of it.
func (p *person) asks(want reply, method, path string, body any, header ...string) client.Answer {
	if p.err != nil {
		return client.Answer{}
	}
	a, err := p.client.Do(p.ctx, method, path, body, header...)
	request := method + " " + p.plain(path)
	if err != nil {
		p.fails("", fmt.Sprintf("%s for %s", want, request), err.Error())
		return client.Answer{}
	}
	got := replyOf(a)
	p.tell(Line{Kind: Request, Text: request, Code: got.status, Note: p.notes(got.code, a.Header)})
	if got != want {
		p.fails(p.orderIn(path), fmt.Sprintf("%s for %s", want, request), fmt.Sprintf("%s: %s", got, a.Body))
	}
	return a
}

// notes are what else an answer says that matters to whoever asked.
func (p *person) notes(code string, h http.Header) string {
	var list []string
	if code != "" {
		list = append(list, code)
	}
	for _, name := range []string{"Idempotency-Replayed", "Link"} {
		if v := h.Get(name); v != "" {
			list = append(list, name+": "+p.plain(v))
		}
	}
	return strings.Join(list, ", ")
}

// orderIn is the id of the order that a path is about, "" for none.
func (p *person) orderIn(path string) string {
	for _, id := range p.placed {
		if strings.Contains(path, id) {
			return id
		}
	}
	return ""
}

// sees gets path, without telling of it, as it is looked at again and again.
func sees[T any](p *person, path string) (T, error) {
	var v T
	a, err := p.client.Do(p.ctx, http.MethodGet, path, nil)
	if err == nil {
		err = a.Problem()
	}
	if err == nil {
		err = json.Unmarshal(a.Body, &v)
	}
	return v, err
}

// reads decodes an answer, unless the story has failed.
func reads[T any](s *scene, a client.Answer) T {
	var v T
	if s.err != nil {
		return v
	}
	if err := json.Unmarshal(a.Body, &v); err != nil {
		s.fails("", fmt.Sprintf("an answer that is a %T", v), fmt.Sprintf("%s: %v", a.Body, err))
	}
	return v
}

// wish is what somebody orders.
type wish struct {
	lines    []line
	token    string
	partial  bool
	priority string
	wait     bool   // for the outcome
	key      string // "" = a new one
}

func (w wish) String() string {
	text := pieces(w.lines) + ", paid by " + w.token
	if w.partial {
		text += ", a part will do"
	}
	if w.priority != "" {
		text += ", " + w.priority
	}
	return text
}

// pieces are lines in words.
func pieces(lines []line) string {
	list := make([]string, len(lines))
	for i, l := range lines {
		list[i] = fmt.Sprintf("%d %s", l.Quantity, l.SKU)
	}
	return strings.Join(list, " and ")
}

func (p *person) placement(w wish) client.Placement {
	return client.Placement{
		Currency: "EUR", Lines: w.lines, PaymentToken: w.token, AllowPartial: w.partial, Priority: w.priority,
		Customer: client.Customer{Name: p.name, Email: p.email, Address: "1 Analytical Row"},
	}
}

// buys orders lines, paid by token.
func (p *person) buys(token string, lines ...line) *order {
	return p.orders(wish{token: token, lines: lines})
}

// orders places w under its key.
func (p *person) orders(w wish) *order {
	p.does("%s orders %s", p.name, w)
	return p.places(accepted, w)
}

// places places w, which must be answered by want.
func (p *person) places(want reply, w wish) *order {
	if w.key == "" {
		w.key = uuid.NewString()
	}
	header := []string{"Idempotency-Key", w.key}
	if w.wait {
		header = append(header, "Prefer", "wait=10")
	}
	a := p.asks(want, http.MethodPost, "/v1/orders", p.placement(w), header...)
	o := &order{person: p, seen: reads[client.Order](p.scene, a)}
	if p.err != nil {
		return o
	}
	o.id = o.seen.ID
	if uuid.Validate(o.id) != nil || o.seen.TotalMinor <= 0 || o.seen.Status == "" {
		p.fails(o.id, "an order with an id, a status and a price", fmt.Sprintf("%+v", o.seen))
	}
	p.placed = append(p.placed, o.id)
	p.called(o.id, "{order}")
	p.finds("order", "%s", o.id)
	return o
}
