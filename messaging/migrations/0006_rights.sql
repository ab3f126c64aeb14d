-- +goose Up

-- A service has the day partitions of its own inbox and log made, those that it
-- may write, and only some days ahead: this runs with the owner's rights.
ALTER FUNCTION messaging.ensure_days(text, integer) RENAME TO make_days;

-- +goose StatementBegin
CREATE FUNCTION messaging.ensure_days(base text, ahead integer DEFAULT 2) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $fn$
BEGIN
    IF NOT has_table_privilege(session_user, format('messaging.%I', base), 'INSERT') OR ahead NOT BETWEEN 0 AND 7 THEN
        RAISE EXCEPTION '% may not make partitions of messaging.% for % days ahead', session_user, base, ahead
            USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN messaging.make_days(base, ahead);
END
$fn$;
-- +goose StatementEnd

-- Before PostgreSQL 15 everybody may create objects in schema public.
-- +goose StatementBegin
DO $do$
BEGIN
    IF to_regnamespace('public') IS NOT NULL THEN
        REVOKE CREATE ON SCHEMA public FROM PUBLIC;
    END IF;
END
$do$;
-- +goose StatementEnd
