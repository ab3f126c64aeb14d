package postgres

import "syscall"

// Linux keeps in memory what is in /dev/shm. As much must be free there as the
// clusters of tests that run side by side need at most, twice.
const (
	memory = "/dev/shm"
	room   = 4 << 30
)

// MemoryDir is a directory that is kept in memory, for Config.TempDir of servers that
// only tests use; "" where there is none, or no room. Their syncs, and all the files
// that they make and remove, cost a disk more than most of what is tested.
func MemoryDir() string {
	var at syscall.Statfs_t
	if err := syscall.Statfs(memory, &at); err != nil || uint64(at.Bavail)*uint64(at.Bsize) < room {
		return ""
	}
	return memory
}
