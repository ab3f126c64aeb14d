package messaging_test

import (
	"context"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"example.com/orderflow/messaging"
)

// BenchmarkGuardOfTheDead measures what it costs a living message that dead ones
// are kept from its consumer and its relay: what a claim of 50 and its
// acknowledgement, and a relay's batch of 200, take per message with the triggers
// and without, in turns, the commit not waiting for the disk.
func BenchmarkGuardOfTheDead(b *testing.B) {
	db := newDB(b)
	f := newField(b, db)
	statements, err := messaging.Statements(b.Context(), bus(b, db, beta(b)), "beta")
	if err != nil {
		b.Fatal(err)
	}
	moves, err := messaging.Statements(b.Context(), bus(b, db, alpha(b)), "beta")
	if err != nil {
		b.Fatal(err)
	}
	conn := func(service string) *pgx.Conn {
		cfg, err := pgx.ParseConfig(db.DSN(service))
		if err != nil {
			b.Fatal(err)
		}
		for key, value := range map[string]string{"synchronous_commit": "off", "plan_cache_mode": "force_generic_plan", "enable_seqscan": "off", "enable_bitmapscan": "off", "jit": "off"} {
			cfg.RuntimeParams[key] = value
		}
		c, err := pgx.ConnectConfig(b.Context(), cfg)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = c.Close(context.Background()) })
		return c
	}
	consumer, relay := conn("beta"), conn("alpha")
	const messages, batch = 2000, 50
	consume := func() {
		for range messages / batch {
			token := rand.Int64()
			var ids, tokens []int64
			rows, err := consumer.Query(b.Context(), statements["claim"], batch, token, time.Now().Add(-time.Hour), time.Minute, 0, 1, 2)
			if err != nil {
				b.Fatal(err)
			}
			for rows.Next() {
				values := make([]any, len(rows.RawValues()))
				var id int64
				values[0] = &id
				if err := rows.Scan(values...); err != nil {
					b.Fatal(err)
				}
				ids, tokens = append(ids, id), append(tokens, token)
			}
			if err := rows.Err(); err != nil || len(ids) != batch {
				b.Fatalf("claimed: got %d, %v; want %d", len(ids), err, batch)
			}
			if _, err := consumer.Exec(b.Context(), statements["ack"], ids, tokens, len(ids)); err != nil {
				b.Fatal(err)
			}
		}
	}
	carry := func() {
		for range messages / 200 {
			if _, err := relay.Exec(b.Context(), moves["move"], 200, 0); err != nil {
				b.Fatal(err)
			}
		}
	}
	took := map[string]time.Duration{}
	measure := func(what string, fill string, work func()) {
		f.exec(`TRUNCATE messaging.queue_beta, messaging.outbox_alpha`)
		f.exec(fill, messages)
		f.exec(`CHECKPOINT`)
		begun := time.Now()
		work()
		took[what] += time.Since(begun)
	}
	round := func(with string) {
		measure("consumer "+with, `INSERT INTO messaging.queue_beta (message_id, kind, payload) SELECT gen_random_uuid(), 'beta.work', '{"n": 1}' FROM generate_series(1, $1::int)`, consume)
		measure("relay "+with, `INSERT INTO messaging.outbox_alpha (message_id, kind, payload) SELECT gen_random_uuid(), 'beta.work', '{"n": 1}' FROM generate_series(1, $1::int)`, carry)
	}
	for turn := 0; b.Loop(); turn++ {
		for i := range 2 { // who comes first finds colder caches
			with, verb := "with", "ENABLE"
			if (turn+i)%2 == 0 {
				with, verb = "without", "DISABLE"
			}
			f.exec(`ALTER TABLE messaging.queue_beta ` + verb + ` TRIGGER keep_dead; ALTER TABLE messaging.outbox_alpha ` + verb + ` TRIGGER keep_dead`)
			round(with)
		}
	}
	for what, d := range took {
		b.ReportMetric(float64(d.Nanoseconds())/1000/float64(b.N*messages), strings.ReplaceAll(what, " ", "_")+"_µs/message")
	}
}
