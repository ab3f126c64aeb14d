package verify

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jmoiron/sqlx"

	"example.com/orderflow/orders"
)

// source is a relation that checks read by its name, as of a table.
type source struct {
	name, sql string
	args      []any  // of its SQL
	missing   string // why it can't be read; "" = it can
}

// sources are the relations of a shop, each after those that it reads itself.
type sources []source

// statement is a query with the sources that it reads before it.
type statement struct {
	with, sql string // sql is with and the query
	args      []any
	missing   string // why it can't be made
}

var reads = regexp.MustCompile(`(?:FROM|JOIN) ([a-z_]+)\b(?:[^.(]|$)`)

// query puts the sources before q that it reads, and those that these read.
func (s sources) query(q string) statement {
	var list []source
	var need func(string)
	need = func(sql string) {
		for _, m := range reads.FindAllStringSubmatch(sql, -1) {
			i := slices.IndexFunc(s, func(o source) bool { return o.name == m[1] })
			if i < 0 || slices.ContainsFunc(list, func(o source) bool { return o.name == m[1] }) {
				continue
			}
			need(s[i].sql)
			list = append(list, s[i])
		}
	}
	need(q)
	var st statement
	parts := make([]string, len(list))
	for i, o := range list {
		parts[i] = o.name + ` AS (` + o.sql + `)`
		st.args = append(st.args, o.args...)
		if o.missing != "" {
			st.missing = o.missing
		}
	}
	if len(parts) > 0 {
		st.with = `WITH ` + strings.Join(parts, `, `)
	}
	st.sql = st.with + q
	return st
}

// sourcesOf are the sources in the database of tx, with the provider's books b.
func sourcesOf(ctx context.Context, tx *sqlx.Tx, b *books) (sources, error) {
	var queues []struct{ Name, Service string }
	if err := tx.SelectContext(ctx, &queues, `SELECT name, service FROM messaging.queues ORDER BY name`); err != nil {
		return nil, fmt.Errorf("list the queues: %w", err)
	}
	tables := map[string][]string{}
	for _, prefix := range []string{"outbox_", "log_", "inbox_"} {
		var names []string
		err := tx.SelectContext(ctx, &names, `
			SELECT substr(relname, length($1) + 1)
			FROM pg_class
			WHERE relnamespace = 'messaging'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition AND starts_with(relname, $1)
			ORDER BY relname`, prefix)
		if err != nil {
			return nil, fmt.Errorf("list the tables %s…: %w", prefix, err)
		}
		if len(names) == 0 {
			return nil, fmt.Errorf("there are no tables messaging.%s…: this is no shop's database, or an empty one", prefix)
		}
		tables[prefix] = names
	}
	var queued []string
	for _, q := range queues {
		queued = append(queued, `
			SELECT `+literal(q.Name)+` AS queue, `+literal(q.Service)+` AS service, message_id, kind, lane, order_id, causation_id, producer, payload, attempts, dead_reason
			FROM messaging.`+quote("queue_"+q.Name))
	}
	each := func(prefix, columns, owner string) string {
		var parts []string
		for _, name := range tables[prefix] {
			parts = append(parts, `
			SELECT `+literal(name)+` AS `+owner+`, `+columns+`
			FROM messaging.`+quote(prefix+name))
		}
		return strings.Join(parts, ` UNION ALL`)
	}
	return sources{
		// Messages that wait, are in hand or dead, by queue.
		{name: "queued", sql: strings.Join(queued, ` UNION ALL`)},
		// Messages that a service has sent and its relay hasn't carried.
		{name: "outgoing", sql: each("outbox_", `message_id, kind, lane, order_id, causation_id, payload, dead_reason`, "producer")},
		// Messages that were handled, by consumer and run.
		{name: "handled", sql: each("inbox_", `message_id, consumer, run, kind, order_id, causation_id, producer, sent_at, outcome`, "service")},
		// Events, by speaker.
		{name: "logged", sql: each("log_", `message_id, kind, order_id, causation_id, logged_at`, "speaker")},
		// Messages that an operator has discarded; the queue of one that was in an
		// outbox is no queue's name.
		{name: "discarded", sql: `
			SELECT message_id, queue, detail ->> 'kind' AS kind, (detail ->> 'order_id')::uuid AS order_id
			FROM messaging.actions
			WHERE action = 'dead.discard'`},
		// Notifications whose sending is under way, or dead. Of a dead letter the payload
		// may be anything.
		{name: "sending", sql: `
			SELECT substring(encode(payload, 'escape') FROM '"notification_id": *"([-0-9a-f]{36})"') AS notification_id, dead_reason
			FROM queued
			WHERE kind = 'notifications.send_notification'
			UNION ALL
			SELECT substring(encode(payload, 'escape') FROM '"notification_id": *"([-0-9a-f]{36})"'), dead_reason
			FROM outgoing
			WHERE kind = 'notifications.send_notification'`},
		// The moves of orders that are legal, and the messages that each sends always.
		{name: "moves", sql: movesSQL()},
		{name: "owed", sql: owedSQL()},
		// Money that has moved, in our ledger.
		{name: "ledger", sql: `
			SELECT kind, provider_ref, order_id, payment_id, attempt, refund_id, amount_minor, currency::text
			FROM payments.ledger`},
		// Requests to the provider whose outcome isn't known yet: of one that was never
		// made, because its attempt ended otherwise, nothing is to come.
		{name: "open_calls", sql: `
			SELECT c.key, c.operation, c.attempt, c.requested_at, p.order_id
			FROM payments.provider_calls c
			JOIN payments.payments p ON p.id = c.payment_id
			JOIN payments.attempts a ON a.payment_id = c.payment_id AND a.attempt = c.attempt
			LEFT JOIN payments.refunds f ON f.id = c.refund_id
			WHERE c.answered_at IS NULL AND CASE c.operation WHEN 'refund' THEN f.status IN ('refunding', 'unknown') ELSE a.status IN ('authorizing', 'unknown', 'authorized') END`},
		// Orders about which something is under way.
		{name: "under_way", sql: `
			SELECT order_id FROM queued WHERE order_id IS NOT NULL
			UNION
			SELECT order_id FROM outgoing WHERE order_id IS NOT NULL
			UNION
			SELECT order_id FROM open_calls`},
		b.source(),
	}, nil
}

// movesSQL lists orders.Moves.
func movesSQL() string {
	var rows []string
	for _, m := range orders.Moves() {
		rows = append(rows, fmt.Sprintf(`(%s, %s, %s, %s)`, literal(string(m.From)), literal(m.On), literal(string(m.To)), literal(string(m.EndsAs))))
	}
	return `SELECT * FROM (VALUES ` + strings.Join(rows, `, `) + `) AS m (from_status, trigger, status, ends_as)`
}

// owedSQL lists what each of orders.Moves sends.
func owedSQL() string {
	var rows []string
	for _, m := range orders.Moves() {
		for _, k := range m.Sends {
			rows = append(rows, fmt.Sprintf(`(%s, %s, %s, %s)`, literal(string(m.From)), literal(m.On), literal(string(m.To)), literal(k)))
		}
	}
	return `SELECT * FROM (VALUES ` + strings.Join(rows, `, `) + `) AS m (from_status, trigger, status, kind)`
}

// literal is s as a text in SQL.
func literal(s string) string { return `'` + strings.ReplaceAll(s, `'`, `''`) + `'::text` }

func quote(name string) string { return pgx.Identifier{name}.Sanitize() }

func decimal(n int) string { return strconv.Itoa(n) }
