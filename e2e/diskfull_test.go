package e2e

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// TestDiskFull fills the disk of PostgreSQL under a shop that is at work, until nobody
// can write, and until the server dies of it. The shop says so, in time; with space
// again it goes on by itself, no order is lost, none is half there.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	s := NewStack(t, WithSmallDisk)
	s.Admin.SetMaxIdleConns(0) // an idle connection would be one that has been cut
	c := NewCustomer(t, s.URL)
	known := c.Place(t, wish("MUG-01", "tok_ok")).ID
	rounds := scaled(1, 3)
	load := s.Load(t, scaled(6, 12), time.Duration(rounds)*scaled(7*time.Second, 45*time.Second))
	shop := openShopping(t, NewCustomer(t, s.URL))
	asking := openAsking(t, s, known, c)
	var hits diskHits
	for range rounds {
		for _, disk := range []*fullDisk{{}, {log: true}} {
			disk.outage().strike(t, s, shop, asking)
			t.Logf("%d writes of the services refused, PostgreSQL died %d times", disk.hits.refused, disk.hits.panics)
			hits.refused += disk.hits.refused
			hits.panics += disk.hits.panics
		}
	}
	result := load.Wait(t)
	promised := append(append(shop.close(t), asking.close()...), known)
	CheckShop(t, s.DSN("", ""), promised...)
	CheckLoad(t, s.Admin, result)
	t.Logf("load: %d orders and %d of others, p50 %.0f ms, p99 %.0f ms", result.Placed, len(promised), result.P50, result.P99)
	if hits.refused == 0 || hits.panics == 0 {
		t.Errorf("in all, %d writes of the services were refused and PostgreSQL died %d times; want some of both", hits.refused, hits.panics)
	}
}

// fullDisk is a disk that is filled.
type fullDisk struct {
	log  bool // until there is no space for the write-ahead log, which PostgreSQL dies of
	free func(context.Context) error
	said int // by PostgreSQL, before
	hits diskHits
}

func (f *fullDisk) outage() databaseOutage {
	o := databaseOutage{"disk full", scaled(time.Second, 15*time.Second), f.fill, f.space, nil} // a table's last page may have room for whoever asks
	if f.log {
		o.name, o.hit = "disk full, the log's space used up", []string{"any"}
	}
	return o
}

// fill returns when somebody was hit.
func (f *fullDisk) fill(s *Stack, _ *hold) (err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	// A new session may have to write, too, and be refused.
	conn, err := pgx.Connect(ctx, s.DSN("", ""))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close(ctx)) }()
	f.said = len(s.Logs(Database))
	if f.free, err = s.FillDisk(ctx); err != nil {
		return err
	}
	for {
		f.count(s)
		if f.hits.panics > 0 || f.hits.refused > 0 && !f.log {
			return nil
		}
		var last error
		if f.log {
			// Each takes what is left of a segment. The last one ends by an error.
			_, last = conn.Exec(ctx, `SELECT pg_logical_emit_message(false, 'e2e', 'disk'), pg_switch_wal()`)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("a full disk has hit too few: %+v: %w\n%s", f.hits, errors.Join(ctx.Err(), last), tail(s.Logs(Database)[f.said:], 20))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (f *fullDisk) count(s *Stack) { f.hits = hitsIn(s.Logs(Database)[f.said:]) }

// space makes space, and starts PostgreSQL again when it has ended: it returns when
// connections are taken.
func (f *fullDisk) space(ctx context.Context, s *Stack, _ *hold) error {
	if err := f.free(ctx); err != nil {
		return err
	}
	f.count(s)
	for {
		conn, err := pgx.Connect(ctx, s.DSN("", ""))
		if err == nil {
			return conn.Close(ctx)
		}
		// It may be about to recover, or to end.
		if _, startErr := s.Start(ctx, Database, nil); startErr != nil && ctx.Err() != nil {
			return errors.Join(err, startErr)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// diskHits counts whom a full disk has hit.
type diskHits struct {
	refused int // writes of the services, which get an error
	panics  int // ends of the server
}

// hitsIn reads PostgreSQL's log, as smallDiskSettings have it.
func hitsIn(log string) (h diskHits) {
	for line := range strings.Lines(log) {
		switch {
		case strings.Contains(line, "PANIC:") && strings.Contains(line, "No space left on device"):
			h.panics++
		case strings.Contains(line, " orderflow_") && strings.Contains(line, " 53100 ERROR:"):
			h.refused++
		}
	}
	return h
}
