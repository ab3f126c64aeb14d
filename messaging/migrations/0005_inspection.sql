-- +goose Up

-- What Operator.Queues and Operator.Journey read by. A message that is handled at
-- its first attempt is in none of these indexes: they cost it nothing.
--   troubled: what is tried again, or was in the hand of a consumer that died
--   by order: what isn't found by its lane, the delayed and the dead
--   dead letters of an outbox, which it had no index of
-- An index is known by its first column, as a table's name may be too long for
-- one that names the index, too.
-- +goose StatementBegin
CREATE FUNCTION messaging.ensure_inspection() RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog AS $fn$
DECLARE
    t record;
BEGIN
    FOR t IN
        SELECT c.oid::regclass AS name, w.form
        FROM pg_class c
        JOIN (VALUES ('queue\_%', 'attempts', 'CREATE INDEX ON %s (attempts) WHERE dead_reason IS NULL AND (crashes > 0 OR attempts > 0 AND token IS NULL)'),
                     ('queue\_%', 'order_id', 'CREATE INDEX ON %s (order_id) WHERE order_id IS NOT NULL AND (lane IS DISTINCT FROM order_id::text OR dead_reason IS NOT NULL)'),
                     ('outbox\_%', NULL, 'CREATE INDEX ON %s (id) WHERE dead_reason IS NOT NULL')) w (tables, first, form)
          ON c.relname LIKE w.tables
        WHERE c.relnamespace = 'messaging'::regnamespace AND c.relkind = 'r'
          AND NOT EXISTS (
              SELECT FROM pg_index i LEFT JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
              WHERE i.indrelid = c.oid AND CASE WHEN w.first IS NULL THEN i.indpred IS NOT NULL ELSE a.attname = w.first END)
    LOOP
        EXECUTE format(t.form, t.name);
    END LOOP;
END
$fn$;
-- +goose StatementEnd
SELECT messaging.ensure_inspection();

-- Discarded messages are in no queue any more: only the record tells of them.
CREATE INDEX ON messaging.actions ((detail ->> 'order_id')) WHERE action = 'dead.discard';
