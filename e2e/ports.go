package e2e

import (
	"errors"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
)

// ports gives every process of a stack an address on loopback, which is nobody
// else's while the stack is there, whether its process runs or not.
type ports struct {
	mu   sync.Mutex
	of   map[Process]int
	held []net.PacketConn
}

// addr is where p is reached. A port is chosen once, below those that the kernel
// gives to outgoing connections: one of them could sit on it during a restart. Its
// twin of UDP, which no program uses, is held: that keeps other stacks away, those of
// other test processes, too.
func (s *ports) addr(p Process) string {
	const lowest, highest = 15000, 32000
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.of == nil {
		s.of = map[Process]int{}
	}
	for s.of[p] == 0 {
		port := lowest + rand.IntN(highest-lowest)
		at := loopback(port)
		twin, err := net.ListenPacket("udp", at)
		if err != nil {
			continue
		}
		s.held = append(s.held, twin)
		probe, err := net.Listen("tcp", at)
		if err == nil && probe.Close() == nil {
			s.of[p] = port
		}
	}
	return loopback(s.of[p])
}

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// release lets others have the ports.
func (s *ports) release() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var err error
	for _, twin := range s.held {
		err = errors.Join(err, twin.Close())
	}
	s.held = nil
	return err
}
