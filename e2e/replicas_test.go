package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// The figures to reach while replicas come and go.
const (
	requestP99  = time.Second
	scalesBy    = 2.5 // three replicas of one
	scalesAtAll = 1.5 // what a busy machine must show, too
)

// replicasOf are the names of the service's replicas from .. to.
func replicasOf(service string, from, to int) (list []string) {
	for n := from; n <= to; n++ {
		list = append(list, Process{Service: service, Replica: n}.String())
	}
	return list
}

// TestReplicas has replicas of every service come and go while customers are in
// the shop, none of whom must see it. Then it measures what they are worth.
func TestReplicas(t *testing.T) {
	t.Parallel()
	s := NewStack(t, WithReplicas(3))
	for _, name := range services {
		s.Launch(t, name+"-2")
	}
	for _, name := range services {
		s.WaitReady(t, name+"-2")
	}
	crowd := NewCrowd(t, s.URL, scaled(8, 30))
	missed := map[string]int{}
	t.Run("rolling restart", func(t *testing.T) { s.tellGone(t, s.roll(t, crowd), missed) })
	t.Run("one, three and one again", func(t *testing.T) { s.tellGone(t, s.breathe(t, crowd), missed) })
	for _, service := range services {
		if missed[service] == 0 {
			t.Errorf("%s had nothing to do whenever one of its replicas ended: nothing was hit", service)
		}
	}
	CheckShop(t, s.DSN("", ""), crowd.Close(t, requestP99)...)
	t.Run("three do more than one", func(t *testing.T) { s.scale(t) })
	CheckShop(t, s.DSN("", ""))
}

// gone is a time in which a replica was told to end, and did.
type gone struct {
	replica  string
	from, to time.Time
	requests int64 // that customers sent meanwhile
}

// roll restarts every service as an operator does a new version: one replica
// after the other, each new one ready before the next goes.
func (s *Stack) roll(t *testing.T, crowd *Crowd) (all []gone) {
	t.Helper()
	for range scaled(1, 3) {
		for _, service := range services {
			for _, replica := range replicasOf(service, 1, 2) {
				all = append(all, s.goAway(t, replica, crowd))
				s.Launch(t, replica)
				s.WaitReady(t, replica)
			}
		}
	}
	return all
}

// breathe takes each service from one replica to three and back to one, which is
// none of those that were there before.
func (s *Stack) breathe(t *testing.T, crowd *Crowd) (all []gone) {
	t.Helper()
	for _, service := range services {
		all = append(all, s.goAway(t, service+"-2", crowd))
	}
	for range scaled(1, 3) {
		for _, service := range services {
			for _, replica := range replicasOf(service, 2, 3) {
				s.Launch(t, replica)
			}
			s.WaitReady(t, replicasOf(service, 2, 3)...)
			for _, replica := range replicasOf(service, 1, 2) {
				all = append(all, s.goAway(t, replica, crowd))
			}
			s.Launch(t, service) // for the next round
			s.WaitReady(t, service)
			all = append(all, s.goAway(t, service+"-3", crowd))
		}
	}
	return all
}

// goAway terminates a replica and notes what customers did meanwhile.
func (s *Stack) goAway(t *testing.T, replica string, crowd *Crowd) gone {
	t.Helper()
	before := crowd.asked.Load()
	g := gone{replica: replica, from: time.Now()}
	s.Terminate(t, replica)
	g.to, g.requests = time.Now(), crowd.asked.Load()-before
	return g
}

