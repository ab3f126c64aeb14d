package postgres

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
)

// attach uses the server behind DATABASE_URL.
func attach(ctx context.Context, cfg Config) (*Server, error) {
	conf, err := pgx.ParseConfig(cfg.URL)
	if err != nil {
		return nil, fmt.Errorf("DATABASE_URL: %w", err) // pgx leaves the password out
	}
	at := conf.Host
	if !strings.HasPrefix(at, "/") {
		at = net.JoinHostPort(conf.Host, strconv.Itoa(int(conf.Port)))
	}
	conn, err := pgx.ConnectConfig(ctx, conf)
	if err != nil {
		return nil, fmt.Errorf("DATABASE_URL: %w", err)
	}
	v, err := checkServer(ctx, conn)
	if err = errors.Join(err, conn.Close(ctx)); err != nil {
		return nil, fmt.Errorf("DATABASE_URL (%s): %w", at, err)
	}
	return &Server{
		url:     cfg.URL,
		version: v.String(),
		source:  fmt.Sprintf("PostgreSQL %s of DATABASE_URL, at %s, database %s", v, at, conf.Database),
	}, nil
}

// withLogin puts role, password and database, where not "", into dsn, which is
// a URL or has the form "host=... user=...". A role never gets the
// administrator's password.
func withLogin(dsn, role, password, database string) string {
	u, err := url.Parse(dsn)
	if err != nil || (u.Scheme != "postgres" && u.Scheme != "postgresql") {
		var b strings.Builder
		b.WriteString(dsn)
		add := func(key, value string) { // the last one of a key counts
			fmt.Fprintf(&b, " %s='%s'", key, strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(value))
		}
		if role != "" {
			add("user", role)
			add("password", password)
		}
		if database != "" {
			add("dbname", database)
		}
		return b.String()
	}
	q := u.Query()
	if role != "" {
		q.Del("user")
		q.Del("password")
		u.User = url.UserPassword(role, password)
	}
	if database != "" {
		q.Del("dbname")
		q.Del("database")
		u.Path, u.RawPath = "/"+database, ""
	}
	u.RawQuery = q.Encode()
	return u.String()
}
