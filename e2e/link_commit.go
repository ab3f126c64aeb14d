package e2e

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"
	"sync"
)

// commitCut is the cutting of connections in the midst of a COMMIT.
type commitCut struct {
	of    string // a text of a statement of the transaction
	after bool   // the server has done it
	left  int
	hits  int
}

// CutCommits has the next n transactions lose their connection at their COMMIT:
// those of which a statement has the text of in it. Before: the COMMIT doesn't reach
// the server, which undoes the transaction. After: the server has committed, and its
// answer doesn't reach the client. The client can't tell one from the other.
func (l *Link) CutCommits(n int, of string, after bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.commit = commitCut{of: of, after: after, left: n}
}

// CommitsCut is how many COMMITs have been cut since CutCommits, and how many still
// are to be.
func (l *Link) CommitsCut() (hits, left int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.commit.hits, l.commit.left
}

// session is what passes on one connection of PostgreSQL's protocol, in version 3
// and unencrypted: enough of it to know a COMMIT.
type session struct {
	link *Link

	mu         sync.Mutex
	client     wire
	server     wire
	statements map[string]string // prepared ones, by name
	portal     string            // the statement that was bound last
	since      []string          // statements since the last BEGIN
	doomed     bool              // a COMMIT has passed whose answer must not
}

func newSession(l *Link) *session {
	return &session{link: l, client: wire{untyped: true}, statements: map[string]string{}}
}

// fromClient looks at what the client sends, and reports whether it may pass.
func (s *session) fromClient(b []byte) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	pass := true
	s.client.feed(b, func(kind byte, body []byte) {
		switch kind {
		case 'Q': // a simple query
			text, _, _ := bytes.Cut(body, []byte{0})
			pass = s.runs(string(text)) && pass
		case 'P': // parse: name, statement
			name, rest, _ := bytes.Cut(body, []byte{0})
			text, _, _ := bytes.Cut(rest, []byte{0})
			s.statements[string(name)] = string(text)
		case 'B': // bind: portal, name
			_, rest, _ := bytes.Cut(body, []byte{0})
			name, _, _ := bytes.Cut(rest, []byte{0})
			s.portal = s.statements[string(name)]
		case 'E': // execute the portal
			pass = s.runs(s.portal) && pass
		}
	})
	return pass
}

// runs notes a statement that is to run, and reports whether it may.
func (s *session) runs(statement string) bool {
	switch strings.ToLower(strings.TrimSpace(statement)) {
	case "begin":
		s.since = nil
		return true
	case "commit":
	default:
		s.since = append(s.since, statement)
		return true
	}
	since := s.since
	s.since = nil
	s.link.mu.Lock()
	defer s.link.mu.Unlock()
	c := &s.link.commit
	if c.left == 0 || !slices.ContainsFunc(since, func(q string) bool { return strings.Contains(q, c.of) }) {
		return true
	}
	c.left--
	if !c.after {
		c.hits++
		return false
	}
	s.doomed = true
	return true
}

// fromServer looks at what the server answers, and reports whether it may pass.
func (s *session) fromServer(b []byte) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	pass := true
	s.server.feed(b, func(kind byte, body []byte) {
		if !s.doomed {
			return
		}
		s.link.mu.Lock()
		defer s.link.mu.Unlock()
		switch {
		case kind == 'C' && bytes.Equal(body, []byte("COMMIT\x00")):
			s.link.commit.hits++
			pass = false
		case kind == 'E', kind == 'C' && bytes.Equal(body, []byte("ROLLBACK\x00")):
			s.link.commit.left++ // it was none: another's turn
			s.doomed = false
		}
	})
	return pass
}

// wire is one direction of the protocol: messages of a type, a length and a body.
type wire struct {
	untyped bool // the next message is the first one, which has no type
	rest    []byte
}

// feed calls f for each message that is complete with b.
func (w *wire) feed(b []byte, f func(kind byte, body []byte)) {
	w.rest = append(w.rest, b...)
	for {
		head := 5
		if w.untyped {
			head = 4
		}
		if len(w.rest) < head {
			return
		}
		end := head - 4 + int(binary.BigEndian.Uint32(w.rest[head-4:]))
		if end < head || len(w.rest) < end {
			return
		}
		if !w.untyped {
			f(w.rest[0], w.rest[head:end])
		}
		w.untyped = false
		w.rest = w.rest[end:]
	}
}
