package e2e

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// dialLimit is how long a link tries to connect.
const dialLimit = 5 * time.Second

// Link is a TCP proxy of the test's between a stack's programs and what they
// connect to, or between customers and consoles: it can be cut and slowed, and, to a
// database, cut at a COMMIT.
type Link struct {
	Host string // where the programs reach it: "host:port"

	listener net.Listener
	dial     func() (net.Conn, error) // the target

	work   sync.WaitGroup
	mu     sync.Mutex
	conns  map[net.Conn]bool
	cut    bool
	delay  time.Duration
	sql    bool // what passes is PostgreSQL's protocol
	commit commitCut
	hits   int // connections that were cut and pieces that were held up since the last Heal
	closed bool
}

// newLink begins to serve at listen, a host's address without a port, which the
// programs call name. Each connection is carried on to what dial connects to.
func newLink(listen, name string, dial func() (net.Conn, error)) (*Link, error) {
	ln, err := net.Listen("tcp", net.JoinHostPort(listen, "0"))
	if err != nil {
		return nil, fmt.Errorf("make a link: %w", err)
	}
	_, port, err := net.SplitHostPort(ln.Addr().String())
	if err != nil {
		return nil, errors.Join(err, ln.Close())
	}
	l := &Link{Host: net.JoinHostPort(name, port), listener: ln, dial: dial, conns: map[net.Conn]bool{}}
	l.work.Go(l.serve)
	return l, nil
}

// local is the base URL of a link to something that speaks HTTP, as the test
// reaches it.
func (l *Link) local() string { return "http://" + l.listener.Addr().String() }

// Cut resets every connection, and each new one at once, until Heal.
func (l *Link) Cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut = true
	l.hits += len(l.conns)
	l.reset()
}

// Slow holds up whatever passes, in each direction, by delay until Heal.
func (l *Link) Slow(delay time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.delay = delay
}

// Heal ends what Cut and Slow have begun, and returns how many connections were
// cut and how many pieces of what passed were held up.
func (l *Link) Heal() (hits int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	hits = l.hits
	l.cut, l.delay, l.hits = false, 0, 0
	return hits
}

// close ends the link; nothing of it is left then.
func (l *Link) close() error {
	l.mu.Lock()
	l.closed = true
	l.reset()
	l.mu.Unlock()
	err := l.listener.Close()
	l.work.Wait()
	return err
}

// reset closes all connections. It is called with the lock.
func (l *Link) reset() {
	for c := range l.conns {
		cutOff(c)
	}
}

// cutOff closes a connection without the orderly end of TCP.
func cutOff(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // a connection that has ended anyway needs none
	}
	_ = c.Close()
}

// keep notes a connection, or closes it when none may be.
func (l *Link) keep(c net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cut || l.closed {
		l.hits++
		cutOff(c)
		return false
	}
	l.conns[c] = true
	return true
}

func (l *Link) drop(c net.Conn) {
	_ = c.Close() // the other side may have closed it
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, c)
}

func (l *Link) serve() {
	for {
		c, err := l.listener.Accept()
		if err != nil {
			return // closed
		}
		l.work.Go(func() { l.carry(c) })
	}
}

// carry connects c to the target until one side ends.
func (l *Link) carry(c net.Conn) {
	defer l.drop(c)
	if !l.keep(c) {
		return
	}
	to, err := l.dial()
	if err != nil {
		return // the program sees its connection end, as it does when nobody listens
	}
	defer l.drop(to)
	if !l.keep(to) {
		return
	}
	var back sync.WaitGroup
	s := newSession(l)
	back.Go(func() { l.copy(c, to, s.fromServer) })
	l.copy(to, c, s.fromClient)
	back.Wait()
}

// copy passes on what comes, late if it has to be, and ends both at the end, or
// when something comes that may not pass.
func (l *Link) copy(to, from net.Conn, may func([]byte) bool) {
	defer func() { _, _ = to.Close(), from.Close() }() // either may be closed already
	b := make([]byte, 64<<10)
	for {
		n, err := from.Read(b)
		if n > 0 {
			l.mu.Lock()
			delay := l.delay
			if delay > 0 {
				l.hits++
			}
			sql := l.sql
			l.mu.Unlock()
			if delay > 0 {
				time.Sleep(delay)
			}
			if sql && !may(b[:n]) {
				cutOff(to)
				cutOff(from)
				return
			}
			if _, err := to.Write(b[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// LinkDatabase makes a link to the database for the service, which has to be
// launched with the setting that is returned as well.
func (s *Stack) LinkDatabase(t testing.TB, service string) (l *Link, setting string) {
	t.Helper()
	admin, err := pgx.ParseConfig(s.DSN("", ""))
	if err != nil {
		t.Fatal(err)
	}
	network, target := pgconn.NetworkAddress(admin.Host, admin.Port)
	l = s.link(t, network, target)
	l.mu.Lock()
	l.sql = admin.TLSConfig == nil
	l.mu.Unlock()
	u := url.URL{
		Scheme: "postgres", Host: l.Host, Path: "/" + admin.Database, RawQuery: "sslmode=disable",
		User: url.UserPassword("orderflow_"+service, s.passwords[service]),
	}
	if admin.TLSConfig != nil {
		u.RawQuery = "sslmode=require"
	}
	return l, "DATABASE_URL=" + u.String()
}

// LinkProvider makes a link to the payment provider for payments, which has to
// be launched with the setting that is returned as well.
func (s *Stack) LinkProvider(t testing.TB) (l *Link, setting string) {
	t.Helper()
	l = s.link(t, "tcp", hostOf(s.Reach(first("paysim"))))
	return l, "PAYMENTS_PROVIDER_URL=http://" + l.Host
}

// hostOf is the "host:port" of a base URL.
func hostOf(base string) string { return strings.TrimPrefix(base, "http://") }

func (s *Stack) link(t testing.TB, network, target string) *Link {
	t.Helper()
	return s.linkBy(t, func() (net.Conn, error) { return net.DialTimeout(network, target, dialLimit) })
}

func (s *Stack) linkBy(t testing.TB, dial func() (net.Conn, error)) *Link {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), callLimit)
	defer cancel()
	listen, name, err := s.TestHost(ctx)
	if err != nil {
		t.Fatal(err)
	}
	l, err := newLink(listen, name, dial)
	if err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.links = append(s.links, l)
	return l
}
