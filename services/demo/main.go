// Command demo runs the whole shop in one process: a private PostgreSQL, the
// four services, the payment provider, the console in front, a catcher of the
// shop's mails, and customers who place an order now and then. Each service has its own role, connections and
// listener, as if it ran by itself, and knows the others only by messages.
package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/alecthomas/kong"
	"github.com/caarlos0/env/v11"

	"example.com/orderflow/deployments/postgres"
	"example.com/orderflow/messaging"
	"example.com/orderflow/services/internal/boot"
	"example.com/orderflow/services/internal/client"
	"example.com/orderflow/services/internal/console"
	"example.com/orderflow/services/internal/shop"
)

// flags are what the demo can be told.
type flags struct {
	Addr        string  `default:"127.0.0.1:8080" help:"Where the shop is served; the next free port when it is taken."`
	Data        string  `placeholder:"DIR" type:"path" help:"Where the private PostgreSQL keeps its data (default: the user's cache)."`
	Fresh       bool    `help:"Begin with an empty database."`
	Mail        string  `default:"127.0.0.1:1025" help:"Where the shop's mails are caught, for /v1/mailbox; the next free port when it is taken."`
	Orders      float64 `default:"0.5" placeholder:"RATE" help:"Sample orders per second; 0 = none."`
	DatabaseURL string  `env:"DATABASE_URL" placeholder:"URL" help:"Use this PostgreSQL, as its administrator, and start none."`
}

// config is what the services in the demo can be told by the environment, each
// as its own program can.
type config struct {
	shop.Config
	Log boot.LogConfig
	// Slow is boot.Config's.
	Slow map[string]time.Duration `env:"FAULT_SLOW" envKeyValSeparator:"="`
}

