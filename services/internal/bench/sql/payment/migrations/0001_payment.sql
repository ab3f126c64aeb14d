-- +goose Up
CREATE TABLE payment.payments (
    order_id     bigint PRIMARY KEY,
    amount_cents bigint NOT NULL,
    state        text NOT NULL,
    auth_code    text,
    at           timestamptz NOT NULL DEFAULT now()
);
