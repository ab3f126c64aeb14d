package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	wsql "github.com/ThreeDotsLabs/watermill-sql/v3/pkg/sql"
	"github.com/ThreeDotsLabs/watermill/components/forwarder"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/message/router/middleware"
	_ "github.com/jackc/pgx/v5/stdlib"
)

// stockPoll is shorter than the default of a second, with which an order takes
// seconds: each of its hops waits for a poll.
const stockPoll = 10 * time.Millisecond

// stock is four services on watermill-sql, each sending through an outbox topic
// and a forwarder of its own, as the documentation of components/forwarder shows.
type stock struct {
	db     *sql.DB
	log    watermill.LoggerAdapter
	closes []func() error
	ended  []chan error
}

// news is what its messages tell; Kind is set in those of order_status.
type news struct {
	order
	Kind string `json:"kind,omitempty"`
}

func startStock(ctx context.Context, url string) (contender, error) {
	db, err := sql.Open("pgx", url)
	if err != nil {
		return nil, fmt.Errorf("open the database: %w", err)
	}
	db.SetMaxOpenConns(64)
	db.SetMaxIdleConns(64)
	s := &stock{db: db, log: watermill.NewSlogLogger(slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError})))}
	err = s.service(ctx, "ordering", "confirm_order", func(ctx context.Context, tx *sql.Tx, n news) error {
		if err := confirm(ctx, sqlExecer(tx), n.order); err != nil {
			return err
		}
		return s.send(tx, "ordering", "order_status", news{n.order, "confirmed"})
	})
	if err == nil {
		err = s.service(ctx, "inventory", "reserve_stock", func(ctx context.Context, tx *sql.Tx, n news) error {
			if err := reserve(ctx, sqlExecer(tx), n.order); err != nil {
				return err
			}
			return s.send(tx, "inventory", "authorize_payment", n)
		})
	}
	if err == nil {
		err = s.service(ctx, "payment", "authorize_payment", func(ctx context.Context, tx *sql.Tx, n news) error {
			if err := authorize(ctx, sqlExecer(tx), n.order); err != nil {
				return err
			}
			if err := s.send(tx, "payment", "confirm_order", n); err != nil {
				return err
			}
			return s.send(tx, "payment", "order_status", news{n.order, "paid"})
		})
	}
	if err == nil {
		err = s.service(ctx, "notification", "order_status", func(ctx context.Context, tx *sql.Tx, n news) error {
			return notify(ctx, sqlExecer(tx), n.order, n.Kind)
		})
	}
	if err != nil {
		return nil, errors.Join(err, s.close(ctx))
	}
	return s, nil
}

func (s *stock) subscriber(group string) (*wsql.Subscriber, error) {
	sub, err := wsql.NewSubscriber(s.db, wsql.SubscriberConfig{
		ConsumerGroup: group, PollInterval: stockPoll, InitializeSchema: true,
		SchemaAdapter: wsql.DefaultPostgreSQLSchema{}, OffsetsAdapter: wsql.DefaultPostgreSQLOffsetsAdapter{},
	}, s.log)
	if err != nil {
		return nil, fmt.Errorf("subscriber of %s: %w", group, err)
	}
	return sub, nil
}

// service runs one service: a router with the handler of a topic, and, but for
// the last one, a forwarder that empties its outbox.
func (s *stock) service(ctx context.Context, name, topic string, handle func(context.Context, *sql.Tx, news) error) error {
	sub, err := s.subscriber(name)
	if err != nil {
		return err
	}
	router, err := message.NewRouter(message.RouterConfig{}, s.log)
	if err != nil {
		return fmt.Errorf("router of %s: %w", name, err)
	}
	router.AddMiddleware(middleware.Recoverer)
	router.AddConsumerHandler(name, topic, sub, func(m *message.Message) error {
		var n news
		if err := json.Unmarshal(m.Payload, &n); err != nil {
			return fmt.Errorf("payload of message %s: %w", m.UUID, err)
		}
		// A transaction of its own, as in the documentation, not the subscriber's.
		return s.inTx(m.Context(), func(tx *sql.Tx) error { return handle(m.Context(), tx, n) })
	})
	s.start(router.Close, func() error { return router.Run(ctx) }, router.Running())
	if name == "notification" {
		return nil
	}
	if sub, err = s.subscriber(name); err != nil {
		return err
	}
	pub, err := wsql.NewPublisher(s.db, wsql.PublisherConfig{SchemaAdapter: wsql.DefaultPostgreSQLSchema{}, AutoInitializeSchema: true}, s.log)
	if err != nil {
		return fmt.Errorf("publisher of %s: %w", name, err)
	}
	f, err := forwarder.NewForwarder(sub, pub, s.log, forwarder.Config{ForwarderTopic: outboxTopic(name)})
	if err != nil {
		return fmt.Errorf("forwarder of %s: %w", name, err)
	}
	s.start(f.Close, func() error { return f.Run(ctx) }, f.Running())
	return nil
}

// start runs something until it is closed and waits until it runs.
func (s *stock) start(stop, run func() error, running <-chan struct{}) {
	ended := make(chan error, 1)
	go func() { ended <- run() }()
	s.closes, s.ended = append(s.closes, stop), append(s.ended, ended)
	<-running
}

func outboxTopic(service string) string { return "outbox_" + service }

// send publishes with tx into the outbox topic of a service.
func (s *stock) send(tx *sql.Tx, service, topic string, n news) error {
	pub, err := wsql.NewPublisher(tx, wsql.PublisherConfig{SchemaAdapter: wsql.DefaultPostgreSQLSchema{}}, s.log)
	if err != nil {
		return fmt.Errorf("publish %s: %w", topic, err)
	}
	payload, err := json.Marshal(n)
	if err != nil {
		return fmt.Errorf("publish %s: %w", topic, err)
	}
	outbox := forwarder.NewPublisher(pub, forwarder.PublisherConfig{ForwarderTopic: outboxTopic(service)})
	return outbox.Publish(topic, message.NewMessage(watermill.NewUUID(), payload))
}

func (s *stock) inTx(ctx context.Context, f func(*sql.Tx) error) error {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	if err := f(tx); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}

func (s *stock) place(ctx context.Context, o order) error {
	return s.inTx(ctx, func(tx *sql.Tx) error {
		if err := insertOrder(ctx, sqlExecer(tx), o); err != nil {
			return err
		}
		if err := s.send(tx, "ordering", "reserve_stock", news{order: o}); err != nil {
			return err
		}
		return s.send(tx, "ordering", "order_status", news{o, "placed"})
	})
}

func (s *stock) close(context.Context) error {
	var err error
	for _, stop := range s.closes {
		err = errors.Join(err, stop())
	}
	for _, ended := range s.ended {
		err = errors.Join(err, <-ended)
	}
	return errors.Join(err, s.db.Close())
}

func sqlExecer(tx *sql.Tx) execer {
	return func(ctx context.Context, query string, args ...any) (int64, error) {
		r, err := tx.ExecContext(ctx, query, args...)
		if err != nil {
			return 0, err
		}
		return r.RowsAffected()
	}
}
