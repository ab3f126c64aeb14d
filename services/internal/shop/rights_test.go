package shop_test

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jmoiron/sqlx"

	"example.com/orderflow/messaging"
	"example.com/orderflow/messaging/messagingtest"
	"example.com/orderflow/services/internal/shop"
)

// rule says who may do what with the objects whose names match: rights as GRANT
// writes them, "" = none. What object and who a role is to it, is in the name: the
// group "service" is that service, "queue" the one that consumes it.
type rule struct {
	object     string // anchored regular expression of schema.name
	owner      string // the service that the name tells
	sender     string // a service that sends to the queue
	asked      string // a service that the owner asks
	messengers string // every service that sends or receives messages
	everyone   string // every service, the payment provider's simulator too
}

// What is added to the database needs a line here. The first that matches counts.
var (
	tables = []rule{
		{object: `messaging\.services`, everyone: "SELECT"},
		{object: `messaging\.(routes|routes_version|events|queues)`, messengers: "SELECT"},
		{object: `messaging\.(clock|actions|replays|replay_positions|retention|goose_db_version)`}, // an administrator's
		{object: `messaging\.(log|inbox)_.*_(rest|d\d{8})`},                                        // reached by way of the whole table
		{object: `messaging\.outbox_(?P<service>.*)`, owner: "SELECT, INSERT, DELETE, UPDATE(dead_reason)"},
		{object: `messaging\.inbox_(?P<service>.*)`, owner: "SELECT, INSERT"},
		{object: `messaging\.log_(?P<service>.*)`, owner: "SELECT, INSERT"},
		{
			object: `messaging\.queue_(?P<queue>.*)`,
			owner:  "SELECT, DELETE, UPDATE(due, attempts, crashes, token, last_error, dead_reason)",
			sender: "INSERT(message_id, kind, schema_version, lane, class, order_id, correlation_id, causation_id, occurred_at, metadata, payload, due)",
		},
		{object: `messaging\.replies_(?P<service>.*)`, owner: "SELECT, DELETE", asked: "INSERT(request_id, kind, schema_version, payload, refusal)"},
		{object: `[a-z]+\.goose_db_version`}, // the migrator's
		{object: `(?P<service>[a-z]+)\..*`, owner: "SELECT, INSERT, UPDATE, DELETE"},
	}
	sequences = []rule{
		{object: `messaging\.log_(?P<service>.*)_id`, owner: "USAGE"},
		{object: `messaging\.(queue|outbox)_.*_id_seq`}, // an identity needs no right
		{object: `messaging\.(actions|goose_db_version)_id_seq`},
		{object: `[a-z]+\.goose_db_version_id_seq`},
		{object: `(?P<service>[a-z]+)\..*`, owner: "USAGE"},
	}
	functions = []rule{
		{object: `messaging\.shop_now\(\)`, everyone: "EXECUTE"},
		{object: `messaging\.(producer|all_acknowledged|all_carried)\(.*\)`, messengers: "EXECUTE"},
		{object: `messaging\.(ensure_days\(text,integer\)|drop_days\(text\))`, messengers: "EXECUTE"},
		{object: `messaging\.(ensure_(queue|outbox|inbox|log|replies|inspection)|make_(queue|outbox|log|inbox)|complete_table|keep_dead|spare_statistics|make_days|uuid_at|refuse_change|refuse_dead|raise_routes_version)\(.*\)`},
		{object: `(?P<service>[a-z]+)\..*`, owner: "EXECUTE"},
	}
	schemas = []rule{
		{object: `messaging|public`, everyone: "USAGE"},
		{object: `(?P<service>[a-z]+)`, owner: "USAGE"},
	}
)

