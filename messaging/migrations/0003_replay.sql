-- +goose Up

-- The replays: the events of a queue, copied once more from the logs of their
-- speakers. A queue has one that isn't finished, at most. The rows stay: a run is
-- named in the inboxes.
CREATE TABLE messaging.replays (
    queue       text NOT NULL REFERENCES messaging.queues,
    run         integer NOT NULL CHECK (run > 0),
    actor       text NOT NULL,
    kinds       text[] NOT NULL,
    since       timestamptz,
    copied      bigint NOT NULL DEFAULT 0,
    started_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    fenced_at   timestamptz,
    finished_at timestamptz,
    PRIMARY KEY (queue, run)
);
CREATE UNIQUE INDEX ON messaging.replays (queue) WHERE finished_at IS NULL;

-- How far a replay is in each log: what is at or before position is copied.
-- since is the moment from which it copies and before which it leaves the queue
-- as it is.
CREATE TABLE messaging.replay_positions (
    queue    text NOT NULL,
    run      integer NOT NULL,
    speaker  text NOT NULL,
    since    timestamptz NOT NULL DEFAULT '-infinity',
    first    bigint NOT NULL,
    position bigint NOT NULL,
    PRIMARY KEY (queue, run, speaker),
    FOREIGN KEY (queue, run) REFERENCES messaging.replays
);

-- How long a log or an inbox is kept. Only an administrator may say so: a service
-- can have its days dropped, but not before their time. Before gone_before a log
-- has gaps.
CREATE TABLE messaging.retention (
    base        text PRIMARY KEY,
    days        integer NOT NULL CHECK (days BETWEEN 1 AND 3650),
    gone_before timestamptz
);

-- What the tables of a service have besides what 0001 makes: a queue the run that
-- brought a message (0 = it came live), a log the delay of an event, logs and
-- inboxes a retention and an index of the age of what lies in the rest.
-- +goose StatementBegin
CREATE FUNCTION messaging.complete_table(name text) RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog AS $fn$
DECLARE
    is_log boolean := name LIKE 'log\_%';
    col    text := CASE WHEN is_log THEN 'not_before' WHEN name LIKE 'queue\_%' THEN 'run' END;
BEGIN
    IF col IS NOT NULL AND NOT EXISTS (SELECT FROM pg_attribute WHERE attrelid = to_regclass(format('messaging.%I', name)) AND attname = col) THEN
        EXECUTE format('ALTER TABLE messaging.%I ADD COLUMN %I %s', name, col, CASE WHEN is_log THEN 'timestamptz' ELSE 'integer NOT NULL DEFAULT 0' END);
    END IF;
    IF name NOT LIKE 'queue\_%' AND NOT EXISTS (SELECT FROM messaging.retention WHERE base = name) THEN
        EXECUTE format('CREATE INDEX ON messaging.%I USING brin (%I)', name || '_rest', CASE WHEN is_log THEN 'logged_at' ELSE 'handled_at' END);
        INSERT INTO messaging.retention (base, days) VALUES (name, CASE WHEN is_log THEN 7 ELSE 35 END);
    END IF;
END
$fn$;
-- +goose StatementEnd

ALTER FUNCTION messaging.ensure_queue(text) RENAME TO make_queue;
ALTER FUNCTION messaging.ensure_log(text) RENAME TO make_log;
ALTER FUNCTION messaging.ensure_inbox(text) RENAME TO make_inbox;
-- +goose StatementBegin
CREATE FUNCTION messaging.ensure_queue(queue text) RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog AS $fn$
BEGIN
    PERFORM messaging.make_queue(queue);
    PERFORM messaging.complete_table('queue_' || queue);
END
$fn$;
CREATE FUNCTION messaging.ensure_log(service text) RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog AS $fn$
BEGIN
    PERFORM messaging.make_log(service);
    PERFORM messaging.complete_table('log_' || service);
END
$fn$;
CREATE FUNCTION messaging.ensure_inbox(service text) RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog AS $fn$
BEGIN
    PERFORM messaging.make_inbox(service);
    PERFORM messaging.complete_table('inbox_' || service);
END
$fn$;
-- +goose StatementEnd
SELECT messaging.complete_table(relname)
FROM pg_class
WHERE relnamespace = 'messaging'::regnamespace AND (relname LIKE 'queue\_%' AND relkind = 'r' OR (relname LIKE 'log\_%' OR relname LIKE 'inbox\_%') AND relkind = 'p');

-- One step of forgetting what is older than its retention: the oldest day of a
-- log or an inbox is dropped or, when there is none, up to 1000 rows of its rest
-- are deleted. It returns how many days or rows that were, 0 when nothing is left
-- to do or it must wait: for a replay that still reads the log, for somebody who
-- works in the table for longer than the time that a drop may block others.
--
-- Each service may call it for its own tables. An inbox is kept for longer than
-- any log that the service hears, so that a replay knows what was handled; and a
-- day stays while a second copy of a message that was handled waits in a queue.
-- +goose StatementBegin
CREATE FUNCTION messaging.drop_days(base text) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog SET lock_timeout = '200ms' AS $fn$
DECLARE
    owner   text := regexp_replace(base, '^(log|inbox)_', '');
    is_log  boolean := base LIKE 'log\_%';
    rest    text := base || '_rest';
    keep    integer;
    first   date; -- of the days kept
    cut     timestamptz;
    needed  bigint;
    day     record;
    q       text;
    held    boolean;
    old     uuid[];
    waiting uuid[];
    n       integer;
