package payments

import "fmt"

// StripeConfig is what is needed to be paid through Stripe.
type StripeConfig struct {
	// APIKey is a secret or restricted key: "sk_…" or "rk_…".
	APIKey string `env:"STRIPE_API_KEY,unset"`
	// APIURL is where Stripe is; another one is for tests.
	APIURL string `env:"STRIPE_API_URL" envDefault:"https://api.stripe.com" validate:"omitempty,http_url"`
	// WebhookSecret is that of the webhook endpoint, as Stripe shows it: "whsec_…".
	WebhookSecret string `env:"STRIPE_WEBHOOK_SECRET,unset"`
}

// gateway returns the Gateway to the provider that c names. It returns an error when
// something that it needs isn't there or is malformed; it doesn't touch the network.
func (c Config) gateway() (Gateway, error) {
	switch c.Provider {
	case "", "paysim":
		return NewSimulator(c.ProviderURL, c.ProviderKey, c.ProviderWebhookSecret, c.ProviderTimeout)
	case "stripe":
		return NewStripe(c.Stripe.APIURL, c.Stripe.APIKey, c.Stripe.WebhookSecret, c.ProviderTimeout)
	}
	return nil, fmt.Errorf("no payment provider is named %q", c.Provider)
}