// granted are all rights of the services' roles on the objects of a class, as
// PostgreSQL itself answers. A right on a column is listed unless the role has it
// on the whole table.
var granted = map[string]string{
	"tables": `
		WITH object AS (SELECT c.oid, n.nspname || '.' || c.relname AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND ` + ours + `),
		     whole AS (SELECT r.role, o.oid, v.verb, has_table_privilege(r.role, o.oid, v.verb) AS may
		               FROM object o CROSS JOIN unnest($1::text[]) r (role) CROSS JOIN unnest('{SELECT,INSERT,UPDATE,DELETE,TRUNCATE,REFERENCES,TRIGGER}'::text[]) v (verb))
		SELECT o.name AS object, '' AS role, '' AS "right" FROM object o
		UNION ALL
		SELECT o.name, w.role, w.verb FROM whole w JOIN object o USING (oid) WHERE w.may
		UNION ALL
		SELECT o.name, w.role, w.verb || '(' || a.attname || ')'
		FROM whole w JOIN object o USING (oid) JOIN pg_attribute a ON a.attrelid = w.oid AND a.attnum > 0 AND NOT a.attisdropped
		WHERE NOT w.may AND w.verb IN ('SELECT', 'INSERT', 'UPDATE', 'REFERENCES') AND has_column_privilege(w.role, w.oid, a.attnum, w.verb)`,
	"sequences": `
		WITH object AS (SELECT c.oid, n.nspname || '.' || c.relname AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'S' AND ` + ours + `)
		SELECT o.name AS object, '' AS role, '' AS "right" FROM object o
		UNION ALL
		SELECT o.name, r.role, v.verb
		FROM object o CROSS JOIN unnest($1::text[]) r (role) CROSS JOIN unnest('{USAGE,SELECT,UPDATE}'::text[]) v (verb)
		WHERE has_sequence_privilege(r.role, o.oid, v.verb)`,
	"functions": `
		WITH object AS (SELECT p.oid, p.oid::regprocedure::text AS name FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE ` + ours + `)
		SELECT o.name AS object, '' AS role, '' AS "right" FROM object o
		UNION ALL
		SELECT o.name, r.role, 'EXECUTE' FROM object o CROSS JOIN unnest($1::text[]) r (role) WHERE has_function_privilege(r.role, o.oid, 'EXECUTE')`,
	"schemas": `
		WITH object AS (SELECT n.oid, n.nspname AS name FROM pg_namespace n WHERE ` + ours + `)
		SELECT o.name AS object, '' AS role, '' AS "right" FROM object o
		UNION ALL
		SELECT o.name, r.role, v.verb
		FROM object o CROSS JOIN unnest($1::text[]) r (role) CROSS JOIN unnest('{USAGE,CREATE}'::text[]) v (verb)
		WHERE has_schema_privilege(r.role, o.oid, v.verb)`,
}

// ours leaves out what PostgreSQL brings.
const ours = `n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'`

// Every role has exactly the rights that the rules give it, on every table,
// sequence, function and schema of the database, also when an earlier version of
// the migrator gave more.
func TestRights(t *testing.T) {
	t.Parallel()
	specs := shop.Specs()
	db := messagingtest.NewDB(t, specs...)
	_, err := db.Admin.Exec(`
		GRANT UPDATE, DELETE ON messaging.inbox_orders TO orderflow_orders;
		GRANT UPDATE ON messaging.outbox_orders TO orderflow_orders;
		GRANT ALL ON orders.goose_db_version TO orderflow_orders;
		GRANT ALL ON FUNCTION messaging.make_days(text, integer) TO orderflow_orders;
		GRANT ALL ON FUNCTION messaging.ensure_queue(text) TO PUBLIC`)
	if err != nil {
		t.Fatalf("give rights as an earlier version did: %v", err)
	}
	if err := messaging.Migrate(t.Context(), db.Admin, messagingtest.Log(t), nil, specs...); err != nil {
		t.Fatalf("migrate again: %v", err)
	}
	for class, rules := range map[string][]rule{"tables": tables, "sequences": sequences, "functions": functions, "schemas": schemas} {
		t.Run(class, func(t *testing.T) {
			t.Parallel()
			for object, has := range rightsOf(t, db.Admin, granted[class], specs) {
				i := slices.IndexFunc(rules, func(r rule) bool { return r.matches(object, specs) })
				if i < 0 {
					t.Errorf("%s stands in no rule: say in %s who may do what with it", object, class)
					continue
				}
				for _, s := range specs {
					want := rules[i].rights(object, s, specs)
					for _, r := range slices.Sorted(maps.Keys(has[s.Role()])) {
						if !want[r] {
							t.Errorf("%s may %s %s, which rule %s gives to nobody like it", s.Name, r, object, rules[i].object)
						}
					}
					for _, r := range slices.Sorted(maps.Keys(want)) {
						if !has[s.Role()][r] {
							t.Errorf("%s may not %s %s, though rule %s says so", s.Name, r, object, rules[i].object)
						}
					}
				}
			}
		})
	}
}

