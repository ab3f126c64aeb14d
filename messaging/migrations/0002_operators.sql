-- +goose Up

-- What is known of every queue besides its messages. The migrator writes the
-- first four columns from the services' declarations, an operator the others:
-- the run tells one handling of the log from the next, and nothing is claimed
-- from a queue while it is paused.
CREATE TABLE messaging.queues (
    name       text PRIMARY KEY,
    service    text NOT NULL,
    leased     boolean NOT NULL,
    replayable boolean NOT NULL DEFAULT false,
    run        integer NOT NULL DEFAULT 0,
    paused_at  timestamptz
);

-- What operators did by hand, for good: who, when, to what and why.
CREATE TABLE messaging.actions (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    actor      text NOT NULL CHECK (actor <> ''),
    login      text NOT NULL DEFAULT session_user,
    action     text NOT NULL,
    queue      text,
    message_id uuid,
    reason     text,
    detail     jsonb
);
CREATE INDEX ON messaging.actions (message_id) WHERE message_id IS NOT NULL;

-- +goose StatementBegin
CREATE FUNCTION messaging.refuse_change() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog AS $fn$
BEGIN
    RAISE EXCEPTION '% on %.%: its rows are kept as they were written', TG_OP, TG_TABLE_SCHEMA, TG_TABLE_NAME
        USING ERRCODE = 'insufficient_privilege';
END
$fn$;
-- +goose StatementEnd
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON messaging.actions
    FOR EACH STATEMENT EXECUTE FUNCTION messaging.refuse_change();
