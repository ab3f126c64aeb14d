package notifications

import (
	"io"
	"log/slog"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	netmail "net/mail"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/emersion/go-smtp"

	"example.com/orderflow/messaging/contracts"
	"example.com/orderflow/messaging/messagingtest"
)

var delivered = contracts.OrderDelivered{OrderID: orderID, Customer: ada}

// parts are the alternatives of a mail by their type.
func parts(t *testing.T, m posted) map[string]string {
	t.Helper()
	kind, params, err := mime.ParseMediaType(m.header.Get("Content-Type"))
	if err != nil || kind != "multipart/alternative" {
		t.Fatalf("content type %q, want multipart/alternative: %v", m.header.Get("Content-Type"), err)
	}
	found := map[string]string{}
	for r := multipart.NewReader(strings.NewReader(m.body), params["boundary"]); ; {
		p, err := r.NextRawPart()
		if err == io.EOF {
			return found
		}
		if err != nil {
			t.Fatalf("read the parts: %v", err)
		}
		b, err := io.ReadAll(quotedprintable.NewReader(p))
		if err != nil {
			t.Fatalf("read a part: %v", err)
		}
		name, _, _ := strings.Cut(p.Header.Get("Content-Type"), ";")
		found[name] = string(b)
	}
}

func TestMailOfEveryKindReachesItsCustomer(t *testing.T) {
	t.Parallel()
	o := newOffice(t, nil)
	f := whole(t, o.config(t))
	f.Deliver(t, events()...)
	rows := f.settled(t, "email", len(events()))
	inbox := f.rows(t, "inbox")
	if len(inbox) != len(events()) {
		t.Errorf("%d notifications in the inbox, want %d", len(inbox), len(events()))
	}
	mails := o.all()
	if len(mails) != len(events()) {
		t.Fatalf("%d mails, want %d", len(mails), len(events()))
	}
	var want []string
	for i, r := range rows {
		if r.Status != "sent" {
			t.Errorf("mail of %s is %s (%s), want sent", r.Kind, r.Status, r.ReasonCode)
		}
		want = append(want, contracts.KindNotificationSent+" "+r.ID)
		m := mails[i] // one order: in the order sent
		subject, body, err := f.service.texts.compose(events()[i])
		if err != nil {
			t.Fatal(err)
		}
		decoded, err := new(mime.WordDecoder).DecodeHeader(m.header.Get("Subject"))
		if err != nil || decoded != subject {
			t.Errorf("subject %q, %v, want %q", decoded, err, subject)
		}
		if got := m.header.Get("Message-Id"); got != "<"+r.ID+"@orderflow.example>" {
			t.Errorf("message id %s, want the notification's, %s", got, r.ID)
		}
		to, err := netmail.ParseAddress(m.header.Get("To"))
		if err != nil || to.Address != ada.Email || to.Name != ada.Name || m.to != ada.Email || m.from != "shop@orderflow.example" {
			t.Errorf("to %v (%v), envelope from %s to %s, want %s", to, err, m.from, m.to, ada.Email)
		}
		if m.header.Get("Auto-Submitted") != "auto-generated" || m.header.Get("Date") == "" {
			t.Errorf("header lacks Auto-Submitted or Date: %v", m.header)
		}
		p := parts(t, m)
		if strings.TrimSpace(strings.ReplaceAll(p["text/plain"], "\r\n", "\n")) != strings.TrimSpace(body) {
			t.Errorf("text is\n%s\nwant\n%s", p["text/plain"], body)
		}
		if !strings.Contains(p["text/html"], "Ada &lt;b&gt;Lovelace&lt;/b&gt; {{7*7}}") || strings.Contains(p["text/html"], "<b>Lovelace") {
			t.Errorf("the page doesn't show the name as text:\n%s", p["text/html"])
		}
	}
	f.says(t, want...)
	if n := f.number(t, `SELECT count(*) FROM notifications.attempts WHERE outcome = 'sent' AND duration_ms >= 0`); n != len(events()) {
		t.Errorf("%d lines in the log of attempts, want %d", n, len(events()))
	}
}

