package messaging_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"example.com/orderflow/messaging"
)

// While the path to the database is cut, a pool on which many wait asks for it as
// seldom as if it were one; each is told why, and all go on when it is mended.
func TestPoolIsNoStormWhileTheDatabaseIsAway(t *testing.T) {
	t.Parallel()
	p := cuttablePath(t, newDB(t).DSN("beta"))
	db, err := messaging.OpenDB(p.dsn, "test", 16)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	db.SetMaxIdleConns(0) // each question wants a connection of its own
	ask := func(ctx context.Context) error {
		_, err := db.ExecContext(ctx, `SELECT 1`)
		return err
	}
	if err := ask(t.Context()); err != nil {
		t.Fatalf("before: %v", err)
	}
	p.cut.Store(true)
	before := p.attempts.Load()
	const away = 600 * time.Millisecond
	var told atomic.Int64
	var all sync.WaitGroup
	begun := time.Now()
	for i := range 16 {
		all.Go(func() {
			for time.Since(begun) < away {
				limit := time.Minute
				if i == 0 {
					limit = 5 * time.Millisecond // its end is not the database's
				}
				ctx, cancel := context.WithTimeout(t.Context(), limit)
				err := ask(ctx)
				cancel()
				if err == nil {
					t.Error("an answer through a path that is cut")
				}
				if i > 0 && errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("who can wait was told of somebody else's limit: %v", err)
				}
				told.Add(1)
			}
		})
	}
	all.Wait()
	took := time.Since(begun)
	attempts := p.attempts.Load() - before
	t.Logf("%d questions in %s made %d attempts", told.Load(), took.Round(time.Millisecond), attempts)
	// Sixteen may have begun together, before the first had failed; and pgx calls once
	// more for each, to cancel what it had begun.
	if limit := 2 * (16 + int64(took/(50*time.Millisecond))); attempts > limit {
		t.Errorf("attempts to connect: got %d, want %d at most", attempts, limit)
	}
	if attempts < 3 {
		t.Errorf("attempts to connect: got %d, want some: else nobody would see that the database is back", attempts)
	}
	p.cut.Store(false)
	mended := time.Now()
	for range 16 {
		all.Go(func() {
			if err := ask(t.Context()); err != nil {
				t.Errorf("after the path was mended: %v", err)
			}
		})
	}
	all.Wait()
	t.Logf("all were answered %s after the path was mended", time.Since(mended).Round(time.Millisecond))
}

// path leads to a database and can be cut.
type path struct {
	dsn      string
	cut      atomic.Bool
	attempts atomic.Int64 // to connect
}

func cuttablePath(t *testing.T, dsn string) *path {
	t.Helper()
	cfg, err := pgx.ParseConfig(dsn)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "path-") // a socket's path has to be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	l, err := new(net.ListenConfig).Listen(t.Context(), "unix", filepath.Join(dir, ".s.PGSQL.1"))
	if err != nil {
		t.Fatal(err)
	}
	p := &path{dsn: fmt.Sprintf("host=%s port=1 user=%s dbname=%s", dir, cfg.User, cfg.Database)}
	network, address := pgconn.NetworkAddress(cfg.Host, cfg.Port)
	var conns sync.WaitGroup
	conns.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return // closed
			}
			p.attempts.Add(1)
			conns.Go(func() {
				if err := p.pass(in, network, address); err != nil {
					t.Error(err)
				}
			})
		}
	})
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		conns.Wait()
	})
	return p
}

// pass has both sides talk until either ends, unless the path is cut.
func (p *path) pass(in net.Conn, network, address string) error {
	if p.cut.Load() {
		return in.Close()
	}
	out, err := net.Dial(network, address)
	if err != nil {
		return errors.Join(err, in.Close())
	}
	ended := make(chan struct{}, 2)
	for _, way := range [][2]net.Conn{{in, out}, {out, in}} {
		go func() {
			_, _ = io.Copy(way[0], way[1]) // an error is an end, too
			ended <- struct{}{}
		}()
	}
	<-ended
	err = errors.Join(in.Close(), out.Close())
	<-ended
	return err
}
