package messaging

import (
	stdsql "database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"

	"github.com/ThreeDotsLabs/watermill-sql/v3/pkg/sql"
	"github.com/ThreeDotsLabs/watermill/message"
)

// StockQueue lets watermill-sql's own Subscriber consume a queue of ours: it is
// its schema adapter and its offsets adapter in one, and the topic is the name of
// the queue. Any number of such subscribers, and consumers of a Bus or a
// Subscriber beside them, share the queue: each message is in one's hand only,
// those of a lane come one at a time and in order, and nothing is taken from a
// paused queue.
//
//	queue := messaging.StockQueue{}
//	s, err := sql.NewSubscriber(db, sql.SubscriberConfig{SchemaAdapter: queue, OffsetsAdapter: queue, AckDeadline: …}, logger)
//
// It needs no right beyond those of the queue's service. A handler writes in the
// transaction sql.TxFromContext and sends by a sql.Publisher on that transaction
// with an OutboxSchema. It subscribes only: an outbox is what is published to.
//
// It is for code that already stands on that Subscriber, whose ways stay what they
// are (the tests show each):
//
//   - The handler runs inside the transaction that holds the message, and one
//     message is in flight per subscription. A pool of OpenDB ends a transaction
//     that idles for 5 s, so AckDeadline (30 s when not set) must be less.
//   - A nack rolls nothing back. The message is offered again in the same
//     transaction, and what was written before the nack is committed with the ack.
//   - AckDeadline and Close commit what an unfinished handler has written, and
//     the message comes again all the same.
//   - A failed statement spoils the transaction: the message is offered in vain
//     until AckDeadline.
//   - There are no attempts, backoff or dead letters: a message that always fails
//     comes again for ever. One that kills its process is never suspected.
//   - Without an inbox, a message that was sent twice has its effect twice, and
//     leaves no trace.
//   - It asks every PollInterval (1 s when not set); no wake-up reaches it. Each
//     time it reads from the beginning of the queue's index, past the entries
//     that an old snapshot elsewhere on the server keeps alive.
type StockQueue struct {
	Batch int // messages taken with one statement and acknowledged in one transaction, at most; 0 = 1
}

var (
	_ sql.SchemaAdapter  = StockQueue{}
	_ sql.OffsetsAdapter = StockQueue{}
)

// errSubscribeOnly says what a StockQueue is not for.
var errSubscribeOnly = errors.New("a queue is filled by its senders' relays only: publish to an outbox")

// keyAcknowledges is the row's note of what is acknowledged with it: its own id
// and those of the rows before it in its batch.
const keyAcknowledges = "acknowledges"

// InsertQuery always returns an error: nobody publishes to a queue.
func (StockQueue) InsertQuery(string, message.Messages) (sql.Query, error) {
	return sql.Query{}, errSubscribeOnly
}

