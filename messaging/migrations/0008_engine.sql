-- +goose Up

-- An acknowledgement goes to the server together with the COMMIT, so that the
-- server must judge it: fewer rows deleted than messages handled means that the
-- lease of one went to somebody else, and nothing of the batch may be committed.
-- +goose StatementBegin
CREATE FUNCTION messaging.all_acknowledged(got bigint, want bigint) RETURNS void
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $fn$
BEGIN
    IF got <> want THEN
        RAISE EXCEPTION '% of % acknowledged', got, want USING ERRCODE = 'OF001';
    END IF;
END
$fn$;
-- +goose StatementEnd

-- So does what a relay carries: a copy that couldn't be made, because the relay
-- doesn't know its queue yet, or a message that nobody takes ends the batch.
-- +goose StatementBegin
CREATE FUNCTION messaging.all_carried(missing bigint, unroutable bigint) RETURNS void
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $fn$
BEGIN
    IF unroutable > 0 THEN
        RAISE EXCEPTION '% messages of a kind that no queue and no log takes', unroutable USING ERRCODE = 'OF003';
    END IF;
    IF missing <> 0 THEN
        RAISE EXCEPTION '% copies for queues that the relay does not know', missing USING ERRCODE = 'OF002';
    END IF;
END
$fn$;
-- +goose StatementEnd

-- The producer of a message, as before, but without a search_path of its own: so
-- it becomes part of the statement instead of being called for every row. What it
-- calls is bound here and now.
CREATE OR REPLACE FUNCTION messaging.producer() RETURNS text
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN pg_catalog.regexp_replace(current_user::text, '^orderflow_', '');
