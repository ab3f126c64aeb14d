package messaging_test

import (
	"context"
	stdsql "database/sql"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill-sql/v3/pkg/sql"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/tests"
	"github.com/jmoiron/sqlx"

	"example.com/orderflow/messaging"
	"example.com/orderflow/messaging/messagingtest"
)

// stockSubscriber returns watermill-sql's Subscriber on the queues of db, closed
// when t ends.
func stockSubscriber(t testing.TB, db *sqlx.DB, batch int, options ...func(*sql.SubscriberConfig)) *sql.Subscriber {
	t.Helper()
	queue := messaging.StockQueue{Batch: batch}
	deadline := 4 * time.Second
	cfg := sql.SubscriberConfig{
		SchemaAdapter: queue, OffsetsAdapter: queue, AckDeadline: &deadline,
		PollInterval: 10 * time.Millisecond, ResendInterval: time.Millisecond, RetryInterval: 50 * time.Millisecond,
	}
	for _, o := range options {
		o(&cfg)
	}
	s, err := sql.NewSubscriber(db, cfg, nil)
	if err != nil {
		t.Fatalf("make watermill-sql's subscriber: %v", err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close watermill-sql's subscriber: %v", err)
		}
	})
	return s
}

// subscribe returns what s is offered from queue.
func subscribe(t testing.TB, s message.Subscriber, queue string) <-chan *message.Message {
	t.Helper()
	offered, err := s.Subscribe(t.Context(), queue)
	if err != nil {
		t.Fatalf("subscribe to %s: %v", queue, err)
	}
	return offered
}

// next is the next message offered.
func next(t testing.TB, offered <-chan *message.Message) *message.Message {
	t.Helper()
	select {
	case m, ok := <-offered:
		if !ok {
			t.Fatal("the subscription ended")
		}
		return m
	case <-time.After(20 * time.Second):
		t.Fatal("no message was offered in 20 s")
	}
	return nil
}

// stockTx is the transaction in which m will be acknowledged.
func stockTx(t testing.TB, m *message.Message) *stdsql.Tx {
	t.Helper()
	tx, ok := sql.TxFromContext(m.Context())
	if !ok {
		t.Fatal("the message has no transaction")
	}
	return tx
}

// stockEffect writes, in the transaction of m, that who handled number n.
func stockEffect(t testing.TB, m *message.Message, who string, n int) {
	t.Helper()
	_, err := stockTx(t, m).Exec(`INSERT INTO public.effects (who, n, lane) VALUES ($1, $2, $3)`, who, n, m.Metadata.Get("lane"))
	if err != nil {
		t.Errorf("write the effect of message %s: %v", m.UUID, err)
	}
}

// TestWatermillOnStock runs Watermill's tests on its own Subscriber over our
// queues: all that apply to a queue pass, none had to be left out.
func TestWatermillOnStock(t *testing.T) {
	t.Parallel()
	for _, c := range stockConfigurations {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			for name, f := range conformance {
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					slot(t)
					construct := c.over(newPubsub(t, messagingtest.NewDB(t, conform(t)), messaging.Transactional, c.events))
					f(t, testContext(name), func(t *testing.T) (message.Publisher, message.Subscriber) { return construct(t, "g") })
				})
			}
			if c.events {
				t.Run("ConsumerGroups", func(t *testing.T) {
					t.Parallel()
					slot(t)
					p := newPubsub(t, messagingtest.NewDB(t, conform(t)), messaging.Transactional, true)
					tests.TestConsumerGroups(t, testContext(""), c.over(p))
				})
			}
		})
	}
}

type stockConfiguration struct {
	name   string
	batch  int
	events bool
}

var stockConfigurations = []stockConfiguration{
	{"commands, one by one", 1, false},
	{"events, batches of ten", 10, true},
}

// over makes publishers to the outbox of p and subscribers of watermill-sql.
func (c stockConfiguration) over(p *pubsub) tests.ConsumerGroupPubSubConstructor {
	return func(t *testing.T, group string) (message.Publisher, message.Subscriber) {
		patient := &patientSubscriber{Subscriber: stockSubscriber(t, p.db.Admin, c.batch)}
		return lanes{p.bus.Publisher()}, topics{Subscriber: patient, pubsub: p, group: group}
	}
}

