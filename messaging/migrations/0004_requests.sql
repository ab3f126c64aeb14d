-- +goose Up

-- Replies: the answers to what a service has asked, until the process that asked
-- has read them. Those asked write, the asker reads and deletes. The table isn't
-- logged: whoever waits gives up within seconds, so that an answer which a crash
-- of the server takes has nobody left to miss it.
-- +goose StatementBegin
CREATE FUNCTION messaging.ensure_replies(service text) RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog AS $fn$
BEGIN
    IF to_regclass(format('messaging.%I', 'replies_' || service)) IS NOT NULL THEN
        RETURN;
    END IF;
    EXECUTE format($ddl$
        CREATE UNLOGGED TABLE messaging.%I (
            request_id     uuid PRIMARY KEY,
            kind           text NOT NULL,
            schema_version integer NOT NULL DEFAULT 1,
            payload        bytea CHECK (octet_length(payload) <= 1048576),
            refusal        text,
            answered_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
            CHECK ((payload IS NULL) <> (refusal IS NULL))
        ) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0, vacuum_truncate = off)
    $ddl$, 'replies_' || service);
    EXECUTE format('CREATE INDEX ON messaging.%I (answered_at)', 'replies_' || service);
END
$fn$;
-- +goose StatementEnd
