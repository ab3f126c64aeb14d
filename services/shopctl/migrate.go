package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"

	"github.com/jmoiron/sqlx"

	"example.com/orderflow/messaging"
	"example.com/orderflow/services/internal/shop"
)

// migrateCommand brings the database up to date. It may run at any time, beside
// running services, and several at once.
type migrateCommand struct {
	database
}

// Help tells about the roles' passwords.
func (migrateCommand) Help() string {
	return `Each service logs in under its own role, orderflow_<service>. A role gets the
password in the environment variable <SERVICE>_DATABASE_PASSWORD
(ORDERS_DATABASE_PASSWORD, ...); without one it keeps what it has, and a new one
can log in only where the server asks for none.`
}

// Run migrates.
func (c migrateCommand) Run(ctx context.Context, log *slog.Logger) error {
	passwords := map[string]string{}
	for _, s := range shop.Specs() {
		passwords[s.Name] = os.Getenv(strings.ToUpper(s.Name) + "_DATABASE_PASSWORD")
	}
	return c.use(func(db *sqlx.DB) error {
		if err := messaging.Migrate(ctx, db, log, passwords, shop.Specs()...); err != nil {
			return err
		}
		for _, s := range shop.Specs() {
			fmt.Printf("%-14s role %-24s ready\n", s.Name, s.Role())
		}
		return nil
	})
}
