package orders

import (
	"os"
	"slices"
	"strings"
	"testing"
)

func TestEveryStatusOfThePictureIsReachable(t *testing.T) {
	t.Parallel()
	arrows := map[string][]string{}
	drawn := map[string]bool{}
	for line := range strings.Lines(Mermaid()) {
		arrow, _, _ := strings.Cut(strings.TrimSpace(line), ":")
		from, to, ok := strings.Cut(arrow, " --> ")
		if !ok {
			continue
		}
		arrows[from] = append(arrows[from], to)
		drawn[from], drawn[to] = true, true
	}
	reached := map[string]bool{"[*]": true}
	for open := []string{"[*]"}; len(open) > 0; open = open[1:] {
		for _, to := range arrows[open[0]] {
			if !reached[to] {
				reached[to] = true
				open = append(open, to)
			}
		}
	}
	for _, s := range append([]Status{Unplaced}, statuses...) {
		if !drawn[node(s)] {
			t.Errorf("status %q is not in the picture:\n%s", s, Mermaid())
		}
	}
	for s := range drawn {
		if !reached[s] {
			t.Errorf("status %s can't be reached in the picture:\n%s", s, Mermaid())
		}
	}
}

func TestMermaid(t *testing.T) {
	t.Parallel()
	lines := strings.Split(Mermaid(), "\n")
	for _, want := range []string{
		"    [*] --> placed: place",
		"    placed --> authorizing: stock_reserved",
		"    placed --> compensating: reservation_expired (to end expired), cancel (to end cancelled)",
		"    compensating --> cancelled: stock_released, payment_voided",
		"    refunding --> needs_attention: refund_failed",
		"    needs_attention --> refunding: operator_cancel",
		"    cancelled --> [*]",
		"        placed, authorizing, confirmed, fulfilling",
	} {
		if !slices.Contains(lines, want) {
			t.Errorf("the picture lacks %q:\n%s", want, Mermaid())
		}
	}
}

func TestNext(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		of   Order
		want []Status
	}{
		{"a placed order", orderIn(Placed), []Status{Authorizing, Rejected, Compensating}},
		{"a placed order of which a part may do", orderIn(Placed, partial), []Status{Authorizing, AwaitingCustomer, Rejected, Compensating}},
		{"an order that was asked about four times", orderIn(Placed, asked(4)), []Status{Authorizing, Rejected, Compensating, NeedsAttention}},
		{"an order of which a part is there", orderIn(AwaitingCustomer), []Status{Authorizing, Compensating}},
		{"an order that pays", orderIn(Authorizing), []Status{Confirmed, PaymentFailed, Compensating}},
		{"an order that pays for the third time", orderIn(Authorizing, declined(2)), []Status{Confirmed, Compensating}},
		{"an order that pays for what is packed", orderIn(Authorizing, boxed), []Status{Capturing, PaymentFailed, Compensating}},
		{"an order being cancelled", orderIn(Compensating), []Status{Cancelled, NeedsAttention}},
		{"an order being rejected", orderIn(Compensating, undoing(Rejected, true, true)), []Status{Rejected, NeedsAttention}},
		{"a delivered order", orderIn(Delivered), []Status{Refunding, Completed}},
		{"a delivered order with a return under way", orderIn(Delivered, returning), []Status{Refunding}},
		{"an order that is refunded in part", orderIn(Refunding), []Status{Delivered, NeedsAttention}},
		{"an order that is refunded as a whole", orderIn(Refunding, refundingAll), []Status{Refunded, NeedsAttention}},
		{"what needs attention, not paid", stuck(Capturing), []Status{Capturing, Compensating}},
		{"what needs attention, paid", stuck(Dispatching), []Status{Dispatching, Refunding}},
		{"a cancelled order", orderIn(Cancelled), []Status{}},
		{"a completed order", orderIn(Completed), []Status{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := Next(tt.of); got == nil || !slices.Equal(got, tt.want) {
				t.Errorf("next: got %#v, want %v", got, tt.want)
			}
		})
	}
}

func TestTheReadmeShowsThePicture(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	if want := "```mermaid\n" + strings.TrimSpace(Mermaid()) + "\n```"; !strings.Contains(string(readme), want) {
		t.Errorf("README.md doesn't show the picture of the transition table, which is:\n%s", want)
	}
}
