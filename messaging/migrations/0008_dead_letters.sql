-- +goose Up

-- An index of a long table may take longer than the statements of a pool may.
SET LOCAL statement_timeout = 0;

-- What is dead in a queue or an outbox is an operator's, whose every act is
-- recorded: a consumer or a relay makes a row dead, and then can neither change
-- nor delete it. Who owns the table can, and so can a superuser. A row that isn't
-- dead costs one look at it as it was: the trigger's condition is asked before
-- anything is called.
-- +goose StatementBegin
CREATE FUNCTION messaging.refuse_dead() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog AS $fn$
BEGIN
    IF NOT pg_has_role(current_user, (SELECT relowner FROM pg_class WHERE oid = TG_RELID), 'MEMBER') THEN
        RAISE EXCEPTION '% of a dead letter in %.%: only an operator may do that', TG_OP, TG_TABLE_SCHEMA, TG_TABLE_NAME
            USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN NULL;
END
$fn$;
CREATE FUNCTION messaging.keep_dead(name text) RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog AS $fn$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = to_regclass(format('messaging.%I', name)) AND tgname = 'keep_dead') THEN
        EXECUTE format('CREATE TRIGGER keep_dead AFTER UPDATE OR DELETE ON messaging.%I FOR EACH ROW WHEN (OLD.dead_reason IS NOT NULL) EXECUTE FUNCTION messaging.refuse_dead()', name);
    END IF;
END
$fn$;
-- +goose StatementEnd

ALTER FUNCTION messaging.ensure_outbox(text) RENAME TO make_outbox;
-- +goose StatementBegin
CREATE FUNCTION messaging.ensure_outbox(service text) RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog AS $fn$
BEGIN
    PERFORM messaging.make_outbox(service);
    PERFORM messaging.keep_dead('outbox_' || service);
END
$fn$;
CREATE OR REPLACE FUNCTION messaging.ensure_queue(queue text) RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog AS $fn$
BEGIN
    PERFORM messaging.make_queue(queue);
    PERFORM messaging.complete_table('queue_' || queue);
    PERFORM messaging.keep_dead('queue_' || queue);
END
$fn$;
-- +goose StatementEnd
SELECT messaging.keep_dead(relname)
FROM pg_class
WHERE relnamespace = 'messaging'::regnamespace AND relkind = 'r' AND (relname LIKE 'queue\_%' OR relname LIKE 'outbox\_%');

-- As before, and one more: a dead letter is found by its message, however many
-- there are. All of these indexes are partial, and known by that and by their
-- first column.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION messaging.ensure_inspection() RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog AS $fn$
DECLARE
    t record;
BEGIN
    FOR t IN
        SELECT c.oid::regclass AS name, w.form
        FROM pg_class c
        JOIN (VALUES ('queue\_%', 'attempts', 'CREATE INDEX ON %s (attempts) WHERE dead_reason IS NULL AND (crashes > 0 OR attempts > 0 AND token IS NULL)'),
                     ('queue\_%', 'order_id', 'CREATE INDEX ON %s (order_id) WHERE order_id IS NOT NULL AND (lane IS DISTINCT FROM order_id::text OR dead_reason IS NOT NULL)'),
                     ('outbox\_%', 'id', 'CREATE INDEX ON %s (id) WHERE dead_reason IS NOT NULL'),
                     ('queue\_%', 'message_id', 'CREATE INDEX ON %s (message_id) WHERE dead_reason IS NOT NULL'),
                     ('outbox\_%', 'message_id', 'CREATE INDEX ON %s (message_id) WHERE dead_reason IS NOT NULL')) w (tables, first, form)
          ON c.relname LIKE w.tables
        WHERE c.relnamespace = 'messaging'::regnamespace AND c.relkind = 'r'
          AND NOT EXISTS (
              SELECT FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
              WHERE i.indrelid = c.oid AND i.indpred IS NOT NULL AND a.attname = w.first)
    LOOP
        EXECUTE format(t.form, t.name);
    END LOOP;
END
$fn$;
-- +goose StatementEnd
SELECT messaging.ensure_inspection();
