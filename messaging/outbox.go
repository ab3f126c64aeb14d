package messaging

import (
	"context"
	stdsql "database/sql"
	"database/sql/driver"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill-sql/v3/pkg/sql"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/uuid"
)

// envelopeColumns are the columns that a message has in an outbox, a queue and
// a log alike. The producer is not among them: the database sets it.
const envelopeColumns = `message_id, kind, schema_version, lane, class, order_id, correlation_id, causation_id, occurred_at, metadata, payload`

// Keys of the Watermill metadata that stand for columns. What has another key
// travels in the column metadata.
const (
	keyKind          = "kind"
	keySchemaVersion = "schema_version"
	keyLane          = "lane"
	keyClass         = "class"
	keyOrderID       = "order_id"
	keyCorrelationID = "correlation_id"
	keyCausationID   = "causation_id"
	keyOccurredAt    = "occurred_at"
	keyProducer      = "producer"
	keyTraceparent   = "traceparent"
	keyDelay         = "delay"
	keyAttempt       = "attempt"
)

// watermillMessage is m as Watermill carries it.
func watermillMessage(m Message) *message.Message {
	w := message.NewMessage(m.ID, m.Payload)
	for k, v := range m.metadata {
		w.Metadata.Set(k, v)
	}
	set := func(key, value string) {
		if value != "" {
			w.Metadata.Set(key, value)
		}
	}
	set(keyKind, m.Kind)
	set(keyLane, m.Lane)
	set(keyOrderID, m.OrderID)
	set(keyCorrelationID, m.CorrelationID)
	set(keyCausationID, m.CausationID)
	set(keyProducer, m.Producer)
	set(keyTraceparent, m.Traceparent)
	set(keyClass, strconv.Itoa(int(m.Class)))
	if m.SchemaVersion > 1 {
		set(keySchemaVersion, strconv.Itoa(m.SchemaVersion))
	}
	if m.Delay > 0 {
		set(keyDelay, m.Delay.String())
	}
	if m.Attempt > 0 {
		set(keyAttempt, strconv.Itoa(m.Attempt))
	}
	if !m.OccurredAt.IsZero() {
		set(keyOccurredAt, m.OccurredAt.UTC().Format(time.RFC3339Nano))
	}
	return w
}

// columns are the values of messages, column by column, as unnest takes them.
type columns struct {
	ids, kinds   []string
	versions     []int32
	lanes        []*string
	classes      []int16
	orders       []*string
	correlations []*string
	causations   []*string
	metadata     []*string
	payloads     [][]byte
	delays       []*time.Duration
}

// add appends w, which is of kind topic unless its metadata says otherwise.
func (c *columns) add(topic string, w *message.Message) error {
	if _, err := uuid.Parse(w.UUID); err != nil {
		return fmt.Errorf("message %q: its id must be a UUID: %w", w.UUID, err)
	}
	if len(w.Payload) > MaxPayload {
		return fmt.Errorf("message %s: payload of %d bytes, at most %d", w.UUID, len(w.Payload), MaxPayload)
	}
	kind, version, class := topic, 1, int(Standard)
	var lane, order, correlation, causation *string
	var delay *time.Duration
	rest := map[string]string{}
	for k, v := range w.Metadata {
		var err error
		value := v
		switch k {
		case keyKind:
			kind = v
		case keySchemaVersion:
			version, err = strconv.Atoi(v)
		case keyClass:
			class, err = strconv.Atoi(v)
		case keyLane:
			lane = &value
		case keyOrderID:
			order = &value
		case keyCorrelationID:
			correlation = &value
		case keyCausationID:
			causation = &value
		case keyDelay:
			var d time.Duration
			d, err = time.ParseDuration(v)
			delay = &d
		case keyOccurredAt, keyProducer, keyAttempt: // the database's to set
		default:
			rest[k] = v
		}
		if err != nil {
			return fmt.Errorf("message %s: metadata %s: %w", w.UUID, k, err)
		}
	}
	if delay != nil {
		lane = nil
	}
	var metadata *string
	if len(rest) > 0 {
		b, err := json.Marshal(rest)
		if err != nil {
			return fmt.Errorf("message %s: metadata: %w", w.UUID, err)
		}
		s := string(b)
		metadata = &s
	}
	payload := []byte(w.Payload)
	if payload == nil {
		payload = []byte{}
	}
	c.ids = append(c.ids, w.UUID)
	c.kinds = append(c.kinds, kind)
	c.versions = append(c.versions, int32(version))
	c.lanes = append(c.lanes, lane)
	c.classes = append(c.classes, int16(class))
	c.orders = append(c.orders, order)
	c.correlations = append(c.correlations, correlation)
	c.causations = append(c.causations, causation)
	c.metadata = append(c.metadata, metadata)
	c.payloads = append(c.payloads, payload)
	c.delays = append(c.delays, delay)
	return nil
}

