package messaging_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/tests"

	"example.com/orderflow/messaging"
	"example.com/orderflow/messaging/messagingtest"
)

// long reports whether everything is to run at its full length.
func long() bool { return os.Getenv("ORDERFLOW_LONG") != "" }

// conform is the service in whose name Watermill's tests publish.
func conform(t testing.TB) messaging.Spec {
	return messaging.Spec{Name: "conform", Sends: []string{"conform.nothing"}, Speaks: []string{"conform.nothing_happened"}, Migrations: migrations(t)}
}

// pubsub makes publishers and subscribers for Watermill's tests, which invent
// topics as they go. For commands a topic is a queue; for events it is a kind of
// which every group gets a copy in a queue of its own.
type pubsub struct {
	db     *messagingtest.DB
	bus    *messaging.Bus
	mode   messaging.Mode
	events bool
}

func newPubsub(t testing.TB, db *messagingtest.DB, mode messaging.Mode, events bool) *pubsub {
	t.Helper()
	// Queues are made on the fly, which no service may: hence the administrator.
	b, err := messaging.New(messaging.Config{Spec: conform(t), DB: db.Admin, DSN: db.DSN(""), Log: messagingtest.Log(t)})
	if err != nil {
		t.Fatal(err)
	}
	db.Admin.SetMaxOpenConns(80)
	db.Admin.SetMaxIdleConns(80)
	messagingtest.Run(t, b)
	return &pubsub{db: db, bus: b, mode: mode, events: events}
}

func (p *pubsub) pair(t *testing.T) (message.Publisher, message.Subscriber) { return p.group(t, "g") }

func (p *pubsub) group(t *testing.T, group string) (message.Publisher, message.Subscriber) {
	t.Helper()
	cfg := messaging.SubscriberConfig{DB: p.db.Admin, DSN: p.db.DSN(""), Log: messagingtest.Log(t), Mode: p.mode}
	messaging.SetSubscriberLimits(&cfg, func(l *messaging.Limits) {
		l.MaxAttempts = 0
		l.Backoff = func(int) time.Duration { return 5 * time.Millisecond }
	})
	s := messaging.NewSubscriber(cfg)
	t.Cleanup(func() { // not every test closes what it made
		if err := s.Close(); err != nil {
			t.Errorf("close a subscriber: %v", err)
		}
	})
	return lanes{p.bus.Publisher()}, topics{Subscriber: s, pubsub: p, group: group}
}

// lanes keeps the order of messages with the same payload, as the tests that are
// about order expect.
type lanes struct{ message.Publisher }

func (l lanes) Publish(topic string, msgs ...*message.Message) error {
	for _, m := range msgs {
		m.Metadata.Set("lane", "lane "+string(m.Payload))
		if len(msgs) == 1 && string(m.Payload) == "x" && !strings.HasSuffix(topic, "-ordered") {
			m.Metadata.Set("lane", "lane "+m.UUID)
		}
	}
	return l.Publisher.Publish(topic, msgs...)
}

// topics is a subscriber to queues that makes them.
type topics struct {
	message.Subscriber
	pubsub *pubsub
	group  string
}

func (s topics) queue(topic string) string {
	if !s.pubsub.events {
		return topic
	}
	sum := sha256.Sum256([]byte(s.group + " " + topic))
	return hex.EncodeToString(sum[:8])
}

// SubscribeInitialize makes the queue of the topic and routes to it.
func (s topics) SubscribeInitialize(topic string) error {
	q := s.queue(topic)
	stmts := []string{`SELECT messaging.ensure_queue($2) WHERE $1 <> ''`, `INSERT INTO messaging.routes (kind, queue) VALUES ($1, $2) ON CONFLICT DO NOTHING`}
	if s.pubsub.events {
		stmts = append(stmts, `INSERT INTO messaging.events (kind, speaker) SELECT $1, 'conform' WHERE $2 <> '' ON CONFLICT DO NOTHING`)
	}
	tx, err := s.pubsub.db.Admin.Beginx()
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	if _, err := tx.Exec(`SELECT pg_advisory_xact_lock(1)`); err != nil {
		return err
	}
	for _, stmt := range stmts {
		if _, err := tx.Exec(stmt, topic, q); err != nil {
			return fmt.Errorf("initialize topic %s: %w", topic, err)
		}
	}
	return tx.Commit()
}

func (s topics) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	if err := s.SubscribeInitialize(topic); err != nil {
		return nil, err
	}
	return s.Subscriber.Subscribe(ctx, s.queue(topic))
}

