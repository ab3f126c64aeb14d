-- +goose Up

-- Dead letters of an outbox are found without reading what waits in it, as those
-- of a queue are. The index has no name of ours: an outbox's may be as long as a
-- name can be.
-- +goose StatementBegin
CREATE FUNCTION messaging.ensure_dead_index(service text) RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog AS $fn$
DECLARE
    outbox regclass := format('messaging.%I', 'outbox_' || service);
BEGIN
    IF NOT EXISTS (SELECT FROM pg_index WHERE indrelid = outbox AND indpred IS NOT NULL) THEN
        EXECUTE format('CREATE INDEX ON %s (id) WHERE dead_reason IS NOT NULL', outbox);
    END IF;
END
$fn$;
-- +goose StatementEnd
