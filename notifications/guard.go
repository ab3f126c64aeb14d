package notifications

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"syscall"
	"time"
)

// guard keeps webhooks from reaching what is inside: a customer names the
// address, and we are the one who calls it.
type guard struct {
	insecure bool // http and addresses of our own net are allowed, too
	resolver *net.Resolver
}

// errInside is the refusal to connect to an address that isn't public.
var errInside = errors.New("the address is not a public one")

const (
	maxURL         = 2000 // bytes
	resolveTimeout = 3 * time.Second
)

// checkURL returns what is wrong with raw as the URL of an endpoint, "" when
// nothing is. A name must lead to public addresses only; as it may lead elsewhere
// tomorrow, control asks again when a connection is made.
func (g guard) checkURL(ctx context.Context, raw string) string {
	u, err := url.Parse(raw)
	switch {
	case err != nil || len(raw) > maxURL || u.Opaque != "" || u.Hostname() == "":
		return "must be a URL like https://example.com/hook"
	case u.Scheme != "https" && (u.Scheme != "http" || !g.insecure):
		return "must begin with https://"
	case u.User != nil:
		return "must have no user and no password in it"
	case u.Fragment != "":
		return "must have no fragment"
	}
	if port := u.Port(); port != "" {
		if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
			return "must have a port from 1 to 65535, or none"
		}
	}
	if g.insecure {
		return ""
	}
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	addresses, err := g.resolver.LookupNetIP(ctx, "ip", u.Hostname())
	if err != nil || len(addresses) == 0 {
		return "has a host whose address can't be found"
	}
	for _, a := range addresses {
		if !public(a) {
			return "must lead to a public address"
		}
	}
	return ""
}

// control is a net.Dialer's Control: address is where the name has led, so that
// nothing lies between the check and the connection.
func (g guard) control(_, address string, _ syscall.RawConn) error {
	if g.insecure {
		return nil
	}
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("address to connect to: %w", err)
	}
	if !public(to.Addr()) {
		return errInside
	}
	return nil
}

// inside are the networks that aren't the public internet, besides what netip
// knows by itself (IANA's special-purpose registries, RFC 6890). What embeds an
// IPv4 address in an IPv6 one is among them: it leads to that.
var inside = func() []netip.Prefix {
	var list []netip.Prefix
	for _, p := range []string{
		"0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "240.0.0.0/4",
		"2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20",
	} {
		list = append(list, netip.MustParsePrefix(p))
	}
	return list
}()

// global is where all public IPv6 addresses are (RFC 4291).
var global = netip.MustParsePrefix("2000::/3")

// public reports whether a belongs to the public internet.
func public(a netip.Addr) bool {
	a = a.Unmap()
	if a.Zone() != "" || !a.IsGlobalUnicast() || a.IsPrivate() || a.IsLoopback() || a.Is6() && !global.Contains(a) {
		return false
	}
	for _, p := range inside {
		if p.Contains(a) {
			return false
		}
	}
	return true
}
