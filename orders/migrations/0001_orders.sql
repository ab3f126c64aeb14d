-- +goose Up

-- Our copy of the catalogue, fed by inventory's ProductChanged. changed_at is
-- when that was said: an older word never overwrites a newer one.
CREATE TABLE orders.products (
    sku         text PRIMARY KEY,
    name        text NOT NULL,
    price_minor bigint NOT NULL CHECK (price_minor > 0),
    currency    char(3) NOT NULL,
    active      boolean NOT NULL,
    changed_at  timestamptz NOT NULL
);

-- One row per order: the only judge of what may happen to it. An empty text
-- means "none". deadline is by messaging.shop_now(); NULL waits for nobody.
CREATE TABLE orders.orders (
    id               uuid PRIMARY KEY,
    customer_id      text NOT NULL,
    customer_name    text NOT NULL,
    customer_email   text NOT NULL,
    customer_address text NOT NULL,
    note             text NOT NULL,
    class            smallint NOT NULL CHECK (class BETWEEN 0 AND 2),
    currency         char(3) NOT NULL,
    total_minor      bigint NOT NULL CHECK (total_minor BETWEEN 1 AND 1000000000000),
    status           text NOT NULL CHECK (status IN (
                         'placed', 'authorizing', 'payment_failed', 'confirmed', 'fulfilling', 'capturing',
                         'dispatching', 'shipped', 'delivered', 'compensating', 'cancelled', 'rejected', 'expired')),
    reason_code      text NOT NULL,
    version          integer NOT NULL CHECK (version > 0),
    ends_as          text NOT NULL CHECK (ends_as IN ('', 'cancelled', 'rejected', 'expired')),
    reservation_id   uuid NOT NULL,
    payment_id       uuid NOT NULL,
    attempt          integer NOT NULL CHECK (attempt >= 0),
    capture_id       uuid NOT NULL,
    payment_token    text NOT NULL,
    declines         integer NOT NULL CHECK (declines BETWEEN 0 AND 3),
    awaits_release   boolean NOT NULL,
    awaits_void      boolean NOT NULL,
    tracking         text NOT NULL,
    deadline         timestamptz,
    created_at       timestamptz NOT NULL,
    changed_at       timestamptz NOT NULL,
    CONSTRAINT compensating_has_an_end CHECK ((status = 'compensating') = (ends_as <> '')),
    CONSTRAINT compensating_awaits_an_answer CHECK ((status = 'compensating') = (awaits_release OR awaits_void)),
    CONSTRAINT ended_waits_for_nobody CHECK (deadline IS NULL OR status NOT IN ('cancelled', 'rejected', 'expired')),
    CONSTRAINT ended_has_a_reason CHECK (reason_code <> '' OR status NOT IN ('cancelled', 'rejected', 'expired'))
) WITH (fillfactor = 70);

-- A customer's orders, newest first: ids are UUID v7.
CREATE INDEX orders_of_customer ON orders.orders (customer_id, id DESC);
CREATE INDEX orders_by_deadline ON orders.orders (deadline) WHERE deadline IS NOT NULL;

CREATE TABLE orders.lines (
    order_id         uuid NOT NULL REFERENCES orders.orders,
    position         integer NOT NULL,
    sku              text NOT NULL,
    name             text NOT NULL,
    quantity         integer NOT NULL CHECK (quantity BETWEEN 1 AND 1000),
    unit_price_minor bigint NOT NULL CHECK (unit_price_minor > 0),
    PRIMARY KEY (order_id, position)
);

-- One row per accepted transition. Rows are only ever added.
CREATE TABLE orders.history (
    order_id    uuid NOT NULL REFERENCES orders.orders,
    version     integer NOT NULL CHECK (version > 0),
    from_status text NOT NULL CHECK ((from_status = '') = (version = 1)),
    status      text NOT NULL,
    trigger     text NOT NULL,
    reason_code text NOT NULL,
    note        text NOT NULL,
    at          timestamptz NOT NULL,
    PRIMARY KEY (order_id, version)
);

-- What POST /v1/orders answered to a caller's key: written with the order, so
-- that there is one order per key.
CREATE TABLE orders.idempotency_keys (
    caller      text NOT NULL,
    key         text NOT NULL,
    fingerprint text NOT NULL,
    status      integer NOT NULL,
    body        bytea NOT NULL,
    order_id    uuid NOT NULL REFERENCES orders.orders,
    created_at  timestamptz NOT NULL,
    PRIMARY KEY (caller, key)
);
