package notifications

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
)

// names is a name server that a resolver asks: it answers with what the test says
// a name leads to at the moment.
type names struct {
	mu    sync.Mutex
	hosts map[string][]string
	asked map[string]int
}

// newNames opens a name server, which is closed when t ends, and returns the
// resolver that asks it.
func newNames(t *testing.T, hosts map[string][]string) (*names, *net.Resolver) {
	t.Helper()
	n := &names{hosts: hosts, asked: map[string]int{}}
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("open the name server: %v", err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		n.serve(t, conn)
	}()
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Errorf("close the name server: %v", err)
		}
		<-ended
	})
	return n, &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
}

// set has host lead to addresses from now on.
func (n *names) set(host string, addresses ...string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.hosts[host] = addresses
}

func (n *names) serve(t *testing.T, conn net.PacketConn) {
	buf := make([]byte, 1500)
	for {
		size, from, err := conn.ReadFrom(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			t.Errorf("name server: %v", err)
			return
		}
		if _, err := conn.WriteTo(n.answer(buf[:size]), from); err != nil && !errors.Is(err, net.ErrClosed) {
			t.Errorf("name server: %v", err)
		}
	}
}

// answer answers a query of one question (RFC 1035, 4.1).
func (n *names) answer(query []byte) []byte {
	var labels []string
	at := 12
	for size := int(query[at]); size > 0; size = int(query[at]) {
		labels = append(labels, string(query[at+1:at+1+size]))
		at += 1 + size
	}
	kind := binary.BigEndian.Uint16(query[at+1:])
	question := query[12 : at+5]
	host := strings.ToLower(strings.Join(labels, "."))
	n.mu.Lock()
	addresses, known := n.hosts[host]
	n.asked[host]++
	n.mu.Unlock()
	var records []byte
	count := 0
	for _, text := range addresses {
		a := netip.MustParseAddr(text)
		if kind == 1 && !a.Is4() || kind == 28 && !a.Is6() || kind != 1 && kind != 28 {
			continue
		}
		records = append(records, 0xc0, 12, byte(kind>>8), byte(kind), 0, 1, 0, 0, 0, 0, 0, byte(a.BitLen()/8))
		records = append(records, a.AsSlice()...)
		count++
	}
	flags := []byte{0x81, 0x80}
	if !known {
		flags[1] |= 3 // no such name
	}
	reply := append(append([]byte{}, query[:2]...), flags...)
	reply = append(reply, 0, 1, 0, byte(count), 0, 0, 0, 0)
	return append(append(reply, question...), records...)
}