// SelectQuery takes the oldest messages that nobody has in hand and keeps them
// locked until the Subscriber's transaction ends. Rows that a consumer of ours has
// in hand aren't due, and it skips those that are locked: so neither takes what is
// the other's. A consumer of ours that died leaves a row that falls due like any.
func (s StockQueue) SelectQuery(queue, _ string, _ sql.OffsetsAdapter) sql.Query {
	t := "messaging." + quote("queue_"+queue)
	pick := func(class, limit string) string {
		return `SELECT c.id FROM ` + t + ` c
			WHERE c.class = ` + class + ` AND c.dead_reason IS NULL AND c.due <= statement_timestamp()
			  AND (c.lane IS NULL OR c.id = (SELECT h.id FROM ` + t + ` h WHERE h.lane = c.lane AND h.dead_reason IS NULL ORDER BY h.lane, h.id LIMIT 1))
			  AND (SELECT paused_at FROM messaging.queues WHERE name = $2) IS NULL
			ORDER BY c.class, c.due, c.id LIMIT ` + limit + ` FOR UPDATE SKIP LOCKED`
	}
	o := classOrders[rand.IntN(len(classOrders))]
	return sql.Query{
		Query: `
			WITH a AS (` + pick("$3", "$1") + `),
			     b AS (` + pick("$4", "$1 - (SELECT count(*) FROM a)") + `),
			     c AS (` + pick("$5", "$1 - (SELECT count(*) FROM a) - (SELECT count(*) FROM b)") + `)
			SELECT q.id, q.message_id::text, q.kind, q.schema_version, coalesce(q.lane, ''), q.class, coalesce(q.order_id::text, ''),
			       coalesce(q.correlation_id, ''), coalesce(q.causation_id::text, ''), q.occurred_at, q.producer, q.metadata, q.payload,
			       (array_agg(q.id) OVER (ORDER BY q.id))::text
			FROM ` + t + ` q
			WHERE q.id = ANY (ARRAY(SELECT id FROM a UNION ALL SELECT id FROM b UNION ALL SELECT id FROM c))
			ORDER BY q.id`,
		Args: []any{max(1, s.Batch), queue, int16(o[0]), int16(o[1]), int16(o[2])},
	}
}

// UnmarshalMessage makes a Watermill message of a row, with the envelope in its
// metadata as a Subscriber of ours hands it out.
func (StockQueue) UnmarshalMessage(row sql.Scanner) (sql.Row, error) {
	var (
		r        sql.Row
		m        Message
		metadata []byte
		upTo     string
	)
	err := row.Scan(&r.Offset, &m.ID, &m.Kind, &m.SchemaVersion, &m.Lane, &m.Class, &m.OrderID,
		&m.CorrelationID, &m.CausationID, &m.OccurredAt, &m.Producer, &metadata, &m.Payload, &upTo)
	if err != nil {
		return sql.Row{}, fmt.Errorf("read a row of a queue: %w", err)
	}
	m.metadata = readMetadata(metadata)
	m.Traceparent = m.metadata[keyTraceparent]
	r.UUID, r.Payload, r.Metadata = []byte(m.ID), m.Payload, metadata
	r.Msg = watermillMessage(m)
	r.ExtraData = map[string]any{keyAcknowledges: upTo}
	return r, nil
}

// SubscribeIsolationLevel is PostgreSQL's default, under which a row that has
// changed meanwhile is passed over; a stricter one would make that an error.
func (StockQueue) SubscribeIsolationLevel() stdsql.IsolationLevel { return stdsql.LevelReadCommitted }

// SchemaInitializingQueries is empty: the migrator makes the tables.
func (StockQueue) SchemaInitializingQueries(string) []sql.Query { return nil }

// BeforeSubscribingQueries has Subscribe fail when there is no such queue or the
// role may not consume it, which would otherwise be found with each poll.
func (s StockQueue) BeforeSubscribingQueries(queue, group string) []sql.Query {
	return []sql.Query{s.SelectQuery(queue, group, s)}
}

// AckMessageQuery deletes row and those before it in its batch. All of them are
// locked by the transaction, so they are there.
func (StockQueue) AckMessageQuery(queue string, row sql.Row, _ string) sql.Query {
	ids, ok := row.ExtraData[keyAcknowledges].(string)
	if !ok { // not from UnmarshalMessage: itself at least
		ids = "{" + strconv.FormatInt(row.Offset, 10) + "}"
	}
	return sql.Query{
		Query: `DELETE FROM messaging.` + quote("queue_"+queue) + ` WHERE id = ANY ($1::bigint[])`,
		Args:  []any{ids},
	}
}

// ConsumedMessageQuery is empty: the lock on its row tells that a message is in hand.
func (StockQueue) ConsumedMessageQuery(string, sql.Row, string, []byte) sql.Query { return sql.Query{} }

// NextOffsetQuery is empty: a queue has no offsets.
func (StockQueue) NextOffsetQuery(string, string) sql.Query { return sql.Query{} }