// OutboxSchema is the schema adapter with which watermill-sql's Publisher writes
// a service's outbox. The topic of a message is its kind. It only publishes: the
// outbox is read by the relay.
type OutboxSchema struct {
	Service string // whose outbox: table messaging.outbox_<Service>
}

var _ sql.SchemaAdapter = OutboxSchema{}

// errPublishOnly says what an OutboxSchema is not for.
var errPublishOnly = errors.New("an outbox is read by its relay only: subscribe to a queue")

// InsertQuery writes msgs with one INSERT, in their order.
func (s OutboxSchema) InsertQuery(topic string, msgs message.Messages) (sql.Query, error) {
	var c columns
	for _, m := range msgs {
		if err := c.add(topic, m); err != nil {
			return sql.Query{}, err
		}
	}
	insert := `
			INSERT INTO messaging.` + quote("outbox_"+s.Service) + ` (message_id, kind, schema_version, lane, class, order_id, correlation_id, causation_id, metadata, payload, not_before)`
	if len(msgs) <= fewRows {
		return sql.Query{Query: insert + fewValues(len(msgs)), Args: c.byRow()}, nil
	}
	return sql.Query{
		Query: insert + `
			SELECT m.id, m.kind, m.version, m.lane, m.class, m.order_id, m.correlation_id, m.causation_id, m.metadata, m.payload, clock_timestamp() + m.delay
			FROM unnest($1::uuid[], $2::text[], $3::int[], $4::text[], $5::smallint[], $6::uuid[], $7::text[], $8::uuid[], $9::jsonb[], $10::bytea[], $11::interval[])
			     WITH ORDINALITY AS m (id, kind, version, lane, class, order_id, correlation_id, causation_id, metadata, payload, delay, n)
			ORDER BY m.n`,
		Args: []any{c.ids, c.kinds, c.versions, c.lanes, c.classes, c.orders, c.correlations, c.causations, c.metadata, c.payloads, c.delays},
	}, nil
}

// fewRows is up to how many messages are written as a list of values, which the
// server does a third faster than arrays of one or two.
const fewRows = 3

// fewValues is the list of values of n messages.
func fewValues(n int) string {
	var b strings.Builder
	for i := range n {
		separator := "\n\t\t\tVALUES"
		if i > 0 {
			separator = ","
		}
		fmt.Fprintf(&b, "%s ($%d::uuid, $%d, $%d::int, $%d, $%d::smallint, $%d::uuid, $%d, $%d::uuid, $%d::jsonb, $%d::bytea, clock_timestamp() + $%d::interval)",
			separator, 11*i+1, 11*i+2, 11*i+3, 11*i+4, 11*i+5, 11*i+6, 11*i+7, 11*i+8, 11*i+9, 11*i+10, 11*i+11)
	}
	return b.String()
}

// byRow are the values of fewValues.
func (c *columns) byRow() []any {
	list := make([]any, 0, 11*len(c.ids))
	for i := range c.ids {
		list = append(list, c.ids[i], c.kinds[i], c.versions[i], c.lanes[i], c.classes[i], c.orders[i], c.correlations[i],
			c.causations[i], c.metadata[i], c.payloads[i], c.delays[i])
	}
	return list
}

