-- +goose Up
CREATE TABLE inventory.stock (
    sku       text PRIMARY KEY,
    available integer NOT NULL CHECK (available >= 0),
    reserved  integer NOT NULL DEFAULT 0
) WITH (fillfactor = 50);
CREATE TABLE inventory.reservations (
    order_id bigint NOT NULL,
    sku      text NOT NULL,
    qty      integer NOT NULL,
    state    text NOT NULL DEFAULT 'held',
    at       timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (order_id, sku)
);
INSERT INTO inventory.stock (sku, available)
SELECT 'SKU-' || lpad(n::text, 5, '0'), 1000000000 FROM generate_series(1, 1000) n;
