package postgres

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"time"
)

// startLimit bounds a start and a restart, crash recovery of the server
// included; fetchLimit is what may come before.
const startLimit = time.Minute

// Config says which PostgreSQL to use. Its zero value is a server of our own
// whose data are kept in the user's cache, or in a volume of Docker.
type Config struct {
	// URL is the DATABASE_URL of an administrator. When set, that server is
	// used, nothing is started and the other fields mean nothing.
	URL string

	// Data is the directory that keeps the data between runs, with the
	// administrator's password and the server's log; "" means orderflow/postgres
	// in the user's cache, as root /var/cache/orderflow/postgres. A container's
	// data are in it only when it is set here, else in a volume of Docker, which
	// its file "volume" names.
	Data string

	// Fresh throws the data away first.
	Fresh bool

	// Temp keeps the data in a temporary directory or volume instead of Data. It
	// is removed by Stop, and also when the process dies without calling it.
	Temp bool

	// TempDir is where that directory is made, and the one of the socket; "" means
	// os.TempDir. Where the server's account may not go, /tmp is taken.
	TempDir string

	// Settings are further server settings, stronger than our own, such as
	// {"max_connections": "50"}.
	Settings map[string]string

	// LogFile is where a server that needs no container logs, such as a file on
	// another disk than the data's; "" means server.log beside the data.
	LogFile string

	// Log gets what the server does that nobody asked for, as a template that is
	// made anew or a server that died; nil means nowhere.
	Log *slog.Logger

	// Progress gets a line now and then while an image or binaries are fetched,
	// which happens once on a machine; nil means standard error.
	Progress io.Writer

	cache     string   // of templates and downloads; "" = beside the default Data
	bins      []string // directories to look for binaries in; nil = those of the machine
	image     string   // of a container; "" = what the environment says
	dockerEnv []string // further environment of Docker's client
	release   *release // to download; nil = ours
}

// Server is a running PostgreSQL, ready for connections.
type Server struct {
	url     string // of the administrator, over TCP when the server is ours
	version string
	source  string
	own     owned // nil when the server isn't ours
}

// Start finds or starts the server and returns it when it takes connections.
// It fails when no PostgreSQL of version 14 or later can be had (ErrNoBinaries),
// when another program has the data directory, when the settings aren't durable,
// when ctx ends, and after a minute, to which up to 10 minutes are added on a machine
// where an image or binaries are to be fetched first; nothing is left running
// then. End it with Stop.
func Start(ctx context.Context, cfg Config) (*Server, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.URL != "" {
		ctx, cancel := context.WithTimeoutCause(ctx, startLimit, fmt.Errorf("PostgreSQL not ready after %s", startLimit))
		defer cancel()
		return attach(ctx, cfg)
	}
	return startOwn(ctx, cfg)
}

// URL is the administrator's way in as psql takes it, with the password: TCP on
// 127.0.0.1 when the server is ours, else Config.URL.
func (s *Server) URL() string { return s.url }

// DSN is the quickest way in for role: the unix socket of a private cluster,
// where the password isn't needed, or URL with role, password and database put
// in. Role "" means the administrator, with its own password;
// database "" means the one that URL names.
func (s *Server) DSN(role, password, database string) string {
	if s.own == nil {
		return withLogin(s.url, role, password, database)
	}
	return s.own.dsn(role, password, database)
}

// Source says in one line which PostgreSQL was taken, why, and where it keeps
// its data, without a password.
func (s *Server) Source() string { return s.source }

// Version is the server's version, such as "15.18".
func (s *Server) Version() string { return s.version }

// PID is the process id of a private cluster's server, else 0: a container's
// process may be in another machine, virtual as it is. Restart changes it.
func (s *Server) PID() int {
	if s.own == nil {
		return 0
	}
	return s.own.pid()
}

// Stop shuts a server of ours down (open transactions are rolled back), waits
// until it is gone and removes its sockets or container and, with Config.Temp,
// its data. When ctx ends first, the server is made to quit without a
// checkpoint. A second call does nothing, and so does Stop of a server that isn't
// ours.
func (s *Server) Stop(ctx context.Context) error {
	if s.own == nil {
		return nil
	}
	return s.own.stop(ctx)
}
