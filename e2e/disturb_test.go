package e2e

import (
	"slices"
	"sync"
	"testing"

	"github.com/jmoiron/sqlx"
)

// disturberSQL makes what disturbs a queue: every row is copied once to four times
// with its message id, as a transport does that delivers twice; some commands are
// copied under a new id, as a sender does that asks again; and each row is held back
// by itself and has lost its lane, so that rows overtake each other. What reserves
// or authorises is held back longest: who undoes it comes first.
const disturberSQL = `
	CREATE SCHEMA disturber;
	CREATE TABLE disturber.copies (queue text NOT NULL, message_id uuid NOT NULL, new_id boolean NOT NULL);

	CREATE FUNCTION disturber.hold() RETURNS trigger LANGUAGE plpgsql AS $fn$
	BEGIN
		NEW.lane := NULL;
		NEW.due := greatest(NEW.due, clock_timestamp()) + random() * interval '600 milliseconds';
		IF NEW.kind IN ('inventory.reserve_stock', 'payments.authorize_payment') THEN
			NEW.due := NEW.due + interval '1 second';
		END IF;
		RETURN NEW;
	END
	$fn$;

	CREATE FUNCTION disturber.copy() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $fn$
	BEGIN
		IF pg_trigger_depth() > 1 THEN
			RETURN NULL; -- a copy
		END IF;
		EXECUTE format($sql$
			WITH wanted AS (
				SELECT false AS new_id, $1 AS message_id
				FROM generate_series(1, 1 + floor(random() * 4)::integer)
				UNION ALL
				SELECT true, (substr(messaging.uuid_at(clock_timestamp())::text, 1, 14) || '7' || substr(gen_random_uuid()::text, 16))::uuid
				WHERE $2 AND random() < 0.3
			), noted AS (
				INSERT INTO disturber.copies (queue, message_id, new_id)
				SELECT %2$L, message_id, new_id FROM wanted
			)
			INSERT INTO messaging.%1$I (message_id, kind, schema_version, class, order_id, correlation_id, causation_id, occurred_at, producer, metadata, payload)
			SELECT w.message_id, q.kind, q.schema_version, q.class, q.order_id, q.correlation_id, q.causation_id, q.occurred_at, q.producer, q.metadata, q.payload
			FROM wanted w, messaging.%1$I q
			WHERE q.id = $3
			$sql$, TG_TABLE_NAME, substr(TG_TABLE_NAME, 7))
		USING NEW.message_id, TG_TABLE_NAME IN ('queue_inventory', 'queue_payments') AND NEW.producer = 'orders', NEW.id;
		RETURN NULL;
	END
	$fn$;`

// disturb sets the disturber on all queues of the shop.
func disturb(t *testing.T, s *Stack) {
	t.Helper()
	statements := []string{disturberSQL}
	for _, queue := range queuesOf(t, s.Admin) {
		statements = append(statements,
			`CREATE TRIGGER hold BEFORE INSERT ON messaging.queue_`+queue+` FOR EACH ROW EXECUTE FUNCTION disturber.hold()`,
			`CREATE TRIGGER copy AFTER INSERT ON messaging.queue_`+queue+` FOR EACH ROW EXECUTE FUNCTION disturber.copy()`)
	}
	for _, sql := range statements {
		if _, err := s.Admin.ExecContext(t.Context(), sql); err != nil {
			t.Fatalf("set the disturber on the queues: %v", err)
		}
	}
}

func queuesOf(t *testing.T, db *sqlx.DB) []string {
	t.Helper()
	var queues []string
	if err := db.SelectContext(t.Context(), &queues, `SELECT name FROM messaging.queues ORDER BY name`); err != nil {
		t.Fatalf("list the queues: %v", err)
	}
	return queues
}

// TestDoubledAndReordered delivers every message two to five times and in any order
// while customers buy, cancel and send back: everything happens once, and what was
// undone before it was done stays undone.
func TestDoubledAndReordered(t *testing.T) {
	t.Parallel()
	s := NewStack(t, WithMails)
	disturb(t, s)

	stories := []story{keeps, cancels, cancelsLate, sendsBack}
	n := len(stories) * scaled(6, 100)
	var mu sync.Mutex
	var promised []string
	var customers sync.WaitGroup
	next := make(chan int)
	for range scaled(32, 100) { // at once: so wide is the window in which messages overtake each other
		c := NewCustomer(t, s.URL)
		customers.Go(func() {
			for i := range next {
				id, err := stories[i%len(stories)].live(t, c)
				if err != nil {
					t.Errorf("order %d: %v", i, err)
					continue
				}
				mu.Lock()
				promised = append(promised, id)
				mu.Unlock()
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	customers.Wait()
	CheckShop(t, s.DSN("", ""), promised...)
	checkDisturbed(t, s)
}

// checkDisturbed tells what the disturber has done, and fails when that is nothing.
func checkDisturbed(t *testing.T, s *Stack) {
	t.Helper()
	for _, queue := range queuesOf(t, s.Admin) {
		service := map[bool]string{true: "notifications", false: queue}[queue == "notifications_send"]
		var hits struct {
			Messages  int `db:"messages"`
			Doubled   int `db:"doubled"`
			Resent    int `db:"resent"`
			Reordered int `db:"reordered"`
			Furthest  int `db:"furthest"`
		}
		err := s.Admin.GetContext(t.Context(), &hits, `
			WITH handled AS (
				SELECT rank() OVER (ORDER BY started_at, message_id) - rank() OVER (ORDER BY sent_at, message_id) AS behind
				FROM messaging.inbox_`+service+`
				WHERE consumer = $1 AND sent_at >= (SELECT min(created_at) FROM orders.orders)
			), copies AS (
				SELECT count(*) FILTER (WHERE NOT new_id) AS doubled, count(*) FILTER (WHERE new_id) AS resent FROM disturber.copies WHERE queue = $1
			)
			SELECT count(*) AS messages, c.doubled, c.resent, count(*) FILTER (WHERE behind <> 0) AS reordered, coalesce(max(abs(behind)), 0) AS furthest
			FROM handled, copies c
			GROUP BY c.doubled, c.resent`, queue)
		if err != nil {
			t.Fatalf("look what was disturbed in queue %s: %v", queue, err)
		}
		t.Logf("%-18s %4d messages handled; %4d copies of messages, %3d under a new id; %4d out of order, by up to %d places",
			queue, hits.Messages, hits.Doubled, hits.Resent, hits.Reordered, hits.Furthest)
		if hits.Doubled == 0 || hits.Reordered == 0 || hits.Resent == 0 && slices.Contains([]string{"inventory", "payments"}, queue) {
			t.Errorf("queue %s was not disturbed: the test proves nothing", queue)
		}
	}
	for service, kinds := range map[string][2]string{
		"inventory": {"inventory.release_stock", "inventory.reserve_stock"},
		"payments":  {"payments.void_payment", "payments.authorize_payment"},
	} {
		var n int
		err := s.Admin.GetContext(t.Context(), &n, `
			SELECT count(*)
			FROM (SELECT min(handled_at) FILTER (WHERE kind = $1) AS undone, min(handled_at) FILTER (WHERE kind = $2) AS done
			      FROM messaging.inbox_`+service+`
			      GROUP BY order_id) o
			WHERE undone < done`, kinds[0], kinds[1])
		if err != nil {
			t.Fatalf("look what %s undid before it was done: %v", service, err)
		}
		t.Logf("%s before %s: %d orders", kinds[0], kinds[1], n)
		if n == 0 {
			t.Errorf("no %s came before its %s: the test proves nothing", kinds[0], kinds[1])
		}
	}
}