// tellGone logs how long replicas took to end, checks that customers asked for something
// meanwhile, and adds to missed what the services had to do: messages, or requests of
// customers where there are none.
func (s *Stack) tellGone(t *testing.T, all []gone, missed map[string]int) {
	t.Helper()
	var slowest time.Duration
	messages, requests := map[string]int{}, map[string]int64{}
	for _, g := range all {
		service, took := process(g.replica).Service, g.to.Sub(g.from)
		slowest = max(slowest, took)
		requests[service] += g.requests
		var n int
		var err error
		switch service {
		case "console": // has no messages
		case "paysim":
			err = s.Admin.GetContext(t.Context(), &n, `SELECT count(*) FROM paysim.operations WHERE at BETWEEN $1 AND $2`, g.from, g.to)
		default:
			err = s.Admin.GetContext(t.Context(), &n, `SELECT count(*) FROM messaging.inbox_`+service+` WHERE handled_at BETWEEN $1 AND $2`, g.from, g.to)
		}
		if err != nil {
			t.Fatalf("look what %s had to do: %v", service, err)
		}
		messages[service] += n
	}
	for _, service := range services {
		if requests[service] == 0 {
			t.Errorf("while replicas of %s ended, customers sent no request: nothing was hit", service)
		}
		missed[service] += messages[service]
		if service == "console" {
			missed[service] += int(requests[service])
		}
		t.Logf("%-13s while its replicas ended: %d requests of customers, %d messages", service, requests[service], messages[service])
	}
	t.Logf("%d times a replica ended, the slowest in %s (to reach: %s)", len(all), slowest.Round(time.Millisecond), stopLimit)
}

// scale measures how many messages a second payments handles whose handlers wait
// 50 ms for somebody outside, with one replica and with three, one message in hand
// each. There is always more to do than they can.
func (s *Stack) scale(t *testing.T) {
	slow := []string{"FAULT_SLOW=payments.authorize_payment=50ms,payments.capture_payment=50ms", "IN_FLIGHT=1"}
	var rates []float64
	for _, replicas := range []int{1, 3} {
		for _, p := range s.replicasUp("payments") {
			s.Terminate(t, p.String())
		}
		orders := scaled(20, 150) * replicas
		since := s.place(t, orders)
		for _, replica := range replicasOf("payments", 1, replicas) {
			s.Launch(t, replica, slow...)
		}
		rate := s.handledPerSecond(t, since, 2*orders)
		t.Logf("payments, replicas: %d: %d messages handled, %.1f a second", replicas, 2*orders, rate)
		rates = append(rates, rate)
	}
	ratio := rates[1] / rates[0]
	t.Logf("three replicas do %.2f times as much as one (to reach: %.1f)", ratio, scalesBy)
	if ratio < scalesAtAll {
		t.Errorf("three replicas do %.2f times as much as one, want %.1f at least", ratio, scalesAtAll)
	}
}

// place places n orders and returns when it began, by the database's clock.
func (s *Stack) place(t *testing.T, n int) (began time.Time) {
	t.Helper()
	if err := s.Admin.GetContext(t.Context(), &began, `SELECT clock_timestamp()`); err != nil {
		t.Fatal(err)
	}
	c := NewCustomer(t, s.URL)
	for range n {
		c.Place(t, wish("FILTER-01", "tok_ok"))
	}
	return began
}

// handledPerSecond waits until payments has handled n messages since then, and
// returns how many a second it did in the middle of that time: from the first
// tenth to the last.
func (s *Stack) handledPerSecond(t *testing.T, since time.Time, n int) float64 {
	t.Helper()
	var at []time.Time
	eventually(t, 2*time.Minute, func() error {
		at = nil
		err := s.Admin.SelectContext(t.Context(), &at, `
			SELECT handled_at FROM messaging.inbox_payments
			WHERE handled_at >= $1 AND kind = ANY (string_to_array($2, ','))
			ORDER BY handled_at`, since, strings.Join([]string{"payments.authorize_payment", "payments.capture_payment"}, ","))
		if err == nil && len(at) < n {
			err = fmt.Errorf("payments has handled %d messages, want %d", len(at), n)
		}
		return err
	})
	from, to := len(at)/10, len(at)-1-len(at)/10
	return float64(to-from) / at[to].Sub(at[from]).Seconds()
}
