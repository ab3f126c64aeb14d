package notifications

import (
	"bytes"
	"embed"
	"fmt"
	"strings"
	"text/template"
	"time"

	"github.com/Rhymond/go-money"

	"example.com/orderflow/messaging"
)

// channelInbox is the customer's message box in the shop.
const channelInbox = "inbox"

// Notification is what a customer was told, by one channel, about one event.
type Notification struct {
	ID         string    `json:"id" db:"id"` // UUID v7
	MessageID  string    `json:"-" db:"message_id"`
	Channel    string    `json:"channel" db:"channel"`
	OrderID    string    `json:"order_id" db:"order_id"` // UUID
	CustomerID string    `json:"-" db:"customer_id"`
	Kind       string    `json:"kind" db:"kind"` // of the event
	Subject    string    `json:"subject" db:"subject"`
	Body       string    `json:"body" db:"body"`
	OccurredAt time.Time `json:"occurred_at" db:"occurred_at"` // when the event did, UTC
}

//go:embed templates/*.txt
var templateFiles embed.FS

// texts makes the texts of notifications: one template per kind, templates/X.txt
// for "orders.X", whose first paragraph is the subject.
type texts struct{ set *template.Template }

// parseTexts reads the templates. It fails when one of kinds has none.
func parseTexts(kinds []string) (texts, error) {
	set, err := template.New("").Option("missingkey=error").Funcs(template.FuncMap{
		"money":  formatMoney,
		"words":  words,
		"moment": moment,
	}).ParseFS(templateFiles, "templates/*.txt")
	if err != nil {
		return texts{}, fmt.Errorf("parse the texts of notifications: %w", err)
	}
	for _, k := range kinds {
		if set.Lookup(templateName(k)) == nil {
			return texts{}, fmt.Errorf("no text for %s: templates/%s is missing", k, templateName(k))
		}
	}
	return texts{set: set}, nil
}

func templateName(kind string) string {
	_, name, _ := strings.Cut(kind, ".")
	return name + ".txt"
}

// compose returns subject and body of what is said about event.
func (t texts) compose(event messaging.Body) (subject, body string, err error) {
	var text bytes.Buffer
	if err := t.set.ExecuteTemplate(&text, templateName(event.Kind()), event); err != nil {
		return "", "", fmt.Errorf("compose the text of %s for order %s: %w", event.Kind(), event.Order(), err)
	}
	subject, body, _ = strings.Cut(text.String(), "\n\n")
	return subject, body, nil
}

// formatMoney shows minor units the way their currency is written: €14.90.
func formatMoney(minor int64, currency string) string {
	return money.New(minor, currency).Display()
}

// words makes a reason code readable: "out_of_stock" is "out of stock".
func words(code string) string { return strings.ReplaceAll(code, "_", " ") }

// moment shows a time to the minute.
func moment(at time.Time) string { return at.UTC().Format("2 January 2006, 15:04") + " UTC" }
