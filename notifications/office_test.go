package notifications

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	netmail "net/mail"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
)

// office is a mail server that keeps what it takes.
type office struct {
	port int
	// data, when set, sees each mail that has come in whole before the office
	// answers: an error is the answer.
	data func(n int, c *smtp.Conn) error

	mu    sync.Mutex
	mails []posted
}

// posted is a mail as it came in.
type posted struct {
	from, to string
	header   netmail.Header
	body     string
	tls      bool
}

// newOffice opens a mail server, which is closed when t ends; options may change it
// and how it listens.
func newOffice(t *testing.T, data func(n int, c *smtp.Conn) error, options ...func(*smtp.Server, net.Listener) net.Listener) *office {
	t.Helper()
	o := &office{data: data}
	server := smtp.NewServer(smtp.BackendFunc(func(c *smtp.Conn) (smtp.Session, error) { return &counter{office: o, conn: c}, nil }))
	server.Domain, server.ReadTimeout, server.WriteTimeout = "office.example", 10*time.Second, 10*time.Second
	server.ErrorLog = log.New(t.Output(), "", 0)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("open the post office: %v", err)
	}
	o.port = l.Addr().(*net.TCPAddr).Port
	for _, change := range options {
		l = change(server, l)
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	t.Cleanup(func() {
		// Not Close: it looks at connections while their STARTTLS may be changing them.
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := errors.Join(server.Shutdown(ctx), <-ended); err != nil {
			t.Errorf("close the post office: %v", err)
		}
	})
	return o
}

// config has mails taken to the office.
func (o *office) config(t *testing.T) Config {
	t.Helper()
	return mailTo(t, o.port)
}

// mailTo is a configuration with the mail server at a port of this machine.
func mailTo(t *testing.T, port int) Config {
	t.Helper()
	cfg := defaults(t)
	cfg.Mail.Host, cfg.Mail.Port, cfg.Mail.TLS, cfg.Mail.Timeout = "127.0.0.1", port, "none", 2*time.Second
	return cfg
}

func (o *office) all() []posted {
	o.mu.Lock()
	defer o.mu.Unlock()
	return append([]posted(nil), o.mails...)
}

// ids are the Message-IDs of what came in, in order.
func (o *office) ids() []string {
	var list []string
	for _, m := range o.all() {
		list = append(list, m.header.Get("Message-Id"))
	}
	return list
}

// counter is a conversation with the office.
type counter struct {
	office   *office
	conn     *smtp.Conn
	from, to string
}

func (c *counter) Mail(from string, _ *smtp.MailOptions) error { c.from = from; return nil }
func (c *counter) Rcpt(to string, _ *smtp.RcptOptions) error   { c.to = to; return nil }
func (c *counter) Reset()                                      {}
func (c *counter) Logout() error                               { return nil }

func (c *counter) Data(r io.Reader) error {
	m, err := netmail.ReadMessage(r)
	if err != nil {
		return err
	}
	body, err := io.ReadAll(m.Body)
	if err != nil {
		return err
	}
	p := posted{from: c.from, to: c.to, header: m.Header, body: strings.ReplaceAll(string(body), "\r\n", "\n")}
	_, p.tls = c.conn.TLSConnectionState()
	c.office.mu.Lock()
	c.office.mails = append(c.office.mails, p)
	n := len(c.office.mails)
	c.office.mu.Unlock()
	if c.office.data != nil {
		return c.office.data(n, c.conn)
	}
	return nil
}
