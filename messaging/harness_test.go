package messaging_test

import (
	"context"
	"embed"
	"fmt"
	"io/fs"
	"os"
	"testing"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"go.uber.org/goleak"

	"example.com/orderflow/messaging"
	"example.com/orderflow/messaging/messagingtest"
)

func TestMain(m *testing.M) {
	if script := os.Getenv(victimVariable); script != "" {
		fmt.Fprintln(os.Stderr, "a victim ended by itself:", beVictim(script))
		os.Exit(1)
	}
	// Watermill's own tests leave these behind.
	messagingtest.Main(m,
		goleak.IgnoreAnyFunction("github.com/ThreeDotsLabs/watermill/pubsub/tests.TestReconnect.func2"),
		goleak.IgnoreAnyFunction("github.com/ThreeDotsLabs/watermill/internal/subscriber.(*multiplier).Subscribe.func2"),
		goleak.IgnoreAnyFunction("github.com/ThreeDotsLabs/watermill/internal/subscriber.(*multiplier).Subscribe.func3"))
}

// The services of these tests: alpha commands beta (transactional) and gamma
// (leased) and speaks an event that beta and delta get a copy of.

//go:embed testdata/migrations/*.sql
var testdata embed.FS

func migrations(testing.TB) fs.FS { return mustSub(testdata, "testdata") }

func mustSub(all fs.FS, dir string) fs.FS {
	sub, err := fs.Sub(all, dir)
	if err != nil {
		panic(err)
	}
	return sub
}

// body is a message of the tests: N tells them apart.
type body struct {
	N       int    `json:"n"`
	OrderID string `json:"order_id,omitempty"`
	Do      string `json:"do,omitempty"`
}

func (b body) Order() string { return b.OrderID }

type (
	work     struct{ body }
	outside  struct{ body }
	happened struct{ body }
	unknown  struct{ body }
)

func (work) Kind() string     { return "beta.work" }
func (outside) Kind() string  { return "gamma.outside" }
func (happened) Kind() string { return "alpha.happened" }
func (unknown) Kind() string  { return "nobody.knows" }

func alpha(t testing.TB) messaging.Spec {
	return messaging.Spec{Name: "alpha", Sends: []string{"beta.work", "gamma.outside"}, Speaks: []string{"alpha.happened"}, Migrations: migrations(t)}
}

func beta(t testing.TB) messaging.Spec {
	return messaging.Spec{Name: "beta", Queues: []messaging.Queue{{Name: "beta", Kinds: []string{"beta.work", "alpha.happened"}}}, Speaks: []string{"beta.done"}, Migrations: migrations(t)}
}

func gamma(t testing.TB) messaging.Spec {
	return messaging.Spec{Name: "gamma", Queues: []messaging.Queue{{Name: "gamma", Mode: messaging.Leased, Kinds: []string{"gamma.outside"}}}, Migrations: migrations(t)}
}

func delta(t testing.TB) messaging.Spec {
	return messaging.Spec{Name: "delta", Queues: []messaging.Queue{{Name: "delta", Kinds: []string{"alpha.happened"}}}, Migrations: migrations(t)}
}

// newDB is a database with all four and a table that beta, gamma and delta may
// write: effects(who, n, step).
func newDB(t testing.TB) *messagingtest.DB {
	t.Helper()
	db := messagingtest.NewDB(t, alpha(t), beta(t), gamma(t), delta(t))
	makeEffects(t, db.Admin)
	return db
}

func makeEffects(t testing.TB, admin *sqlx.DB) {
	t.Helper()
	_, err := admin.Exec(`
		CREATE TABLE public.effects (id bigint GENERATED ALWAYS AS IDENTITY, who text NOT NULL, n integer NOT NULL, lane text, attempt integer, at timestamptz NOT NULL DEFAULT clock_timestamp());
		GRANT ALL ON public.effects TO PUBLIC; GRANT USAGE ON SCHEMA public TO PUBLIC`)
	if err != nil {
		t.Fatalf("make the table of effects: %v", err)
	}
}

func effect(_ context.Context, tx *messaging.Tx, who string, b body) error {
	tx.Queue(`INSERT INTO public.effects (who, n, lane, attempt) VALUES ($1, $2, $3, $4)`, who, b.N, b.OrderID, tx.Message().Attempt)
	return nil
}

func count(t testing.TB, db *sqlx.DB, query string, args ...any) int {
	t.Helper()
	var n int
	if err := db.Get(&n, query, args...); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return n
}

func newID() string { return uuid.Must(uuid.NewV7()).String() }

// nothing handles a kind that a test doesn't care about.
func nothing[T messaging.Body](context.Context, *messaging.Tx, T) error { return nil }

// bus returns a bus of spec with a relay.
func bus(t testing.TB, db *messagingtest.DB, spec messaging.Spec, options ...func(*messaging.Config)) *messaging.Bus {
	t.Helper()
	withRelay := func(c *messaging.Config) { c.WithoutRelay = false }
	return db.NewBus(t, spec, append([]func(*messaging.Config){withRelay}, options...)...)
}
