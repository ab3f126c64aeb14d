package bench

import (
	"os"
	"strconv"
	"strings"
	"time"
)

// meter is the CPU time of our processes at a moment. It is read from Linux's
// /proc; elsewhere all of it is zero and usage is unknown.
type meter struct {
	at                 time.Time
	goes, server, busy float64 // seconds: Go programs, PostgreSQL, the whole machine
}

// ticks is how many units of /proc/*/stat make a second: fixed by Linux's ABI.
const ticks = 100

// readMeter reads the CPU time of the server with process id postmaster and of
// the Go programs with process ids goes.
func readMeter(postmaster int, goes ...int) meter {
	m := meter{at: time.Now(), server: serverCPU(postmaster), busy: machineCPU()}
	for _, pid := range goes {
		m.goes += fieldsSum(statFields(pid), 11, 2)
	}
	return m
}

// usage is CPU time used between two readings.
type usage struct {
	elapsed            time.Duration
	goes, server, busy float64
}

func (m meter) since(before meter) usage {
	return usage{elapsed: m.at.Sub(before.at), goes: m.goes - before.goes, server: m.server - before.server, busy: m.busy - before.busy}
}

// goCores, serverCores and otherCores are how many cores were busy with our Go
// programs, with PostgreSQL, and with anything else on the machine.
func (u usage) goCores() float64     { return u.goes / u.elapsed.Seconds() }
func (u usage) serverCores() float64 { return u.server / u.elapsed.Seconds() }
func (u usage) otherCores() float64 {
	return max(0, (u.busy-u.goes-u.server)/u.elapsed.Seconds())
}

// serverCPU is what the postmaster, its living children and its dead ones used.
func serverCPU(postmaster int) float64 {
	entries, err := os.ReadDir("/proc")
	if err != nil || postmaster == 0 {
		return 0
	}
	total := fieldsSum(statFields(postmaster), 11, 4)
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if f := statFields(pid); len(f) > 1 && f[1] == strconv.Itoa(postmaster) {
			total += fieldsSum(f, 11, 2)
		}
	}
	return total
}

// statFields are the fields of /proc/<pid>/stat after the command's name: state,
// parent, …; utime, stime and those of waited-for children are 11 to 14. They are
// nil when there is no such process.
func statFields(pid int) []string {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return nil
	}
	return strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
}

// fieldsSum adds n fields from the first on, in seconds.
func fieldsSum(fields []string, first, n int) float64 {
	total := 0.0
	for i := first; i < first+n && i < len(fields); i++ {
		v, err := strconv.ParseFloat(fields[i], 64)
		if err != nil {
			return 0
		}
		total += v
	}
	return total / ticks
}

// machineCPU is the CPU time of the machine that was neither idle nor waiting
// for a disk.
func machineCPU() float64 {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0
	}
	line, _, _ := strings.Cut(string(b), "\n")
	fields := strings.Fields(line) // cpu user nice system idle iowait irq softirq …
	if len(fields) < 8 {
		return 0
	}
	return fieldsSum(fields, 1, 3) + fieldsSum(fields, 6, 2)
}
