package payments

import (
	"net/http"
	"slices"
	"strings"

	"github.com/stripe/stripe-go/v85"
)

// Stripe counts in the minor units of ISO 4217 but for these currencies
// (docs.stripe.com/currencies): amounts of króna and shilling, which have no minor
// unit, are written with two zeros; those of ariary without its minor unit.
var (
	stripeHundredfold = []string{"ISK", "UGX"}
	stripeHundredth   = []string{"MGA"}
)

// stripeAmount is minor, in minor units of currency, as Stripe counts. What it can't
// express it refuses, as Stripe would.
func stripeAmount(minor int64, currency string) (int64, error) {
	switch {
	case slices.Contains(stripeHundredfold, currency):
		return minor * 100, nil
	case !slices.Contains(stripeHundredth, currency):
		return minor, nil
	case minor%100 != 0:
		return 0, &RefusedError{Status: http.StatusBadRequest, Code: "amount_invalid"}
	}
	return minor / 100, nil
}

// minorAmount is what stripeAmount makes amount of, backwards.
func minorAmount(amount int64, currency stripe.Currency) int64 {
	switch c := strings.ToUpper(string(currency)); {
	case slices.Contains(stripeHundredfold, c):
		return amount / 100
	case slices.Contains(stripeHundredth, c):
		return amount * 100
	}
	return amount
}
