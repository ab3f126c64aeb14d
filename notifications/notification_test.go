package notifications

import (
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
		contracts.OrderShipped{OrderID: orderID, Customer: ada, Tracking: "OF0123456789AB"},
		contracts.OrderDelivered{OrderID: orderID, Customer: ada},
		contracts.OrderCancelled{OrderID: orderID, Customer: ada, ReasonCode: "customer_cancelled"},
		contracts.OrderRejected{OrderID: orderID, Customer: ada, ReasonCode: "out_of_stock"},
		contracts.OrderExpired{OrderID: orderID, Customer: ada, ReasonCode: "reservation_expired"},
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
		contracts.KindOrderShipped:        {"Your order is on its way", "OF0123456789AB"},
		contracts.KindOrderDelivered:      {"Your order was delivered"},
		contracts.KindOrderCancelled:      {"Your order was cancelled", "customer cancelled", "Nothing was\ncharged"},
		contracts.KindOrderRejected:       {"We can't fulfil your order", "out of stock"},
		contracts.KindOrderExpired:        {"Your order has expired", "reservation expired"},
	}
	for _, e := range events() {
		t.Run(e.Kind(), func(t *testing.T) {
			t.Parallel()
			subject, body, err := texts.compose(e)
			if err != nil {
				t.Fatalf("compose: %v", err)
			}
			if got := want[e.Kind()][0]; subject != got {
				t.Errorf("subject %q, want %q", subject, got)
			}
			// A name is text, whatever it looks like.
			for _, part := range append(want[e.Kind()][1:], orderID, "Hello Ada <b>Lovelace</b> {{7*7}},") {
				if !strings.Contains(body, part) {
					t.Errorf("body lacks %q:\n%s", part, body)
				}
			}
			if strings.Contains(body, "<no value>") || strings.HasPrefix(body, "\n") {
				t.Errorf("body is out of form:\n%s", body)
			}
		})
	}
	if got, want := len(events()), len(notified()); got != want {
		t.Errorf("%d events tried, want %d", got, want)
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
