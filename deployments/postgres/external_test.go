package postgres

import (
	"errors"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

func TestDatabaseURLIsUsedAsItIs(t *testing.T) {
	t.Parallel()
	private := start(t, Config{Temp: true})
	execute(t, private.URL(), `CREATE ROLE clerk LOGIN PASSWORD 'it''s'`)
	execute(t, private.URL(), `CREATE DATABASE shop`)

	s, err := Start(t.Context(), Config{URL: private.URL(), Data: "/no/such/directory"})
	check(t, err)
	if s.URL() != private.URL() || s.PID() != 0 || s.Version() != private.Version() {
		t.Errorf("got URL %s, process %d, version %s; want those given, 0, %s", s.URL(), s.PID(), s.Version(), private.Version())
	}
	if !strings.Contains(s.Source(), "of DATABASE_URL, at 127.0.0.1:") || strings.Contains(s.Source(), clusterOf(private).password) {
		t.Errorf("got source %q, want it to name the host and no password", s.Source())
	}
	if got := query(t, s.DSN("clerk", "it's", "shop"), `SELECT session_user || '@' || current_database()`); got != "clerk@shop" {
		t.Errorf("got %s, want clerk@shop", got)
	}
	if got := query(t, s.DSN("", "", "shop"), `SELECT session_user || '@' || current_database()`); got != "postgres@shop" {
		t.Errorf("got %s, want postgres@shop", got)
	}
	_, logErr := s.Log(t.Context())
	for verb, err := range map[string]error{
		"restart": s.Restart(t.Context(), Fast), "halt": s.Halt(t.Context(), Killed), "relaunch": s.Relaunch(t.Context()),
		"freeze": s.Freeze(t.Context()), "thaw": s.Thaw(t.Context()), "kill a session": s.KillSession(t.Context(), 1), "log": logErr,
	} {
		if !errors.Is(err, ErrNotPrivate) {
			t.Errorf("%s: got error %v, want ErrNotPrivate", verb, err)
		}
	}
	check(t, s.Stop(t.Context()))
	if got := query(t, private.URL(), `SELECT 'well'`); got != "well" {
		t.Errorf("after Stop: got %q, want well", got)
	}

	_, err = Start(t.Context(), Config{URL: private.URL() + "&options=-c%20synchronous_commit%3Doff"})
	wantError(t, err, "DATABASE_URL (127.0.0.1:", "setting synchronous_commit is off")
}

func TestDatabaseURLErrorsKeepThePassword(t *testing.T) {
	t.Parallel()
	for name, in := range map[string]string{
		"no URL":    "postgres://admin:s3cret@host:port/db",
		"no server": "postgres://admin:s3cret@127.0.0.1:1/db",
	} {
		_, err := Start(t.Context(), Config{URL: in})
		wantError(t, err, "DATABASE_URL")
		if err != nil && strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: error %q gives the password away", name, err)
		}
	}
}

func TestWithLogin(t *testing.T) {
	t.Parallel()
	const words = "host=db.example port=5433 user=admin password=root dbname=main"
	for name, tt := range map[string]struct {
		dsn, role, password, database string
		want                          string // user:password@database
	}{
		"URL unchanged":                     {"postgres://admin:root@db.example:5433/main", "", "", "", "admin:root@main"},
		"role in a URL":                     {"postgres://admin:root@db.example:5433/main?sslmode=disable", "clerk", "p/w", "", "clerk:p/w@main"},
		"role without a password":           {"postgres://admin:root@db.example:5433/main", "clerk", "", "", "clerk:@main"},
		"database in a URL":                 {"postgresql://admin:root@db.example:5433/main", "", "", "a b", "admin:root@a b"},
		"login in the query":                {"postgres://db.example:5433/?user=admin&password=root&dbname=main", "clerk", "pw", "shop", "clerk:pw@shop"},
		"keywords unchanged":                {words, "", "", "", "admin:root@main"},
		"role and database among keywords":  {words, "clerk", `it's \`, "shop", `clerk:it's \@shop`},
		"keywords, role without a password": {words, "clerk", "", "", "clerk:@main"},
	} {
		conf, err := pgx.ParseConfig(withLogin(tt.dsn, tt.role, tt.password, tt.database))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := conf.User + ":" + conf.Password + "@" + conf.Database; got != tt.want {
			t.Errorf("%s: got %s, want %s", name, got, tt.want)
		}
		if conf.Host != "db.example" || conf.Port != 5433 {
			t.Errorf("%s: got server %s:%d, want db.example:5433", name, conf.Host, conf.Port)
		}
	}
}
