package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"
)

// withDatabase are the services that log in to the database.
var withDatabase = services[:len(services)-1]

func drawService(r *rand.Rand) ([]string, string) { return []string{oneOf(r, services...)}, "" }

func drawWithDatabase(r *rand.Rand) ([]string, string) {
	return []string{oneOf(r, withDatabase...)}, ""
}

// processFaults are those of processes and of links between them.
func processFaults() []faultKind {
	return []faultKind{
		{name: "kill", least: 100 * time.Millisecond, most: time.Second, draw: drawService, strike: (*chaos).strikeKill},
		{name: "kill several", least: 100 * time.Millisecond, most: time.Second, strike: (*chaos).strikeKill,
			draw: func(r *rand.Rand) ([]string, string) {
				return someOf(r, oneOf(r, 2, 2, 3, len(services)), services...), ""
			}},
		{name: "terminate", least: 0, most: 500 * time.Millisecond, draw: drawService, strike: (*chaos).strikeTerminate},
		{name: "pause", least: 10500 * time.Millisecond, most: 12 * time.Second, draw: drawService, strike: (*chaos).strikePause}, // a lease is 10 s
		{name: "handler slow", least: 2 * time.Second, most: 5 * time.Second, strike: (*chaos).strikeSlowHandler,
			draw: func(r *rand.Rand) ([]string, string) {
				kind := oneOf(r, "inventory/inventory.reserve_stock", "orders/inventory.stock_reserved", "orders/payments.payment_captured", "payments/payments.capture_payment", "notifications/orders.order_placed")
				service, kind, _ := strings.Cut(kind, "/")
				return []string{service}, kind
			}},
		{name: "database cut", least: 300 * time.Millisecond, most: 4 * time.Second, draw: drawWithDatabase,
			strike: func(c *chaos, ctx context.Context, f fault) (wound, error) {
				return cutLink(ctx, c.database[f.Whom[0]])
			}},
		{name: "database slow", least: time.Second, most: 5 * time.Second,
			draw: func(r *rand.Rand) ([]string, string) {
				whom, _ := drawWithDatabase(r)
				return whom, oneOf(r, "20ms", "50ms", "200ms")
			},
			strike: func(c *chaos, _ context.Context, f fault) (wound, error) {
				return slowLink(c.database[f.Whom[0]], f.How)
			}},
		{name: "database cut in COMMIT", least: 200 * time.Millisecond, most: 2 * time.Second, strike: (*chaos).strikeCommits,
			draw: func(r *rand.Rand) ([]string, string) {
				return []string{oneOf(r, "inventory", "orders", "payments", "notifications")}, oneOf(r, "before", "after")
			}},
		{name: "provider cut", least: 500 * time.Millisecond, most: 5 * time.Second,
			draw:   func(*rand.Rand) ([]string, string) { return []string{"payments"}, "" },
			strike: func(c *chaos, ctx context.Context, _ fault) (wound, error) { return cutLink(ctx, c.provider) }},
		{name: "provider slow", least: time.Second, most: 5 * time.Second,
			draw: func(r *rand.Rand) ([]string, string) {
				return []string{"payments"}, oneOf(r, "100ms", "400ms", "900ms")
			},
			strike: func(c *chaos, _ context.Context, f fault) (wound, error) { return slowLink(c.provider, f.How) }},
		misconduct("provider fails", "error_before", "error_after", "error_stored", "error_stored_after", "reset", "down"),
		misconduct("provider hangs", "timeout_before", "timeout_after", "slow"),
		misconduct("provider busy", "too_many"),
		misconduct("provider forgetful", "late", "forgotten"),
		{name: "webhooks", least: time.Second, most: 5 * time.Second, strike: (*chaos).strikeConduct,
			draw: func(r *rand.Rand) ([]string, string) {
				return []string{"paysim"}, fmt.Sprintf("webhook %s %d", oneOf(r, "doubled", "delayed", "shuffled", "lost"), 5+r.IntN(30))
			}},
	}
}

// misconduct is a provider's bad conduct in some requests.
func misconduct(name string, misdeeds ...string) faultKind {
	return faultKind{name: name, least: 2 * time.Second, most: 6 * time.Second, strike: (*chaos).strikeConduct,
		draw: func(r *rand.Rand) ([]string, string) {
			operations := oneOf(r, "authorize", "capture", "authorize,void", "capture,void,refund")
			return []string{"paysim"}, fmt.Sprintf("%s %s %d", operations, oneOf(r, misdeeds...), 1+r.IntN(8))
		}}
}
