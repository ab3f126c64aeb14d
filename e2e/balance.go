package e2e

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"time"
)

// readyLimit is how long a replica may take to say that it is ready.
const readyLimit = time.Second

// balance makes a link before the service's replicas: it is what a load balancer
// is to clients outside. Each new connection goes to the next replica that is
// ready; when none is, to one that takes it, and speaks for itself.
func (s *Stack) balance(t testing.TB, service string) *Link {
	t.Helper()
	bases := make([]string, s.replicas)
	for i := range bases {
		bases[i] = s.Reach(Process{Service: service, Replica: i + 1})
	}
	asking := &http.Client{Timeout: readyLimit, Transport: &http.Transport{DisableKeepAlives: true}}
	var turn atomic.Uint32
	return s.linkBy(t, func() (net.Conn, error) {
		start := int(turn.Add(1))
		for i := range bases {
			if base := bases[(start+i)%len(bases)]; isReady(asking, base) {
				return net.DialTimeout("tcp", hostOf(base), dialLimit)
			}
		}
		errs := []error{fmt.Errorf("no replica of %s is ready", service)}
		for i := range bases {
			c, err := net.DialTimeout("tcp", hostOf(bases[(start+i)%len(bases)]), readyLimit)
			if err == nil {
				return c, nil
			}
			errs = append(errs, err)
		}
		return nil, errors.Join(errs...)
	})
}

func isReady(c *http.Client, base string) bool {
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, base+"/readyz", nil)
	if err != nil {
		return false
	}
	res, err := c.Do(req)
	return err == nil && res.Body.Close() == nil && res.StatusCode == http.StatusOK
}
