-- +goose Up
CREATE TABLE ordering.orders (
    id          bigint PRIMARY KEY,
    customer_id bigint NOT NULL,
    status      text NOT NULL,
    total_cents bigint NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE ordering.order_items (
    order_id    bigint NOT NULL REFERENCES ordering.orders (id),
    sku         text NOT NULL,
    qty         integer NOT NULL,
    price_cents bigint NOT NULL,
    PRIMARY KEY (order_id, sku)
);
CREATE TABLE ordering.order_history (
    id       bigserial PRIMARY KEY,
    order_id bigint NOT NULL,
    status   text NOT NULL,
    at       timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ON ordering.order_history (order_id);

-- The yardstick's outbox. Those who bring an outbox of their own leave it empty.
CREATE TABLE ordering.outbox (
    id         bigserial PRIMARY KEY,
    topic      text NOT NULL,
    payload    jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
