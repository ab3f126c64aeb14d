package messaging

import (
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strings"
)

// Mode says how the messages of a queue are handled.
type Mode int

const (
	// Transactional: handlers only touch the database; messages of a batch share
	// a transaction with their effects, inbox rows, outgoing messages and ack.
	Transactional Mode = iota
	// Leased: handlers talk to the outside, each message on its own under a
	// lease that is renewed while it runs.
	Leased
)

// Queue is a queue table and what arrives in it.
type Queue struct {
	Name  string // table messaging.queue_<Name>
	Mode  Mode
	Kinds []string // commands sent to it and events it subscribes to

	// Replayable allows Operator.Replay to have its events handled again, and has
	// the migrator feed it from the logs when it is new. What a handler publishes
	// is then sent again, in new messages: so only where a second handling changes
	// nothing, or rebuilds what is read, and tells nobody outside.
	Replayable bool
}

// Spec is what a service declares of itself. The migrator makes its schema,
// login role, queues, outbox, inbox, log, routes and rights from it; the
// service's Bus checks every publish and every handler against it.
type Spec struct {
	Name       string // of service, schema (quoted in SQL: it may be a word of SQL's) and, with the prefix "orderflow_", login role
	Queues     []Queue
	Sends      []string // kinds of the commands it sends
	Asks       []string // those of them that are requests: it waits for the answer (Ask)
	Speaks     []string // kinds of the events it publishes: "<Name>.…"
	Migrations fs.FS    // the service's own schema: migrations/*.sql, goose format
}

var nameForm = regexp.MustCompile(`^[a-z][a-z0-9_]{0,55}$`)

// validate reports the first thing that is wrong with s.
func (s Spec) validate() error {
	if !nameForm.MatchString(s.Name) {
		return fmt.Errorf("service name %q: want %s", s.Name, nameForm)
	}
	if s.Migrations == nil {
		return fmt.Errorf("service %s has no migrations", s.Name)
	}
	seen := map[string]string{}
	for _, q := range s.Queues {
		if !nameForm.MatchString(q.Name) {
			return fmt.Errorf("queue name %q of service %s: want %s", q.Name, s.Name, nameForm)
		}
		for _, k := range q.Kinds {
			if other, ok := seen[k]; ok {
				return fmt.Errorf("service %s receives %s in queue %s and in queue %s: one of them", s.Name, k, other, q.Name)
			}
			seen[k] = q.Name
		}
	}
	for _, k := range s.Asks {
		if !slices.Contains(s.Sends, k) {
			return fmt.Errorf("service %s asks %s: a request stands among what it sends, too", s.Name, k)
		}
	}
	for _, k := range s.Speaks {
		if !strings.HasPrefix(k, s.Name+".") {
			return fmt.Errorf("service %s speaks %s: an event bears its speaker's name", s.Name, k)
		}
	}
	return nil
}

// Role is the service's login role in the database.
func (s Spec) Role() string { return rolePrefix + s.Name }

// schema is the service's schema as SQL takes it: a name like "order" is a word of
// SQL's own unless it is quoted. Names with a prefix need none.
func (s Spec) schema() string { return quote(s.Name) }

const rolePrefix = "orderflow_"

// messages reports whether the service has anything to do with messages at all;
// one that hasn't (the payment provider) gets a schema and a role only.
func (s Spec) messages() bool { return len(s.Queues)+len(s.Sends)+len(s.Speaks) > 0 }

func (s Spec) sends(kind string) bool {
	return slices.Contains(s.Sends, kind) || slices.Contains(s.Speaks, kind)
}
