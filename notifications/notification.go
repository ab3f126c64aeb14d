package notifications

import (
	"bytes"
	"embed"
	"fmt"
	html "html/template"
	"strings"
	text "text/template"
	"time"

	"github.com/Rhymond/go-money"

	"example.com/orderflow/messaging"
)

// The channels that a customer is told by.
const (
	channelInbox   = "inbox" // the customer's message box in the shop
	channelEmail   = "email"
	channelWebhook = "webhook" // the customer's own programs
)

// Status is how far a notification has come.
type Status string

// The statuses. In the inbox a notification is sent by being written.
const (
	Pending Status = "pending" // the channel hasn't answered yet
	Sent    Status = "sent"    // the channel has taken it
	Failed  Status = "failed"  // it won't, or took too long: nobody tries again by itself
)

// Notification is what a customer was told, by one channel, about one event.
type Notification struct {
	ID         string     `json:"id" db:"id"` // UUID v7
	MessageID  string     `json:"-" db:"message_id"`
	Channel    string     `json:"channel" db:"channel"`
	Status     Status     `json:"status" db:"status"`
	ReasonCode string     `json:"reason_code,omitempty" db:"reason_code"` // why it failed
	SettledAt  *time.Time `json:"settled_at,omitempty" db:"settled_at"`   // when the channel took or refused it, UTC
	OrderID    string     `json:"order_id" db:"order_id"`                 // UUID
	CustomerID string     `json:"-" db:"customer_id"`
	Kind       string     `json:"kind" db:"kind"` // of the event
	Subject    string     `json:"subject" db:"subject"`
	Body       string     `json:"body" db:"body"`
	OccurredAt time.Time  `json:"occurred_at" db:"occurred_at"` // when the event did, UTC
}

//go:embed templates/*.txt templates/*.html
var templateFiles embed.FS

// texts makes the texts of notifications, two templates per kind: templates/X.txt
// for "orders.X", whose first paragraph is the subject, and templates/X.html for
// mails. What customers and catalogue say is text in both, whatever it looks like.
type texts struct {
	plain *text.Template
	html  *html.Template
}

// parseTexts reads the templates. It fails when one of kinds lacks one.
func parseTexts(kinds []string) (texts, error) {
	funcs := map[string]any{"money": formatMoney, "words": words, "moment": moment}
	plain, err := text.New("").Option("missingkey=error").Funcs(funcs).ParseFS(templateFiles, "templates/*.txt")
	if err != nil {
		return texts{}, fmt.Errorf("parse the texts of notifications: %w", err)
	}
	pages, err := html.New("").Option("missingkey=error").Funcs(funcs).ParseFS(templateFiles, "templates/*.html")
	if err != nil {
		return texts{}, fmt.Errorf("parse the pages of mails: %w", err)
	}
	for _, k := range kinds {
		if plain.Lookup(templateName(k)+".txt") == nil || pages.Lookup(templateName(k)+".html") == nil {
			return texts{}, fmt.Errorf("no text for %s: templates/%s.txt and .html must be there", k, templateName(k))
		}
	}
	return texts{plain: plain, html: pages}, nil
}

func templateName(kind string) string {
	_, name, _ := strings.Cut(kind, ".")
	return name
}

// compose returns subject and body of what is said about event.
func (t texts) compose(event messaging.Body) (subject, body string, err error) {
	var b bytes.Buffer
	if err := t.plain.ExecuteTemplate(&b, templateName(event.Kind())+".txt", event); err != nil {
		return "", "", fmt.Errorf("compose the text of %s for order %s: %w", event.Kind(), event.Order(), err)
	}
	subject, body, _ = strings.Cut(b.String(), "\n\n")
	return subject, body, nil
}

// page returns the same as a page, for mails.
func (t texts) page(event messaging.Body) (string, error) {
	var b strings.Builder
	if err := t.html.ExecuteTemplate(&b, templateName(event.Kind())+".html", event); err != nil {
		return "", fmt.Errorf("compose the page of %s for order %s: %w", event.Kind(), event.Order(), err)
	}
	return b.String(), nil
}

// formatMoney shows minor units the way their currency is written: €14.90.
func formatMoney(minor int64, currency string) string {
	return money.New(minor, currency).Display()
}

// words makes a reason code readable: "out_of_stock" is "out of stock".
func words(code string) string { return strings.ReplaceAll(code, "_", " ") }

// moment shows a time to the minute.
func moment(at time.Time) string { return at.UTC().Format("2 January 2006, 15:04") + " UTC" }
