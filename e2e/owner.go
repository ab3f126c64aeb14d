package e2e

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// ownerLabel is on everything that this package leaves with Docker. Its value is
// an owner.
const ownerLabel = "orderflow.e2e.owner"

// owner is the process that made something, so that another can tell whether
// it is still needed: "host pid start". The start tells a process from a later
// one of the same id; it is empty where there is no /proc.
type owner struct {
	host  string
	pid   int
	start string
}

func thisOwner() owner {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return owner{host: host, pid: os.Getpid(), start: startOf(os.Getpid())}
}

func (o owner) String() string { return fmt.Sprintf("%s %d %s", o.host, o.pid, o.start) }

// parseOwner reads what String has written.
func parseOwner(s string) (owner, bool) {
	parts := strings.Split(s, " ")
	if len(parts) != 3 {
		return owner{}, false
	}
	pid, err := strconv.Atoi(parts[1])
	return owner{host: parts[0], pid: pid, start: parts[2]}, err == nil && pid > 0
}

// gone reports whether the owner is known to have ended. Of another machine's,
// which may share the Docker, nothing is known.
func (o owner) gone() bool {
	return o.host == thisOwner().host && (!alive(o.pid) || startOf(o.pid) != o.start)
}

// startOf is when the process began, in the kernel's ticks since it booted; ""
// when that can't be known.
func startOf(pid int) string {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return ""
	}
	// "pid (name) state …": the name may hold anything. The start is the 22nd field.
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	if len(fields) < 20 {
		return ""
	}
	return fields[19]
}
