package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/user"
	"strings"
	"text/tabwriter"
	"unicode"

	"github.com/jmoiron/sqlx"

	"example.com/orderflow/messaging"
)

// streams are where a command reads and prints.
type streams struct {
	in       io.Reader
	out, err io.Writer
}

// json prints v.
func (s streams) json(v any) error {
	e := json.NewEncoder(s.out)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// table prints rows of cells, separated by tabs, under a heading.
func (s streams) table(heading string, rows func(w io.Writer)) error {
	w := tabwriter.NewWriter(s.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, heading)
	rows(w)
	return w.Flush()
}

// operator is embedded by commands whose doings are recorded.
type operator struct {
	database
	Actor string `env:"SHOPCTL_ACTOR" placeholder:"NAME" help:"Under which name it is recorded (default: who is logged in)."`
}

// act opens the database and hands f the hand of whoever is logged in.
func (o operator) act(f func(*messaging.Operator) error) error {
	return o.use(func(db *sqlx.DB) error {
		return f(messaging.NewOperator(db, cmp.Or(o.Actor, loggedIn())))
	})
}

// loggedIn is the name of the system's user, who has a number at least.
func loggedIn() string {
	if u, err := user.Current(); err == nil && u.Username != "" {
		return u.Username
	}
	return fmt.Sprintf("uid %d", os.Getuid())
}

// plain makes what came from elsewhere fit for a line of a terminal: it may hold
// anything, and would else move the cursor or forge a line.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, s)
}