// patientSubscriber is watermill-sql's Subscriber whose Close returns when its
// channels are closed: the Subscriber's own returns a moment before, which
// Watermill's tests, looking at once, now and then see.
type patientSubscriber struct {
	*sql.Subscriber
	mu      sync.Mutex
	offered []<-chan *message.Message
}

func (s *patientSubscriber) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	offered, err := s.Subscriber.Subscribe(ctx, topic)
	if err == nil {
		s.mu.Lock()
		s.offered = append(s.offered, offered)
		s.mu.Unlock()
	}
	return offered, err
}

func (s *patientSubscriber) Close() error {
	err := s.Subscriber.Close() // nothing is offered after this
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, offered := range s.offered {
		for range offered {
		}
	}
	return err
}

// TestWatermillReconnectOnStock has PostgreSQL restarted twice, without a
// checkpoint, under the feet of Watermill's own test, at full length only: it
// takes its 20 s in any case, and TestWatermillReconnect takes them always.
func TestWatermillReconnectOnStock(t *testing.T) {
	t.Parallel()
	if !long() {
		return
	}
	for _, c := range stockConfigurations {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			slot(t)
			cluster := messagingtest.NewCluster(t)
			construct := c.over(newPubsub(t, cluster.NewDB(t, conform(t)), messaging.Transactional, c.events))
			tc := testContext("")
			tc.Features.RestartServiceCommand = restartCommand(t, cluster)
			tests.TestReconnect(t, tc, func(t *testing.T) (message.Publisher, message.Subscriber) { return construct(t, "g") })
		})
	}
}

