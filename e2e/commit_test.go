package e2e

import (
	"net/http"
	"testing"
	"time"

	"github.com/google/uuid"
)

// cutCommits cuts the connection of orders in the midst of COMMITs, before the server
// has heard of them and after it has done them: of orders that customers place, of
// messages that are handled, of what the relay carries. Nobody knows what has become
// of them; all of it happens, once. It returns the orders that were promised.
func cutCommits(t *testing.T, c *Customer, link *Link) []string {
	var promised []string
	n := scaled(5, 50)
	for _, after := range []bool{false, true} {
		when := map[bool]string{false: "before", true: "after"}[after]
		link.CutCommits(n, "orders.idempotency_keys", after)
		unanswered := 0
		for range n {
			id, unavailable := placeUnderOneKey(t, c)
			promised = append(promised, id)
			unanswered += unavailable
		}
		hits, _ := link.CommitsCut()
		t.Logf("%d COMMITs of placed orders cut %s the server did them: %d answers of 503, then the order", hits, when, unanswered)
		if hits != n || unanswered != n {
			t.Errorf("%d COMMITs of placed orders cut %s the server did them, %d times 503; want %d, %d: the fault must hit", hits, when, unanswered, n, n)
		}
		for what, of := range map[string]string{"handled messages": `DELETE FROM messaging."queue_orders"`, "a relay's batch": `DELETE FROM messaging."outbox_orders"`} {
			link.CutCommits(n, of, after)
			var last string
			started := time.Now()
			for hits, left := link.CommitsCut(); left > 0; hits, left = link.CommitsCut() {
				if time.Since(started) > 10*moveAgain {
					t.Fatalf("after %s only %d COMMITs of %s were cut", since(started), hits, what)
				}
				o, err := c.PlaceSurely(t.Context(), wish("FILTER-01", "tok_ok"))
				if err != nil {
					t.Fatal(err)
				}
				last = o.ID
				promised = append(promised, last)
			}
			hits, _ := link.CommitsCut()
			healed := time.Now()
			c.Await(t, last, "delivered")
			t.Logf("%d COMMITs of %s cut %s the server did them; the last order delivered %s later", hits, what, when, since(healed))
			if hits == 0 {
				t.Errorf("no COMMIT of %s was cut %s the server did it: the fault must hit", what, when)
			}
		}
	}
	return promised
}

// placeUnderOneKey places one order as a customer does who asks again under the
// same key until there is an answer, and returns its id and how often that was 503.
func placeUnderOneKey(t *testing.T, c *Customer) (id string, unavailable int) {
	t.Helper()
	key, w := uuid.NewString(), wish("FILTER-01", "tok_ok")
	for end := time.Now().Add(10 * answerLimit); ; {
		a, err := c.Do(t.Context(), http.MethodPost, "/v1/orders", w, "Idempotency-Key", key)
		switch {
		case err == nil && a.Status/100 == 2:
			return Must[Order](t, c, http.StatusOK, http.MethodGet, a.Header.Get("Location"), nil).ID, unavailable
		case err == nil && a.Status == http.StatusServiceUnavailable && a.Header.Get("Retry-After") != "":
			unavailable++
		case err == nil && a.Code() == "idempotency-in-progress": // the server hasn't noticed yet that its client is gone
		default:
			t.Fatalf("place an order: %v, status %d: %s; want 2xx, or 503 with Retry-After", err, a.Status, a.Body)
		}
		if time.Now().After(end) {
			t.Fatalf("place an order: 503 %d times", unavailable)
		}
	}
}
