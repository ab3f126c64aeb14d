package shop_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/caarlos0/env/v11"

	"example.com/orderflow/messaging"
	"example.com/orderflow/messaging/contracts"
	"example.com/orderflow/messaging/messagingtest"
	"example.com/orderflow/notifications"
	"example.com/orderflow/services/internal/console"
	"example.com/orderflow/services/internal/shop"
)

// TestMailsReachTheMailbox has notifications write to the catcher of mails, as the
// demo has it, and reads the mail at the console.
func TestMailsReachTheMailbox(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	box := console.NewMailbox()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- box.Serve(ctx, l, slog.New(slog.DiscardHandler)) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("catch mails: %v", err)
		}
	})
	front, err := console.New(console.Config{Mailbox: box}, messagingtest.Log(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(front.Close)

	var cfg notifications.Config
	if err := env.ParseWithOptions(&cfg, env.Options{Environment: map[string]string{}}); err != nil {
		t.Fatal(err)
	}
	cfg.Mail.Host, cfg.Mail.Port, cfg.Mail.TLS = "127.0.0.1", l.Addr().(*net.TCPAddr).Port, "none"
	db := messagingtest.NewDB(t, shop.Specs()...)
	spec := notifications.Spec()
	bus := db.NewBus(t, spec, func(c *messaging.Config) { c.WithoutRelay = false })
	if _, err := notifications.New(cfg, db.Service(spec.Name), bus, messagingtest.Log(t)); err != nil {
		t.Fatal(err)
	}
	messagingtest.Run(t, bus)
	const order = "0197f000-0000-7000-8000-000000000001"
	db.Deliver(t, contracts.OrderShipped{OrderID: order, Customer: contracts.Customer{ID: "ada", Name: "Ada", Email: "ada@example.com"}, Tracking: "OF-1"})

	get := func(path string, v any) {
		t.Helper()
		w := httptest.NewRecorder()
		front.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
		if err := json.Unmarshal(w.Body.Bytes(), v); err != nil || w.Code != http.StatusOK {
			t.Fatalf("GET %s: %d %s", path, w.Code, w.Body)
		}
	}
	var list struct{ Mails []console.MailSummary }
	messagingtest.Wait(t, "the mail", func() bool {
		get("/v1/mailbox?to=ada@example.com", &list)
		return len(list.Mails) > 0
	})
	var id string
	if err := db.Admin.Get(&id, `SELECT id FROM notifications.notifications WHERE channel = 'email'`); err != nil {
		t.Fatal(err)
	}
	var mail console.Mail
	get("/v1/mailbox/"+list.Mails[0].ID, &mail)
	if len(list.Mails) != 1 || mail.MessageID != id+"@orderflow.example" || mail.Subject != "Your order is on its way" || mail.Text == "" || mail.HTML == "" {
		t.Errorf("got %d mails, %+v, want one of notification %s", len(list.Mails), mail, id)
	}
}
