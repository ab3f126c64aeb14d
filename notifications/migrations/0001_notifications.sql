-- +goose Up
CREATE TABLE notifications.notifications (
    id          uuid        PRIMARY KEY,
    message_id  uuid        NOT NULL,
    channel     text        NOT NULL CHECK (channel IN ('inbox')),
    order_id    uuid        NOT NULL,
    customer_id text        NOT NULL,
    kind        text        NOT NULL,
    subject     text        NOT NULL CHECK (subject <> ''),
    body        text        NOT NULL,
    occurred_at timestamptz NOT NULL,
    CONSTRAINT one_per_event_and_channel UNIQUE (message_id, channel)
);

CREATE INDEX notifications_by_order ON notifications.notifications (order_id);
