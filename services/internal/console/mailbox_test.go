package console_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/smtp"
	"strings"
	"testing"
	"time"

	"example.com/orderflow/services/internal/console"
)

// mailbox is a console with a mailbox, and where that takes mails.
func mailbox(t *testing.T) (front *httptest.Server, addr string) {
	t.Helper()
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
	c, err := console.New(console.Config{Mailbox: box}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	s := httptest.NewServer(c)
	t.Cleanup(s.Close)
	return s, l.Addr().String()
}

// send sends a mail whose lines are given.
func send(t *testing.T, addr, from string, to []string, lines ...string) {
	t.Helper()
	if err := smtp.SendMail(addr, nil, from, to, []byte(strings.Join(lines, "\r\n"))); err != nil {
		t.Fatalf("send: %v", err)
	}
}

type mailList struct{ Mails []console.MailSummary }

// asJSON gets url and reads the answer into v, which must be of the status wanted.
func asJSON(t *testing.T, url string, status int, v any) {
	t.Helper()
	res, body := get(t, url)
	if err := json.Unmarshal([]byte(body), v); err != nil || res.StatusCode != status {
		t.Fatalf("GET %s: got %d %s, want %d", url, res.StatusCode, body, status)
	}
}

func TestMailsAreCaughtAndShown(t *testing.T) {
	t.Parallel()
	s, addr := mailbox(t)
	send(t, addr, "shop@example.com", []string{"ada@example.com"},
		"From: Shop <shop@example.com>", "To: ada@example.com", "Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=", "Message-ID: <1@example.com>", "MIME-Version: 1.0",
		"Content-Type: multipart/alternative; boundary=b", "",
		"--b", "Content-Type: text/plain; charset=utf-8", "Content-Transfer-Encoding: quoted-printable", "", "Hello =C3=84da", "",
		"--b", "Content-Type: text/html; charset=utf-8", "Content-Transfer-Encoding: base64", "", "PHA+SGVsbG88L3A+", "--b--", "")
	send(t, addr, "shop@example.com", []string{"bob@example.com", "eve@example.com"}, "Subject: plain", "", "just text")
	send(t, addr, "", []string{"bob@example.com"}, "no header at all")

	var all, bobs mailList
	asJSON(t, s.URL+"/v1/mailbox", http.StatusOK, &all)
	if len(all.Mails) != 3 || all.Mails[2].Subject != "Grüße" || all.Mails[2].MessageID != "1@example.com" || all.Mails[2].From != "shop@example.com" || time.Since(all.Mails[2].ReceivedAt).Abs() > time.Minute {
		t.Fatalf("got %+v, want three, the oldest last", all.Mails)
	}
	asJSON(t, s.URL+"/v1/mailbox?to=BOB@example.com", http.StatusOK, &bobs)
	if len(bobs.Mails) != 2 || bobs.Mails[1].Subject != "plain" || len(bobs.Mails[1].To) != 2 {
		t.Errorf("mails to bob: %+v, want two", bobs.Mails)
	}
	var first, second, third console.Mail
	asJSON(t, s.URL+"/v1/mailbox/"+all.Mails[2].ID, http.StatusOK, &first)
	if strings.TrimSpace(first.Text) != "Hello Äda" || first.HTML != "<p>Hello</p>" || first.Headers["Subject"][0] != "Grüße" || first.Size == 0 {
		t.Errorf("got %+v, want text and page", first)
	}
	asJSON(t, s.URL+"/v1/mailbox/"+all.Mails[1].ID, http.StatusOK, &second)
	asJSON(t, s.URL+"/v1/mailbox/"+all.Mails[0].ID, http.StatusOK, &third)
	if strings.TrimSpace(second.Text) != "just text" || second.HTML != "" || !strings.Contains(third.Text, "no header at all") {
		t.Errorf("got %+v and %+v, want their texts", second, third)
	}
	for _, id := range []string{"0", "4", "x"} {
		var problem struct{ Status int }
		asJSON(t, s.URL+"/v1/mailbox/"+id, http.StatusNotFound, &problem)
	}
}

func TestMailboxKeepsTheLastMails(t *testing.T) {
	t.Parallel()
	s, addr := mailbox(t)
	c, err := smtp.Dial(addr)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 205 {
		w, err := begin(c)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Fprintf(w, "Subject: %d\r\n\r\n.\r\n", i); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Quit(); err != nil {
		t.Fatal(err)
	}
	var all mailList
	asJSON(t, s.URL+"/v1/mailbox", http.StatusOK, &all)
	if len(all.Mails) != 200 || all.Mails[0].Subject != "204" || all.Mails[199].Subject != "5" {
		t.Errorf("%d mails are kept, want the last 200", len(all.Mails))
	}
}

func TestMailThatIsTooLargeIsRefused(t *testing.T) {
	t.Parallel()
	s, addr := mailbox(t)
	err := smtp.SendMail(addr, nil, "shop@example.com", []string{"ada@example.com"}, []byte("Subject: large\r\n\r\n"+strings.Repeat("0123456789\r\n", 30_000)))
	if err == nil || !strings.Contains(err.Error(), "552") {
		t.Errorf("got %v, want 552", err)
	}
	var all mailList
	asJSON(t, s.URL+"/v1/mailbox", http.StatusOK, &all)
	if len(all.Mails) != 0 {
		t.Errorf("%d mails are kept, want none", len(all.Mails))
	}
}

// TestMailboxEndsThoughSomebodyIsConnected opens a conversation and says nothing.
func TestMailboxEndsThoughSomebodyIsConnected(t *testing.T) {
	t.Parallel()
	var conn net.Conn
	t.Cleanup(func() { // after the mailbox's end: cleanups run backwards
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	})
	_, addr := mailbox(t) // its end is awaited
	var err error
	if conn, err = net.Dial("tcp", addr); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
}

func TestWithoutAMailboxThereIsNone(t *testing.T) {
	t.Parallel()
	s := front(t, nil)
	if res, body := get(t, s.URL+"/v1/mailbox"); res.StatusCode != http.StatusNotFound {
		t.Errorf("got %d, want 404", res.StatusCode)
	} else if _, page := get(t, s.URL+"/"); strings.Contains(page, "mailbox") {
		t.Errorf("the page tells of a mailbox: %s", body)
	}
}

// begin begins a mail in a conversation.
func begin(c *smtp.Client) (io.WriteCloser, error) {
	if err := c.Mail("shop@example.com"); err != nil {
		return nil, err
	}
	if err := c.Rcpt("ada@example.com"); err != nil {
		return nil, err
	}
	return c.Data()
}
