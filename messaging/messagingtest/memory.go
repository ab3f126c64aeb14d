package messagingtest

import (
	"os"
	"syscall"
)

// Linux keeps in memory what is in /dev/shm. As much must be free there as two
// clusters of tests need at most, twice.
const (
	memory = "/dev/shm"
	room   = 4 << 30
)

// tempDir is where the tests' clusters are. Every test makes a database and drops
// it, some 500 files each time, which costs a disk's file system more than all that
// is tested: so they are in memory, where there is room. At full length they are on
// the disk, as in production, "".
func tempDir() string {
	if os.Getenv("ORDERFLOW_LONG") != "" {
		return ""
	}
	var at syscall.Statfs_t
	if err := syscall.Statfs(memory, &at); err != nil || uint64(at.Bavail)*uint64(at.Bsize) < room {
		return ""
	}
	return memory
}
