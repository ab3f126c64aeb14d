package notifications

import (
	"html"
	"regexp"
	"strings"
	"testing"
	"time"

	"example.com/orderflow/messaging"
	"example.com/orderflow/messaging/contracts"
)

// events has one of every kind that customers are told of.
func events() []messaging.Body {
	return []messaging.Body{
		contracts.OrderPlaced{OrderID: orderID, Customer: ada, TotalMinor: 1_234_567, Currency: "EUR", Lines: []contracts.PricedLine{
			{SKU: "MUG-01", Name: "Mug", Quantity: 2, UnitPriceMinor: 1490}, {SKU: "TEA-01", Name: "Tea", Quantity: 1, UnitPriceMinor: 890},
		}},
		contracts.OrderConfirmed{OrderID: orderID, Customer: ada, TotalMinor: 3870, Currency: "EUR"},
		contracts.OrderActionRequired{OrderID: orderID, Customer: ada, Action: "payment_method", ReasonCode: "card_declined",
			Options: []string{"retry"}, DecideUntil: time.Date(2026, 3, 1, 23, 5, 0, 0, time.FixedZone("", 3600))},
		contracts.OrderAmended{OrderID: orderID, Customer: ada, TotalMinor: 1490, Currency: "EUR", ReasonCode: "short_pick", Lines: []contracts.PricedLine{
			{SKU: "MUG-01", Name: "Mug <i>", Quantity: 1, UnitPriceMinor: 1490},
		}},
		contracts.OrderShipped{OrderID: orderID, Customer: ada, Tracking: "OF0123456789AB"},
		contracts.OrderDelivered{OrderID: orderID, Customer: ada},
		contracts.OrderCompleted{OrderID: orderID, Customer: ada},
		contracts.OrderCancelled{OrderID: orderID, Customer: ada, ReasonCode: "customer_cancelled"},
		contracts.CancelRefused{OrderID: orderID, Customer: ada, ReasonCode: "packed_already"},
		contracts.OrderRejected{OrderID: orderID, Customer: ada, ReasonCode: "out_of_stock"},
		contracts.OrderExpired{OrderID: orderID, Customer: ada, ReasonCode: "reservation_expired"},
		contracts.OrderRefunded{OrderID: orderID, Customer: ada, AmountMinor: 990, Currency: "EUR", Full: true, ReasonCode: "not_sent_back"},
	}
}

