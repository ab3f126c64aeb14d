package notifications

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	netmail "net/mail"
	"net/textproto"
	"strings"
	"time"

	"github.com/wneessen/go-mail"

	"example.com/orderflow/messaging"
)

// MailConfig says how mail leaves the house.
type MailConfig struct {
	// Host is the SMTP server's; empty = the channel is off.
	Host string `env:"NOTIFICATIONS_SMTP_HOST" validate:"omitempty,hostname_rfc1123|ip"`
	Port int    `env:"NOTIFICATIONS_SMTP_PORT" envDefault:"587" validate:"min=1,max=65535"`
	// TLS is "mandatory" (STARTTLS or nothing), "opportunistic" (STARTTLS where it is
	// offered), "implicit" (TLS from the first byte, port 465) or "none".
	TLS      string `env:"NOTIFICATIONS_SMTP_TLS" envDefault:"mandatory" validate:"oneof=mandatory opportunistic implicit none"`
	User     string `env:"NOTIFICATIONS_SMTP_USER"` // empty = without authentication
	Password string `env:"NOTIFICATIONS_SMTP_PASSWORD,unset"`
	// From is the sender; its domain stands in the Message-IDs, too.
	From string `env:"NOTIFICATIONS_SMTP_FROM" envDefault:"Orderflow <shop@orderflow.example>" validate:"required"`
	// Timeout limits a sending as a whole. It is to end well before the handler does.
	Timeout time.Duration `env:"NOTIFICATIONS_SMTP_TIMEOUT" envDefault:"10s" validate:"min=100ms,max=25s"`
	// Connections is how many mails are at the server at once.
	Connections int `env:"NOTIFICATIONS_SMTP_CONNECTIONS" envDefault:"4" validate:"min=1,max=16"`
	// GiveUp is how long a mail that the server can't take now is tried again.
	GiveUp time.Duration `env:"NOTIFICATIONS_SMTP_GIVE_UP" envDefault:"72h" validate:"min=1s"`

	// Authorities are whom the server's certificate must be from, nil = the system's:
	// for programs that bring their own.
	Authorities *x509.CertPool `env:"-" validate:"-"`
}

// mailer sends mails, each by a connection of its own.
type mailer struct {
	cfg    MailConfig
	from   *netmail.Address
	domain string        // of the sender
	slots  chan struct{} // one for each connection that may be open
	first  time.Duration // the shortest pause before another attempt
}

// newMailer returns nil when the channel is off.
func newMailer(cfg MailConfig) (*mailer, error) {
	if cfg.Host == "" {
		return nil, nil
	}
	from, err := netmail.ParseAddress(cfg.From)
	if err != nil {
		return nil, fmt.Errorf("sender of mails: %w", err)
	}
	_, domain, _ := strings.Cut(from.Address, "@")
	return &mailer{cfg: cfg, from: from, domain: domain, slots: make(chan struct{}, cfg.Connections), first: time.Second}, nil
}

// outcome is a channel's last word about a sending.
type outcome struct {
	Status     Status // Sent or Failed
	ReasonCode string // why it failed
}

// send has the mail server take n, for the resendID-th time when it isn't "". An
// error is the server's being away or unwilling for now and says when to try
// again, until the wish has waited for so long that it is given up. A server that
// died after it had the mail gets it again, under the same Message-ID.
//
// No error text of the server's gets out of here: it may name the customer.
func (m *mailer) send(ctx context.Context, n mailing, resendID string) (outcome, error) {
	msg := m.compose(n, resendID)
	free := time.NewTimer(m.cfg.Timeout / 10)
	defer free.Stop()
	select {
	case m.slots <- struct{}{}:
		defer func() { <-m.slots }()
	case <-free.C:
		// Waiting here would take the queue's hands from the webhooks.
		return outcome{}, messaging.Later(m.first/2+rand.N(m.first), errors.New("all connections to the mail server are in use"))
	case <-ctx.Done():
		return outcome{}, ctx.Err()
	}
	err := m.transmit(ctx, msg)
	if err == nil {
		return outcome{Status: Sent}, nil
	}
	code, final := refusal(err)
	switch {
	case final:
		return outcome{Failed, fmt.Sprintf("smtp_%d", code)}, nil
	case n.Waited > m.cfg.GiveUp:
		return outcome{Failed, "gave_up"}, nil
	}
	what := fmt.Errorf("mail server %s: %s", m.cfg.Host, describe(err, code))
	pause := min(5*time.Minute, max(m.first, n.Waited/4))
	return outcome{}, messaging.Later(pause/2+rand.N(pause), what)
}

