-- +goose Up
CREATE TABLE notification.notifications (
    id       bigserial PRIMARY KEY,
    order_id bigint NOT NULL,
    kind     text NOT NULL,
    body     text NOT NULL,
    at       timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ON notification.notifications (order_id);
