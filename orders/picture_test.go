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
	for _, s := range statuses {
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
		"    cancelled --> [*]",
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
		{"an order that pays", orderIn(Authorizing), []Status{Confirmed, Compensating, PaymentFailed}},
		{"an order being cancelled", orderIn(Compensating), []Status{Cancelled}},
		{"an order being rejected", orderIn(Compensating, undoing(Rejected, true, true)), []Status{Rejected}},
		{"a delivered order", orderIn(Delivered), []Status{}},
		{"a cancelled order", orderIn(Cancelled), []Status{}},
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