// SelectQuery selects nothing: an outbox has no subscribers.
func (OutboxSchema) SelectQuery(string, string, sql.OffsetsAdapter) sql.Query {
	return sql.Query{Query: `SELECT WHERE false`}
}

// UnmarshalMessage always returns an error: an outbox has no subscribers.
func (OutboxSchema) UnmarshalMessage(sql.Scanner) (sql.Row, error) { return sql.Row{}, errPublishOnly }

// SchemaInitializingQueries is empty: the migrator makes the tables.
func (OutboxSchema) SchemaInitializingQueries(string) []sql.Query { return nil }

// SubscribeIsolationLevel is PostgreSQL's default.
func (OutboxSchema) SubscribeIsolationLevel() stdsql.IsolationLevel { return stdsql.LevelReadCommitted }

// queueOutbox queues the INSERT of what was published, as the last write. The
// statement is the one that watermill-sql's Publisher makes.
func (t *Tx) queueOutbox() error {
	if len(t.out) == 0 {
		return nil
	}
	list := make(message.Messages, len(t.out))
	for i, m := range t.out {
		if !utf8.Valid(m.Payload) {
			return Permanent(fmt.Errorf("publish %s %s: payload is not UTF-8", m.Kind, m.ID))
		}
		list[i] = watermillMessage(m)
	}
	p, err := sql.NewPublisher(queueing{t}, sql.PublisherConfig{SchemaAdapter: OutboxSchema{Service: t.spec.Name}}, watermill.NopLogger{})
	if err != nil {
		return fmt.Errorf("publish for service %s: %w", t.spec.Name, err)
	}
	if err := p.Publish(t.out[0].Kind, list...); err != nil {
		return fmt.Errorf("publish %d messages for service %s: %w", len(list), t.spec.Name, err)
	}
	return nil
}

// queueing is a transaction as watermill-sql's Publisher sees it: what it
// executes goes with the other queued writes.
type queueing struct{ *Tx }

// ExecContext queues the statement; its error comes with the flush.
func (q queueing) ExecContext(_ context.Context, query string, args ...any) (stdsql.Result, error) {
	q.last(nil, query, args...)
	return driver.RowsAffected(0), nil
}

// Publisher is a Watermill publisher that writes a service's outbox in
// transactions of its own. A message published with other rows belongs into a
// Tx instead.
type Publisher struct {
	bus *Bus
}

var _ message.Publisher = (*Publisher)(nil)

// Publisher returns the Watermill publisher of the service: the topic of a
// message is its kind. Publish returns once all messages are committed to the
// outbox, in order; their ids must be UUIDs.
func (b *Bus) Publisher() *Publisher { return &Publisher{bus: b} }

// Publish commits msgs to the outbox, all or none.
func (p *Publisher) Publish(topic string, msgs ...*message.Message) error {
	if len(msgs) == 0 {
		return nil
	}
	ctx := msgs[0].Context()
	wp, err := sql.NewPublisher(p.bus.db, sql.PublisherConfig{SchemaAdapter: OutboxSchema{Service: p.bus.spec.Name}}, watermill.NopLogger{})
	if err != nil {
		return fmt.Errorf("publish %s: %w", topic, err)
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("publish %s: %w", topic, err)
	}
	if err := wp.Publish(topic, msgs...); err != nil {
		return fmt.Errorf("publish %s: %w", topic, err)
	}
	p.bus.relay.wake()
	return nil
}

// Close does nothing: the connections are the Bus's.
func (p *Publisher) Close() error { return nil }

// rollback ends tx and drops the error of a transaction that has ended already.
func rollback(tx interface{ Rollback() error }) error {
	if err := tx.Rollback(); err != nil && !errors.Is(err, stdsql.ErrTxDone) && !connectionLost(err) {
		return fmt.Errorf("roll back: %w", err)
	}
	return nil
}

// sqlState is the SQLSTATE of a server's error, "" of any other.
func sqlState(err error) string {
	var e interface{ SQLState() string }
	if errors.As(err, &e) {
		return e.SQLState()
	}
	return ""
}
