package e2e

import (
	"fmt"
	"net"
	"net/url"
)

// Option is what a stack is only when it is asked for.
type Option func(*Stack)

// WithMails has the shop send its mails, to the mailbox of its one console. Under
// load that is a fifth of all the work, so that stacks are without.
func WithMails(s *Stack) { s.mails = true }

// mailbox is where the console catches the shop's mails, and how notifications
// reaches it.
func (s *Stack) mailbox() (listen, host, port string) {
	at := func(p Process) *url.URL {
		u, err := url.Parse(s.Peer(p))
		if err != nil {
			panic(fmt.Sprintf("address of %s: %v", p, err)) // a backend makes them
		}
		return u
	}
	host, port = at(first("console")).Hostname(), "1025"
	if ip := net.ParseIP(host); ip == nil {
		return "0.0.0.0:" + port, host, port
	}
	// Loopback is shared with other stacks: a port that is nobody else's.
	port = at(first("mailbox")).Port()
	return net.JoinHostPort(host, port), host, port
}
