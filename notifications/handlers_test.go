package notifications

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"example.com/orderflow/messaging/contracts"
	"example.com/orderflow/messaging/httpapi"
	"example.com/orderflow/messaging/messagingtest"
)

// get asks s for path as customer ("" sends no header).
func get(t *testing.T, s *Service, path, customer string) (int, []byte) {
	t.Helper()
	mux := httpapi.NewMux(messagingtest.Log(t))
	s.Routes(mux)
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil)
	if customer != "" {
		r.Header.Set("X-Customer-Id", customer)
	}
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, r)
	return w.Code, w.Body.Bytes()
}

// list is what customer is shown of order.
func list(t *testing.T, s *Service, order, customer string) []Notification {
	t.Helper()
	status, body := get(t, s, "/v1/notifications?order_id="+order, customer)
	if status != http.StatusOK {
		t.Fatalf("status %d, want 200: %s", status, body)
	}
	var answer notificationList
	if err := json.Unmarshal(body, &answer); err != nil {
		t.Fatalf("answer %s: %v", body, err)
	}
	return answer.Notifications
}

func TestEveryEventBecomesOneNotification(t *testing.T) {
	t.Parallel()
	db, s := running(t)
	sent := time.Now()
	for i, outcome := range db.Deliver(t, events()...) {
		if outcome != "done" {
			t.Errorf("%s: outcome %q, want done", events()[i].Kind(), outcome)
		}
	}
	got := list(t, s, orderID, "ada")
	if len(got) != len(events()) {
		t.Fatalf("%d notifications, want %d", len(got), len(events()))
	}
	for i, e := range events() {
		n := got[i]
		if n.Kind != e.Kind() || n.OrderID != orderID || n.Channel != "inbox" || n.Subject == "" || n.Body == "" || uuid.Validate(n.ID) != nil {
			t.Errorf("notification %d is %+v, want one of %s", i, n, e.Kind())
		}
		if n.OccurredAt.Sub(sent).Abs() > time.Minute {
			t.Errorf("notification %d occurred at %s, want about %s", i, n.OccurredAt, sent)
		}
	}
}

// TestEventHandledAgainWritesNothing hands the very same message to a handler
// twice, as after a replay, which the inbox doesn't stop.
func TestEventHandledAgainWritesNothing(t *testing.T) {
	t.Parallel()
	db, s := running(t)
	first, _ := db.Send(t, contracts.OrderDelivered{OrderID: orderID, Customer: ada})
	messagingtest.Wait(t, "the notification", func() bool { return len(list(t, s, orderID, "ada")) == 1 })
	for _, stmt := range []string{
		`DELETE FROM messaging.inbox_notifications`,
		`INSERT INTO messaging.queue_notifications (message_id, kind, order_id, payload)
		 SELECT message_id, 'orders.order_delivered', order_id,
		        convert_to(json_build_object('order_id', order_id, 'customer', json_build_object('id', 'ada', 'name', 'Ada', 'email', 'ada@example.com'))::text, 'UTF8')
		 FROM notifications.notifications`,
	} {
		if _, err := db.Admin.Exec(stmt); err != nil {
			t.Fatalf("send message %s again: %v", first, err)
		}
	}
	messagingtest.Wait(t, "the message to be handled again", func() bool {
		var n int
		if err := db.Admin.Get(&n, `SELECT count(*) FROM messaging.inbox_notifications WHERE outcome = 'done'`); err != nil {
			t.Fatalf("read the trace: %v", err)
		}
		return n == 1
	})
	if got := list(t, s, orderID, "ada"); len(got) != 1 {
		t.Errorf("%d notifications, want 1", len(got))
	}
}

func TestInvalidEventIsADeadLetter(t *testing.T) {
	t.Parallel()
	db, s := running(t)
	got := db.Deliver(t, contracts.OrderShipped{OrderID: orderID, Customer: ada})[0]
	if !strings.HasPrefix(got, "dead: ") {
		t.Errorf("an order shipped without tracking: outcome %q, want a dead letter", got)
	}
	if got := list(t, s, orderID, "ada"); len(got) != 0 {
		t.Errorf("%d notifications, want none", len(got))
	}
}

func TestNotificationsAreShownToTheirCustomerOnly(t *testing.T) {
	t.Parallel()
	db, s := running(t)
	demo := contracts.Customer{ID: "demo", Name: "Demo", Email: "demo@example.com"}
	other := uuid.Must(uuid.NewV7()).String()
	db.Deliver(t, contracts.OrderDelivered{OrderID: orderID, Customer: ada}, contracts.OrderDelivered{OrderID: other, Customer: demo})
	for _, tt := range []struct {
		name, order, customer string
		want                  int
	}{
		{"one's own", orderID, "ada", 1},
		{"somebody else's", orderID, "eve", 0},
		{"nobody is demo", other, "", 1},
		{"demo sees no other's", orderID, "", 0},
		{"an order that nobody has", uuid.NewString(), "ada", 0},
	} {
		if got := list(t, s, tt.order, tt.customer); len(got) != tt.want {
			t.Errorf("%s: %d notifications, want %d", tt.name, len(got), tt.want)
		}
	}
	if status, body := get(t, s, "/v1/notifications?order_id="+orderID, "eve"); strings.TrimSpace(string(body)) != `{"notifications":[]}` {
		t.Errorf("status %d, body %s, want an empty list", status, body)
	}
}

func TestOrderIDMustBeGiven(t *testing.T) {
	t.Parallel()
	_, _, s := newService(t)
	for _, query := range []string{"", "?order_id=", "?order_id=1", "?order_id=%27%20OR%201%3D1%20--", "?order_id=" + orderID + "&order_id=" + orderID, "?id=" + orderID} {
		status, body := get(t, s, "/v1/notifications"+query, "ada")
		var p httpapi.Problem
		if err := json.Unmarshal(body, &p); err != nil || status != http.StatusBadRequest || p.Code() != "invalid-parameter" {
			t.Errorf("%s: status %d, body %s, want 400 invalid-parameter", query, status, body)
		}
	}
}
