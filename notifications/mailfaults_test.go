package notifications

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
	smtpmock "github.com/mocktools/go-smtp-mock/v2"

	"example.com/orderflow/messaging/contracts"
	"example.com/orderflow/messaging/messagingtest"
)

// TestServersThatMisbehave has mail servers refuse, each in its way, and hang.
func TestServersThatMisbehave(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name     string
		server   smtpmock.ConfigurationAttr
		status   string // "" = it goes on being tried
		reason   string
		inErrors string
	}{
		{"unknown recipient", smtpmock.ConfigurationAttr{NotRegisteredEmails: []string{ada.Email}, MsgRcpttoNotRegisteredEmail: "550 ada@example.com unknown"}, "failed", "smtp_550", ""},
		{"sender refused", smtpmock.ConfigurationAttr{BlacklistedMailfromEmails: []string{"shop@orderflow.example"}, MsgMailfromBlacklistedEmail: "553 not you"}, "failed", "smtp_553", ""},
		{"mail too large", smtpmock.ConfigurationAttr{MsgSizeLimit: 10, MsgMsgSizeIsTooBig: "552 too big"}, "failed", "smtp_552", ""},
		{"greylisted", smtpmock.ConfigurationAttr{BlacklistedRcpttoEmails: []string{ada.Email}, MsgRcpttoBlacklistedEmail: "450 come back, ada@example.com"}, "", "", "answers 450"},
		{"authentication wanted", smtpmock.ConfigurationAttr{BlacklistedMailfromEmails: []string{"shop@orderflow.example"}, MsgMailfromBlacklistedEmail: "530 who are you"}, "", "", "answers 530"},
		{"no service for us", smtpmock.ConfigurationAttr{MsgGreeting: "554 no"}, "", "", "answers 554"},
		{"hangs at DATA", smtpmock.ConfigurationAttr{ResponseDelayData: 1}, "", "", "mail server 127.0.0.1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.server.HostAddress, tt.server.SessionTimeout, tt.server.ShutdownTimeout = "127.0.0.1", 4, 5
			server := smtpmock.New(tt.server)
			if err := server.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := server.Stop(); err != nil {
					t.Error(err)
				}
			})
			cfg := mailTo(t, server.PortNumber())
			cfg.Mail.Timeout = 300 * time.Millisecond
			f := whole(t, cfg)
			f.Deliver(t, delivered)
			if tt.status == "" {
				messagingtest.Wait(t, "the error to be noted", func() bool {
					return f.number(t, `SELECT count(*) FROM messaging.queue_notifications_send WHERE last_error LIKE '%' || $1 || '%' AND attempts = 0`, tt.inErrors) == 1
				})
				if r := f.rows(t, "email")[0]; r.Status != "pending" {
					t.Errorf("mail is %s (%s), want pending", r.Status, r.ReasonCode)
				}
			} else {
				r := f.settled(t, "email", 1)[0]
				if r.Status != tt.status || r.ReasonCode != tt.reason {
					t.Errorf("mail is %s (%s), want %s (%s)", r.Status, r.ReasonCode, tt.status, tt.reason)
				}
				f.says(t, contracts.KindNotificationFailed+" "+r.ID)
			}
			if n := f.number(t, `SELECT count(*) FROM messaging.queue_notifications_send WHERE last_error LIKE '%ada%'`); n != 0 {
				t.Error("the server's text with the address is in the queue")
			}
		})
	}
}

func TestMailIsSentByTLS(t *testing.T) {
	t.Parallel()
	cert := newReceiver(t, nil) // only for its certificate, which is for 127.0.0.1
	for _, tt := range []struct {
		name, mode string
		offered    bool // STARTTLS
		implicit   bool
		trusted    bool
		sent       bool
	}{
		{"wanted and offered", "mandatory", true, false, true, true},
		{"wanted and not offered", "mandatory", false, false, true, false},
		{"wanted, of another authority", "mandatory", true, false, false, false},
		{"taken where it is offered", "opportunistic", true, false, true, true},
		{"done without where it isn't", "opportunistic", false, false, true, true},
		{"from the first byte", "implicit", false, true, true, true},
		{"from the first byte, of another authority", "implicit", false, true, false, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			o := newOffice(t, nil, func(s *smtp.Server, l net.Listener) net.Listener {
				if tt.offered {
					s.TLSConfig = cert.TLS
				}
				if tt.implicit {
					return tls.NewListener(l, cert.TLS)
				}
				return l
			})
			cfg := o.config(t).Mail
			cfg.TLS, cfg.Authorities = tt.mode, x509.NewCertPool()
			if tt.trusted {
				cfg.Authorities.AddCert(cert.Certificate())
			}
			m, err := newMailer(cfg)
			if err != nil {
				t.Fatal(err)
			}
			n := mailing{Notification: Notification{ID: orderID, Subject: "s", Body: "b", OccurredAt: time.Now()}, Recipient: ada.Email, RecipientName: ada.Name, HTML: "<p>b</p>"}
			out, err := m.send(t.Context(), n, "")
			if sent := err == nil && out.Status == Sent; sent != tt.sent || len(o.all()) > 0 != tt.sent {
				t.Errorf("got %+v, %v and %d mails, want it sent: %v", out, err, len(o.all()), tt.sent)
			}
			wantTLS := tt.sent && (tt.offered || tt.implicit)
			if mails := o.all(); len(mails) > 0 && mails[0].tls != wantTLS {
				t.Errorf("by TLS: %v, want %v", mails[0].tls, wantTLS)
			}
		})
	}
}

// TestMailsThatFindNoConnectionFreeWait holds all connections at a server that
// doesn't answer: others come back soon instead of waiting with it.
func TestMailsThatFindNoConnectionFreeWait(t *testing.T) {
	t.Parallel()
	hold := make(chan struct{})
	o := newOffice(t, func(n int, _ *smtp.Conn) error {
		if n == 1 {
			<-hold
		}
		return nil
	})
	cfg := o.config(t)
	cfg.Mail.Connections, cfg.Mail.Timeout = 1, 5*time.Second
	f := whole(t, cfg)
	first := delivered
	f.Deliver(t, first)
	messagingtest.Wait(t, "the first mail at the server", func() bool { return len(o.all()) == 1 })
	second := contracts.OrderDelivered{OrderID: "0197f000-0000-7000-8000-000000000002", Customer: ada}
	f.Deliver(t, second)
	messagingtest.Wait(t, "the second to be put back", func() bool {
		return f.number(t, `SELECT count(*) FROM messaging.queue_notifications_send WHERE last_error = 'all connections to the mail server are in use' AND attempts <= 1`) == 1
	})
	close(hold)
	f.settled(t, "email", 2)
	if got := len(o.all()); got != 2 {
		t.Errorf("%d mails, want 2", got)
	}
}