// A rule that nothing matches hides a mistake in its pattern.
func TestEveryRuleIsOfUse(t *testing.T) {
	t.Parallel()
	specs := shop.Specs()
	db := messagingtest.NewDB(t, specs...)
	for class, rules := range map[string][]rule{"tables": tables, "sequences": sequences, "functions": functions, "schemas": schemas} {
		used := make([]bool, len(rules))
		for object := range rightsOf(t, db.Admin, granted[class], specs) {
			if i := slices.IndexFunc(rules, func(r rule) bool { return r.matches(object, specs) }); i >= 0 {
				used[i] = true
			}
		}
		for i, r := range rules {
			if !used[i] {
				t.Errorf("%s: nothing is called %s", class, r.object)
			}
		}
	}
}

// What somebody adds must be given a rule before it is anybody's.
func TestUnknownObjectsMatchNoRule(t *testing.T) {
	t.Parallel()
	specs := shop.Specs()
	for _, object := range []string{"messaging.new_table", "messaging.queue_nobody", "messaging.inbox_nobody", "elsewhere.orders"} {
		for _, r := range tables {
			if r.matches(object, specs) {
				t.Errorf("%s is taken for %s, want no rule to match", object, r.object)
			}
		}
	}
	for _, object := range []string{"messaging.new_function()", "messaging.ensure_days(text)"} {
		for _, r := range functions {
			if r.matches(object, specs) {
				t.Errorf("%s is taken for %s, want no rule to match", object, r.object)
			}
		}
	}
}

// rightsOf runs query and returns the rights by object and role.
func rightsOf(t *testing.T, db *sqlx.DB, query string, specs []messaging.Spec) map[string]map[string]map[string]bool {
	t.Helper()
	roles := make([]string, len(specs))
	for i, s := range specs {
		roles[i] = s.Role()
	}
	var rows []struct{ Object, Role, Right string }
	if err := db.Select(&rows, query, roles); err != nil {
		t.Fatalf("list rights: %v", err)
	}
	has := map[string]map[string]map[string]bool{}
	for _, r := range rows {
		if has[r.Object] == nil {
			has[r.Object] = map[string]map[string]bool{}
		}
		if has[r.Object][r.Role] == nil {
			has[r.Object][r.Role] = map[string]bool{}
		}
		has[r.Object][r.Role][r.Right] = true
	}
	return has
}

// named is what the groups "service" and "queue" of the rule's pattern find in
// object, "" where there is no such group. It is not ok when object doesn't match.
func (r rule) named(object string) (service, queue string, ok bool) {
	pattern := regexp.MustCompile(`^(?:` + r.object + `)$`)
	found := pattern.FindStringSubmatch(object)
	if found == nil {
		return "", "", false
	}
	if i := pattern.SubexpIndex("service"); i >= 0 {
		service = found[i]
	}
	if i := pattern.SubexpIndex("queue"); i >= 0 {
		queue = found[i]
	}
	return service, queue, true
}

// matches reports whether the rule is for object: its name matches, and names a
// service or queue that there is.
func (r rule) matches(object string, specs []messaging.Spec) bool {
	service, queue, ok := r.named(object)
	known := func(s messaging.Spec) bool {
		return s.Name == service || slices.ContainsFunc(s.Queues, func(q messaging.Queue) bool { return q.Name == queue })
	}
	return ok && (service == "" && queue == "" || slices.ContainsFunc(specs, known))
}

// rights are what the rule gives to the service of s on object, each column's by
// itself.
func (r rule) rights(object string, s messaging.Spec, specs []messaging.Spec) map[string]bool {
	service, queue, _ := r.named(object)
	sends := slices.Concat(s.Sends, s.Asks, s.Speaks)
	given := r.everyone
	if len(s.Queues)+len(sends) > 0 {
		given += "," + r.messengers
	}
	if s.Name == service {
		given += "," + r.owner
	}
	for _, asker := range specs {
		if asker.Name == service && slices.ContainsFunc(s.Queues, func(q messaging.Queue) bool {
			return slices.ContainsFunc(q.Kinds, func(k string) bool { return slices.Contains(asker.Asks, k) })
		}) {
			given += "," + r.asked
		}
	}
	for _, receiver := range specs {
		for _, q := range receiver.Queues {
			if q.Name != queue {
				continue
			}
			if receiver.Name == s.Name {
				given += "," + r.owner
			}
			if slices.ContainsFunc(q.Kinds, func(k string) bool { return slices.Contains(sends, k) }) {
				given += "," + r.sender
			}
		}
	}
	return expand(given)
}

