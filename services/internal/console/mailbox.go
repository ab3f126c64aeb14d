package console

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net/http"
	"net/mail"
	"strconv"
	"strings"
	"sync"
	"time"
)

// kept is how many mails a Mailbox keeps; older ones are forgotten.
const kept = 200

// Mailbox catches the shop's mails and shows them, so that a demo needs no mail
// server and writes to nobody. It keeps the last ones in memory. Whoever reaches
// it sees all of them: it is for demos, on loopback.
type Mailbox struct {
	mu    sync.Mutex
	mails []Mail // oldest first
	count int    // of all that ever came in
}

// NewMailbox returns an empty mailbox.
func NewMailbox() *Mailbox { return &Mailbox{} }

// MailSummary is a mail as the list shows it.
type MailSummary struct {
	ID         string    `json:"id"`
	ReceivedAt time.Time `json:"received_at"` // UTC
	From       string    `json:"from"`        // of the envelope, as is To
	To         []string  `json:"to"`
	Subject    string    `json:"subject"`
	MessageID  string    `json:"message_id"` // of the header, without brackets
	Size       int       `json:"size"`       // bytes
}

// Mail is a mail as it came in, read.
type Mail struct {
	MailSummary
	Text    string              `json:"text,omitempty"`
	HTML    string              `json:"html,omitempty"`
	Headers map[string][]string `json:"headers"` // decoded
}

// put keeps a mail that came in at a moment.
func (m *Mailbox) put(from string, to []string, raw []byte, at time.Time) {
	read := readMail(raw)
	read.ReceivedAt, read.From, read.To, read.Size = at.UTC(), from, to, len(raw)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.count++
	read.ID = strconv.Itoa(m.count)
	m.mails = append(m.mails, read)
	if over := len(m.mails) - kept; over > 0 {
		m.mails = append([]Mail(nil), m.mails[over:]...)
	}
}

// mount adds the mailbox's requests to mux.
func (m *Mailbox) mount(mux *http.ServeMux) {
	mux.HandleFunc("GET /v1/mailbox", m.list)
	mux.HandleFunc("GET /v1/mailbox/{id}", m.show)
}

// list answers with the mails that are kept, the newest first; with ?to= those to
// one address.
func (m *Mailbox) list(w http.ResponseWriter, r *http.Request) {
	to := r.URL.Query().Get("to")
	found := []MailSummary{}
	m.mu.Lock()
	for i := len(m.mails) - 1; i >= 0; i-- {
		if mail := m.mails[i].MailSummary; to == "" || mail.isTo(to) {
			found = append(found, mail)
		}
	}
	m.mu.Unlock()
	answer(w, http.StatusOK, "application/json", map[string]any{"mails": found})
}

func (m MailSummary) isTo(address string) bool {
	for _, t := range m.To {
		if strings.EqualFold(t, address) {
			return true
		}
	}
	return false
}

// show answers with one mail.
func (m *Mailbox) show(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	m.mu.Lock()
	var found *Mail
	for i := range m.mails {
		if m.mails[i].ID == id {
			copied := m.mails[i]
			found = &copied
		}
	}
	m.mu.Unlock()
	if found == nil {
		problem(w, http.StatusNotFound, "not-found", "Not found", "there is no such mail, or not any more")
		return
	}
	answer(w, http.StatusOK, "application/json", found)
}

// readMail makes a mail readable. What isn't a mail as RFC 5322 and MIME have it is
// text as it is.
func readMail(raw []byte) Mail {
	read := Mail{Headers: map[string][]string{}}
	m, err := mail.ReadMessage(bytes.NewReader(raw))
	if err != nil {
		read.Text = strings.ToValidUTF8(string(raw), "�")
		return read
	}
	for name, values := range m.Header {
		for _, v := range values {
			read.Headers[name] = append(read.Headers[name], decodeHeader(v))
		}
	}
	read.Subject = decodeHeader(m.Header.Get("Subject"))
	read.MessageID = strings.Trim(m.Header.Get("Message-Id"), "<>")
	read.collect(m.Header.Get("Content-Type"), m.Header.Get("Content-Transfer-Encoding"), m.Body, 0)
	return read
}

// decodeHeader reads encoded words (RFC 2047).
func decodeHeader(v string) string {
	if decoded, err := new(mime.WordDecoder).DecodeHeader(v); err == nil {
		return decoded
	}
	return v
}

// collect takes text and page from a part and those within it.
func (m *Mail) collect(contentType, encoding string, body io.Reader, depth int) {
	kind, params, err := mime.ParseMediaType(contentType)
	if err != nil {
		kind = "text/plain" // RFC 2045, 5.2
	}
	if strings.HasPrefix(kind, "multipart/") && depth < 5 {
		parts := multipart.NewReader(body, params["boundary"])
		for {
			p, err := parts.NextRawPart()
			if err != nil { // the end, or what can't be read beyond here
				return
			}
			m.collect(p.Header.Get("Content-Type"), p.Header.Get("Content-Transfer-Encoding"), p, depth+1)
		}
	}
	if kind != "text/plain" && kind != "text/html" {
		return
	}
	switch strings.ToLower(encoding) {
	case "quoted-printable":
		body = quotedprintable.NewReader(body)
	case "base64":
		body = base64.NewDecoder(base64.StdEncoding, body)
	}
	b, err := io.ReadAll(body)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && len(b) == 0 {
		return
	}
	text := strings.ToValidUTF8(strings.ReplaceAll(string(b), "\r\n", "\n"), "�")
	if kind == "text/html" {
		m.HTML += text
	} else {
		m.Text += text
	}
}
