-- +goose Up

-- E-mail and webhooks, beside the inbox. A row of the inbox is delivered by being
-- written; one of the others is pending until its channel has taken or refused it.
ALTER TABLE notifications.notifications
    DROP CONSTRAINT notifications_channel_check,
    ADD CONSTRAINT notifications_channel_check CHECK (channel IN ('inbox', 'email', 'webhook')),
    ADD COLUMN status text NOT NULL DEFAULT 'sent' CHECK (status IN ('pending', 'sent', 'failed')),
    ADD COLUMN reason_code text,
    ADD COLUMN settled_at timestamptz, -- real time, as are all times below
    ADD COLUMN recipient text,
    ADD COLUMN recipient_name text,
    ADD COLUMN html text,
    ADD CONSTRAINT failed_for_a_reason CHECK ((status = 'failed') = (reason_code IS NOT NULL)),
    ADD CONSTRAINT email_has_a_recipient CHECK ((channel = 'email') = (recipient IS NOT NULL)),
    ADD CONSTRAINT email_is_complete CHECK ((recipient IS NULL) = (recipient_name IS NULL) AND (recipient IS NULL) = (html IS NULL));

-- Where customers want to be told by their own programs. The secret signs what is
-- sent there; it goes when the endpoint is deleted, the row stays for the log.
CREATE TABLE notifications.endpoints (
    id              uuid        PRIMARY KEY,
    customer_id     text        NOT NULL,
    url             text        NOT NULL,
    secret          text,
    created_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    failures        integer     NOT NULL DEFAULT 0 CHECK (failures >= 0), -- attempts since the last that succeeded
    disabled_at     timestamptz,
    disabled_reason text,
    deleted_at      timestamptz,
    CHECK ((disabled_at IS NULL) = (disabled_reason IS NULL)),
    CHECK ((deleted_at IS NULL) = (secret IS NOT NULL))
);
CREATE INDEX endpoints_by_customer ON notifications.endpoints (customer_id) WHERE deleted_at IS NULL;

-- One notification on its way to one endpoint. A waiting one is due for an
-- attempt; a sending one was handed to a command, and is handed out again when it
-- is still there at its due time.
CREATE TABLE notifications.deliveries (
    notification_id uuid        NOT NULL REFERENCES notifications.notifications (id),
    endpoint_id     uuid        NOT NULL REFERENCES notifications.endpoints (id),
    status          text        NOT NULL DEFAULT 'waiting' CHECK (status IN ('waiting', 'sending', 'sent', 'failed')),
    tries           integer     NOT NULL DEFAULT 0 CHECK (tries >= 0), -- since it was written or replayed
    due             timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (notification_id, endpoint_id)
);
CREATE INDEX deliveries_due ON notifications.deliveries (due) WHERE status IN ('waiting', 'sending');
CREATE INDEX deliveries_by_endpoint ON notifications.deliveries (endpoint_id, notification_id);

-- Wishes to have a notification sent once more: who, when and why.
CREATE TABLE notifications.resends (
    id              uuid        PRIMARY KEY,
    notification_id uuid        NOT NULL REFERENCES notifications.notifications (id),
    asked_by        text        NOT NULL,
    asked_at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    reason          text        NOT NULL
);

-- What came of each attempt that had an answer, or was given up.
CREATE TABLE notifications.attempts (
    id              bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    notification_id uuid        NOT NULL REFERENCES notifications.notifications (id),
    endpoint_id     uuid        REFERENCES notifications.endpoints (id), -- of a webhook
    resend_id       uuid        REFERENCES notifications.resends (id),
    at              timestamptz NOT NULL DEFAULT clock_timestamp(),
    outcome         text        NOT NULL CHECK (outcome IN ('sent', 'failed')),
    http_status     integer,
    reason_code     text,
    duration_ms     integer     NOT NULL,
    CHECK ((outcome = 'failed') = (reason_code IS NOT NULL))
);
CREATE INDEX attempts_by_notification ON notifications.attempts (notification_id, endpoint_id, id);
CREATE INDEX attempts_by_resend ON notifications.attempts (resend_id) WHERE resend_id IS NOT NULL;

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON notifications.resends
    FOR EACH STATEMENT EXECUTE FUNCTION messaging.refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON notifications.attempts
    FOR EACH STATEMENT EXECUTE FUNCTION messaging.refuse_change();
