-- +goose Up

-- The routes: which queue gets a copy of a kind. A command has one, an event one
-- for every subscriber. A route that isn't live is being fed from the log.
CREATE TABLE messaging.routes (
    kind  text NOT NULL,
    queue text NOT NULL,
    live  boolean NOT NULL DEFAULT true,
    PRIMARY KEY (kind, queue)
);

-- The events, each with its speaker, whose log keeps them.
CREATE TABLE messaging.events (
    kind    text PRIMARY KEY,
    speaker text NOT NULL
);

-- What the migrator has finished for each service: services wait for it.
CREATE TABLE messaging.services (
    name        text PRIMARY KEY,
    version     bigint NOT NULL,
    declaration text NOT NULL
);

-- The clock of the business: real time plus an offset that only an
-- administrator (a demo, a test) may set. Leases and backoff never use it.
CREATE TABLE messaging.clock (
    only_row  boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    offset_by interval NOT NULL DEFAULT interval '0'
);
INSERT INTO messaging.clock DEFAULT VALUES;

CREATE FUNCTION messaging.shop_now() RETURNS timestamptz
    LANGUAGE sql VOLATILE PARALLEL SAFE SECURITY DEFINER SET search_path = pg_catalog
    AS 'SELECT clock_timestamp() + offset_by FROM messaging.clock';

-- The producer of a message is the role that wrote it, so that none can be
-- forged: no service may write the column.
CREATE FUNCTION messaging.producer() RETURNS text
    LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog
    AS $$ SELECT regexp_replace(current_user, '^orderflow_', '') $$;

-- A queue: what its consumers haven't handled. "due" alone is visibility, delay,
-- backoff and end of lease; a token marks a row that somebody has in hand; a
-- dead_reason makes it a dead letter that stays in its place.
-- +goose StatementBegin
CREATE FUNCTION messaging.ensure_queue(queue text) RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog AS $fn$
BEGIN
    IF to_regclass(format('messaging.%I', 'queue_' || queue)) IS NOT NULL THEN
        RETURN;
    END IF;
    EXECUTE format($ddl$
        CREATE TABLE messaging.%I (
            id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            message_id     uuid NOT NULL,
            kind           text NOT NULL,
            schema_version integer NOT NULL DEFAULT 1,
            lane           text,
            class          smallint NOT NULL DEFAULT 1 CHECK (class BETWEEN 0 AND 2),
            order_id       uuid,
            correlation_id text,
            causation_id   uuid,
            occurred_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
            producer       text NOT NULL DEFAULT messaging.producer(),
            metadata       jsonb,
            payload        bytea NOT NULL CHECK (octet_length(payload) <= 1048576),
            due            timestamptz NOT NULL DEFAULT clock_timestamp(),
            attempts       integer NOT NULL DEFAULT 0,
            crashes        integer NOT NULL DEFAULT 0,
            token          bigint,
            last_error     text,
            dead_reason    text
        ) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000,
                autovacuum_vacuum_cost_delay = 0, vacuum_truncate = off)
    $ddl$, 'queue_' || queue);
    EXECUTE format('CREATE INDEX ON messaging.%I (class, due, id) WHERE dead_reason IS NULL', 'queue_' || queue);
    EXECUTE format('CREATE INDEX ON messaging.%I (lane, id) WHERE lane IS NOT NULL AND dead_reason IS NULL', 'queue_' || queue);
    EXECUTE format('CREATE INDEX ON messaging.%I (due) WHERE dead_reason IS NULL AND (token IS NOT NULL OR crashes > 0)', 'queue_' || queue);
    EXECUTE format('CREATE INDEX ON messaging.%I (id) WHERE dead_reason IS NOT NULL', 'queue_' || queue);
END
$fn$;
-- +goose StatementEnd

-- An outbox: what a service has sent and its relay hasn't carried. not_before
-- delays; a dead_reason marks a row that no queue would take.
-- +goose StatementBegin
CREATE FUNCTION messaging.ensure_outbox(service text) RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog AS $fn$
BEGIN
    EXECUTE format($ddl$
        CREATE TABLE IF NOT EXISTS messaging.%I (
            id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            message_id     uuid NOT NULL,
            kind           text NOT NULL,
            schema_version integer NOT NULL DEFAULT 1,
            lane           text,
            class          smallint NOT NULL DEFAULT 1 CHECK (class BETWEEN 0 AND 2),
            order_id       uuid,
            correlation_id text,
            causation_id   uuid,
            occurred_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
            metadata       jsonb,
            payload        bytea NOT NULL,
            not_before     timestamptz,
            dead_reason    text
        ) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000,
                autovacuum_vacuum_cost_delay = 0, vacuum_truncate = off)
    $ddl$, 'outbox_' || service);
END
$fn$;
-- +goose StatementEnd

