package postgres

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
)

// watchdog is a small shell that outlives us to clean up. A program killed with
// SIGKILL runs no code of its own, and Linux's parent-death signal is bound to a
// thread and unknown elsewhere, so the shell waits on a pipe whose only write
// end we hold: however we end, the kernel closes it and the shell reads the end
// of the file. It then shuts down whichever server or initdb the file "pid" in
// the run directory names, thawed if it is frozen, and removes that directory. It sits in a session of
// its own, out of reach of Ctrl-C and of a kill of our process group, and runs
// as the server's account, so that it can signal nothing else.
type watchdog struct {
	cmd  *exec.Cmd
	pipe *os.File
}

// Fast shutdown gets 5 s, then immediate shutdown and SIGKILL 2 s each. Half a
// second of sleep is spelled for shells whose sleep takes whole seconds only.
const watchdogScript = `
trap '' HUP INT QUIT TERM
while read -r _; do :; done
run=$1
pid=$(cat "$run/pid" 2>/dev/null)
end() {
	kill -s "$1" "$pid" 2>/dev/null || return 0
	n=0
	while [ "$n" -lt "$2" ] && kill -s 0 "$pid" 2>/dev/null; do
		sleep 0.05 2>/dev/null || sleep 1
		n=$((n + 1))
	done
}
kill -s CONT $pid $(cat "$run/frozen" 2>/dev/null) 2>/dev/null
if [ -n "$pid" ]; then
	end INT 100
	end QUIT 40
	end KILL 40
fi
rm -rf "$run" || { sleep 1; rm -rf "$run"; }
`

// watch starts the watchdog, a shell that cmd prepares, before there is anything
// that it has to clean up: so that there is never anything without it. It holds
// lock, if not nil, as long as it lives: the data aren't free before the server
// is down.
func watch(cmd *exec.Cmd, lock *os.File) (*watchdog, error) {
	// Go opens pipes close-on-exec. If the server inherited the write end, it
	// would keep its own watchdog waiting for ever.
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start the watchdog: %w", err)
	}
	cmd.Stdin = r
	if lock != nil {
		cmd.ExtraFiles = []*os.File{lock}
	}
	if err := cmd.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("start the watchdog: %w", err), r.Close(), w.Close())
	}
	if err := r.Close(); err != nil {
		return nil, errors.Join(err, w.Close(), cmd.Wait())
	}
	return &watchdog{cmd: cmd, pipe: w}, nil
}

// end lets the watchdog clean up now, and waits for it: about 10 s at most, a
// few milliseconds when the server is down already.
func (w *watchdog) end() error {
	return errors.Join(w.pipe.Close(), w.cmd.Wait())
}
