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

-- So does what a relay carries. Its statement names the routes; when they have
-- changed since, or name a queue that it may not write, it has to learn them anew,
-- and a message that nobody takes ends the batch.
-- +goose StatementBegin
CREATE FUNCTION messaging.all_carried(learned bigint, version bigint, forbidden bigint, unroutable bigint) RETURNS void
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $fn$
BEGIN
    IF learned <> version OR forbidden > 0 THEN
        RAISE EXCEPTION 'routes of version %, learned %, % messages for a queue that the relay may not write', version, learned, forbidden USING ERRCODE = 'OF002';
    END IF;
    IF unroutable > 0 THEN
        RAISE EXCEPTION '% messages of a kind that no queue and no log takes', unroutable USING ERRCODE = 'OF003';
    END IF;
END
$fn$;
-- +goose StatementEnd

-- The version of routes and events: it changes with them.
CREATE TABLE messaging.routes_version (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    version  bigint NOT NULL DEFAULT 1
);
INSERT INTO messaging.routes_version DEFAULT VALUES;
-- +goose StatementBegin
CREATE FUNCTION messaging.raise_routes_version() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog AS $fn$
BEGIN
    UPDATE messaging.routes_version SET version = version + 1;
    RETURN NULL;
END
$fn$;
-- +goose StatementEnd
CREATE TRIGGER raise_routes_version AFTER INSERT OR UPDATE OR DELETE ON messaging.routes
    FOR EACH ROW EXECUTE FUNCTION messaging.raise_routes_version();
CREATE TRIGGER raise_routes_version AFTER INSERT OR UPDATE OR DELETE ON messaging.events
    FOR EACH ROW EXECUTE FUNCTION messaging.raise_routes_version();

-- The producer of a message, as before, but without a search_path of its own: so
-- it becomes part of the statement instead of being called for every row. What it
-- calls is bound here and now.
CREATE OR REPLACE FUNCTION messaging.producer() RETURNS text
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN pg_catalog.regexp_replace(current_user::text, '^orderflow_', '');