// compose makes the mail: text and page, as one message.
func (m *mailer) compose(n mailing, resendID string) *mail.Msg {
	msg := mail.NewMsg(mail.WithNoDefaultUserAgent())
	msg.FromMailAddress(m.from)
	// Not as a text with the name in quotes: a name may have some of its own.
	msg.AddToMailAddress(&netmail.Address{Name: n.RecipientName, Address: n.Recipient})
	msg.Subject(n.Subject)
	msg.SetDateWithValue(n.OccurredAt.UTC())
	msg.SetMessageIDWithValue(mailID(n.ID, resendID, m.domain))
	msg.SetGenHeader("Auto-Submitted", "auto-generated") // RFC 3834: no vacation notes, please
	msg.SetBodyString(mail.TypeTextPlain, n.Body)
	msg.AddAlternativeString(mail.TypeTextHTML, n.HTML)
	return msg
}

// mailID is the Message-ID of a notification's mail. It is the same however often
// the mail is delivered. One that an operator wished for has the wish in it: mail
// programs hide the second of one id, and this one is to be seen.
func mailID(notificationID, resendID, domain string) string {
	if resendID != "" {
		return notificationID + "." + resendID + "@" + domain
	}
	return notificationID + "@" + domain
}

// transmit connects, hands msg over and closes.
func (m *mailer) transmit(ctx context.Context, msg *mail.Msg) error {
	ctx, cancel := context.WithTimeout(ctx, m.cfg.Timeout)
	defer cancel()
	client, err := m.client(func(dialing context.Context, network, addr string) (conn net.Conn, err error) {
		if m.cfg.TLS == "implicit" {
			conn, err = (&tls.Dialer{Config: m.tls()}).DialContext(dialing, network, addr)
		} else {
			conn, err = new(net.Dialer).DialContext(dialing, network, addr)
		}
		if err == nil {
			// The connection has no other ear for ctx, and nobody else closes it when the
			// conversation ends badly; after QUIT it is closed already.
			context.AfterFunc(ctx, func() { _ = conn.Close() })
		}
		return conn, err
	})
	if err != nil {
		return err
	}
	server, err := client.DialToSMTPClientWithContext(ctx)
	if err != nil {
		return err
	}
	err = client.SendWithSMTPClient(server, msg)
	if msg.IsDelivered() {
		err = nil // what goes wrong after the server has taken it isn't the mail's
		_ = client.CloseWithSMTPClient(server)
	}
	return err
}

func (m *mailer) tls() *tls.Config {
	return &tls.Config{ServerName: m.cfg.Host, RootCAs: m.cfg.Authorities, MinVersion: tls.VersionTLS12}
}

func (m *mailer) client(dial mail.DialContextFunc) (*mail.Client, error) {
	options := []mail.Option{
		mail.WithPort(m.cfg.Port), mail.WithTimeout(m.cfg.Timeout), mail.WithTLSConfig(m.tls()),
		mail.WithDialContextFunc(dial), mail.WithoutNoop(), mail.WithoutRset(),
		mail.WithHELO(m.domain), // a host's own name is nobody's business, and often none that servers take
	}
	switch m.cfg.TLS {
	case "mandatory":
		options = append(options, mail.WithTLSPolicy(mail.TLSMandatory))
	case "opportunistic":
		options = append(options, mail.WithTLSPolicy(mail.TLSOpportunistic))
	case "implicit":
		options = append(options, mail.WithSSL())
	default:
		options = append(options, mail.WithTLSPolicy(mail.NoTLS))
	}
	if m.cfg.User != "" {
		options = append(options, mail.WithSMTPAuth(mail.SMTPAuthAutoDiscover), mail.WithUsername(m.cfg.User), mail.WithPassword(m.cfg.Password))
	}
	client, err := mail.NewClient(m.cfg.Host, options...)
	if err != nil {
		return nil, fmt.Errorf("settings of the mail server: %w", err)
	}
	return client, nil
}

// refusal is the server's code, 0 when it gave none, and whether it is its last
// word about this mail: a 5xx to sender, recipient or content. One before that, or
// for want of authentication, says that our settings are wrong, which is mended.
func refusal(err error) (code int, final bool) {
	var sending *mail.SendError
	if errors.As(err, &sending) {
		code = sending.ErrorCode()
	} else {
		var answer *textproto.Error
		if errors.As(err, &answer) {
			code = answer.Code
		}
		return code, false
	}
	switch sending.Reason {
	case mail.ErrGetRcpts, mail.ErrGetSender, mail.ErrNoUnencoded:
		return 554, true // it can't be sent as it is
	case mail.ErrSMTPMailFrom, mail.ErrSMTPRcptTo, mail.ErrSMTPData, mail.ErrSMTPDataClose:
		switch code {
		case 530, 534, 535, 538: // RFC 4954: authenticate first
			return code, false
		}
		return code, code >= 500 && code < 600
	}
	return code, false
}

// describe is what may be told of a sending that failed.
func describe(err error, code int) string {
	var timeout net.Error
	switch {
	case code != 0:
		return fmt.Sprintf("answers %d", code)
	case errors.As(err, &timeout) && timeout.Timeout(), errors.Is(err, context.DeadlineExceeded):
		return "takes too long"
	}
	return "can't be reached, or hung up"
}