// What a stock Subscriber's handler writes and sends is committed with the ack,
// under the rights of the service alone.
func TestStockHandlerWritesAndSends(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	id, _ := db.Send(t, work{body{N: 1, OrderID: newID()}})
	m := next(t, subscribe(t, stockSubscriber(t, db.Service("beta"), 1), "beta"))
	if m.UUID != id || m.Metadata.Get("kind") != "beta.work" || m.Metadata.Get("lane") == "" || string(m.Payload) == "" {
		t.Errorf("message: got %s with %v and payload %q, want message %s with its envelope", m.UUID, m.Metadata, m.Payload, id)
	}
	stockEffect(t, m, "stock", 1)
	p, err := sql.NewPublisher(stockTx(t, m), sql.PublisherConfig{SchemaAdapter: messaging.OutboxSchema{Service: "beta"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Publish("beta.done", message.NewMessage(newID(), []byte(`{}`))); err != nil {
		t.Errorf("publish in the message's transaction: %v", err)
	}
	if n := count(t, db.Admin, `SELECT (SELECT count(*) FROM public.effects) + (SELECT count(*) FROM messaging.outbox_beta)`); n != 0 {
		t.Errorf("rows to be seen before the ack: got %d, want 0", n)
	}
	m.Ack()
	messagingtest.Wait(t, "the queue to be empty", func() bool { return count(t, db.Admin, `SELECT count(*) FROM messaging.queue_beta`) == 0 })
	if n := count(t, db.Admin, `SELECT count(*) FROM public.effects`); n != 1 {
		t.Errorf("effects: got %d, want 1", n)
	}
	if sent := db.Published(t, "beta"); len(sent) != 1 || sent[0].Kind != "beta.done" {
		t.Errorf("published: got %v, want one beta.done", sent)
	}
}

func TestStockSubscribesToItsOwnQueuesOnly(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	s := stockSubscriber(t, db.Service("beta"), 1)
	for queue, want := range map[string]string{"nowhere": "does not exist", "gamma": "permission denied"} {
		if _, err := s.Subscribe(t.Context(), queue); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("subscribe to %s: got %v, want an error that says %q", queue, err, want)
		}
	}
	p, err := sql.NewPublisher(db.Service("beta"), sql.PublisherConfig{SchemaAdapter: messaging.StockQueue{}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Publish("beta", message.NewMessage(newID(), nil)); err == nil {
		t.Error("publish to a queue: got nil, want an error: only relays write there")
	}
}

// Consumers of a Bus and stock Subscribers share a queue: each message has its
// effect once, in the order of its lane, and both get some.
func TestStockSharesAQueueWithOurOwn(t *testing.T) {
	t.Parallel()
	for _, batch := range []int{1, 10} {
		t.Run(fmt.Sprintf("batch of %d", batch), func(t *testing.T) {
			t.Parallel()
			db := newDB(t)
			const lanes, each = 10, 40
			b := db.NewBus(t, beta(t), quick, func(c *messaging.Config) {
				messaging.SetLimits(c, func(l *messaging.Limits) { l.Batch = 5 })
			})
			var tries atomic.Int32
			messaging.Handle(b, nothing[happened])
			messaging.Handle(b, func(ctx context.Context, tx *messaging.Tx, m work) error {
				if tries.Add(1)%10 == 0 {
					return fmt.Errorf("one in ten")
				}
				return effect(ctx, tx, "ours", m.body)
			})
			for range 2 {
				offered := subscribe(t, stockSubscriber(t, db.Service("beta"), batch), "beta")
				handled := make(chan struct{})
				t.Cleanup(func() { <-handled })
				go func() {
					defer close(handled)
					for m := range offered {
						body := messagingtest.As[work](t, messaging.Message{ID: m.UUID, Kind: "beta.work", Payload: m.Payload})
						stockEffect(t, m, "stock", body.N)
						m.Ack()
					}
				}()
			}
			messagingtest.Run(t, b)
			for n := range each {
				for l := range lanes {
					db.Send(t, work{body{N: n, OrderID: fmt.Sprintf("00000000-0000-7000-8000-%012d", l)}})
				}
			}
			messagingtest.Wait(t, "an empty queue", func() bool { return count(t, db.Admin, `SELECT count(*) FROM messaging.queue_beta`) == 0 })
			if n := count(t, db.Admin, `SELECT count(*) FROM public.effects`); n != lanes*each {
				t.Errorf("effects: got %d, want %d", n, lanes*each)
			}
			if n := count(t, db.Admin, `SELECT count(*) FROM (SELECT n, lag(n) OVER (PARTITION BY lane ORDER BY id) AS before FROM public.effects) e WHERE before >= n`); n != 0 {
				t.Errorf("messages handled twice, or before an earlier one of their lane: got %d, want 0", n)
			}
			for _, who := range []string{"ours", "stock"} {
				if n := count(t, db.Admin, `SELECT count(*) FROM public.effects WHERE who = $1`, who); n == 0 {
					t.Errorf("messages that fell to %s: got 0: the test proves nothing", who)
				}
			}
		})
	}
}

// What one has in hand is not the other's, nor is what comes after it in its lane.
func TestWhatIsInHandIsNobodyElses(t *testing.T) {
	t.Parallel()
	first, second := newID(), newID()

	t.Run("a stock subscriber has it", func(t *testing.T) {
		t.Parallel()
		db := newDB(t)
		db.Send(t, work{body{N: 1, OrderID: first}})
		stock := stockSubscriber(t, db.Service("beta"), 1)
		m := next(t, subscribe(t, stock, "beta"))
		db.Send(t, work{body{N: 2, OrderID: first}})
		db.Send(t, work{body{N: 3, OrderID: second}})
		ours := messaging.NewSubscriber(messaging.SubscriberConfig{DB: db.Service("beta"), DSN: db.DSN("beta"), Log: messagingtest.Log(t)})
		t.Cleanup(func() {
			if err := ours.Close(); err != nil {
				t.Errorf("close: %v", err)
			}
		})
		offered := subscribe(t, ours, "beta")
		for _, want := range []int{3, 2} {
			got := next(t, offered)
			if n := messagingtest.As[work](t, messaging.Message{Kind: "beta.work", Payload: got.Payload}).N; n != want {
				t.Errorf("offered to our consumer: got number %d, want %d", n, want)
			}
			got.Ack()
			if want == 3 {
				m.Ack()
				messagingtest.Wait(t, "the stock subscriber's ack", func() bool {
					return count(t, db.Admin, `SELECT count(*) FROM messaging.queue_beta WHERE payload LIKE '%"n":1,%'`) == 0
				})
				if err := stock.Close(); err != nil { // it would compete for the next
					t.Fatal(err)
				}
			}
		}
		messagingtest.Wait(t, "an empty queue", func() bool { return count(t, db.Admin, `SELECT count(*) FROM messaging.queue_beta`) == 0 })
	})

	t.Run("our consumer has it, then is gone", func(t *testing.T) {
		t.Parallel()
		db := newDB(t)
		db.Send(t, work{body{N: 1, OrderID: first}})
		db.Send(t, work{body{N: 2, OrderID: first}})
		db.Send(t, work{body{N: 3, OrderID: second}})
		// As a claim of ours leaves it.
		_, err := db.Admin.Exec(`
			UPDATE messaging.queue_beta SET token = 7, attempts = 1, due = clock_timestamp() + interval '1 hour'
			WHERE id = (SELECT min(id) FROM messaging.queue_beta)`)
		if err != nil {
			t.Fatal(err)
		}
		offered := subscribe(t, stockSubscriber(t, db.Service("beta"), 10), "beta")
		for _, want := range []int{3, 1, 2} {
			got := next(t, offered)
			if n := messagingtest.As[work](t, messaging.Message{Kind: "beta.work", Payload: got.Payload}).N; n != want {
				t.Errorf("offered to the stock subscriber: got number %d, want %d", n, want)
			}
			got.Ack()
			if want == 3 { // its lease ends
				messagingtest.Wait(t, "the ack", func() bool { return count(t, db.Admin, `SELECT count(*) FROM messaging.queue_beta`) == 2 })
				if _, err := db.Admin.Exec(`UPDATE messaging.queue_beta SET due = clock_timestamp() WHERE token = 7`); err != nil {
					t.Fatal(err)
				}
			}
		}
	})
}

// Nothing is taken that is dead, delayed or in a paused queue.
func TestStockLeavesWhatIsNotDue(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	for n := range 3 {
		db.Send(t, work{body{N: n}})
	}
	_, err := db.Admin.Exec(`
		WITH dead AS (UPDATE messaging.queue_beta SET dead_reason = 'hopeless' WHERE id = (SELECT min(id) FROM messaging.queue_beta)),
		     later AS (UPDATE messaging.queue_beta SET due = clock_timestamp() + interval '1 hour' WHERE id = (SELECT min(id) + 1 FROM messaging.queue_beta))
		UPDATE messaging.queues SET paused_at = clock_timestamp() WHERE name = 'beta'`)
	if err != nil {
		t.Fatal(err)
	}
	offered := subscribe(t, stockSubscriber(t, db.Service("beta"), 10), "beta")
	select {
	case m := <-offered:
		t.Errorf("offered from a paused queue: %s", m.Payload)
	case <-time.After(200 * time.Millisecond):
	}
	if _, err := db.Admin.Exec(`UPDATE messaging.queues SET paused_at = NULL`); err != nil {
		t.Fatal(err)
	}
	m := next(t, offered)
	if n := messagingtest.As[work](t, messaging.Message{Kind: "beta.work", Payload: m.Payload}).N; n != 2 {
		t.Errorf("offered: got number %d, want 2", n)
	}
	m.Ack()
	messagingtest.Wait(t, "the dead and the delayed one alone", func() bool { return count(t, db.Admin, `SELECT count(*) FROM messaging.queue_beta`) == 2 })
}

// The ways of watermill-sql's Subscriber that no adapter can mend: they are why
// our own exists. A release of it that mends one of them fails here.
func TestStockLimits(t *testing.T) {
	t.Parallel()

	t.Run("two nacks and an ack are three effects", func(t *testing.T) {
		t.Parallel()
		db := newDB(t)
		db.Send(t, work{body{N: 1}})
		offered := subscribe(t, stockSubscriber(t, db.Service("beta"), 1), "beta")
		for attempt := range 3 {
			m := next(t, offered)
			stockEffect(t, m, "stock", 1)
			if attempt < 2 {
				m.Nack()
			} else {
				m.Ack()
			}
		}
		messagingtest.Wait(t, "an empty queue", func() bool { return count(t, db.Admin, `SELECT count(*) FROM messaging.queue_beta`) == 0 })
		if n := count(t, db.Admin, `SELECT count(*) FROM public.effects`); n != 3 {
			t.Errorf("effects: got %d, want the 3 that StockQueue's comment tells of", n)
		}
	})

	t.Run("AckDeadline commits what is half done", func(t *testing.T) {
		t.Parallel()
		db := newDB(t)
		db.Send(t, work{body{N: 1}})
		soon := func(c *sql.SubscriberConfig) { *c.AckDeadline = 100 * time.Millisecond }
		offered := subscribe(t, stockSubscriber(t, db.Service("beta"), 1, soon), "beta")
		stockEffect(t, next(t, offered), "half", 1)
		again := next(t, offered)
		if n := count(t, db.Admin, `SELECT count(*) FROM public.effects WHERE who = 'half'`); n != 1 {
			t.Errorf("half-done effects committed: got %d, want the 1 that StockQueue's comment tells of", n)
		}
		again.Ack()
	})

	t.Run("Close commits what is half done", func(t *testing.T) {
		t.Parallel()
		db := newDB(t)
		db.Send(t, work{body{N: 1}})
		s := stockSubscriber(t, db.Service("beta"), 1)
		stockEffect(t, next(t, subscribe(t, s, "beta")), "half", 1)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if n := count(t, db.Admin, `SELECT count(*) FROM public.effects WHERE who = 'half'`); n != 1 {
			t.Errorf("half-done effects committed: got %d, want the 1 that StockQueue's comment tells of", n)
		}
		if n := count(t, db.Admin, `SELECT count(*) FROM messaging.queue_beta`); n != 1 {
			t.Errorf("messages left: got %d, want 1: it was never acked", n)
		}
	})

	t.Run("a failed statement spoils every attempt until AckDeadline", func(t *testing.T) {
		t.Parallel()
		db := newDB(t)
		db.Send(t, work{body{N: 1}})
		deadline := time.Second
		offered := subscribe(t, stockSubscriber(t, db.Service("beta"), 1, func(c *sql.SubscriberConfig) { *c.AckDeadline = deadline }), "beta")
		began := time.Now()
		m := next(t, offered)
		if _, err := stockTx(t, m).Exec(`SELECT 1 / 0`); err == nil {
			t.Fatal("division by zero passed")
		}
		spoilt := 0
		for m.Nack(); ; m.Nack() {
			m = next(t, offered)
			if _, err := stockTx(t, m).Exec(`SELECT 1`); err == nil {
				break
			}
			spoilt++
		}
		m.Ack()
		if d := time.Since(began); spoilt == 0 || d < deadline {
			t.Errorf("the handler's statements worked again after %d attempts and %s, want only after the deadline of %s", spoilt, d, deadline)
		}
		t.Logf("%d attempts in vain", spoilt)
	})

	t.Run("one message is in flight", func(t *testing.T) {
		t.Parallel()
		db := newDB(t)
		db.Send(t, work{body{N: 1}})
		db.Send(t, work{body{N: 2}})
		offered := subscribe(t, stockSubscriber(t, db.Service("beta"), 10), "beta")
		m := next(t, offered)
		select {
		case <-offered:
			t.Error("a second message was offered before the first was acked, against StockQueue's comment")
		case <-time.After(100 * time.Millisecond):
		}
		m.Ack()
		next(t, offered).Ack()
	})

	t.Run("a message sent twice has its effect twice", func(t *testing.T) {
		t.Parallel()
		db := newDB(t)
		id := newID()
		for range 2 {
			if _, err := db.Admin.Exec(`INSERT INTO messaging.queue_beta (message_id, kind, payload) VALUES ($1, 'beta.work', '{"n": 1}')`, id); err != nil {
				t.Fatal(err)
			}
		}
		offered := subscribe(t, stockSubscriber(t, db.Service("beta"), 1), "beta")
		for range 2 {
			m := next(t, offered)
			stockEffect(t, m, "stock", 1)
			m.Ack()
		}
		messagingtest.Wait(t, "an empty queue", func() bool { return count(t, db.Admin, `SELECT count(*) FROM messaging.queue_beta`) == 0 })
		if n := count(t, db.Admin, `SELECT count(*) FROM public.effects`); n != 2 {
			t.Errorf("effects: got %d, want the 2 that StockQueue's comment tells of", n)
		}
	})
}

// C4 holds for the stock Subscriber, too: its plan of an empty queue serves a backlog.
func TestStockPlanServesABacklog(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	if _, err := db.Admin.Exec(`VACUUM ANALYZE messaging.queue_beta`); err != nil {
		t.Fatal(err)
	}
	tx, err := db.Service("beta").Beginx()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback() }()
	queue := messaging.StockQueue{}
	ack := queue.AckMessageQuery("beta", sql.Row{Offset: 1}, "")
	for name, statement := range map[string]string{"select": queue.SelectQuery("beta", "", queue).Query, "ack": ack.Query} {
		plan, err := messagingtest.Explain(t.Context(), tx, statement)
		if err != nil {
			t.Fatalf("plan of %s: %v", name, err)
		}
		text := strings.Join(plan, "\n")
		for _, bad := range []string{"Seq Scan on queue_", "Join Filter", "hashed SubPlan"} {
			if strings.Contains(text, bad) {
				t.Errorf("%s reads the queue through (%s):\n%s", name, bad, text)
			}
		}
	}
}
