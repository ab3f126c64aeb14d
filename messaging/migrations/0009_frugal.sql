-- +goose Up

-- The clock of the business, as before, but in PL/pgSQL: a function in SQL is
-- parsed and planned again by every statement that calls it (0.04 ms each, a
-- third of a short statement), this one once per connection.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION messaging.shop_now() RETURNS timestamptz
    LANGUAGE plpgsql VOLATILE PARALLEL SAFE SECURITY DEFINER SET search_path = pg_catalog AS $fn$
BEGIN
    RETURN clock_timestamp() + (SELECT offset_by FROM messaging.clock);
END
$fn$;
-- +goose StatementEnd

-- A queue and an outbox are emptied as fast as they are filled: statistics of them
-- are old when they are made, and no plan of ours goes by them. Making them at
-- every round of autovacuum took a twentieth of a busy server's time.
-- +goose StatementBegin
CREATE FUNCTION messaging.spare_statistics(name text) RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog AS $fn$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_class WHERE oid = to_regclass(format('messaging.%I', name)) AND 'autovacuum_analyze_scale_factor=0' = ANY (reloptions)) THEN
        EXECUTE format('ALTER TABLE messaging.%I SET (autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 100000)', name);
    END IF;
END
$fn$;

CREATE OR REPLACE FUNCTION messaging.ensure_queue(queue text) RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog AS $fn$
BEGIN
    PERFORM messaging.make_queue(queue);
    PERFORM messaging.complete_table('queue_' || queue);
    PERFORM messaging.keep_dead('queue_' || queue);
    PERFORM messaging.spare_statistics('queue_' || queue);
END
$fn$;

CREATE OR REPLACE FUNCTION messaging.ensure_outbox(service text) RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog AS $fn$
BEGIN
    PERFORM messaging.make_outbox(service);
    PERFORM messaging.keep_dead('outbox_' || service);
    PERFORM messaging.spare_statistics('outbox_' || service);
END
$fn$;
-- +goose StatementEnd
SELECT messaging.spare_statistics(relname)
FROM pg_class
WHERE relnamespace = 'messaging'::regnamespace AND relkind = 'r' AND (relname LIKE 'queue\_%' OR relname LIKE 'outbox\_%');