func main() {
	started := time.Now()
	var f flags
	kong.Parse(&f, kong.Name("demo"), kong.Description("The whole shop in one process."))
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// What the services have to say goes to the terminal only when it matters.
	cfg := config{Log: boot.LogConfig{Level: slog.LevelWarn, Format: "text"}}
	err := env.ParseWithOptions(&cfg, env.Options{SetDefaultsForZeroValuesOnly: true})
	if err == nil {
		err = run(ctx, f, cfg, boot.NewLog(cfg.Log), started)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

// run runs everything until ctx ends.
func run(ctx context.Context, f flags, cfg config, log *slog.Logger, started time.Time) (err error) {
	boot.SpareCollector()
	server, err := postgres.Start(ctx, postgres.Config{URL: f.DatabaseURL, Data: f.Data, Fresh: f.Fresh, Log: log})
	if err != nil {
		return err
	}
	defer func() {
		stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		err = errors.Join(err, server.Stop(stopping))
		fmt.Println("stopped")
	}()
	fmt.Println(server.Source())
	passwords := map[string]string{}
	for _, s := range shop.Specs() {
		passwords[s.Name] = rand.Text()
	}
	if err := migrate(ctx, server, log, passwords); err != nil {
		return err
	}
	all, err := assemble(f, server, cfg, log, passwords)
	if err != nil {
		return err
	}
	// The shop goes before the customers, and PostgreSQL last.
	return all.run(ctx, func(ctx context.Context) error {
		return open(ctx, all.url, server, f, started)
	})
}

func migrate(ctx context.Context, server *postgres.Server, log *slog.Logger, passwords map[string]string) error {
	db, err := messaging.OpenDB(server.DSN("", "", ""), "demo", 4)
	if err != nil {
		return err
	}
	return errors.Join(messaging.Migrate(ctx, db, log, passwords, shop.Specs()...), db.Close())
}

// assembly is the shop before it is opened.
type assembly struct {
	url   string
	parts []func(context.Context) error
}

// assemble takes an address for every part and says to each where the others
// are that it speaks to: payments to the provider, notifications to the catcher of
// mails unless the environment knows a mail server, the console to all.
func assemble(f flags, server *postgres.Server, cfg config, log *slog.Logger, passwords map[string]string) (*assembly, error) {
	front, err := listenAt(f.Addr)
	if err != nil {
		return nil, err
	}
	if got := front.Addr().String(); got != f.Addr {
		fmt.Printf("%s is taken, serving on %s instead\n", f.Addr, got)
	}
	mails, err := listenAt(f.Mail)
	if err != nil {
		return nil, err
	}
	listeners := map[string]net.Listener{}
	urls := map[string]string{}
	for _, s := range shop.Specs() {
		l, err := listenAt("127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		listeners[s.Name], urls[s.Name] = l, "http://"+l.Addr().String()
	}
	cfg.Payments.ProviderURL = urls["paysim"]
	cfg.Payments.ProviderKey = rand.Text()
	cfg.Paysim.APIKey = cfg.Payments.ProviderKey
	cfg.Payments.ProviderWebhookSecret = "whsec_" + base64.StdEncoding.EncodeToString([]byte(rand.Text()))
	cfg.Paysim.WebhookSecret = cfg.Payments.ProviderWebhookSecret
	cfg.Paysim.WebhookURL = urls["payments"] + "/v1/provider-webhooks"
	if mail := &cfg.Notifications.Mail; mail.Host == "" {
		at := mails.Addr().(*net.TCPAddr)
		mail.Host, mail.Port, mail.TLS = at.IP.String(), at.Port, "none"
	}
	mailbox := console.NewMailbox()
	a := &assembly{url: "http://" + front.Addr().String()}
	a.parts = append(a.parts, func(ctx context.Context) error { return mailbox.Serve(ctx, mails, log) })
	for _, s := range shop.Services(cfg.Config) {
		name := s.Spec.Name
		settings := boot.Config{
			DatabaseURL: server.DSN(s.Spec.Role(), passwords[name], ""), Pool: 12, Consumers: 2, Slow: cfg.Slow, Listener: listeners[name],
		}
		a.parts = append(a.parts, func(ctx context.Context) error { return boot.Run(ctx, settings, s.Spec, log, s.Build) })
	}
	c, err := console.New(console.Config{
		OrdersURLs: []string{urls["orders"]}, PaymentsURLs: []string{urls["payments"]},
		InventoryURLs: []string{urls["inventory"]}, NotificationsURLs: []string{urls["notifications"]},
		Mailbox: mailbox,
	}, log)
	if err != nil {
		return nil, err
	}
	a.parts = append(a.parts, func(ctx context.Context) error {
		defer c.Close()
		return boot.Serve(ctx, front, c, 0)
	})
	return a, nil
}

// run runs all parts, and customers beside them, until ctx ends or one of them
// ends by itself; then all are ended.
func (a *assembly) run(ctx context.Context, customers func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	parts := append(a.parts, customers)
	ended := make(chan error, len(parts))
	for _, p := range parts {
		go func() { ended <- p(ctx) }()
	}
	var err error
	for range parts {
		err = errors.Join(err, <-ended)
		cancel()
	}
	return err
}

// listenAt takes addr, or the next free port after it.
func listenAt(addr string) (net.Listener, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("address %q: %w", addr, err)
	}
	first, err := net.LookupPort("tcp", port)
	if err != nil {
		return nil, fmt.Errorf("address %q: %w", addr, err)
	}
	for p := first; ; p++ {
		l, err := net.Listen("tcp", net.JoinHostPort(host, fmt.Sprint(p)))
		if err == nil {
			return l, nil
		}
		if !errors.Is(err, syscall.EADDRINUSE) || p == 65535 || p == first+100 {
			return nil, fmt.Errorf("serve on %s: %w", addr, err)
		}
	}
}

// open waits until the shop takes orders, says how to reach it, and lets the
// sample customers in.
func open(ctx context.Context, url string, server *postgres.Server, f flags, started time.Time) error {
	c := client.New(url, "")
	defer c.Close()
	ready, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := c.WaitReady(ready); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	fmt.Printf("\nThe shop is open after %.1f s: %s\n\nPlace an order and wait for its outcome:\n\n%s\n\nRead the shop's mails:\n\n  curl %s/v1/mailbox\n\nLook into the database:\n\n  psql %q\n\nEnd it with Ctrl-C.\n\n",
		time.Since(started).Seconds(), url, curl(url), url, server.URL())
	return trickle(ctx, url, f.Orders, started)
}

// curl is a command line that places an order; each time it is pasted it is a
// new one.
func curl(url string) string {
	return strings.Join([]string{
		`  curl -i ` + url + `/v1/orders -H 'Content-Type: application/json' \`,
		`    -H "Idempotency-Key: $(date +%s%N)" -H 'Prefer: wait=5' \`,
		`    -d '{"currency": "EUR", "lines": [{"sku": "MUG-01", "quantity": 2}], "payment_token": "tok_ok",`,
		`         "customer": {"name": "Ada", "email": "ada@example.com", "address": "1 Analytical Row"}}'`,
	}, "\n")
}