// expand makes single rights of what a GRANT lists.
func expand(list string) map[string]bool {
	rights := map[string]bool{}
	verb := ""
	for _, word := range regexp.MustCompile(`\w+\(?|\)`).FindAllString(list, -1) {
		switch opens := strings.HasSuffix(word, "("); {
		case opens:
			verb = word
		case word == ")":
			verb = ""
		case verb != "":
			rights[verb+word+")"] = true
		default:
			rights[word] = true
		}
	}
	return rights
}

// No role is more than a login, owns anything or inherits another's rights.
func TestRolesAreLoginsOnly(t *testing.T) {
	t.Parallel()
	specs := shop.Specs()
	db := messagingtest.NewDB(t, specs...)
	for _, s := range specs {
		var wrong []string
		err := db.Admin.Select(&wrong, `
			SELECT 'an attribute' FROM pg_roles WHERE rolname = $1 AND (rolsuper OR rolcreatedb OR rolcreaterole OR rolreplication OR rolbypassrls OR NOT rolcanlogin)
			UNION ALL SELECT 'a membership' FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.member WHERE r.rolname = $1
			UNION ALL SELECT 'ownership of ' || d.classid::regclass || ' ' || d.objid FROM pg_shdepend d JOIN pg_roles r ON r.oid = d.refobjid WHERE r.rolname = $1 AND d.deptype = 'o'
			UNION ALL SELECT 'CREATE on the database' WHERE has_database_privilege($1, current_database(), 'CREATE')`, s.Role())
		if err != nil {
			t.Fatal(err)
		}
		if len(wrong) > 0 {
			t.Errorf("role of %s: got %s, want none", s.Name, strings.Join(wrong, ", "))
		}
	}
}