func TestTextsSayWhatTheEventSays(t *testing.T) {
	t.Parallel()
	texts, err := parseTexts(notified())
	if err != nil {
		t.Fatalf("parse texts: %v", err)
	}
	want := map[string][]string{
		contracts.KindOrderPlaced:         {"We have your order", "2 x Mug at €14.90", "1 x Tea at €8.90", "Total €12,345.67"},
		contracts.KindOrderConfirmed:      {"Your order is confirmed", "€38.70"},
		contracts.KindOrderActionRequired: {"Your order needs you", "card declined", "another way of paying", "1 March 2026, 22:05 UTC"},
		contracts.KindOrderAmended:        {"Your order has changed", "short pick", "1 x Mug <i> at €14.90", "Total €14.90"},
		contracts.KindOrderShipped:        {"Your order is on its way", "OF0123456789AB"},
		contracts.KindOrderDelivered:      {"Your order was delivered"},
		contracts.KindOrderCompleted:      {"Your order is complete", "time to return"},
		contracts.KindOrderCancelled:      {"Your order was cancelled", "customer cancelled", "Nothing was charged"},
		contracts.KindCancelRefused:       {"Your order could not be cancelled", "packed already"},
		contracts.KindOrderRejected:       {"We can't fulfil your order", "out of stock"},
		contracts.KindOrderExpired:        {"Your order has expired", "reservation expired"},
		contracts.KindOrderRefunded:       {"Your money is on its way back", "€9.90", "not sent back", "all that you paid"},
	}
	for _, e := range events() {
		t.Run(e.Kind(), func(t *testing.T) {
			t.Parallel()
			subject, body, err := texts.compose(e)
			if err != nil {
				t.Fatalf("compose: %v", err)
			}
			page, err := texts.page(e)
			if err != nil {
				t.Fatalf("page: %v", err)
			}
			if got := want[e.Kind()][0]; subject != got {
				t.Errorf("subject %q, want %q", subject, got)
			}
			if strings.Contains(body, "<no value>") || strings.HasPrefix(body, "\n") || strings.Contains(page, "<no value>") {
				t.Errorf("text or page is out of form:\n%s\n%s", body, page)
			}
			// A name is text, whatever it looks like.
			lines := strings.Join(strings.Fields(body), " ")
			for _, part := range append(want[e.Kind()][1:], orderID, "Hello Ada <b>Lovelace</b> {{7*7}},") {
				if !strings.Contains(lines, part) {
					t.Errorf("body lacks %q:\n%s", part, body)
				}
			}
			// The page says the same to a browser, and has no tag that a customer made up.
			if strings.Contains(page, "<b>Lovelace") || strings.Contains(page, "<i>") {
				t.Errorf("a name is a tag in the page:\n%s", page)
			}
			said := strings.Join(strings.Fields(html.UnescapeString(regexp.MustCompile(`</?(p|b|td|tr|ul|li|table)( [^>]*)?>`).ReplaceAllString(page, " "))), " ")
			for _, part := range append(want[e.Kind()][1:], orderID, "Hello Ada <b>Lovelace</b> {{7*7}},") {
				part = strings.ReplaceAll(strings.ReplaceAll(part, " x ", " × "), " at ", " ")
				if !strings.Contains(said, part) {
					t.Errorf("page lacks %q:\n%s", part, page)
				}
			}
		})
	}
	if got, want := len(events()), len(notified()); got != want {
		t.Errorf("%d events tried, want %d", got, want)
	}
}

func TestAPartThatIsThereIsListed(t *testing.T) {
	t.Parallel()
	texts, err := parseTexts(notified())
	if err != nil {
		t.Fatalf("parse texts: %v", err)
	}
	e := contracts.OrderActionRequired{OrderID: orderID, Customer: ada, Action: "stock_decision", ReasonCode: "partly_out_of_stock", Options: []string{"accept", "cancel"},
		DecideUntil: time.Date(2026, 3, 1, 22, 5, 0, 0, time.UTC), Lines: []contracts.PricedLine{{SKU: "MUG-01", Name: "Mug & <i>saucer", Quantity: 2, UnitPriceMinor: 1490}}}
	_, body, err := texts.compose(e)
	if err != nil || !strings.Contains(body, "  2 x Mug & <i>saucer\n\nPlease accept this part, or cancel") || strings.Contains(body, "another way of paying") {
		t.Errorf("got %v and\n%s", err, body)
	}
	page, err := texts.page(e)
	if err != nil || !strings.Contains(page, "<li>2 × Mug &amp; &lt;i&gt;saucer</li>") {
		t.Errorf("got %v and\n%s", err, page)
	}
}

func TestMissingTextIsFoundAtStart(t *testing.T) {
	t.Parallel()
	if _, err := parseTexts([]string{"orders.order_eaten"}); err == nil {
		t.Error("a kind without a text is taken")
	}
}

func TestMoneyIsShownInItsCurrency(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		minor    int64
		currency string
		want     string
	}{
		{1490, "EUR", "€14.90"},
		{5, "EUR", "€0.05"},
		{1_000_000_000_000, "USD", "$10,000,000,000.00"},
		{500, "JPY", "¥500"},
	} {
		if got := formatMoney(tt.minor, tt.currency); got != tt.want {
			t.Errorf("%d %s is shown as %s, want %s", tt.minor, tt.currency, got, tt.want)
		}
	}
}
