package messaging_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"

	"example.com/orderflow/messaging"
	"example.com/orderflow/messaging/messagingtest"
)

const (
	insertNote = `INSERT INTO public.notes (id, text, n) SELECT id, text, n FROM unnest($1::uuid[], $2::text[], $3::int[]) AS new (id, text, n)`
	updateNote = `UPDATE public.notes o SET text = c.text FROM (SELECT DISTINCT ON (id) * FROM unnest($1::uuid[], $2::text[]) WITH ORDINALITY AS c (id, text, n) ORDER BY id, n DESC) c WHERE o.id = c.id`
)

// notes makes a table whose statement trigger notes how many rows each write had.
func notes(t *testing.T, db *sqlx.DB) {
	t.Helper()
	_, err := db.Exec(`
		CREATE TABLE public.notes (id uuid PRIMARY KEY, text text, n integer NOT NULL CHECK (n >= 0));
		CREATE TABLE public.writes (id bigint GENERATED ALWAYS AS IDENTITY, verb text, rows bigint);
		CREATE FUNCTION public.count_rows() RETURNS trigger LANGUAGE plpgsql AS $$
			BEGIN INSERT INTO public.writes (verb, rows) SELECT TG_OP, count(*) FROM new; RETURN NULL; END $$;
		CREATE TRIGGER inserted AFTER INSERT ON public.notes REFERENCING NEW TABLE AS new FOR EACH STATEMENT EXECUTE FUNCTION public.count_rows();
		CREATE TRIGGER updated AFTER UPDATE ON public.notes REFERENCING NEW TABLE AS new FOR EACH STATEMENT EXECUTE FUNCTION public.count_rows();
		GRANT ALL ON public.notes, public.writes TO PUBLIC`)
	if err != nil {
		t.Fatal(err)
	}
}

func writes(t *testing.T, db *sqlx.DB) []string {
	t.Helper()
	var list []string
	if err := db.Select(&list, `SELECT verb || ' ' || rows FROM public.writes ORDER BY id`); err != nil {
		t.Fatal(err)
	}
	return list
}

// Rows of one query go as one statement, and what is done to an order is done in
// the order queued, whatever others did in between.
func TestRowsAreGathered(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	notes(t, db.Admin)
	a, b, c := newID(), newID(), newID()
	for _, step := range []struct {
		name string
		do   func(*messaging.Tx)
		want []string
	}{
		{"one statement for all rows", func(tx *messaging.Tx) {
			tx.QueueRow(insertNote, a, "first", 1)
			tx.QueueRow(insertNote, b, "first", 2)
		}, []string{"INSERT 2"}},
		{"an update is not overtaken by what it builds on", func(tx *messaging.Tx) {
			tx.QueueRow(updateNote, a, "second")
			tx.QueueRow(insertNote, c, "first", 3)
			tx.QueueRow(updateNote, c, "second")
			tx.QueueRow(updateNote, c, "third")
		}, []string{"INSERT 2", "UPDATE 1", "INSERT 1", "UPDATE 1"}},
		{"nor by a single write", func(tx *messaging.Tx) {
			tx.QueueRow(updateNote, a, "third")
			tx.Queue(`UPDATE public.notes SET text = 'fourth' WHERE id = $1`, a)
			tx.QueueRow(updateNote, b, "second")
		}, []string{"INSERT 2", "UPDATE 1", "INSERT 1", "UPDATE 1", "UPDATE 1", "UPDATE 1", "UPDATE 1"}},
	} {
		err := db.NewBus(t, alpha(t)).InTx(t.Context(), func(_ context.Context, tx *messaging.Tx) error {
			step.do(tx)
			return nil
		})
		if err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		if got := writes(t, db.Admin); !slices.Equal(got, step.want) {
			t.Errorf("%s: writes so far %v, want %v", step.name, got, step.want)
		}
	}
	var texts []string
	if err := db.Admin.Select(&texts, `SELECT text FROM public.notes ORDER BY n`); err != nil {
		t.Fatal(err)
	}
	if want := []string{"fourth", "second", "third"}; !slices.Equal(texts, want) {
		t.Errorf("texts: got %v, want %v", texts, want)
	}
}

// A row that the server refuses is its own message's fault, though the statement
// was everybody's.
func TestOneBadRowOfMany(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	notes(t, db.Admin)
	b := db.NewBus(t, beta(t))
	messaging.Handle(b, nothing[happened])
	messaging.Handle(b, func(_ context.Context, tx *messaging.Tx, m work) error {
		tx.QueueRow(insertNote, m.OrderID, m.Do, m.N)
		return nil
	})
	const bad = 7
	for n := range 20 {
		if n == bad {
			n = -1
		}
		db.Send(t, work{body{N: n, OrderID: newID()}})
	}
	messagingtest.Run(t, b)
	messagingtest.Wait(t, "all but the bad one to be handled and that one to be tried again", func() bool {
		return count(t, db.Admin, `SELECT count(*) FROM public.notes`) == 19 &&
			count(t, db.Admin, `SELECT count(*) FROM messaging.queue_beta WHERE attempts > 1 AND last_error LIKE '%notes_n_check%'`) == 1
	})
	if n := count(t, db.Admin, `SELECT count(*) FROM messaging.inbox_beta`); n != 19 {
		t.Errorf("messages handled: got %d, want 19", n)
	}
}

