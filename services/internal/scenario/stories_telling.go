package scenario

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"example.com/orderflow/services/internal/client"
)

func telling() []Story {
	return []Story{
		{Name: "mails", Title: "What the customer reads in the mails.", tell: mails},
		{Name: "webhook", Title: "A customer's program is told, and checks who tells.", tell: webhook},
	}
}

// mails is an order to which everything happens that the customer is told in numbers.
func mails(s *scene) {
	ada := s.customer("Ada")
	ada.hasMail()
	o, ines := inHand(s, mug.times(3), tea.times(1))
	ines.packs(o, mug.times(2), tea.times(1))
	o.goes("capturing", "dispatching")
	ines.moves(o, "dispatch")
	o.goes("shipped")
	ines.moves(o, "deliver")
	o.goes("delivered")
	back := o.sendsBack(accepted, mug.times(1))
	o.goes("delivered: return_announced")
	ines.receives(o, back)
	o.goes("refunding: returned", "delivered")
	left := 2*mug.price + tea.price
	o.ends(outcome{
		captured: left, refunded: mug.price,
		stock: []change{{SKU: mug.sku, Available: -2, Sold: 1, WrittenOff: 1}, sold(tea, 1)},
		told:  "placed confirmed amended shipped delivered refunded",
	})
	ada.reads(o,
		mail{"We have your order", money(left + mug.price)},
		mail{"Your order is confirmed", money(left + mug.price)},
		mail{"Your order has changed", money(left)},
		mail{"Your order is on its way", "tracking number"},
		mail{"Your order was delivered", "delivered"},
		mail{"Your money is on its way back", money(mug.price)},
	)
}

// mail is a mail that a customer must have, and words that must be in it.
type mail struct{ subject, words string }

// hasMail looks whether the shop catches its mails.
func (p *person) hasMail() {
	if p.err != nil {
		return
	}
	a, err := p.client.Do(p.ctx, http.MethodGet, "/v1/mailbox?to="+p.email, nil)
	if err == nil && a.Status == http.StatusNotFound {
		p.cannot("this shop has no mailbox: its mails go to a server of their own")
	}
}

// reads waits until just these mails have come to a customer, about o.
func (p *person) reads(o *order, want ...mail) {
	p.does("%s reads the mails", p.name)
	type box struct {
		Mails []struct{ ID, Subject string }
	}
	var texts map[string]string // by subject
	p.awaits(o.id, fmt.Sprintf("%d mails to %s", len(want), p.email), func() (string, error) {
		list, err := sees[box](p, "/v1/mailbox?to="+p.email)
		if err != nil || len(list.Mails) < len(want) {
			return fmt.Sprintf("%d mails; is NOTIFICATIONS_SMTP_HOST the console's?", len(list.Mails)), err
		}
		texts = map[string]string{}
		for _, m := range list.Mails {
			shown, err := sees[struct{ Text string }](p, "/v1/mailbox/"+m.ID)
			if err != nil {
				return "", err
			}
			texts[m.Subject] = shown.Text
		}
		return "", nil
	})
	for _, m := range want {
		if p.err != nil {
			return
		}
		if text := texts[m.subject]; !strings.Contains(text, m.words) || !strings.Contains(text, o.id) {
			p.fails(o.id, fmt.Sprintf("a mail %q with %q and the order's id in it", m.subject, m.words), fmt.Sprintf("%q", text))
		}
		p.finds("mail", "%s: … %s …", m.subject, m.words)
	}
	if len(texts) != len(want) {
		p.fails(o.id, fmt.Sprintf("%d subjects", len(want)), fmt.Sprint(texts))
	}
}

func webhook(s *scene) {
	ada := s.customer("Ada")
	h := ada.listens()
	o := ada.buys(byCard, mug.times(1))
	o.goes("placed", "authorizing")
	o.goes(toTheDoor...)
	o.ends(outcome{captured: mug.price, stock: []change{sold(mug, 1)}, told: "placed confirmed shipped delivered"})
	ada.hears(h, o, "placed", "confirmed", "shipped", "delivered")
}

