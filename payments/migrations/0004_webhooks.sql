-- +goose Up

-- Events that the provider told us of, once each; kept for 35 days.
CREATE TABLE payments.webhooks (
    id          text PRIMARY KEY,
    received_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX ON payments.webhooks (received_at);
