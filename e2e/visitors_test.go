package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
)

// visitors are customers of every kind who come all the time, and operators. None of
// them gives up while a service is away.
type visitors struct {
	customer *Customer
	stop     context.CancelFunc // no more come
	leave    context.CancelFunc // those who are there go, too
	visits   sync.WaitGroup

	mu       sync.Mutex
	promised []string
	came     map[string]int // by errand
	errs     []error
}

// errands are what visitors do, by name. Each gets an order to begin with that was
// paid by the method of its token.
var errands = map[string]struct {
	token string
	then  func(ctx context.Context, c *Customer, id string) error // nil = the visitor waits for the parcel
}{
	"happy":              {token: "tok_ok"},
	"provider fails":     {token: "tok_error_once"}, // a message fails, and is tried again
	"declined, pays":     {token: "tok_declined", then: paysAgain},
	"declined, goes":     {token: "tok_insufficient_funds"},
	"cancelled":          {token: "tok_slow", then: changesMind},
	"refunded":           {token: "tok_ok", then: isRefunded},
	"told again":         {token: "tok_ok", then: isToldAgain},
	"restocked, audited": {token: "tok_ok", then: isLookedAfter},
}

// visitLimit is how long a visit may take, whatever is killed meanwhile.
const visitLimit = 2 * time.Minute

// openVisitors has a visitor come each time that pause has passed, the errands in turn.
func openVisitors(t *testing.T, c *Customer, pause time.Duration) *visitors {
	coming, stop := context.WithCancel(t.Context())
	staying, leave := context.WithCancel(t.Context())
	v := &visitors{customer: c, stop: stop, leave: leave, came: map[string]int{}}
	names := slices.Sorted(maps.Keys(errands))
	v.visits.Go(func() {
		tick := time.NewTicker(pause)
		defer tick.Stop()
		for n := 0; ; n++ {
			select {
			case <-tick.C:
				v.visits.Go(func() { v.visit(staying, names[n%len(names)]) })
			case <-coming.Done():
				return
			}
		}
	})
	t.Cleanup(func() {
		stop()
		leave()
		v.visits.Wait()
	})
	return v
}

// visit runs the errand name.
func (v *visitors) visit(ctx context.Context, name string) {
	ctx, cancel := context.WithTimeout(ctx, visitLimit)
	defer cancel()
	errand := errands[name]
	o, err := v.customer.PlaceSurely(ctx, wish("FILTER-01", errand.token))
	if err == nil {
		v.mu.Lock()
		v.promised = append(v.promised, o.ID)
		v.mu.Unlock()
		if errand.then != nil {
			err = errand.then(ctx, v.customer, o.ID)
		}
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.came[name]++
	if err != nil {
		v.errs = append(v.errs, fmt.Errorf("%s: order %s: %w", name, o.ID, err))
	}
}

// close lets the visits end and returns the ids of what was promised. A visit that
// came to nothing is an error of t's.
func (v *visitors) close(t *testing.T) []string {
	t.Helper()
	v.stop()
	v.visits.Wait()
	if len(v.errs) > 0 {
		t.Errorf("%d visits failed, the first: %v", len(v.errs), v.errs[0])
	}
	t.Logf("visits: %v", v.came)
	return v.promised
}

// ask sends a request surely; the answer must have one of statuses.
func (c *Customer) ask(ctx context.Context, method, path string, body any, operator bool, statuses ...int) error {
	header := []string{"Idempotency-Key", uuid.NewString()}
	if operator {
		header = append(header, "X-Role", "operator")
	}
	a, err := c.Surely(ctx, method, path, body, header...)
	if err == nil && !slices.Contains(statuses, a.Status) {
		err = fmt.Errorf("status %d, want one of %v: %s", a.Status, statuses, a.Body)
	}
	if err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	return nil
}

// follow waits until the order is in one of statuses.
func (c *Customer) follow(ctx context.Context, id string, statuses ...string) error {
	return until(ctx, visitLimit, fmt.Sprintf("one of the statuses %v", statuses), func() (bool, error) {
		var o Order
		err := c.read(ctx, "/v1/orders/"+id, &o)
		return slices.Contains(statuses, o.Status), err
	})
}

// read reads what is at path, surely.
func (c *Customer) read(ctx context.Context, path string, into any) error {
	a, err := c.Surely(ctx, http.MethodGet, path, nil)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(a.Body, into); err != nil {
		return fmt.Errorf("GET %s: status %d: %w", path, a.Status, err)
	}
	return nil
}

func paysAgain(ctx context.Context, c *Customer, id string) error {
	if err := c.follow(ctx, id, "payment_failed"); err != nil {
		return err
	}
	// One whose answer was lost is refused the second time: it is paid.
	return c.ask(ctx, http.MethodPost, "/v1/orders/"+id+"/payment", map[string]string{"payment_token": "tok_ok"}, false, http.StatusAccepted, http.StatusConflict)
}

func changesMind(ctx context.Context, c *Customer, id string) error {
	return c.ask(ctx, http.MethodPost, "/v1/orders/"+id+"/cancel", nil, false, http.StatusAccepted, http.StatusOK, http.StatusConflict)
}

func isRefunded(ctx context.Context, c *Customer, id string) error {
	if err := c.follow(ctx, id, "delivered"); err != nil {
		return err
	}
	body := map[string]any{"lines": []Line{{"FILTER-01", 1}}, "reason": "broken"}
	if err := c.ask(ctx, http.MethodPost, "/v1/orders/"+id+"/refunds", body, true, http.StatusAccepted); err != nil {
		return err
	}
	return c.follow(ctx, id, "refunded")
}

// isToldAgain has an operator send a mail of the order's once more.
func isToldAgain(ctx context.Context, c *Customer, id string) error {
	if err := c.follow(ctx, id, "delivered"); err != nil {
		return err
	}
	var list struct {
		Notifications []struct{ ID string }
	}
	err := until(ctx, visitLimit, "a mail about it", func() (bool, error) {
		err := c.read(ctx, "/v1/notifications?channel=email&order_id="+id, &list)
		return len(list.Notifications) > 0, err
	})
	if err != nil {
		return err
	}
	return c.ask(ctx, http.MethodPost, "/v1/notifications/"+list.Notifications[0].ID+"/resend", map[string]string{"reason": "lost"}, true, http.StatusAccepted)
}

// isLookedAfter has operators put a piece into stock and compare the books.
func isLookedAfter(ctx context.Context, c *Customer, _ string) error {
	return errors.Join(
		c.ask(ctx, http.MethodPost, "/v1/products/FILTER-01/restock", map[string]int{"quantity": 1}, true, http.StatusOK),
		c.ask(ctx, http.MethodPost, "/v1/payments/reconciliations", nil, true, http.StatusAccepted),
	)
}
