package verify

// told is when notifications are written.
const told = "a notification is written by the transaction that handles its event"

var notificationChecks = []Check{
	{
		Name: "notifications/one", When: Always, Holds: told,
		Says: "of each event that was handled the customer has one notification in the inbox, and at most one by each other channel",
		query: `
		SELECT 'order ' || h.order_id, format('%s (message %s): %s notifications in the inbox', h.kind, h.message_id, count(n.id))
		FROM handled h
		LEFT JOIN notifications.notifications n ON n.message_id = h.message_id AND n.channel = 'inbox'
		WHERE h.consumer = 'notifications' AND h.outcome = 'done'
		GROUP BY h.order_id, h.kind, h.message_id
		HAVING count(n.id) <> 1
		UNION ALL
		SELECT 'order ' || (array_agg(order_id))[1], format('message %s: %s notifications by %s', message_id, count(*), channel)
		FROM notifications.notifications
		WHERE channel <> 'inbox'
		GROUP BY message_id, channel
		HAVING count(*) > 1`,
	},
	{
		Name: "notifications/of-events", When: Always, Holds: told,
		Says: "each notification is about an event that was handled, of that kind, about that order, and goes to its customer",
		query: `
		SELECT 'order ' || n.order_id, format('notification %s of %s (message %s) by %s: %s', n.id, n.kind, n.message_id, n.channel, CASE
		              WHEN h.message_id IS NULL THEN 'there was no such event'
		              WHEN n.customer_id IS DISTINCT FROM o.customer_id THEN 'it is for another customer'
		              ELSE format('the event is %s of order %s', h.kind, h.order_id) END)
		FROM notifications.notifications n
		LEFT JOIN handled h ON h.message_id = n.message_id AND h.consumer = 'notifications'
		LEFT JOIN orders.orders o ON o.id = n.order_id
		LEFT JOIN messaging.retention t ON t.base = 'inbox_notifications'
		WHERE (h.message_id IS NOT NULL OR t.gone_before IS NULL OR n.message_id >= messaging.uuid_at(t.gone_before))
		  AND (h.kind IS DISTINCT FROM n.kind OR h.order_id IS DISTINCT FROM n.order_id OR n.customer_id IS DISTINCT FROM o.customer_id)`,
	},
	{
		Name: "notifications/settled", When: Always, Holds: "what became of a notification is written together with the attempt",
		Says: "what was sent by e-mail or webhook has an attempt that was taken, what failed has one that was refused, what is pending has had neither, and no mail was taken twice unless an operator wished it",
		query: `
		SELECT 'order ' || n.order_id, format('notification %s by %s is %s; attempts taken: %s (%s of them wished), refused: %s', n.id, n.channel, n.status, coalesce(a.taken, 0), coalesce(a.wished, 0), coalesce(a.refused, 0))
		FROM notifications.notifications n
		LEFT JOIN (
			SELECT notification_id,
			       count(*) FILTER (WHERE outcome = 'sent') AS taken,
			       count(*) FILTER (WHERE outcome = 'sent' AND resend_id IS NOT NULL) AS wished,
			       count(*) FILTER (WHERE outcome = 'failed') AS refused
			FROM notifications.attempts
			GROUP BY notification_id) a ON a.notification_id = n.id
		WHERE CASE
		      WHEN n.channel = 'inbox' THEN n.status <> 'sent' OR a.notification_id IS NOT NULL
		      WHEN n.channel = 'email' AND a.taken - a.wished > 1 THEN true
		      WHEN n.status = 'sent' THEN coalesce(a.taken, 0) = 0
		      WHEN n.status = 'failed' THEN coalesce(a.refused, 0) = 0
		      ELSE n.channel = 'email' AND a.notification_id IS NOT NULL
		      END`,
	},
	{
		Name: "notifications/webhooks", When: Always, Holds: "a notification is settled by the transaction that settles its last delivery",
		Says: "a webhook is pending while one of its deliveries is open, and was sent to each of its endpoints before it is called sent",
		query: `
		SELECT 'order ' || n.order_id, format('notification %s is %s; deliveries: %s, open: %s, taken: %s', n.id, n.status, count(d.status),
		              count(*) FILTER (WHERE d.status IN ('waiting', 'sending')), count(a.endpoint_id))
		FROM notifications.notifications n
		LEFT JOIN notifications.deliveries d ON d.notification_id = n.id
		LEFT JOIN (SELECT DISTINCT notification_id, endpoint_id FROM notifications.attempts WHERE outcome = 'sent') a ON a.notification_id = d.notification_id AND a.endpoint_id = d.endpoint_id
		WHERE n.channel = 'webhook'
		GROUP BY n.id
		HAVING CASE n.status
		       WHEN 'pending' THEN count(*) FILTER (WHERE d.status IN ('waiting', 'sending')) = 0
		       WHEN 'sent' THEN count(d.status) = 0 OR count(a.endpoint_id) < count(d.status)
		       ELSE count(d.status) = 0
		       END`,
	},
	{
		Name: "notifications/on-their-way", When: Always, Holds: "a command to send goes with the notification, and is acknowledged with what became of it",
		Says: "a mail that is pending has its command under way, or dead",
		query: `
		SELECT 'order ' || n.order_id, format('notification %s of %s is pending, and nothing is under way that would send it', n.id, n.kind)
		FROM notifications.notifications n
		WHERE n.channel = 'email' AND n.status = 'pending'
		  AND NOT EXISTS (SELECT FROM sending s WHERE s.notification_id = n.id::text)`,
	},
	{
		Name: "notifications/sent", When: AtRest,
		Says: "what customers are told by mail was taken or refused by the mail server, unless a dead letter waits for an operator, and a webhook waits only between two attempts",
		query: `
		SELECT 'order ' || n.order_id, format('notification %s of %s is still pending', n.id, n.kind)
		FROM notifications.notifications n
		WHERE n.channel = 'email' AND n.status = 'pending'
		  AND NOT EXISTS (SELECT FROM sending s WHERE s.notification_id = n.id::text AND s.dead_reason IS NOT NULL)
		UNION ALL
		SELECT 'order ' || n.order_id, format('notification %s of %s is due at an endpoint since %s', n.id, n.kind, d.due)
		FROM notifications.deliveries d
		JOIN notifications.notifications n ON n.id = d.notification_id
		WHERE d.status IN ('waiting', 'sending') AND d.due <= now()
		  AND NOT EXISTS (SELECT FROM sending s WHERE s.notification_id = n.id::text AND s.dead_reason IS NOT NULL)`,
	},
}