// What a service must never be able to do, tried under its own login.
func TestForbiddenStatements(t *testing.T) {
	t.Parallel()
	db := messagingtest.NewDB(t, shop.Specs()...)
	const values = `VALUES (gen_random_uuid(), 'inventory.reserve_stock', '{}'`
	for _, tt := range []struct{ name, service, statement string }{
		{"forge the producer", "orders", `INSERT INTO messaging.queue_inventory (message_id, kind, payload, producer) ` + values + `, 'payments')`},
		{"forge the attempts", "orders", `INSERT INTO messaging.queue_inventory (message_id, kind, payload, attempts) ` + values + `, 7)`},
		{"send a message that is in hand", "orders", `INSERT INTO messaging.queue_inventory (message_id, kind, payload, token) ` + values + `, 1)`},
		{"send a dead letter", "orders", `INSERT INTO messaging.queue_inventory (message_id, kind, payload, dead_reason) ` + values + `, 'no')`},
		{"send to a queue that gets nothing of ours", "inventory", `INSERT INTO messaging.queue_payments (message_id, kind, payload) ` + values + `)`},
		{"send to the own queue past the outbox", "inventory", `INSERT INTO messaging.queue_inventory (message_id, kind, payload) ` + values + `)`},
		{"speak in another's outbox", "orders", `INSERT INTO messaging.outbox_payments (message_id, kind, payload) ` + values + `)`},
		{"speak in another's log", "orders", `INSERT INTO messaging.log_payments (message_id, kind, schema_version, class, occurred_at, payload) VALUES (gen_random_uuid(), 'payments.payment_captured', 1, 1, now(), '{}')`},

		{"read another's schema", "orders", `SELECT FROM payments.payments`},
		{"read the provider's books", "payments", `SELECT FROM paysim.payments`},
		{"read another's queue", "orders", `SELECT FROM messaging.queue_inventory`},
		{"read another's inbox", "orders", `SELECT FROM messaging.inbox_payments`},
		{"read another's log", "payments", `SELECT FROM messaging.log_orders`},
		{"read a log past its table", "orders", `SELECT FROM messaging.log_orders_rest`},
		{"read what operators did", "orders", `SELECT FROM messaging.actions`},
		{"read messages without being a messenger", "paysim", `SELECT FROM messaging.routes`},

		{"delete from another's queue", "orders", `DELETE FROM messaging.queue_inventory`},
		{"bring another's dead letters back", "orders", `UPDATE messaging.queue_inventory SET dead_reason = NULL`},
		{"rewrite a message", "inventory", `UPDATE messaging.queue_inventory SET payload = '{}'`},
		{"change who sent a message", "inventory", `UPDATE messaging.queue_inventory SET producer = 'payments'`},
		{"rewrite what was sent", "orders", `UPDATE messaging.outbox_orders SET payload = '{}'`},
		{"rewrite the log", "orders", `UPDATE messaging.log_orders SET payload = '{}'`},
		{"forget an event", "orders", `DELETE FROM messaging.log_orders`},
		{"rewrite the trace", "orders", `UPDATE messaging.inbox_orders SET outcome = 'ignored'`},
		{"forget that a message was handled", "orders", `DELETE FROM messaging.inbox_orders`},

		{"write what operators did", "orders", `INSERT INTO messaging.actions (actor, action) VALUES ('me', 'redrive')`},
		{"pause a queue", "inventory", `UPDATE messaging.queues SET paused_at = now()`},
		{"add a route", "orders", `INSERT INTO messaging.routes (kind, queue) VALUES ('payments.payment_captured', 'orders')`},
		{"cut a route", "orders", `DELETE FROM messaging.routes`},
		{"stop a route", "orders", `UPDATE messaging.routes SET live = false`},
		{"take over a kind", "orders", `UPDATE messaging.events SET speaker = 'orders'`},
		{"pass for migrated", "orders", `UPDATE messaging.services SET version = 99`},
		{"rewrite the migrations", "orders", `DELETE FROM orders.goose_db_version`},
		{"set the clock", "orders", `UPDATE messaging.clock SET offset_by = '1 day'`},

		{"empty the own queue at a stroke", "inventory", `TRUNCATE messaging.queue_inventory`},
		{"empty an own table at a stroke", "orders", `TRUNCATE orders.orders CASCADE`},
		{"create a table in schema messaging", "orders", `CREATE TABLE messaging.mine ()`},
		{"create a table in schema public", "orders", `CREATE TABLE public.mine ()`},
		{"create a table in the own schema", "orders", `CREATE TABLE orders.mine ()`},
		{"create a schema", "orders", `CREATE SCHEMA mine`},
		{"change an own table", "orders", `ALTER TABLE orders.orders ADD COLUMN mine text`},
		{"drop an own table", "orders", `DROP TABLE orders.orders CASCADE`},
		{"trigger on the own queue", "inventory", `CREATE TRIGGER mine AFTER INSERT ON messaging.queue_inventory EXECUTE FUNCTION suppress_redundant_updates_trigger()`},
		{"replace a function", "orders", `CREATE OR REPLACE FUNCTION messaging.producer() RETURNS text LANGUAGE sql AS $$ SELECT 'payments' $$`},
		{"make a queue", "orders", `SELECT messaging.ensure_queue('mine')`},
		{"make another's days", "orders", `SELECT messaging.ensure_days('log_payments')`},
		{"make a thousand days", "orders", `SELECT messaging.ensure_days('log_orders', 1000)`},
		{"make days past the check", "orders", `SELECT messaging.make_days('log_orders', 1000)`},

		{"become another", "orders", `SET ROLE orderflow_payments`},
		{"become the administrator", "orders", `SET ROLE postgres`},
		{"create a role", "orders", `CREATE ROLE mine`},
		{"switch triggers off", "orders", `SET session_replication_role = replica`},
		{"run a program", "orders", `COPY (SELECT 1) TO PROGRAM 'true'`},
		{"read the server's files", "orders", `SELECT pg_read_file('postgresql.conf')`},
		{"change the server", "orders", `ALTER SYSTEM SET fsync = off`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := db.Service(tt.service).Exec(tt.statement)
			var refused *pgconn.PgError
			if !errors.As(err, &refused) || refused.Code != "42501" {
				t.Errorf("%s: got %v, want SQLSTATE 42501, insufficient privilege", tt.service, err)
			}
		})
	}
}