// Reads of a Tx scan as sqlx's do, whether BEGIN goes with them or not.
func TestReadsOfATx(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	type row struct {
		ID   string     `db:"id"`
		At   *time.Time `db:"at"`
		N    int64      `db:"n"`
		Tags []string   `db:"tags"`
	}
	id := newID()
	for _, first := range []string{"first in the transaction", "after another"} {
		err := db.NewBus(t, alpha(t)).InTx(t.Context(), func(ctx context.Context, tx *messaging.Tx) error {
			if first == "after another" {
				if _, err := tx.ExecContext(ctx, `SELECT 1`); err != nil {
					return err
				}
			}
			var got row
			err := tx.GetContext(ctx, &got, `SELECT $1::uuid AS id, NULL::timestamptz AS at, 5 AS n, '{a,b}'::text[] AS tags`, id)
			if err != nil || got.ID != id || got.At != nil || got.N != 5 || !slices.Equal(got.Tags, []string{"a", "b"}) {
				t.Errorf("%s: got %+v, %v", first, got, err)
			}
			var list []string
			if err := tx.SelectContext(ctx, &list, `SELECT x FROM unnest($1::text[]) x`, []string{"p", "q"}); err != nil || !slices.Equal(list, []string{"p", "q"}) {
				t.Errorf("%s: got %v, %v", first, list, err)
			}
			if err := tx.GetContext(ctx, &list, `SELECT 1 WHERE false`); !errors.Is(err, sql.ErrNoRows) {
				t.Errorf("%s: no row: got %v, want sql.ErrNoRows", first, err)
			}
			return nil
		})
		if err != nil {
			t.Errorf("%s: %v", first, err)
		}
	}
}

// BEGIN that never went out, an error before any statement and a commit of
// nothing leave connections that work.
func TestTransactionsOfNothing(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	b := db.NewBus(t, alpha(t), func(c *messaging.Config) { c.DB.SetMaxOpenConns(1) })
	mine := errors.New("mine")
	for i := range 5 {
		if err := b.InTx(t.Context(), func(context.Context, *messaging.Tx) error { return nil }); err != nil {
			t.Fatalf("commit of nothing: %v", err)
		}
		if err := b.InTx(t.Context(), func(context.Context, *messaging.Tx) error { return mine }); !errors.Is(err, mine) {
			t.Fatalf("rollback of nothing: got %v, want mine", err)
		}
		err := b.InTx(t.Context(), func(ctx context.Context, tx *messaging.Tx) error {
			return tx.Publish(work{body{N: i}})
		})
		if err != nil {
			t.Fatalf("publish: %v", err)
		}
		err = b.InTx(t.Context(), func(ctx context.Context, tx *messaging.Tx) error {
			tx.Queue(`SELECT 1 / 0`)
			return tx.Publish(work{body{N: i}})
		})
		if err == nil || !errors.As(err, new(interface{ SQLState() string })) {
			t.Fatalf("a write that fails: got %v", err)
		}
	}
	if n := count(t, db.Admin, `SELECT count(*) FROM messaging.outbox_alpha`); n != 5 {
		t.Errorf("messages in the outbox: got %d, want 5", n)
	}
	if n := count(t, db.Admin, fmt.Sprintf(`SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND usename = '%s' AND state LIKE 'idle in%%'`, alpha(t).Role())); n != 0 {
		t.Errorf("transactions left open: %d", n)
	}
}

// Whatever way a statement takes into a transaction, BEGIN has gone before it.
func TestEveryStatementIsInItsTransaction(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	pool, err := messaging.OpenDB(db.DSN("beta"), "test", 1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := pool.Close(); err != nil {
			t.Error(err)
		}
	})
	const insert = `INSERT INTO public.effects (who, n) VALUES ('nobody', $1)`
	before, err := pool.PreparexContext(t.Context(), insert)
	if err != nil {
		t.Fatal(err)
	}
	for name, do := range map[string]func(*sqlx.Tx) error{
		"exec":  func(tx *sqlx.Tx) error { _, err := tx.ExecContext(t.Context(), insert, 1); return err },
		"query": func(tx *sqlx.Tx) error { return tx.GetContext(t.Context(), new(int), insert+` RETURNING n`, 1) },
		"prepared in it": func(tx *sqlx.Tx) error {
			s, err := tx.PreparexContext(t.Context(), insert)
			if err != nil {
				return err
			}
			_, err = s.ExecContext(t.Context(), 1)
			return errors.Join(err, s.Close())
		},
		"prepared before": func(tx *sqlx.Tx) error {
			_, err := tx.StmtxContext(t.Context(), before).ExecContext(t.Context(), 1)
			return err
		},
	} {
		tx, err := pool.BeginTxx(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := do(tx); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := tx.Rollback(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if n := count(t, db.Admin, `SELECT count(*) FROM public.effects`); n != 0 {
			t.Errorf("%s: rows after the rollback: got %d, want 0", name, n)
		}
	}
	if err := before.Close(); err != nil {
		t.Error(err)
	}
}
