package console

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"time"

	"github.com/emersion/go-smtp"
)

// maxMail is the most bytes of a mail that is taken.
const maxMail = 256 << 10

// Serve takes mails by SMTP on l until ctx ends, from anybody to anybody.
func (m *Mailbox) Serve(ctx context.Context, l net.Listener, log *slog.Logger) error {
	server := smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) { return &session{box: m}, nil }))
	server.Domain = "mailbox.localhost"
	server.MaxMessageBytes, server.MaxRecipients = maxMail, 50
	server.ReadTimeout, server.WriteTimeout = 10*time.Second, 10*time.Second
	server.EnableSMTPUTF8 = true
	server.ErrorLog = slog.NewLogLogger(log.Handler(), slog.LevelDebug)
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	select {
	case err := <-ended:
		return fmt.Errorf("catch mails: %w", err)
	case <-ctx.Done():
	}
	// Who is cut off in the middle of a mail brings it again.
	return errors.Join(server.Close(), <-ended)
}

// session is a conversation with somebody who brings mails.
type session struct {
	box  *Mailbox
	from string
	to   []string
}

// Mail begins a mail.
func (s *session) Mail(from string, _ *smtp.MailOptions) error {
	s.from, s.to = from, nil
	return nil
}

// Rcpt adds a recipient.
func (s *session) Rcpt(to string, _ *smtp.RcptOptions) error {
	s.to = append(s.to, to)
	return nil
}

// Data keeps the mail.
func (s *session) Data(r io.Reader) error {
	raw, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	s.box.put(s.from, s.to, raw, time.Now())
	return nil
}

// Reset gives a mail up that was begun.
func (s *session) Reset() { s.from, s.to = "", nil }

// Logout ends the conversation.
func (s *session) Logout() error { return nil }
