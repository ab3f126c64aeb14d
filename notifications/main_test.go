package notifications

import (
	"testing"

	"example.com/orderflow/messaging"
	"example.com/orderflow/messaging/contracts"
	"example.com/orderflow/messaging/messagingtest"
)

func TestMain(m *testing.M) { messagingtest.Main(m) }

// newService is a service on a database of its own, with its bus not running yet.
func newService(t *testing.T) (*messagingtest.DB, *messaging.Bus, *Service) {
	t.Helper()
	db := messagingtest.NewDB(t, Spec())
	bus := db.NewBus(t, Spec())
	s, err := New(Config{}, db.Service("notifications"), bus, messagingtest.Log(t))
	if err != nil {
		t.Fatalf("new service: %v", err)
	}
	return db, bus, s
}

// running is a service that handles what is delivered to db.
func running(t *testing.T) (*messagingtest.DB, *Service) {
	t.Helper()
	db, bus, s := newService(t)
	messagingtest.Run(t, bus)
	return db, s
}

const orderID = "0197f000-0000-7000-8000-000000000001"

var ada = contracts.Customer{ID: "ada", Name: "Ada <b>Lovelace</b> {{7*7}}", Email: "ada@example.com"}