-- An inbox: what a service has handled, the memory that makes effects happen
-- once and the trace of every message. It is partitioned by message id: a UUID
-- v7 begins with its time, so that a day is a range of ids, the key is unique
-- across all days and a look-up touches one partition.
-- +goose StatementBegin
CREATE FUNCTION messaging.ensure_inbox(service text) RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog AS $fn$
BEGIN
    IF to_regclass(format('messaging.%I', 'inbox_' || service)) IS NOT NULL THEN
        RETURN;
    END IF;
    EXECUTE format($ddl$
        CREATE TABLE messaging.%I (
            message_id     uuid NOT NULL,
            consumer       text NOT NULL,
            run            integer NOT NULL DEFAULT 0,
            kind           text NOT NULL,
            lane           text,
            order_id       uuid,
            correlation_id text,
            causation_id   uuid,
            producer       text NOT NULL,
            payload        bytea NOT NULL,
            sent_at        timestamptz NOT NULL,
            started_at     timestamptz NOT NULL,
            handled_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
            ran            interval NOT NULL,
            attempts       integer NOT NULL,
            outcome        text NOT NULL CHECK (outcome IN ('done', 'ignored')),
            note           text,
            PRIMARY KEY (message_id, consumer, run)
        ) PARTITION BY RANGE (message_id)
    $ddl$, 'inbox_' || service);
    EXECUTE format('CREATE INDEX ON messaging.%I (order_id) WHERE order_id IS NOT NULL', 'inbox_' || service);
    EXECUTE format('CREATE TABLE messaging.%I PARTITION OF messaging.%I DEFAULT', 'inbox_' || service || '_rest', 'inbox_' || service);
END
$fn$;
-- +goose StatementEnd

-- A log: every event of a speaker, in the order sent, by days.
-- +goose StatementBegin
CREATE FUNCTION messaging.ensure_log(service text) RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog AS $fn$
BEGIN
    IF to_regclass(format('messaging.%I', 'log_' || service)) IS NOT NULL THEN
        RETURN;
    END IF;
    EXECUTE format('CREATE SEQUENCE messaging.%I', 'log_' || service || '_id');
    EXECUTE format($ddl$
        CREATE TABLE messaging.%I (
            id             bigint NOT NULL DEFAULT nextval(%L),
            logged_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
            message_id     uuid NOT NULL,
            kind           text NOT NULL,
            schema_version integer NOT NULL,
            lane           text,
            class          smallint NOT NULL,
            order_id       uuid,
            correlation_id text,
            causation_id   uuid,
            occurred_at    timestamptz NOT NULL,
            metadata       jsonb,
            payload        bytea NOT NULL,
            PRIMARY KEY (id, logged_at)
        ) PARTITION BY RANGE (logged_at)
    $ddl$, 'log_' || service, 'messaging.log_' || service || '_id');
    EXECUTE format('CREATE INDEX ON messaging.%I (order_id) WHERE order_id IS NOT NULL', 'log_' || service);
    EXECUTE format('CREATE TABLE messaging.%I PARTITION OF messaging.%I DEFAULT', 'log_' || service || '_rest', 'log_' || service);
END
$fn$;
-- +goose StatementEnd

-- The smallest UUID v7 of a moment.
CREATE FUNCTION messaging.uuid_at(at timestamptz) RETURNS uuid
    LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog
    AS $$ SELECT (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '00000000000000000000')::uuid $$;

-- The day partitions of a table for today and the days ahead. What has no
-- partition of its own yet lies in the rest; a day that already has rows there
-- stays there, so that this never fails and never moves a row.
-- +goose StatementBegin
CREATE FUNCTION messaging.ensure_days(base text, ahead integer DEFAULT 2) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $fn$
DECLARE
    day     date;
    name    text;
    low     text;
    high    text;
    made    integer := 0;
    by_uuid boolean := base LIKE 'inbox\_%';
    taken   boolean;
BEGIN
    IF base !~ '^(inbox|log)_[a-z0-9_]+$' THEN
        RAISE EXCEPTION 'no day partitions for %', base;
    END IF;
    PERFORM pg_advisory_xact_lock(hashtext('messaging.ensure_days'), hashtext(base));
    FOR i IN 0..ahead LOOP
        day := (clock_timestamp() AT TIME ZONE 'UTC')::date + i;
        name := base || to_char(day, '"_d"YYYYMMDD');
        CONTINUE WHEN to_regclass(format('messaging.%I', name)) IS NOT NULL;
        IF by_uuid THEN
            low := messaging.uuid_at(day::timestamp AT TIME ZONE 'UTC')::text;
            high := messaging.uuid_at((day + 1)::timestamp AT TIME ZONE 'UTC')::text;
            EXECUTE format('SELECT EXISTS (SELECT FROM messaging.%I WHERE message_id >= %L AND message_id < %L)', base || '_rest', low, high) INTO taken;
        ELSE
            low := (day::timestamp AT TIME ZONE 'UTC')::text;
            high := ((day + 1)::timestamp AT TIME ZONE 'UTC')::text;
            EXECUTE format('SELECT EXISTS (SELECT FROM messaging.%I WHERE logged_at >= %L AND logged_at < %L)', base || '_rest', low, high) INTO taken;
        END IF;
        CONTINUE WHEN taken;
        EXECUTE format('CREATE TABLE messaging.%I PARTITION OF messaging.%I FOR VALUES FROM (%L) TO (%L)', name, base, low, high);
        made := made + 1;
    END LOOP;
    RETURN made;
END
$fn$;
-- +goose StatementEnd
REVOKE ALL ON FUNCTION messaging.ensure_days(text, integer) FROM PUBLIC;
