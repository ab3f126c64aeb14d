package e2e

import "testing"

// TestPortsAreOneStacksOnly takes so many ports for two stacks whose processes don't
// run that some would be the same if nothing kept the two apart.
func TestPortsAreOneStacksOnly(t *testing.T) {
	t.Parallel()
	var one, two ports
	owner := map[string]bool{}
	for i := range 300 {
		p := Process{Service: "orders", Replica: i + 1}
		for _, s := range []*ports{&one, &two} {
			addr := s.addr(p)
			if owner[addr] {
				t.Errorf("%s is given away twice", addr)
			}
			owner[addr] = true
			if again := s.addr(p); again != addr {
				t.Errorf("%s is at %s, then at %s", p, addr, again)
			}
		}
	}
	for _, s := range []*ports{&one, &two} {
		if err := s.release(); err != nil {
			t.Error(err)
		}
	}
}