// What is dead in a queue or an outbox is the operators', who are recorded: the
// service can neither bring it back, nor change it, nor delete it, beside living
// messages neither. It makes messages dead and does all else with the living.
func TestDeadLettersAreTheOperators(t *testing.T) {
	t.Parallel()
	specs := shop.Specs()
	db := messagingtest.NewDB(t, specs...)
	guarded := 0
	for _, s := range specs {
		for _, table := range consumed(s) {
			guarded++
			t.Run(table, func(t *testing.T) {
				t.Parallel()
				_, err := db.Admin.Exec(`
					INSERT INTO messaging.` + table + ` (message_id, kind, payload, dead_reason)
					SELECT gen_random_uuid(), 'any.kind', '{}', CASE WHEN n % 2 = 0 THEN 'broken' END FROM generate_series(1, 10) n`)
				if err != nil {
					t.Fatal(err)
				}
				columns := []string{"dead_reason = NULL", "dead_reason = 'another'", "dead_reason = dead_reason"}
				if strings.HasPrefix(table, "queue_") {
					columns = append(columns, "attempts = 0", "due = now()", "token = 1", "last_error = ''", "crashes = 0")
				}
				statements := []string{
					`DELETE FROM messaging.` + table + ` WHERE dead_reason IS NOT NULL`,
					`DELETE FROM messaging.` + table,
					`WITH gone AS (DELETE FROM messaging.` + table + ` WHERE id % 2 = 0 RETURNING id) SELECT count(*) FROM gone`,
				}
				for _, c := range columns {
					statements = append(statements, `UPDATE messaging.`+table+` SET `+c+` WHERE dead_reason IS NOT NULL`, `UPDATE messaging.`+table+` SET `+c)
				}
				for _, statement := range statements {
					var refused *pgconn.PgError
					if _, err := db.Service(s.Name).Exec(statement); !errors.As(err, &refused) || refused.Code != "42501" {
						t.Errorf("%s: %s: got %v, want SQLSTATE 42501, insufficient privilege", s.Name, statement, err)
					}
				}
				for _, statement := range []string{
					`DELETE FROM messaging.` + table + ` WHERE id = (SELECT min(id) FROM messaging.` + table + ` WHERE dead_reason IS NULL)`,
					`UPDATE messaging.` + table + ` SET dead_reason = 'broken, too' WHERE id = (SELECT min(id) FROM messaging.` + table + ` WHERE dead_reason IS NULL)`,
				} {
					if r, err := db.Service(s.Name).Exec(statement); err != nil {
						t.Errorf("%s: %s: %v", s.Name, statement, err)
					} else if n, err := r.RowsAffected(); n != 1 || err != nil {
						t.Errorf("%s: %s: got %d rows, %v; want 1", s.Name, statement, n, err)
					}
				}
				var state struct{ Living, Broken, Dead int }
				err = db.Admin.Get(&state, `
					SELECT count(*) FILTER (WHERE dead_reason IS NULL) AS living, count(*) FILTER (WHERE dead_reason = 'broken') AS broken, count(dead_reason) AS dead
					FROM messaging.`+table)
				if err != nil || state.Living != 3 || state.Broken != 5 || state.Dead != 6 {
					t.Errorf("messages left: got %+v, %v; want 3 living and the 5 that were dead among 6", state, err)
				}
				for _, statement := range []string{
					`UPDATE messaging.` + table + ` SET dead_reason = NULL WHERE dead_reason = 'broken'`,
					`DELETE FROM messaging.` + table,
				} {
					if _, err := db.Admin.Exec(statement); err != nil {
						t.Errorf("an administrator: %s: %v", statement, err)
					}
				}
			})
		}
	}
	var all int
	err := db.Admin.Get(&all, `SELECT count(*) FROM pg_tables WHERE schemaname = 'messaging' AND (tablename LIKE 'queue\_%' OR tablename LIKE 'outbox\_%')`)
	if err != nil || guarded != all || all == 0 {
		t.Errorf("queues and outboxes tried: got %d of %d, %v; want all", guarded, all, err)
	}
}

// consumed are the tables whose messages s takes away: its queues and its outbox.
func consumed(s messaging.Spec) (tables []string) {
	for _, q := range s.Queues {
		tables = append(tables, "queue_"+q.Name)
	}
	if len(s.Sends)+len(s.Speaks) > 0 {
		tables = append(tables, "outbox_"+s.Name)
	}
	return tables
}

// A message bears the name of the role that wrote it.
func TestTheProducerIsTheRole(t *testing.T) {
	t.Parallel()
	db := messagingtest.NewDB(t, shop.Specs()...)
	for service, queue := range map[string]string{"orders": "payments", "inventory": "orders", "payments": "orders"} {
		_, err := db.Service(service).Exec(fmt.Sprintf(`INSERT INTO messaging.queue_%s (message_id, kind, payload) VALUES (gen_random_uuid(), 'any.kind', '{}')`, queue))
		if err != nil {
			t.Errorf("%s sends to queue %s: %v", service, queue, err)
		}
		var n int
		if err := db.Admin.Get(&n, fmt.Sprintf(`SELECT count(*) FROM messaging.queue_%s WHERE producer = $1`, queue), service); err != nil {
			t.Fatal(err)
		}
		if n != 1 {
			t.Errorf("messages of %s in queue %s: got %d, want 1", service, queue, n)
		}
	}
}
