package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
)

// TestRush has many more buyers come at the same moment than there are pieces: just
// as many pieces are sold as there were, all others are refused, and nobody is told
// that the shop has failed. The buyers' second product and the order of their lines
// would lead to deadlocks if locks weren't taken in one order.
func TestRush(t *testing.T) {
	t.Parallel()
	s := NewStack(t)
	t.Run("buyers", func(t *testing.T) { rush(t, s) })
	t.Run("lost wake-ups", func(t *testing.T) { lostWakeUps(t, s) })
}

func rush(t *testing.T, s *Stack) {
	const sku, other = "SET-01", "MUG-01" // of the first there is none yet
	buyers, pieces := scaled(150, 500), scaled(15, 50)
	Must[any](t, NewCustomer(t, s.URL), http.StatusOK, http.MethodPost, "/v1/products/"+sku+"/restock", map[string]int{"quantity": pieces}, "X-Role", "operator")

	answers := make([]Answer, buyers)
	errs := make([]error, buyers)
	customers := make([]*Customer, buyers)
	for i := range customers {
		customers[i] = NewCustomer(t, s.URL)
	}
	var all sync.WaitGroup
	opened := make(chan struct{})
	for i, c := range customers {
		w := wish(sku, "tok_ok")
		w.Lines = append(w.Lines, Line{other, 1})
		if i%2 == 1 {
			w.Lines[0], w.Lines[1] = w.Lines[1], w.Lines[0]
		}
		all.Go(func() {
			<-opened
			answers[i], errs[i] = c.Do(t.Context(), http.MethodPost, "/v1/orders", w, "Idempotency-Key", uuid.NewString())
		})
	}
	started := time.Now()
	close(opened)
	all.Wait()
	t.Logf("%d buyers for %d pieces, all answered after %s", buyers, pieces, since(started))
	var ids []string
	for i, a := range answers {
		if errs[i] != nil || a.Status != http.StatusAccepted {
			t.Errorf("buyer %d: %v, status %d: %s; want 202", i, errs[i], a.Status, a.Body)
			continue
		}
		ids = append(ids, strings.TrimPrefix(a.Header.Get("Location"), "/v1/orders/"))
	}

	outcomes := map[string]int{}
	eventually(t, 10*goesOn, func() error {
		var rows []struct {
			Outcome string `db:"outcome"`
			Orders  int    `db:"orders"`
		}
		err := s.Admin.SelectContext(t.Context(), &rows, `
			SELECT status || coalesce(' ' || nullif(reason_code, ''), '') AS outcome, count(*) AS orders
			FROM orders.orders
			WHERE id = ANY ($1::uuid[])
			GROUP BY 1`, ids)
		clear(outcomes)
		for _, r := range rows {
			outcomes[r.Outcome] = r.Orders
		}
		if err == nil && outcomes["delivered"]+outcomes["rejected out_of_stock"] != buyers {
			err = fmt.Errorf("the orders are %v, want them delivered, or rejected because of the stock", outcomes)
		}
		return err
	})
	t.Logf("all ended after %s: %v", since(started), outcomes)
	if outcomes["delivered"] != pieces {
		t.Errorf("%d of %d pieces were sold", outcomes["delivered"], pieces)
	}
	for _, c := range customers[:2] { // as everybody sees it
		left := Must[struct{ Products []struct{ Available int64 } }](t, c, http.StatusOK, http.MethodGet, "/v1/availability?sku="+sku, nil)
		if len(left.Products) != 1 || left.Products[0].Available != 0 {
			t.Errorf("left of %s: %+v, want nothing", sku, left)
		}
	}
	s.checkNoDeadlock(t)
	CheckShop(t, s.DSN("", ""), ids...)
}

// checkNoDeadlock checks that neither the database nor any program tells of one.
func (s *Stack) checkNoDeadlock(t testing.TB) {
	t.Helper()
	var n int
	if err := s.Admin.GetContext(t.Context(), &n, `SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()`); err != nil {
		t.Fatalf("ask the database for deadlocks: %v", err)
	}
	if n > 0 {
		t.Errorf("the database has broken %d deadlocks, want none", n)
	}
	for _, name := range services {
		if log := s.Logs(first(name)); strings.Contains(log, "40P01") || strings.Contains(log, "deadlock") {
			t.Errorf("%s tells of a deadlock", name)
		}
	}
}
