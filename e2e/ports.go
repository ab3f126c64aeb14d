package e2e

import (
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
)

// ports gives every process of a stack an address on loopback.
type ports struct {
	mu sync.Mutex
	of map[Process]int
}

// addr is where p is reached. A port is chosen once, below those that the kernel
// gives to outgoing connections: one of them could sit on it during a restart.
func (s *ports) addr(p Process) string {
	const lowest, highest = 15000, 32000
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.of == nil {
		s.of = map[Process]int{}
	}
	for s.of[p] == 0 {
		port := lowest + rand.IntN(highest-lowest)
		probe, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(port))
		if err == nil && probe.Close() == nil && !s.taken(port) {
			s.of[p] = port
		}
	}
	return "127.0.0.1:" + strconv.Itoa(s.of[p])
}

func (s *ports) taken(port int) bool {
	for _, other := range s.of {
		if other == port {
			return true
		}
	}
	return false
}