func TestHostileNamesMakeNoHeader(t *testing.T) {
	t.Parallel()
	o := newOffice(t, nil)
	f := whole(t, o.config(t))
	names := []string{
		"Eve\r\nBcc: all@example.com", `Eve" <all@example.com>, "x`, "Zoë Müller 🫖 " + strings.Repeat("ü", 150), "=?utf-8?q?Eve=0D=0ABcc:_x?=", "<script>alert(1)</script>", "{{.Customer}}",
	}
	for i, name := range names {
		f.Deliver(t, contracts.OrderDelivered{OrderID: orderID, Customer: contracts.Customer{ID: "eve", Name: name, Email: "eve@example.com"}})
		f.settled(t, "email", i+1)
	}
	for i, m := range o.all() {
		to, err := netmail.ParseAddressList(m.header.Get("To"))
		if err != nil || len(to) != 1 || to[0].Address != "eve@example.com" || m.to != "eve@example.com" {
			t.Errorf("%q: to %v, %v, want eve alone", names[i], to, err)
		}
		if len(m.header["Bcc"]) > 0 {
			t.Errorf("%q made a header", names[i])
		}
		if p := parts(t, m); strings.Contains(p["text/html"], "<script") {
			t.Errorf("%q is a tag in\n%s", names[i], p["text/html"])
		}
	}
	if got := len(o.all()); got != len(names) {
		t.Errorf("%d mails, want %d", got, len(names))
	}
}

// TestMailOffSendsNothing also is what the order path pays when it is off: rows of
// the inbox, and nothing in the outbox.
func TestMailOffSendsNothing(t *testing.T) {
	t.Parallel()
	db, _ := running(t)
	db.Deliver(t, events()...)
	if got := messagingtest.Kinds(db.Published(t, "notifications")); len(got) > 0 {
		t.Errorf("published %v, want nothing", got)
	}
	var channels []string
	if err := db.Admin.Select(&channels, `SELECT DISTINCT channel FROM notifications.notifications`); err != nil || !slices.Equal(channels, []string{"inbox"}) {
		t.Errorf("channels %v, %v, want the inbox only", channels, err)
	}
}

// TestMailDoubledByACrashBearsTheSameID cuts the connection that writes down that
// the mail was taken: nobody knows, so it is taken there again.
func TestMailDoubledByACrashBearsTheSameID(t *testing.T) {
	t.Parallel()
	o := newOffice(t, nil)
	f := newFixture(t, o.config(t), relayed)
	f.cutRecording(t)
	messagingtest.Run(t, f.bus)
	f.Deliver(t, delivered)
	r := f.settled(t, "email", 1)[0]
	id := "<" + r.ID + "@orderflow.example>"
	if got := o.ids(); !slices.Equal(got, []string{id, id}) {
		t.Errorf("mails %v, want two of the id %s", got, id)
	}
	f.says(t, contracts.KindNotificationSent+" "+r.ID)
	if n := f.number(t, `SELECT count(*) FROM notifications.attempts`); n != 1 {
		t.Errorf("%d attempts written down, want 1: the other is forgotten", n)
	}
}

func TestServerThatHangsUpAfterTheMailGetsItAgain(t *testing.T) {
	t.Parallel()
	o := newOffice(t, func(n int, c *smtp.Conn) error {
		if n == 1 {
			return c.Close() // it has the mail, and doesn't say so
		}
		return nil
	})
	f := whole(t, o.config(t))
	f.Deliver(t, delivered)
	r := f.settled(t, "email", 1)[0]
	if r.Status != "sent" {
		t.Errorf("mail is %s (%s), want sent", r.Status, r.ReasonCode)
	}
	if got := o.ids(); len(got) != 2 || got[0] != got[1] {
		t.Errorf("mails %v, want the same twice", got)
	}
}

func TestTemporaryRefusalIsTriedAgain(t *testing.T) {
	t.Parallel()
	o := newOffice(t, func(n int, _ *smtp.Conn) error {
		if n < 12 { // more than a queue's attempts: they don't count
			return &smtp.SMTPError{Code: 451, EnhancedCode: smtp.EnhancedCode{4, 3, 0}, Message: "ada@example.com is busy"}
		}
		return nil
	})
	f := whole(t, o.config(t))
	f.Deliver(t, delivered)
	r := f.settled(t, "email", 1)[0]
	if r.Status != "sent" || len(o.all()) != 12 {
		t.Errorf("mail is %s (%s) after %d attempts, want sent after 12", r.Status, r.ReasonCode, len(o.all()))
	}
	if n := f.number(t, `SELECT count(*) FROM messaging.queue_notifications_send WHERE last_error LIKE '%ada%'`); n != 0 {
		t.Error("the server's text with the address is in the queue")
	}
	f.says(t, contracts.KindNotificationSent+" "+r.ID)
}

func TestMailIsGivenUpInTheEnd(t *testing.T) {
	t.Parallel()
	o := newOffice(t, func(int, *smtp.Conn) error { return &smtp.SMTPError{Code: 452, Message: "full"} })
	cfg := o.config(t)
	cfg.Mail.GiveUp = time.Second
	f := whole(t, cfg)
	f.Deliver(t, delivered)
	r := f.settled(t, "email", 1)[0]
	if r.Status != "failed" || r.ReasonCode != "gave_up" || len(o.all()) < 2 {
		t.Errorf("mail is %s (%s) after %d attempts, want failed (gave_up) after some", r.Status, r.ReasonCode, len(o.all()))
	}
	f.says(t, contracts.KindNotificationFailed+" "+r.ID)
}

