package e2e

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
)

// TestOneOrderFromEverySide follows an order that is picked short, delivered, sent
// back in part and refunded, and asks everybody who keeps books what became of it:
// orders, payments' ledger, the provider, the stock and its ledger, the mails. They
// must agree to the piece and to the cent.
func TestOneOrderFromEverySide(t *testing.T) {
	t.Parallel()
	s := NewStack(t)
	byHand(t, s)
	withMails(t, s)
	c := NewCustomer(t, s.URL)

	// Three mugs and a tea are ordered; the warehouse finds two mugs.
	w := wish("MUG-01", "tok_ok")
	w.Lines = []Line{{"MUG-01", 3}, {"TEA-01", 1}}
	id := c.Place(t, w).ID
	c.Await(t, id, "fulfilling")
	Must[any](t, c, http.StatusOK, http.MethodPost, "/v1/shipments/"+id+"/pack",
		map[string]any{"lines": []Line{{"MUG-01", 2}, {"TEA-01", 1}}}, "X-Role", "operator")
	if _, err := c.walk(t, id, "delivered"); err != nil {
		t.Fatal(err)
	}
	// One of them comes back.
	back := Must[struct {
		ReturnID string `json:"return_id"`
	}](t, c, http.StatusAccepted, http.MethodPost, "/v1/orders/"+id+"/returns",
		map[string]any{"lines": []Line{{"MUG-01", 1}}}, "Idempotency-Key", uuid.NewString())
	eventually(t, healLimit, func() error {
		a, err := c.Do(t.Context(), http.MethodPost, "/v1/shipments/"+id+"/returns/"+back.ReturnID+"/receive", nil, "X-Role", "operator")
		if err == nil && a.Status != http.StatusOK {
			err = fmt.Errorf("receive the return: status %d: %s", a.Status, a.Body)
		}
		return err
	})
	const mug, tea = 1490, 890
	type refund struct {
		ID          string `json:"id"`
		Status      string `json:"status"`
		AmountMinor int64  `json:"amount_minor"`
	}
	var order struct {
		Order
		RefundedMinor int64 `json:"refunded_minor"`
		Lines         []struct {
			SKU      string `json:"sku"`
			Quantity int    `json:"quantity"`
			Packed   int    `json:"packed"`
			Returned int    `json:"returned"`
			Refunded int    `json:"refunded"`
		} `json:"lines"`
		Refunds []refund `json:"refunds"`
	}
	eventually(t, healLimit, func() error {
		a, err := c.Do(t.Context(), http.MethodGet, "/v1/orders/"+id, nil)
		if err == nil {
			err = json.Unmarshal(a.Body, &order)
		}
		if err == nil && (order.Status != "delivered" || order.RefundedMinor == 0) {
			err = fmt.Errorf("order %s is %s, %d refunded; want delivered, and something refunded", id, order.Status, order.RefundedMinor)
		}
		return err
	})

	t.Run("API", func(t *testing.T) {
		if order.TotalMinor != 2*mug+tea || order.RefundedMinor != mug {
			t.Errorf("total %d, refunded %d; want %d, %d", order.TotalMinor, order.RefundedMinor, 2*mug+tea, mug)
		}
		got := fmt.Sprint(order.Lines)
		if want := "[{MUG-01 3 2 1 1} {TEA-01 1 1 0 0}]"; got != want {
			t.Errorf("lines (ordered, packed, returned, refunded) are %s, want %s", got, want)
		}
		way := append(slices.Clone(happyWay), "delivered", "refunding", "delivered")
		if got := order.Way(); !slices.Equal(got, way) {
			t.Errorf("way %v, want %v", got, way)
		}
	})
	t.Run("payments", func(t *testing.T) {
		p := Must[struct {
			Payments []struct {
				CapturedMinor int64    `json:"captured_minor"`
				RefundedMinor int64    `json:"refunded_minor"`
				Refunds       []refund `json:"refunds"`
			} `json:"payments"`
		}](t, c, http.StatusOK, http.MethodGet, "/v1/payments?order_id="+id, nil).Payments
		if len(p) != 1 || p[0].CapturedMinor != 2*mug+tea || p[0].RefundedMinor != mug || len(p[0].Refunds) != 1 || p[0].Refunds[0].ID != back.ReturnID {
			t.Errorf("payments: %+v, want one with %d captured and %d refunded for return %s", p, 2*mug+tea, mug, back.ReturnID)
		}
	})
	t.Run("ledger and provider's books", func(t *testing.T) {
		for name, query := range map[string]string{
			"ledger": `SELECT string_agg(kind || ' ' || amount_minor, ', ' ORDER BY kind) FROM payments.ledger l JOIN payments.payments p ON p.id = l.payment_id WHERE p.order_id = $1::uuid`,
			"books":  `SELECT string_agg(kind || ' ' || amount_minor, ', ' ORDER BY kind) FROM paysim.operations WHERE reference = $1 AND kind <> 'authorize' AND status = 'succeeded'`,
		} {
			var got string
			if err := s.Admin.GetContext(t.Context(), &got, query, id); err != nil {
				t.Fatalf("read the %s: %v", name, err)
			}
			if want := fmt.Sprintf("capture %d, refund %d", 2*mug+tea, mug); got != want {
				t.Errorf("the %s say %q, want %q", name, got, want)
			}
		}
	})
	t.Run("stock", func(t *testing.T) {
		moves := Must[struct {
			Moves []struct {
				SKU        string `json:"sku"`
				What       string `json:"what"`
				Available  int    `json:"available"`
				Reserved   int    `json:"reserved"`
				Sold       int    `json:"sold"`
				WrittenOff int    `json:"written_off"`
			} `json:"moves"`
		}](t, c, http.StatusOK, http.MethodGet, "/v1/stock-moves?order_id="+id, nil, "X-Role", "operator").Moves
		sums := map[string][4]int{}
		for _, m := range moves {
			n := sums[m.SKU]
			sums[m.SKU] = [4]int{n[0] + m.Available, n[1] + m.Reserved, n[2] + m.Sold, n[3] + m.WrittenOff}
		}
		// One mug is sold, one is back, one was never found.
		if got, want := fmt.Sprint(sums), "map[MUG-01:[-2 0 1 1] TEA-01:[-1 0 1 0]]"; got != want {
			t.Errorf("moves (available, reserved, sold, written off) add up to %s, want %s", got, want)
		}
	})
	t.Run("mails", func(t *testing.T) {
		want := map[string]string{ // of each mail the words that tell the numbers
			"We have your order":            "€53.60",
			"Your order is confirmed":       "€53.60",
			"Your order has changed":        "€38.70",
			"Your order is on its way":      "",
			"Your order was delivered":      "",
			"Your money is on its way back": "€14.90",
		}
		eventually(t, healLimit, func() error {
			list := Must[struct {
				Mails []struct {
					ID      string   `json:"id"`
					To      []string `json:"to"`
					Subject string   `json:"subject"`
				} `json:"mails"`
			}](t, c, http.StatusOK, http.MethodGet, "/v1/mailbox", nil).Mails
			if len(list) != len(want) {
				return fmt.Errorf("%d mails, want %d: %+v", len(list), len(want), list)
			}
			for _, m := range list {
				mail := Must[struct {
					Text string `json:"text"`
				}](t, c, http.StatusOK, http.MethodGet, "/v1/mailbox/"+m.ID, nil)
				found := false
				for subject, words := range want {
					found = found || strings.HasPrefix(m.Subject, subject) && strings.Contains(mail.Text, words)
				}
				if !found || !slices.Equal(m.To, []string{"ada@example.com"}) {
					return fmt.Errorf("mail %q to %v is none of those wanted, or lacks its numbers:\n%s", m.Subject, m.To, mail.Text)
				}
			}
			return nil
		})
	})
	CheckShop(t, s.DSN("", ""), id)
}

// withMails has the shop send mails, to the console's mailbox. It returns the
// settings with which services are to be launched from now on.
func withMails(t *testing.T, s *Stack) (settings map[string][]string) {
	t.Helper()
	at, err := url.Parse(s.Peer(first("console")))
	if err != nil {
		t.Fatal(err)
	}
	host, port, listen := at.Hostname(), "1025", "0.0.0.0:1025"
	if ip := net.ParseIP(host); ip != nil && ip.IsLoopback() { // shared with other stacks
		l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", host+":0")
		if err != nil {
			t.Fatal(err)
		}
		listen = l.Addr().String()
		if _, port, err = net.SplitHostPort(listen); err != nil {
			t.Fatal(err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	settings = map[string][]string{
		"console":       {"MAILBOX_ADDR=" + listen},
		"notifications": {"NOTIFICATIONS_SMTP_HOST=" + host, "NOTIFICATIONS_SMTP_PORT=" + port, "NOTIFICATIONS_SMTP_TLS=none"},
	}
	for service, extra := range settings {
		s.Terminate(t, service)
		s.Launch(t, service, extra...)
	}
	s.WaitReady(t, "console", "notifications")
	return settings
}
