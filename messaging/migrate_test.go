package messaging_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/fstest"

	"example.com/orderflow/messaging"
	"example.com/orderflow/messaging/messagingtest"
)

// sent is an event of a service called "order".
type sent struct{ body }

func (sent) Kind() string { return "order.sent" }

// C13: a service may be called as SQL calls things of its own: it is migrated,
// again too, has its rights, sends and receives.
func TestC13NamesThatAreWordsOfSQL(t *testing.T) {
	t.Parallel()
	tables := func(service string) fstest.MapFS {
		return fstest.MapFS{"migrations/0001_heard.sql": &fstest.MapFile{
			Data: fmt.Appendf(nil, "-- +goose Up\nCREATE TABLE %q.heard (n integer NOT NULL);", service),
		}}
	}
	order := messaging.Spec{Name: "order", Speaks: []string{"order.sent"}, Migrations: tables("order")}
	specs := []messaging.Spec{order}
	for _, name := range []string{"user", "select", "table"} {
		specs = append(specs, messaging.Spec{Name: name, Queues: []messaging.Queue{{Name: name, Kinds: []string{"order.sent"}, Replayable: true}}, Migrations: tables(name)})
	}
	db := messagingtest.NewDB(t, specs...)
	if err := messaging.Migrate(t.Context(), db.Admin, messagingtest.Log(t), nil, specs...); err != nil {
		t.Fatalf("migrate again: %v", err)
	}
	a := bus(t, db, order)
	messagingtest.Run(t, a)
	for _, s := range specs[1:] {
		b := db.NewBus(t, s)
		messaging.Handle(b, func(_ context.Context, tx *messaging.Tx, m sent) error {
			tx.Queue(fmt.Sprintf(`INSERT INTO %q.heard (n) VALUES ($1)`, s.Name), m.N)
			return nil
		})
		messagingtest.Run(t, b)
	}
	publish(t, a, sent{body{N: 7, OrderID: newID()}})
	heard := func(service string) int {
		return count(t, db.Admin, fmt.Sprintf(`SELECT count(*) FROM %q.heard WHERE n = 7`, service))
	}
	for _, s := range specs[1:] {
		messagingtest.Wait(t, "the event to be handled by "+s.Name, func() bool { return heard(s.Name) == 1 })
		if _, err := messaging.NewOperator(db.Admin, "test").Replay(t.Context(), s.Name, messaging.ReplayOptions{}); err != nil {
			t.Errorf("replay: %v", err)
		}
		messagingtest.Wait(t, "the event to be handled again by "+s.Name, func() bool { return heard(s.Name) == 2 })
	}
	for _, s := range specs {
		if n := count(t, db.Admin, fmt.Sprintf(`SELECT count(*) FROM %q.goose_db_version WHERE version_id = 1`, s.Name)); n != 1 {
			t.Errorf("migrations of %s noted: got %d, want 1", s.Name, n)
		}
		if _, err := db.Service(s.Name).Exec(fmt.Sprintf(`DELETE FROM %q.goose_db_version`, s.Name)); err == nil {
			t.Errorf("service %s may rewrite its migrations' table", s.Name)
		}
	}
}

// Roles belong to the server, migrations to a database: two that are migrated at the
// same time set the same role's password, and no lock is common to them.
func TestC13DatabasesOfAServerAreMigratedAtOnce(t *testing.T) {
	t.Parallel()
	common := messaging.Spec{Name: "common", Migrations: fstest.MapFS{"migrations/0001_things.sql": &fstest.MapFile{
		Data: []byte("-- +goose Up\nCREATE TABLE common.things (n integer NOT NULL);"),
	}}}
	passwords := map[string]string{"common": "test-common"}
	var all sync.WaitGroup
	for range 4 {
		db := messagingtest.NewDB(t, common)
		all.Go(func() {
			for range 10 {
				if err := messaging.Migrate(t.Context(), db.Admin, messagingtest.Log(t), passwords, common); err != nil {
					t.Errorf("migrate: %v", err)
				}
			}
		})
	}
	all.Wait()
}
