package verify

// carried is how a message moves: by transactions that end what they begin.
const carried = "a message is in its outbox, or in its queue and log, or handled: each step is one transaction"

var messageChecks = []Check{
	{
		Name: "messages/events", When: Always, Holds: carried,
		Says: "each event was handled by each of its subscribers, or waits in the queue, or is dead or discarded there",
		// A queue that isn't replayable doesn't get what was said before it subscribed:
		// it is owed what came after the first of the kind that it got.
		query: `
		WITH got AS (
			SELECT h.consumer AS queue, h.kind, min(h.message_id::text COLLATE "C")::uuid AS first
			FROM handled h
			JOIN messaging.queues k ON k.name = h.consumer AND NOT k.replayable
			JOIN messaging.events e ON e.kind = h.kind
			GROUP BY h.consumer, h.kind
		)
		SELECT 'message ' || e.message_id, format('%s of order %s, sent at %s, has not come to %s', e.kind, coalesce(e.order_id::text, '-'), e.logged_at, r.queue)
		FROM logged e
		JOIN messaging.routes r ON r.kind = e.kind AND r.live
		JOIN messaging.queues k ON k.name = r.queue
		LEFT JOIN got g ON g.queue = r.queue AND g.kind = e.kind
		WHERE (k.replayable OR e.message_id > g.first)
		  AND NOT EXISTS (SELECT FROM handled h WHERE h.message_id = e.message_id AND h.consumer = r.queue)
		  AND NOT EXISTS (SELECT FROM queued q WHERE q.message_id = e.message_id AND q.queue = r.queue)
		  AND NOT EXISTS (SELECT FROM discarded d WHERE d.message_id = e.message_id AND d.queue = r.queue)`,
	},
	{
		Name: "messages/once", When: Always, Holds: carried,
		Says: "no message was handled twice by one consumer, unless its events were replayed",
		query: `
		SELECT 'message ' || message_id, format('%s of order %s was handled %s times by %s in run %s', kind, coalesce(order_id::text, '-'), count(*), consumer, run)
		FROM handled
		GROUP BY message_id, consumer, run, kind, order_id
		HAVING count(*) > 1
		UNION ALL
		SELECT 'message ' || h.message_id, format('%s was handled by %s in run %s, which it never had', h.kind, h.consumer, h.run)
		FROM handled h
		LEFT JOIN messaging.replays r ON r.queue = h.consumer AND r.run = h.run
		WHERE h.run > 0 AND r.run IS NULL`,
	},
	{
		Name: "messages/sent", When: Always, Holds: carried,
		Says: "what was handled was sent: an event is in its speaker's log, a message about an order is about one that there is",
		// A log forgets before an inbox does.
		query: `
		SELECT 'message ' || h.message_id, format('%s of order %s, handled by %s: %s never said it', h.kind, coalesce(h.order_id::text, '-'), h.consumer, e.speaker)
		FROM handled h
		JOIN messaging.events e ON e.kind = h.kind
		LEFT JOIN messaging.retention t ON t.base = 'log_' || e.speaker
		WHERE (t.gone_before IS NULL OR h.sent_at >= t.gone_before)
		  AND NOT EXISTS (SELECT FROM logged l WHERE l.message_id = h.message_id AND l.speaker = e.speaker AND l.kind = h.kind)
		UNION ALL
		SELECT 'message ' || h.message_id, format('%s, handled by %s: there is no order %s', h.kind, h.consumer, h.order_id)
		FROM handled h
		WHERE h.order_id IS NOT NULL AND NOT EXISTS (SELECT FROM orders.orders o WHERE o.id = h.order_id)`,
	},
	{
		Name: "messages/caused", When: Always, Holds: carried,
		Says: "what a message was caused by is known to the service that sent it: it has handled it, or has it in hand",
		query: `
		SELECT 'message ' || m.message_id, format('%s of order %s, handled by %s: its cause %s is not known to %s', m.kind, coalesce(m.order_id::text, '-'), m.consumer, m.causation_id, m.producer)
		FROM handled m
		LEFT JOIN messaging.retention t ON t.base = 'inbox_' || m.producer
		WHERE m.causation_id IS NOT NULL AND (t.gone_before IS NULL OR m.causation_id >= messaging.uuid_at(t.gone_before))
		  AND NOT EXISTS (SELECT FROM handled h WHERE h.message_id = m.causation_id AND h.service = m.producer)
		  AND NOT EXISTS (SELECT FROM queued q WHERE q.message_id = m.causation_id AND q.service = m.producer)
		  AND NOT EXISTS (SELECT FROM discarded d WHERE d.message_id = m.causation_id)`,
	},
	{
		Name: "messages/steps", When: Always, Holds: together,
		Says: "of each step of an order its messages were sent: commands wait, were handled or are dead, events are in the log",
		// An inbox and a log forget: of orders that are older than what they hold it isn't known.
		query: `
		WITH due AS (
			SELECT h.order_id, w.kind, count(*) AS n
			FROM orders.history h
			JOIN owed w ON w.from_status = h.from_status AND w.trigger = h.trigger AND w.status = h.status
			GROUP BY h.order_id, w.kind
		), known AS (
			SELECT order_id, kind, count(*) AS n
			FROM (
				SELECT order_id, kind FROM logged WHERE speaker = 'orders'
				UNION ALL
				SELECT order_id, kind FROM outgoing WHERE producer = 'orders'
				UNION ALL
				SELECT h.order_id, h.kind FROM handled h WHERE h.producer = 'orders' AND NOT EXISTS (SELECT FROM messaging.events e WHERE e.kind = h.kind)
				UNION ALL
				SELECT q.order_id, q.kind FROM queued q WHERE q.producer = 'orders' AND NOT EXISTS (SELECT FROM messaging.events e WHERE e.kind = q.kind)
				UNION ALL
				SELECT d.order_id, d.kind FROM discarded d WHERE starts_with(d.queue, 'outbox of ') OR NOT EXISTS (SELECT FROM messaging.events e WHERE e.kind = d.kind)
			) m
			GROUP BY order_id, kind
		), forgotten AS (
			SELECT e.kind, t.gone_before
			FROM messaging.events e
			JOIN messaging.retention t ON t.base = 'log_' || e.speaker
			UNION ALL
			SELECT r.kind, t.gone_before
			FROM messaging.routes r
			JOIN messaging.queues q ON q.name = r.queue
			JOIN messaging.retention t ON t.base = 'inbox_' || q.service
			WHERE NOT EXISTS (SELECT FROM messaging.events e WHERE e.kind = r.kind)
		)
		SELECT 'order ' || d.order_id, format('its history has %s steps that send %s, %s were sent', d.n, d.kind, coalesce(k.n, 0))
		FROM due d
		LEFT JOIN known k ON k.order_id = d.order_id AND k.kind = d.kind
		LEFT JOIN forgotten f ON f.kind = d.kind
		WHERE coalesce(k.n, 0) < d.n AND (f.gone_before IS NULL OR d.order_id >= messaging.uuid_at(f.gone_before))`,
	},
	{
		Name: "messages/told-once", When: Always, Holds: together,
		Says: "each version of an order was told once as OrderStatusChanged",
		query: `
		SELECT 'order ' || o.id, format('has %s versions, OrderStatusChanged was sent %s times', o.version, count(m.message_id))
		FROM orders.orders o
		LEFT JOIN (
			SELECT message_id, order_id FROM logged WHERE kind = 'orders.order_status_changed'
			UNION ALL
			SELECT message_id, order_id FROM outgoing WHERE kind = 'orders.order_status_changed'
			UNION ALL
			SELECT message_id, order_id FROM discarded WHERE kind = 'orders.order_status_changed' AND starts_with(queue, 'outbox of ')
		) m ON m.order_id = o.id
		LEFT JOIN messaging.retention t ON t.base = 'log_orders'
		WHERE t.gone_before IS NULL OR o.id >= messaging.uuid_at(t.gone_before)
		GROUP BY o.id
		HAVING count(m.message_id) <> o.version`,
	},
	{
		Name: "messages/dead", When: Always, Holds: "a message dies with its reason",
		Says: "a dead letter has a reason",
		query: `
		SELECT 'message ' || message_id, format('%s of order %s is dead in %s without a reason', kind, coalesce(order_id::text, '-'), at)
		FROM (
			SELECT message_id, kind, order_id, dead_reason, 'queue ' || queue AS at FROM queued
			UNION ALL
			SELECT message_id, kind, order_id, dead_reason, 'the outbox of ' || producer FROM outgoing
		) m
		WHERE dead_reason !~ '\S'`,
	},
	{
		Name: "messages/handled", When: AtRest,
		Says: "queues and outboxes are empty, but for dead letters",
		query: `
		SELECT 'message ' || message_id, format('%s of order %s is in queue %s (attempts %s)', kind, coalesce(order_id::text, '-'), queue, attempts)
		FROM queued
		WHERE dead_reason IS NULL
		UNION ALL
		SELECT 'message ' || message_id, format('%s of order %s is in the outbox of %s', kind, coalesce(order_id::text, '-'), producer)
		FROM outgoing
		WHERE dead_reason IS NULL`,
	},
	{
		Name: "messages/live", When: AtRest,
		Says: "every queue gets its messages, and is consumed: none is being replayed, or paused",
		query: `
		SELECT 'queue ' || queue, format('does not get %s: a replay is not finished', kind)
		FROM messaging.routes
		WHERE NOT live
		UNION ALL
		SELECT 'queue ' || name, format('is paused since %s', paused_at)
		FROM messaging.queues
		WHERE paused_at IS NOT NULL`,
	},
}
