package e2e

import (
	"context"
	"fmt"
	"os"
	"sync"
)

// Process is one running copy of a service's program, the console and the
// payment provider's simulator included.
type Process struct {
	Service string // "orders", "console", …: a folder of services/
	Replica int    // 1 is the first
}

func (p Process) String() string { return fmt.Sprintf("%s-%d", p.Service, p.Replica) }

// Database is the stack's PostgreSQL among the processes. Start, Stop, Kill, Pause,
// Resume and Logs take it, and with it:
//
//   - Start starts it again after its end, whoever caused that, with its data and at
//     its address, and returns when it takes connections, or with an error after a
//     minute at most. It takes no settings and returns DSN("", "").
//   - Stop asks it for a fast shutdown: what is open is rolled back and a checkpoint
//     written. QuitDatabase asks for an immediate one, without either. When ctx ends
//     first, Stop may insist instead of returning an error.
//   - Kill ends its first process by SIGKILL. What the sessions have in hand they may
//     finish, as they do after such an end: Start waits for them.
//   - Pause freezes all of its processes: connections are accepted, by the kernel,
//     and nothing is answered.
//
// A backend on a server from elsewhere can do none of it, and its error says which
// can.
var Database = Process{Service: "postgres", Replica: 1}

// Backend is what the programs of one stack run on, its PostgreSQL included:
// processes, containers, or processes on a database from elsewhere. The verbs
// are the same on all. A Backend serves several goroutines at once, as long as
// no two of them handle the same Process.
type Backend interface {
	// Name is what E2E_BACKEND calls it.
	Name() string

	// DSN is how role logs in to the stack's database: "" is the administrator,
	// as the test reaches it, any other a role as the stack's programs do.
	DSN(role, password string) string

	// Peer is the base URL under which the stack's programs reach p, Reach the one
	// under which the test does. Both are known before p is started and the same
	// after each start.
	Peer(p Process) string
	Reach(p Process) string

	// TestHost is where the test listens for the stack's programs to reach it: an
	// address of this machine, and what they call it.
	TestHost(ctx context.Context) (listen, name string, err error)

	// Start starts the program of p.Service with the settings env, and nothing
	// else of the test's environment, and returns Reach(p). It doesn't wait until
	// p is ready. It fails when p runs already.
	Start(ctx context.Context, p Process, env map[string]string) (url string, err error)

	// Stop asks p to end (SIGTERM), waits for it and returns its exit code, -1
	// for an end by a signal. A process that has ended by itself is reported in
	// the same way. When ctx ends first it returns an error, and p runs on.
	Stop(ctx context.Context, p Process) (exit int, err error)

	// Kill ends p at once (SIGKILL) and returns when it is gone.
	Kill(p Process) error

	// Pause freezes p (SIGSTOP) until Resume (SIGCONT); Kill ends it, too.
	Pause(p Process) error
	Resume(p Process) error

	// QuitDatabase has Database shut down immediately and returns when it is down.
	QuitDatabase(ctx context.Context) error

	// KillSession ends one process of Database by SIGKILL: pid is that of
	// pg_stat_activity. The server ends all sessions then and recovers by itself.
	KillSession(pid int) error

	// FillDisk fills the file system that Database has its data on until no byte is
	// left. free gives the space back, whether Database has died meanwhile or not. The
	// stack must be one WithSmallDisk.
	FillDisk(ctx context.Context) (free func(ctx context.Context) error, err error)

	// Logs is all that p has written to its standard output and error, over all
	// its starts.
	Logs(p Process) string

	// Close kills what still runs and removes all that the stack had.
	Close(ctx context.Context) error
}

// decided is the backend of this run of the tests, chosen at the first call; it
// is told then, since it says what the figures are worth.
var decided = sync.OnceValues(func() (choice, error) {
	c, err := wishesOfEnvironment().decide(context.Background(), os.Stderr)
	if err == nil {
		fmt.Fprintf(os.Stderr, "e2e: backend %s: %s\n", c.backend, c.why)
	}
	return c, err
})

// newBackend makes the backend for a new stack, with Database on a small disk of its
// own or not.
func newBackend(ctx context.Context, smallDisk bool) (Backend, error) {
	c, err := decided()
	if err != nil {
		return nil, err
	}
	switch w := wishesOfEnvironment(); c.backend {
	case "docker":
		return newDocker(ctx, w.image, smallDisk)
	case "external":
		if smallDisk {
			return nil, fmt.Errorf("give %s a small disk: %w", Database, errNotOurs)
		}
		return newExternal(ctx, w.databaseURL)
	default:
		return newLocal(ctx, smallDisk)
	}
}
