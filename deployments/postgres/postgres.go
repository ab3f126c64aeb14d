package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strconv"
	"time"
)

// startLimit bounds Start and Restart, crash recovery of the server included.
const startLimit = 30 * time.Second

// Modes of Restart.
const (
	Fast      = "fast"      // open transactions are rolled back, a checkpoint is written
	Immediate = "immediate" // no checkpoint: the next start recovers as after a crash
)

// ErrNotPrivate comes from Restart for a server that this package didn't start.
var ErrNotPrivate = errors.New("the server behind DATABASE_URL is not ours to restart")

// Config says which PostgreSQL to use. Its zero value is the private cluster
// kept in the user's cache.
type Config struct {
	// URL is the DATABASE_URL of an administrator. When set, that server is
	// used, nothing is started and the other fields but Log mean nothing.
	URL string

	// Data is the directory that keeps the cluster between runs, with its
	// password and its log; "" means orderflow/postgres in the user's cache, as
	// root /var/cache/orderflow/postgres.
	Data string

	// Fresh empties Data first.
	Fresh bool

	// Temp puts the cluster into a temporary directory instead of Data. It is
	// removed by Stop, and also when the process dies without calling it.
	Temp bool

	// Settings are further server settings, stronger than our own, such as
	// {"max_connections": "50"}.
	Settings map[string]string

	// Log gets what the server does that nobody asked for; nil means nowhere.
	Log *slog.Logger

	cache string   // of templates; "" = beside the default Data
	bins  []string // directories to look for binaries in; nil = those of the machine
}

// Server is a running PostgreSQL, ready for connections.
type Server struct {
	url     string // of the administrator, over TCP when private
	version string
	source  string
	private *cluster // nil when the server isn't ours
}

// Start finds or starts the server and returns it when it takes connections.
// It fails when no PostgreSQL of version 14 or later can be found, when another
// program has the data directory, when the settings aren't durable, when ctx
// ends, and after 30 s; nothing is left running then. End it with Stop.
func Start(ctx context.Context, cfg Config) (*Server, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, startLimit, fmt.Errorf("PostgreSQL not ready after %s", startLimit))
	defer cancel()
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.URL != "" {
		return attach(ctx, cfg)
	}
	return startPrivate(ctx, cfg)
}

func startPrivate(ctx context.Context, cfg Config) (*Server, error) {
	c, err := newCluster(ctx, cfg)
	if err != nil {
		return nil, err
	}
	if err := c.start(ctx); err != nil {
		// The reason to give up may be ctx itself; the clean-up has its own time.
		stopCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		return nil, errors.Join(err, c.stop(stopCtx))
	}
	kept := "data in " + c.home
	if cfg.Temp {
		kept = "temporary data"
	}
	s := &Server{
		version: c.bin.version.String(),
		source:  fmt.Sprintf("private PostgreSQL %s (%s), %s", c.bin.version, c.bin.dir, kept),
		private: c,
	}
	s.url = (&url.URL{
		Scheme:   "postgres",
		User:     url.UserPassword(superuser, c.password),
		Host:     "127.0.0.1:" + strconv.Itoa(c.port),
		Path:     "/" + superuser,
		RawQuery: "sslmode=disable",
	}).String()
	return s, nil
}

// URL is the administrator's way in as psql takes it, with the password: TCP on
// 127.0.0.1 when the server is private, else Config.URL.
func (s *Server) URL() string { return s.url }

// DSN is the quickest way in for role: the unix socket of a private server,
// where the password isn't needed, or Config.URL with role, password and
// database put in. Role "" means the administrator, with its own password;
// database "" means the one that URL names.
func (s *Server) DSN(role, password, database string) string {
	if s.private == nil {
		return withLogin(s.url, role, password, database)
	}
	if role == "" {
		role = superuser
	}
	if database == "" {
		database = superuser
	}
	return s.private.socketDSN(role, database)
}

// Source says in one line which PostgreSQL was taken and where it keeps its
// data, without a password.
func (s *Server) Source() string { return s.source }

// Version is the server's version, such as "15.18".
func (s *Server) Version() string { return s.version }

// PID is the process id of a private server, else 0. Restart changes it.
func (s *Server) PID() int {
	if s.private == nil {
		return 0
	}
	return s.private.pid()
}

// Stop shuts a private server down (open transactions are rolled back), waits
// until it is gone and removes its sockets and, with Config.Temp, its data. When
// ctx ends first, the server is made to quit without a checkpoint. A second call
// does nothing, and so does Stop of a server that isn't ours.
func (s *Server) Stop(ctx context.Context) error {
	if s.private == nil {
		return nil
	}
	return s.private.stop(ctx)
}

// Restart stops a private server in the given mode, Fast or Immediate, and
// starts it again with the same data, port and socket; it returns when
// connections are taken again. A server that died by itself is just started.
// It returns ErrNotPrivate for a server that isn't ours.
func (s *Server) Restart(ctx context.Context, mode string) error {
	if s.private == nil {
		return ErrNotPrivate
	}
	if mode != Fast && mode != Immediate {
		return fmt.Errorf("restart PostgreSQL: no mode %q, only %q and %q", mode, Fast, Immediate)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, startLimit, fmt.Errorf("PostgreSQL not back after %s", startLimit))
	defer cancel()
	return s.private.restart(ctx, mode)
}