// conformance are the tests that Watermill has for every Pub/Sub, those that
// apply to a queue: all but the one in which a new subscriber gets what others
// have handled (a log's, not a queue's).
var conformance = map[string]func(*testing.T, tests.TestContext, tests.PubSubConstructor){
	"PublishSubscribe":                  tests.TestPublishSubscribe,
	"ConcurrentSubscribe":               tests.TestConcurrentSubscribe,
	"ConcurrentSubscribeMultipleTopics": tests.TestConcurrentSubscribeMultipleTopics,
	"ResendOnError":                     tests.TestResendOnError,
	"NoAck":                             tests.TestNoAck,
	"ContinueAfterSubscribeClose":       tests.TestContinueAfterSubscribeClose,
	"ConcurrentClose":                   tests.TestConcurrentClose,
	"ContinueAfterErrors":               tests.TestContinueAfterErrors,
	"PublishSubscribeInOrder":           tests.TestPublishSubscribeInOrder,
	"PublisherClose":                    tests.TestPublisherClose,
	"Topic":                             tests.TestTopic,
	"MessageCtx":                        tests.TestMessageCtx,
	"SubscribeCtx":                      tests.TestSubscribeCtx,
}

// TestWatermill runs Watermill's tests one by one.
func TestWatermill(t *testing.T) {
	t.Parallel()
	for _, c := range configurations {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			for name, f := range conformance {
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					slot(t)
					p := newPubsub(t, messagingtest.NewDB(t, conform(t)), c.mode, c.events)
					f(t, testContext(name), p.pair)
				})
			}
			if c.events {
				t.Run("ConsumerGroups", func(t *testing.T) {
					t.Parallel()
					slot(t)
					p := newPubsub(t, messagingtest.NewDB(t, conform(t)), c.mode, true)
					tests.TestConsumerGroups(t, testContext(""), p.group)
				})
			}
		})
	}
}

var configurations = []struct {
	name   string
	mode   messaging.Mode
	events bool
}{
	{"commands, transactional", messaging.Transactional, false},
	{"commands, leased", messaging.Leased, false},
	{"events, transactional", messaging.Transactional, true},
	{"events, leased", messaging.Leased, true},
}

// slots bounds the tests at work at once: each needs up to 80 connections.
var slots = make(chan struct{}, 2)

func slot(t *testing.T) {
	slots <- struct{}{}
	t.Cleanup(func() { <-slots })
}

func testContext(name string) tests.TestContext {
	ordered := name == "NoAck" || name == "PublishSubscribeInOrder"
	return tests.TestContext{
		TestID: tests.NewTestID(),
		Features: tests.Features{
			ConsumerGroups: true, Persistent: true, GuaranteedOrder: true, ForceShort: !long(),
			GenerateTopicFunc: func(c tests.TestContext) string {
				if ordered {
					return "topic-" + string(c.TestID) + "-ordered"
				}
				return "topic-" + string(c.TestID)
			},
		},
	}
}

// TestWatermillReconnect has PostgreSQL restarted twice, without a checkpoint,
// under the feet of Watermill's own test.
func TestWatermillReconnect(t *testing.T) {
	t.Parallel()
	list := configurations
	if !long() {
		list = list[:1] // the test takes its 20 s in any configuration
	}
	for _, c := range list {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			slot(t)
			cluster := messagingtest.NewCluster(t)
			p := newPubsub(t, cluster.NewDB(t, conform(t)), c.mode, c.events)
			tc := testContext("")
			tc.Features.RestartServiceCommand = restartCommand(t, cluster)
			tests.TestReconnect(t, tc, p.pair)
		})
	}
}

// restartCommand is a command that has this process restart its PostgreSQL and
// returns when that is done.
func restartCommand(t *testing.T, cluster *messagingtest.Cluster) []string {
	t.Helper()
	dir := t.TempDir() // a file for each restart that is wanted
	done, stopped := make(chan struct{}), make(chan struct{})
	restarts := 0
	go func() {
		defer close(stopped)
		for {
			select {
			case <-done:
				return
			case <-time.After(20 * time.Millisecond):
			}
			wanted, err := os.ReadDir(dir)
			if err != nil {
				t.Errorf("restart PostgreSQL: %v", err)
			}
			for _, file := range wanted {
				err := cluster.Server().Restart(context.Background(), "immediate")
				if err := errors.Join(err, os.Remove(filepath.Join(dir, file.Name()))); err != nil {
					t.Errorf("restart PostgreSQL: %v", err)
				}
				restarts++
			}
		}
	}()
	t.Cleanup(func() {
		close(done)
		<-stopped
		if restarts != 2 {
			t.Errorf("restarts: got %d, want 2: the test proves nothing", restarts)
		}
	})
	return []string{"sh", "-c", `touch "$1/$$" && while [ -e "$1/$$" ]; do sleep 0.05; done`, "restart", dir}
}