// hook is a customer's program that is told of events.
type hook struct {
	mu       sync.Mutex
	verifier *standardwebhooks.Webhook
	types    []string // of what came with a signature that is right
	wrong    error    // the first that came without
}

// ServeHTTP takes an event in.
func (h *hook) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 64<<10))
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.verifier == nil {
		w.WriteHeader(http.StatusServiceUnavailable) // the secret isn't known yet
		return
	}
	if err == nil {
		err = h.verifier.Verify(body, r.Header)
	}
	if err == nil && h.verifier.Verify(append(body, ' '), r.Header) == nil {
		err = errors.New("the signature is right for another body, too")
	}
	if err != nil {
		h.wrong = errors.Join(h.wrong, err)
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	_, kind, _ := strings.Cut(string(body), `"type":"orders.order_`)
	kind, _, _ = strings.Cut(kind, `"`)
	h.types = append(h.types, kind)
}

// listens opens an endpoint and has the shop tell it.
func (p *person) listens() *hook {
	h := &hook{}
	p.does("%s has the shop tell a program of hers", p.name)
	if p.err != nil {
		return h
	}
	if p.shop.Listen == "" {
		p.cannot("nobody said where to listen for webhooks")
		return h
	}
	l, err := new(net.ListenConfig).Listen(p.ctx, "tcp", p.shop.Listen)
	if err != nil {
		p.fails("", "to listen at "+p.shop.Listen, err.Error())
		return h
	}
	server := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	p.cleanup = append(p.cleanup, func(ctx context.Context) error {
		err := server.Shutdown(ctx)
		if served := <-ended; !errors.Is(served, http.ErrServerClosed) {
			err = errors.Join(err, served)
		}
		return err
	})
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		p.fails("", "an address with a port", err.Error())
		return h
	}
	body := map[string]string{"url": "http://" + net.JoinHostPort(p.shop.Host, port) + "/orders"}
	a, err := p.client.Do(p.ctx, http.MethodPost, "/v1/webhook-endpoints", body)
	switch {
	case err != nil:
		p.fails("", "an answer", err.Error())
	case replyOf(a) == invalid:
		p.cannot("this shop calls public addresses only: NOTIFICATIONS_WEBHOOK_INSECURE=true lets it call this machine")
	case replyOf(a) != created:
		p.fails("", created.String(), fmt.Sprintf("%s: %s", replyOf(a), a.Body))
	default:
		p.registers(h, a)
	}
	return h
}

// registers notes the endpoint that a says was made, and removes it in the end.
func (p *person) registers(h *hook, a client.Answer) {
	made := reads[struct{ ID, Secret string }](p.scene, a)
	p.called(made.ID, "{endpoint}")
	p.tell(Line{Kind: Request, Text: "POST /v1/webhook-endpoints", Code: a.Status})
	verifier, err := standardwebhooks.NewWebhook(made.Secret)
	if err != nil {
		p.fails("", "a secret as Standard Webhooks writes it", err.Error())
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.verifier = verifier
	remove := func(ctx context.Context) error {
		a, err := p.client.Do(ctx, http.MethodDelete, "/v1/webhook-endpoints/"+made.ID, nil)
		if err == nil && replyOf(a) != deleted {
			err = fmt.Errorf("remove the endpoint: %s", replyOf(a))
		}
		return err
	}
	p.cleanup = slices.Insert(p.cleanup, 0, remove)
}

// hears waits until h was told of just these events of o.
func (p *person) hears(h *hook, o *order, want ...string) {
	p.does("%s's program checks the signatures", p.name)
	p.awaits(o.id, fmt.Sprintf("webhooks of %v", want), func() (string, error) {
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.wrong != nil {
			p.fails(o.id, "a signature that is right", h.wrong.Error())
			return "", nil
		}
		if !slices.Equal(slices.Sorted(slices.Values(h.types)), slices.Sorted(slices.Values(want))) {
			return fmt.Sprintf("webhooks of %v", h.types), nil
		}
		return "", nil
	})
	p.finds("webhooks", "%s, each signed by the shop", strings.Join(want, ", "))
}
