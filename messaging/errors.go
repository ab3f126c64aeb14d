package messaging

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// permanent marks an error that no further attempt can mend.
type permanent struct{ error }

func (p permanent) Unwrap() error { return p.error }

// Permanent marks err as hopeless: the message becomes a dead letter at once,
// with err's text as its reason. Permanent(nil) is nil.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return permanent{err}
}

// isPermanent reports whether err, or one it wraps, was marked by Permanent.
func isPermanent(err error) bool {
	var p permanent
	return errors.As(err, &p)
}

// later marks an error that is not the message's fault and says when to try again.
type later struct {
	error
	wait time.Duration
}

func (l later) Unwrap() error { return l.error }

// Later marks err as the fault of something that is away for now, a provider for
// example: the message is tried again after wait, and the attempt doesn't count.
// Later(wait, nil) is nil.
func Later(wait time.Duration, err error) error {
	if err == nil {
		return nil
	}
	return later{err, wait}
}

// ErrLost is returned by the recording of a leased message whose lease went to
// another consumer in the meantime: nothing of it was written.
var ErrLost = errors.New("the lease went to another consumer")

// errHandlerTimeout is the failure of a handler that ran past its limit.
var errHandlerTimeout = errors.New("the handler ran past its time limit")

// errClosing stands for messages given back because the process stops.
var errClosing = errors.New("closing")

// errConnectionGone is joined to an error after which the database connection is
// found closed: what the server or the network says as they end it (an end of
// file, most often) has no type of its own.
var errConnectionGone = errors.New("the database connection is gone")

// panicked is a handler's panic made an error.
type panicked struct{ value any }

func (p panicked) Error() string { return fmt.Sprintf("panic: %v", p.value) }

// catch makes a panic of the function that defers it that function's error.
func catch(err *error) {
	if r := recover(); r != nil {
		*err = panicked{r}
	}
}

// The server's refusals that the functions of migration 7 raise.
const (
	stateNotAcknowledged = "OF001"
	stateNewRoutes       = "OF002"
	stateUnroutable      = "OF003"
)

// countsAsAttempt reports whether a failure is the message's own. What the
// database or the process did to it (serialisation, deadlock, restart, a disk or
// memory that is full, a connection refused, for whatever reason, or lost, shutdown) is
// not, unless one of our own limits cut the connection.
func countsAsAttempt(err error) bool {
	if errors.Is(err, errClosing) || errors.Is(err, ErrLost) {
		return false
	}
	if errors.Is(err, errHandlerTimeout) {
		return true
	}
	var l later
	if errors.As(err, &l) {
		return false
	}
	var connect *pgconn.ConnectError
	if errors.As(err, &connect) { // on a full disk with XX000, for one
		return false
	}
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		switch pg.Code {
		case "40001", "40P01", "57P01", "57P02", "57P03":
			return false
		}
		// Insufficient resources, and what the system under the server does to it.
		return !strings.HasPrefix(pg.Code, "53") && !strings.HasPrefix(pg.Code, "58")
	}
	return !connectionLost(err)
}

// connectionLost reports whether err says that the connection to the database is
// gone, or can't be had. An HTTP client's errors are of the same types underneath:
// those are not the database's.
func connectionLost(err error) bool {
	if errors.Is(err, errConnectionGone) { // a context that ended closes it, too
		return !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled)
	}
	var request *url.Error
	if errors.As(err, &request) {
		return false
	}
	var connect *pgconn.ConnectError
	if errors.As(err, &connect) {
		return true
	}
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Code == "57P01" || pg.Code == "57P02" || pg.Code == "57P03" || pg.Code == "25P03"
	}
	var netErr net.Error
	return errors.Is(err, driver.ErrBadConn) ||
		(errors.As(err, &netErr) && !errors.Is(err, context.DeadlineExceeded)) ||
		pgconn.SafeToRetry(err)
}