func TestMailWaitsForAServerThatIsAway(t *testing.T) {
	t.Parallel()
	o := newOffice(t, nil)
	cfg := o.config(t)
	there := cfg.Mail.Port
	cfg.Mail.Port = 1 // nobody listens
	f := newFixture(t, cfg, relayed)
	messagingtest.Run(t, f.bus)
	f.Deliver(t, delivered)
	messagingtest.Wait(t, "the error to be noted", func() bool {
		return f.number(t, `SELECT count(*) FROM messaging.queue_notifications_send WHERE last_error LIKE '%can''t be reached%'`) == 1
	})
	// Another replica knows the right port.
	cfg.Mail.Port = there
	second := f.NewBus(t, Spec())
	s, err := New(cfg, f.Service("notifications"), second, messagingtest.Log(t))
	if err != nil {
		t.Fatal(err)
	}
	s.mailer.first = 10 * time.Millisecond
	messagingtest.Run(t, second)
	if r := f.settled(t, "email", 1)[0]; r.Status != "sent" {
		t.Errorf("mail is %s (%s), want sent", r.Status, r.ReasonCode)
	}
}

// TestEventDeliveredTwiceIsMailedOnce sends the same event in two messages of one
// id, and the command for its mail twice.
func TestEventDeliveredTwiceIsMailedOnce(t *testing.T) {
	t.Parallel()
	o := newOffice(t, nil)
	f := whole(t, o.config(t))
	f.Deliver(t, delivered)
	r := f.settled(t, "email", 1)[0]
	for _, stmt := range []string{
		`DELETE FROM messaging.inbox_notifications WHERE consumer = 'notifications'`,
		`INSERT INTO messaging.queue_notifications (message_id, kind, order_id, payload)
		 SELECT message_id, 'orders.order_delivered', order_id,
		        convert_to(json_build_object('order_id', order_id, 'customer', json_build_object('id', 'ada', 'name', 'Ada', 'email', 'ada@example.com'))::text, 'UTF8')
		 FROM notifications.notifications WHERE channel = 'inbox'`,
	} {
		if _, err := f.Admin.Exec(stmt); err != nil {
			t.Fatalf("send the event again: %v", err)
		}
	}
	messagingtest.Wait(t, "the command of the second copy to be ignored", func() bool {
		return f.number(t, `SELECT count(*) FROM messaging.inbox_notifications WHERE consumer = 'notifications_send' AND outcome = 'ignored'`) == 1
	})
	if got := f.Deliver(t, contracts.SendNotification{NotificationID: r.ID, OrderID: orderID})[0]; got != "ignored" {
		t.Errorf("second command: outcome %q, want ignored", got)
	}
	if len(f.rows(t, "inbox")) != 1 || len(f.rows(t, "email")) != 1 || len(o.all()) != 1 {
		t.Errorf("%d inbox, %d email, %d mails, want one of each", len(f.rows(t, "inbox")), len(f.rows(t, "email")), len(o.all()))
	}
}

func TestLogsHaveNoPersonalData(t *testing.T) {
	t.Parallel()
	var calls atomic.Int32
	o := newOffice(t, func(int, *smtp.Conn) error {
		if calls.Add(1) == 1 {
			return &smtp.SMTPError{Code: 451, Message: "Ada Lovelace, ada@example.com, 1 Analytical Row"}
		}
		return &smtp.SMTPError{Code: 550, Message: "Ada Lovelace, ada@example.com, 1 Analytical Row"}
	})
	var buffer safeBuffer
	logged := slog.New(slog.NewJSONHandler(&buffer, &slog.HandlerOptions{Level: slog.LevelDebug}))
	db := messagingtest.NewDB(t, Spec())
	bus := db.NewBus(t, Spec(), relayed, withLog(logged))
	s, err := New(o.config(t), db.Service("notifications"), bus, logged)
	if err != nil {
		t.Fatal(err)
	}
	s.mailer.first = 10 * time.Millisecond
	messagingtest.Run(t, bus)
	f := fixture{DB: db, bus: bus, service: s}
	f.Deliver(t, delivered)
	f.settled(t, "email", 1)
	text := buffer.String()
	if !strings.Contains(text, "notification settled") || !strings.Contains(text, "message will be tried again") {
		t.Errorf("the log misses what it is tried for:\n%s", text)
	}
	for _, personal := range []string{"Ada", "Lovelace", "ada@", "Analytical"} {
		if strings.Contains(text, personal) {
			t.Errorf("%q is in the log:\n%s", personal, text)
		}
	}
}