BEGIN
    SELECT r.days INTO keep FROM messaging.retention r WHERE r.base = drop_days.base;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no retention for %', base;
    END IF;
    IF session_user <> 'orderflow_' || owner AND NOT pg_has_role(session_user, current_user, 'MEMBER') THEN
        RAISE EXCEPTION '% belongs to another service than %', base, session_user USING ERRCODE = 'insufficient_privilege';
    END IF;
    -- A replay begins under the same lock: it sees what is gone, or this sees what it needs.
    BEGIN
        PERFORM pg_advisory_xact_lock(hashtext('messaging.ensure_days'), hashtext(base));
    EXCEPTION WHEN lock_not_available THEN
        RETURN 0;
    END;
    IF is_log THEN
        SELECT min(p.position) INTO needed
        FROM messaging.replay_positions p JOIN messaging.replays r USING (queue, run)
        WHERE p.speaker = owner AND r.finished_at IS NULL;
    ELSE
        IF EXISTS (SELECT FROM messaging.replays r JOIN messaging.queues k ON k.name = r.queue WHERE k.service = owner AND r.finished_at IS NULL) THEN
            RETURN 0;
        END IF;
        SELECT greatest(keep, 1 + max(r.days)) INTO keep
        FROM messaging.queues k
        JOIN messaging.routes t ON t.queue = k.name
        JOIN messaging.events e ON e.kind = t.kind
        JOIN messaging.retention r ON r.base = 'log_' || e.speaker
        WHERE k.service = owner;
    END IF;
    first := (clock_timestamp() AT TIME ZONE 'UTC')::date - keep;
    cut := first::timestamp AT TIME ZONE 'UTC';

    FOR day IN
        SELECT c.relname AS name, to_date(right(c.relname, 8), 'YYYYMMDD') AS date
        FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent = to_regclass(format('messaging.%I', base)) AND c.relname ~ '_d[0-9]{8}$'
          AND right(c.relname, 8) < to_char(first, 'YYYYMMDD')
        ORDER BY right(c.relname, 8)
    LOOP
        IF is_log THEN
            EXECUTE format('SELECT EXISTS (SELECT FROM messaging.%I WHERE id > $1)', day.name) INTO held USING needed;
            EXIT WHEN held;
        ELSE
            FOR q IN SELECT k.name FROM messaging.queues k WHERE k.service = owner LOOP
                EXECUTE format($sql$
                    SELECT EXISTS (SELECT FROM messaging.%I q JOIN messaging.%I i ON i.message_id = q.message_id AND i.consumer = $1
                                   WHERE q.message_id >= $2 AND q.message_id < $3)
                    $sql$, 'queue_' || q, day.name)
                INTO held
                USING q, messaging.uuid_at(day.date::timestamp AT TIME ZONE 'UTC'), messaging.uuid_at((day.date + 1)::timestamp AT TIME ZONE 'UTC');
                EXIT WHEN held;
            END LOOP;
            CONTINUE WHEN held;
        END IF;
        BEGIN
            EXECUTE format('DROP TABLE messaging.%I', day.name);
        EXCEPTION WHEN lock_not_available THEN
            RETURN 0;
        END;
        UPDATE messaging.retention r SET gone_before = greatest(r.gone_before, (day.date + 1)::timestamp AT TIME ZONE 'UTC') WHERE r.base = drop_days.base;
        RETURN 1;
    END LOOP;

    IF is_log THEN
        EXECUTE format($sql$
            DELETE FROM messaging.%1$I
            WHERE ctid = ANY (ARRAY(SELECT ctid FROM messaging.%1$I WHERE logged_at < $1 AND ($2 IS NULL OR id <= $2) LIMIT 1000))
            $sql$, rest) USING cut, needed;
        GET DIAGNOSTICS n = ROW_COUNT;
        IF n > 0 THEN
            UPDATE messaging.retention r SET gone_before = greatest(r.gone_before, cut) WHERE r.base = drop_days.base;
        END IF;
        RETURN n;
    END IF;
    -- An id of a rest need not tell its age: when it was handled does.
    EXECUTE format('SELECT ARRAY(SELECT message_id FROM messaging.%I WHERE handled_at < $1 LIMIT 1000)', rest) INTO old USING cut;
    FOR q IN SELECT k.name FROM messaging.queues k WHERE k.service = owner LOOP
        EXECUTE format('SELECT ARRAY(SELECT q.message_id FROM unnest($1) o (id) JOIN messaging.%I q ON q.message_id = o.id)', 'queue_' || q) INTO waiting USING old;
        old := ARRAY(SELECT unnest(old) EXCEPT SELECT unnest(waiting));
    END LOOP;
    EXECUTE format('DELETE FROM messaging.%I WHERE message_id = ANY ($1) AND handled_at < $2', rest) USING old, cut;
    GET DIAGNOSTICS n = ROW_COUNT;
    RETURN n;
END
$fn$;
-- +goose StatementEnd
REVOKE ALL ON FUNCTION messaging.drop_days(text) FROM PUBLIC;
